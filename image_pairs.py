"""Many pairs of images: which ones, their maps and pictures, and what an earlier run did."""

import csv
import io
import json
import os
import re
import tempfile
from collections import Counter
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

import image_ops
from explorer.cards import Card, write_cards
from files import LOCK, locked, plain, progress_bar, unchanged, write_whole
from image_ops import IMAGE_ENDINGS
from image_stream import BATCH_SIZE, Activations, Images, ahead, stream_activations
from pair_maps import (
    Method,
    compute_maps,
    explained_head,
    network_for,
    network_words,
    run_network,
    settings_of,
)
from pair_visualization import Look, draw

SCORES = ("similarity", "whole_similarity", "network_similarity")
FIELDS = ("pair", "image1", "image2", *SCORES, "error", "contents1", "contents2")
# Decoded images wait in memory for their picture up to this size, and are decoded again beyond it.
IMAGE_MEMORY = 128 * 2**20
WAITING = 8  # pairs that may wait to be finished
MAX_PATH = 4096  # letters, which is more than systems take
# A path may hold bytes that are no text.
TEXT = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


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

    runner = network_for(network, method, pairwise)

    def run(batch):
        return run_network(runner, batch, method)

    depends = {**settings, "files": endings, "weights": network.fingerprint()}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        finished = resume(folder, depends, pairs, endings)
        left = {number: pair for number, pair in pairs.items() if number not in finished}
        rows = score(left, runner, finish, folder, run, batch_size=batch_size, keep_images=pictures)
        with progress_bar("", len(pairs), len(finished), "pairs") as advance:
            for _ in recorded(rows, folder):
                advance(1)
        rows = read_scores(folder)
        write_index(folder, rows, network_words(network, method), pictures)
        return rows, len(finished)


def score(pairs, network, finish, folder, run=None, *, batch_size=None, keep_images=True):
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

    run = run or (lambda batch: network.run(batch, network.explain))
    batch_size = batch_size or BATCH_SIZE
    activations = _activations_of_pairs(pairs, network, run, images, folder, batch_size)
    # BLAS's own threads would wait for the next small product on the cores that the network needs
    with threadpool_limits(1, "blas"):
        yield from ahead(row, activations, WAITING)


def _activations_of_pairs(pairs, network, run, images, folder, batch_size):
    """Yield (number, two Activations) for each pair, running each distinct image once."""
    paths = [path for pair in pairs.values() for path in pair]
    if not network.batch_independent:  # each pair is a batch, and no image has activations alone
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
        Which this process owns, see `files.locked`.
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
        If the folder holds other things than results of these settings and pairs.
    """
    settings = json.loads(json.dumps(settings, default=str))
    if not (folder / "settings.json").exists():
        if any(path.name != LOCK for path in folder.iterdir()):
            raise ValueError(f"{folder}: holds other files, name a new folder with --output")
        content = json.dumps(settings, indent=1).encode()
        write_whole(folder / "settings.json", lambda file: file.write(content))
    else:
        _compare(settings, _read_settings(folder / "settings.json"), folder)
    for name in ("settings.json", "scores.csv", "index.html", "[0-9]*_*"):
        for left_behind in folder.glob(f".{name}.*.tmp"):  # by a run that was killed
            left_behind.unlink()
    finished, same = {}, lru_cache(maxsize=None)(unchanged)
    for row in read_scores(folder):
        number = int(row["pair"])
        if (row["image1"], row["image2"]) != pairs.get(number):
            raise ValueError(f"{folder}: holds results of other pairs, name a new folder")
        stem = file_stem(number, pairs[number])
        if (
            not row["error"]
            and all((folder / f"{stem}{ending}").is_file() for ending in endings)
            and all(same(row[f"image{i}"], row[f"contents{i}"]) for i in (1, 2))
        ):
            finished[number] = row
    write_scores(folder, finished.values())
    return finished


def _read_settings(path):
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path}: damaged, delete its folder or name a new one") from None


def _compare(settings, before, folder):
    """Raise a ValueError that names what is another than before."""
    names = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if names:
        raise ValueError(
            f"{folder}: holds results of other arguments (settings.json, {', '.join(names)[:200]}),"
            " name a new folder with --output, or delete this one"
        )


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
    whole = io.StringIO(text[: text.rfind("\r\n") + 2], newline="")
    try:
        rows = list(csv.DictReader(whole, FIELDS))[1:]
        for row in rows:
            float(row["similarity"] if not row["error"] else 0)
            if set(row) != set(FIELDS) or not 0 < int(row["pair"]) < 10**9:
                raise ValueError
    except (ValueError, TypeError, csv.Error):
        raise ValueError(f"{path}: damaged, delete its folder or name a new one") from None
    return rows


def write_scores(folder, rows):
    """Write scores.csv anew, in the order of the pairs."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: int(row["pair"])))
    content = text.getvalue().encode(TEXT["encoding"], TEXT["errors"])
    write_whole(folder / "scores.csv", lambda file: file.write(content))


def write_index(folder, rows, words, pictures=True):
    """Write a page of all pairs, the most similar first, and what failed at its end.

    Parameters
    ----------
    folder : Path
    rows : sequence of dict, of scores.csv
    words : str, which network they are of
    pictures : bool, whether their pictures lie in the folder
    """
    paths = [row[name] for row in rows for name in ("image1", "image2")]
    common = os.path.commonprefix(paths).rfind(os.sep) + 1  # letters of the folder of all

    def card(row):
        name = f"{row['image1'][common:]} and {row['image2'][common:]}"
        if row["error"]:
            return Card(name, None, notes=(row["error"],))
        notes, picture = (), None
        if row["whole_similarity"] != row["similarity"]:
            notes = (f"{float(row['whole_similarity']):.4f} of the whole images",)
        if pictures:
            picture = f"{file_stem(int(row['pair']), (row['image1'], row['image2']))}.jpg"
        return Card(name, float(row["similarity"]), notes=notes, picture=picture)

    cards = [card(row) for row in rows]
    cards.sort(key=lambda card: (card.similarity is None, -(card.similarity or 0)))
    words += f"; {sum(card.similarity is not None for card in cards)} of {len(rows)} pairs"
    write_cards(folder / "index.html", cards, title="Which pairs are similar?", words=words)
