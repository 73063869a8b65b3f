"""Embedding networks, by name or made by hand; a framework is imported when one needs it."""

from importlib import import_module

from simvis.models.loading import (
    NETWORKS,
    check_options,
    example_pair,
    is_python,
    load_network,
)
from simvis.models.network import (
    MODEL_FILES,
    EmbeddingNetwork,
    count_cores,
    start_tensorflow,
    stride_of,
)

_HOMES = {  # looked up when they are asked for, since not everybody has what they import
    "from_functions": "functions",
    "from_onnx": "onnx_models",
    "from_torch": "torch_models",
}

__all__ = [
    "MODEL_FILES",
    "NETWORKS",
    "EmbeddingNetwork",
    "check_options",
    "count_cores",
    "example_pair",
    "is_python",
    "load_network",
    "start_tensorflow",
    "stride_of",
    *_HOMES,
]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    try:
        return getattr(import_module(f"simvis.models.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        words = f"{name} needs {error.name}: pip install {error.name}"
        raise ImportError(words) from None
