"""Whole files, what is in a file, folders with one owner, and bars that show how far a task is."""

import hashlib
import os
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"  # of a folder that one run owns


def plain(path):
    """Return a path without the ``..`` that can be taken out of it.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    path : str
        The same file, also if a folder in the path is a link.

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


def write_whole(path, write):
    """Call ``write(file)`` so that path ends up with all that it writes, or as it was before.

    Parameters
    ----------
    path : str or Path
    write : function of a binary file

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "greeting.txt", lambda file: file.write(b"hello"))
    ...     [path.name for path in Path(folder).iterdir()]
    ['greeting.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder):
    """Own a folder until the end of the block, or of the process, however that ends.

    Parameters
    ----------
    folder : Path
        Gets a file ``.lock``, which stays, and which means nothing once its owner is gone.

    Raises
    ------
    ValueError
        If another process, or another part of this one, owns the folder.

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

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder}: another run writes to this folder, wait for it or name another one"
        ) from None
    try:
        yield
    finally:
        lock.release()


def fingerprint(path):
    """Return a text by which `unchanged` tells whether a file still holds what it held.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    text : str
        The file's size, time of modification in nanoseconds, and SHA-256.

    Raises
    ------
    OSError
        If the file cannot be read.
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
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def progress_bar(name, total, done=0, unit="bytes"):
    """Show on a terminal's stderr how much is done, how fast, and how long the rest takes.

    Parameters
    ----------
    name : str, what stands before the bar
    total : int, or None if nobody knows
    done : int, how much is done already
    unit : str, "bytes" or what is counted

    Yields
    ------
    advance : function of how much more is done
        It shows nothing if stderr is no terminal.

    Examples
    --------
    >>> with progress_bar("rooms", 2, unit="pairs") as advance:
    ...     advance(1)
    """
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task):
            return Text(f"{task.speed or 0:.1f} {unit}/s")

    counted = progress.MofNCompleteColumn(), Rate()
    if unit == "bytes":
        counted = progress.TaskProgressColumn(), progress.DownloadColumn()
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        *counted,
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
