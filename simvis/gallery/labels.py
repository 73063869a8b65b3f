"""What images show: labels from a CSV file or from the names of folders, and masks beside them."""

import csv
import io
import os
import posixpath
from pathlib import Path

from simvis import image_ops
from simvis.batch.records import from_text
from simvis.image_ops import errors_name

COLUMNS = "path", "label", "mask"  # of a CSV file; the last one need not be there
SOURCES = ("folders",)
LONGEST = 1000  # letters of a label
LARGEST = 2**28  # bytes of a file of labels, or of paths
MASK = "_mask.png"  # how the name of the mask of NAME.jpg ends


def find_labels(paths, labels=None, labels_from=None, root=None):
    """Return the labels and masks of images, and how many rows of a file are of none of them.

    Parameters
    ----------
    paths : iterable of str, the images, in the folder of all images, with slashes
    labels : None, a CSV file's path, see `read_labels`, or a dict of a path to its label
    labels_from : None, or "folders", by which ``a/b/1.jpg`` has the label ``a/b``
    root : None or str, the folder of all images on this machine

    Returns
    -------
    found : dict of path to (label, mask), each of them a str or None
    strange : int

    Raises a ValueError or an OSError that names what is at fault.

    Examples
    --------
    >>> find_labels(["a/1.jpg", "2.jpg"], labels_from="folders")
    ({'a/1.jpg': ('a', None), '2.jpg': (None, None)}, 0)
    """
    if labels is not None and labels_from is not None:
        raise ValueError("labels, labels_from: give one of them")
    if labels_from not in (None, *SOURCES):
        raise ValueError(f"labels_from: expected {' or '.join(SOURCES)}, got {labels_from!r}")
    if labels_from:
        return {path: (posixpath.dirname(path) or None, None) for path in paths}, 0
    if isinstance(labels, dict):
        given = {str(path): (_checked(label, "labels"), None) for path, label in labels.items()}
        places = [""]
    else:
        given = read_labels(labels)
        # a row is of a path in the folder of images, or else of one beside the file
        places = ["", os.path.dirname(os.path.abspath(labels))][: 1 if root is None else 2]
    paths, found = set(paths), {}
    for path, (label, mask) in given.items():
        for place in places:
            name = place_of(os.path.join(place, path), root)
            if name in paths:
                found[name] = label, mask and place_of(os.path.join(place, mask), root)
                break
    if not found:
        first = f", as {next(iter(given))[:100]!r}" if given else ""
        words = f"none of its {len(given):,} rows{first}, is of an image of the folder"
        raise ValueError(f"labels: {words}")
    return found, len(given) - len(found)


def label_words(found, strange):
    """Return in words what `find_labels` has found.

    Examples
    --------
    >>> label_words({"1.jpg": ("a", None), "2.jpg": ("a", None)}, 3)
    '1 label of 2 images; 3 rows of no image of the folder'
    """
    labels = [label for label, _ in found.values() if label is not None]
    several, masks = len(set(labels)) != 1, sum(mask is not None for _, mask in found.values())
    words = f"{len(set(labels)):,} label{'s' * several} of {len(labels):,} images"
    words += f", {masks:,} with masks" if masks else ""
    return words + (
        f"; {strange:,} row{'s' * (strange > 1)} of no image of the folder" * bool(strange)
    )


def read_labels(path):
    """Read a CSV file of labels; return a dict of path to (label, mask), each a str or None.

    Its first row names its columns, in any order: path, label, and, if there are masks, mask.  They
    are separated by comma, semicolon or tab.  The file is in UTF-8.

    Raises a ValueError that names the line at fault, and an OSError if it cannot be read.

    Examples
    --------
    >>> read_labels("nowhere.csv")
    Traceback (most recent call last):
    FileNotFoundError: labels: nowhere.csv: no such file
    """
    text = read_text(path, "labels")
    first, found = text.lstrip().partition("\n")[0], {}
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if not set(header) >= set(COLUMNS[:2]):
            words = f"expected a first row that names the columns {','.join(COLUMNS[:2])}"
            raise ValueError(f"labels: {path}: {words}, got {first.strip()[:100]!r}")
        for row in reader:
            line = f"labels: {path}, line {reader.line_num}"
            if not any(row):
                continue
            if len(row) != len(header):
                raise ValueError(f"{line}: expected {len(header)} columns, got {len(row)}")
            cells = dict(zip(header, map(from_text, map(str.strip, row)), strict=True))
            name, both = cells["path"], (_checked(cells["label"], line), cells.get("mask") or None)
            if not name:
                raise ValueError(f"{line}: no path")
            if found.setdefault(name, both) != both:
                raise ValueError(f"{line}: {name[:100]!r} has two labels")
    except csv.Error as error:
        raise ValueError(f"labels: {path}, line {reader.line_num}: {error}") from None
    return found


def read_text(path, option):
    """Return the text of a file that names paths, which may hold bytes that are no text.

    Raises a ValueError or an OSError that names the option and the file.

    Examples
    --------
    >>> read_text("nowhere.txt", "images_from")
    Traceback (most recent call last):
    FileNotFoundError: images_from: nowhere.txt: no such file
    """
    image_ops.check_no_stream(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{option}: {path}: no such file")
    if os.path.getsize(path) > LARGEST:
        raise ValueError(f"{option}: {path}: is over the limit of {LARGEST:,} bytes")
    with errors_name(path):
        data = Path(path).read_bytes()
    if b"\0" in data:
        raise ValueError(f"{option}: {path}: is no text in UTF-8")
    return data.decode("utf-8-sig", "surrogateescape")


def mask_paths(path):
    """Return where the mask of an image may lie, beside it.

    Examples
    --------
    >>> mask_paths("a/1.jpg")
    ['a/1_mask.png', 'a/1.jpg_mask.png']
    """
    return [f"{posixpath.splitext(path)[0]}{MASK}", f"{path}{MASK}"]


def place_of(path, root):
    """Return a path as a gallery spells it: in its folder, with slashes.

    It is absolute, or relative to the gallery's folder, root, which is None if that is at a URI.
    What leads out of there is no path of any image.

    Examples
    --------
    >>> place_of("./a/1.jpg", "/photos"), place_of("/photos/1.jpg", "/photos")
    ('a/1.jpg', '1.jpg')
    """
    if os.path.isabs(path) and root is not None:
        folder, name = os.path.split(path)  # the file itself may be a link
        path = os.path.relpath(os.path.join(os.path.realpath(folder), name), root)
    return posixpath.normpath(path).encode("utf-8", "backslashreplace").decode()


def _checked(label, what):
    """Return a label as text that can be kept and shown, None if there is none."""
    if label is None or label == "":
        return None
    label = " ".join(str(label).encode("utf-8", "backslashreplace").decode().split())
    if len(label) > LONGEST:
        raise ValueError(f"{what}: a label has over {LONGEST:,} letters")
    return label
