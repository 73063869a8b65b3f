"""The authors' published files, fetched on first use, and checkpoints wherever they lie."""

import atexit
import glob
import gzip
import os
import re
import shutil
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path

ARCHIVES = "https://www2.seas.gwu.edu/~astylianou/similarity-visualization/"
REPOSITORY = (
    "https://raw.githubusercontent.com/GWUvision/Similarity-Visualization/"
    "db545bd12e5e4f277671c2acb49f00a12115b9c9/"
)
SHA256 = {
    "hotels_meanIm.npy": "d55b0ab11f7538b5e48fac777d52de0eb8451ef35a8cc9ccb2e1be5e7b6d1d85",
    "faces_meanIm.npy": "eab9bd324e660b7cad5b8654906f4805b20376501ec426fa731623cb53f5c4c2",
    "hotels1.jpg": "4c210b8611b98e52e05df5df83750f1069e3d638a4bb96901d06b7869257c5a4",
    "hotels2.jpg": "e7efcbb719901b10981d5657eba197a9d6e9ba32b97b6bf336b41cc1a9ae0747",
    "faces1.jpg": "cda323b47769ce184202f756677266c94c80511c32d40ac4e00674ef15cc616b",
    "faces2.jpg": "1d97c9215fb63c52f9960f716ee82d619cd8a52d9d49f609342d9d4005d1ded8",
}
TIMEOUT = (10, 30)  # seconds to connect, and between two pieces of an answer
PATIENCE = 60  # seconds that any answer may take, and one more for each MIN_RATE bytes of it
MIN_RATE = 1000  # bytes a second: the slowest modem
MAX_DOWNLOAD = 2**30  # bytes of one archive
MAX_KNOWN = 2**22  # bytes of a file whose SHA-256 is known
MAX_UNPACKED = 2**31  # bytes of one archive, headers included
MAX_MEMBERS = 10_000  # of one archive
MAX_READ = 2**20  # bytes at a time; tarfile reads files in small pieces, but a header in one
_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")  # what a prefix is followed by
IN_FOLDER = ("[!.]*", "[!.]*/[!.]*")  # files in it and one level below, no hidden ones
_TABLE_END = bytes.fromhex("57fb808b247547db")  # the last bytes of a V1 checkpoint


def fetch_authors_files(name, folder=None):
    """Make sure that one of the authors' networks is on this computer; fetch what is not.

    Files that are there already, fetched before or placed by hand, are taken as they are, and an
    archive placed there (``hotels.tar.gz``) is unpacked.  The SHA-256 of one that was fetched is
    printed on stderr, as is a progress bar if that is a terminal.

    The name is "hotels" or "faces".  Files are looked for in a folder, by default in
    ``models/<name>/`` beside this module and in a cache folder of the user's, to which they are
    fetched.  It returns two Paths, the checkpoint's prefix and the mean image, a ``.npy`` file.

    A ValueError or OSError of one line, which ends with the ways to do without the network, says
    what cannot be fetched or is not what it should be.
    """
    places = _places(name, folder)
    with _ways_out(
        "give a local archive or folder with --checkpoint PREFIX --mean-image FILE.npy, or place "
        f"{name}.index, {name}.data-00000-of-00001 and {name}_meanIm.npy under {places[-1]}/"
    ):
        mean_image = _fetch_file(f"{name}_meanIm.npy", places)
        return _fetch_checkpoint(name, places), mean_image


def fetch_mean_image(name, folder=None):
    """Make sure that the mean image alone is there, as `fetch_authors_files` does; its path."""
    places = _places(name, folder)
    with _ways_out(f"give --mean-image FILE.npy, or place {name}_meanIm.npy under {places[-1]}/"):
        return _fetch_file(f"{name}_meanIm.npy", places)


def example_pair(name, folder=None):
    """Make sure that the authors' two example images are there, in the same way; their paths."""
    places = _places(name, folder)
    files = f"{name}1.jpg", f"{name}2.jpg"
    with _ways_out(f"give two images, or place {' and '.join(files)} under {places[-1]}/"):
        return tuple(_fetch_file(file, places) for file in files)


def find_checkpoint(path):
    """Find the one TensorFlow checkpoint that path stands for; return its prefix, a Path.

    It is a prefix (``path.index`` and ``path.data-?????-of-?????`` are there), one of those files,
    a V1 checkpoint (one file), a folder with exactly one checkpoint in it or one level below, or a
    ``.tar``, ``.tar.gz`` or ``.tgz`` archive of such a folder.  An archive is unpacked into the
    system's temporary folder and removed from there when Python ends.

    A FileNotFoundError says that there is no checkpoint, or only a part of one, a ValueError that
    there are several, or that a file is no checkpoint and no safe archive.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for file in "model.index", "model.data-00000-of-00001":
    ...         Path(folder, file).touch()
    ...     find_checkpoint(folder).name
    'model'
    """
    path = Path(path)
    prefix = path.with_name(_PART.sub("", path.name))
    if prefix in _prefixes(prefix.parent, glob.escape(prefix.name) + "*"):
        return _whole(prefix, prefix)
    if path.is_dir():
        return _checkpoint_in(path, path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no checkpoint, folder or archive of this name")
    unpacked = Path(tempfile.mkdtemp(prefix="checkpoint-"))
    atexit.register(shutil.rmtree, unpacked, ignore_errors=True)
    return _unpack(path, unpacked, path)


def _places(name, folder):
    """Return the folders that files are looked for in; to the last one they are fetched."""
    if name not in ("hotels", "faces"):
        raise ValueError(f"name: expected hotels or faces, got {name!r}")
    if folder is not None:
        return [Path(folder)]
    import pooch

    return [Path(__file__).parent / name, pooch.os_cache("similarity-visualization") / name]


@contextmanager
def _ways_out(ways):
    """Add to an error, on its one line, what the user can do instead."""
    try:
        yield
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{error}; instead, {ways}") from None


def _fetch_file(file, places):
    for place in places:
        if (place / file).is_file():
            return place / file
    return _download(REPOSITORY + file, places[-1], SHA256[file], MAX_KNOWN)


def _fetch_checkpoint(name, places):
    for place in places:
        if (place / f"{name}.index").is_file():
            return _whole(place / name, place / name)
        if _prefixes(place, *IN_FOLDER):
            return _checkpoint_in(place, place)
    folder, source = places[-1], f"{ARCHIVES}{name}.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as work:
        placed = [path for place in places if (path := place / f"{name}.tar.gz").is_file()]
        archive = placed[0] if placed else _download(source, work, None, MAX_DOWNLOAD)
        checkpoint = _unpack(archive, Path(work, "unpacked"), placed[0] if placed else source)
        with suppress(OSError):  # if another process was first, its own is as good
            checkpoint.parent.replace(folder / "unpacked")  # in one step
    return _checkpoint_in(folder, folder)


def _download(url, folder, sha256, most):
    """Let pooch fetch a file of at most so many bytes into a folder; return its path."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # what it does is said here
    headers = {"Accept-Encoding": "identity"}
    fetch = pooch.HTTPDownloader(sys.stderr.isatty(), timeout=TIMEOUT, headers=headers)

    def fetch_within_limits(url, path, _pooch):
        begun, done = time.monotonic(), Future()

        def work():
            try:
                done.set_result(fetch(url, file, None))
            except Exception as error:
                done.set_exception(error)

        with open(path, "wb") as file:
            # in a thread, which fails when the file is closed: a server may never come to an end
            threading.Thread(target=work, daemon=True).start()
            while not done.done():
                wait([done], 0.1)
                if file.tell() > most:
                    raise ValueError(f"over {most} bytes, too large to be right")
                if time.monotonic() - begun > PATIENCE + file.tell() / MIN_RATE:
                    raise ConnectionError(
                        f"{url}: {file.tell()} bytes so far, too slow to wait for"
                    )
            done.result()

    try:
        name = url.rpartition("/")[2]
        path = Path(pooch.retrieve(url, sha256, name, folder, downloader=fetch_within_limits))
    except requests.RequestException as error:
        reason = getattr(error.args[0], "reason", error.args[0])  # the innermost says it best
        reason = str(getattr(reason, "args", [reason])[0]).partition(" for url: ")[0]
        raise ConnectionError(f"{url}: {reason}") from None
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from None
    if sha256 is None:
        print(f"{url}: SHA-256 {pooch.file_hash(path)}", file=sys.stderr)
    return path


def _unpack(archive, folder, source):
    """Unpack a .tar or .tar.gz file; return the checkpoint in it; errors name source."""
    try:
        with open(archive, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = _BoundedStream(gzip.GzipFile(fileobj=file) if zipped else file)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                tar.extractall(folder, list(_plain_members(tar)), filter="data")
                while stream.read(2**16):  # to the end, where gzip has its checksum
                    pass
    except Exception as error:  # a damaged archive raises nearly anything
        raise ValueError(f"{source}: not unpacked as a .tar or .tar.gz archive: {error}") from None
    return _checkpoint_in(folder, source)


class _BoundedStream:
    """A file to read a tar archive from, which ends in an error if the archive is a bomb."""

    def __init__(self, file):
        self.file, self.tell = file, file.tell

    def read(self, size):
        if not 0 <= size <= MAX_READ:
            raise ValueError(f"it has a header of {size} bytes")
        _check_unpacked(self.tell() + size)
        return self.file.read(size)

    def seek(self, position):
        _check_unpacked(position)  # before all that lies between is decompressed
        return self.file.seek(position)


def _plain_members(tar):
    for count, member in enumerate(tar):
        if count == MAX_MEMBERS:
            raise ValueError(f"it has over {MAX_MEMBERS} members")
        if not (member.isfile() or member.isdir()) or member.issparse() or member.size < 0:
            raise ValueError(f"its member {member.name[:80]!r} is no plain file or folder")
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise ValueError(f"its member {member.name[:80]!r} leads outside of it")
        _check_unpacked(member.offset_data + member.size)
        yield member


def _check_unpacked(size):
    if size > MAX_UNPACKED:
        raise ValueError(f"it has over {MAX_UNPACKED} bytes unpacked")


def _prefixes(folder, *patterns):
    """Return the checkpoints, whole or half, of which files match one of the patterns."""
    files = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    files = [file for file in files if _PART.search(file.name) or _is_v1(file)]
    return list(dict.fromkeys(file.with_name(_PART.sub("", file.name)) for file in files))


def _checkpoint_in(folder, source):
    prefixes = _prefixes(folder, *IN_FOLDER)
    if not prefixes:
        raise FileNotFoundError(f"{source}: no checkpoint (*.index) in it or one level below")
    if len(prefixes) > 1:
        names = ", ".join(str(prefix.relative_to(folder)) for prefix in prefixes[:5])
        raise ValueError(f"{source}: {len(prefixes)} checkpoints ({names}), expected one")
    return _whole(prefixes[0], f"{source}/{prefixes[0].relative_to(folder)}")


def _whole(prefix, source):
    """Return a prefix, unless a part of its checkpoint is missing; the error names source."""
    data = prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*-of-{'[0-9]' * 5}")
    count = int(max((file.name[-5:] for file in data), default=1))
    for suffix in ".index", *(f".data-{i:05}-of-{count:05}" for i in range(count)):
        if not Path(f"{prefix}{suffix}").is_file() and not _is_v1(prefix):
            raise FileNotFoundError(f"{source}: half a checkpoint, without {prefix.name}{suffix}")
    return prefix


def _is_v1(path):
    """Return whether a file is a checkpoint of TensorFlow's first format, a table by its end."""
    with suppress(OSError):  # it is shorter, or another process has just removed it
        if path.is_file():
            with open(path, "rb") as file:
                file.seek(-8, os.SEEK_END)
                return file.read() == _TABLE_END
    return False
