"""Model files that are small and ask for much: bounded before anything of theirs is built.

An honest file holds what its model is made of, so a model may take so many times what the file
takes, and a small model as much as it likes.
"""

import io
import json
import math
import threading
import zipfile

import h5py
import keras

FACTOR = 4  # memory over file; compressed weights and those of 16 bits stay well below it
SMALL = 2**28  # bytes that any file may ask for
# What has no weights and makes no larger images.
NO_WEIGHTS = (
    *("Activation", "ReLU", "Add", "Multiply", "Dropout", "InputLayer", "Rescaling"),
    *("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
)
MAX_PADDING = 8  # that is nothing beside an image
NO_LAYERS = ("Functional", "Sequential", "Model", "__keras_tensor__", "DTypePolicy")
NO_LAYER_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")
MAX_OUTPUT = 2**28  # numbers that a layer may make of one image


def check_model_file(path):
    """Raise a ValueError for a file whose weights, layers or images would take too much memory.

    Parameters
    ----------
    path : Path of a .keras or .h5 file

    Raises
    ------
    ValueError
        Says what it asks for and what the limit is.
    Exception
        Nearly any, for a damaged file, as loading it would.
    """
    limit = max(SMALL, FACTOR * path.stat().st_size)
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
    config = json.loads(config)
    if config is None:  # which is an error of its own
        return
    size, largest = _at_most(config)
    if size > limit or largest > MAX_OUTPUT:
        size, largest = _in_a_thread(lambda: _sizes(config))
    _check("its layers", size, limit)
    if largest > MAX_OUTPUT:
        raise ValueError(
            f"a layer of it makes {largest:.3g} numbers of an image, over the limit of "
            f"{MAX_OUTPUT:.3g}; if you trust it, say --allow-unsafe"
        )


def _check(what, size, limit):
    if size > limit:
        raise ValueError(
            f"{what} would take {size / 2**20:.0f} MB, over the limit of {limit / 2**20:.0f} MB, "
            f"which is {FACTOR} times the file, or {SMALL / 2**20:.0f} MB if that is more; if you "
            "trust it, say --allow-unsafe"
        )


def _check_arrays(file, limit):
    """Check the sizes that the arrays of an HDF5 file declare, which it need not hold."""
    sizes = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            sizes.append(item.nbytes)

    with h5py.File(file) as arrays:
        arrays.visititems(visit)
    _check("its arrays", sum(sizes), limit)


def _at_most(config):
    """Return what `_sizes` returns, or more, in no time for models of the commonest layers."""
    layers = [node for node in _nodes(config) if "class_name" in node and "config" in node]
    shapes = [
        shape
        for layer in layers
        for shape in (
            layer["config"].get("batch_shape"),
            (layer.get("build_config") or {}).get("input_shape"),
        )
        if shape and not isinstance(shape[0], list)  # of several inputs, such as an addition's
    ]
    try:
        # of an input of any size, the user says which
        pixels = max(math.prod(side or 224 for side in shape[1:-1]) for shape in shapes)
        counts = [_numbers_at_most(layer) for layer in layers]
        widest = max([shape[-1] for shape in shapes] + [outputs for _, outputs in counts])
        return 4 * sum(weights for weights, _ in counts), pixels * widest
    except (KeyError, TypeError, ValueError, IndexError):  # another layer, or a shape not known
        return math.inf, math.inf


def _numbers_at_most(layer):
    """Return how many weights a layer has, and channels it makes; KeyError for an unknown one."""
    kind, config = layer["class_name"], layer["config"]
    if layer.get("module") != "keras.layers" or kind in NO_WEIGHTS:
        if kind in (*NO_WEIGHTS, *NO_LAYERS) or layer.get("module") in NO_LAYER_MODULES:
            return 0, 0
        raise KeyError(kind)
    if kind == "ZeroPadding2D" and max(map(max, config["padding"])) <= MAX_PADDING:
        return 0, 0
    inputs = layer["build_config"]["input_shape"][-1]
    if kind == "BatchNormalization":
        return 4 * inputs, 0
    kernel, outputs = {
        "Dense": lambda: (1, config["units"]),
        "Conv2D": lambda: (math.prod(config["kernel_size"]), config["filters"]),
        "DepthwiseConv2D": lambda: (math.prod(config["kernel_size"]), config["depth_multiplier"]),
    }[kind]()
    return (kernel * inputs + 1) * outputs, outputs * (inputs if kind == "DepthwiseConv2D" else 1)


def _nodes(value):
    """Yield all dictionaries in nested lists and dictionaries."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, (dict, list)):
            yield from _nodes(part)


def _sizes(config):
    """Return the bytes of a model's variables, and the most numbers that a layer makes."""
    # In this scope variables have a shape and no value.  Leaving it would give them one: it ends
    # with its thread.
    keras.StatelessScope().__enter__()
    if "module" in config:
        model = keras.saving.deserialize_keras_object(config)
    else:  # of an .h5 file
        kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
        model = kind.from_config(config["config"])
    size = sum(math.prod(variable.shape) * _itemsize(variable) for variable in model.variables)
    largest = max((_numbers(layer) for layer in _layers(model)), default=0)
    return size, largest


def _itemsize(variable):
    return int("".join(filter(str.isdigit, variable.dtype)) or 8) / 8


def _layers(model):
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _numbers(layer):
    """Return how many numbers a layer makes of one image, as far as its shape is known."""
    try:
        outputs = layer.output if isinstance(layer.output, (list, tuple)) else [layer.output]
        return sum(math.prod(each or 1 for each in output.shape) for output in outputs)
    except (AttributeError, ValueError, TypeError):
        return 0


def _in_a_thread(function):
    results, errors = [], []

    def work():
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
