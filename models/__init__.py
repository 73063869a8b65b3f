"""Embedding networks, by name or made by hand; TensorFlow is imported when one is loaded."""

from simvis.models.loading import NETWORKS, check_options, example_pair, load_network
from simvis.models.network import MODEL_FILES, EmbeddingNetwork, start_tensorflow, stride_of

__all__ = [
    "MODEL_FILES",
    "NETWORKS",
    "EmbeddingNetwork",
    "check_options",
    "example_pair",
    "load_network",
    "start_tensorflow",
    "stride_of",
]
