"""An ONNX model from images to embeddings, as an EmbeddingNetwork, checked like all others.

The layer's output is added to the graph's outputs, and what lies between it and the model's output
is cut out of the graph in pieces, which are called to see what they do.
"""

import os
from functools import partial

import numpy as np
import onnx
import onnxruntime

from simvis.models.functions import (
    TOLERANCE,
    TOLERANCES,
    as_batch,
    checked_size,
    of_pooling,
    sample_images,
)
from simvis.models.places import Layout, axes_of, check_places
from simvis.models.probes import NotLinear, Piece, pooling_and_head
from simvis.models.steps import Step, Tensor, bottlenecks, leading_to

ANY = 2**30  # images at once
MOST_MAPS = 6  # that are tried, from the last one on
KINDS = {"float": np.float32, "float16": np.float16, "double": np.float64, "uint8": np.uint8}


def from_onnx(
    path_or_session,
    layer=None,
    *,
    input_size,
    preprocess,
    output=None,
    pooling=None,
    grid=None,
    prefix=None,
    data_format=None,
    tolerance=None,
    name=None,
):
    """Make an `EmbeddingNetwork` of an ONNX model that pools a feature map, or tokens.

    Parameters
    ----------
    path_or_session : str, Path or onnxruntime.InferenceSession
        The model's file, or a session that was made of one.
    layer : None or str
        The name of a tensor, or of the node that makes it: a feature map (N, C, h, w) or
        (N, h, w, C), or tokens (N, T, C).  None finds the last one that all leads through.
    input_size : (height, width) in pixels, of the images that the model takes
    preprocess : function of a list of RGB uint8 (H, W, 3) arrays -> what the model takes, an array
        (N, 3, H, W) or (N, H, W, 3)
    output : None or str, the name of the model's output, if it has several
    pooling, grid, prefix, data_format, tolerance, name : as for `from_torch`

    Returns
    -------
    network : EmbeddingNetwork

    Raises
    ------
    ValueError, OSError
        Names the argument at fault.  What follows the layer must be average, maximum or GeM pooling
        and be linear after that: anything else needs a gradient, which onnxruntime does not have.
    """
    size, model = checked_size(input_size), _Model(path_or_session, output)
    to_batch = partial(as_batch, preprocess)
    samples, problems = to_batch(sample_images(size)), []
    for line, axes, maps in model.lines(layer, samples[:1], size, data_format):
        half, layout = "16" in line[0].dtype, Layout(line[0].shape, grid, prefix, size, maps)
        place, between = line[0].operation + layout.words, partial(model.piece, line[0], axes, half)
        try:
            found = pooling_and_head(line, between, layout.grid, layout.prefix)
            break
        except NotLinear as problem:  # as after the powers of GeM, before which its map is
            problems.append(f"what follows {place} needs a gradient ({problem})")
    else:
        raise ValueError(
            f"layer: {problems[0]}, which onnxruntime does not have: take the model's PyTorch "
            "module with from_torch, or a later layer, or give from_functions local features, "
            "l[u] * N"
        )
    if pooling not in (None, found[0]):
        raise ValueError(f"pooling: {found[0]} follows {place}, not {pooling}")
    looking = model.session([line[0].operation])

    def look(batch):
        starts = range(0, len(batch), model.at_once)
        pairs = [model.run(looking, batch[i : i + model.at_once]) for i in starts]
        vectors, conv = (np.concatenate(each)[: len(batch)] for each in zip(*pairs, strict=True))
        conv = np.float32(conv.transpose(axes))
        return layout.lay(conv), np.float32(vectors).reshape(len(batch), -1)

    check_places(lambda batch: look(batch)[0], to_batch, size)
    return of_pooling(
        look,
        *found,
        place,
        name=name or model.name,
        input_size=size,
        preprocess=to_batch,
        engine="ONNX Runtime",
        tolerance=tolerance or (TOLERANCES["float16"] if half else TOLERANCE),
        weights=lambda: [
            np.frombuffer(model.proto.SerializeToString(deterministic=True), np.uint8),
            to_batch(sample_images(size)),
        ],
    )


class _Model:
    """A graph, and sessions of parts of it."""

    def __init__(self, source, output):
        if isinstance(source, onnxruntime.InferenceSession):
            path = getattr(source, "_model_path", None)
            if not path:
                raise ValueError("path_or_session: the session knows no file, pass the file's path")
        else:
            path = os.fspath(source)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path}: no such file")
        try:
            self.proto = onnx.load(path)
            onnx.checker.check_model(self.proto)
        except Exception as error:  # of many classes
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{path}: no ONNX model that can be read: {reason}") from None
        self.name, graph = os.path.basename(path), self.proto.graph
        self.initializers = {each.name: each for each in graph.initializer}
        inputs = [each for each in graph.input if each.name not in self.initializers]
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise ValueError(f"{path}: expected one input, the images, it has {names}")
        names = [each.name for each in graph.output]
        if output is None and len(names) != 1 or output not in (None, *names):
            raise ValueError(f"output: say which one of {', '.join(names)}, got {output!r}")
        self.input, self.output = inputs[0], output or names[0]
        shape = self.input.type.tensor_type.shape
        count = shape.dim[0].dim_value if shape.dim else 0
        self.at_once = count or ANY  # images, of a graph that takes so many and no others
        self.source = Tensor((), "", self.input.name)
        self.steps, made = [], {self.input.name: self.source}
        for node in graph.node:
            sources = tuple(made[each] for each in node.input if each in made)
            if sources:
                outputs = tuple(Tensor((), "", each) for each in node.output if each)
                made.update((each.operation, each) for each in outputs)
                self.steps.append(Step(node, None, sources, outputs))
        if self.output not in made:
            raise ValueError(f"output: {self.output} does not depend on the images")
        self.steps = leading_to(self.steps, [made[self.output]])
        self.made = made

    def lines(self, layer, batch, size, data_format):
        """Yield the tensors from the layer on that all leads through, its axes, and all maps.

        If no layer is named, those from the last map on, from the one before it on, and so on.
        """
        line = bottlenecks(self.steps, self.source, self.made[self.output])[1:]
        names = [each.operation for each in line]
        values = self.run(self.session(names[:-1]), batch)
        values = dict(zip([names[-1], *names[:-1]], values, strict=True))
        count = 1 if self.at_once == ANY else self.at_once
        axes = {each: axes_of(values[each].shape, count, size, data_format) for each in names}
        # of one image each, since pieces are called with one
        values = {
            name: value[:1] if value.shape[:1] == (count,) else value
            for name, value in values.items()
        }
        maps = [each for each in names if axes[each]]
        node = next((s.operation for s in self.steps if layer and s.operation.name == layer), None)
        chosen = [node.output[0] if node else layer] if layer else maps[::-1][:MOST_MAPS]
        if not chosen or not set(chosen) <= set(maps):
            raise ValueError(
                "layer: expected a feature map or tokens that all of the model leads through, got "
                f"{layer}; the last ones are {', '.join(maps[-5:]) or 'none'}"
            )
        seen = [values[each].transpose(axes[each]).shape[1:-1] for each in reversed(maps)]
        for first in chosen:
            shapes = {each: values[each].shape for each in names}
            shapes[first] = values[first].transpose(axes[first]).shape
            found = [
                Tensor(shapes[each], str(values[each].dtype), each)
                for each in names[names.index(first) :]
            ]
            yield found, axes[first], tuple(each for each in seen if len(each) == 2)

    def session(self, names):
        """Return a session of the model with tensors added to its outputs, after its own."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.output[:]
        wanted = dict.fromkeys([self.output, *names])
        proto.graph.output.extend(onnx.ValueInfoProto(name=each) for each in wanted)
        return _session(proto)

    def run(self, session, batch):
        """Return a session's outputs of at most `at_once` images, filled up if need be."""
        kind = session.get_inputs()[0].type.removeprefix("tensor(").removesuffix(")")
        missing = self.at_once - len(batch) if self.at_once != ANY else 0
        batch = np.concatenate([batch, batch[-1:].repeat(missing, 0)]) if missing else batch
        try:
            return session.run(None, {session.get_inputs()[0].name: batch.astype(KINDS[kind])})
        except Exception as error:  # of onnxruntime's own classes
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"network: it failed on a batch {batch.shape}: {reason}") from error

    def piece(self, first, axes, half, source, target):
        """Return what lies between two tensors as a `Piece`.

        Of the first of them, whose axes they are, it takes (N, *positions, C).
        """
        ends = [self.made[each.operation] for each in (source, target)]
        steps = leading_to(self.steps, ends[1:], ends[:1])
        nodes = [step.operation for step in steps]
        wanted = {each for node in nodes for each in node.input}
        for node in reversed(self.proto.graph.node):  # constants that nodes make
            made = any(each in self.made for each in node.input)
            if wanted.intersection(node.output) and node not in nodes and not made:
                nodes.insert(0, node)
                wanted.update(node.input)
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(source.dtype))
        graph = onnx.helper.make_graph(
            nodes,
            "piece",
            [onnx.helper.make_tensor_value_info(source.operation, kind, None)],
            [onnx.ValueInfoProto(name=target.operation)],
            [each for name, each in self.initializers.items() if name in wanted],
        )
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        proto.graph.CopyFrom(graph)
        session = _session(proto)

        def function(values):
            found = []
            for each in values:  # one by one, for graphs that know their batch
                each = each.reshape(source.shape).astype(source.dtype)
                each = each.transpose(np.argsort(axes)) if source is first else each
                found.append(session.run(None, {source.operation: each})[0].ravel())
            return np.float32(found)

        return Piece(function, source.shape[1:], target.operation, half)


def _session(proto):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=onnxruntime.get_available_providers()
        )
    except Exception as error:  # of onnxruntime's own classes
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"network: onnxruntime does not take it: {reason}") from None
