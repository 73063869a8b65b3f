"""A folder of images, on this machine or wherever pyarrow reads: its files, and reading them."""

import hashlib
import io
import os
import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlsplit

from simvis.decoding import decode, to_mask
from simvis.files import File, Listing, list_images, unread_kind, unread_name
from simvis.gallery.labels import mask_paths, place_of, read_text
from simvis.image_ops import decode_image

MAX_BYTES = 2**29  # of an image file
READERS = 16  # threads that wait for files from another machine


class ImageFolder:
    """All images in a folder and the folders in it, but for those that `files.list_images` leaves.

    Raises a ValueError or an OSError if there is no such folder.

    Parameters
    ----------
    place : str or Path
        A folder, or a URI that ``pyarrow.fs.FileSystem.from_uri`` knows: ``s3://bucket/photos``,
        ``gs://``, ``hdfs://``, ...  As an attribute, it has no URI's keys and passwords.
    only : None, or str or Path
        A text file of the paths, one a line, of the only images that are taken.
    exclude : sequence of str
        Patterns, as ``*.gif``, ``drafts`` or ``2019/*``, of paths and of names in them.

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

    def __init__(self, place, only=None, exclude=()):
        self._without_text = set()  # paths that are not UTF-8, as `files` spells them
        if "://" in str(place):
            self.filesystem, self.root, self.place = _open_uri(str(place))
        else:
            self.filesystem, self.root = None, os.path.realpath(place)
            self.place = self.root
        self.here = None if self.filesystem else self.root  # the folder, if it is on this machine
        self.readers = READERS if self.filesystem else 2  # threads that are well spent on it
        self.check()
        self.exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        self.only = None if only is None else _read_list(only, self.here)

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
        """Return a dict of the images' paths, relative and with slashes, to `files.File`."""
        return self.listing().files

    def listing(self):
        """Return the `files.Listing` of it."""
        listing = self._remote_listing() if self.filesystem else list_images(self.root)
        files, unread = (
            {path.encode("utf-8", "backslashreplace").decode(): value for path, value in of.items()}
            for of in (listing.files, listing.unread)
        )
        self._without_text.update(files.keys() - listing.files.keys())
        listing = listing._replace(files=files, unread=unread)
        masks = {mask for path in files for mask in mask_paths(path)}
        self._masks = masks & files.keys()
        if missing := (self.only or set()) - files.keys():
            first = min(missing).replace("{", "{{").replace("}", "}}")
            listing.left_out[f"path{{}} of the list with no image ({first})"] = len(missing)
        for path in list(files):
            if reason := self._why_left_out(path, masks):
                listing.left_out[reason] += 1
                del files[path]
        return listing

    def _why_left_out(self, path, masks):
        if path in masks:
            return "mask{}"
        parts = path.split("/")
        names = *parts, *("/".join(parts[: i + 1]) for i in range(len(parts)))
        if any(
            fnmatchcase(name, pattern.rstrip("/")) for pattern in self.exclude for name in names
        ):
            return "excluded"
        return "" if self.only is None or path in self.only else "not in the list"

    def masks(self):
        """Return the set of the paths of masks that lie beside their images."""
        self.listing()
        return self._masks

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

    def load_mask(self, path):
        """Return a mask, (H, W), as `image_ops.read_mask` reads it but for its scale."""
        return decode(io.BytesIO(self.read(path)), path, to_mask)

    def digest(self, path):
        return hashlib.sha256(self.read(path)).hexdigest()

    def _remote_listing(self):
        from pyarrow import fs

        listing = Listing({}, Counter(), {})
        for info in self.filesystem.get_file_info(fs.FileSelector(self.root, recursive=True)):
            path = info.path.removeprefix(self.root).lstrip("/")
            if info.type != fs.FileType.File:
                continue
            reasons = map(unread_name, path.split("/"))
            if reason := next(filter(None, reasons), "") or unread_kind(path):
                listing.left_out[reason] += 1
            else:
                listing.files[path] = File(info.size, info.mtime_ns or 0)
        return listing

    def _holds(self, real):
        return real.startswith(self.root.rstrip(os.sep) + os.sep)

    def _check_size(self, path, size):
        if size > MAX_BYTES:
            raise ValueError(f"{path}: {size:,} bytes are over the limit of {MAX_BYTES:,}")


def _read_list(path, root):
    """Return the set of the paths, as a gallery spells them, that a text file names."""
    lines = read_text(path, "images_from").split("\n")
    lines = [line.removesuffix("\r") for line in lines if line.strip()]
    if not lines:
        raise ValueError(f"images_from: {path}: expected a path in each line")
    found = set()
    for line in lines:
        if root and not os.path.lexists(os.path.join(root, line)) and os.path.lexists(line):
            line = os.path.abspath(line)  # of the current folder, as `find FOLDER` prints them
        found.add(place_of(line, root))
    return found


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
