"""Any Keras 3 model: its last feature map, how it is pooled, and the linear head, found.

All that the output is computed from lies on one line of bottlenecks: tensors that every way from
the image leads through.  Between the last feature map on it and the output, each piece is called to
see what it does: it pools by the mean, the maximum or GeM, or maps affinely, or rescales its input
by a positive number (which a cosine does not see).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

import image_ops
import models
from models import keras_sources
from models.keras_graph import (
    Tensor,
    bottlenecks,
    find_layer,
    flatten,
    has_graph,
    intercepted,
    layers,
    leading_to,
    named,
    run,
)
from models.keras_pieces import AVERAGES, MAXIMA, fold, pieces, pooling_of, rescales


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
        model, own_preprocess = keras_sources.application(model, weights, pooling, input_size)
        preprocess = preprocess or own_preprocess
        own_pooling = "max" if pooling == "max" else "average"
    else:
        if weights is not None:
            raise ValueError("weights: only a keras:NAME network has weights apart from the model")
        if isinstance(model, (str, Path)):
            model = keras_sources.read(Path(model), allow_unsafe)
        own_pooling = pooling
    contents = _contents(name, model)
    model, layer = _chosen(model, layer)
    found = _analyse(model, layer, own_pooling)
    if pooling not in (None, found.pooling):  # not the network's own, which has no GeM
        found = replace(found, pooling=pooling, pooled=None, output=None, projection=None)
    size = keras_sources.input_size_of(found.image.shape, input_size)
    prepare = keras_sources.preprocessing(preprocess)

    def to_batch(images):
        pixels = np.stack([image_ops.resize(image, size) for image in images])
        return np.asarray(prepare(pixels.astype(np.float32)), np.float32)

    pixels = preprocess if isinstance(preprocess, str) else "by a function" if preprocess else None
    return models.assemble(
        models.to_numpy(_runner(found), size, graph),
        embeds=None if found.output is None else "head" if found.projection else "pooled",
        name=str(name),
        input_size=size,
        pooling=found.pooling,
        power=found.power or 3.0,
        projection=found.projection,
        preprocess=to_batch,
        weights=contents,
        explain="pooled" if found.projection is None else "head",
        description=f"{found.pooling} pooling after {found.conv.operation.name}, "
        f"pixels {pixels or '0..255'}",
    )


@dataclass(frozen=True)
class Found:
    """Where a model's maps come from: tensors of its flat graph, and what lies between them."""

    steps: list  # that lead to all that follows
    image: Tensor
    conv: Tensor  # the feature map (N, h, w, C)
    pooling: str
    power: float | None = None
    projection: tuple | None = None
    pooled: Tensor | None = None  # the network's own pooled feature, where it has one
    output: Tensor | None = None  # its embedding, before a last normalisation
    inside: object = None  # the layer whose output conv is, where that is hidden inside of a step


def _contents(source, model):
    """Return a function that returns the arrays by which two models differ."""

    def contents():
        path = Path(source)
        if path.suffix in models.MODEL_FILES and path.is_file():  # which says more than its weights
            return [np.fromfile(path, np.uint8)]
        return [np.asarray(weight) for weight in model.weights]

    return contents


def _chosen(model, name):
    """Return the model and the layer to begin with: a sub-model that is named stands for itself."""
    if name is None:
        return model, None
    layer = find_layer(model, name)
    return (layer, None) if isinstance(layer, keras.Model) else (model, layer)


def _analyse(model, layer, pooling):
    """Return the `Found` of a model, or of what comes out of one of its layers."""
    graph = flatten(model)
    if layer is not None:
        return _analyse_layer(graph, layer, pooling)
    if not has_graph(model):
        names = ", ".join(path for path, _ in layers(model))
        raise ValueError(
            "model: its graph is not known (a subclassed model), name the layer whose output is "
            f"the feature map with layer=; it has {names}"
        )
    found, problems = [], []
    for output in graph.outputs:
        try:
            found.append(_explain(graph, output, pooling))
        except ValueError as error:
            problems.append(str(error))
    if len(found) == 1:
        return found[0]
    if len(graph.outputs) == 1:
        raise ValueError(problems[0])
    names = ", ".join(output.operation.name for output in graph.outputs)
    raise ValueError(
        f"model: {len(found)} of its {len(graph.outputs)} outputs could be explained, say which "
        f"one with layer=, of {names}" + "".join(f"; {problem}" for problem in problems)
    )


def _analyse_layer(graph, layer, pooling):
    """Explain what a layer puts out: its own pooling, where that is a feature map."""
    calls = [step for step in graph.steps if step.operation is layer]
    if len(calls) > 1:
        raise ValueError(
            f"layer: {named(layer)} is called {len(calls)} times, so that its output is not one "
            "feature map; name another one, or the sub-model in which it is called once"
        )
    if calls and len(calls[0].outputs[0].shape) != 4:
        return _explain(graph, calls[0].outputs[0], pooling)
    if calls:
        conv, inside = calls[0].outputs[0], None
        steps, image = _way_from_image(graph, conv)
    else:
        (step,) = [
            step for step in graph.steps if any(each is layer for _, each in layers(step.operation))
        ]
        conv, inside = Tensor((None,) * 4, "float32", layer), layer
        steps, image = _way_from_image(graph, step.outputs[0])
    return Found(steps, image, conv, pooling or "average", inside=inside)


def _way_from_image(graph, tensor):
    """Return the steps that lead to a tensor, and the input that they start from, the image."""
    steps = leading_to(graph.steps, [tensor])
    used = {source for step in steps for source in step.sources} | {tensor}
    inputs = [each for each in graph.inputs if each in used]
    if len(inputs) != 1:
        origin = {each: {each} for each in inputs}
        for step in steps:
            origins = set().union(*(origin[source] for source in step.sources))
            if len(origins) > 1:
                break
            origin.update(dict.fromkeys(step.outputs, origins))
        raise ValueError(
            f"model: {named(step.operation)} merges {len(step.sources)} tensors, of several inputs "
            f"({', '.join(each.operation.name for each in inputs)}); for a sub-model that they "
            "share, or a layer that the image alone leads to, say layer="
        )
    return steps, inputs[0]


def _explain(graph, output, pooling):
    """Walk back from an output to where positions are pooled, and fold what comes after."""
    steps, image = _way_from_image(graph, output)
    line = bottlenecks(steps, image, output)
    pooled_globally = {
        step.sources[0] for step in steps if isinstance(step.operation, AVERAGES + MAXIMA)
    }
    maps = [
        i for i, tensor in enumerate(line)
        if i and (any(side != 1 for side in tensor.positions) or tensor in pooled_globally)
    ]  # fmt: skip
    if not maps:
        raise ValueError(f"model: from {output.name} back to the input, no feature map is pooled")
    last = maps[-1]
    conv = line[last]
    if len(conv.shape) != 4:
        raise ValueError(
            f"model: {conv.name} puts out a sequence, {conv.shape}, not a feature map "
            "(N, h, w, C): a transformer has no exact maps of this kind"
        )
    if conv is output:
        if pooling is None:
            raise ValueError(
                f"model: its output {conv.shape}, of {conv.name}, is a feature map "
                "that nothing pools; say pooling=, average, max or gem"
            )
        return Found(steps, image, conv, pooling)
    first, *tail = pieces(steps, line[last:])
    kind, power = pooling_of(first) or (None, None)
    if kind is None or pooling not in (None, kind):
        kind, power = _claimed(first, pooling), None
    while tail and rescales(tail[-1]):
        tail.pop()
    return Found(
        steps,
        image,
        conv,
        kind,
        power,
        fold(tail, conv.shape[-1]),
        first.target,
        tail[-1].target if tail else first.target,
    )


def _claimed(piece, pooling):
    """Return the pooling that the user says a piece does, where it could."""
    shape = piece.source.shape
    if piece.target.positions not in ((), (1, 1)) or piece.target.shape[-1] != shape[-1]:
        raise ValueError(
            f"model: {piece.name} keeps positions apart instead of pooling the feature map "
            f"{shape}; say layer= for the feature map to explain its average"
        )
    if pooling is None:
        raise ValueError(
            f"model: {piece.name} pools {shape} neither by mean nor by maximum nor by GeM; say "
            "layer= for the feature map to explain its average"
        )
    return pooling


# --- running it ----------------------------------------------------------------------------------


def _runner(found):
    """Return a function of batches: the feature map, the pooled feature and the embedding, in one

    run of the steps that lead there; None for those that the network does not have.
    """
    wanted = [found.conv, found.pooled, found.output]
    if found.inside is not None:
        return lambda batch: (_run_inside(found, batch), None, None)
    steps = leading_to(found.steps, [tensor for tensor in wanted if tensor is not None])

    def run_steps(batch):
        image = keras.ops.convert_to_tensor(batch, dtype=found.image.dtype)
        values = run(steps, {found.image: image})
        conv, pooled, output = (
            None if tensor is None else keras.ops.cast(values[tensor], "float32")
            for tensor in wanted
        )
        if found.pooling == "gem":  # what it clips before it takes powers
            conv = keras.ops.relu(conv)
        return conv, _flat(pooled), _flat(output)

    return run_steps


def _flat(vectors):
    return None if vectors is None else keras.ops.reshape(vectors, (len(vectors), -1))


def _run_inside(found, batch):
    """Return what comes out of a layer that is hidden inside of a step."""
    records = []

    def record(output):
        records.append(output)
        return output

    with intercepted(found.inside, record):
        run(found.steps, {found.image: keras.ops.convert_to_tensor(batch)})
    if len(records) != 1:
        raise ValueError(
            f"layer: {named(found.inside)} is called {len(records)} times in one run, so that its "
            "output is not one feature map"
        )
    conv = keras.ops.cast(records[0], "float32")
    if len(conv.shape) != 4:
        raise ValueError(
            f"layer: the output of {named(found.inside)} has shape {tuple(conv.shape)}, expected a "
            "feature map (N, h, w, C)"
        )
    return conv
