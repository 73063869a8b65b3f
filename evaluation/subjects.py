"""The networks under examination, at one input size each, and what they have seen of the views."""

import numpy as np
import tensorflow as tf

from simvis.models import efficientnet_lite0
from simvis.similarity_ops import compute_spatial_similarity, pool_features

NETWORKS = ("imagenet", "rooms", "rooms-headboard", "rooms-carpet")
EMBEDDINGS = ("pooled", "head")


class Subject:
    """A network at one input size.

    name : str
    size : (height, width) in pixels, divisible by 32
    grid : (h, w) of its maps
    convolutions : dict of str to (kernel, bias)
    head : None or (kernel (C, D), None)
    embedding : "pooled" or "head", which one is the network's own
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
        self.embedding = "pooled" if head is None else "head"
        self.run = build(convolutions)
        if graph:  # which pays from some thirty images on
            batches = tf.TensorSpec((None, *size, 3), tf.float32)
            self.run = tf.function(self.run, input_signature=[batches])
        self._seen = {}

    def preprocess(self, images):
        return efficientnet_lite0.preprocess(images, self.size)

    def embed(self, batch):
        """Return the network's own embeddings of a preprocessed batch, a tensor (N, D)."""
        pooled = tf.reduce_mean(self.run(batch), (1, 2))
        return pooled if self.head is None else pooled @ self.head[0]

    def look(self, views, batch=16):
        """Run the network on the views that it has not seen yet."""
        new = [view for view in views if view.image_path not in self._seen]
        for start in range(0, len(new), batch):
            part = new[start : start + batch]
            convs = self.run(self.preprocess([view.image() for view in part])).numpy()
            self._seen.update(
                (view.image_path, conv) for view, conv in zip(part, convs, strict=True)
            )

    @property
    def depth(self):
        """The number of its layers, the head among them."""
        return len(self.convolutions) + (self.head is not None)

    def conv(self, view):
        """Return a view's activations, float32 (h, w, 1280)."""
        if view.image_path not in self._seen:
            self.look([view])
        return self._seen[view.image_path]

    def projection(self, embedding=None):
        """Return the head for "head", None for "pooled"; by default that of its own embedding."""
        return self.head if (embedding or self.embedding) == "head" else None

    def embeddings(self, views, embedding=None):
        """Return the views' embeddings, float64 (n, D)."""
        self.look(views)
        pooled = np.stack([self.conv(view).mean((0, 1), dtype=np.float64) for view in views])
        projection = self.projection(embedding)
        return pooled if projection is None else pooled @ projection[0]

    def region_embedding(self, view, weights, embedding=None):
        """Return the embedding (D,) of the part of a view that weights (h, w) cover."""
        conv, projection = self.conv(view), self.projection(embedding)
        return pool_features(
            conv, region=weights, projection=projection, data_format="channels_last"
        )

    def maps(self, view1, view2, embedding=None, **regions):
        """Return both maps of a pair, float64 (h, w); regions as `compute_spatial_similarity`'s."""
        return compute_spatial_similarity(
            self.conv(view1),
            self.conv(view2),
            projection=self.projection(embedding),
            data_format="channels_last",
            **regions,
        )

    def randomized(self, count, seed=0):
        """Return this network with its last `count` layers drawn anew, the head being the last.

        Kernels keep their mean and spread, so that the activations stay alive; biases become
        permutations of themselves.  (Cascading randomisation: Adebayo et al., "Sanity checks for
        saliency maps", NeurIPS 2018.)
        """
        rng = np.random.default_rng(seed)
        head, convolutions = self.head, dict(self.convolutions)
        if head is not None and count > 0:
            head, count = (_redrawn(head[0], rng), None), count - 1
        for name in list(convolutions)[::-1][:count]:
            kernel, bias = (np.asarray(part) for part in convolutions[name])
            convolutions[name] = _redrawn(kernel, rng), rng.permutation(bias)
        return Subject(self.name, convolutions, head, self.size, graph=False)


def load_subject(name, size=(224, 224)):
    """Load one of NETWORKS."""
    convolutions = efficientnet_lite0.fold_batch_norms(efficientnet_lite0.read_weights())
    if name == "imagenet":
        return Subject(name, convolutions, size=size)
    from simvis.models import rooms

    taught, kernel = rooms.read_weights(name)
    return Subject(name, convolutions | taught, (kernel, None), size)


def _redrawn(kernel, rng):
    return rng.normal(kernel.mean(), kernel.std(), kernel.shape).astype(np.float32)
