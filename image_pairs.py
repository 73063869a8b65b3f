"""Many pairs: which ones, their activations at the network's full speed, and their scores."""

import csv
import io
import json
import re
import sys
import tempfile
from collections import Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np

import image_ops

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
FIELDS = ("pair", "image1", "image2", "similarity", "whole_similarity", "error")
BATCH_SIZE = 8
# Decoded images wait in memory for their picture up to this size, and are decoded again beyond it.
IMAGE_MEMORY = 128 * 2**20
WAITING = 8  # pairs that may wait to be finished
# A path may hold bytes that are no text.
TEXT = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


def read_pairs(path):
    """Read the paths of pairs of images from a CSV file.

    Parameters
    ----------
    path : str or Path
        Two columns, separated by commas, relative to the file's folder.  A first row without an
        image's ending is a header.

    Returns
    -------
    pairs : list of (str, str)

    Raises
    ------
    ValueError, OSError
        Name the line that has not two columns, or the file where it holds no pair.

    Examples
    --------
    >>> read_pairs("nowhere.csv")
    Traceback (most recent call last):
    FileNotFoundError: nowhere.csv: no such file of pairs
    """
    path, pairs = Path(path), []
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of pairs")
    with open(path, **TEXT) as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                row = [cell.strip().removeprefix("\ufeff") for cell in row]
                if not any(row):
                    continue
                if len(row) != 2 or not all(row):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: expected two paths, got {row}"
                    )
                if not pairs and not any(cell.lower().endswith(IMAGE_ENDINGS) for cell in row):
                    continue
                pairs.append(tuple(str(path.parent / cell) for cell in row))
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if not pairs:
        raise ValueError(f"{path}: holds no pair, expected two columns of paths to images")
    return pairs


def pairs_against(image, folder):
    """Pair an image with every other image in a folder, in the order of their names.

    Parameters
    ----------
    image, folder : str or Path

    Returns
    -------
    pairs : list of (str, str)

    Raises
    ------
    ValueError, OSError
        Where there is no such folder, or no other image in it.

    Examples
    --------
    >>> folder = Path(__file__).parent / "example_images"
    >>> [Path(other).name for _, other in pairs_against(folder / "room_a_view1.jpg", folder)][-1]
    'room_b_view1_objects.png'
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    image_ops.load_image(image)  # every pair would fail
    pairs = [
        (str(image), str(other))
        for other in sorted(folder.iterdir())
        if other.suffix.lower() in IMAGE_ENDINGS and not (other.exists() and other.samefile(image))
    ]
    if not pairs:
        raise ValueError(f"{folder}: holds no image to compare with, of {', '.join(IMAGE_ENDINGS)}")
    return pairs


def score(pairs, network, finish, folder, *, batch_size=None, keep_images=True):
    """Run a network over many pairs, and finish each of them while it goes on to the next.

    Parameters
    ----------
    pairs : dict of a number to (path, path)
    network : EmbeddingNetwork
    finish : function of (number, convs, sizes, load_images)
        Gets a pair's activations, its images' (height, width) and a function that returns the
        images, uint8 (H, W, 3); returns the similarity and that of the whole images.
    folder : str or Path
        Where the temporary file of activations lies.
    batch_size : None or int, how many images go through the network at once
    keep_images : bool, whether finish will want the images

    Yields
    ------
    row : dict, of scores.csv, in the order of the pairs
        Where reading or finishing a pair raised a ValueError or OSError, with the reason.
    """

    from threadpoolctl import threadpool_limits

    def row(number, convs, sizes, load_images, error):
        scores = "", ""
        try:
            if error is None:
                scores = [f"{score:.6f}" for score in finish(number, convs, sizes, load_images)]
        except (ValueError, OSError) as raised:
            error = str(raised)
        error = " ".join((error or "").split())
        return dict(zip(FIELDS, (number, *pairs[number], *scores, error), strict=True))

    images = _Images(IMAGE_MEMORY if keep_images else 0, pairs.values())
    computed = activations_of_pairs(pairs, network, images, folder, batch_size or BATCH_SIZE)
    # BLAS's own threads would wait for the next small product on the cores that the network needs
    with threadpool_limits(1, "blas"):
        yield from _ahead(lambda pair: row(*pair), computed, WAITING)


def activations_of_pairs(pairs, network, images, folder, batch_size):
    """Yield (number, convs, sizes, load_images, error) for each pair, decoding images ahead.

    Each distinct image goes through the network once, and its activations wait in a temporary file
    for its last pair.  Where an image's activations depend on its batch, each pair is one batch.
    """
    import tensorflow as tf

    sizes, problems = {}, {}
    if network.independent:
        keys = pairs
        order = list(dict.fromkeys(path for pair in pairs.values() for path in pair))
        paths = dict(zip(order, order, strict=True))
    else:
        batch_size = 2
        keys = {number: ((number, 1), (number, 2)) for number in pairs}
        order = [key for pair in keys.values() for key in pair]
        paths = {key: pairs[key[0]][key[1] - 1] for key in order}
    uses = Counter(key for pair in keys.values() for key in pair)

    def prepare(index):
        key = order[index]
        try:
            image = images.load(paths[key])
            sizes[key] = image.shape[:2]
            return network.preprocess([image])[0]
        except (ValueError, OSError, MemoryError) as error:
            problems[key] = str(error) or type(error).__name__
            return np.zeros((*network.input_size, 3), np.float32)

    batches = (
        tf.data.Dataset.range(len(order))
        .map(
            lambda index: tf.numpy_function(prepare, [index], tf.float32),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(batch_size)
        .prefetch(1)
    )
    waiting = iter(keys.items())
    number, pair = next(waiting, (None, None))
    with tempfile.TemporaryFile(dir=folder) as file:
        rows, done = _Rows(file), set()
        for start, convs in zip(
            range(0, len(order), batch_size), _ahead(network.activations, batches, 2), strict=True
        ):
            fresh = dict(zip(order[start : start + batch_size], convs, strict=True))
            done.update(fresh)
            while pair is not None and done.issuperset(pair):
                error = next((problems[key] for key in pair if key in problems), None)
                convs = [fresh[key] if key in fresh else rows.get(key) for key in pair]
                image_sizes = [sizes.get(key) for key in pair]

                def load_images(pair=pair):
                    return [images.take(paths[key]) for key in pair]

                yield number, convs, image_sizes, load_images, error
                uses.subtract(pair)
                for key in set(pair) - set(fresh):
                    if not uses[key]:
                        rows.free(key)
                number, pair = next(waiting, (None, None))
            for key, conv in fresh.items():
                if uses[key]:
                    rows.put(key, conv)


def _ahead(function, values, count):
    """Yield function(value) of each value, in order, while threads work on the next ones."""
    waiting = deque()
    with ThreadPoolExecutor(2) as pool:
        for value in values:
            waiting.append(pool.submit(function, value))
            if len(waiting) == count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Images:
    """Decoded images, kept until all pairs have taken them, or as long as there is room."""

    def __init__(self, room, pairs):
        self.kept, self.bytes, self.room, self.lock = OrderedDict(), 0, room, Lock()
        self.wanted = Counter(path for pair in pairs for path in pair)

    def load(self, path):
        with self.lock:
            if path in self.kept:
                self.kept.move_to_end(path)
                return self.kept[path]
        image = image_ops.load_image(path)
        with self.lock:
            if path not in self.kept:
                self.kept[path] = image
                self.bytes += image.nbytes
            while self.bytes > self.room:
                self._drop(next(iter(self.kept)))
        return image

    def take(self, path):
        image = self.load(path)
        with self.lock:
            self.wanted[path] -= 1
            if not self.wanted[path] and path in self.kept:
                self._drop(path)
        return image

    def _drop(self, path):
        self.bytes -= self.kept.pop(path).nbytes


class _Rows:
    """Arrays of one shape in a file, of which the system keeps in memory what it can."""

    def __init__(self, file):
        self.file, self.places, self.freed = file, {}, []

    def put(self, key, array):
        self.shape, self.size = array.shape, array.nbytes
        self.places[key] = self.freed.pop() if self.freed else len(self.places)
        self.file.seek(self.places[key] * self.size)
        self.file.write(np.ascontiguousarray(array, np.float32))

    def get(self, key):
        self.file.seek(self.places[key] * self.size)
        return np.frombuffer(self.file.read(self.size), np.float32).reshape(self.shape)

    def free(self, key):
        self.freed.append(self.places.pop(key))


# --- what is on disk -----------------------------------------------------------------------------


def file_stem(number, pair):
    """Return what the names of a pair's files begin with.

    Examples
    --------
    >>> file_stem(7, ("rooms/a b.jpg", "rooms/c.png"))
    '00007_a_b_c'
    """
    # a letter takes up to four bytes, and a file's name 255
    stems = (re.sub(r"[^\w.-]+", "_", Path(path).stem)[:28] for path in pair)
    return "_".join((f"{number:05d}", *stems))


def resume(folder, settings, pairs, endings):
    """Begin, or go on with, a folder of results.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    settings : dict
        What the results depend on, besides the pairs.
    pairs : dict of a number to (path, path)
    endings : sequence of str
        Of the files that a finished pair has in the folder.

    Returns
    -------
    finished : dict of a number to a row of scores.csv

    Raises
    ------
    ValueError
        Where the folder holds other things than results of these settings and pairs.
    """
    settings = json.loads(json.dumps(settings, default=str))
    if not folder.exists():
        folder.mkdir()
    if not (folder / "settings.json").exists():
        if any(folder.iterdir()):
            raise ValueError(f"{folder}: holds other files, name a new folder with --output")
        content = json.dumps(settings, indent=1).encode()
        image_ops.write_whole(folder / "settings.json", lambda file: file.write(content))
    elif json.loads((folder / "settings.json").read_text()) != settings:
        raise ValueError(
            f"{folder}: holds results of other arguments (settings.json), name a new folder with "
            "--output, or delete this one"
        )
    for left_behind in folder.glob(".*.tmp"):  # by a run that was killed
        left_behind.unlink()
    finished = {}
    for row in read_scores(folder):
        number = int(row["pair"])
        if (row["image1"], row["image2"]) != pairs.get(number):
            raise ValueError(f"{folder}: holds results of other pairs, name a new folder")
        stem = file_stem(number, pairs[number])
        if not row["error"] and all((folder / f"{stem}{ending}").is_file() for ending in endings):
            finished[number] = row
    write_scores(folder, finished.values())
    return finished


def recorded(rows, folder):
    """Yield rows as they come, each written to the end of scores.csv before."""
    with open(folder / "scores.csv", "a", **TEXT) as file:
        writer = csv.DictWriter(file, FIELDS)
        for row in rows:
            writer.writerow(row)
            file.flush()
            yield row
    write_scores(folder, read_scores(folder))


def read_scores(folder):
    """Return the rows of scores.csv, but for the half of one that a killed run may have left."""
    path = folder / "scores.csv"
    if not path.is_file():
        return []
    with open(path, **TEXT) as file:
        text = file.read()
    whole = text[: text.rfind("\r\n") + 2]
    rows = csv.DictReader(io.StringIO(whole, newline=""), FIELDS)
    return [row for row in rows if row["pair"].isdigit() and row["error"] is not None]


def write_scores(folder, rows):
    """Write scores.csv anew, in the order of the pairs."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: int(row["pair"])))
    content = text.getvalue().encode(TEXT["encoding"], TEXT["errors"])
    image_ops.write_whole(folder / "scores.csv", lambda file: file.write(content))


@contextmanager
def progress_bar(total, done):
    """Show on a terminal how many pairs are done, how fast, and how long the rest takes."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task):
            return Text(f"{task.speed or 0:.1f} pairs/s")

    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)
