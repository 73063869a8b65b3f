"""Local features of any network: what each position of its activations adds to its embedding.

With x an image's activations, r those of a reference, and F the network from there on:

    F(x) = F(r) + sum_u l[u]
    l[u] = integral over a in 0..1 of J_u(r + a (x - r)) da (x_u - r_u)

where J_u is the derivative of F by the activations at position u: integrated gradients of all
numbers of the embedding at once (Moeller, Nikolaev, Pado, EMNLP 2023).  The integral is taken at
Gauss-Legendre nodes, or, if F bends sharply, as at the threshold of a ReLU, at the midpoints of
intervals that are halved where it bends.  If F is its value at zero plus something that grows in
proportion to x, as a mixture of poolings is, one derivative is exact (Euler's theorem).
"""

import threading
import warnings

import numpy as np
import tensorflow as tf
from tqdm import tqdm

NODES = (8, 16, 32)
MOST_MIDPOINTS = 256
# How many numbers of activations go through the network at once; it keeps some tens of times as
# many for its derivatives.
NUMBERS_AT_ONCE = 2**21


def integrate(function, activations, reference, directions=None, tolerance=3e-5):
    """Return the local features of an image, and what is left for all positions to share.

    Parameters
    ----------
    function : function of a float32 tensor (B, *positions, C) -> float32 (B, D)
        Each of the B independent of the others, and differentiable.
    activations, reference : float32 (*positions, C) arrays
    directions : None or float (K, D) array with orthonormal rows
        Only the local features' components along these, for K backward passes a node; else all D
        components, for the cheaper of D backward passes and one forward pass for each position.
    tolerance : the gap that is small enough, of the sum, relative to the embedding

    Returns
    -------
    local : float64 (*positions, D or K) array
    constant : float64 (D or K,) array, F(r)

    A UserWarning says so if the gap stays larger.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    >>> local, constant = integrate(lambda x: tf.reduce_sum(x**2, 1), x, 0 * x)
    >>> local.round(3)
    array([[1., 4.],
           [9., 0.]])
    """
    step = activations - reference
    ends = _evaluate(function, np.stack([activations, reference]))
    size = np.linalg.norm(ends[0]) or 1.0
    trial = directions
    if directions is None:  # enough to see whether the nodes are
        random = np.random.default_rng(0).standard_normal(ends.shape[1])
        trial = np.stack([ends[0] / size, random / np.linalg.norm(random)])

    def points_at(places):
        return reference + places.astype(np.float32).reshape(-1, *(1,) * step.ndim) * step

    def values_at(places):
        return _evaluate(function, points_at(places)) @ trial.T

    def slopes_at(places):
        return _slopes(function, points_at(places), step, trial)

    for nodes in NODES:
        places, weights = np.polynomial.legendre.leggauss(nodes)
        places, weights = (places + 1) / 2, weights / 2
        slopes = slopes_at(places)
        gap = trial @ (ends[0] - ends[1]) - weights @ _sum_over_positions(slopes)
        gap = np.linalg.norm(gap) / size
        if gap <= tolerance:
            break
    else:
        places, weights, slopes, gap = _bisect(values_at, slopes_at, tolerance * size)
        if gap > tolerance * size:
            warnings.warn(
                f"network: with {MOST_MIDPOINTS} midpoints the local features' sum is still "
                f"{gap / size:.1e} of the embedding away from it; a later layer= is easier",
                stacklevel=2,
            )
    if directions is None:
        return _all_directions(function, points_at(places), weights, step), ends[1]
    return np.tensordot(weights, slopes, 1), directions @ ends[1]


def differentiate(function, activations, directions=None):
    """Return (local, constant) as `integrate` does, by one derivative, if that is exact.

    It is if F(a x) = F(0) + a (F(x) - F(0)) for all a > 0.

    Examples
    --------
    >>> x = np.array([[1.0, 4.0], [3.0, 4.0]], np.float32)
    >>> local, constant = differentiate(lambda x: tf.reduce_max(x, 1) + 1, x)
    >>> local  # the second channel's maximum is shared by two positions
    array([[0., 2.],
           [3., 2.]])
    """
    points, weights = activations[None], np.ones(1)
    constant = _evaluate(function, np.zeros_like(points))[0]
    if directions is None:
        return _all_directions(function, points, weights, activations), constant
    return _slopes(function, points, activations, directions)[0], directions @ constant


def _bisect(values_at, slopes_at, tolerance):
    """Return midpoints of intervals, their lengths and slopes, and the gap that they leave.

    Of each interval, the gap between the change of the values and what the slope makes of it is
    known; the intervals with the widest gaps are halved until the sum of all is small enough.
    """
    edges = np.linspace(0, 1, NODES[-1] + 1)
    values = values_at(edges)
    starts, ends, first, last = edges[:-1], edges[1:], values[:-1], values[1:]
    slopes, evaluated = slopes_at((starts + ends) / 2), len(starts)
    while True:
        gaps = last - first - (ends - starts)[:, None] * _sum_over_positions(slopes)
        gap, sizes = np.linalg.norm(gaps.sum(0)), np.linalg.norm(gaps, axis=1)
        if gap <= tolerance or evaluated >= MOST_MIDPOINTS:
            return (starts + ends) / 2, ends - starts, slopes, gap
        wide = np.flatnonzero(sizes > sizes.max() / 4)
        middles = (starts[wide] + ends[wide]) / 2
        halves = np.concatenate([starts[wide] + middles, middles + ends[wide]]) / 2
        new, between = slopes_at(halves), values_at(middles)
        evaluated += len(halves)
        starts = np.concatenate([np.delete(starts, wide), starts[wide], middles])
        first = np.concatenate([np.delete(first, wide, 0), first[wide], between])
        last = np.concatenate([np.delete(last, wide, 0), between, last[wide]])
        ends = np.concatenate([np.delete(ends, wide), middles, ends[wide]])
        slopes = np.concatenate([np.delete(slopes, wide, 0), new])


def _sum_over_positions(slopes):
    """Return the sum of slopes (B, *positions, K) over the positions, (B, K)."""
    return slopes.reshape(len(slopes), -1, slopes.shape[-1]).sum(1)


def _evaluate(function, points):
    """Return the values of a function, float64 (B, D)."""
    at_once = max(1, NUMBERS_AT_ONCE // points[0].size)
    some = (points[start : start + at_once] for start in range(0, len(points), at_once))
    return np.concatenate([np.asarray(function(tf.constant(each)), np.float64) for each in some])


def _all_directions(function, points, weights, step):
    count, dimensions = step[..., 0].size, function(tf.constant(points[:1])).shape[1]
    # a forward pass also computes the values again that backward passes share
    backward = dimensions <= 2 * count
    passes = (dimensions if backward else count) * len(points)
    # a thread of many has a bar above it that counts more than its own passes
    alone = threading.current_thread() is threading.main_thread()
    hidden = None if alone else True
    with tqdm(total=passes, desc="local features", unit=" passes", disable=hidden) as bar:
        if backward:
            return _backward(function, points, weights, step, np.eye(dimensions), bar.update)
        return _forward(function, points, weights, step, bar.update)


def _backward(function, points, weights, step, directions, advance):
    """Return sum_i weights[i] <directions, J_u(points[i]) step_u>, float64 (*positions, K)."""
    at_once, total = max(1, NUMBERS_AT_ONCE // step.size), 0
    for start in range(0, len(points), at_once):
        some = slice(start, start + at_once)
        slopes = _slopes(function, points[some], step, directions, advance)
        total = total + np.tensordot(weights[some], slopes, 1)
    return total


def _slopes(function, points, step, directions, advance=lambda count: None):
    """Return <directions, J_u(points[i]) step_u> for all i and u, float64 (B, *positions, K)."""
    at_once = max(1, NUMBERS_AT_ONCE // step.size)
    directions = tf.constant(directions, tf.float32)
    slopes = np.zeros((*points.shape[:-1], len(directions)))
    for start in range(0, len(points), at_once):
        some = tf.constant(points[start : start + at_once])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(some)
            output = function(some)
        for k in range(len(directions)):
            along = tf.broadcast_to(directions[k], output.shape)
            slope = tape.gradient(output, some, along)
            if slope is not None:
                product = (slope * step).numpy().astype(np.float64)
                # a root at zero has no slope, and a channel that is zero adds nothing
                product[~np.isfinite(product)] = 0
                slopes[start : start + at_once, ..., k] = product.sum(-1)
            advance(len(some))
    return slopes


def _forward(function, points, weights, step, advance):
    """Return sum_i weights[i] J_u(points[i]) step_u for each u, (*positions, D)."""
    *sides, channels = step.shape
    count = int(np.prod(sides))
    at_once = max(1, NUMBERS_AT_ONCE // step.size)
    rows, total = step.reshape(count, channels), 0
    for point, weight in zip(points, weights, strict=True):
        slopes = []
        for start in range(0, count, at_once):
            some = np.arange(start, min(start + at_once, count))
            tangents = np.zeros((len(some), count, channels), np.float32)
            tangents[np.arange(len(some)), some] = rows[some]
            values = tf.constant(np.repeat(point[None], len(some), 0))
            tangents = tf.constant(tangents.reshape(values.shape))
            with tf.autodiff.ForwardAccumulator(values, tangents) as accumulator:
                output = function(values)
            slopes.append(accumulator.jvp(output, tf.UnconnectedGradients.ZERO).numpy())
            advance(len(some))
        total = total + weight * np.concatenate(slopes).astype(np.float64)
    return total.reshape(*sides, -1)
