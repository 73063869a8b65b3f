"""Many pairs of images: which ones, their maps and pictures, and what an earlier run did."""

import codecs
import csv
import io
import math
import os
import re
import tempfile
from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from simvis import image_ops
from simvis.batch.pipeline import (
    BATCH_SIZE,
    Activations,
    image_reader,
    prefetch,
    stream_activations,
)
from simvis.batch.records import (
    FIELDS,
    SCORES,
    TEXT,
    file_stem,
    resume,
    write_index,
    write_rows,
    write_scores,
)
from simvis.files import (
    fingerprint,
    left_out_words,
    list_images,
    locked,
    no_image,
    one_line,
    plain,
)
from simvis.image_ops import IMAGE_ENDINGS, errors_name
from simvis.maps import (
    Method,
    compute_maps,
    find_maps,
    is_along,
    network_words,
    see,
    settings_of,
)
from simvis.overlay import Look
from simvis.pair import draw

# Decoded images wait in memory for their picture up to this size, and are decoded again beyond it.
IMAGE_MEMORY = 128 * 2**20
WAITING = 8  # pairs that may wait to be finished
MAX_PATH = 4096  # letters, which is more than systems take


def read_pairs(path):
    """Read the paths of pairs of images from a CSV file; return a list of (str, str).

    The first two columns are paths, relative to the file's folder; further ones do not matter.
    A first row of two words, with no ending, that name no file is a header.  Columns are separated
    by the first of comma, semicolon and tab that makes two paths, or two columns, of the first row.
    The file is in UTF-8, or in UTF-16 if its first bytes say so.

    Raises a ValueError that names the line that has no two columns, or the file if it holds no
    pair, and an OSError if it cannot be read.

    Examples
    --------
    >>> read_pairs("nowhere.csv")
    Traceback (most recent call last):
    FileNotFoundError: nowhere.csv: no such file of pairs
    """
    image_ops.check_no_stream(path)
    path, pairs = Path(path), []
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of pairs")
    with errors_name(path), open(path, "rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with open(path, **(TEXT | {"encoding": "utf-16"} if marked else TEXT)) as file:
        try:
            reader, first = csv.reader(file, delimiter=_delimiter(file)), True
            for row in reader:
                row = [cell.strip().removeprefix("\ufeff") for cell in row][:2]
                if not any(row):
                    continue
                line = f"{path}, line {reader.line_num}"
                if len(row) != 2 or not all(row):
                    raise ValueError(f"{line}: expected two paths, got {row}"[:500])
                if max(map(len, row)) > MAX_PATH:
                    raise ValueError(f"{line}: a path has over {MAX_PATH} letters")
                if "\0" in "".join(row):
                    raise ValueError(f"{line}: a path holds a NUL, save the list as UTF-8")
                header = first and all(_is_word(cell, path.parent) for cell in row)
                first = False
                if header:
                    continue
                pairs.append(tuple(plain(path.parent / cell) for cell in row))
        except UnicodeError:
            raise ValueError(f"{path}: not the UTF-16 it begins as, save it as UTF-8") from None
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if not pairs:
        raise ValueError(f"{path}: holds no pair, expected two columns of paths to images")
    return pairs


def _is_word(cell, folder):
    """Return whether a cell looks like a column's name, and not like a path."""
    path_like = re.search(r"[/\\]|\.\w+$", cell) or not re.search(r"[^\W\d]", cell)
    return not (path_like or os.path.lexists(folder / cell))


def _delimiter(file):
    """Return what separates the columns of a CSV file, and go back to its beginning."""
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
    """Pair an image's path with every other's in a folder and the folders in it, sorted by path.

    They are those of `files.list_images`.

    Returns a list of (str, str).  Raises a ValueError or an OSError if there is no such folder, or
    no other image in it.

    Examples
    --------
    >>> from simvis.pair import EXAMPLES
    >>> pairs = pairs_against(EXAMPLES / "room_a_view1.jpg", EXAMPLES)
    >>> Path(pairs[-1][1]).name
    'room_b_view1_objects.png'
    """
    image_ops.check_no_stream(folder)
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    image_ops.load_image(image)  # every pair would fail
    files, left_out, unread = list_images(folder)
    others = [folder / path for path in sorted(files)]
    pairs = [(str(image), str(other)) for other in others if not os.path.samefile(other, image)]
    if not pairs:
        words = left_out_words(left_out, unread)
        raise ValueError(no_image(folder, words, "image to compare with"))
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

    Returns the rows of scores.csv, a list of dict, and how many of them an earlier run had
    finished.  What is wrong with a pair is in its row.  Raises a ValueError or an OSError if the
    folder holds other things than results of these settings, weights and pairs, is being written to
    by another run, or cannot be written to.
    """
    from threadpoolctl import threadpool_limits

    method, look = method or Method(), look or Look()
    method.of(network)  # raises if it cannot be
    if method.stride:  # else each pair would say what is wrong
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        fine = Method(stride=method.stride, reference=method.reference, explain=method.explain)
        find_maps((noise, noise), network, fine, ("noise", "itself"))
    if batch_size and not network.batch_independent:
        raise ValueError(
            'batch_size: with batch statistics each pair is a batch, say batch_norm="moving"'
        )
    folder = Path(folder)
    pairs = dict(enumerate((tuple(map(str, pair)) for pair in pairs), 1))
    settings = settings or {**settings_of(network, method), **vars(look), "pairwise": pairwise}
    endings = [".jpg"] * pictures + [".npz"] * save_maps

    along = is_along(network, method, pairwise)
    load_image = image_reader(IMAGE_MEMORY if pictures or along else 0)

    def read(path):
        contents = fingerprint(path) if os.path.isfile(path) else ""
        return load_image(path), contents

    def run(batch):
        convs, embeddings = see(batch, network, method, pairwise)
        return [None] * len(batch) if convs is None else convs, embeddings

    def finish(number, convs, embeddings, sizes):
        pair, path = pairs[number], folder / file_stem(number, pairs[number])
        images = [load_image(path) for path in pair] if pictures or along else None
        if along:
            seen = None if convs[0] is None else convs, embeddings
            maps = find_maps(images, network, method, pair, pairwise, seen)
        else:
            maps = compute_maps(convs, sizes, network, method, pair, pairwise, embeddings)
        if pictures:
            image_ops.save_image(f"{path}.jpg", draw(images, maps, look).picture())
        if save_maps:
            maps.save_maps(f"{path}.npz", settings)
        return [getattr(maps, name) for name in SCORES]

    def row(numbered):
        number, activations = numbered
        scores = [None] * len(SCORES)
        error = next((each.error for each in activations if each.error), "")
        try:
            if not error:
                convs, embeddings, sizes, *_ = zip(*activations, strict=True)
                scores = finish(number, convs, embeddings, sizes)
        except (ValueError, OSError, MemoryError) as raised:
            error = one_line(raised)
        scores = ["" if value is None else f"{value:.6f}" for value in scores]
        contents = [each.contents for each in activations]
        values = str(number), *pairs[number], *scores, error, *contents
        return dict(zip(FIELDS, values, strict=True))

    stream = partial(stream_activations, run=run, network=network, read=read)
    depends = {**settings, "files": endings, "weights": network.fingerprint()}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        rows = resume(folder, depends, pairs, endings)
        finished = {int(row["pair"]) for row in rows}
        left = {number: pair for number, pair in pairs.items() if number not in finished}
        if (along and network.derived) or not network.batch_independent:
            # each pair is a batch of its own, or its activations are too many to be kept
            new = stream((path for pair in left.values() for path in pair), batch_size=2)
            activations = ((number, (next(new), next(new))) for number in left)
        else:
            activations = _run_each_image(left, stream, batch_size or BATCH_SIZE, folder)
        progress = partial(tqdm, total=len(pairs), unit=" pairs", disable=None)
        # BLAS's own threads would wait for the next small product on the network's cores
        with open(folder / "scores.csv", "a", **TEXT) as file, threadpool_limits(1, "blas"):
            made = prefetch(row, activations, WAITING)
            for each in progress(made, initial=len(finished)):
                with errors_name(folder / "scores.csv"):
                    write_rows(file, [each])
                    file.flush()
                rows.append(each)
        rows.sort(key=lambda row: int(row["pair"]))
        write_scores(folder, rows)
        write_index(folder, rows, network_words(network, method), pictures)
        return rows, len(finished)


def _run_each_image(pairs, stream, batch_size, folder):
    """Yield (number, two Activations) of each pair, running each distinct image once.

    Activations that a later pair needs wait in a temporary file in the folder, of which the system
    keeps in memory what it can.
    """
    uses = Counter(path for pair in pairs.values() for path in pair)
    new = stream(list(uses), batch_size=batch_size)  # in the order of their first pairs
    kept, free = {}, []  # the places in the file of images' activations, and those without use
    with tempfile.TemporaryFile(dir=folder) as file:
        for number, pair in pairs.items():
            found = {}
            for path in dict.fromkeys(pair):
                if path in kept:
                    place, shape, rest = kept[path]
                    file.seek(place * math.prod(shape) * 4)
                    conv = np.fromfile(file, np.float32, math.prod(shape)).reshape(shape)
                    found[path] = Activations(conv, *rest)
                else:
                    found[path] = next(new)
            yield number, [found[path] for path in pair]
            uses.subtract(pair)
            for path, (conv, *rest) in found.items():
                if uses[path] and path not in kept:
                    place = free.pop() if free else len(kept)
                    kept[path] = place, conv.shape, rest
                    with errors_name(folder):
                        file.seek(place * conv.size * 4)
                        file.write(np.ascontiguousarray(conv, np.float32))
                        file.flush()
                elif not uses[path] and path in kept:
                    free.append(kept.pop(path)[0])
