"""Paths made plain, the images in a folder, what is in a file, and folders with one owner."""

import errno
import hashlib
import os
import re
import stat
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from simvis.image_ops import IMAGE_ENDINGS, errors_name

LOCK = ".lock"  # of a folder that one run owns
WITHOUT_LOCKS = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP  # says a file system

# What a folder of results or a gallery holds, whose pictures nobody wants to find.
RESULTS = {"contact_sheet.jpg", "results.csv"}, {"scores.csv", "settings.json"}, {"images.lance"}
TIMES = -(2**63), 2**63 - 1  # that a table takes: a file may claim to be of the year 2300
THUMBNAILS = ("@eaDir",)  # folders that other programs fill with small copies, or begin with a dot
KINDS = 5  # of files that are left out which are named


class File(NamedTuple):
    """What a listing says of a file."""

    size: int  # bytes
    modified: int  # nanoseconds since 1970
    changed: str | None = None  # its inode, and when that changed, which no program can set


class Listing(NamedTuple):
    """The images in a folder and the folders in it, and what else there is."""

    files: dict  # of an image's path in the folder, with slashes, to its `File`
    left_out: Counter  # of files by their ending, or by why they are left out
    unread: dict  # of what could not be looked at, a folder's path ends with a slash, to the reason


def list_images(root):
    """Return the `Listing` of a folder on this machine.

    Left out are what begins with a dot, `THUMBNAILS`, links to folders, links that lead out of the
    folder, and folders of results.  What vanishes meanwhile is not there; an OSError is raised only
    if the folder itself cannot be read.

    Examples
    --------
    >>> from simvis.pair import EXAMPLES
    >>> sorted(list_images(EXAMPLES).files)[0]
    'room_a_view1.jpg'
    """
    root = os.path.realpath(root)
    listing, folders = Listing({}, Counter(), {}), [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as scanned:
                entries = list(scanned)
        except OSError as error:
            if not folder:
                raise
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                listing.unread[folder] = error.strerror
            continue
        if any({entry.name for entry in entries} >= names for names in RESULTS):
            listing.left_out["folder{} of results"] += 1
            continue
        for entry in entries:
            path = f"{folder}{entry.name}"
            try:
                reason = _why_left_out(entry, root)
                if reason:
                    listing.left_out[reason] += 1
                elif entry.is_dir():
                    folders.append(f"{path}/")
                else:
                    listing.files[path] = _file(entry.stat())
            except FileNotFoundError:
                if entry.is_symlink():
                    listing.left_out["link{} to no file"] += 1
            except OSError as error:
                listing.unread[path] = error.strerror
    return listing


def _file(status):
    modified = min(max(status.st_mtime_ns, TIMES[0]), TIMES[1])
    return File(status.st_size, modified, f"{status.st_ino} {status.st_ctime_ns}")


def _why_left_out(entry, root):
    """Return why an entry of a folder is no image of it, "" if it is one, or a folder."""
    if reason := unread_name(entry.name):
        return reason
    if entry.is_symlink():
        real = os.path.realpath(entry.path)
        if not real.startswith(root.rstrip(os.sep) + os.sep):
            return "link{} out of the folder"
        if stat.S_ISDIR(entry.stat().st_mode):
            return "link{} to a folder"
    elif entry.is_dir():
        return ""
    if not entry.is_file():
        return "pipe{} or the like"
    return unread_kind(entry.name)


def unread_name(name):
    """Return why a file or folder of this name is left out, "" if it is not."""
    return "hidden" if name.startswith(".") else "folder{} of thumbnails" * (name in THUMBNAILS)


def unread_kind(name):
    """Return "" if a file's name has an image's ending, else that ending.

    Examples
    --------
    >>> unread_kind("a.JPG"), unread_kind("a.HEIC"), unread_kind("a")
    ('', '.heic', '.')
    """
    if name.lower().endswith(IMAGE_ENDINGS):
        return ""
    ending = os.path.splitext(name)[1].lower()
    return ending if re.fullmatch(r"\.\w{1,10}", ending, re.ASCII) else "."


def left_out_words(left_out, unread):
    """Return what of a folder is left out, in words, "" if there is nothing.

    Examples
    --------
    >>> left_out_words({".heic": 2, ".mov": 1, "link{} out of the folder": 1}, {})
    '3 of kinds that are not read (.heic 2, .mov 1), 1 link out of the folder'
    """
    kinds = Counter({kind: count for kind, count in left_out.items() if kind[0] == "."})
    named = [f"{'others' if kind == '.' else kind} {n}" for kind, n in kinds.most_common(KINDS)]
    named += ["..."] * (len(kinds) > KINDS)
    parts = [f"{kinds.total():,} of kinds that are not read ({', '.join(named)})"] * bool(kinds)
    for reason, count in left_out.items():
        if reason[0] != ".":
            parts.append(f"{count:,} {reason.format('s' * (count > 1))}")
    if unread:
        path, reason = min(unread.items())
        shown = path.encode("unicode_escape", "backslashreplace").decode("ascii")
        parts.append(f"{len(unread):,} that cannot be read ({shown}: {reason})")
    return ", ".join(parts)


def no_image(folder, words, wanted="image"):
    """Return how a folder without images is refused, and what it holds instead."""
    words = words and f"; left out: {words}"
    return f"{folder}: holds no {wanted}, of {', '.join(IMAGE_ENDINGS)}{words}"


def plain(path):
    """Return as a str a path without the ``..`` that can be taken out of it.

    It is the same file, also if a folder in the path is a link.

    Examples
    --------
    >>> plain("rooms/../a.png"), plain("./a.png")
    ('a.png', 'a.png')
    """
    path = str(path)
    if ".." not in Path(path).parts:
        return str(Path(path))
    normal, real = os.path.normpath(path), os.path.realpath(path)
    return normal if os.path.realpath(normal) == real else real


@contextmanager
def locked(folder):
    """Own a folder until the end of the block, or of the process, however that ends.

    It gets a file ``.lock``, which stays, and which means nothing once its owner is gone.  A
    ValueError is raised if another process, or another part of this one, owns the folder, a Path.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder)):
    ...     with locked(Path(folder)):
    ...         pass
    Traceback (most recent call last):
    ValueError: ...: another run writes to this folder, wait for it or name another one
    """
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(folder / LOCK, timeout=0).acquire()
    except Timeout:
        words = "another run writes to this folder, wait for it or name another one"
        raise ValueError(f"{folder}: {words}") from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
            with errors_name(folder / LOCK):
                raise
        words = "its file system has no locks, name a folder on another one"
        raise ValueError(f"{folder}: {words}") from None
    with lock:
        yield


def one_line(error):
    """Return what an exception says, in one line.

    Examples
    --------
    >>> one_line(ValueError("two\\nlines")), one_line(MemoryError())
    ('two lines', 'there is not enough memory for it')
    """
    return " ".join(str(error).split()) or "there is not enough memory for it"


def fingerprint(path):
    """Return a text by which `unchanged` tells whether a file still holds what it held.

    It has what is in `File`, and the SHA-256; an OSError is raised if the file cannot be read.
    """
    return f"{_stamp(path)} {_sha256(path)}"


def unchanged(path, before):
    """Return whether a file holds what it held when ``before`` was its `fingerprint`.

    It is read only if its size, a time or its inode is another.

    Examples
    --------
    >>> unchanged(__file__, fingerprint(__file__)), unchanged(__file__, "9 9 9")
    (True, False)
    """
    stamp, _, digest = before.rpartition(" ")
    try:
        return _stamp(path) == stamp or _sha256(path) == digest
    except (OSError, ValueError):
        return False


def _stamp(path):
    return "{} {} {}".format(*_file(os.stat(path)))


def _sha256(path):
    digest = hashlib.sha256()
    with errors_name(path), open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
