"""What the programs share at the shell: groups of options, text to values, errors in one line."""

import argparse
import io
import logging
import os
import re
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np

from simvis import image_ops, models
from simvis.maps import EXPLAINED, Method
from simvis.overlay import NORMALIZATIONS, Look
from simvis.similarity_ops import POOLINGS

# The arguments that are options of models.load_network.
NETWORK_OPTIONS = (
    *("checkpoint", "mean_image", "batch_norm", "pooling"),
    *("layer", "preprocess", "weights", "input_size"),
    *("grid", "prefix", "import_file", "allow_unsafe"),
)
PLACES = ("region1", "region2", "point1", "point2")
LOOKS = ("colormap", "alpha", "upsample", "normalize", "size")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors, for `run_program` to print."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._negative_number_matcher = re.compile(r"-[.\d]")  # -5,0,10,10 is no option either

    def error(self, message):
        raise ValueError(f"{message} (--help lists the options)")


def run_program(parser, run, argv=None, interrupted=None):
    """Parse the arguments and run a program; every error is one line on stderr.

    Nothing else is there: what other libraries warn of or log is not shown.  What is printed
    appears when the program has run.

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
        What run returned, or 2 if the input is at fault, 130 if the user interrupted it, or 1 if
        all is done but cannot be told, as on a full disk.

    Examples
    --------
    >>> run_program(OneLineParser("program"), lambda arguments: 0, [])
    0
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments, printed = argparse.Namespace(), io.StringIO()
    try:
        with _silence():
            parser.parse_args(argv, arguments)
            if not _folder_exists():
                raise ValueError("the current folder was deleted, go to another one")
            with redirect_stdout(printed):
                status = run(arguments)
    except (ValueError, OSError, MemoryError) as error:
        reason = " ".join(str(error).split()) or "there is not enough memory for it"
        _complain(parser, f"error: {_in_words_of_the_shell(reason, parser, argv)}")
        return 2
    except KeyboardInterrupt:
        _complain(parser, f"interrupted{interrupted(arguments) if interrupted else ''}")
        return 130
    return _tell(parser, printed.getvalue(), status)


@contextmanager
def _silence():
    """Keep other libraries from warning and logging."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _folder_exists():
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _complain(parser, words):
    if sys.stderr is not None:
        print(f"{parser.prog}: {printable(words)}", file=sys.stderr)


def printable(text):
    """Return a text without what would do more to a terminal than stand there.

    Examples
    --------
    >>> printable("a\x1b[2Jb.png")
    'a\\\\x1b[2Jb.png'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _tell(parser, text, status):
    """Print what a program that has run has to tell; return its exit status."""
    if sys.stdout is None:  # closed by the shell
        return status
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # any letter can be printed
        sys.stdout.write("\n".join(map(printable, text.split("\n"))))
        sys.stdout.flush()
    except OSError as error:
        # what could not be written must not be tried again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # by a reader that has read enough
            return status
        _complain(parser, f"all is done, but cannot be told: {error.strerror}")
        return 1
    return status


def _in_words_of_the_shell(reason, parser, argv):
    """Call Python arguments, at the beginning of a message or with =, by the user's options."""
    typed = [word.partition("=")[0] for word in argv]
    for action in _actions(parser):
        if action.option_strings:
            options = [option for option in action.option_strings if option in typed]
            option = (options or action.option_strings)[0]
            reason = re.sub(rf"^{action.dest}(?=:)", option, reason)
            # layer=, allow_unsafe=True, grid=(H, W) and pooling="gem"
            reason = re.sub(rf"(?<= ){action.dest}=(True)?(?=[ ,;]|$)", option, reason)
            reason = re.sub(rf"(?<= ){action.dest}=\((\w+), (\w+)\)", rf"{option} \1,\2", reason)
            reason = re.sub(rf"(?<= ){action.dest}=([\"'])(\w+)\1", rf"{option} \2", reason)
    return reason


def _actions(parser):
    """Yield a parser's actions, and those of the commands that it has."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


# --- groups of options ---------------------------------------------------------------------------


def add_network_options(parser, default="imagenet"):
    add = parser.add_argument_group("network").add_argument
    networks = f"{', '.join(models.NETWORKS)}, keras:NAME or a .keras or .h5 file"
    words = default or "the gallery's, or imagenet"
    add("--network", default=default, help=f"{networks} (default: {words})")
    add("--checkpoint", metavar="PREFIX", help="a resnet_v2_50 checkpoint, its folder or archive")
    add("--mean-image", metavar="FILE.npy", help="what is subtracted from hotels' and faces' input")
    add("--batch-norm", choices=("batch", "moving"), help="statistics of the pair, or of training")
    add("--layer", metavar="NAME", help="of a Keras model: explain what comes out of this layer")
    add("--preprocess", metavar="HOW", help="of a Keras model: none, 0..1, -1..1, caffe or torch")
    add("--weights", metavar="FILE", help="of keras:NAME: a weights file, or none for random ones")
    size = "that whole images are resized to: 448,448 makes finer maps than the usual 224,224"
    add("--input-size", metavar="H,W", help=size)
    add("--grid", metavar="H,W", help="of a transformer's tokens, if it cannot be told")
    add("--prefix", type=int, metavar="N", help="how many tokens before them are no place")
    imported = "run this file, which registers the layers of a model file"
    add("--import", dest="import_file", metavar="FILE.py", help=imported)
    add("--allow-unsafe", action="store_true", help="run the Python code in a model file")


def network_options(arguments):
    """Return the options of `models.load_network`, checked without TensorFlow.

    Those of a network that is not named are checked when it is known.
    """
    options = {name: getattr(arguments, name) for name in NETWORK_OPTIONS}
    if arguments.input_size is not None:
        options["input_size"] = parse_numbers(arguments.input_size, 2, "--input-size H,W")
    if arguments.grid is not None:
        options["grid"] = tuple(map(int, parse_numbers(arguments.grid, 2, "--grid H,W")))
    if arguments.network is not None:
        models.check_options(arguments.network, **options)
    return options


def add_embedding_options(parser):
    """Add what is taken for an image's embedding; return the group of options."""
    group = parser.add_argument_group("method")
    add = group.add_argument
    pooling = "instead of the network's own; network for all that it does after a --layer"
    add("--pooling", choices=(*POOLINGS, "network"), help=pooling)
    power = "of GeM, >= 1 (default: the network's own, or 3)"
    add("--gem-power", "--power", dest="power", type=float, metavar="P", help=power)
    explain = "the pooled feature, or the network's output through its linear head"
    add("--explain", "--embedding", dest="explain", choices=EXPLAINED, help=explain)
    return group


def add_method_options(parser):
    add = add_embedding_options(parser).add_argument
    for number in (1, 2):
        box = "X0,Y0,X1,Y1|MASK.png"
        add(f"--region{number}", metavar=box, help=f"only this part of image {number}, in pixels")
        add(f"--point{number}", metavar="X,Y", help=f"what this pixel of image {number} matches")
    add("--matches", type=int, default=0, metavar="N", help="draw the N strongest pairs of cells")


def method_of(arguments):
    """Return the `Method` that the arguments ask for; masks are read."""
    places = {name: place_of(arguments, name) for name in PLACES}
    # the pooling is the network's, see network_options
    return Method(
        power=arguments.power, explain=arguments.explain, matches=arguments.matches, **places
    )


def place_of(arguments, name):
    """Return the region or the point that an argument names, or None."""
    text = getattr(arguments, name)
    try:
        return text and (parse_point if "point" in name else parse_region)(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def add_look_options(parser):
    add = parser.add_argument_group("looks").add_argument
    add("--colormap", metavar="NAME", help="any of matplotlib's (default: jet; of zero, coolwarm)")
    add("--alpha", type=float, default=0.5, metavar="A", help="opacity, 0..1 (default: 0.5)")
    add("--upsample", default="bilinear", choices=tuple(image_ops.UPSAMPLINGS))
    ranges = "over each map's range of values (the default), over one of the pair, with zero in "
    ranges += "the middle, or over an absolute one that compares pictures of different pairs"
    add("--normalize", choices=NORMALIZATIONS, help=ranges)
    add("--size", type=int, metavar="N", help="N x N pixels instead of the images' own sizes")


def look_of(arguments, **fixed):
    """Return the `Look` that the arguments ask for, but for what is fixed."""
    given = {name: getattr(arguments, name) for name in LOOKS} | fixed
    return Look(**{name: value for name, value in given.items() if value is not None})


# --- text to values ------------------------------------------------------------------------------


def parse_region(text):
    """Return a box of four numbers, or the mask in an image file, white being the region.

    Examples
    --------
    >>> parse_region("10,20,30,40")
    (10.0, 20.0, 30.0, 40.0)
    """
    if os.path.isfile(text):
        return image_ops.load_image(text).max(axis=2)
    if Path(text).suffix.lower() in image_ops.IMAGE_ENDINGS:
        raise ValueError(f"{text}: no such file")
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


def check_files(files, endings, inputs):
    """Raise a ValueError unless files can be written without harm to the inputs or each other.

    Parameters
    ----------
    files : dict of an option's name to a Path
    endings : dict of an option's name to the endings that its file may have
    inputs : iterable of paths; those that are None, or text that is no path, do not matter
    """
    read = {_place(path) for path in inputs if path is not None and os.path.exists(path)}
    written = {}
    for name, path in files.items():
        check_file(name, path, endings[name])
        place = _place(path)
        if place in read:
            raise ValueError(f"{name}: {path} is one of the files to read, name another one")
        if place in written:
            raise ValueError(f"{name}: {path} is the file of --{written[place]}, name another one")
        written[place] = name.replace("_", "-")


def _place(path):
    """Return what is equal for two names of one file."""
    if os.path.exists(path):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return os.path.normcase(os.path.realpath(path))


def check_file(name, path, endings):
    """Raise a ValueError unless a file of this name can be written."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{name}: expected a name ending in {', '.join(endings)}, got {path}")
    if path.is_dir():
        raise ValueError(f"{name}: {path} is a folder, name a file in it")
    check_parent(name, path)


def check_folder(name, path):
    """Raise a ValueError unless a folder of this name is there, or can be made."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{name}: {path} is a file, with many pairs name a folder")
    check_parent(name, path)
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{name}: {path} is not writable")


def check_parent(name, path):
    """Raise a ValueError unless the folder of a file is there, or can be made."""
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise ValueError(f"{name}: {parent} is no folder")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"{name}: the folder {parent} is not writable")
