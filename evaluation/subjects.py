"""The networks under examination, at one input size each, and what they have seen of the views."""

import copy

import numpy as np
import tensorflow as tf

from simvis.maps import featureless
from simvis.models import efficientnet_lite0, rooms
from simvis.models.contributions import Contributions, Layer
from simvis.models.efficientnet_lite0 import build_folded
from simvis.models.network import grey_batch
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
    stride : None, or pixels to a cell of its `maps`, which are then fine ones
    reference : "grey", "mean" or "blur", of fine maps
    """

    stride, reference = None, "grey"

    def __init__(
        self, name, convolutions, head=None, size=(224, 224), build=build_folded, graph=True
    ):
        self.name, self.convolutions, self.head = name, convolutions, head
        self.size, self.grid = tuple(size), (size[0] // 32, size[1] // 32)
        self.run = build(convolutions)
        if graph:  # which pays from some thirty images on
            batches = tf.TensorSpec((None, *size, 3), tf.float32)
            self.run = tf.function(self.run, input_signature=[batches])
        self._seen, self._fine = {}, {}
        self._contributions = Contributions(self._layer, lambda: grey_batch(self.preprocess, size))
        self._projection = None if head is None else (head[0], np.zeros(head[0].shape[1]))

    def without_head(self):
        """Return this network with the pooled feature as its embedding."""
        network = copy.copy(self)
        network.head = network._projection = None
        return network

    def at(self, stride, reference="grey"):
        """Return this network with fine maps of a stride, or with those of the last layer (None).

        It shares what this one has seen.
        """
        network = copy.copy(self)
        network.stride, network.reference = stride, reference
        return network

    def parts(self, stride):
        """Return two functions: a batch to a layer's activations, and these to embeddings.

        The layer is the last one with a cell for so many pixels.
        """
        layer = self._contributions.layer(stride)
        return lambda batch: layer.front(batch)[0], lambda conv: self._pooled(layer.tail(conv))

    def _layer(self, stride):
        front, tail = efficientnet_lite0.parts_at(self.convolutions, stride)
        batches = tf.TensorSpec((None, *self.size, 3), tf.float32)
        front = tf.function(front, input_signature=[batches])
        return Layer(lambda batch: [front(batch).numpy()], tail)

    def preprocess(self, images):
        """Return the batch, float32 (N, *size, 3), of a list of RGB uint8 images."""
        return efficientnet_lite0.preprocess(images, self.size)

    def embed(self, batch):
        """Return the embeddings of a preprocessed batch, a tensor (N, D)."""
        return self._pooled(self.run(batch))

    def _pooled(self, activations):
        pooled = tf.reduce_mean(activations, (1, 2))
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
        if self.stride is not None:
            return self._fine_maps((view1, view2), **regions)
        return self.maps_of(self.conv(view1), self.conv(view2), **regions)

    def maps_of(self, conv1, conv2, **regions):
        """Return what `maps` does of two images' activations."""
        options = {"projection": self.head, "data_format": "channels_last", **regions}
        return compute_spatial_similarity(conv1, conv2, **options)

    def _fine_maps(self, views, region1=None, region2=None):
        """Return what `visualize_pair` does with a stride: maps that sum to the cosine."""
        regions = region1 is not None or region2 is not None
        key = *(view.image_path for view in views), self.stride, self.reference, self.head is None
        if key in self._fine and not regions:
            return self._fine[key]
        weights = [np.ones(self.grid) if of is None else of for of in (region1, region2)]
        images, references = [view.image() for view in views], None
        features = [
            self.region_embedding(self.conv(view), of)
            for view, of in zip(views, weights, strict=True)
        ]
        sizes = [np.linalg.norm(feature) for feature in features]
        if self.reference != "grey":
            without = [featureless(image, self.reference) for image in images]
            references = self.preprocess([np.rint(image).astype(np.uint8) for image in without])
        batch, along = self.preprocess(images), [[features[1] / sizes[1]], [features[0] / sizes[0]]]
        pooling = {"pooling": "average", "projection": self._projection}
        found = self._contributions(batch, along, self.stride, references, weights, **pooling)
        maps = [
            (parts[0] + constant[0] / parts[0].size) / size
            for (parts, constant), size in zip(found, sizes, strict=True)
        ]
        if not regions:
            self._fine |= {key: maps, (*key[1::-1], *key[2:]): maps[::-1]}
        return maps
