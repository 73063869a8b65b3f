"""The networks that this project taught itself: which rendered hotel rooms are the same.

Each is EfficientNet-Lite0 with its last blocks trained (`evaluation.train`) and a linear head of
128 numbers, without bias, after the average pooling.  What was trained lies beside this module as
float16; all before it is what pip brings for the imagenet network.
"""

from pathlib import Path

import numpy as np

from simvis.models.checkpoints import read_npz
from simvis.models.efficientnet_lite0 import HEAD, folded_shapes

FIRST_TRAINED = "_blocks.12._expand_conv"  # the first convolution that training changes
EMBEDDING = 128
TAUGHT = {
    "rooms": "taught which rendered hotel rooms are the same, by all that stands in them",
    "rooms-headboard": "taught to tell rendered hotel rooms by headboard and pictures alone",
    "rooms-carpet": "taught to tell rendered hotel rooms by the carpet alone",
}


def weights_path(name):
    """Return where the trained weights of a network of TAUGHT lie, a Path."""
    return Path(__file__).with_name(f"{name}.npz")


def read_weights(name, path=None):
    """Read and check a network's weights.

    A path stands instead of the file that ships.  It returns a dict of (kernel, bias), the float32
    convolutions that were trained, as `models.efficientnet_lite0.fold_batch_norms` names them, and
    the head's kernel, float32 (1280, 128).  What is wrong is raised as in `checkpoints.read_npz`.

    Examples
    --------
    >>> convolutions, projection = read_weights("rooms")
    >>> len(convolutions), projection.shape
    (13, (1280, 128))
    """
    expected = {}
    for array, kernel, bias in folded_shapes():
        if expected or array == FIRST_TRAINED:
            expected |= {f"{array}.kernel": (kernel, "<f2"), f"{array}.bias": (bias, "<f2")}
    expected["projection"] = (HEAD, EMBEDDING), "<f2"
    arrays = read_npz(path or weights_path(name), expected)
    arrays = {array: values.astype(np.float32) for array, values in arrays.items()}
    convolutions = {
        array.removesuffix(".kernel"): (kernel, arrays[array.replace(".kernel", ".bias")])
        for array, kernel in arrays.items()
        if array.endswith(".kernel")
    }
    return convolutions, arrays["projection"]
