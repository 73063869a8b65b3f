"""Paths made plain, what is in a file, and folders with one owner."""

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path

from simvis.image_ops import errors_name

LOCK = ".lock"  # of a folder that one run owns
WITHOUT_LOCKS = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP  # says a file system


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

    It has the file's size, time of modification in nanoseconds, and SHA-256; an OSError is raised
    if the file cannot be read.
    """
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns} {_sha256(path)}"


def unchanged(path, before):
    """Return whether a file holds what it held when ``before`` was its `fingerprint`.

    It is read only if its time of modification is another.

    Examples
    --------
    >>> unchanged(__file__, fingerprint(__file__)), unchanged(__file__, "9 9 9")
    (True, False)
    """
    try:
        size, time, digest = before.split()
        status = os.stat(path)
        if status.st_size != int(size):
            return False
        return status.st_mtime_ns == int(time) or _sha256(path) == digest
    except (OSError, ValueError):
        return False


def _sha256(path):
    digest = hashlib.sha256()
    with errors_name(path), open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
