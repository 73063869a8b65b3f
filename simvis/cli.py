"""What the programs share at the shell: options of dataclasses, errors in one line."""

import argparse
import io
import logging
import os
import re
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np

from simvis import __version__, image_ops, models
from simvis.files import one_line
from simvis.maps import BOX, POINT, REFERENCE_FORM, REFERENCES, check_number, option
from simvis.similarity_ops import POOLINGS

NETWORK = f"{', '.join(models.NETWORKS)}, keras:NAME, a .keras or .h5 file, or FILE.py:FUNCTION"
POOLING = "instead of the network's own; network for all that it does after a --layer"
INPUT_SIZE = "that whole images are resized to: 448,448 makes finer maps than the usual 224,224"
LONGEST = 8192  # letters of an argument; a path may have 4096
LONGEST_REASON = 1000  # letters of an error
IMPORT = "run this file, which registers the layers of a model file"


@dataclass(frozen=True)
class NetworkOptions:
    """The name of a network and the options that `models.load_network` loads it with."""

    network: str | None = option(f"{NETWORK} (default: imagenet, or a gallery's)")
    checkpoint: str | None = option("a resnet_v2_50 checkpoint, its folder or archive", "PREFIX")
    mean_image: str | None = option("what is subtracted from hotels' and faces' input", "FILE.npy")
    batch_norm: str | None = option(
        "statistics of the pair, or of training", choices=("batch", "moving")
    )
    pooling: str | None = option(POOLING, choices=(*POOLINGS, "network"))
    layer: str | None = option("of a Keras model: explain what comes out of this layer", "NAME")
    preprocess: str | None = option("of a Keras model: none, 0..1, -1..1, caffe or torch", "HOW")
    weights: str | None = option("of keras:NAME: a weights file, or none for random ones", "FILE")
    input_size: tuple | None = option(INPUT_SIZE, "H,W")
    grid: tuple | None = option("of a transformer's tokens, if it cannot be told", "H,W")
    prefix: int | None = option("how many tokens before them are no place", "N")
    import_file: str | None = option(IMPORT, "FILE.py", flags=("--import",))
    allow_unsafe: bool = option("run the Python code in a model file", default=False)

    def __post_init__(self):
        if self.network is not None:  # the options of a gallery's are checked when it is known
            models.check_options(self.network, **self.options)

    @property
    def options(self):
        return {name: value for name, value in vars(self).items() if name != "network"}

    def load(self, graph=False):
        if not models.is_python(self.network):
            models.start_tensorflow()
        return models.load_network(self.network, **self.options, graph=graph)


def run_program(program, kinds, parse, run, argv=None):
    """Run a program; every error is one line on stderr, and no warning or log of others is there.

    What is printed appears when the program has run.

    Parameters
    ----------
    program : str, its name in messages
    kinds : sequence of dataclasses, whose options the program has
    parse : function of a list of str that returns what is asked for
    run : function of what is asked for that returns the exit status
    argv : list of str or None
        The arguments after the program's name; None for those of the shell.

    Returns
    -------
    status : int
        What run returned, or 2 if the input is at fault, 130 if the user interrupted it, 143 if it
        was terminated, or 1 if all is done but cannot be told, as on a full disk.

    Examples
    --------
    >>> run_program("program", (), parse=len, run=lambda count: count, argv=["a", "b"])
    2
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    open_what_is_closed()
    printed, disabled = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(printed):
            warnings.simplefilter("ignore")
            for word in argv:
                if len(word) > LONGEST:
                    words = f"has {len(word):,} letters, over the limit of {LONGEST:,}"
                    raise ValueError(f"an argument {words}: {word[:40]}...")
            try:
                os.getcwd()
            except OSError:
                raise ValueError("the current folder was deleted, go to another one") from None
            status = run(parse(argv))
    except SystemExit as done:  # after --help or --version, or as Ray ends a program on SIGTERM
        if done.code:
            complain(program, f"terminated{done.code if isinstance(done.code, str) else ''}")
            return 143
        status = 0
    except (ValueError, OSError, MemoryError) as error:
        reason = one_line(error)
        if len(reason) > LONGEST_REASON:
            reason = f"{reason[: LONGEST_REASON // 2]} ... {reason[-LONGEST_REASON // 2 :]}"
        complain(program, f"error: {in_words_of_the_shell(reason, kinds, argv)}")
        return 2
    except KeyboardInterrupt as error:
        complain(program, f"interrupted{error}")
        return 130
    finally:
        logging.disable(disabled)
    return tell(program, printed.getvalue(), status)


@contextmanager
def resumable():
    """Say that the command goes on where it was, if it is interrupted or terminated."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        raise type(error)("; the same command goes on where it was") from None


def open_what_is_closed():
    """Open those of stdin, stdout and stderr that the shell closed, to nothing.

    Otherwise the next file that is opened is taken for one of them, and gets what is told.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def write_all(writers):
    """Write files; an error says which ones are written already.

    Parameters
    ----------
    writers : dict of a Path, whose folder is made, to a function of it that writes the file
    """
    for path in writers:
        path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for path, write in writers.items():
        try:
            write(path)
        except (ValueError, OSError, MemoryError) as error:
            before = f"; written before: {', '.join(written)}" if written else ""
            raise ValueError(f"{one_line(error)}{before}") from error
        written.append(str(path))


def in_words_of_the_shell(reason, kinds, argv):
    """Call options by the names that were typed: at the beginning, as "layer: ...", or "layer="."""
    typed, flags = {word.partition("=")[0] for word in argv}, {}
    for each in (each for kind in kinds for each in options_of(kind)):
        names = flags_of(each) or (each.name,)
        flags[each.name] = next((name for name in names if name in typed), names[0])

    def advice(match):  # as layer=, allow_unsafe=True, grid=(H, W) or pooling="gem"
        name, value = match[1], (match[2] or "").strip("()'\"").replace(" ", "")
        if name not in flags:
            return match[0]
        return flags[name] if value in ("", "True") else f"{flags[name]} {value}"

    name, colon, rest = reason.partition(":")
    reason = flags.get(name, name) + colon + rest
    return re.sub(r"(?<= )(\w+)=(True|\(.*?\)|'.*?'|\".*?\")?(?=[ ,;]|$)", advice, reason)


def complain(program, words):
    try:
        print(f"{program}: {printable(words)}", file=sys.stderr, flush=True)
    except OSError:
        drop(sys.stderr)


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


def tell(program, text, status):
    """Print what a program that has run has to tell; return its exit status."""
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # any letter can be printed
        sys.stdout.write("\n".join(map(printable, text.split("\n"))))
        sys.stdout.flush()
    except OSError as error:
        drop(sys.stdout)
        if isinstance(error, BrokenPipeError):  # by a reader that has read enough
            return status
        complain(program, f"all is done, but cannot be told: {error.strerror}")
        return 1
    return status


def tell_at_once(program, text):
    """Print what must be seen while the program runs, of which `run_program` keeps the rest."""
    if sys.__stdout__ is not None:  # as it is if the shell closed it
        with redirect_stdout(sys.__stdout__):
            tell(program, text, 0)


def drop(stream):
    """See to it that what could not be written is not tried again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# --- options, which are fields of dataclasses ----------------------------------------------------


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors, for `run_program`, and that knows no defaults."""

    def __init__(self, prog, **options):
        super().__init__(prog, allow_abbrev=False, argument_default=argparse.SUPPRESS, **options)
        self._negative_number_matcher = re.compile(r"-[.\d]")  # -5,0,10,10 is no option either
        if " " not in prog:  # which is one of the commands of a program
            name = Path(prog).stem.replace("_", "-")
            self.add_argument("--version", action="version", version=f"{name} {__version__}")

    def error(self, message):
        raise ValueError(f"{message} (--help lists the options)")


def add_options(parser, kind, group=None):
    """Add the options that are fields of a dataclass, and in groups those of dataclasses in it.

    A ``group`` in a field's metadata is the title over it and the fields after it.
    """
    group = group or parser
    for each in fields(kind):
        if is_dataclass(each.type):
            add_options(parser, each.type, parser.add_argument_group(each.name))
        elif each.metadata:
            how = dict(each.metadata)
            if title := how.pop("group", None):
                group = parser.add_argument_group(title)
            if each.type is bool:
                how = {"help": how["help"], "action": "store_true"}
            elif how["metavar"] in NUMBERS:
                how["type"] = NUMBERS[how["metavar"]]
            also = how.pop("also", {})
            if flags := how.pop("flags", flags_of(each)):
                how["dest"] = each.name
            group.add_argument(*(flags or [each.name]), **how)
            for flag, (value, words) in also.items():
                group.add_argument(
                    flag, dest=each.name, action="store_const", const=value, help=words
                )


def options_of(kind):
    """Yield the fields of a dataclass, and of dataclasses in it, that are options."""
    for each in fields(kind):
        if is_dataclass(each.type):
            yield from options_of(each.type)
        elif each.metadata:
            yield each


def flags_of(each):
    """Return the names of an option; an argument has none."""
    return each.metadata.get("flags", ("--" + each.name.replace("_", "-"),))


def typed_again(task):
    """Return the options of a dataclass that are set, a list of what one would type for them.

    Examples
    --------
    >>> typed_again(NetworkOptions("rooms", input_size=(96, 96)))
    ['--network', 'rooms', '--input-size', '96,96']
    """
    words = []
    for each in options_of(type(task)):
        value = getattr(task, each.name)
        if value is not None and value is not False:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [flags_of(each)[0], *([] if value is True else [text])]
    return words


def fill(kind, typed):
    """Return a dataclass with what was typed, a dict by names of options, and else its defaults.

    Raises a ValueError that begins with the name of the option that is at fault.
    """
    values = {}
    for each in fields(kind):
        if is_dataclass(each.type):
            values[each.name] = fill(each.type, typed)
        elif each.metadata and each.name in typed:
            read = FORMS.get(each.metadata["metavar"])
            try:
                values[each.name] = read(typed[each.name]) if read else typed[each.name]
            except ValueError as error:
                raise ValueError(f"{each.name}: {error}") from None
    return kind(**values)


def read_region(text):
    """Return a box of four numbers, or the mask in an image file, white being the region.

    Examples
    --------
    >>> read_region("10,20,30,40")
    (10.0, 20.0, 30.0, 40.0)
    """
    image_ops.check_no_stream(text)
    if os.path.isfile(text):
        return image_ops.read_mask(text)
    if Path(text).suffix.lower() in image_ops.IMAGE_ENDINGS:
        raise ValueError(f"{text}: no such file")
    return read_numbers(text, 4, "X0,Y0,X1,Y1 in pixels or a mask's file")


def report_masks(**regions):
    """Print how much of its image each region is that `read_region` has read from a mask's file.

    Examples
    --------
    >>> report_masks(region1=np.array([[255, 0, 0, 0]], np.uint8), region2=(0, 0, 9, 9))
    region1     25 % of the image, by its mask
    """
    for name, region in regions.items():
        if np.ndim(region) == 2:
            percent = region.mean() / 2.55
            digits = f"{percent:.0f}" if percent >= 1 else f"{percent:.1g}"
            print(f"{name:<12}{digits} % of the image, by its mask")


def report_left_out(words):
    """Print what of a folder was left out, in words of `files.left_out_words`."""
    if words:
        print(f"left out    {words}")


def read_size(text):
    # of integers if it is one; others are refused where it goes
    return tuple(int(n) if n == int(n) else n for n in read_numbers(text, 2, "H,W"))


def read_numbers(text, count, form):
    """Return so many finite numbers, or raise a ValueError that says which form was expected."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"expected {form}, got {text!r}")
    return values


FORMS = {  # how a text is read whose option has this metavar
    BOX: read_region,
    POINT: lambda text: read_numbers(text, 2, "X,Y in pixels"),
    "H,W": read_size,
    REFERENCE_FORM: lambda text: text if text in REFERENCES else image_ops.load_image(text),
}
NUMBERS = {"N": int, "A": float, "P": float}


def check_batch_size(count):
    if count is not None:
        check_number("batch_size", count, 1, 256, "1 to 256 images")


# --- files to write ------------------------------------------------------------------------------


def check_files(files, endings, inputs):
    """Raise a ValueError unless files can be written without harm to the inputs or each other.

    Parameters
    ----------
    files : dict of an option's name to a Path
    endings : dict of an option's name to the endings that its file may have
    inputs : iterable of paths; text that is no path does not matter
    """
    read = {_place(path) for path in inputs if os.path.exists(path)}
    written = {}
    for name, path in files.items():
        if path.suffix.lower() not in endings[name]:
            expected = ", ".join(endings[name])
            raise ValueError(f"{name}: expected a name ending in {expected}, got {path}")
        if path.is_dir():
            raise ValueError(f"{name}: {path} is a folder, name a file in it")
        _check_parent(name, path)
        place = _place(path)
        if place in read:
            raise ValueError(f"{name}: {path} is one of the files to read, name another one")
        if place in written:
            raise ValueError(f"{name}: {path} is the file of --{written[place]}, name another one")
        written[place] = name.replace("_", "-")


def check_folder(name, path):
    """Raise a ValueError unless a folder of this name is there, or can be made."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{name}: {path} is a file, with many pairs name a folder")
    _check_parent(name, path)
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{name}: {path} is not writable")


def _check_parent(name, path):
    """Raise a ValueError unless the folder of a file is there, or can be made."""
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise ValueError(f"{name}: {parent} is no folder")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"{name}: the folder {parent} is not writable")


def _place(path):
    """Return what is equal for two names of one file."""
    if os.path.exists(path):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return os.path.normcase(os.path.realpath(path))
