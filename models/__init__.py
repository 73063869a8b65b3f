"""Embedding networks: with the callback for training, all that imports TensorFlow, when used."""

from simvis.models.loading import NETWORKS, check_options, example_pair, load_network
from simvis.models.network import MODEL_FILES, EmbeddingNetwork, start_tensorflow

__all__ = [
    "MODEL_FILES",
    "NETWORKS",
    "EmbeddingNetwork",
    "check_options",
    "example_pair",
    "load_network",
    "start_tensorflow",
]
