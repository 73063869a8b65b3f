"""How good a map is: plain numpy, from maps and masks to shares, areas and intervals.

A *map* is a real (h, w) array over the cells of an image, an *object image* an integer (H, W) array
that says which object each pixel shows.  Intervals are over rooms, since pairs of one room are not
independent of each other.
"""

import numpy as np

from simvis.image_ops import region_weights, upsample_map


def mass_by_object(similarity, objects, count):
    """Return which share of a map's positive values lies on each object.

        mass[k] = sum of max(map, 0) over the pixels of object k / the same over all pixels

    The map is interpolated to the pixels of the object image, integers in 0..count - 1; any others
    raise a ValueError.  The result, float64 (count,), sums to 1, or is all zero if no value of the
    map is positive.

    >>> objects = np.array([[0, 0, 1, 1]])
    >>> mass_by_object([[-1.0, 0.0, 1.0, 2.0]], objects, 3)
    array([0., 1., 0.])
    """
    low, high = np.min(objects), np.max(objects)
    if low < 0 or high >= count:
        raise ValueError(f"objects: expected numbers in 0..{count - 1}, got {low}..{high}")
    positive = upsample_map(similarity, np.shape(objects)).clip(0)
    mass = np.bincount(np.ravel(objects), positive.ravel(), count)
    total = mass.sum()
    return mass / total if total > 0 else np.zeros(count)


def mass_on(similarity, mask):
    """Return which share of a map's positive values lies on a mask, bool (H, W)."""
    return mass_by_object(similarity, np.asarray(mask, int), 2)[1]


def sum_by_object(similarity, objects, count):
    """Return how much of a map's sum lies on each object, float64 (count,).

    The map is interpolated to the pixels, each of which counts for its part of a cell, so that the
    sums of a pair's map are in units of the cosine.

    >>> sum_by_object([[-1.0, 2.0]], np.array([[0, 0, 1, 1]]), 2)
    array([-0.625,  1.625])
    """
    values = upsample_map(similarity, np.shape(objects)) * (np.size(similarity) / np.size(objects))
    return np.bincount(np.ravel(objects), values.ravel(), count)


def area_by_object(objects, count):
    """Return which share of an image's pixels shows each object, float64 (count,).

    >>> area_by_object(np.array([[0, 0, 1, 1]]), 3)
    array([0.5, 0.5, 0. ])
    """
    return np.bincount(np.ravel(objects), minlength=count) / np.size(objects)


def lift(mass, area):
    """Return the sum of an object's mass in n maps over the sum of its areas: 1 for flat maps.

    It is the ratio of the sums, so that a sliver of an object, whose own ratio may be anything,
    weighs as little as it is.

    >>> float(lift(np.array([0.5, 0.25]), np.array([0.125, 0.125])))
    3.0
    """
    return np.sum(mass) / np.sum(area)


def peak_on(similarity, mask):
    """Return whether the highest value of a map, interpolated to the mask's pixels, lies on it.

    This is the pointing game (Zhang et al., "Top-down neural attention by excitation backprop",
    ECCV 2016) without its 15 pixels of tolerance.

    >>> peak_on([[0.0, 3.0]], np.array([[False, False, True, True]]))
    True
    """
    upsampled = upsample_map(similarity, mask.shape)
    return bool(np.asarray(mask)[np.unravel_index(upsampled.argmax(), mask.shape)])


def cell_on(similarity, mask):
    """Return whether the highest cell of a map shows any of a mask.

    This is the pointing game with the tolerance that a map has by its resolution.

    >>> mask = np.array([[False, False, False, True]])
    >>> cell_on([[0.0, 3.0]], mask), peak_on([[0.0, 3.0]], mask)
    (True, True)
    >>> cell_on([[0.0, 3.0, 1.0]], mask)
    False
    """
    shown = region_weights(mask, np.shape(mask), np.shape(similarity))
    return bool(shown.flat[np.argmax(similarity)] > 0)


def rank_of_first(similarities, relevant):
    """Return how many of a gallery come before each query's first relevant entry, int (Q,).

    Both arrays are (Q, G), of Q queries and G entries; a similarity of -inf takes an entry out.
    Raises a ValueError for a query without a relevant entry.

    >>> rank_of_first([[0.9, 0.5, 0.7]], [[False, True, True]])  # recall@1 is the share of zeros
    array([1])
    """
    similarities, relevant = np.asarray(similarities, np.float64), np.asarray(relevant, bool)
    if not relevant.any(axis=1).all():
        raise ValueError("relevant: expected at least one relevant entry for each query")
    best = np.where(relevant, similarities, -np.inf).max(axis=1)
    return ((similarities >= best[:, None]) & ~relevant).sum(axis=1)


def average_precision(similarities, relevant):
    """Return each query's average precision, float64 (Q,) in 0..1; their mean is the mAP.

        AP = mean, over the relevant entries, of the share of relevant entries up to it

    Parameters and errors are those of `rank_of_first`.

    >>> average_precision([[0.9, 0.8, 0.7]], [[True, False, True]])  # (1/1 + 2/3) / 2
    array([0.83333333])
    """
    similarities, relevant = np.asarray(similarities, np.float64), np.asarray(relevant, bool)
    rank_of_first(similarities, relevant)
    order = np.argsort(-similarities, axis=1, kind="stable")
    found = np.take_along_axis(relevant, order, axis=1)
    precision = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
    return (precision * found).sum(axis=1) / found.sum(axis=1)


def rank_correlation(first, second):
    """Return Spearman's rank correlation of two arrays of one shape, 0 if one of them is constant.

    A constant orders nothing, so it says nothing of the other's order.

    >>> rank_correlation([1, 2, 3, 4], [10, 30, 20, 40])
    0.8
    >>> rank_correlation([1, 2, 3, 4], [5, 5, 5, 5])
    0.0
    """
    first, second = (_centred_ranks(np.ravel(values)) for values in (first, second))
    norm = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / norm) if norm > 0 else 0.0


def _centred_ranks(values):
    # tied values share the mean of their ranks; scipy's rankdata takes ten times as long
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks - ranks.mean()


def interval(statistic, rooms, *columns, repeats=500, seed=0):
    """Return the 95% bootstrap interval of a statistic, over rooms.

    Rooms are drawn with replacement, each with all of its rows, and the statistic, a function of
    the rows of the columns (n, ...), is taken anew.  The result is the 2.5 and 97.5 percentiles
    (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13; the data are
    clusters, so clusters are drawn).

    >>> interval(np.mean, ["a", "a", "b"], np.array([1.0, 1.0, 1.0]))
    (1.0, 1.0)
    """
    _, room_of = np.unique(np.asarray(rooms), return_inverse=True)
    members = np.split(np.argsort(room_of, kind="stable"), np.cumsum(np.bincount(room_of))[:-1])
    columns = [np.asarray(column) for column in columns]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[room] for room in drawn])
        values.append(statistic(*(column[rows] for column in columns)))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def covering_steps(similarity, steps):
    """Return which of a map's n cells are covered after each of so many equal steps.

    The result is bool (steps + 1, n), cells row by row, those of the highest values first.

    >>> covering_steps([[0.3, 0.2], [0.4, 0.1]], 2).astype(int)
    array([[0, 0, 0, 0],
           [1, 0, 1, 0],
           [1, 1, 1, 1]])
    """
    rank = np.argsort(np.argsort(-np.ravel(similarity), kind="stable"))
    return rank < np.linspace(0, len(rank), steps + 1).round()[:, None]


def area_under(curve):
    """Return the mean height of a curve over equal steps, by the trapezium rule.

    With the cosine after covering more and more cells, from the map's highest on, it is the
    *deletion* area (low is good); after uncovering them, the *insertion* area (high is good):
    Petsiuk, Das and Saenko, "RISE", BMVC 2018.

    >>> area_under([1.0, 0.5, 0.0])
    0.5
    """
    curve = np.asarray(curve, np.float64)
    return float((curve[:-1] + curve[1:]).mean() / 2)


def coverage(similarity, cells):
    """Return which share of a map's positive values its distinct cells, int (n, 2), hold.

    >>> coverage([[-1.0, 1.0, 3.0]], [(0, 2), (0, 2)])
    0.75
    """
    positive = np.clip(similarity, 0, None)
    chosen = np.zeros(positive.shape, bool)
    chosen[tuple(np.reshape(cells, (-1, 2)).T)] = True
    total = positive.sum()
    return float(positive[chosen].sum() / total) if total > 0 else 0.0


def homography_residual(places1, places2, draws=500, seed=0):
    """Return how far matches are from one homography: the least median distance over homographies.

    That is Rousseeuw's least median of squares ("Least median of squares regression", 1984), over
    the homographies of four matches each, drawn at random.  It does not see which matches are wrong
    as long as they are fewer than half.

    places1, places2 : float (n, 2) arrays, n >= 4, of about 0..1, which the distance is of, too

    >>> places = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5]])
    >>> bool(homography_residual(places, 2 * places + 1) < 1e-9)
    True
    """
    places1, places2 = np.asarray(places1, float), np.asarray(places2, float)
    rng = np.random.default_rng(seed)
    drawn = np.argsort(rng.random((draws, len(places1))), axis=1)[:, :4]
    (x, y), (u, v) = (np.moveaxis(places[drawn], -1, 0) for places in (places1, places2))
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = [
        np.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], axis=-1),
        np.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], axis=-1),
    ]
    # each homography is what its eight equations send to zero
    matrices = np.linalg.svd(np.concatenate(rows, axis=1))[2][:, -1].reshape(-1, 3, 3)
    moved = matrices @ np.vstack([places1.T, np.ones(len(places1))])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        distances = np.linalg.norm(moved[:, :2] / moved[:, 2:] - places2.T, axis=1)
        return float(np.median(np.nan_to_num(distances, nan=np.inf), axis=1).min())
