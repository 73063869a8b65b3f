"""Are matches true? On photographs whose geometry is known, and by telling right pairs from wrong.

The photographs come with Debian's package opencv-doc: two of one wall with the homography between
them (graf, of Mikolajczyk and Schmid), and a stereo pair with its disparity (aloe, of Middlebury).
"""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from evaluation import measures
from evaluation.focus import room_of, same_pairs
from evaluation.rivals import cosines
from evaluation.tables import figure
from simvis.image_ops import load_image
from simvis.models.efficientnet_lite0 import build_folded
from simvis.similarity_ops import mutual_matches, mutual_neighbours

FOLDER = Path("/usr/share/doc/opencv-doc/examples/data")  # where the package has them
SIZES, MOST = (224, 448, 896), 56  # of inputs, and of cells in a row
LAST_BLOCKS = {16: 10, 8: 4}  # of EfficientNet-Lite0, by the stride of what they put out
NEAR = 1.5  # cells from the true place
BEST, FEWEST = 10, 8  # matches that cover a map, and without which there is no homography


class Photographs(NamedTuple):
    """Two images, RGB uint8 (H, W, 3), and a function from places in the first to the second.

    Places are float (n, 2), x and y in widths and heights of their image; NaN is unknown.
    """

    image1: np.ndarray
    image2: np.ndarray
    place: object


def load_photographs(folder=FOLDER):
    """Return the pairs in a folder, a dict of what they are to Photographs.

    Raises an OSError or a ValueError if a file is missing, or is not what it should be.
    """
    wall = [load_image(folder / name) for name in ("graf1.png", "graf3.png")]
    aloe = [load_image(folder / name) for name in ("aloeL.jpg", "aloeR.jpg")]
    disparity = load_image(folder / "aloeGT.png")[..., 0]
    text = (folder / "H1to3p.xml").read_text("ascii", errors="replace")
    found = re.search(r"<data>([-+.\deE\s]*)</data>", text)
    numbers = found[1].split() if found else []
    if len(numbers) != 9 or disparity.shape != aloe[0].shape[:2]:
        words = "H1to3p.xml must hold nine numbers, and aloeGT.png be as large as aloeL.jpg"
        raise ValueError(f"{folder}: {words}")
    matrix = np.array(numbers, float).reshape(3, 3)
    sizes = [image.shape[1::-1] for image in wall]
    return {
        "one wall": Photographs(*wall, partial(_by_homography, matrix, *sizes)),
        "a stereo pair": Photographs(*aloe, partial(_by_disparity, disparity)),
    }


def photograph_matches(subject, photographs):
    """Measure several kinds of matches on a pair of Photographs.

    Returns a dict of (kind, grid) to str: the share that is right, of how many, and the share of
    the ten that add most.  On grids finer than the last layer's, what a pair adds is taken from
    the last layer, interpolated.
    """
    cells, layers = {}, _layers(subject, subject.preprocess(photographs[:2]))
    for stride in layers:
        shape = [side // stride for side in subject.size]
        if max(shape) > MOST:
            continue
        last, own = layers[32], layers[stride]
        adds = [_at(shape, features) for features in last]
        kinds = {}
        if stride == 32:
            products = np.einsum("yxc,vuc->yxvu", *last).reshape(shape[0] * shape[1], -1)
            units = np.einsum("yxc,vuc->yxvu", *map(_units, last)).reshape(products.shape)
            for name, values in (("what they add", products), ("cosine", units)):
                kinds[f"nearest by {name}, one way"] = _pairs(values.argmax(axis=1), shape)
        kinds["mutual, last layer"] = mutual_neighbours(*adds)[0]
        if stride < 32:
            kinds["mutual, this grid's layer"] = mutual_neighbours(*own)[0]
            kinds["mutual, both layers"] = _mutual_of(shape, last, own)
            within = [of for other, of in layers.items() if other >= stride]
            kinds["mutual, the layers of all strides down to it"] = _mutual_of(shape, *within)
            kinds["this grid's layer within mutual cells of the last"] = _within(last, own)
        for kind, found in kinds.items():
            name = "{}x{} of {}x{} pixels".format(*shape, *subject.size)
            cells[kind, name] = _score(photographs.place, found, shape, adds)
    return cells


def telling_apart(subject, views, tolerance=0.003, most=100):
    """Measure whether matches tell pairs of one room from pairs of different rooms.

    Each pair of views of a room stands against a pair of different rooms, from different sides as
    well, of the same similarity to within the tolerance, each of which is used once (as PAIR-X is
    judged: Shrack et al., "Pairwise matching of intermediate representations for fine-grained
    explainability", 2025).

    Returns a dict of (measure, network) to Figure, the share of cases in which the pair of one room
    has the better value, equal ones for a half: how near to one homography the matches are, how
    much of the maps the ten best cells cover, how many matches there are, how alike they are, and
    the similarity itself, which is to be at 0.5.
    """
    cases = _equally_similar(subject, views, tolerance)
    order = np.random.default_rng(0).permutation(len(cases))[:most]
    cases = [cases[index] for index in sorted(order)]
    cells = {("cases", subject.name): str(len(cases))}
    if cases:
        rooms = [room_of(right[0]) for right, _ in cases]
        rows = [[_match_values(subject, *pair) for pair in case] for case in cases]
        for name in rows[0][0]:
            one, other = np.array([[values[name] for values in row] for row in rows]).T
            wins = (one > other) + 0.5 * (one == other)
            cells[name, subject.name] = figure(np.mean, rooms, wins)
    return cells


def _match_values(subject, view1, view2):
    """Return the values of a pair by which it is judged, by name; larger ones speak for it."""
    convs = subject.conv(view1), subject.conv(view2)
    cells, _, alike = mutual_matches(*convs, projection=subject.head, data_format="channels_last")
    maps = subject.maps(view1, view2)
    places = [_centres(cells[:, side], subject.grid) for side in (slice(0, 2), slice(2, 4))]
    far = measures.homography_residual(*places) if len(cells) >= FEWEST else np.inf
    covered = [
        measures.coverage(similarity, cells[:BEST, side])
        for similarity, side in zip(maps, (slice(0, 2), slice(2, 4)), strict=True)
    ]
    return {
        "near to one homography": -far,
        "the ten best cover the maps": np.mean(covered),
        "number of matches": len(cells),
        "cosine of the matches": alike.mean() if len(cells) else 0,
        "similarity": maps[0].sum(),
    }


def _equally_similar(subject, views, tolerance):
    """Return ((view, view) of a room, (view, view) of two rooms) of nearly equal similarity."""
    similarities = cosines(*[subject.embeddings(views)] * 2)
    rooms, sides = np.array([(view.labels["room"], view.number) for view in views]).T
    first, second = np.triu_indices(len(views), 1)
    wrong = (rooms[first] != rooms[second]) & (sides[first] != sides[second])
    first, second = first[wrong], second[wrong]
    left, index, cases = similarities[first, second], {id(v): i for i, v in enumerate(views)}, []
    for right in same_pairs(views):
        gaps = np.abs(left - similarities[tuple(index[id(view)] for view in right)])
        nearest = gaps.argmin()
        if gaps[nearest] <= tolerance:
            cases.append((right, (views[first[nearest]], views[second[nearest]])))
            left[nearest] = np.inf
    return cases


def _layers(subject, batch):
    """Return what the last layer of each stride puts out, a dict of stride to (2, h, w, C)."""
    names, layers = list(subject.convolutions), {32: subject.run(batch).numpy()}
    for stride, block in LAST_BLOCKS.items():
        upto = names[: names.index(f"_blocks.{block}._project_conv") + 1]
        part = build_folded({name: subject.convolutions[name] for name in upto})
        layers[stride] = part(batch).numpy()
    return layers


def _at(shape, features):
    return tf.image.resize(features, shape).numpy()


def _units(features):
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(norms > 0, norms, 1)


def _mutual_of(shape, *layers):
    """Return the mutual matches by the mean cosine of several layers, interpolated to a grid."""
    stacked = [
        np.concatenate([_units(_at(shape, layer[i])) for layer in layers], axis=-1) for i in (0, 1)
    ]
    return mutual_neighbours(*stacked)[0]


def _within(coarse, fine):
    """Return the mutual matches of fine cells within each pair of coarse cells that match."""
    times, found = fine.shape[1] // coarse.shape[1], [np.zeros((0, 4), int)]
    for cells in mutual_neighbours(*coarse)[0] * times:
        parts = [
            features[y : y + times, x : x + times]
            for features, (y, x) in zip(fine, cells.reshape(2, 2), strict=True)
        ]
        found.append(mutual_neighbours(*parts)[0] + cells)
    return np.concatenate(found)


def _pairs(nearest, shape):
    """Return each cell with its nearest, a number counted row by row, as int (n, 4)."""
    numbers = np.arange(len(nearest)), nearest
    return np.stack([axis for each in numbers for axis in np.divmod(each, shape[1])], axis=1)


def _centres(cells, shape):
    """Return the places of cells, int (n, 2) of (y, x), as float (n, 2) of (x, y)."""
    return ((cells + 0.5) / shape)[:, ::-1]


def _score(place, cells, shape, adds):
    away = place(_centres(cells[:, :2], shape)) - _centres(cells[:, 2:], shape)
    distances = np.linalg.norm(away * shape[::-1], axis=1)
    contributions = (adds[0][tuple(cells[:, :2].T)] * adds[1][tuple(cells[:, 2:].T)]).sum(axis=1)
    order = np.argsort(-contributions, kind="stable")
    right = (distances <= NEAR)[order][np.isfinite(distances)[order]]
    if not len(right):
        return "none"
    return f"{right.mean():.2f} of {len(right)}, {right[:BEST].mean():.2f}"


def _by_homography(matrix, size1, size2, places):
    """Apply a homography of pixels, (0, 0) being the centre of the first one; sizes are (w, h)."""
    x, y, scale = matrix @ np.vstack([(places * size1 - 0.5).T, np.ones(len(places))])
    return (np.stack([x, y], axis=1) / scale[:, None] + 0.5) / size2


def _by_disparity(disparity, places):
    """Move places to the left by the disparity in pixels, in which 0 is unknown."""
    height, width = disparity.shape
    x, y = (places * (width, height)).astype(int).T
    shift = np.where(disparity[y, x] > 0, disparity[y, x] / width, np.nan)
    return places - np.stack([shift, 0 * shift], axis=1)
