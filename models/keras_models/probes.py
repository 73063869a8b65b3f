"""What a piece of a network does: measured by calling it, whatever its name.

A piece is all that lies between two tensors of a graph, of which the second depends on the image
through the first alone.
"""

from dataclasses import dataclass

import keras
import numpy as np

from simvis.models.keras_models.graph import Tensor, layers, leading_to, named, run

HALF = ("float16", "bfloat16")
# Of a single position nothing else tells a mean from a maximum; of more, each of them is measured.
AVERAGES = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling1D)
MAXIMA = (keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling1D)


class NotLinear(ValueError):
    """Says which piece is no pooling, or neither linear nor a normalisation."""


@dataclass(frozen=True)
class Piece:
    steps: list
    source: Tensor
    target: Tensor

    def __call__(self, values):
        """Run the piece on other values; float64 out."""
        values = keras.ops.convert_to_tensor(values, dtype=self.source.dtype)
        target = run(self.steps, {self.source: values})[self.target]
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(target, "float32")), np.float64)

    @property
    def operation(self):
        """The only one, else None."""
        return self.steps[0].operation if len(self.steps) == 1 else None

    @property
    def name(self):
        return named(self.target.operation)

    @property
    def half(self):
        return self.source.dtype in HALF or is_half(self.steps)


def is_half(steps):
    """Return whether some of the steps compute in half precision, or with quantized numbers."""
    return any(
        any(each.dtype in HALF for each in step.outputs)
        or any(
            getattr(getattr(layer, "dtype_policy", None), "quantization_mode", None)
            for layer in (step.operation, *(each for _, each in layers(step.operation)))
        )
        for step in steps
    )


def pieces(steps, tensors):
    """Return the pieces between tensors that follow each other."""
    return [
        Piece(leading_to(steps, [target], [source]), source, target)
        for source, target in zip(tensors, tensors[1:], strict=False)
    ]


def pooling_of(piece):
    """Return how a piece pools positions, ("average", None), ("max", None) or ("gem", power).

    Return None if it does something else.
    """
    channels = piece.source.shape[-1]
    sides = piece.source.sides
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, *sides, channels)).astype(np.float32)
    pooled = piece(values)
    if pooled.size != 2 * channels:
        return None
    tolerance = 1e-2 if piece.half else 1e-4
    positions = tuple(range(1, values.ndim - 1))
    kinds = [("average", values.mean(positions)), ("max", values.max(positions))]
    for kind, expected in reversed(kinds) if isinstance(piece.operation, MAXIMA) else kinds:
        if np.allclose(pooled.reshape(2, channels), expected, atol=tolerance):
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
    is neither linear nor a normalisation, a ValueError one that has weights that are NaN.
    """
    kernel, bias, rescaled = np.eye(channels), np.zeros(channels), False
    for piece in tail:
        for step in piece.steps:
            if not all(
                np.isfinite(_float64(w)).all() for w in getattr(step.operation, "weights", ())
            ):
                raise ValueError(f"model: the weights of {named(step.operation)} are not finite")
        follow = affine_of(piece)
        offset = None if follow is None else follow(kernel, 0 * bias)[1]
        if follow is not None and not (rescaled and np.abs(offset).max() > 1e-6):
            kernel, bias = follow(kernel, bias)
        elif rescales(piece):
            rescaled = True
        else:
            raise NotLinear(f"{piece.name} is neither linear nor a normalisation")
    unchanged = kernel.shape[0] == kernel.shape[1] and np.allclose(kernel, np.eye(channels))
    return None if unchanged and not bias.any() else (kernel, bias)


def affine_of(piece):
    """Return a function of (kernel, bias), what a piece maps them to, if it is affine, else None.

    Of a piece of many numbers, as of 21,841 classes, no matrix is made.
    """
    shape, layer = piece.source.shape[1:], piece.operation
    size = int(np.prod(shape))
    if isinstance(layer, keras.layers.LayerNormalization):
        # without an offset it centres, weighs and rescales by a positive number: a linear map
        gamma = 1.0 if layer.gamma is None else _float64(layer.gamma)

        def centre(values):
            return (values - values.mean(-1, keepdims=True)) * gamma

        if np.size(gamma) in (1, size) and rescales(piece, centre):
            return lambda kernel, bias: (centre(kernel), centre(bias))
    zero = piece(np.zeros((1, *shape))).ravel()

    def linear(values):
        # Of large inputs, so that the offset costs no digits; a power of two costs none.
        large = 2.0 ** (12 - np.ceil(np.log2(np.abs(values).max() or 1)))
        found = piece((large * values).reshape(-1, *shape)).reshape(len(values), -1)
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
        found = piece(scale * mixed.reshape(16, *shape)).reshape(16, -1)
        expected = scale * expected + zero
        tolerance = relative / 10 * np.abs(expected).max()
        if not np.allclose(found, expected, rtol=relative, atol=tolerance):
            return None
    return lambda kernel, bias: (linear(kernel), linear(bias[None])[0] + zero)


def rescales(piece, linear=lambda values: values, offset=0.0):
    """Return whether a piece multiplies each of its vectors by some positive number.

    Or else what a linear function, of a float64 array (N, C), makes of them, before it adds an
    offset.
    """
    shape = piece.source.shape[1:]
    size = int(np.prod(shape))
    tolerance = 1e-2 if piece.half else 1e-4
    for scale in (1e-2, 1.0, 1e2):
        values = scale * np.random.default_rng(0).standard_normal((16, size))
        found = piece(values.reshape(16, *shape)).reshape(16, -1) - offset
        expected = linear(values)
        if found.shape != expected.shape:
            return False
        factor = (found * expected).sum(1) / (expected * expected).sum(1)
        if not (factor > 0).all() or not np.allclose(
            found, factor[:, None] * expected, atol=tolerance * np.abs(found).max()
        ):
            return False
    return True


# --- normalisations, given the scale that they found ----------------------------------------------


@dataclass(frozen=True)
class Normalization:
    """What maps v to offset + scale(v) * linear(v), with a number scale(v) > 0 for each vector."""

    linear: object  # function of a tensor
    offset: object  # tensor, or 0


def normalization_of(step):
    """Return the `Normalization` that a step on vectors is, else None."""
    layer, (source, *others), (target, *_) = step.operation, step.sources, step.outputs
    if others or len(source.shape) != 2 or source.shape != target.shape:
        return None
    piece, candidates = Piece([step], source, target), []
    if isinstance(layer, keras.layers.LayerNormalization):
        gamma = 1.0 if layer.gamma is None else layer.gamma
        beta = 0.0 if layer.beta is None else layer.beta
        candidates.append(
            Normalization(lambda v: (v - keras.ops.mean(v, -1, keepdims=True)) * gamma, beta)
        )
    elif isinstance(layer, keras.layers.RMSNormalization):
        candidates.append(Normalization(lambda v: v * layer.scale, 0.0))
    for normal in (*candidates, Normalization(lambda v: v, 0.0)):

        def linear(values, normal=normal):
            return _float64(normal.linear(keras.ops.convert_to_tensor(values, "float32")))

        # what a class may say of itself is not taken on trust
        if rescales(piece, linear, _float64(normal.offset)):
            return normal
    return None


def run_given_scales(steps, values, normalizations, scales):
    """Run steps as `graph.run` does, but let those that are normalisations use the scales given.

    Scales (N, 1) that are missing are taken from the values, and added.
    """
    values = dict(values)
    for step in steps:
        inputs = [values[each] for each in step.sources]
        if step not in normalizations:
            values.update(zip(step.outputs, step.run(inputs), strict=True))
            continue
        normal = normalizations[step]
        linear = keras.ops.cast(normal.linear(keras.ops.cast(inputs[0], "float32")), "float32")
        if step not in scales:
            moved = keras.ops.cast(step.run(inputs)[0], "float32") - normal.offset
            sums = (keras.ops.sum(each * linear, -1, keepdims=True) for each in (moved, linear))
            scales[step] = next(sums) / next(sums)
        values[step.outputs[0]] = normal.offset + scales[step] * linear
    return values


def _float64(values):
    values = keras.ops.cast(keras.ops.convert_to_tensor(values), "float32")
    return np.asarray(keras.ops.convert_to_numpy(values), np.float64)
