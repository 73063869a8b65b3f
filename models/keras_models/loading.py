"""Any Keras 3 model as an EmbeddingNetwork: what is explained is found, run, and split up."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from simvis import image_ops
from simvis.models.contributions import TOLERANCE, Contributions, Layer
from simvis.models.functions import derived_functions
from simvis.models.keras_models import sources
from simvis.models.keras_models.attribution import analyse, at_stride, from_image
from simvis.models.keras_models.graph import find_layer, intercepted, output_named
from simvis.models.keras_models.places import may_move, token_places
from simvis.models.keras_models.probes import run_given_scales
from simvis.models.network import (
    MODEL_FILES,
    TENSORFLOW,
    EmbeddingNetwork,
    failures_in_words,
    stride_of,
    to_numpy,
)
from simvis.models.places import Layout, NotInPlace, Pixels, check_places
from simvis.models.steps import leading_to, named, run


def load(
    source, *, pooling, input_size, layer, preprocess, grid, prefix, graph, redraw=None, **of_source
):
    """Make an EmbeddingNetwork of a keras.Model, a model file or ``"keras:NAME"``.

    The options, and what is raised, are those of `models.load_network`.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"keras: it runs on {keras.backend.backend()} here, set KERAS_BACKEND=tensorflow"
        )
    name = str(source) if isinstance(source, (str, Path)) else source.name
    model, own_preprocess = sources.find(source, pooling, input_size, **of_source)
    whole = model = sources.as_graph(model, input_size)
    if redraw is not None:
        arrays = redraw([np.asarray(weight) for weight in model.weights])
        for weight, array in zip(model.weights, arrays, strict=True):
            weight.assign(array)

    def contents():  # by which two models differ
        if (path := Path(name)).suffix in MODEL_FILES and path.is_file():
            return [np.fromfile(path, np.uint8)]  # which says more than its weights
        return [np.asarray(weight) for weight in whole.weights]

    if layer is not None:
        layer = output_named(model, layer) or find_layer(model, layer)
        if isinstance(layer, keras.Model):  # a sub-model stands for itself
            model, layer = layer, None
    # no application pools by GeM itself, but it may be asked what if one did
    own_pooling = "average" if own_preprocess and pooling == "gem" else pooling
    with failures_in_words("numbers at random"):
        found = analyse(model, layer, own_pooling)
    size = sources.input_size_of(found.image.shape, input_size)
    how = preprocess or own_preprocess
    options = {"model": model, "layer": layer, "pooling": pooling, "size": size, "how": how}
    options |= {"grid": grid, "prefix": prefix, "graph": graph, "name": name, "contents": contents}
    try:
        return _network_of(found, **options)
    except NotInPlace:
        if found.output is None or pooling not in (None, "network"):
            raise
        return _network_of(from_image(found), **options)


def _network_of(found, *, model, layer, pooling, size, how, grid, prefix, graph, name, contents):
    """Return the EmbeddingNetwork of an Attribution; a `NotInPlace` says where its map is not."""
    prepare = sources.preprocessing(how)

    def to_batch(images):
        pixels = np.stack([image_ops.resize(image, size) for image in images]).astype(np.float32)
        pixels = pixels @ sources.GREY if found.image.shape[-1] == 1 else pixels
        return np.asarray(prepare(pixels), np.float32)

    grey = to_batch([np.full((*size, 3), 128, np.uint8)])
    if not model.built:
        model(grey)  # which would call its layers more than once, to see what shapes they have
    front = to_numpy(_front(found), grey.shape[1:], graph)
    shape = found.conv.shape
    if found.inside is not None or len(shape) == 3:  # whose length Keras may not know, or wrongly
        shape = front(grey)[0].shape
    tokens = len(shape) == 3
    if not tokens and len(shape) != 4:
        raise ValueError(
            f"layer: the output of {named(layer)} has shape {shape}, expected a feature map "
            "(N, h, w, C) or tokens (N, T, C)"
        )
    places = token_places(found, front, shape[1], to_batch, size) if tokens else None
    layout = Layout(shape, grid, prefix, size, found.maps, places)
    others = tokens and shape[1] > layout.grid[0] * layout.grid[1]
    pooled_with_prefix = found.output is not None and found.tail is None and others
    if (found.inside is not None and tokens and pooling is None) or pooled_with_prefix:
        found = analyse(model, layer, "network")
        front = to_numpy(_front(found), grey.shape[1:], graph)

    in_place = found.conv is found.image
    if not in_place and (found.inside or may_move(leading_to(found.steps, [found.conv]))):
        check_places(lambda batch: layout.lay(front(batch)[0]), to_batch, size)
    pixels = how if isinstance(how, str) else "by a function" if how else "0..255"
    fields = {
        "name": name,
        "input_size": size,
        "preprocess": to_batch,
        "weights": contents,
        "engine": TENSORFLOW,
        "tolerance": 1e-2 if found.half else 1e-4,
        "description": f"{_words(found, pooling, layout)}, pixels {pixels}",
    }

    own_stride = stride_of(size, layout.grid) if tokens else None

    def layer_at(stride):
        own = found.tail is not None and stride in (None, own_stride)
        part = found if own else at_stride(found, stride, grey)
        run_part = front if own else to_numpy(_front(part), grey.shape[1:], graph)
        return _layer_of(part, run_part, layout, tokens=own and tokens)

    fields["contributions"] = Contributions(layer_at, lambda: grey)
    if found.tail is not None:
        return _by_contributions(found, front, fields)
    fields["pooling"] = pooling or found.pooling
    return _pooled(found, front, layout, fields)


def _words(found, pooling, layout):
    """Say what is explained, and how."""
    place = found.conv.operation.name
    if found.before:
        place += f" up to what {found.before} is given"
    place += layout.words
    if found.tail is None:
        return f"{pooling or found.pooling} pooling after {place}"
    if found.tail.normalizations is not None:
        return f"all that follows {place}, in proportion to it"
    return f"all that follows {place}, by secants from a grey image"


# --- running it ----------------------------------------------------------------------------------


def _front(found):
    """Return a function of batches: the activations, pooled feature, output and all else needed.

    In one run of the steps that lead there; None for those of them that the network does not have.
    """
    context = () if found.tail is None else found.tail.context
    wanted = [found.conv, found.pooled, found.output, *context]
    steps = found.steps
    if found.inside is None:
        steps = leading_to(steps, [tensor for tensor in wanted if tensor is not None])

    def run_front(batch):
        records = []

        def record(output):
            records.append(keras.tree.flatten(output)[0])
            return output

        image = keras.ops.convert_to_tensor(batch, dtype=found.image.dtype)
        with intercepted(found.inside, record):
            values = run(steps, {found.image: image})
        if found.inside is not None:
            if len(records) != 1:
                raise ValueError(
                    f"layer: {named(found.inside)} is called {len(records)} times in one run, so "
                    "that its output is not one feature map"
                )
            values[found.conv] = records[0]
        conv, pooled, output, *rest = (
            None if tensor is None else _float32(values[tensor]) for tensor in wanted
        )
        if found.pooling == "gem":  # what it clips before it takes powers
            conv = keras.ops.relu(conv)
        return conv, _flat(pooled), _flat(output), *rest

    return run_front


def _float32(tensor):
    return keras.ops.cast(tensor, "float32")


def _flat(vectors):
    if vectors is None:
        return None
    return keras.ops.reshape(vectors, (keras.ops.shape(vectors)[0], -1))


def _pooled(found, front, layout, fields):
    """Make the EmbeddingNetwork of a pooling and a linear head."""
    place = 1 if found.projection is None else 2

    def functions_of(front):
        def run_pooled(batch):
            conv, pooled, output = front(batch)
            return layout.lay(conv), pooled, output

        return {
            "activations": lambda batch: run_pooled(batch)[0],
            "embed": None if found.output is None else (lambda batch: run_pooled(batch)[place]),
            "forward": run_pooled,
        }

    return EmbeddingNetwork(
        **fields,
        **functions_of(front),
        projection=found.projection,
        own=(found.pooling, found.projection),
        power=found.power or 3.0,
        functions_by=lambda compiled: functions_of(compiled(_front(found))),
    )


def _by_contributions(found, front, fields):
    """Make the EmbeddingNetwork whose activations are local features, times their number."""

    def functions_of(front):
        return derived_functions(lambda batch: front(batch)[2], fields["contributions"])

    return EmbeddingNetwork(
        **fields,
        **functions_of(front),
        pooling="average",
        projection=None,
        derived=True,
        functions_by=lambda compiled: functions_of(compiled(_front(found))),
    )


def _layer_of(found, front, layout, tokens):
    """Return the `Layer` that an Attribution with a tail looks at; the layout is that of tokens.

    They are what it looks at itself, or what follows it and is pooled.
    """

    def values_at(points, context):
        repeated = {
            tensor: keras.ops.cast(tf.repeat(values, tf.shape(points)[0], 0), tensor.dtype)
            for tensor, values in zip(tail.context, context, strict=True)
        }
        return {**repeated, found.conv: keras.ops.cast(points, found.conv.dtype)}

    def follow_given_scales(points, *context, scales):
        values = values_at(points, context)
        values = run_given_scales(tail.steps, values, tail.normalizations, scales)
        return _flat(_float32(values[found.output]))

    def follow(points, *context):
        def replace(output):
            first, *rest = keras.tree.flatten(output)
            return keras.tree.pack_sequence_as(output, [keras.ops.cast(points, first.dtype), *rest])

        with intercepted(found.inside, replace):
            output = _float32(run(tail.steps, values_at(points, context))[found.output])
        if len(output.shape) == 3:  # tokens that are pooled after it
            return layout.rows(output)
        return output if len(output.shape) == 4 else _flat(output)

    def lead(batch):
        conv, _pooled, _output, *context = front(batch)
        return [conv, *context]

    tail = found.tail
    proportional = tail.normalizations is not None
    return Layer(
        front=lead,
        tail=follow_given_scales if proportional else follow,
        tolerance=1e-2 if found.half else TOLERANCE,
        to_map=layout.sums if tokens else Pixels().sums if found.conv is found.image else None,
        proportional=proportional,
    )
