"""The authors' networks: slim's resnet_v2_50, from the checkpoints that TensorFlow 1 wrote.

Convolutions and batch norms are called directly, by the names of the variables that they use: what
the authors' graph computed can be read off from top to bottom.
"""

import warnings

import numpy as np
import tensorflow as tf
from PIL import Image

from simvis import image_ops
from simvis.models.checkpoints import read_tensorflow_variables

INPUT_SIZE = (224, 224)
# name, channels inside the bottleneck, units, stride of the last unit
BLOCKS = (
    ("block1", 64, 3, 2),
    ("block2", 128, 4, 2),
    ("block3", 256, 6, 2),
    ("block4", 512, 3, 1),
)
EXPANSION = 4  # a unit's output channels over those inside
EPSILON = 1e-5  # of the batch norms
NORM = ("gamma", "beta", "moving_mean", "moving_variance")  # the variables of a batch norm


def read_weights(prefix):
    """Read and check a checkpoint of slim's resnet_v2_50.

    It returns and raises what `checkpoints.read_tensorflow_variables` does: 272 arrays, as slim
    names them without ``resnet_v2_50/`` (``conv1/weights``), and how many variables are ignored,
    as the global step and an optimizer's slots.
    """
    return read_tensorflow_variables(prefix, dict(variable_shapes()), "resnet_v2_50/")


def build(weights, batch_norm, at=None):
    """Return a function from a batch (N, h, w, 3) to the activations (N, h/32, w/32, 2048).

    With ``at``, a stride, it is two functions, one after the other, and between them lies the last
    unit that puts out a cell for so many pixels, or, for 1, the pixels.
    Batch norm uses "batch", the statistics of the batch that it is given, as the authors' code
    does, or "moving", the averages of the training.
    """
    variables = {name: tf.constant(value) for name, value in weights.items()}

    def normalize(x, scope):
        scale, offset, mean, variance = (variables[f"{scope}/{name}"] for name in NORM)
        if batch_norm == "batch":
            mean = variance = tf.constant([], tf.float32)
        y, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            epsilon=EPSILON,
            is_training=batch_norm == "batch",
        )
        return tf.nn.relu(y)

    def convolve(x, scope, stride=1):
        kernel, padding = variables[f"{scope}/weights"], "SAME"
        if stride > 1:  # symmetric, which SAME would not be; of kernels of 3 and 7
            before = kernel.shape[0] // 2
            padding = [[0, 0], [before, before], [before, before], [0, 0]]
        x = tf.nn.conv2d(x, kernel, stride, padding)
        if f"{scope}/biases" in variables:
            return tf.nn.bias_add(x, variables[f"{scope}/biases"])
        return normalize(x, f"{scope}/BatchNorm")

    def unit(x, scope, stride):
        preact = normalize(x, f"{scope}/preact")
        if f"{scope}/shortcut/weights" in variables:
            shortcut = convolve(preact, f"{scope}/shortcut")
        else:
            shortcut = x[:, ::stride, ::stride]
        residual = convolve(preact, f"{scope}/conv1")
        residual = convolve(residual, f"{scope}/conv2", stride)
        return shortcut + convolve(residual, f"{scope}/conv3")

    def front(batch):
        x = convolve(batch, "conv1", stride=2)  # (N, h/2, w/2, 64)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")  # (N, h/4, w/4, 64)
        for scope, _inside, stride, _in, _out in units[:split]:
            x = unit(x, scope, stride)
        return x

    def tail(x):
        for scope, _inside, stride, _in, _out in units[split:]:
            x = unit(x, scope, stride)
        return normalize(x, "postnorm")  # (N, h/32, w/32, 2048)

    units, grid, split = list(_units()), 4, 0
    if at is None:
        return lambda batch: tail(front(batch))
    if at == 1:
        return tf.identity, lambda batch: tail(front(batch))
    if at not in (4, 8, 16):
        raise ValueError(f"stride: expected 1, 4, 8, 16 or none, got {at!r}")
    for number, (_scope, _inside, stride, _in, _out) in enumerate(units, 1):
        grid *= stride
        split = number if grid == at else split
    return front, tail


def projection(weights):
    """Return the logits layer as (kernel (2048, D), bias (D,)), the head after average pooling."""
    return weights["logits/weights"][0, 0], weights["logits/biases"]


def preprocess(images, mean_image):
    """Return what the authors' code fed its network.

    Whole images are resized as OpenCV does, to the bit, stay 8-bit and get OpenCV's BGR order;
    then the mean image is subtracted, in float64 if it is float64.  The hotels' mean image looks
    as if it were stored in RGB order and is subtracted from BGR pixels all the same.

    The images are a list of RGB uint8 (H, W, 3) arrays, resized to the size of the mean image,
    (h, w, 3); the batch is float32 (N, h, w, 3), BGR.
    """
    size = mean_image.shape[:2]
    resized = np.stack([image_ops.resize_like_opencv(image, size) for image in images])
    return (resized[..., ::-1] - mean_image).astype(np.float32)


def read_mean_image(path, size=INPUT_SIZE):
    """Read a mean image, a ``.npy`` file with an array of numbers (224, 224, 3).

    The authors had none but 224 x 224 pixels, which stay as they are, to the bit.  To another
    (height, width) it is stretched by Pillow's bilinear filter, in float32.  A FileNotFoundError or
    ValueError names the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a header that is only odd
            # the header first: it tells how much would be read, and pickles are refused
            mean_image = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, dtype = mean_image.shape, mean_image.dtype  # which an archive does not have
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such mean image") from None
    except Exception as error:  # a damaged header is parsed as Python, which raises nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: not a mean image in .npy format: {reason}") from None
    if shape != (*INPUT_SIZE, 3) or dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected a (224, 224, 3) array of numbers, got {shape} {dtype}")
    mean_image = np.array(mean_image)
    largest = np.finfo(np.float32).max  # what is left of pixels is float32
    if not (np.abs(mean_image) <= largest).all():
        raise ValueError(f"{path}: expected finite values, got NaN, infinity or nearly that")
    if tuple(size) == INPUT_SIZE:
        return mean_image
    channels = [Image.fromarray(np.float32(channel)) for channel in np.moveaxis(mean_image, 2, 0)]
    stretched = [channel.resize(size[::-1], Image.Resampling.BILINEAR) for channel in channels]
    return np.stack(stretched, axis=2)


def _units():
    """Yield (scope, channels inside, stride, input, output channels) of each bottleneck unit."""
    channels = 64
    for block, inside, units, last_stride in BLOCKS:
        for number in range(1, units + 1):
            stride = last_stride if number == units else 1
            output = inside * EXPANSION
            yield f"{block}/unit_{number}/bottleneck_v2", inside, stride, channels, output
            channels = output


def variable_shapes():
    """Yield the name and shape of each of the 272 variables; None stands for any length."""
    yield "conv1/weights", (7, 7, 3, 64)
    yield "conv1/biases", (64,)
    for scope, inside, _stride, channels, output in _units():
        yield from _norm_shapes(f"{scope}/preact", channels)
        if channels != output:
            yield f"{scope}/shortcut/weights", (1, 1, channels, output)
            yield f"{scope}/shortcut/biases", (output,)
        yield f"{scope}/conv1/weights", (1, 1, channels, inside)
        yield from _norm_shapes(f"{scope}/conv1/BatchNorm", inside)
        yield f"{scope}/conv2/weights", (3, 3, inside, inside)
        yield from _norm_shapes(f"{scope}/conv2/BatchNorm", inside)
        yield f"{scope}/conv3/weights", (1, 1, inside, output)
        yield f"{scope}/conv3/biases", (output,)
    yield from _norm_shapes("postnorm", output)
    yield "logits/weights", (1, 1, output, None)
    yield "logits/biases", (None,)


def _norm_shapes(scope, channels):
    return ((f"{scope}/{name}", (channels,)) for name in NORM)
