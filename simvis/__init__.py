"""Which regions of two images make an embedding network call them similar.

Names are looked up when they are asked for, so that ``import simvis`` costs nothing.
"""

from importlib import import_module
from pathlib import Path

__version__ = "0.3.1"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():  # in a checkout the root's modules are this package's, too
    __path__.append(str(_root))

_HOMES = {
    "EmbeddingNetwork": "models",
    "Gallery": "gallery",
    "SimilarityMaps": "training",
    "compute_pairwise_similarity": "similarity_ops",
    "compute_spatial_similarity": "similarity_ops",
    "from_functions": "models",
    "from_onnx": "models",
    "from_torch": "models",
    "load_network": "models",
    "local_features": "similarity_ops",
    "point_similarity": "similarity_ops",
    "pool_features": "similarity_ops",
    "visualize_pair": "pair",
    "visualize_triplet": "triplet",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'simvis' has no attribute {name!r}")
    return getattr(import_module(f"simvis.{_HOMES[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
