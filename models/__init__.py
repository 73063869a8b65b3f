"""Embedding networks.  This package is the only place that imports TensorFlow, and only on use."""

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

NETWORKS = ("imagenet",)


@dataclass(frozen=True)
class EmbeddingNetwork:
    """A network, reduced to what the maps are made of.

    name : str
    input_size : (height, width) in pixels that `preprocess` resizes to
    pooling : "average", "max" or "gem", which turns activations into the pooled feature
    projection : None or (kernel (C, D), bias (D,)), the linear head after the pooling
    preprocess : function of a list of RGB uint8 (H, W, 3) arrays -> float32 (N, H, W, 3) batch
    activations : function of a batch -> float32 (N, h, w, C), the last convolutional layer's output
    embedding : "pooled" or "head", what is explained by default: the pooled feature, or the
        network's output through the linear head
    independent : whether an image's activations are the same whatever the rest of its batch
    """

    name: str
    input_size: tuple[int, int]
    pooling: str
    projection: tuple | None
    preprocess: Callable[[list], np.ndarray]
    activations: Callable[[np.ndarray], np.ndarray]
    embedding: str = "pooled"
    independent: bool = True


def load_network(name="imagenet"):
    """Load an embedding network.

    Parameters
    ----------
    name : str
        ``"imagenet"``: EfficientNet-Lite0 trained on ImageNet, with weights that pip brings.

    Returns
    -------
    network : EmbeddingNetwork

    Raises
    ------
    ValueError
        For an unknown name, or weights that do not fit the network.
    FileNotFoundError
        Where weights are not there.

    Examples
    --------
    >>> network = load_network("imagenet")
    >>> batch = network.preprocess([np.zeros((300, 400, 3), np.uint8)])
    >>> network.activations(batch).shape
    (1, 7, 7, 1280)
    """
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, got {name!r}")
    from models import efficientnet_lite0

    network = efficientnet_lite0.build(efficientnet_lite0.read_weights())
    return EmbeddingNetwork(
        name=name,
        input_size=efficientnet_lite0.INPUT_SIZE,
        pooling="average",
        projection=None,
        preprocess=efficientnet_lite0.preprocess,
        activations=lambda batch: network(batch).numpy(),
    )


def start_tensorflow():
    """Import TensorFlow and let it find its devices, with all that it says about that held back.

    For programs; what it said is shown where starting fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_held_back():
        import tensorflow as tf

        tf.config.list_logical_devices()


@contextmanager
def _stderr_held_back():
    """Hold back what is written to file descriptor 2, by compiled code too, unless it fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
