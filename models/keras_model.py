"""Any Keras 3 model: its last convolutional activations, its pooling and its linear head, found.

The graph is walked backwards from the output, into nested models.  What an operation after the
convolutions does is not told by its name but measured: it is called, and it either pools by the
mean or the maximum, or maps affinely, or rescales its input by a positive number (which a cosine
does not see).  Anything else is refused in words.
"""

import importlib
import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import keras
import numpy as np

import image_ops
import models

PREPROCESS = {  # of float32 RGB pixels in 0..255
    "none": lambda pixels: pixels,
    "0..1": lambda pixels: pixels / 255,
    "-1..1": lambda pixels: pixels / 127.5 - 1,
    "caffe": lambda pixels: pixels[..., ::-1] - np.float32([103.939, 116.779, 123.68]),
    "torch": lambda pixels: (
        (pixels / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    ),
}
GLOBAL_POOLINGS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
DEFAULT_SIZE = 224
SIZES = {  # of the applications that were trained on other sizes
    **dict.fromkeys(("InceptionV3", "InceptionResNetV2", "Xception"), 299),
    **{"NASNetLarge": 331, "EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300},
    **{"EfficientNetB4": 380, "EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600},
    **{"EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300},
    **{"EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480},
}


def load(
    model,
    *,
    layer=None,
    pooling=None,
    preprocess=None,
    weights=None,
    input_size=None,
    allow_unsafe=False,
    graph=False,
):
    """Make an EmbeddingNetwork of a Keras model.

    Parameters
    ----------
    model : keras.Model, or str
        A model, the path of a ``.keras`` or ``.h5`` file, or ``"keras:NAME"``, any model in
        keras.applications.
    layer : None or str
        The name of a layer, or ``"submodel/layer"``.  Where its output is a feature map, these are
        the activations, and the pooled feature is explained; else it is what is explained, and the
        search starts from it.
    pooling : None, "average", "max" or "gem"
        How the model pools, where it is not found or something else is wanted.
    preprocess : None, str or function
        ``"none"`` for RGB pixels in 0..255, ``"0..1"``, ``"-1..1"``, ``"caffe"``, ``"torch"``, or a
        function of such float32 pixels (N, H, W, 3).  By default an application's own, else none.
    weights : None or str
        Of an application: ``"imagenet"``, the default, which Keras downloads, a weights file, or
        ``"none"`` for random ones.
    input_size : None or (height, width)
        For a model that takes images of any size; by default 224 x 224.
    allow_unsafe : bool
        Whether a model file may hold Python code, which loading it then runs.
    graph : bool
        Run as a compiled graph, for many batches.

    Returns
    -------
    network : EmbeddingNetwork

    Raises
    ------
    ValueError
        Says what the model does that has no exact maps, and what to say instead.
    OSError
        Where a file is missing or a download fails.

    Examples
    --------
    >>> inputs = keras.Input((64, 64, 3))
    >>> x = keras.layers.Conv2D(8, 3, strides=16, activation="relu")(inputs)
    >>> outputs = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x))
    >>> network = load(keras.Model(inputs, outputs))
    >>> network.pooling, network.projection[0].shape, network.explain
    ('average', (8, 5), 'head')
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"keras: it runs on {keras.backend.backend()} here, set KERAS_BACKEND=tensorflow"
        )
    name = model if isinstance(model, (str, Path)) else model.name
    if isinstance(model, str) and model.startswith("keras:"):
        model, own_preprocess = _application(model, weights, pooling, input_size)
        preprocess = preprocess or own_preprocess
    else:
        if weights is not None:
            raise ValueError("weights: only a keras:NAME network has weights apart from the model")
        if isinstance(model, (str, Path)):
            model = _read(Path(model), allow_unsafe)
    model, layer = _chosen(model, layer)
    found = _analyse(model, layer, pooling)
    size = _input_size(model, input_size)
    prepare = _preprocess(preprocess)

    def run(batch):
        return _capture(model, found["operation"], found["end"], batch)

    def to_batch(images):
        pixels = np.stack([image_ops.resize(image, size) for image in images])
        return np.asarray(prepare(pixels.astype(np.float32)), np.float32)

    return models.EmbeddingNetwork(
        name=str(name),
        input_size=size,
        pooling=pooling or found["pooling"],
        projection=found["projection"],
        preprocess=to_batch,
        activations=models.to_numpy(run, size, graph),
        explain="pooled" if found["projection"] is None else "head",
        description=f"{pooling or found['pooling']} pooling after {found['where']}, pixels "
        + (
            preprocess
            if isinstance(preprocess, str)
            else "by a function"
            if preprocess
            else "0..255"
        ),
    )


# --- where models come from ----------------------------------------------------------------------


def _application(name, weights, pooling, input_size):
    """Build keras:NAME; return it and its own preprocess_input."""
    builder = getattr(keras.applications, name.removeprefix("keras:"), None)
    if not callable(builder):
        known = [key for key, value in vars(keras.applications).items() if callable(value)]
        raise ValueError(f"{name}: keras.applications has {', '.join(sorted(known))}")
    size = input_size or (SIZES.get(builder.__name__, DEFAULT_SIZE),) * 2
    if weights not in (None, "imagenet", "none") and not Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: no such weights file")
    try:
        with redirect_stdout(sys.stderr):  # where Keras says what it downloads
            model = builder(
                include_top=False,
                weights=None if weights == "none" else weights or "imagenet",
                input_shape=(*size, 3),
                pooling="max" if pooling == "max" else "avg",
            )
    except Exception as error:
        problem = f"{name}: {_one_line(error)}"
        if weights in (None, "imagenet"):
            ways = "give a file with --weights, or --weights none for random ones"
            raise OSError(f"{problem}; its weights cannot be fetched, {ways}") from None
        raise ValueError(problem) from None
    return model, importlib.import_module(builder.__module__).preprocess_input


def _read(path, allow_unsafe):
    if path.is_dir():
        raise ValueError(
            f"{path}: a folder; open it with the Keras or TensorFlow that made it and save it "
            "again with model.save('NAME.keras')"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ValueError(f"{path}: expected a model file ending in .keras or .h5")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not allow_unsafe)
    except Exception as error:
        reason = _one_line(error)
        if "ambda" in reason and not allow_unsafe:
            reason = "it holds Python code (a Lambda), which loading would run; if you trust it, "
            reason += "say --allow-unsafe"
        raise ValueError(f"{path}: cannot be loaded: {reason}") from None


def _one_line(error):
    return " ".join(str(error).split())[:300]


def _preprocess(preprocess):
    if callable(preprocess):
        return preprocess
    if preprocess is not None and preprocess not in PREPROCESS:
        raise ValueError(
            f"preprocess: expected a function or one of {', '.join(PREPROCESS)}, got {preprocess!r}"
        )
    return PREPROCESS[preprocess or "none"]


def _input_size(model, wanted):
    """Return the (height, width) of the images that a model takes."""
    try:
        shape = model.inputs[0].shape
    except (AttributeError, TypeError, IndexError):  # a subclassed model takes what it takes
        shape = (None, None, None, 3)
    if len(shape) != 4 or shape[-1] not in (3, None):
        raise ValueError(f"model: expected input (N, H, W, 3), channels last, got {shape}")
    own = tuple(shape[1:3])
    if wanted is not None and any(o not in (None, w) for o, w in zip(own, wanted, strict=True)):
        raise ValueError(f"input_size: the model takes {own}, not {tuple(wanted)}")
    return tuple(o or w for o, w in zip(own, wanted or (DEFAULT_SIZE,) * 2, strict=True))


# --- layers by name ------------------------------------------------------------------------------


def _layers(model, path=""):
    """Yield (path, layer) of all layers, those of nested models included."""
    for layer in getattr(model, "layers", ()):
        yield path + layer.name, layer
        yield from _layers(layer, f"{path}{layer.name}/")


def _chosen(model, name):
    """Return the model and the layer to begin with: a sub-model that is named stands for itself."""
    if name is None:
        return model, None
    matches = {
        id(layer): (path, layer)
        for path, layer in _layers(model)
        if path == name or path.endswith(f"/{name}")
    }
    if len(matches) != 1:
        known = ", ".join(
            path for path, _ in (list(matches.values()) or list(_layers(model)))[-12:]
        )
        raise ValueError(f"layer: {len(matches)} layers are called {name!r}; among them: {known}")
    ((_path, layer),) = matches.values()
    if isinstance(layer, keras.Model):
        return layer, None
    return model, layer


# --- the walk ------------------------------------------------------------------------------------


def _analyse(model, layer, pooling):
    """Return the operation at whose "input" or "output" the activations are, and what follows."""
    if layer is not None:
        shape = _output_shape(layer)
        if shape is None or len(shape) == 4:
            return {
                "operation": layer,
                "end": "output",
                "pooling": pooling or "average",
                "projection": None,
                "where": layer.name,
            }
        return _walk(layer.output, _stack_to(model, layer), pooling)
    if _graph(model) is None:
        names = ", ".join(path for path, _ in _layers(model))
        raise ValueError(
            "model: its graph is not known (a subclassed model), name the layer whose output is "
            f"the feature map with layer=; it has {names}"
        )
    outputs, found, problems = _graph(model).outputs, [], []
    for output in outputs:
        try:
            found.append(_walk(output, [], pooling))
        except ValueError as error:
            problems.append(str(error))
    if len(found) == 1:
        return found[0]
    if len(outputs) == 1:
        raise ValueError(problems[0])
    names = ", ".join(output._keras_history.operation.name for output in outputs)
    raise ValueError(
        f"model: {len(found)} of its {len(outputs)} outputs could be explained, say which one with "
        f"layer=, of {names}" + "".join(f"; {problem}" for problem in problems)
    )


def _output_shape(layer):
    try:
        return tuple(layer.output.shape)
    except (AttributeError, ValueError):
        return None


def _graph(operation):
    """Return an operation that is a model with a known graph, else None."""
    return operation if getattr(operation, "outputs", None) else None


def _stack_to(model, layer):
    """Return the nodes at which the nested models around a layer are called, outermost first."""
    for inner in model.layers:
        if inner is layer:
            return []
        if any(nested is layer for _, nested in _layers(inner)):
            return [(_call_in(model, inner), inner), *_stack_to(inner, layer)]
    raise ValueError(f"layer: {layer.name} is in no graph")


def _call_in(model, inner):
    graph = getattr(model, "_functional", model)  # a Sequential keeps its graph there
    nodes = getattr(graph, "_nodes_by_depth", {}).values()
    calls = [node for depth in nodes for node in depth if node.operation is inner]
    if len(calls) != 1:
        raise ValueError(
            f"layer: the sub-model {inner.name} is called {len(calls)} times, name it with layer="
        )
    return calls[0]


def _walk(tensor, stack, pooling):
    """Walk backwards from a tensor to where positions were pooled, and fold what comes after."""
    stack, tail = list(stack), []
    while True:
        if not tail and len(tensor.shape) == 4 and tuple(tensor.shape[1:3]) != (1, 1):
            return _feature_map(tensor, pooling)
        operation, node_index, tensor_index = tensor._keras_history
        node = operation._inbound_nodes[node_index]
        if node.is_input and not stack:
            raise ValueError(
                f"model: from {_path(tail)} back to the input, no feature map is pooled"
            )
        if node.is_input:
            outer, inner = stack.pop()
            index = [id(each) for each in inner.inputs].index(id(tensor))
            tensor = outer.input_tensors[index]
        elif _graph(operation) is not None:
            stack.append((node, operation))
            tensor = operation.outputs[tensor_index]
        else:
            if len(node.input_tensors) != 1:
                raise ValueError(
                    f"model: {_named(operation)} merges {len(node.input_tensors)} tensors, and "
                    "behind it no pooling was found; for one of them, or for a sub-model that "
                    "several inputs share, say layer="
                )
            before = node.input_tensors[0]
            if len(before.shape) not in (2, 4):
                raise ValueError(
                    f"model: {_named(operation)} works on a sequence, {tuple(before.shape)}, not "
                    "on a feature map (N, h, w, C): a transformer has no exact maps of this kind"
                )
            many = len(before.shape) == 4 and tuple(before.shape[1:3]) != (1, 1)
            if many or isinstance(operation, GLOBAL_POOLINGS):
                kind = _measure_pooling(operation, node, before.shape, pooling)
                return {
                    "operation": operation,
                    "end": "input",
                    "pooling": kind,
                    "projection": _fold(tail, before.shape[-1]),
                    "where": _before_name(before),
                }
            tail.insert(0, (operation, node))
            tensor = before


def _feature_map(tensor, pooling):
    """A model whose output is a feature map itself."""
    operation = tensor._keras_history.operation
    if pooling is None:
        raise ValueError(
            f"model: its output {tuple(tensor.shape)}, of {_named(operation)}, is a feature map "
            "that nothing pools; say pooling=, average, max or gem"
        )
    where = operation.name
    return {
        "operation": operation,
        "end": "output",
        "pooling": pooling,
        "projection": None,
        "where": where,
    }


def _before_name(tensor):
    operation = tensor._keras_history.operation
    while _graph(operation) is not None:
        operation = operation.outputs[tensor._keras_history.tensor_index]._keras_history.operation
    return operation.name


def _named(operation):
    return f"{operation.name} ({type(operation).__name__})"


def _path(tail):
    return _named(tail[0][0]) if tail else "the output"


# --- what an operation does, measured -------------------------------------------------------------


def _call(operation, node, values):
    """Call an operation as the graph does, on other values; float64 out."""
    tensor = keras.ops.convert_to_tensor(values, dtype=node.input_tensors[0].dtype)
    args, kwargs = node.arguments.fill_in({id(node.input_tensors[0]): tensor})
    return np.asarray(keras.ops.convert_to_numpy(operation(*args, **kwargs)), np.float64)


def _measure_pooling(operation, node, shape, wanted):
    """Return "average" or "max" where an operation pools so, or what the user says it does."""
    if isinstance(operation, GLOBAL_POOLINGS):
        return "average" if isinstance(operation, GLOBAL_POOLINGS[0]) else "max"
    height, width = (side or default for side, default in zip(shape[1:3], (5, 6), strict=True))
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, height, width, shape[-1])).astype(np.float32)
    pooled = _call(operation, node, np.abs(values) if wanted == "gem" else values)
    if pooled.size == 2 * shape[-1]:
        pooled = pooled.reshape(2, shape[-1])
        tolerance = 1e-2 if node.input_tensors[0].dtype in ("float16", "bfloat16") else 1e-4
        for kind, expected in (("average", values.mean((1, 2))), ("max", values.max((1, 2)))):
            if np.allclose(pooled, expected, atol=tolerance):
                return kind
        if wanted is not None:
            return wanted
    if pooled.size > 2 * shape[-1]:
        raise ValueError(
            f"model: {_named(operation)} keeps positions apart instead of pooling the feature map "
            f"{tuple(shape)}; say layer= for the feature map to explain its average"
        )
    raise ValueError(
        f"model: {_named(operation)} pools {tuple(shape)} neither by mean nor by maximum; say "
        "pooling='gem' if that is it, or layer= for the feature map to explain its average"
    )


def _fold(tail, channels):
    """Fold the operations after the pooling into one (kernel (C, D), bias (D,)), or None."""
    kernel, bias, rescaled = np.eye(channels), np.zeros(channels), False
    for operation, node in tail:
        if not all(np.isfinite(weight).all() for weight in getattr(operation, "weights", ())):
            raise ValueError(f"model: the weights of {_named(operation)} are not finite")
        inputs = tuple(node.input_tensors[0].shape[1:])
        affine = _affine(operation, node, inputs)
        if affine is not None and not (rescaled and np.abs(affine[1]).max() > 1e-6):
            kernel, bias = kernel @ affine[0], bias @ affine[0] + affine[1]
        elif _rescales(operation, node, inputs):
            rescaled = True
        else:
            raise ValueError(
                f"model: {_named(operation)}, after the pooling, is neither linear nor a "
                "normalisation, so its output has no exact maps; to explain the pooled feature "
                "before it, say layer= with the name of the feature map or of the pooling layer"
            )
    unchanged = kernel.shape[0] == kernel.shape[1] and np.allclose(kernel, np.eye(channels))
    return None if unchanged and not bias.any() else (kernel, bias)


def _affine(operation, node, shape):
    """Return the (matrix, offset) of an operation that maps vectors affinely, else None."""
    size = int(np.prod(shape))
    if isinstance(operation, keras.layers.LayerNormalization):
        return _layer_normalization(operation, size)
    zero = _call(operation, node, np.zeros((1, *shape))).ravel()
    # Of large inputs, so that the offset costs the matrix no digits; a power of two costs none.
    large = 2.0**12
    rows = _call(operation, node, large * np.eye(size).reshape(size, *shape)).reshape(size, -1)
    matrix = (rows - zero) / large
    if not np.isfinite(matrix).all():  # as of v / |v|, which has no value at zero
        return None
    values = np.random.default_rng(0).standard_normal((16, size))
    for scale in (1e-2, 1.0, 1e2):
        found = _call(operation, node, scale * values.reshape(16, *shape)).reshape(16, -1)
        expected = scale * values @ matrix + zero
        if not np.allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()):
            return None
    return matrix, zero


def _layer_normalization(layer, size):
    """Without an offset it centres, weighs and rescales by a positive number: a linear map."""
    gamma, beta = (
        np.asarray(keras.ops.convert_to_numpy(value), np.float64) if value is not None else default
        for value, default in ((layer.gamma, np.ones(size)), (layer.beta, np.zeros(size)))
    )
    if beta.any() or gamma.shape != (size,):
        return None
    return (np.eye(size) - 1 / size) * gamma, beta


def _rescales(operation, node, shape):
    """Return whether an operation multiplies each of its inputs by some positive number."""
    size = int(np.prod(shape))
    for scale in (1e-2, 1.0, 1e2):
        values = scale * np.random.default_rng(0).standard_normal((16, size))
        found = _call(operation, node, values.reshape(16, *shape)).reshape(16, -1)
        if found.shape != values.shape:
            return False
        factor = (found * values).sum(1, keepdims=True) / (values * values).sum(1, keepdims=True)
        if (factor <= 0).any() or not np.allclose(
            found, factor * values, atol=1e-4 * np.abs(found).max()
        ):
            return False
    return True


# --- running it ----------------------------------------------------------------------------------


@contextmanager
def _recording(operation, end, records):
    """Record what goes into an operation, or comes out of it, while a model runs."""
    call = operation.call

    def recorded(*args, **kwargs):
        output = call(*args, **kwargs)
        records.append(args[0] if end == "input" else output)
        return output

    object.__setattr__(operation, "call", recorded)
    try:
        yield
    finally:
        object.__delattr__(operation, "call")


def _capture(model, operation, end, batch):
    """Run a model on a batch; return a feature map on its way, a float32 tensor (N, h, w, C)."""
    records = []
    with _recording(operation, end, records):
        model(keras.ops.convert_to_tensor(batch), training=False)
    if len(records) != 1:
        raise ValueError(
            f"layer: {_named(operation)} is called {len(records)} times in one run, so that its "
            "output is not one feature map"
        )
    conv = keras.ops.cast(records[0], "float32")
    if len(conv.shape) != 4:
        raise ValueError(
            f"layer: the output of {_named(operation)} has shape {tuple(conv.shape)}, expected a "
            "feature map (N, h, w, C)"
        )
    return conv
