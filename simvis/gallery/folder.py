"""A folder of images, on this machine or wherever pyarrow reads: its files, and reading them."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from simvis.image_ops import IMAGE_ENDINGS, decode_image

MAX_BYTES = 2**29  # of an image file
READERS = 16  # threads that wait for files from another machine
RESULTS = {"contact_sheet.jpg", "results.csv"}  # of a search, whose pictures nobody wants to find


class File(NamedTuple):
    """What a listing says of a file."""

    size: int  # bytes
    modified: int  # nanoseconds since 1970


class ImageFolder:
    """All images in a folder and the folders in it.

    Those whose names begin with a dot are left out, as are links to folders, links that lead out of
    the folder, and what a search has written there.  Raises a ValueError or an OSError if there is
    no such folder.

    Parameters
    ----------
    place : str or Path
        A folder, or a URI that ``pyarrow.fs.FileSystem.from_uri`` knows: ``s3://bucket/photos``,
        ``gs://``, ``hdfs://``, ...  As an attribute, it has no URI's keys and passwords.

    Examples
    --------
    >>> from simvis.pair import EXAMPLES
    >>> folder = ImageFolder(EXAMPLES)
    >>> sorted(folder.files())[0]
    'room_a_view1.jpg'
    >>> folder.read("../README.md")
    Traceback (most recent call last):
    ValueError: ../README.md: leads out of ...example_images
    """

    def __init__(self, place):
        self._without_text = set()  # paths that are not UTF-8, as `files` spells them
        if "://" in str(place):
            self.filesystem, self.root, self.place = _open_uri(str(place))
        else:
            self.filesystem, self.root = None, os.path.realpath(place)
            self.place = self.root
        self.readers = READERS if self.filesystem else 2  # threads that are well spent on it
        self.check()

    def check(self):
        """Raise a FileNotFoundError unless it is there, seen from whichever machine this is."""
        if self.filesystem:
            from pyarrow.fs import FileType

            found = self.filesystem.get_file_info(self.root).type == FileType.Directory
        else:
            found = os.path.isdir(self.root)
        if not found:
            raise FileNotFoundError(f"{self.place}: no such folder")

    def files(self):
        """Return a dict of the images' paths, relative and with slashes, to `File`."""
        files = {}
        for path, file in self._remote_files() if self.filesystem else self._local_files():
            if path.lower().endswith(IMAGE_ENDINGS):
                text = path.encode("utf-8", "backslashreplace").decode()
                files[text] = file
                if text != path:
                    self._without_text.add(text)
        return files

    def read(self, path):
        """Return the bytes of a file in the folder.

        Raises a ValueError or an OSError for a path that leads out of the folder, for what is no
        file, and for one over `MAX_BYTES`.
        """
        if path in self._without_text:
            raise ValueError(f"{path}: its name is not valid UTF-8, rename it")
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\0" in path:
            raise ValueError(f"{path}: leads out of {self.place}")
        if self.filesystem:
            with self.filesystem.open_input_file(f"{self.root}/{path}") as file:
                self._check_size(path, file.size())
                return file.read()
        real = os.path.realpath(os.path.join(self.root, path))
        if not self._holds(real):
            raise ValueError(f"{path}: leads out of {self.place}")
        if not os.path.isfile(real):
            raise FileNotFoundError(f"{path}: no such file in {self.place}")
        self._check_size(path, os.path.getsize(real))
        return Path(real).read_bytes()

    def load(self, path):
        """Return an image, uint8 (H, W, 3), and the SHA-256 of its file."""
        data = self.read(path)
        return decode_image(data, path), hashlib.sha256(data).hexdigest()

    def digest(self, path):
        return hashlib.sha256(self.read(path)).hexdigest()

    def _local_files(self):
        folders = [""]
        while folders:
            folder = folders.pop()
            with os.scandir(os.path.join(self.root, folder)) as scanned:
                entries = [entry for entry in scanned if not entry.name.startswith(".")]
            if {entry.name for entry in entries} >= RESULTS:
                continue
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                elif entry.is_file() and (
                    not entry.is_symlink() or self._holds(os.path.realpath(entry.path))
                ):
                    status = entry.stat()
                    yield path, File(status.st_size, status.st_mtime_ns)

    def _remote_files(self):
        from pyarrow import fs

        for info in self.filesystem.get_file_info(fs.FileSelector(self.root, recursive=True)):
            path = info.path.removeprefix(self.root).lstrip("/")
            hidden = any(part.startswith(".") for part in path.split("/"))
            if info.type == fs.FileType.File and not hidden:
                yield path, File(info.size, info.mtime_ns or 0)

    def _holds(self, real):
        return real.startswith(self.root.rstrip(os.sep) + os.sep)

    def _check_size(self, path, size):
        if size > MAX_BYTES:
            raise ValueError(f"{path}: {size:,} bytes are over the limit of {MAX_BYTES:,}")


def _open_uri(uri):
    """Return pyarrow's file system, None for this machine's, the folder in it, and its name."""
    from pyarrow import fs

    try:
        filesystem, root = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        shown = re.sub("//.*@", "//", uri).partition("?")[0]
        reason = " ".join(str(error).replace(uri, shown).split())
        raise ValueError(f"{shown}: cannot be opened: {reason}") from None
    if isinstance(filesystem, fs.LocalFileSystem):
        root = os.path.realpath(root)
        return None, root, root
    # Its name without keys and passwords, for it is kept and shown.
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2] if root.startswith("/") else ""
    endpoint = parse_qs(parts.query).get("endpoint_override", [""])[0]
    endpoint = endpoint and f"?endpoint_override={endpoint}"
    return filesystem, root, f"{parts.scheme}://{host}{root}{endpoint}"
