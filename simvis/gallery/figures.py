"""How well images of one label find each other: the retrieval figures of the field, exactly."""

import math
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

RECALLS = 1, 5, 10
FIGURES = *(f"recall@{count}" for count in RECALLS), "R-precision", "MAP@R"
BLOCK = 2**23  # similarities that are looked at at once
TURNS = 1000  # of the bootstrap


class Neighbours(NamedTuple):
    """What each of N images has for neighbours, among all of the others; see `find_neighbours`.

    values : float64 (N, 5) array, its `FIGURES`; NaN where no other image has its label
    stranger, own, farthest : int (N,) arrays
        The nearest image of another label, and the nearest and the farthest of its own; -1 for none
    to_stranger, to_own, to_farthest : float32 (N,) arrays, the similarities to them
    """

    values: np.ndarray
    stranger: np.ndarray
    own: np.ndarray
    farthest: np.ndarray
    to_stranger: np.ndarray
    to_own: np.ndarray
    to_farthest: np.ndarray


def find_neighbours(embeddings, labels):
    """Ask with each image for all of the others, and see where those of its label stand.

    With R others of its label, among the neighbours of an image, nearest first,

        recall@k    is 1 if one of the first k has its label, else 0
        R-precision is the share of its label in the first R
        MAP@R       is 1 / R times the sum, over those of the first R ranks i that hold its label,
                    of the share of its label in the first i

    (Musgrave, Belongie, Lim, "A metric learning reality check", ECCV 2020).  Of equally similar
    images the one with the lower number is nearer.

    Parameters
    ----------
    embeddings : float32 (N, D) array, of unit length
    labels : int (N,) array

    Returns
    -------
    neighbours : Neighbours

    Examples
    --------
    >>> embeddings = np.float32([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    >>> find_neighbours(embeddings, np.array([0, 0, 1, 0])).values[:, [0, 4]].round(2).tolist()
    [[1.0, 0.5], [0.0, 0.25], [nan, nan], [0.0, 0.25]]
    """
    labels, count = np.asarray(labels), len(embeddings)
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    ends = np.cumsum(sizes)
    values = np.full((count, len(FIGURES)), np.nan)
    places = np.full((3, count), -1)
    similarities = np.full((3, count), np.nan, np.float32)
    # labels of few images first, since so many neighbours must be put in order as a label has
    queries = order[np.argsort(sizes[labels[order]], kind="stable")]
    step = max(1, BLOCK // max(count, 1))
    starts = range(0, count if count > 1 else 0, step)
    for start in tqdm(starts, "neighbours", unit=" blocks", disable=None):
        block = queries[start : start + step]
        cosines = embeddings[block] @ embeddings.T
        rows = np.arange(len(block))
        cosines[rows, block] = -np.inf
        most = min(count - 1, max(RECALLS[-1], sizes[labels[block]].max() - 1))
        nearest = _nearest(cosines, most)
        for row, query in enumerate(block):
            label = labels[query]
            own = order[ends[label] - sizes[label] : ends[label]]
            own = own[own != query]
            if len(own):
                values[query] = _figures(labels[nearest[row]] == label, len(own))
                found = cosines[row, own]
                for place, at in ((1, found.argmax()), (2, found.argmin())):
                    places[place, query], similarities[place, query] = own[at], found[at]
            cosines[row, own] = -np.inf
        strangers = cosines.argmax(1)
        found = cosines[rows, strangers]
        places[0, block] = np.where(np.isfinite(found), strangers, -1)
        similarities[0, block] = np.where(np.isfinite(found), found, np.nan)
    return Neighbours(values, *places, *similarities)


def with_intervals(values, labels):
    """Return the mean of each figure, with its interval of 95 %, from a bootstrap over labels.

    Images of one label are alike, so that labels are drawn, with all of their images, and not
    images.

    Parameters
    ----------
    values : float64 (N, K) array, as of `Neighbours`
    labels : int (N,) array

    Returns
    -------
    figures : float64 (K, 3) array, of the mean and the ends of its interval

    Examples
    --------
    >>> with_intervals(np.array([[1.0], [1.0], [0.0], [0.0]]), [0, 0, 1, 1])[0].tolist()
    [0.5, 0.0, 1.0]
    """
    counted = ~np.isnan(values[:, 0])
    if not counted.any():
        return np.full((values.shape[1], 3), np.nan)
    _, labels = np.unique(np.asarray(labels)[counted], return_inverse=True)
    values, sizes = values[counted], np.bincount(labels)
    sums = np.stack([np.bincount(labels, column) for column in values.T], 1)
    rng, means = np.random.default_rng(0), []
    for _ in range(TURNS):
        drawn = np.bincount(rng.integers(0, len(sizes), len(sizes)), minlength=len(sizes))
        means.append(drawn @ sums / (drawn @ sizes))
    ends = np.quantile(means, [0.025, 0.975], axis=0)
    return np.stack([values.mean(0), *ends], 1)


def _nearest(cosines, count):
    """Return the count highest of each row, best first, and of equal ones the first: int (n,) each.

    The columns are dealt out to groups.  What is wanted of a row is no lower than the count-th
    highest of its groups' maxima, and so lies in the few groups that reach it.
    """
    columns = cosines.shape[1]
    size = math.isqrt(columns // count)  # so that all groups, and those few, are about as many
    if size < 2:
        return [np.argsort(-row, kind="stable")[:count] for row in cosines]
    groups = -(-columns // size)
    maxima = cosines[:, :groups].copy()
    for start in range(groups, columns, groups):
        part = cosines[:, start : start + groups]
        np.maximum(maxima[:, : part.shape[1]], part, out=maxima[:, : part.shape[1]])
    least = np.partition(maxima, groups - count, axis=1)[:, groups - count]
    rows, chosen = np.nonzero(maxima >= least[:, None])
    places = chosen[:, None] + groups * np.arange(size)
    values = cosines[rows[:, None], np.minimum(places, columns - 1)]
    reached, member = np.nonzero((values >= least[rows, None]) & (places < columns))
    rows, places, values = rows[reached], places[reached, member], values[reached, member]
    order = np.lexsort((places, -values, rows))
    ends = np.searchsorted(rows[order], np.arange(1, len(cosines)))
    return [found[:count] for found in np.split(places[order], ends)]


def _figures(hits, wanted):
    """Return the `FIGURES` of one query, by which of its neighbours, bool (n,), are hits."""
    found = np.cumsum(hits[:wanted])
    precisions = found * hits[:wanted] / np.arange(1, wanted + 1)
    first = min(np.flatnonzero(hits[: RECALLS[-1]]), default=RECALLS[-1])
    return *(first < count for count in RECALLS), found[-1] / wanted, precisions.sum() / wanted
