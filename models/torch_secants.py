"""What each position of a layer adds to what follows it, in PyTorch, by secants: exactly.

What follows the layer, F, is traced as a graph of PyTorch's elementary operations.  From a
reference r to the activations x, each operation passes on its *secant* instead of its derivative,
by the rules that `models.secants` tells, which conserve the difference:

    F(x) = F(r) + sum_u l[u]

It takes one forward pass for x and r, and one backward pass for each direction.  Many steps from r
to x come to integrated Jacobians (Moeller, Nikolaev, Pado, EMNLP 2023).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from simvis.models.steps import Step, Tensor, leading_to

aten = torch.ops.aten
GAP = 1e-6  # of the embedding, that may be left over
MOST_STEPS = 64
# Pointwise operations of one tensor that are linear, whose slope need not be measured.
LINEAR = {aten.add, aten.sub, aten.rsub, aten.mul, aten.neg, aten.clone, aten._to_copy}
LINEAR |= {aten.to, aten.copy, aten.alias, aten.where, aten.masked_fill, aten.lift_fresh_copy}
# Pointwise operations that PyTorch does not mark as such.
POINTWISE = {aten.hardswish, aten._prelu_kernel}
SOFTMAX = {aten._softmax, aten._safe_softmax}
MAXIMA = {aten.amax, aten.max, aten.max_pool2d_with_indices, aten.adaptive_max_pool2d}


@dataclass(frozen=True)
class Traced:
    """What follows a layer, as steps of one image; `constants` are all values that it needs."""

    steps: list
    source: Tensor  # the activations (1, *positions, C)
    output: Tensor
    constants: dict  # of fx's nodes to tensors
    dtype: torch.dtype
    device: torch.device

    def until(self, target):
        """Return it with another of its tensors for an output."""
        return replace(self, steps=leading_to(self.steps, [target]), output=target)


def trace(function, example):
    """Return a function of a tensor (1, ...) as `Traced`, which computes with the example's dtype.

    Half precision is left behind: what is traced is computed in float64, or in float32 where a
    device does not know that.  Raises a ValueError if it cannot be traced, as if Python looks at
    the values.
    """
    example = example.detach()
    double = torch.float32 if example.device.type == "mps" else torch.float64
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole block
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            pure = torch.func.functionalize(function, remove="mutations_and_views")
            graph = make_fx(pure, decomposition_table=DECOMPOSITIONS)(example)
    except Exception as error:  # of any module's own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"layer: what follows it cannot be traced ({reason}); name a later layer"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    with torch.no_grad():
        return _as_steps(graph, double, example.device)


def _as_steps(graph, dtype, device):
    """Return fx's graph as `Traced`: what depends on the activations are steps, all else values."""
    tensors, steps, source, output = {}, [], None, None
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            source = tensors[node] = _tensor(node)
        elif node.op == "output":
            (output,) = node.all_input_nodes
        elif any(each in tensors for each in node.all_input_nodes):
            tensors[node] = _tensor(node)
            sources = tuple(tensors[n] for n in node.all_input_nodes if n in tensors)
            steps.append(Step(node, None, sources, (tensors[node],)))
    if output not in tensors:
        raise ValueError("layer: the output does not depend on it")
    steps = leading_to(steps, [tensors[output]])
    # of all else, which the image alone leads to, only what the steps need is computed
    needed = {n for step in steps for n in step.operation.all_input_nodes} - tensors.keys()
    wanted = set(needed)
    for node in reversed(graph.graph.nodes):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    values = {}
    for node in graph.graph.nodes:
        if node.op == "call_function":
            node.args, node.kwargs = _converted((node.args, node.kwargs), dtype)
        if node in wanted and node.op == "get_attr":
            values[node] = _converted(getattr(graph, node.target), dtype)
        elif node in wanted:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    constants = {node: value for node, value in values.items() if node in needed}
    return Traced(steps, source, tensors[output], constants, dtype, device)


def _tensor(node):
    value = node.meta.get("val")
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
    return Tensor(shape, str(getattr(value, "dtype", "")), node)


def _converted(values, dtype):
    """Return nested values with floating tensors, and dtypes that are asked for, of one dtype."""

    def convert(value):
        if isinstance(value, torch.Tensor):
            return value.detach().to(dtype) if value.is_floating_point() else value.detach()
        if isinstance(value, torch.dtype):
            return dtype if value.is_floating_point else value
        if isinstance(value, dict):
            return {name: convert(each) for name, each in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value)(map(convert, value))
        return value

    return convert(values)


def run(traced, steps, values):
    """Run some of the steps on a dict of `Tensor` to values; return it with all they compute."""
    values = dict(values)
    with torch.no_grad():
        for step in steps:
            values[step.outputs[0]] = _call(step, values, traced.constants)
    return values


def _call(step, values, constants):
    """Call the operation of a step on values by the `Tensor` that they are of."""
    node, known = step.operation, {each.operation: values[each] for each in step.sources}
    args, kwargs = torch.fx.node.map_arg(
        (node.args, node.kwargs), lambda each: known.get(each, constants.get(each))
    )
    return node.target(*args, **kwargs)


# --- secants --------------------------------------------------------------------------------------


def contributions(traced, x, reference, directions, steps=1):
    """Return what each position adds, what the reference has, and all of the output.

    Parameters
    ----------
    traced : Traced
    x, reference : float arrays (*positions, C), of which the last axis is summed over
    directions : float array (K, D)
    steps : int >= 1, into which the way from the reference to x is cut, at first; four times as
        many follow, until all of the difference is found, see GAP

    Returns
    -------
    parts : float64 (K, *positions) array
    constant : (K,) array, <F(r), d>
    output : (D,) array, F(x)
    """
    x, reference, directions = (
        torch.tensor(np.asarray(each), dtype=traced.dtype, device=traced.device)
        for each in (x, reference, directions)
    )
    while True:
        parts, lower, upper = _in_steps(traced, x, reference, directions, steps)
        gap = parts.flatten(1).sum(1) - directions @ (upper - lower)
        small = gap.norm() <= GAP * directions.norm() * upper.norm()
        if small or steps >= MOST_STEPS:  # what is left then is the pair's check to judge
            found = parts, directions @ lower, upper
            return tuple(each.detach().double().cpu().numpy() for each in found)
        steps *= 4


def _in_steps(traced, x, reference, directions, steps):
    parts, first = 0, None
    with torch.enable_grad():
        for k in range(steps):
            ends = [reference + (x - reference) * each / steps for each in (k, k + 1)]
            source, output, (lower, upper) = _linearized(traced, *(each[None] for each in ends))
            first = lower if first is None else first
            slopes = []
            for direction in directions:
                (slope,) = torch.autograd.grad(
                    output @ direction, source, retain_graph=True, materialize_grads=True
                )
                slopes.append((slope[0] * (ends[1] - ends[0])).sum(-1))
            parts = parts + torch.stack(slopes)
    return parts, first, upper


def _linearized(traced, lower, upper):
    """Return a source and an output of a graph that is linear between, by secants, and its ends."""
    low = run(traced, traced.steps, {traced.source: lower})
    high = run(traced, traced.steps, {traced.source: upper})
    source = lower.clone().requires_grad_()
    linear = {traced.source: source}
    for step in traced.steps:
        (target,) = step.outputs
        if isinstance(low[target], torch.Tensor) and not _floating(low[target]):
            linear[target] = high[target]
            continue
        try:
            linear[target] = _secant(step, linear, low, high, traced.constants)
        except (RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"layer: nothing is known of {step.operation.target}, which follows it ({reason}); "
                "name a later layer"
            ) from error
    ends = [values[traced.output].reshape(-1) for values in (low, high)]
    return source, linear[traced.output].reshape(-1), ends


class _At(torch.autograd.Function):
    """A value whose gradient goes to another tensor."""

    @staticmethod
    def forward(context, value, linear):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return None, gradient


def _secant(step, linear, low, high, constants):
    """Return what a step makes of its linear sources: their secant map, applied to them."""
    node, (target,) = step.operation, step.outputs
    packet = getattr(node.target, "overloadpacket", node.target)
    sources = list(dict.fromkeys(step.sources))
    first, a = sources[0], (low[sources[0]], high[sources[0]])
    floating = [
        each for each in sources if _floating(linear.get(each)) and linear[each].requires_grad
    ]
    if packet in SOFTMAX:
        return _softmax(linear[first], *a, node.args[1])
    if packet in MAXIMA and not (packet is aten.max and len(sources) > 1):
        return _maximum(node, linear[first], *a)
    if packet in (aten.maximum, aten.minimum) and len(floating) == 2:
        sign = 1 if packet is aten.maximum else -1
        one, other = (linear[each] for each in floating)
        between = [values[floating[0]] - values[floating[1]] for values in (low, high)]
        slope = _slope(torch.abs, *between, *map(torch.abs, between))
        return (one + other + sign * slope * (one - other)) / 2
    tensors = {each.operation: each for each in sources}
    if packet is aten.div and len(node.args) == 2 and tensors.get(node.args[1]) in floating:
        above, divisor = map(tensors.get, node.args)
        inverse = [1 / values[divisor] for values in (low, high)]
        slope = _slope(torch.reciprocal, low[divisor], high[divisor], *inverse)
        over = slope * linear[divisor]
        if above is None:
            return over * constants.get(node.args[0], node.args[0])
        middle = (low[above] + high[above]) / 2
        return linear[above] * sum(inverse) / 2 + over * middle
    pointwise = packet in POINTWISE or torch.Tag.pointwise in getattr(node.target, "tags", ())
    if pointwise and len(floating) == 1 and packet not in LINEAR and packet is not aten.div:
        (only,) = floating

        def function(values):
            others = {each: low[each] for each in sources}
            return _call(step, {**others, only: values}, constants)

        slope = _slope(function, low[only], high[only], low[target], high[target])
        return slope * linear[only]
    # The derivative half way: exact for what is linear, and for products of two.
    middle = {}
    for each in sources:
        if isinstance(low[each], (tuple, list)):
            middle[each] = linear[each]
        elif not _floating(low[each]):
            middle[each] = high[each]
        else:
            middle[each] = (low[each] + high[each]) / 2
            if each in floating:
                middle[each] = _At.apply(middle[each], linear[each])
    return _call(step, middle, constants)


def _floating(value):
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _slope(function, a, b, f_a, f_b):
    """Return (f(b) - f(a)) / (b - a), and the derivative where these are one number."""
    step = b - a
    near = step.abs() <= 8 * torch.finfo(a.dtype).eps * torch.maximum(a.abs(), b.abs())
    slope = (f_b - f_a) / torch.where(near, torch.ones_like(step), step)
    if near.any():
        middle = ((a + b) / 2).detach().requires_grad_()
        with torch.enable_grad():
            value = function(middle)
            (derivative,) = torch.autograd.grad(value.sum(), middle, allow_unused=True)
        if derivative is not None:
            slope = torch.where(near, derivative, slope)
    return torch.nan_to_num(slope.detach(), 0.0, 0.0, 0.0)


def _softmax(linear, a, b, axis):
    """Apply the secant of a softmax: exp, sum, reciprocal and product."""
    peak = torch.maximum(a.amax(axis, True), b.amax(axis, True))
    peak = torch.where(peak.isfinite(), peak, torch.zeros_like(peak))
    low, high = (each - peak for each in (a, b))
    powers = low.exp(), high.exp()
    over = _slope(torch.exp, low, high, *powers) * linear
    sums = [each.sum(axis, True) for each in powers]
    inverse = [1 / each for each in sums]
    slope = _slope(torch.reciprocal, *sums, *inverse)
    return over * sum(inverse) / 2 + sum(powers) / 2 * (slope * over.sum(axis, True))


def _maximum(node, linear, a, b):
    """Apply the secant of a maximum over axes, or over windows: a step from each end's place."""
    packet = node.target.overloadpacket
    pools = packet in (aten.max_pool2d_with_indices, aten.adaptive_max_pool2d)
    if pools:
        flat = [each.flatten(-2) for each in (linear, a, b)]
        found = [node.target(each, *node.args[1:], **node.kwargs)[1] for each in (a, b)]
        shape, places = found[0].shape, [each.flatten(-2) for each in found]
    else:
        axes = node.args[1] if len(node.args) > 1 else range(a.ndim)
        axes = [axes] if isinstance(axes, int) else list(axes) or list(range(a.ndim))
        axes = sorted(axis % a.ndim for axis in axes)
        kept = [axis for axis in range(a.ndim) if axis not in axes]
        keep = len(node.args) > 2 and node.args[2]
        shape = [1 if axis in axes else n for axis, n in enumerate(a.shape)]
        shape = shape if keep else [a.shape[axis] for axis in kept]
        flat = [each.permute(*kept, *axes).flatten(len(kept)) for each in (linear, a, b)]
        places = [each.argmax(-1, keepdim=True) for each in flat[1:]]
    linear, a, b = flat
    low, high = a.gather(-1, places[0]), b.gather(-1, places[1])
    top, found = torch.maximum(low, high), 0
    # it rises to the top at the high end's place, and falls from there at the low end's
    for place, step in zip(places, (high - top, top - low), strict=True):
        change = b.gather(-1, place) - a.gather(-1, place)
        share = torch.where(change == 0, 0.0, step / torch.where(change == 0, 1.0, change))
        found = found + share * linear.gather(-1, place)
    found = found.reshape(shape)
    return (found, None) if pools or packet is aten.max and len(node.args) > 1 else found


# --- operations in elementary ones ----------------------------------------------------------------


def _var_mean(x, dim=None, *, correction=None, keepdim=False):
    dim = dim if dim else list(range(x.ndim))
    mean = x.mean(dim, keepdim=True)
    count = x.numel() // max(mean.numel(), 1) - (1 if correction is None else correction)
    variance = ((x - mean) * (x - mean)).sum(dim, keepdim=keepdim) / count
    return variance, mean if keepdim else x.mean(dim)


def _layer_norm(x, shape, weight, bias, eps):
    variance, mean = _var_mean(x, list(range(-len(shape), 0)), correction=0, keepdim=True)
    inverse = (variance + eps).rsqrt()
    y = (x - mean) * inverse
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean, inverse


def _group_norm(x, weight, bias, count, channels, positions, groups, eps):
    y, mean, inverse = _layer_norm(
        x.reshape(count, groups, -1), (channels // groups * positions,), None, None, eps
    )
    y, shape = y.reshape(x.shape), (1, channels, *[1] * (x.ndim - 2))
    y = y if weight is None else y * weight.reshape(shape)
    y = y if bias is None else y + bias.reshape(shape)
    return y, mean.squeeze(-1), inverse.squeeze(-1)


def _vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    dim = list(range(x.ndim)) if dim is None else dim
    if ord == 2:
        return (x * x).sum(dim, keepdim=keepdim).sqrt()
    return (x.abs() ** ord).sum(dim, keepdim=keepdim) ** (1 / ord)


def _batch_norm(x, weight, bias, mean, variance, training, momentum, eps):
    shape = (1, -1, *[1] * (x.ndim - 2))
    if training or mean is None:  # as an instance norm, by what it sees itself
        variance, mean = _var_mean(x, [0, *range(2, x.ndim)], correction=0, keepdim=True)
    inverse = (variance + eps).rsqrt().reshape(shape)
    y = (x - mean.reshape(shape)) * inverse
    y = y if weight is None else y * weight.reshape(shape)
    y = y if bias is None else y + bias.reshape(shape)
    return y, mean.flatten(), inverse.flatten()


def _glu(x, dim=-1):
    one, other = x.chunk(2, dim)
    return one * other.sigmoid()


DECOMPOSITIONS = {
    aten.native_batch_norm.default: _batch_norm,
    aten.glu.default: _glu,
    aten.log_sigmoid_forward.default: lambda x: (x.sigmoid().log(), x),
    aten.var_mean.correction: _var_mean,
    aten.var.correction: lambda x, *args, **options: _var_mean(x, *args, **options)[0],
    aten.std.correction: lambda x, *args, **options: _var_mean(x, *args, **options)[0].sqrt(),
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    aten.linalg_vector_norm.default: _vector_norm,
    aten._log_softmax.default: lambda x, axis, half: aten._softmax(x, axis, half).log(),
}
