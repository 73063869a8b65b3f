"""The authors' published files, fetched on first use, and checkpoints wherever they lie."""

import atexit
import glob
import gzip
import hashlib
import os
import queue
import re
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from simvis.files import LOCK, locked

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
NAMES = ("hotels", "faces")
TIMEOUT = (10, 30)  # seconds to connect, and between two pieces of an answer
PATIENCE = 60  # seconds in which an answer must begin, and after which it must keep up
MIN_RATE = 1000  # bytes a second, on the average: the slowest modem
ATTEMPTS = 3  # at a file whose connection is cut midway
MAX_DOWNLOAD = 2**30  # bytes of one archive
MAX_KNOWN = 2**22  # bytes of a file whose SHA-256 is known
MAX_UNPACKED = 2**31  # bytes of one archive, headers included
MAX_MEMBERS = 10_000  # of one archive
MAX_READ = 2**20  # bytes at a time; tarfile reads files in small pieces, but a header in one
_BAD_ARCHIVE = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
    *(ValueError, OverflowError, RecursionError),  # from numbers and nesting in headers
)
_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")  # what a prefix is followed by
_TABLE_END = bytes.fromhex("57fb808b247547db")  # the last bytes of a V1 checkpoint


def fetch_authors_files(name, folder=None):
    """Make sure that one of the authors' networks is on this computer; fetch what is not.

    Files that are there already, fetched before or placed by hand, are taken as they are, and
    where checkpoint and mean image are, no request is made.  An archive placed there by hand
    (``hotels.tar.gz``) is unpacked.  The archive's SHA-256 is printed on stderr, as is a progress
    bar where that is a terminal.

    Parameters
    ----------
    name : str
        ``"hotels"`` or ``"faces"``.
    folder : str or Path, optional
        Where the files lie, by default ``models/<name>/``.

    Returns
    -------
    checkpoint, mean_image : Path
        The checkpoint's prefix, ``<folder>/<name>`` where it was fetched, and the ``.npy`` file.

    Raises
    ------
    OSError
        Where the network, the server or the disk fails, or a checkpoint is half there.
    ValueError
        For an unknown name, a file with a wrong hash, a bad or unsafe archive, or several
        checkpoints.  Except for the unknown name, the message is one line, and it ends with the
        ways to do without the network.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for file in "hotels.index", "hotels.data-00000-of-00001", "hotels_meanIm.npy":
    ...         Path(folder, file).touch()
    ...     checkpoint, mean_image = fetch_authors_files("hotels", folder)
    >>> checkpoint.name, mean_image.name
    ('hotels', 'hotels_meanIm.npy')
    """
    folder = _folder(name, folder)
    needed = f"{name}.index, {name}.data-00000-of-00001 and {name}_meanIm.npy"
    with _ways_out(
        f"give a local archive or folder with --checkpoint PREFIX --mean-image FILE.npy, "
        f"or place {needed} under {folder}/"
    ):
        _sweep(folder)
        checkpoint, mean_image = _find_fetched(name, folder), folder / f"{name}_meanIm.npy"
        if checkpoint is None or not mean_image.is_file():
            for file in f"{name}_meanIm.npy", f"{name}1.jpg", f"{name}2.jpg":
                _fetch_file(file, folder)
        return checkpoint or _fetch_checkpoint(name, folder), mean_image


def fetch_mean_image(name, folder=None):
    """Make sure that the mean image alone is there, as `fetch_authors_files` does; its path.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "hotels_meanIm.npy").touch()
    ...     fetch_mean_image("hotels", folder).name
    'hotels_meanIm.npy'
    """
    folder = _folder(name, folder)
    with _ways_out(f"give --mean-image FILE.npy, or place {name}_meanIm.npy under {folder}/"):
        return _fetch_file(f"{name}_meanIm.npy", folder)


def example_pair(name, folder=None):
    """Make sure that the authors' two example images are there, in the same way; their paths.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for file in "faces1.jpg", "faces2.jpg":
    ...         Path(folder, file).touch()
    ...     [path.name for path in example_pair("faces", folder)]
    ['faces1.jpg', 'faces2.jpg']
    """
    folder = _folder(name, folder)
    files = f"{name}1.jpg", f"{name}2.jpg"
    with _ways_out(f"give two images, or place {' and '.join(files)} under {folder}/"):
        return _fetch_file(files[0], folder), _fetch_file(files[1], folder)


def find_checkpoint(path):
    """Find the one TensorFlow checkpoint that path stands for.

    Parameters
    ----------
    path : str or Path
        A prefix (``path.index`` and ``path.data-?????-of-?????`` are there), one of those files,
        a V1 checkpoint (one file), a folder with exactly one checkpoint in it or one level below,
        or a ``.tar``, ``.tar.gz`` or ``.tgz`` archive of such a folder.  An archive is unpacked
        into the system's temporary folder and removed from there when Python ends.

    Returns
    -------
    prefix : Path

    Raises
    ------
    FileNotFoundError
        Where there is no checkpoint, or only a part of one.
    ValueError
        For several checkpoints, or a file that is no checkpoint and no safe archive.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for file in "model.index", "model.data-00000-of-00001":
    ...         Path(folder, file).touch()
    ...     find_checkpoint(folder).name
    'model'
    """
    path = Path(path)
    prefix = Path(_PART.sub("", str(path)))
    if Path(f"{prefix}.index").is_file() or _data_suffixes(prefix) or _is_v1(path):
        return _whole(prefix, prefix)
    if path.is_dir():
        return _checkpoint_in(path, path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no checkpoint, folder or archive of this name")
    unpacked = Path(tempfile.mkdtemp(prefix="checkpoint-"))
    atexit.register(shutil.rmtree, unpacked, ignore_errors=True)
    _unpack(path, unpacked, path)
    return _checkpoint_in(unpacked, path)


def _folder(name, folder):
    if name not in NAMES:
        raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {name!r}")
    return Path(__file__).resolve().parent / name if folder is None else Path(folder)


@contextmanager
def _ways_out(ways):
    """Add to an error, on its one line, what the user can do instead."""
    try:
        yield
    except (OSError, ValueError) as error:
        kinds = (ConnectionError, FileNotFoundError, PermissionError, OSError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        raise kind(f"{error}; instead, {ways}") from None


def _find_fetched(name, folder):
    """The checkpoint that lies in folder, or None where one has to be fetched."""
    if (folder / f"{name}.index").is_file():
        return _whole(folder / name, folder / name)
    # Data alone is what a process leaves that was killed while it moved the files here.
    return None if _prefixes(folder) in ([], [folder / name]) else _checkpoint_in(folder, folder)


def _fetch_file(file, folder):
    target = folder / file
    if not target.is_file():
        with _work_folder(folder) as work:
            digest = _download(REPOSITORY + file, work / file, MAX_KNOWN)
            if digest != SHA256[file]:
                raise ValueError(f"{file}: its SHA-256 is {digest}, expected {SHA256[file]}")
            os.replace(work / file, target)
    return target


def _fetch_checkpoint(name, folder):
    with _work_folder(folder) as work:
        archive = source = folder / f"{name}.tar.gz"
        if not archive.is_file():
            archive, source = work / archive.name, ARCHIVES + archive.name
            digest = _download(source, archive, MAX_DOWNLOAD)
            print(f"{source}: SHA-256 {digest}", file=sys.stderr)
        _unpack(archive, work / "unpacked", source)
        found = _checkpoint_in(work / "unpacked", source)
        # The index last: without it, nothing takes the data for a checkpoint.
        for suffix in *_data_suffixes(found), ".index":
            os.replace(f"{found}{suffix}", folder / f"{name}{suffix}")
    return folder / name


@contextmanager
def _work_folder(folder):
    """A folder beside the target, so that moving a file from it to there is one atomic step."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as work, locked(Path(work)):
        yield Path(work)


def _sweep(folder):
    """Remove the work folders of processes that were killed."""
    for work in folder.glob(".fetch-*"):
        if (work / LOCK).exists():  # else it is being made
            with suppress(ValueError, OSError), locked(work):
                shutil.rmtree(work)


def _download(url, target, most):
    """Download url to target and return its SHA-256; where it is cut midway, start again."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _receive(url, target, most)
        except ConnectionAbortedError:
            pass
    return _receive(url, target, most)


def _receive(url, target, most):
    import requests
    import urllib3

    begun = time.monotonic()
    try:
        plain = {"Accept-Encoding": "identity"}
        response = _within(
            PATIENCE, lambda: requests.get(url, stream=True, timeout=TIMEOUT, headers=plain)
        )
    except requests.RequestException as error:
        raise ConnectionError(f"{url}: {_reason(error)}") from None
    except TimeoutError:
        raise ConnectionError(f"{url}: no answer in {PATIENCE} seconds") from None
    if response.status_code != 200:
        response.close()
        raise OSError(f"{url}: the server answered HTTP {response.status_code}")
    digest, received, length = hashlib.sha256(), 0, response.raw.length_remaining or 0
    too_large = ValueError(f"{url}: over {most} bytes, too large to be right")
    bar = tqdm(total=length or None, desc=target.name, unit="B", unit_scale=True, disable=None)
    with response, open(target, "wb") as file, bar:
        if length > most:
            raise too_large
        try:
            while chunk := response.raw.read1(2**16):  # what there is, at once
                received += len(chunk)
                if received > most:
                    raise too_large
                if time.monotonic() - begun > PATIENCE + received / MIN_RATE:
                    raise ConnectionError(
                        f"{url}: {received} bytes in {time.monotonic() - begun:.0f} seconds, too "
                        "slow to wait for"
                    )
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
            if response.raw.tell() < length:  # urllib3 before version 2 leaves that to its caller
                raise requests.ConnectionError(f"it has {length}")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ConnectionAbortedError(
                f"{url}: cut off after {received} bytes: {_reason(error)}"
            ) from None
    return digest.hexdigest()


def _within(seconds, function):
    """Return function(), or raise a TimeoutError if that takes longer."""
    results = queue.SimpleQueue()

    def work():
        try:
            results.put((function(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result


def _reason(error):
    """What a requests error says inside its wrappings, on one line."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    inner = inner.args[0] if getattr(inner, "args", None) else inner
    return " ".join(str(inner).split())


class _Bounded:
    """A file to read a tar archive from, which ends in an error where the archive is a bomb."""

    def __init__(self, file):
        self.file, self.tell = file, file.tell

    def read(self, size):
        if not 0 <= size <= MAX_READ:
            raise ValueError(f"it has a header of {size} bytes")
        data = self.file.read(size)
        self._check(self.tell())
        return data

    def seek(self, position):
        self._check(position)  # before all that lies between is decompressed
        return self.file.seek(position)

    def _check(self, position):
        if position > MAX_UNPACKED:
            raise ValueError(f"it has over {MAX_UNPACKED} bytes unpacked")


def _unpack(archive, folder, source):
    """Unpack a .tar or .tar.gz file, after a look through the whole of it; errors name source."""
    try:
        with open(archive, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = _Bounded(gzip.GzipFile(fileobj=file) if zipped else file)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                members = _safe_members(tar)
                while stream.read(2**16):  # to the end, where gzip has its checksum
                    pass
                # Pythons before 3.10.12 and 3.11.4 lack filters; the look through has to do.
                guard = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(folder, members, **guard)
    except _BAD_ARCHIVE as error:
        raise ValueError(f"{source}: not a good .tar or .tar.gz archive: {error}") from None


def _safe_members(tar):
    members = []
    for member in tar:
        name, path = repr(member.name[:80]), PureWindowsPath(member.name)  # that knows / and \
        if len(members) == MAX_MEMBERS:
            raise ValueError(f"it has over {MAX_MEMBERS} members")
        if path.anchor or ".." in path.parts:
            raise ValueError(f"its member {name} would leave the folder")
        if not (member.isfile() or member.isdir()) or member.issparse() or member.size < 0:
            raise ValueError(f"its member {name} is no plain file or folder")
        members.append(member)
    return members


def _prefixes(folder):
    """The checkpoints, whole or half, in a folder and one level below, hidden ones left out."""
    # The folders of other processes at work here are hidden, and may vanish at any moment.
    shown = "[!.]*"
    files = [
        file for pattern in (shown, f"{shown}/{shown}") for file in sorted(folder.glob(pattern))
    ]
    parts = [file for file in files if _PART.search(file.name)]
    prefixes = [file.with_suffix("") for file in parts]
    return list(dict.fromkeys(prefixes)) or [file for file in files if _is_v1(file)]


def _checkpoint_in(folder, source):
    prefixes = _prefixes(folder)
    if not prefixes:
        raise FileNotFoundError(f"{source}: no checkpoint (*.index) in it or one level below")
    if len(prefixes) > 1:
        names = ", ".join(str(prefix.relative_to(folder)) for prefix in prefixes[:5])
        raise ValueError(f"{source}: {len(prefixes)} checkpoints ({names}), expected one")
    return _whole(prefixes[0], f"{source}/{prefixes[0].relative_to(folder)}")


def _data_suffixes(prefix):
    files = prefix.parent.glob(glob.escape(prefix.name) + ".data-*")
    return sorted(file.suffix for file in files if _PART.fullmatch(file.suffix))


def _whole(prefix, source):
    """The prefix, unless a part of its checkpoint is missing; the error names source."""
    data = _data_suffixes(prefix)
    count = int(data[-1][-5:]) if data else 1
    for suffix in ".index", *(f".data-{i:05}-of-{count:05}" for i in range(count)):
        if not Path(f"{prefix}{suffix}").is_file() and not _is_v1(prefix):
            raise FileNotFoundError(f"{source}: half a checkpoint, without {prefix.name}{suffix}")
    return prefix


def _is_v1(path):
    """Whether path is a checkpoint of TensorFlow's first format: one file, a table by its end."""
    if not path.is_file() or _PART.search(path.name) or path.stat().st_size < 8:
        return False
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        return file.read() == _TABLE_END
