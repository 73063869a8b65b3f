"""Local features of any network: what each position of its activations adds to its embedding.

With x an image's activations, r those of a reference, and F the network from there on:

    F(x) = F(r) + sum_u l[u]
    l[u] = integral over a in 0..1 of J_u(r + a (x - r)) da (x_u - r_u)

where J_u is the derivative of F by the activations at position u: integrated gradients of all
numbers of the embedding at once (Moeller, Nikolaev, Pado, EMNLP 2023).  Gauss-Legendre nodes take
the integral.  If F is its value at zero plus something that grows in proportion to x, as a mixture
of poolings is, one derivative is exact (Euler's theorem).
"""

import warnings

import numpy as np
import tensorflow as tf

from files import progress_bar

NODES = (8, 16, 32, 64, 128)
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

    A UserWarning says so if the gap is larger even with 128 nodes.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    >>> local, constant = integrate(lambda x: tf.reduce_sum(x**2, 1), x, 0 * x)
    >>> local.round(3)
    array([[1., 4.],
           [9., 0.]])
    """
    ends = _evaluate(function, np.stack([activations, reference]))
    size = np.linalg.norm(ends[0]) or 1.0
    trial = directions
    if directions is None:  # enough to see whether the nodes are
        random = np.random.default_rng(0).standard_normal(ends.shape[1])
        trial = np.stack([ends[0] / size, random / np.linalg.norm(random)])
    for nodes in NODES:
        points, weights = _path(activations, reference, nodes)
        local = _backward(function, points, weights, activations - reference, trial)
        gap = trial @ (ends[0] - ends[1]) - local.reshape(-1, len(trial)).sum(0)
        gap = np.linalg.norm(gap) / size
        if gap <= tolerance:
            break
    else:
        warnings.warn(
            f"network: with {nodes} nodes the local features' sum is still {gap:.1e} of the "
            "embedding away from it; a later layer= is easier to integrate from",
            stacklevel=2,
        )
    if directions is None:
        return _all_directions(function, points, weights, activations - reference), ends[1]
    return local, directions @ ends[1]


def differentiate(function, activations, directions=None):
    """Return (local, constant) as `integrate` does, where the sum of one derivative is exact.

    That is, where F(a x) = F(0) + a (F(x) - F(0)) for all a > 0.

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
    local = _backward(function, points, weights, activations, directions)
    return local, directions @ constant


def _path(activations, reference, nodes):
    """Return points between a reference and activations, (nodes, *positions, C), and weights."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    places = ((places + 1) / 2).astype(np.float32).reshape(-1, *(1,) * activations.ndim)
    return reference + places * (activations - reference), weights / 2


def _evaluate(function, points):
    return np.asarray(function(tf.constant(points)), np.float64)


def _all_directions(function, points, weights, step):
    count, dimensions = step[..., 0].size, function(tf.constant(points[:1])).shape[1]
    # a forward pass also computes the values again that backward passes share
    backward = dimensions <= 2 * count
    passes = (dimensions if backward else count) * len(points)
    with progress_bar("local features", passes, unit="passes") as advance:
        if backward:
            return _backward(function, points, weights, step, np.eye(dimensions), advance)
        return _forward(function, points, weights, step, advance)


def _backward(function, points, weights, step, directions, advance=lambda count: None):
    """Return sum_i weights[i] <directions J_u(points[i]), step_u> for each u, (*positions, K)."""
    total = np.zeros((*step.shape[:-1], len(directions)))
    at_once = max(1, NUMBERS_AT_ONCE // step.size)
    directions = tf.constant(directions, tf.float32)
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
                product = product.sum(-1)
                total[..., k] += np.tensordot(weights[start : start + at_once], product, 1)
            advance(len(some))
    return total


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
