"""The networks under examination, at one input size each, and what they have seen of the views."""

import copy

import numpy as np
import tensorflow as tf

from simvis.models import efficientnet_lite0, rooms
from simvis.similarity_ops import compute_spatial_similarity, pool_features

NETWORKS = ("imagenet", "rooms", "rooms-headboard", "rooms-carpet")


def load_subject(name, size=(224, 224), weights=None):
    """Load one of NETWORKS as a Subject, those of rooms from other weights than ship, if given."""
    convolutions = efficientnet_lite0.fold_batch_norms(efficientnet_lite0.read_weights())
    if name == "imagenet":
        return Subject(name, convolutions, size=size)
    taught, kernel = rooms.read_weights(name, weights)
    return Subject(name, convolutions | taught, (kernel, None), size)


class Subject:
    """A network that can be differentiated and redrawn, and that runs on each view once.

    `load_network` returns the same networks, but hands out numpy arrays alone.

    name : str
    size : (height, width) in pixels, divisible by 32
    grid : (h, w) of its maps
    convolutions : dict of str to (kernel, bias)
    head : None or (kernel (C, D), None); what the maps explain is its output, if it has one
    run : TensorFlow function from a preprocessed batch to activations (N, h, w, C), which ``build``
        makes from the convolutions
    """

    def __init__(
        self,
        name,
        convolutions,
        head=None,
        size=(224, 224),
        build=efficientnet_lite0.build_folded,
        graph=True,
    ):
        self.name, self.convolutions, self.head = name, convolutions, head
        self.size, self.grid = tuple(size), (size[0] // 32, size[1] // 32)
        self.run = build(convolutions)
        if graph:  # which pays from some thirty images on
            batches = tf.TensorSpec((None, *size, 3), tf.float32)
            self.run = tf.function(self.run, input_signature=[batches])
        self._seen = {}

    def without_head(self):
        """Return this network with the pooled feature as its embedding."""
        network = copy.copy(self)
        network.head = None
        return network

    def preprocess(self, images):
        """Return the batch, float32 (N, *size, 3), of a list of RGB uint8 images."""
        return efficientnet_lite0.preprocess(images, self.size)

    def embed(self, batch):
        """Return the embeddings of a preprocessed batch, a tensor (N, D)."""
        pooled = tf.reduce_mean(self.run(batch), (1, 2))
        return pooled if self.head is None else pooled @ self.head[0]

    def look(self, views, batch=16):
        """Run the network on the views that it has not seen yet."""
        new = [view for view in views if view.image_path not in self._seen]
        for part in (new[start : start + batch] for start in range(0, len(new), batch)):
            convs = self.run(self.preprocess([view.image() for view in part])).numpy()
            self._seen.update(zip((view.image_path for view in part), convs, strict=True))

    def conv(self, view):
        """Return a view's activations, float32 (h, w, 1280)."""
        self.look([view])
        return self._seen[view.image_path]

    def embeddings(self, views):
        """Return the views' embeddings, float64 (n, D)."""
        self.look(views)
        pooled = np.stack([self.conv(view).mean((0, 1), dtype=np.float64) for view in views])
        return pooled if self.head is None else pooled @ self.head[0]

    def region_embedding(self, conv, weights):
        """Return the embedding (D,) of the part of activations that weights (h, w) cover."""
        options = {"projection": self.head, "data_format": "channels_last"}
        return pool_features(conv, region=weights, **options)

    def maps(self, view1, view2, **regions):
        """Return both maps of a pair, float64 (h, w); regions as `compute_spatial_similarity`'s."""
        return self.maps_of(self.conv(view1), self.conv(view2), **regions)

    def maps_of(self, conv1, conv2, **regions):
        """Return what `maps` does of two images' activations."""
        options = {"projection": self.head, "data_format": "channels_last", **regions}
        return compute_spatial_similarity(conv1, conv2, **options)
