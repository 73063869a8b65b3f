"""What each position of a layer adds to an embedding of a network, for the layers that it has.

A network is taken apart at a layer: `Layer.front` leads there, `Layer.tail` on to what the
network's `activations` are, which are pooled as in `similarity_ops`, or to its output itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import tensorflow as tf

from simvis.models.network import failures_in_words
from simvis.models.secants import NUMBERS_AT_ONCE, Secants, contributions

TOLERANCE = 3e-5  # the gap that is small enough, relative to the embedding


@dataclass(frozen=True)
class Layer:
    """A layer of a network, and what leads there and on.

    front : function of a batch (N, H, W, 3) -> float32 (N, *positions, C) array, the activations,
        and arrays (N, ...) of all else that the tail needs
    tail : function of float32 tensors (B, *positions, C), and (1, ...) for all else, -> float32
        (B, h, w, C'), what the network's `activations` are, or (B, D), its output
    tolerance : float, see `secants.contributions`
    to_map : None or function of an array (K, *positions) -> (K, h, w), and (K,) what is no place
    proportional : bool
        Whether F(a x) = F(0) + a (F(x) - F(0)) for all a > 0, so that one derivative is exact; the
        tail takes the scales of its normalisations, a dict that it fills itself, besides.
    """

    front: Callable
    tail: Callable
    tolerance: float = TOLERANCE
    to_map: Callable | None = None
    proportional: bool = False


class Contributions:
    """Return what each position adds to embeddings seen along directions, see `__call__`.

    Parameters
    ----------
    layer_at : function of a stride, 1 for the pixels and None for the network's own layer, that
        returns a `Layer` or raises a ValueError; `layer` is the same, and remembers
    grey : function that returns a float32 (1, H, W, 3) batch, the reference by default
    """

    def __init__(self, layer_at, grey):
        self.layer, self._secants = cache(layer_at), {}
        self._reference = cache(lambda stride: self.look(grey(), stride))

    def __call__(self, batch, directions, stride=None, references=None, regions=(), **pooling):
        """Return maps of <F(image), d> for each image of a batch, and what the reference has of it.

        Parameters
        ----------
        batch, references : float32 (N, H, W, 3) batches; references None for a grey image
        directions : sequence of float (K, D) arrays, for each image
        stride : None for the network's own layer, or int, see `EmbeddingNetwork`
        regions : sequence of float (h, w) weights of the network's `activations`, if it pools
        pooling : pooling, power and projection, as of `pooled`; nothing of a network whose layer's
            tail puts out the embedding

        Returns
        -------
        found : list of (maps, constant), float64 (K, h, w) and (K,), for each image: what positions
            add, and <F(reference), d>, which is not in the maps
        """
        layer = self.layer(stride)
        upper, *others = layer.front(batch)
        if references is None:
            lower = np.repeat(self._reference(stride), len(batch), 0)
        else:
            lower = layer.front(references)[0]
        secants, found = self._secants_of(stride, layer, pooling), []
        for i, along in enumerate(directions):
            given = [tf.constant(each[i : i + 1]) for each in others]
            if pooling:
                given.insert(0, tf.constant(np.ravel(regions[i]), tf.float32))
            with failures_in_words(f"activations {upper[i].shape}"):
                if layer.proportional:
                    parts, constant = differentiate(partial(layer.tail, scales={}), upper[i], along)
                else:
                    parts, constant = contributions(
                        *(secants, upper[i], lower[i], along),
                        tolerance=layer.tolerance,
                        others=given,
                    )
            if layer.to_map:
                parts, rest = layer.to_map(parts)
                constant = constant + rest
            found.append((parts, constant))
        return found

    def look(self, batch, stride):
        """Return the activations (N, *positions, C) of the layer of a stride."""
        return self.layer(stride).front(batch)[0]

    def _secants_of(self, stride, layer, pooling):
        """Return the `Secants` of what follows a layer, traced once for each pooling and head."""
        head = pooling.get("projection")
        key = stride, pooling.get("pooling"), pooling.get("power"), id(head)
        if key not in self._secants:
            function = pooled(layer.tail, **pooling) if pooling else layer.tail
            self._secants[key] = Secants(function), head  # which is kept, so that its id is its own
        return self._secants[key][0]


def pooled(tail, pooling, power=3.0, projection=None):
    """Return the function of activations, a region's weights (h * w,) and all that a tail needs.

    It puts out what `similarity_ops.pool_features` makes of the tail's activations (B, h, w, C).
    """
    kernel, bias = (None, None) if projection is None else map(np.float32, projection)

    def run(points, weights, *others):
        conv = tail(points, *others)
        rows = tf.reshape(conv, (tf.shape(conv)[0], -1, conv.shape[-1]))
        if pooling == "max":
            feature = tf.reduce_max(tf.boolean_mask(rows, weights > 0, axis=1), 1)
        else:
            rows = tf.nn.relu(rows) ** power if pooling == "gem" else rows
            feature = tf.reduce_sum(rows * weights[:, None], 1) / tf.reduce_sum(weights)
            feature = feature ** (1 / power) if pooling == "gem" else feature
        return feature if kernel is None else feature @ kernel + bias

    return run


def differentiate(function, activations, directions):
    """Return (parts, constant) as `secants.contributions` does, by one derivative, if it is exact.

    It is if F(a x) = F(0) + a (F(x) - F(0)) for all a > 0 (Euler's theorem).

    Examples
    --------
    >>> x = np.array([[1.0, 4.0], [3.0, 4.0]], np.float32)
    >>> parts, constant = differentiate(lambda x: tf.reduce_max(x, 1) + 1, x, np.eye(2))
    >>> parts  # the second channel's maximum is shared by two positions
    array([[0., 3.],
           [2., 2.]])
    """
    directions, parts = np.asarray(directions, np.float64), []
    at_once = max(1, NUMBERS_AT_ONCE // activations.size)
    function(tf.constant(activations[None]))  # which finds the scales that are given after that
    for start in range(0, len(directions), at_once):
        along = tf.constant(directions[start : start + at_once], tf.float32)
        points = tf.repeat(tf.constant(activations[None]), len(along), 0)
        with tf.GradientTape() as tape:
            tape.watch(points)
            seen = tf.reduce_sum(function(points) * along)
        slope = tape.gradient(seen, points, unconnected_gradients="zero")
        product = (slope * activations).numpy().astype(np.float64)
        # a root at zero has no slope, and a channel that is zero adds nothing
        parts.append(np.where(np.isfinite(product), product, 0).sum(-1))
    nothing = function(tf.zeros((1, *activations.shape)))[0]
    return np.concatenate(parts), directions @ nothing.numpy().astype(np.float64)
