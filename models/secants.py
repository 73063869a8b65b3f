"""Local features at any layer of any network: what each position there adds to an embedding.

With x an image's activations at a layer, r those of a reference, F the network from there on and
d a direction, each operation of F passes on the *secant* between x and r instead of its derivative,
so that nothing of the difference is lost:

    <F(x), d> = <F(r), d> + sum_u l[u]

A function of one number passes on its slope (f(x) - f(r)) / (x - r), a product the mean of its
other factor, what is linear itself; a quotient is a product with a reciprocal, a softmax the
exponential of a difference to the logarithm of a sum of exponentials, and a maximum shares its two
steps, over the larger of both values, among the positions that hold it.  For networks of rectifiers
this is DeepLIFT's rescale rule (Shrikumar, Greenside, Kundaje, ICML 2017).  In several steps along
the straight line from r to x the sums telescope, so that it stays exact, and comes to integrated
gradients (Sundararajan, Taly, Yan, ICML 2017) as the steps grow shorter.

The rules are gradients that `tf.Graph.gradient_override_map` puts in while a function is traced.
Its batch is the upper ends of all steps, then their lower ends.
"""

import threading
from contextlib import contextmanager

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.python.framework import ops  # the registry of gradients has no public name
from tqdm import tqdm

SMOOTH = ("Softplus", "Sigmoid", "Tanh", "Erf", "Erfc", "Expm1", "Log1p", "Sin", "Cos", "Atan")
STEPS = ("Round",)  # as of quantized layers: flat but for jumps
UNARY = (*SMOOTH, *STEPS, "Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Softsign", "Log", "Abs")
LINEAR = {
    *("AddV2", "Add", "AddN", "Sub", "Neg", "BiasAdd", "Cast", "Identity", "IdentityN", "Conv2D"),
    *("DepthwiseConv2dNative", "Conv2DBackpropInput", "AvgPool", "Mean", "Sum", "Reshape"),
    *("Transpose", "ConcatV2", "Concat", "Pack", "Unpack", "Split", "SplitV", "Slice"),
    *("StridedSlice", "GatherV2", "GatherNd", "Pad", "PadV2", "MirrorPad", "Tile", "BroadcastTo"),
    *("ExpandDims", "Squeeze", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"),
    *("SpaceToBatchND", "BatchToSpaceND", "SpaceToDepth", "DepthToSpace", "ReverseV2", "Roll"),
    *("SelectV2", "FusedBatchNormV3", "Cumsum", "MatrixBandPart", "Snapshot"),
}
SHAPES = ("Shape", "ShapeN", "Size", "Rank")  # of a tensor; they say nothing of its values
# How many numbers of activations go through the network at once; it keeps some tens of times as
# many for its secants.
NUMBERS_AT_ONCE = 2**21
MOST_STEPS = 64
SECANT = f"Secant of {__name__} "  # since doctests import this file once more
ONE_AT_A_TIME = threading.Lock()  # of functions that are traced
PRECISION = {tf.float16: 2.0**-10, tf.bfloat16: 2.0**-7, tf.float32: 2.0**-23, tf.float64: 2.0**-52}
_moving = set()  # names of the tensors that the input reaches, while gradients are made


class Secants:
    """A function of activations, traced once, whose differences are split among positions.

    Parameters
    ----------
    function : function of a float32 tensor (B, *positions, C), and of others, -> float32 (B, D)
        Each of the B independent of the others.

    Attributes
    ----------
    unruled : sorted list of str
        Operations that are neither linear nor have a rule, once the function is traced.  They pass
        on the mean of their derivatives at both ends.
    """

    def __init__(self, function):
        self.unruled, self._traced = [], {}

        def run(points, directions, others):
            graph = tf.compat.v1.get_default_graph()
            rules = {name: SECANT + name for name in RULES}
            with graph.gradient_override_map(rules), _functions_inlined():
                values = function(points, *others)
            reached = _reached(graph, points)
            for operation in reached:  # functions with gradients of their own are their parts
                if operation.type == "IdentityN":
                    kind = AttrValue(s=(SECANT + "IdentityN").encode())
                    operation._set_attr("_gradient_op_type", kind)
            self.unruled = sorted({each.type for each in reached} - LINEAR - set(RULES))
            along = tf.reduce_sum(tf.cast(values, tf.float32) * _both(directions), -1)
            _moving.update({points.name}, (each.name for op in reached for each in op.outputs))
            try:
                (slopes,) = tf.gradients(along, [points])
            finally:
                _moving.clear()
            if slopes is None:
                slopes = tf.zeros_like(points)
            # rules pass on the same to both ends; of the rest, the mean of both is closer
            (slope1, slope0), (end1, end0) = _ends(slopes), _ends(points)
            parts = (slope1 + slope0) / 2 * (end1 - end0)
            values1, _ = _ends(tf.cast(values, tf.float32))
            return tf.reduce_sum(parts, -1), *_ends(along), tf.norm(values1, axis=-1)

        self._run = tf.function(run, autograph=False)

    def split(self, upper, lower, directions, others=()):
        """Return what each position adds to <F(upper), d> - <F(lower), d>, both, and |F(upper)|.

        Those are float64 (B, *positions), and (B,) three times, of ends (B, *positions, C),
        directions (B, D), and a tuple of tensors that the function takes besides.
        """
        points = np.concatenate([upper, lower]).astype(np.float32)
        along = np.asarray(directions, np.float32)
        # of open lengths, so that another number of steps is no reason to trace again
        signature = (
            tf.TensorSpec((None, *points.shape[1:]), tf.float32),
            tf.TensorSpec((None, along.shape[1]), tf.float32),
            tuple(tf.TensorSpec(each.shape, each.dtype) for each in others),
        )
        if signature not in self._traced:
            bar = tqdm(total=1, desc="tracing the network", disable=_hidden(), leave=False)
            with ONE_AT_A_TIME, bar:
                self._traced[signature] = self._run.get_concrete_function(*signature)
        run = self._traced[signature]
        found = run(tf.constant(points), tf.constant(along), tuple(others))
        return [each.numpy().astype(np.float64) for each in found]


def _hidden(hidden=False):
    """Return what hides a bar: a thread of many has one above it that counts more."""
    alone = threading.current_thread() is threading.main_thread()
    return True if hidden or not alone else None


def contributions(secants, activations, reference, directions, steps=1, tolerance=3e-5, others=()):
    """Return what each position adds to an embedding seen along directions, and what is left.

    Parameters
    ----------
    secants : Secants of a function F
    activations, reference : float32 (*positions, C) arrays
    directions : float (K, D) array
    steps : int >= 1, of the line from the reference to the activations
    tolerance : float
        Operations without a rule leave a gap, and so does rounding if the reference is a special
        place, as where a norm is zero.  Relative to the embedding, it has to be so small, and the
        steps are doubled until it is, up to MOST_STEPS.
    others : tuple of tensors that the function takes besides

    Returns
    -------
    parts : float64 (K, *positions) array
    constant : float64 (K,) array, <F(reference), d>

    A ValueError that names such operations is raised if the gap stays larger.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    >>> secants = Secants(lambda x: tf.reduce_sum(tf.square(x), 1))  # (B, 2, 2) -> (B, 2)
    >>> contributions(secants, x, 0 * x, np.eye(2))[0]
    array([[1., 9.],
           [4., 0.]])
    """
    directions = np.asarray(directions, np.float64)
    while True:
        share = np.linspace(1, 0, steps + 1, dtype=np.float32)
        line = reference + share.reshape(-1, *(1,) * reference.ndim) * (activations - reference)
        line[0] = activations
        at_once, found = max(1, NUMBERS_AT_ONCE // activations.size), []
        starts = range(0, len(directions) * steps, at_once)
        for start in tqdm(starts, desc="local features", disable=_hidden(len(starts) < 8)):
            some = np.arange(start, min(start + at_once, starts.stop))  # all steps of each in turn
            along, step = directions[some // steps], some % steps
            found.append(secants.split(line[step], line[step + 1], along, others))
        found = [np.concatenate(each) for each in zip(*found, strict=True)]
        parts, at_upper, at_lower, norms = (
            each.reshape(-1, steps, *each.shape[1:]) for each in found
        )
        parts, whole, constant = parts.sum(1), at_upper[:, 0], at_lower[:, -1]
        if not np.isfinite(whole).all():
            raise ValueError("network: its own output is not finite")
        gaps = np.abs(parts.reshape(len(parts), -1).sum(1) + constant - whole)
        gap = (gaps / np.maximum(norms[:, 0] * np.linalg.norm(directions, axis=1), 1e-30)).max()
        if gap <= tolerance:
            return parts, constant
        if 2 * steps > MOST_STEPS:
            why = f", for the sake of {', '.join(secants.unruled)}" if secants.unruled else ""
            raise ValueError(
                f"network: what positions add misses {gap:.1e} of the embedding in {steps} steps"
                f"{why}; a later layer= is easier"
            )
        steps *= 2


@contextmanager
def _functions_inlined():
    """Let the functions that a model has compiled be traced as parts of it."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _reached(graph, start):
    """Return the operations that the values of a tensor reach, in order."""
    names, reached = {start.name}, []
    for operation in graph.get_operations():
        if operation.type not in SHAPES and any(each.name in names for each in operation.inputs):
            names.update(each.name for each in operation.outputs)
            reached.append(operation)
    return reached


# --- rules: functions of an operation and of what comes back to its output -----------------------


def _ends(tensor):
    """Return the upper and the lower ends of the steps."""
    return tf.split(tensor, 2)


def _both(tensor):
    return tf.concat([tensor, tensor], 0)


def _mean(tensor):
    """Return the mean of both ends, or the tensor itself if the input does not move it."""
    if tensor.name not in _moving:
        return tensor
    upper, lower = _ends(tensor)
    return _both((upper + lower) / 2)


def _slope(x, y, derivative, smooth=False):
    """Return (y1 - y0) / (x1 - x0), and the mean derivative where x hardly moves.

    Of a smooth function that is off by the square of a step, where a difference of rounded numbers
    loses their precision over the step.
    """
    (x1, x0), (y1, y0), (at1, at0) = _ends(x), _ends(y), _ends(derivative)
    step = x1 - x0
    still = tf.abs(step) <= (PRECISION[x.dtype] ** (1 / 3) if smooth else 0)
    slope = (y1 - y0) / tf.where(still, tf.ones_like(step), step)
    middle = (at1 + at0) / 2
    middle = tf.where(tf.math.is_finite(middle), middle, tf.zeros_like(middle))  # as of a root at 0
    return _both(tf.where(still, middle, slope))


def _slope_of_exp(x, y):
    (x1, x0), (y1, y0) = _ends(x), _ends(y)
    step = tf.abs(x1 - x0)  # down from the larger end, which does not overflow
    ratio = -tf.math.expm1(-step) / tf.where(step == 0, tf.ones_like(step), step)
    return _both(tf.maximum(y1, y0) * tf.where(step == 0, tf.ones_like(step), ratio))


def _by_outputs(slope):
    """Return the rule of a unary function whose slope follows from its values at both ends."""
    return lambda operation, gradient: gradient * _both(slope(*_ends(operation.outputs[0])))


def _unary(name):
    derivative = None if name in STEPS else ops.gradient_registry.lookup(name)

    def rule(operation, gradient):
        one = tf.ones_like(gradient)
        at = derivative(operation, one) if derivative else tf.zeros_like(one)
        return gradient * _slope(*operation.inputs, *operation.outputs, at, name in SMOOTH)

    return rule


def _bilinear(name):
    derivative = ops.gradient_registry.lookup(name)

    class Between:  # the operation with the mean of both ends for each factor
        def __init__(self, operation):
            self.inputs, self.outputs = list(map(_mean, operation.inputs)), operation.outputs
            self.get_attr, self.skip_input_indices = operation.get_attr, None

    return lambda operation, gradient: derivative(Between(operation), gradient)


def _summed(gradient, like):
    """Sum what came back over the axes along which a factor was broadcast."""
    rest = like.shape[1:] if like.shape.rank else None  # the first axis is that of the batch
    if rest is not None and rest.is_fully_defined() and like.shape == gradient.shape:
        return gradient
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(like), s1=tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), tf.shape(like))


def _product(operation, gradient):
    a, b = operation.inputs
    return _summed(gradient * _mean(b), a), _summed(gradient * _mean(a), b)


def _quotient(operation, gradient):
    a, b = operation.inputs
    inverse = 1 / b
    if b.name not in _moving:
        return _summed(gradient * inverse, a), None
    upper, lower = _ends(inverse)
    to_b = _summed(gradient * _mean(a), b) * _both(-upper * lower)
    return _summed(gradient * _both((upper + lower) / 2), a), to_b


def _squared_difference(operation, gradient):
    a, b = operation.inputs
    difference = 2 * gradient * (_mean(a) - _mean(b))
    return _summed(difference, a), _summed(-difference, b)


def _power(operation, gradient):
    a, b = operation.inputs
    if b.name in _moving:
        raise ValueError("network: a power whose exponent depends on the image has no secant")
    return gradient * _slope(a, operation.outputs[0], b * tf.pow(a, b - 1)), None


def _larger(operation, gradient):
    a, b = operation.inputs
    y = operation.outputs[0]
    if a.name in _moving and b.name in _moving:
        # the larger is a + relu(b - a), the smaller a - relu(a - b)
        difference = b - a
        share = _slope(difference, y - a, tf.cast(y != a, y.dtype))
        return _summed(gradient * (1 - share), a), _summed(gradient * share, b)
    x = (a if a.name in _moving else b) + tf.zeros_like(y)
    passed = gradient * _slope(x, y, tf.cast(y == x, y.dtype))
    return (_summed(passed, a), None) if a.name in _moving else (None, _summed(passed, b))


def _softmax(operation, gradient):
    """Of y = exp(z - log(sum(exp(z)))): nothing of it overflows, however far the ends are apart."""
    z, y = operation.inputs[0], operation.outputs[0]
    logarithm = tf.reduce_logsumexp(z, -1, True)
    to_difference = gradient * _slope_of_exp(z - logarithm, y)
    highest = tf.maximum(*_ends(tf.reduce_max(z, -1, True)))
    e = tf.exp(z - _both(highest))
    total = tf.reduce_sum(e, -1, True)
    (total1, total0), (logarithm1, logarithm0) = _ends(total), _ends(logarithm)
    grows = tf.math.divide_no_nan(total1 - total0, total0)  # where it hardly does, by its series
    near = tf.abs(grows) < 0.1
    some = tf.where(near, grows, tf.ones_like(grows))
    series = tf.math.divide_no_nan(tf.math.log1p(some), some * total0)
    series = tf.where(some == 0, tf.math.divide_no_nan(tf.ones_like(some), total0), series)
    slope = tf.math.divide_no_nan(logarithm1 - logarithm0, total1 - total0)
    slope = _both(tf.where(near & (total0 > 0), series, slope))
    return to_difference - tf.reduce_sum(to_difference, -1, True) * slope * _slope_of_exp(z, e)


def _per_step(x, parts):
    """Return what parts of a step are for each unit of it, none where there is no step."""
    upper, lower = _ends(x)
    step = upper - lower
    return _both(tf.where(step == 0, tf.zeros_like(step), parts / tf.where(step == 0, 1.0, step)))


def _pooled_maximum(operation, gradient):
    x, y = operation.inputs[0], operation.outputs[0]
    y1, y0 = _ends(y)
    larger, back = tf.maximum(y1, y0), sum(_ends(gradient)) / 2
    shares = tf.raw_ops.MaxPoolGrad(
        orig_input=x,
        orig_output=y,
        grad=tf.concat([(larger - y0) * back, (y1 - larger) * back], 0),
        **{
            name: value.decode() if isinstance(value, bytes) else value
            for name in ("ksize", "strides", "padding", "data_format")
            for value in [operation.get_attr(name)]
        },
    )
    upper, lower = _ends(shares)
    return _per_step(x, upper + lower)


def _extremum_over_axes(operation, gradient, sign=1):
    x, axes = operation.inputs
    kept = sign * tf.reduce_max(sign * x, axes, True)
    (x1, x0), (y1, y0) = _ends(x), _ends(kept)
    back = sum(_ends(tf.reshape(gradient, tf.shape(kept)))) / 2
    larger = sign * tf.maximum(sign * y1, sign * y0)

    def shared(values, highest):
        holds = tf.cast(values == highest, values.dtype)
        return holds / tf.reduce_sum(holds, axes, True)

    parts = shared(x1, y1) * (larger - y0) * back + shared(x0, y0) * (y1 - larger) * back
    return _per_step(x, parts), None


RULES = {
    **{name: _unary(name) for name in UNARY},
    "Exp": lambda op, gradient: gradient * _slope_of_exp(op.inputs[0], op.outputs[0]),
    "Rsqrt": _by_outputs(lambda y1, y0: -((y1 * y0) ** 2) / (y1 + y0)),
    "Sqrt": _by_outputs(lambda y1, y0: tf.math.divide_no_nan(1.0, y1 + y0)),
    "Reciprocal": _by_outputs(lambda y1, y0: -y1 * y0),
    "Square": lambda op, gradient: 2 * gradient * _both(sum(_ends(op.inputs[0])) / 2),
    **{name: _bilinear(name) for name in ("MatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum")},
    "Mul": _product,
    "RealDiv": _quotient,
    "SquaredDifference": _squared_difference,
    "Pow": _power,
    "Maximum": _larger,
    "Minimum": _larger,
    "Softmax": _softmax,
    "MaxPool": _pooled_maximum,
    "Max": _extremum_over_axes,
    "Min": lambda op, gradient: _extremum_over_axes(op, gradient, -1),
    "StopGradient": lambda op, gradient: gradient,
    "PreventGradient": lambda op, gradient: gradient,
}
for _name, _rule in RULES.items():
    tf.RegisterGradient(SECANT + _name)(_rule)
tf.RegisterGradient(SECANT + "IdentityN")(lambda operation, *gradients: list(gradients))
