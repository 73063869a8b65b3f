"""What a piece of a Keras model does: measured by calling it, see `models.probes`."""

from dataclasses import dataclass

import keras
import numpy as np

from simvis.models import probes
from simvis.models.keras_models.graph import layers
from simvis.models.probes import Normalization
from simvis.models.steps import Tensor, leading_to, named, run

HALF = ("float16", "bfloat16")
# Of a single position nothing else tells a mean from a maximum; of more, each of them is measured.
AVERAGES = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling1D)
MAXIMA = (keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling1D)


@dataclass(frozen=True)
class Piece(probes.Piece):
    steps: tuple = ()
    source: Tensor | None = None
    target: Tensor | None = None

    @property
    def operation(self):
        """The only one, else None."""
        return self.steps[0].operation if len(self.steps) == 1 else None


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


def piece(steps, source, target):
    """Return steps between two tensors as a `Piece`."""

    def function(values):
        values = keras.ops.convert_to_tensor(values, dtype=source.dtype)
        found = run(steps, {source: values})[target]
        return keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))

    shape = *source.sides, source.shape[-1]
    half = source.dtype in HALF or is_half(steps)
    return Piece(function, shape, named(target.operation), half, tuple(steps), source, target)


def pieces(steps, tensors):
    """Return the pieces between tensors that follow each other."""
    return [
        piece(leading_to(steps, [target], [source]), source, target)
        for source, target in zip(tensors, tensors[1:], strict=False)
    ]


def is_step_function(piece):
    """Return whether a piece makes whole numbers of each number by itself, as sign and round do."""
    if len(piece.shape) != 1:
        return False
    values = np.random.default_rng(0).standard_normal((8, *piece.shape))
    found, other = piece(values), piece(np.roll(values, 1, 0))
    same = found.shape == values.shape and np.array_equal(np.roll(found, 1, 0), other)
    return same and np.array_equal(found, np.rint(found)) and len(np.unique(found)) > 1


def pooling_of(piece):
    """Return how a piece pools positions, see `models.probes.pooling_of`."""
    kinds = ("max", "average") if isinstance(piece.operation, MAXIMA) else ("average", "max")
    return probes.pooling_of(piece, kinds)


def fold(tail, channels):
    """Fold the pieces after the pooling into a linear head, see `models.probes.fold`.

    A ValueError names one that has weights that are NaN.
    """
    for step in (step for each in tail for step in each.steps):
        if not all(np.isfinite(_float64(w)).all() for w in getattr(step.operation, "weights", ())):
            raise ValueError(f"model: the weights of {named(step.operation)} are not finite")
    return probes.fold(tail, channels)


# --- normalisations, given the scale that they found ----------------------------------------------


def normalization_of(step):
    """Return the `Normalization`, of tensors, that a step on vectors is, else None."""
    layer, (source, *others), (target, *_) = step.operation, step.sources, step.outputs
    if others or len(source.shape) != 2 or source.shape != target.shape:
        return None
    only, candidates = piece([step], source, target), []
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
        if probes.rescales(only, linear, _float64(normal.offset)):
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
