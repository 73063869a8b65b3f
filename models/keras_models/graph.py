"""A Keras model as one flat list of steps, from its image to its outputs.

Each call of a nested model is unrolled, so that every tensor on the way can be asked for, can be
replaced by another value, and can be differentiated by.  Only those steps run that lead to what is
asked for.  A subclassed model, of which Keras knows no graph, is one step.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock

import keras
from keras.src.ops.core import StopGradient  # which has no public name

from simvis.models.steps import Step, Tensor

ONE_AT_A_TIME = Lock()  # of threads that look inside of a layer, which they share


@dataclass(frozen=True)
class Graph:
    steps: list
    inputs: list
    outputs: list


def flatten(model):
    """Return the `Graph` of a model.

    Examples
    --------
    >>> inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()])
    >>> inputs = keras.Input((4,))
    >>> graph = flatten(keras.Model(inputs, inner(inputs)))
    >>> [type(step.operation).__name__ for step in graph.steps]
    ['Dense', 'ReLU']
    """
    if not has_graph(model):
        image, output = Tensor((None,) * 3 + (3,), "float32", model), Tensor((), "float32", model)

        def call(values):
            return keras.tree.flatten(model(*values, training=False))

        return Graph([Step(model, call, (image,), (output,))], [image], [output])
    inputs = [_tensor(each) for each in model.inputs]
    steps = []
    return Graph(steps, inputs, _unroll(model, inputs, steps))


def has_graph(operation):
    """Return whether an operation is a model that runs the graph which Keras knows of it."""
    known = bool(getattr(operation, "outputs", None)) and hasattr(operation, "inputs")
    # a subclass may have been built from a graph, and do something else when it is called
    return known and type(operation).call.__module__.split(".")[0] == "keras"


def _unroll(model, inputs, steps):
    """Append the steps of a call of a model; return its outputs."""
    graph = getattr(model, "_functional", None) or model  # where a Sequential keeps its graph
    known = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input or any(id(each) not in known for each in node.input_tensors):
                continue
            sources = [known[id(each)] for each in node.input_tensors]
            if has_graph(node.operation):
                outputs = _unroll(node.operation, sources, steps)
            else:
                outputs = [_tensor(each) for each in node.outputs]
                run = partial(_call_node, node)
                if isinstance(node.operation, StopGradient):  # which is for training alone
                    run = list
                steps.append(Step(node.operation, run, tuple(sources), tuple(outputs)))
            known.update(zip(map(id, node.outputs), outputs, strict=True))
    return [known[id(each)] for each in graph.outputs]


def _tensor(symbolic):
    return Tensor(tuple(symbolic.shape), symbolic.dtype, symbolic._keras_history.operation)


def _call_node(node, values):
    known = dict(zip(map(id, node.input_tensors), values, strict=True))
    args, kwargs = node.arguments.fill_in(known)
    if "training" in getattr(node.operation, "_call_context_args", ()):
        kwargs["training"] = False
    return keras.tree.flatten(node.operation(*args, **kwargs))


# --- layers by name ------------------------------------------------------------------------------


def layers(model, path=""):
    """Yield (path, layer) of all layers, those inside of nested models and layers included."""
    inner = getattr(model, "layers", None)
    for layer in getattr(model, "_layers", ()) if inner is None else inner:
        yield path + layer.name, layer
        yield from layers(layer, f"{path}{layer.name}/")


def output_named(model, name):
    """Return the layer that makes the output of that key, of a model of a dict, or None."""
    outputs = getattr(model, "output", None) if has_graph(model) else None
    if not isinstance(outputs, dict) or name not in outputs:
        return None
    return outputs[name]._keras_history.operation


def find_layer(model, name):
    """Return the one layer of that name, or path, among those of a model and inside of them."""
    matches = {
        id(layer): (path, layer)
        for path, layer in layers(model)
        if path == name or path.endswith(f"/{name}")
    }
    if len(matches) != 1:
        known = ", ".join(path for path, _ in (list(matches.values()) or list(layers(model)))[-12:])
        raise ValueError(f"layer: {len(matches)} layers are called {name!r}; among them: {known}")
    ((_path, layer),) = matches.values()
    return layer


# --- inside of a step ----------------------------------------------------------------------------


@contextmanager
def intercepted(layer, intercept):
    """Give the output of each call of a layer to a function, and return what that returns instead.

    It is meant for layers inside of a step, as in a subclassed model, whose graph is not known.
    If the layer is None, nothing is done.
    """
    if layer is None:
        yield
        return
    with ONE_AT_A_TIME:
        call = layer.call

        def called(*args, **kwargs):
            return intercept(call(*args, **kwargs))

        object.__setattr__(layer, "call", called)
        try:
            yield
        finally:
            object.__delattr__(layer, "call")
