"""What the programs share at the shell: groups of options, text to values, errors in one line."""

import argparse
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

import image_ops
import models
from pair_maps import EXPLAINED, Method
from pair_visualization import NORMALIZATIONS, Look
from similarity_ops import POOLINGS

# The arguments that are options of models.load_network.
NETWORK_OPTIONS = (
    *("checkpoint", "mean_image", "batch_norm", "pooling"),
    *("layer", "preprocess", "weights", "input_size", "allow_unsafe"),
)
PLACES = ("region1", "region2", "point1", "point2")
LOOKS = ("colormap", "alpha", "upsample", "normalize", "size")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors, for `run_program` to print."""

    def error(self, message):
        raise ValueError(f"{message} (--help lists the options)")


def run_program(parser, run, argv=None, interrupted=None):
    """Parse the arguments and run a program; every error is one line on stderr.

    Parameters
    ----------
    parser : OneLineParser
    run : function of the arguments, a Namespace; it returns the exit status
    argv : list of str or None
        The arguments after the program's name; None for those of the shell.
    interrupted : None or function of the arguments
        Returns what to add to the message for a user who interrupts the program.

    Returns
    -------
    status : int
        What run returned, or 2 if the input is at fault, or 130 if the user interrupted it.

    Examples
    --------
    >>> run_program(OneLineParser("program"), lambda arguments: 0, [])
    0
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = argparse.Namespace()
    try:
        with warnings.catch_warnings():
            # Pillow's own warning of large images adds nothing to our limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            parser.parse_args(argv, arguments)
            return run(arguments)
    except (ValueError, OSError) as error:
        reason = _in_words_of_the_shell(" ".join(str(error).split()), parser, argv)
        print(f"{parser.prog}: error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        rest = interrupted(arguments) if interrupted else ""
        print(f"{parser.prog}: interrupted{rest}", file=sys.stderr)
        return 130


def _in_words_of_the_shell(reason, parser, argv):
    """Call a Python argument at the beginning of a message by the option that the user typed."""
    name, colon, rest = reason.partition(":")
    for action in parser._actions:
        if action.dest == name and action.option_strings:
            typed = [word.partition("=")[0] for word in argv]
            options = [option for option in action.option_strings if option in typed]
            return f"{(options or action.option_strings)[0]}{colon}{rest}"
    return reason


# --- groups of options ---------------------------------------------------------------------------


def add_network_options(parser):
    add = parser.add_argument_group("network").add_argument
    networks = f"{', '.join(models.NETWORKS)}, keras:NAME or a .keras or .h5 file"
    add("--network", default="imagenet", help=f"{networks} (default: imagenet)")
    add("--checkpoint", metavar="PREFIX", help="a resnet_v2_50 checkpoint, its folder or archive")
    add("--mean-image", metavar="FILE.npy", help="what is subtracted from hotels' and faces' input")
    add("--batch-norm", choices=("batch", "moving"), help="statistics of the pair, or of training")
    add("--layer", metavar="NAME", help="of a Keras model: explain what comes out of this layer")
    add("--preprocess", metavar="HOW", help="of a Keras model: none, 0..1, -1..1, caffe or torch")
    add("--weights", metavar="FILE", help="of keras:NAME: a weights file, or none for random ones")
    add("--input-size", metavar="H,W", help="of a Keras model that takes any size")
    add("--allow-unsafe", action="store_true", help="run the Python code in a model file")


def network_options(arguments):
    """Return the options of `models.load_network`, checked without TensorFlow."""
    options = {name: getattr(arguments, name) for name in NETWORK_OPTIONS}
    if arguments.input_size is not None:
        size = parse_numbers(arguments.input_size, 2, "--input-size H,W")
        if not all(side == int(side) and 1 <= side <= 2048 for side in size):
            raise ValueError(f"input_size: expected 1 to 2048 whole pixels, got {size}")
        options["input_size"] = tuple(map(int, size))
    models.check_options(arguments.network, **options)
    return options


def add_method_options(parser):
    add = parser.add_argument_group("method").add_argument
    add("--pooling", choices=POOLINGS, help="instead of the network's own")
    power = "of GeM, >= 1 (default: 3)"
    add("--gem-power", "--power", dest="power", type=float, default=3.0, metavar="P", help=power)
    explain = "the pooled feature, or the network's output through its linear head"
    add("--explain", "--embedding", dest="explain", choices=EXPLAINED, help=explain)
    for number in (1, 2):
        box = "X0,Y0,X1,Y1|MASK.png"
        add(f"--region{number}", metavar=box, help=f"only this part of image {number}, in pixels")
        add(f"--point{number}", metavar="X,Y", help=f"what this pixel of image {number} matches")


def method_of(arguments):
    """Return the `Method` that the arguments ask for; masks are read."""
    places = {}
    for name in PLACES:
        text = getattr(arguments, name)
        try:
            places[name] = text and (parse_region if "region" in name else parse_point)(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    # the pooling is the network's, see network_options
    return Method(power=arguments.power, explain=arguments.explain, **places)


def add_look_options(parser):
    add = parser.add_argument_group("looks").add_argument
    add("--colormap", default="jet", metavar="NAME", help="any of matplotlib's (default: jet)")
    add("--alpha", type=float, default=0.5, metavar="A", help="opacity, 0..1 (default: 0.5)")
    add("--upsample", default="bilinear", choices=tuple(image_ops.UPSAMPLINGS))
    add("--normalize", default="each", choices=NORMALIZATIONS, help="over which range of values")
    add("--size", type=int, metavar="N", help="N x N pixels instead of the images' own sizes")


def look_of(arguments):
    """Return the `Look` that the arguments ask for."""
    return Look(**{name: getattr(arguments, name) for name in LOOKS})


# --- text to values ------------------------------------------------------------------------------


def parse_region(text):
    """Return a box of four numbers, or the mask in an image file, white being the region.

    Examples
    --------
    >>> parse_region("10,20,30,40")
    (10.0, 20.0, 30.0, 40.0)
    """
    if Path(text).is_file():
        return image_ops.load_image(text).max(axis=2)
    return parse_numbers(text, 4, "X0,Y0,X1,Y1 in pixels or a mask's file")


def parse_point(text):
    """Return a point (x, y) in pixels."""
    return parse_numbers(text, 2, "X,Y in pixels")


def parse_numbers(text, count, form):
    """Return so many finite numbers, or raise a ValueError that says which form was expected."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"expected {form}, got {text!r}")
    return values


# --- files to write ------------------------------------------------------------------------------


def check_file(name, path, endings, inputs):
    """Raise a ValueError unless a file of this name can be written without harm to the inputs."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{name}: expected a name ending in {', '.join(endings)}, got {path}")
    if path.is_dir():
        raise ValueError(f"{name}: {path} is a folder, name a file in it")
    check_parent(name, path)
    if any(os.path.exists(image) and path.exists() and path.samefile(image) for image in inputs):
        raise ValueError(f"{name}: {path} is one of the images, name another file")


def check_folder(name, path):
    """Raise a ValueError unless a folder of this name is there, or can be made."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{name}: {path} is a file, with many pairs name a folder")
    check_parent(name, path)
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{name}: {path} is not writable")


def check_parent(name, path):
    if not path.parent.is_dir():
        raise ValueError(f"{name}: there is no folder {path.parent}, make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{name}: the folder {path.parent} is not writable")
