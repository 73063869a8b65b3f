"""Many pairs of images: which ones, their maps and pictures, and what an earlier run did."""

import csv
import io
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from simvis import image_ops
from simvis.batch.pipeline import BATCH_SIZE, Activations, Images, prefetch, stream_activations
from simvis.batch.records import (
    FIELDS,
    SCORES,
    TEXT,
    file_stem,
    read_scores,
    recorded,
    resume,
    write_index,
)
from simvis.files import locked, plain
from simvis.image_ops import IMAGE_ENDINGS
from simvis.maps import (
    Method,
    compute_maps,
    explained_head,
    is_quicker_by_pairs,
    network_words,
    run_network,
    settings_of,
)
from simvis.overlay import Look
from simvis.pair import draw

# Decoded images wait in memory for their picture up to this size, and are decoded again beyond it.
IMAGE_MEMORY = 128 * 2**20
WAITING = 8  # pairs that may wait to be finished
MAX_PATH = 4096  # letters, which is more than systems take


def read_pairs(path):
    """Read the paths of pairs of images from a CSV file.

    Parameters
    ----------
    path : str or Path
        The first two columns are paths, relative to the file's folder; what else there is does not
        matter.  A first row without an image's ending is a header.  Columns are separated by
        commas, semicolons or tabs: the first of these that makes two paths, or two columns, of the
        first row.

    Returns
    -------
    pairs : list of (str, str)

    Raises
    ------
    ValueError, OSError
        Name the line that has no two columns, or the file if it holds no pair.

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
        reader = csv.reader(file, delimiter=_delimiter(file))
        try:
            for row in reader:
                row = [cell.strip().removeprefix("\ufeff") for cell in row][:2]
                if not any(row):
                    continue
                if len(row) != 2 or not all(row):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: expected two paths, got {row}"[:500]
                    )
                if max(map(len, row)) > MAX_PATH:
                    raise ValueError(
                        f"{path}, line {reader.line_num}: a path has over {MAX_PATH} letters"
                    )
                if not pairs and not any(cell.lower().endswith(IMAGE_ENDINGS) for cell in row):
                    continue
                pairs.append(tuple(plain(path.parent / cell) for cell in row))
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if not pairs:
        raise ValueError(f"{path}: holds no pair, expected two columns of paths to images")
    return pairs


def _delimiter(file):
    """Return what separates the columns of a CSV file, which is left at its beginning."""
    text = "".join(islice((line for line in file if line.strip()), 5))  # a name may have newlines
    file.seek(0)
    columns = {}
    for delimiter in ",;\t":
        try:
            row = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            row = []
        paths = [cell.strip().lower().endswith(IMAGE_ENDINGS) for cell in row[:2]]
        columns[delimiter] = len(row) > 1, sum(paths)
    return max(columns, key=columns.get)  # of equal ones the first


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
        If there is no such folder, or no other image in it.

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


def visualize_pairs(
    pairs,
    network,
    folder,
    method=None,
    look=None,
    *,
    pictures=True,
    save_maps=False,
    pairwise=False,
    batch_size=None,
    settings=None,
):
    """Compute the maps of many pairs of images, and write what is asked for into a folder.

    ``scores.csv`` there gets a row for each pair, ``index.html`` a card, the most similar first,
    and each pair may get a picture and a file of maps.  What an earlier run with the same settings
    finished is not done again, unless an image has changed since: `files.fingerprint` of both
    images is in the row.

    Parameters
    ----------
    pairs : sequence of (path, path)
    network : EmbeddingNetwork
    folder : str or Path
        Made if it does not exist.
    method : None or Method, what is asked of each pair
    look : None or Look, of the pictures
    pictures, save_maps : bool, whether each pair gets a .jpg, and a .npz file
    pairwise : bool, whether the maps come with their pairwise tensor
    batch_size : None or int, how many images go through the network at once
    settings : None or dict, what the results depend on, if there is more to it than PairMaps know

    Returns
    -------
    rows : list of dict, of scores.csv
    resumed : int, how many of them an earlier run had finished

    Raises
    ------
    ValueError, OSError
        If the folder holds other things than results of these settings, weights and pairs, is
        being written to by another run, or cannot be written to.  What is wrong with a pair is in
        its row.
    """
    method, look = method or Method(), look or Look()
    explained_head(network, method)  # raises if there is none
    if batch_size and not network.batch_independent:
        raise ValueError(
            'batch_size: with batch statistics each pair is a batch, say batch_norm="moving"'
        )
    folder = Path(folder)
    pairs = dict(enumerate((tuple(map(str, pair)) for pair in pairs), 1))
    settings = settings or {**settings_of(network, method), **vars(look), "pairwise": pairwise}
    endings = [".jpg"] * pictures + [".npz"] * save_maps

    def finish(number, convs, embeddings, sizes, load_images):
        maps = compute_maps(convs, sizes, network, method, pairs[number], pairwise, embeddings)
        path = folder / file_stem(number, pairs[number])
        if pictures:
            image_ops.save_image(f"{path}.jpg", draw(load_images(), maps, look).picture())
        if save_maps:
            maps.save_maps(f"{path}.npz", settings)
        return [getattr(maps, name) for name in SCORES]

    quicker = is_quicker_by_pairs(network, method, pairwise)

    def run(batch):
        return run_network(network, batch, method, quicker)

    depends = {**settings, "files": endings, "weights": network.fingerprint()}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        finished = resume(folder, depends, pairs, endings)
        left = {number: pair for number, pair in pairs.items() if number not in finished}
        rows = score(
            *(left, network, finish, folder, run),
            by_pairs=quicker or not network.batch_independent,
            batch_size=batch_size,
            keep_images=pictures,
        )
        for _ in tqdm(
            recorded(rows, folder),
            total=len(pairs),
            initial=len(finished),
            unit=" pairs",
            disable=None,
        ):
            pass
        rows = read_scores(folder)
        write_index(folder, rows, network_words(network, method), pictures)
        return rows, len(finished)


def score(
    pairs,
    network,
    finish,
    folder,
    run=None,
    *,
    by_pairs=False,
    batch_size=None,
    keep_images=True,
):
    """Run a network over many pairs, and finish each of them while it goes on to the next.

    Parameters
    ----------
    pairs : dict of a number to (path, path)
    network : EmbeddingNetwork
    finish : function of (number, convs, embeddings, sizes, load_images)
        Gets a pair's activations, the network's own embeddings, its images' (height, width) and a
        function that returns the images, uint8 (H, W, 3); returns the SCORES, or None for each
        that there is not.
    folder : str or Path
        Where the temporary file of activations lies.
    run : function of a batch, see `image_stream.stream_activations`
        By default the network's, of what it explains by default.
    by_pairs : bool, whether each pair is a batch, and no image has activations of its own
    batch_size : None or int, how many images go through the network at once
    keep_images : bool, whether finish will want the images

    Yields
    ------
    row : dict, of scores.csv, in the order of the pairs
        With the reason, if reading or finishing a pair raised a ValueError, an OSError or a
        MemoryError.
    """
    from threadpoolctl import threadpool_limits

    paths = [path for pair in pairs.values() for path in pair]
    images = Images(IMAGE_MEMORY if keep_images else 0, paths)

    def row(numbered):
        number, activations = numbered

        def load_images():
            return [images.take(path) for path in pairs[number]]

        error = next((each.error for each in activations if each.error), "")
        scores = [""] * len(SCORES)
        try:
            if not error:
                convs, embeddings, sizes, *_ = zip(*activations, strict=True)
                values = finish(number, convs, embeddings, sizes, load_images)
                scores = ["" if value is None else f"{value:.6f}" for value in values]
        except (ValueError, OSError, MemoryError) as raised:
            error = str(raised) or "there is not enough memory for it"
        error, contents = " ".join(error.split()), [each.contents for each in activations]
        return dict(zip(FIELDS, (number, *pairs[number], *scores, error, *contents), strict=True))

    run = run or network.run
    batch_size = batch_size or BATCH_SIZE
    activations = _activations_of_pairs(pairs, network, run, images, folder, by_pairs, batch_size)
    # BLAS's own threads would wait for the next small product on the cores that the network needs
    with threadpool_limits(1, "blas"):
        yield from prefetch(row, activations, WAITING)


def _activations_of_pairs(pairs, network, run, images, folder, by_pairs, batch_size):
    """Yield (number, two Activations) for each pair, running each distinct image once."""
    paths = [path for pair in pairs.values() for path in pair]
    if by_pairs:
        stream = stream_activations(paths, run, network, images.load_with_fingerprint, 2)
        for number in pairs:
            yield number, (next(stream), next(stream))
        return
    # distinct images in the order of their first pairs, so that the next one is the one needed
    read = images.load_with_fingerprint
    stream = stream_activations(dict.fromkeys(paths), run, network, read, batch_size)
    uses = Counter(paths)
    with tempfile.TemporaryFile(dir=folder) as file:
        rows = _Rows(file)
        for number, pair in pairs.items():
            found = {}
            for path in dict.fromkeys(pair):
                found[path] = rows.get(path) if path in rows.kept else next(stream)
            yield number, [found[path] for path in pair]
            uses.subtract(pair)
            for path, activations in found.items():
                if not uses[path]:
                    rows.free(path)
                elif path not in rows.kept:
                    rows.put(path, activations)


class _Rows:
    """Activations in a file, of which the system keeps in memory what it can."""

    def __init__(self, file):
        self.file, self.kept, self.freed = file, {}, []

    def put(self, path, activations):
        conv = np.ascontiguousarray(activations.conv, np.float32)
        place = self.freed.pop() if self.freed else len(self.kept)
        self.file.seek(place * conv.nbytes)
        self.file.write(conv)
        self.kept[path] = place, conv.shape, activations[1:]

    def get(self, path):
        place, shape, rest = self.kept[path]
        conv = np.empty(shape, np.float32)
        self.file.seek(place * conv.nbytes)
        self.file.readinto(conv)
        return Activations(conv, *rest)

    def free(self, path):
        if path in self.kept:
            self.freed.append(self.kept.pop(path)[0])
