"""Model files from strangers: checked as data, then loaded by Keras within bounds.

Only Keras's own loader, in its safe mode, makes objects of what a file holds.  In an honest file
the weights take as much as the model that is made of them, so a model may take some times as much
memory as its file, and a small model more than that.
"""

import io
import json
import math
import zipfile
from contextlib import contextmanager
from unittest import mock

import h5py
import keras
import numpy as np

from simvis.models.keras_models.graph import layers

FACTOR = 4  # memory over file; compressed weights and those of 16 bits stay well below it
SMALL = 2**28  # bytes that any file may ask for
MOST_LAYERS = 5000  # the largest applications have about a thousand
MAX_OUTPUT = 2**28  # numbers that a layer may make of one image
TRUST = "; if you trust it, say --allow-unsafe"  # which lifts the limits of models
# Of the functions that a file may name: "builtins" stands for Keras's activations and the like, and
# for what the user registered.  Others of Keras's, as a Lambda would call them, write files or ask
# servers.
MODULES = (None, "builtins", "keras.activations")


def load_model_file(path):
    """Return the model of a .keras or .h5 file, a Path, loaded in Keras's safe mode.

    A ValueError refuses a file whose weights, layers or images would take too much memory, which
    leads to other files, or which names functions that are no part of a model; nearly any Exception
    one that is damaged, or holds code.
    """
    limit = max(SMALL, FACTOR * path.stat().st_size)
    _check_file(path, limit)
    with _bounded_variables(limit):
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    largest = max((_numbers(layer) for _path, layer in layers(model)), default=0)
    if largest > MAX_OUTPUT:
        raise ValueError(
            f"a layer of it makes {largest:.3g} numbers of an image, over the limit of "
            f"{MAX_OUTPUT:.3g}{TRUST}"
        )
    return model


def check_weights_file(path):
    """Raise a ValueError if a file of weights, a Path, asks for far more memory than it holds."""
    if h5py.is_hdf5(path):
        _check_arrays(path, max(SMALL, FACTOR * path.stat().st_size), way="")


def _check_file(path, limit):
    """Look through a file, as data, before Keras does."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            _check("its files unpacked", sum(m.file_size for m in archive.infolist()), limit)
            config = archive.read("config.json")
            for member in archive.namelist():
                if member.endswith(".h5"):
                    # what is not compressed, which is usual, need not be unpacked for this
                    with archive.open(member) as weights:
                        _check_arrays(io.BufferedReader(weights), limit)
    else:
        _check_arrays(path, limit)
        with h5py.File(path) as file:
            config = file.attrs.get("model_config", "null")
    layers_seen = 0

    def check_node(node):
        nonlocal layers_seen
        _check_node(node)
        inner = node.get("config")
        named = isinstance(inner, dict) and "name" in inner
        layers_seen += named and not str(node.get("class_name")).endswith("Policy")
        if layers_seen > MOST_LAYERS:
            raise ValueError(f"it has over {MOST_LAYERS} layers, which take long to make{TRUST}")
        return node

    json.loads(config, object_hook=check_node)


def _check_node(node):
    if node.get("class_name") == "function" and node.get("module") not in MODULES:
        raise ValueError(f"it names {node['module']}.{node.get('config')}, no part of a model")


def _check(what, size, limit, way=TRUST):
    if size > limit:
        raise ValueError(
            f"{what} would take {size / 2**20:.0f} MB, over the limit of {limit / 2**20:.0f} MB, "
            f"which is {FACTOR} times the file, or {SMALL / 2**20:.0f} MB if that is more{way}"
        )


def _check_arrays(file, limit, way=TRUST):
    """Check what an HDF5 file's arrays declare, which it need not hold, and where they lie."""
    links, size = {}, 0
    with h5py.File(file) as arrays:
        arrays.visititems_links(links.__setitem__)
        for name, link in links.items():
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"its {name} is a link")
            item = arrays[name]
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise ValueError(f"its {name} lies in another file")
                size += item.nbytes
    _check("its arrays", size, limit, way)


@contextmanager
def _bounded_variables(limit):
    """Let Keras make variables of so many bytes in all; the first one beyond is not made.

    They begin with zeros instead of random numbers, which may take minutes to draw, since those of
    the file take their place.
    """
    make, total = keras.Variable.__init__, 0

    def make_within_limit(variable, initializer, shape=None, dtype=None, *rest, **options):
        nonlocal total
        if callable(initializer) or isinstance(initializer, str):
            total += math.prod(np.ravel(shape if shape is not None else ()).tolist()) * 4
            _check("its layers", total, limit)
            if hasattr(initializer, "seed"):
                initializer = keras.initializers.Zeros()
        make(variable, initializer, shape, dtype, *rest, **options)

    with mock.patch.object(keras.Variable, "__init__", make_within_limit):
        yield


def _numbers(layer):
    """Return how many numbers a layer makes of one image, as far as its shape is known."""
    try:
        outputs = layer.output if isinstance(layer.output, (list, tuple)) else [layer.output]
        return sum(math.prod(each or 1 for each in output.shape) for output in outputs)
    except (AttributeError, ValueError, TypeError):
        return 0
