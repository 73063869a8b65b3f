"""Files that are written whole or not at all, and bars that show how far a long task is."""

import os
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path


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
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
