"""How unusual a similarity is: its place among those of random pairs of a gallery's images."""

import numpy as np

SAMPLE = 2000  # images of which all pairs are looked at
STEPS = 1000  # between the lowest and the highest similarity that are kept
UNUSUAL = 99  # of 100 random pairs are less similar than what is unusual
LINE = f"unusual above this line: higher than {UNUSUAL} % of pairs"


def pair_quantiles(embeddings):
    """Return the quantiles of the cosines of all pairs of some images.

    Parameters
    ----------
    embeddings : float (N, D) array, of unit length

    Returns
    -------
    quantiles : list of 1001 float, not falling; empty if there are no two images

    Examples
    --------
    >>> quantiles = pair_quantiles(np.float32([[1, 0], [0, 1], [0.6, 0.8]]))
    >>> quantiles[0], quantiles[500], quantiles[1000]
    (0.0, 0.6, 0.8)
    """
    if len(embeddings) < 2:
        return []
    embeddings = np.asarray(embeddings, np.float32)
    cosines = (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]
    found = np.quantile(cosines.astype(np.float64), np.linspace(0, 1, STEPS + 1))
    return found.round(6).tolist()


def percentile(similarity, quantiles):
    """Return how many in 100 random pairs are less similar, 0..100, or None if nobody knows.

    Examples
    --------
    >>> percentile(0.7, pair_quantiles(np.float32([[1, 0], [0, 1], [0.6, 0.8]])))
    75.0
    """
    if not quantiles:
        return None
    return float(np.interp(similarity, quantiles, np.linspace(0, 100, len(quantiles))).round(3))


def percentile_words(percent):
    """Return in words how unusual a similarity is, rounded down, "" if nobody knows.

    Examples
    --------
    >>> percentile_words(99.78), percentile_words(100.0), percentile_words(None)
    ('higher than 99.7 % of pairs', 'higher than 99.9 % of pairs', '')
    """
    if percent is None:
        return ""
    return f"higher than {min(np.floor(percent * 10) / 10, 99.9):.1f} % of pairs"


def count_unusual(hits):
    """Return after how many hits a ranking stops being unusual, None if nobody knows.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> count_unusual([SimpleNamespace(percentile=percent) for percent in (99.9, 99.2, 40.0)])
    2
    """
    if any(hit.percentile is None for hit in hits):
        return None
    return next((i for i, hit in enumerate(hits) if hit.percentile < UNUSUAL), len(hits))


def are_quantiles(values):
    """Return whether a gallery's values, of whatever kind, are `pair_quantiles`."""
    if values == []:
        return True
    if not isinstance(values, list) or len(values) != STEPS + 1:
        return False
    fit = all(type(value) in (int, float) and -2 < value < 2 for value in values)
    return fit and bool((np.diff(values) >= 0).all())
