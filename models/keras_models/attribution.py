"""Where a Keras model's maps come from: its feature map, its pooling and head, or what follows it.

All ways from the image to an output lead through a line of tensors, its bottlenecks.  What lies
between the last feature map, or sequence of tokens, and the output is called to see what it does.
Of three ways, the first that fits is taken:

- it pools by the mean, the maximum or GeM, and what follows is affine, or multiplies by a positive
  number, which a cosine does not see: `similarity_ops` knows all of it;
- given the scale of each normalisation, it grows in proportion to the activations, as mixtures of
  poolings and kernels for each position do: one derivative is exact;
- else by secants, see `models.secants`.
"""

from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from simvis.models.keras_models.graph import flatten, has_graph, layers
from simvis.models.keras_models.probes import (
    AVERAGES,
    MAXIMA,
    fold,
    is_half,
    is_step_function,
    normalization_of,
    pieces,
    pooling_of,
    run_given_scales,
)
from simvis.models.network import stride_of
from simvis.models.probes import NotLinear, rescales
from simvis.models.steps import (
    Step,
    Tensor,
    bottlenecks,
    following,
    leading_to,
    named,
    run,
)

PADDINGS = keras.layers.ZeroPadding2D, keras.layers.Cropping2D


@dataclass(frozen=True)
class Attribution:
    """Where a model's maps come from: tensors of its flat graph, and what lies between them."""

    steps: list  # that lead to all that follows
    image: Tensor
    conv: Tensor  # the feature map (N, h, w, C), or a sequence of tokens (N, T, C)
    pooling: str = "average"
    power: float | None = None
    projection: tuple | None = None
    pooled: Tensor | None = None  # the network's own pooled feature, if it has one
    output: Tensor | None = None  # its embedding, before a last normalisation
    inside: object = None  # the layer that puts conv out, if that is hidden inside of a step
    before: str = ""  # the step function that comes after the output, as of deep hashing
    tail: "Tail | None" = None  # how the output follows from conv, if that is no pooling and head

    @property
    def half(self):
        """Whether some of it is computed in half precision."""
        return is_half(self.steps)

    @property
    def maps(self):
        """The (h, w) of the feature maps that lead to conv, the last one first."""
        steps = leading_to(self.steps, [self.conv])
        shapes = [each.shape for step in steps for each in step.outputs]
        return tuple(shape[1:3] for shape in reversed(shapes) if len(shape) == 4)


@dataclass(frozen=True)
class Tail:
    """What follows the activations, as far as it depends on them."""

    steps: list  # that lead from them to the output
    context: tuple  # tensors that the steps need besides, of the same image
    normalizations: dict | None  # of steps to `Normalization`, if it grows in proportion given them


def analyse(model, layer=None, pooling=None):
    """Return the `Attribution` of a model, or of what comes out of one of its layers.

    A ValueError says why there is no place to look at, and what to say instead.
    """
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
            found.append(explain(graph, output, pooling))
        except ValueError as error:
            problems.append(str(error))
    for few in (found, [each for each in found if each.tail is None]):
        if len(few) == 1:
            return few[0]
    if len(graph.outputs) == 1:
        raise ValueError(problems[0])
    problem = (
        f"model: {len(found)} of its {len(graph.outputs)} outputs could be explained, say "
        f"which one with layer=, of {_names(graph.outputs)}"
    )
    raise ValueError("; ".join([problem, *problems]))


def _analyse_layer(graph, layer, pooling):
    """Explain a layer's output, if it is a vector; else its pooled feature, or all that follows."""
    calls = [step for step in graph.steps if step.operation is layer]
    ways = [[each.operation for each in leading_to(graph.steps, call.outputs)] for call in calls]
    if len(calls) > 1 and all(way == ways[0] for way in ways):  # of a siamese model
        calls = calls[:1]
    if len(calls) > 1:
        raise ValueError(
            f"layer: {named(layer)} is called {len(calls)} times, so that its output is not one "
            "feature map; name another one, or the sub-model in which it is called once"
        )
    if not calls:
        return _analyse_inside(graph, layer, pooling)
    conv = calls[0].outputs[0]
    if len(conv.shape) not in (3, 4):
        return explain(graph, conv, pooling)
    if pooling != "network" and (pooling is not None or len(conv.shape) == 4):
        steps, image = _way_from_image(graph, conv)
        return Attribution(steps, image, conv, pooling or "average")
    steps, image, output = _way_to_output(graph)
    if not any(conv in step.outputs for step in steps):
        raise ValueError(f"layer: the output does not depend on {named(layer)}, say pooling=")
    return Attribution(steps, image, conv, output=output, tail=tail_from(steps, conv, output))


def _analyse_inside(graph, layer, pooling):
    """Explain a layer that is hidden inside of a step of the graph."""
    step = next(
        step for step in graph.steps if any(each is layer for _, each in layers(step.operation))
    )
    conv = Tensor((None,) * 4, "float32", layer)
    if pooling != "network":
        steps, image = _way_from_image(graph, step.outputs[0])
        return Attribution(steps, image, conv, pooling or "average", inside=layer)
    steps, image, output = _way_to_output(graph)
    after = steps[steps.index(step) :]
    tail = Tail(after, tuple(_context(after)), None)
    return Attribution(steps, image, conv, output=output, inside=layer, tail=tail)


def _way_to_output(graph):
    """Return the steps, the image and the output of a graph that has but one."""
    if len(graph.outputs) != 1:
        names = _names(graph.outputs)
        raise ValueError(
            f"model: it has {len(graph.outputs)} outputs, say layer= for one of {names}"
        )
    steps, image = _way_from_image(graph, graph.outputs[0])
    return steps, image, _before_rescaling(steps, image, graph.outputs[0])


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
            f"({_names(inputs)}); for a sub-model that they share, or a layer that the image alone "
            "leads to, say layer="
        )
    return steps, inputs[0]


def _before_rescaling(steps, image, output):
    """Return what a last normalisation, which a cosine does not see, is given."""
    for piece in reversed(pieces(steps, bottlenecks(steps, image, output))):
        if len(piece.source.shape) != 2 or not rescales(piece):
            return piece.target
    return output


# --- an output ------------------------------------------------------------------------------------


def explain(graph, output, pooling):
    """Go back from an output to where positions are pooled, or can be told apart.

    Of a step function at the end, as sign or round of deep hashing, it is what that is given.
    """
    steps, image = _way_from_image(graph, output)
    *_, last = pieces(steps, bottlenecks(steps, image, output))
    if is_step_function(last):
        return replace(explain(graph, last.source, pooling), before=last.name)
    line = bottlenecks(steps, image, output)
    pooled_globally = {
        step.sources[0] for step in steps if isinstance(step.operation, AVERAGES + MAXIMA)
    }
    places = [
        i
        for i, tensor in enumerate(line)
        if i and (any(side != 1 for side in tensor.positions) or tensor in pooled_globally)
    ]
    if not places and _branches(steps, image, line):
        # as two backbones, or one at two scales, and the image is all that they have in common
        return from_image(Attribution(steps, image, image, output=output))
    if not places:
        raise ValueError(
            f"model: from {output.name} back to the input, no feature map is pooled; to look at "
            "another layer that depends on places, say layer="
        )
    conv = line[places[-1]]
    if conv is output:
        if pooling in (None, "network"):
            kind = "feature map" if len(conv.shape) == 4 else "sequence"
            raise ValueError(
                f"model: its output {conv.shape}, of {conv.name}, is a {kind} "
                "that nothing pools; say pooling=, average, max or gem"
            )
        return Attribution(steps, image, conv, pooling)
    if pooling != "network":
        try:
            return _pooling_and_head(steps, image, line[places[-1] :], pooling)
        except NotLinear as problem:
            if pooling is not None:
                raise ValueError(
                    f"pooling: {pooling} is not all that follows {conv.name}: {problem}"
                ) from None
    output = _before_rescaling(steps, image, output)
    for i in reversed(places):
        if not _tells_positions_apart(leading_to(steps, [output], [line[i]]), line[i], output):
            continue
        # powers of activations, as GeM takes them in steps of its own, do not grow in proportion
        for conv in line[i : max(i - 3, 0) : -1]:
            if conv is not line[i] and (len(conv.shape) != 4 or conv.shape != line[i].shape):
                break
            tail = tail_from(steps, conv, output)
            if tail.normalizations is not None:
                return Attribution(steps, image, conv, output=output, tail=tail)
        conv = line[i]
        if len(conv.shape) == 3:  # attention mixes tokens, so those that it has not mixed yet
            conv = next(each for each in line if each.shape == conv.shape)
        return Attribution(steps, image, conv, output=output, tail=tail_from(steps, conv, output))
    raise ValueError(
        f"model: {output.name} depends on no more than one position of each feature map that "
        "can be seen; say layer= for one inside of another layer"
    )


def from_image(found):
    """Return an `Attribution` of the image itself, whose pixels are where they are."""
    output = _before_rescaling(found.steps, found.image, found.output)
    tail = Tail(leading_to(found.steps, [output], [found.image]), (), None)
    image = found.image
    return Attribution(found.steps, image, image, output=output, tail=tail, before=found.before)


def _branches(steps, image, line):
    """Return whether maps that are pooled lie on several ways from the image, and none on all."""
    first = leading_to(steps, [line[1]], [image])
    return len(first) > 1 and any(len(e.shape) == 4 for step in first for e in step.outputs)


def _pooling_and_head(steps, image, line, pooling):
    """Return the `Attribution` of a pooling, of the first of a line of tensors, and a linear head.

    A `NotLinear` says what is something else.
    """
    conv = line[0]
    first, *tail = pieces(steps, line)
    kind, power = pooling_of(first) or (None, None)
    if kind is None or pooling not in (None, kind):
        vector = all(side == 1 for side in first.target.positions)
        if not vector or first.target.shape[-1] != conv.shape[-1] or pooling is None:
            raise NotLinear(f"{first.name} does something else")
        kind, power = pooling, None  # as the user says, which the network's own output tells
    while tail and rescales(tail[-1]):
        tail.pop()
    projection = fold(tail, conv.shape[-1])
    output = tail[-1].target if tail else first.target
    return Attribution(steps, image, conv, kind, power, projection, first.target, output)


def _tells_positions_apart(steps, conv, output):
    """Return whether an output depends on most positions of a tensor, or on a few alone."""
    if np.prod(conv.sides) <= 1:
        return False
    rng = np.random.default_rng(0)
    count = 16 if len(conv.sides) == 2 else 8  # of which maxima lie in many places
    values = tf.constant(rng.standard_normal((count, *conv.sides, conv.shape[-1])), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = run(steps, {conv: tf.cast(values, conv.dtype)})[output]
        found = tf.reshape(tf.cast(found, tf.float32), (count, -1))
    weights = tf.constant(rng.standard_normal(found.shape), tf.float32)
    slope = tape.gradient(found, values, weights, tf.UnconnectedGradients.ZERO)
    return np.mean(np.any(slope.numpy() != 0, axis=(0, -1))) > 0.5


def tail_from(steps, conv, output):
    """Return the `Tail` that leads from a tensor to the output."""
    after = leading_to(following(steps, conv), [output], [conv])
    context, normalizations = _context(after) - {conv}, None
    if not context:
        grouped = _with_normalizations_whole(after, conv, output)
        found = {step: normalization_of(step) for step in grouped}
        found = {step: normal for step, normal in found.items() if normal is not None}
        if _is_proportional(grouped, conv, output, found):
            after, normalizations = grouped, found
    return Tail(after, tuple(context), normalizations)


def _with_normalizations_whole(steps, conv, output):
    """Return steps with each normalisation that takes several of them, as v / |v|, made one."""
    for piece in pieces(steps, bottlenecks(steps, conv, output)):
        if len(piece.steps) > 1 and len(piece.source.shape) == 2 and rescales(piece):

            def run_whole(values, piece=piece):
                return [run(piece.steps, {piece.source: values[0]})[piece.target]]

            whole = Step(piece.target.operation, run_whole, (piece.source,), (piece.target,))
            last = piece.steps[-1]
            steps = [whole if step is last else step for step in steps]
            steps = [step for step in steps if step not in piece.steps]
    return steps


def _is_proportional(steps, conv, output, normalizations):
    """Return whether F(a x) = F(0) + a (F(x) - F(0)), given the scales that x has."""
    values = np.random.default_rng(0).standard_normal((1, *conv.sides, conv.shape[-1]))
    tolerance = 2e-2 if is_half(steps) else 1e-4
    for x in (np.abs(values), values):
        scales = {}

        def function(factor, x=x, scales=scales):
            source = {conv: keras.ops.convert_to_tensor(factor * x, dtype=conv.dtype)}
            found = run_given_scales(steps, source, normalizations, scales)[output]
            return np.asarray(keras.ops.cast(found, "float32"), np.float64)

        whole, nothing = function(1.0), function(0.0)
        if x is values and np.isnan(whole).any():  # powers of what a network never puts out
            break
        for factor in (0.01, 0.1, 0.5, 2.0, 100.0):  # far enough for biases to cross a threshold
            expected = nothing + factor * (whole - nothing)
            if not np.allclose(function(factor), expected, 0, tolerance * np.abs(expected).max()):
                return False
    return True


# --- earlier layers -------------------------------------------------------------------------------


def at_stride(found, stride, grey):
    """Return the `Attribution` of the last feature map of a stride that all ways lead through.

    Its output is what the given Attribution pools, or its output; grey is a batch of one image.
    """
    target = found.conv if found.tail is None else found.output
    steps, known = leading_to(found.steps, [target]), {}
    if found.inside is None:
        values = run(steps, {found.image: keras.ops.cast(grey, found.image.dtype)})
        for each in bottlenecks(steps, found.image, target):
            # what a padding puts out is shifted against the image
            shape, padded = values[each].shape, isinstance(each.operation, PADDINGS)
            if len(shape) == 4 and max(shape[1:3]) > 1 and not padded:
                known[stride_of(grey.shape[1:3], shape[1:3])] = each
        known[1] = found.image  # and no padding of it
    if stride not in known:
        words = ", ".join(map(str, sorted(known))) or "none"
        raise ValueError(
            f"stride: {found.output.name if found.output else found.conv.name} has no layer of "
            f"{stride} pixels to a cell that all of it leads through; there are {words}"
        )
    conv = known[stride]
    after = leading_to(following(steps, conv), [target], [conv])
    tail = Tail(after, tuple(_context(after) - {conv}), None)
    return replace(found, conv=conv, output=target, tail=tail, pooled=None)


def _context(steps):
    """Return the tensors that steps need and do not make."""
    made = {each for step in steps for each in step.outputs}
    return {each for step in steps for each in step.sources} - made


def _names(tensors):
    return ", ".join(tensor.operation.name for tensor in tensors)
