"""Are matches true? On photographs whose geometry is known, and by telling right pairs from wrong.

The photographs come with Debian's package opencv-doc: two of one wall with the homography between
them (graf, of Mikolajczyk and Schmid), and a stereo pair with its disparity (aloe, of Middlebury).
"""

import re
from pathlib import Path

import numpy as np
import tensorflow as tf

from evaluation import measures
from evaluation.focus import room_of, same_pairs
from evaluation.rivals import cosines
from evaluation.tables import figure
from simvis.image_ops import load_image
from simvis.similarity_ops import mutual_matches, mutual_neighbours

FOLDER = Path("/usr/share/doc/opencv-doc/examples/data")  # where the package has them
SIZES, MOST = (224, 448, 896), 56  # of inputs, and of cells in a row
NEAR = 1.5  # cells from the true place
BEST, FEWEST = 10, 8  # matches that cover a map, and without which there is no homography
JUDGED = (
    "near to one homography",
    "the ten best cover the maps",
    "number of matches",
    "cosine of the matches",
    "similarity itself",
)


def load_photographs(folder=FOLDER):
    """Return the pairs in a folder, a dict of what they are to (image1, image2, place).

    Images are RGB uint8 (H, W, 3), and place is a function from places in the first to the second:
    float (n, 2), x and y in widths and heights of their image, NaN where it is not known.  Raises
    an OSError or a ValueError if a file is missing, or is not what it should be.
    """
    names = "graf1.png", "graf3.png", "aloeL.jpg", "aloeR.jpg", "aloeGT.png"
    wall1, wall2, left, right, disparity = (load_image(folder / name) for name in names)
    text = (folder / "H1to3p.xml").read_text("ascii", errors="replace")
    found = re.search(r"<data>([-+.\deE\s]*)</data>", text)
    numbers = found[1].split() if found else []
    if len(numbers) != 9 or disparity.shape != left.shape:
        words = "H1to3p.xml must hold nine numbers, and aloeGT.png be as large as aloeL.jpg"
        raise ValueError(f"{folder}: {words}")
    matrix = np.array(numbers, float).reshape(3, 3)
    height, width, _ = left.shape

    def on_the_wall(places):  # the homography is of pixels, (0, 0) being the centre of the first
        pixels = np.insert(places * wall1.shape[1::-1] - 0.5, 2, 1, axis=1) @ matrix.T
        return (pixels[:, :2] / pixels[:, 2:] + 0.5) / wall2.shape[1::-1]

    def to_the_left(places):  # by the disparity in pixels, in which 0 is unknown
        x, y = (places * (width, height)).astype(int).T
        shift = np.where(disparity[y, x, 0] > 0, disparity[y, x, 0] / width, np.nan)
        return places - np.stack([shift, 0 * shift], axis=1)

    return {
        "one wall": (wall1, wall2, on_the_wall),
        "a stereo pair": (left, right, to_the_left),
    }


def photograph_matches(subject, image1, image2, place):
    """Measure several kinds of matches on a pair of photographs, see `load_photographs`.

    Returns a dict of (kind, grid) to str: the share that is right, of how many, and the share of
    the ten that add most.  A grid finer than the last layer's has that interpolated, also for what
    a pair adds.
    """
    cells, batch = {}, subject.preprocess([image1, image2])
    layers = {32: subject.run(batch)}  # what the last layer of each stride puts out
    layers |= {stride: subject.parts(stride)[0](batch) for stride in (16, 8)}
    for stride in layers:
        shape = [side // stride for side in subject.size]
        if max(shape) > MOST:
            continue
        fitted = {each: tf.image.resize(of, shape).numpy() for each, of in layers.items()}
        units = {each: _units(of) for each, of in fitted.items()}

        def mutual(*strides, units=units):
            return mutual_neighbours(*np.concatenate([units[each] for each in strides], -1))[0]

        kinds = {}
        if stride == 32:
            for name, features in (("what they add", fitted[32]), ("cosine", units[32])):
                one, other = features.reshape(2, -1, features.shape[-1])
                numbers = np.arange(len(one)), (one @ other.T).argmax(axis=1)
                axes = [axis for each in numbers for axis in np.unravel_index(each, shape)]
                kinds[f"nearest by {name}, one way"] = np.stack(axes, axis=1)
        kinds["mutual, last layer"] = mutual(32)
        if stride < 32:
            kinds["mutual, this grid's layer"] = mutual(stride)
            kinds["mutual, both layers"] = mutual(32, stride)
            down = [each for each in layers if each >= stride]
            kinds["mutual, the layers of all strides down to it"] = mutual(*down)
        for kind, found in kinds.items():
            name = "{}x{} of {}x{} pixels".format(*shape, *subject.size)
            cells[kind, name] = _score(place, found, shape, fitted[32])
    return cells


def telling_apart(subject, views, tolerance=0.003):
    """Measure whether matches tell pairs of one room from pairs of different rooms.

    Each pair of views of a room stands against a pair of different rooms, from different sides as
    well, of the same similarity to within the tolerance, each of which is used once (as PAIR-X is
    judged: Shrack et al., "Pairwise matching of intermediate representations for fine-grained
    explainability", 2025).

    Returns a dict of (measure, network) to Figure, the share of cases in which the pair of one room
    has the better value, equal ones for a half.  The similarity itself is to be at 0.5.
    """
    cases = _equally_similar(subject, views, tolerance)
    cells = {("cases", subject.name): str(len(cases))}
    if cases:
        rooms = [room_of(right[0]) for right, _ in cases]
        values = [[_judge(subject, *pair) for pair in case] for case in cases]
        one, other = np.moveaxis(np.array(values), 1, 0)
        wins = ((one > other) + 0.5 * (one == other)).T
        for measure, values in zip(JUDGED, wins, strict=True):
            cells[measure, subject.name] = figure(np.mean, rooms, values)
    return cells


def _judge(subject, view1, view2):
    """Return the values by which a pair is JUDGED; larger ones speak for it."""
    convs = subject.conv(view1), subject.conv(view2)
    cells, _, alike = mutual_matches(*convs, projection=subject.head, data_format="channels_last")
    sides, maps = (cells[:, :2], cells[:, 2:]), subject.maps(view1, view2)
    places = [_centres(side, subject.grid) for side in sides]
    far = measures.homography_residual(*places) if len(cells) >= FEWEST else np.inf
    pairs = zip(maps, sides, strict=True)
    covered = np.mean([measures.coverage(similarity, side[:BEST]) for similarity, side in pairs])
    return -far, covered, len(cells), alike.sum() / max(len(cells), 1), maps[0].sum()


def _equally_similar(subject, views, tolerance):
    """Return ((view, view) of a room, (view, view) of two rooms) of nearly equal similarity."""
    similarities = cosines(*[subject.embeddings(views)] * 2)
    rooms, sides = np.array([(view.labels["room"], view.number) for view in views]).T
    first, second = np.triu_indices(len(views), 1)
    wrong = (rooms[first] != rooms[second]) & (sides[first] != sides[second])
    first, second = first[wrong], second[wrong]
    left, cases = similarities[first, second], []
    for right in same_pairs(views):
        gaps = np.abs(left - similarities[views.index(right[0]), views.index(right[1])])
        nearest = gaps.argmin()
        if gaps[nearest] <= tolerance:
            cases.append((right, (views[first[nearest]], views[second[nearest]])))
            left[nearest] = np.inf
    return cases


def _units(features):
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(norms > 0, norms, 1)


def _centres(cells, shape):
    """Return the places of cells, int (n, 2) of (y, x), as float (n, 2) of (x, y)."""
    return ((cells + 0.5) / shape)[:, ::-1]


def _score(place, cells, shape, features):
    away = place(_centres(cells[:, :2], shape)) - _centres(cells[:, 2:], shape)
    distances = np.linalg.norm(away * shape[::-1], axis=1)
    one, other = features[0][tuple(cells[:, :2].T)], features[1][tuple(cells[:, 2:].T)]
    distances = distances[np.argsort(-(one * other).sum(axis=1), kind="stable")]
    right = distances[np.isfinite(distances)] <= NEAR
    if not len(right):
        return "none"
    return f"{right.mean():.2f} of {len(right)}, {right[:BEST].mean():.2f}"
