"""What follows a network's activations: measured by calling it, in whatever framework it is.

A `Piece` is all that lies between two tensors of a network, of which the second depends on the
image through the first alone; here it is no more than a function of arrays.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


class NotLinear(ValueError):
    """Says which piece is no pooling, or neither linear nor a normalisation."""


@dataclass(frozen=True)
class Piece:
    """A function of float32 arrays (N, *shape), the last axis of which is the channels."""

    function: Callable
    shape: tuple
    name: str
    half: bool = False  # whether some of it is computed in half precision

    def __call__(self, values):
        """Run the piece; float64 out."""
        return np.asarray(self.function(np.asarray(values, np.float32)), np.float64)


def pooling_and_head(line, between, grid=None, prefix=0):
    """Return (pooling, power, projection) of what leads from activations to an embedding.

    Parameters
    ----------
    line : tensors with a `shape` (1, ...), the first being the activations (1, *positions, C), that
        all ways lead through, the embedding being the last
    between : function of two of them that returns the `Piece` between them
    grid, prefix : if some of the tokens are no places, the (h, w) of those that are, and how many
        stand before them

    Returns
    -------
    pooling, power : see `pooling_of`
    projection : None or (kernel (C, D), bias (D,)), but for a positive factor for each image, which
        a cosine does not see

    Raises a `NotLinear` that names what is something else.
    """
    channels = line[0].shape[-1]
    for i in range(1, len(line)):
        if math.prod(line[i].shape) != channels:
            continue
        first = between(line[0], line[i])
        if grid is not None and math.prod(grid) != line[0].shape[1]:
            first = _of_places(first, grid, prefix)
        pooled = pooling_of(first)
        if pooled is not None:
            tail = [between(*pair) for pair in zip(line[i:], line[i + 1 :], strict=False)]
            return *pooled, fold(tail, channels)
    raise NotLinear("no pooling of its positions was found")


def _of_places(piece, grid, prefix):
    """Return a piece as a function of the tokens that are places, all others being noise."""
    count, rng = math.prod(grid), np.random.default_rng(0)

    def function(values):
        tokens = rng.standard_normal((len(values), *piece.shape)).astype(np.float32)
        tokens[:, prefix : prefix + count] = values
        return piece.function(tokens)

    return replace(piece, function=function, shape=(count, piece.shape[-1]))


def pooling_of(piece, kinds=("average", "max")):
    """Return how a piece pools positions, ("average", None), ("max", None) or ("gem", power).

    Return None if it does something else.  Of a single position nothing tells a mean from a
    maximum, so that the first of the kinds is returned.
    """
    *sides, channels = piece.shape
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, *piece.shape)).astype(np.float32)
    pooled = piece(values)
    if pooled.size != 2 * channels:
        return None
    tolerance = 1e-2 if piece.half else 1e-4
    positions = tuple(range(1, values.ndim - 1))
    expected = {"average": values.mean(positions), "max": values.max(positions)}
    for kind in kinds:
        if np.allclose(pooled.reshape(2, channels), expected[kind], atol=tolerance):
            return kind, None
    power = _gem_power(piece, sides, channels)
    if power is None:
        return None
    exponents = rng.uniform(-2, 0, values.shape).astype(np.float32)
    expected = (10.0 ** (exponents * power)).mean(positions) ** (1 / power)
    pooled = piece(10.0**exponents).reshape(2, channels)
    return ("gem", power) if np.allclose(pooled, expected, rtol=10 * tolerance) else None


def _gem_power(piece, sides, channels):
    """Return p if a piece's mean of one 1 among N - 1 zeros is (1 / N)^(1 / p), else None."""
    count = int(np.prod(sides))
    values = np.zeros((1, count, channels), np.float32)
    values[:, 0] = 1
    mean = np.median(piece(values.reshape(1, *sides, channels)))
    if not 1 / count * (1 - 1e-3) <= mean < 1:
        return None
    power = max(np.log(count) / -np.log(mean), 1.0)
    rounding = (1e-2 if piece.half else 1e-4) * power
    return float(round(power)) if abs(power - round(power)) < rounding else float(power)


def fold(tail, channels):
    """Fold the pieces after the pooling into one (kernel (C, D), bias (D,)), or None for nothing.

    Positive factors, which a cosine does not see, are left out.  A `NotLinear` names the piece that
    is neither linear nor a normalisation.
    """
    kernel, bias, rescaled = np.eye(channels), np.zeros(channels), False
    for piece in tail:
        follow = affine_of(piece)
        offset = None if follow is None else follow(kernel, 0 * bias)[1]
        if follow is not None and not (rescaled and np.abs(offset).max() > 1e-6):
            kernel, bias = follow(kernel, bias)
            continue
        normal = normalization_of(piece)
        if normal is None or np.abs(normal.offset).max() > 1e-6:
            raise NotLinear(f"{piece.name} is neither linear nor a normalisation")
        kernel, bias, rescaled = normal.linear(kernel), normal.linear(bias[None])[0], True
    unchanged = kernel.shape[0] == kernel.shape[1] and np.allclose(kernel, np.eye(channels))
    return None if unchanged and not bias.any() else (kernel, bias)


def affine_of(piece):
    """Return a function of (kernel, bias), what a piece maps them to, if it is affine, else None.

    Of a piece of many numbers, as of 21,841 classes, no matrix is made.
    """
    size = int(np.prod(piece.shape))
    zero = piece(np.zeros((1, *piece.shape))).ravel()

    def linear(values):
        # Of large inputs, so that the offset costs no digits; a power of two costs none.
        large = 2.0 ** (12 - np.ceil(np.log2(np.abs(values).max() or 1)))
        found = piece((large * values).reshape(-1, *piece.shape)).reshape(len(values), -1)
        return (found - zero) / large

    values = np.random.default_rng(0).standard_normal((16, size))
    slopes = linear(values)
    if not np.isfinite(slopes).all():  # as of v / |v|, which has no value at zero
        return None
    relative = 1e-2 if piece.half else 1e-3
    for scale, turn in ((1e-2, 0), (1.0, 0), (1e2, 0), (1.0, 1), (-1.0, 3)):
        # sums of two of them tell what grows in proportion, as ReLU does, from what is linear
        mixed, expected = values, slopes
        if turn:
            mixed, expected = (each + np.roll(each, turn, 0) for each in (values, slopes))
        found = piece(scale * mixed.reshape(16, *piece.shape)).reshape(16, -1)
        expected = scale * expected + zero
        tolerance = relative / 10 * np.abs(expected).max()
        if not np.allclose(found, expected, rtol=relative, atol=tolerance):
            return None
    return lambda kernel, bias: (linear(kernel), linear(bias[None])[0] + zero)


@dataclass(frozen=True)
class Normalization:
    """What maps v to offset + scale(v) * linear(v), with a number scale(v) > 0 for each vector."""

    linear: Callable  # of float64 (N, C) arrays, or tensors
    offset: object  # an array or a tensor (C,), or a number


def normalization_of(piece):
    """Return the `Normalization` that a piece is, measured, else None.

    Linear is nothing at all, or weights after the mean is taken away, or without that, as layer
    norm and RMS norm have them.
    """
    values = np.random.default_rng(0).standard_normal((1, int(np.prod(piece.shape))))
    if piece(values.reshape(1, *piece.shape)).size != values.size:
        return None
    offset = piece(np.zeros((1, *piece.shape))).ravel()
    offset = offset if np.isfinite(offset).all() else 0.0  # as of v / |v|

    def centred(vectors):
        return vectors - vectors.mean(-1, keepdims=True)

    for linear in (lambda vectors: vectors, centred):
        found = piece(values.reshape(1, *piece.shape)).ravel() - offset
        weights = found / linear(values)[0]
        for weight in (1.0, weights / (np.abs(weights).max() or 1)):

            def weighed(vectors, linear=linear, weight=weight):
                return linear(vectors) * weight

            if rescales(piece, weighed, offset):
                return Normalization(weighed, offset)
    return None


def rescales(piece, linear=lambda values: values, offset=0.0):
    """Return whether a piece multiplies each of its vectors by some positive number.

    Or else what a linear function, of a float64 array (N, C), makes of them, before it adds an
    offset.
    """
    size = int(np.prod(piece.shape))
    tolerance = 1e-2 if piece.half else 1e-4
    for scale in (1e-2, 1.0, 1e2):
        values = scale * np.random.default_rng(0).standard_normal((16, size))
        found = piece(values.reshape(16, *piece.shape)).reshape(16, -1) - offset
        expected = linear(values)
        if found.shape != expected.shape:
            return False
        factor = (found * expected).sum(1) / (expected * expected).sum(1)
        if not (factor > 0).all() or not np.allclose(
            found, factor[:, None] * expected, atol=tolerance * np.abs(found).max()
        ):
            return False
    return True
