"""Embedding networks.  This package is the only place that imports TensorFlow, and only on use."""

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from similarity_ops import POOLINGS

ROOMS = ("rooms", "rooms-headboard", "rooms-carpet")
NETWORKS = ("imagenet", *ROOMS, "hotels", "faces")
MODEL_FILES = (".keras", ".h5", ".hdf5")
SMALLEST_INPUT, LARGEST_INPUT = 32, 2048  # pixels a side
OPTIONS = {  # of each family of networks, besides pooling
    "imagenet": ("input_size",),
    "rooms": ("input_size",),
    "authors": ("checkpoint", "mean_image", "batch_norm", "input_size"),
    "keras": ("layer", "preprocess", "weights", "input_size", "allow_unsafe"),
}


@dataclass(frozen=True)
class EmbeddingNetwork:
    """A network, reduced to what the maps are made of.

    name : str
    input_size : (height, width) in pixels that `preprocess` resizes to
    pooling : "average", "max" or "gem", which turns activations into the pooled feature
    projection : None or (kernel (C, D), bias (D,)), the linear head after the pooling
    preprocess : function of a list of RGB uint8 (H, W, 3) arrays -> float32 (N, H, W, 3) batch
    activations : function of a batch -> float32 (N, h, w, C), the last convolutional layer's output
    explain : "pooled" or "head", what is explained by default: the pooled feature, or the
        network's output through the linear head
    batch_independent : bool, whether an image's activations are the same whatever the rest of its
        batch
    description : one line for people
    """

    name: str
    input_size: tuple[int, int]
    pooling: str
    projection: tuple | None
    preprocess: Callable[[list], np.ndarray]
    activations: Callable[[np.ndarray], np.ndarray]
    explain: str = "pooled"
    batch_independent: bool = True
    description: str = ""


def load_network(
    name="imagenet",
    *,
    checkpoint=None,
    mean_image=None,
    batch_norm=None,
    layer=None,
    pooling=None,
    preprocess=None,
    weights=None,
    input_size=None,
    allow_unsafe=False,
    graph=False,
):
    """Load an embedding network.

    Parameters
    ----------
    name : str or keras.Model
        activations=to_numpy(run, size, graph),
        batch_independent=batch_norm == "moving",
        ``"hotels"``, ``"faces"``: the authors' ResNet-50 v2 networks.  Without a checkpoint and a
        mean image of your own, their published files are downloaded once, to ``models/<name>/``.
        ``"keras:NAME"``: any model of keras.applications.  A ``.keras`` or ``.h5`` file, or a
        model: any Keras 3 network that pools a feature map.
    checkpoint : None, str or Path
        For hotels and faces: a checkpoint of slim's resnet_v2_50, as its prefix, the folder that
        it lies in, or an archive of that.
    mean_image : None, str or Path
        For hotels and faces: a .npy file, (224, 224, 3), that is subtracted from BGR pixels.
    batch_norm : None, "batch" or "moving"
        For hotels and faces: ``"batch"``, the default, is the authors' demonstration: statistics
        of the images in the batch, so that the maps of an image depend on its partner.
        ``"moving"`` uses the averages of the training: one embedding for each image.
    pooling : None, "average", "max" or "gem"
        Instead of the network's own.
    input_size : None or (height, width)
        Whole images are resized to it, by default to 224 x 224 pixels; (448, 448) gives maps of
        14 x 14 cells.  At least 32 pixels, but for Keras models.  For hotels and faces, the mean
        image is stretched to it, which the authors' code never did.
    layer, preprocess, weights, allow_unsafe
        For Keras models, see `models.keras_model.load`.
    graph : bool
        Run as a compiled graph, which starts later and pays from some ten images on.

    Returns
    -------
    network : EmbeddingNetwork

    Raises
    ------
    ValueError
        For an unknown name, an option that the network does not have, or weights that do not fit.
    OSError
        Where files are missing, or cannot be downloaded.

    Examples
    --------
    >>> network = load_network("imagenet")
    >>> batch = network.preprocess([np.zeros((300, 400, 3), np.uint8)])
    >>> network.activations(batch).shape
    (1, 7, 7, 1280)
    """
    authors = {"checkpoint": checkpoint, "mean_image": mean_image, "batch_norm": batch_norm}
    keras_options = {
        "layer": layer,
        "preprocess": preprocess,
        "weights": weights,
        "input_size": input_size,
        "allow_unsafe": allow_unsafe,
    }
    check_options(name, pooling=pooling, **authors, **keras_options)
    if _family(name) == "keras":
        from models import keras_model

        return keras_model.load(name, pooling=pooling, graph=graph, **keras_options)
    size = None if input_size is None else tuple(map(int, input_size))
    if _family(name) == "authors":
        network = _load_authors(name, graph, size, **authors)
    else:
        network = _load_efficientnet(name, graph, size)
    return replace(network, pooling=pooling or network.pooling)


def check_options(name, *, pooling=None, **options):
    """Raise a ValueError for an unknown network, or an option that it does not have.

    It needs no TensorFlow, so that a program can say so at once.

    Examples
    --------
    >>> check_options("imagenet", batch_norm="batch")
    Traceback (most recent call last):
    ValueError: batch_norm: the imagenet network has no such option
    """
    family = _family(name)
    for option, value in options.items():
        if value not in (None, False) and option not in OPTIONS[family]:
            raise ValueError(f"{option}: the {name} network has no such option")
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"pooling: expected one of {', '.join(POOLINGS)}, got {pooling!r}")
    smallest = 1 if family == "keras" else SMALLEST_INPUT
    if options.get("input_size") is not None and not _is_size(options["input_size"], smallest):
        raise ValueError(
            f"input_size: expected (height, width), {smallest} to {LARGEST_INPUT} whole pixels "
            f"each, got {options['input_size']!r}"
        )
    if options.get("batch_norm") not in (None, "batch", "moving"):
        raise ValueError(f"batch_norm: expected batch or moving, got {options['batch_norm']!r}")


def _is_size(size, smallest):
    """Tell whether a value is a (height, width) of whole pixels from smallest to LARGEST_INPUT."""
    try:
        height, width = size
        return all(
            smallest <= side <= LARGEST_INPUT and side == int(side) for side in (height, width)
        )
    except (TypeError, ValueError):
        return False


def _family(name):
    """Return the family of networks that a name stands for: a key of OPTIONS."""
    if name in ("hotels", "faces"):
        return "authors"
    if name == "imagenet":
        return "imagenet"
    if name in ROOMS:
        return "rooms"
    if not isinstance(name, (str, os.PathLike)):
        if hasattr(name, "layers"):
            return "keras"
        raise ValueError(f"network: expected a name or a keras.Model, got {type(name).__name__}")
    if str(name).startswith("keras:") or Path(name).suffix in MODEL_FILES or Path(name).is_dir():
        return "keras"
    raise ValueError(
        f"network: expected one of {', '.join(NETWORKS)}, keras:NAME, or a .keras or .h5 file, "
        f"got {name!r}"
    )


def example_pair(name):
    """Return the authors' example images for hotels and faces, fetched on first use, else None."""
    if name not in ("hotels", "faces"):
        return None
    from models import downloads

    return downloads.example_pair(name)


def to_numpy(run, input_size, graph):
    """Return a function of batches (N, *input_size, 3) whose results are numpy arrays."""
    import tensorflow as tf

    if graph:
        batches = tf.TensorSpec((None, *input_size, 3), tf.float32)
        run = tf.function(run, input_signature=[batches])

    def activations(batch):
        try:
            return run(batch).numpy()
        except tf.errors.OpError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"network: it failed on a batch {batch.shape}: {reason}") from error

    return activations


def _load_efficientnet(name, graph, input_size):
    from models import efficientnet_lite0, rooms

    size = input_size or efficientnet_lite0.INPUT_SIZE
    weights = efficientnet_lite0.read_weights()
    convolutions = efficientnet_lite0.fold_batch_norms(weights)
    if name == "imagenet":
        projection = efficientnet_lite0.classifier(weights)
        description = "EfficientNet-Lite0 trained on ImageNet"
    else:
        taught, kernel = rooms.read_weights(name)
        convolutions |= taught
        projection = kernel, np.zeros(kernel.shape[1], np.float32)
        description = rooms.TAUGHT[name]
    run = efficientnet_lite0.build_folded(convolutions)
    return EmbeddingNetwork(
        name=name,
        input_size=size,
        pooling="average",
        projection=projection,
        preprocess=lambda images: efficientnet_lite0.preprocess(images, size),
        activations=to_numpy(run, size, graph),
        explain="pooled" if name == "imagenet" else "head",
        description=description,
    )


def _load_authors(name, graph, input_size, checkpoint, mean_image, batch_norm):
    from models import downloads

    batch_norm = batch_norm or "batch"
    if checkpoint is None:
        checkpoint, fetched_mean_image = downloads.fetch_authors_files(name)
        mean_image = mean_image or fetched_mean_image
    else:
        checkpoint = downloads.find_checkpoint(checkpoint)
        mean_image = mean_image or downloads.fetch_mean_image(name)
    from models import resnet_v2

    size = input_size or resnet_v2.INPUT_SIZE
    stretched = "" if size == resnet_v2.INPUT_SIZE else ", the 224 x 224 mean image stretched"
    mean = resnet_v2.resize_mean_image(resnet_v2.read_mean_image(mean_image), size)
    weights, ignored = resnet_v2.read_weights(checkpoint)
    run = resnet_v2.build(weights, batch_norm)
    return EmbeddingNetwork(
        name=name,
        input_size=size,
        pooling="average",
        projection=resnet_v2.projection(weights),
        preprocess=lambda images: resnet_v2.preprocess(images, mean),
        activations=to_numpy(run, size, graph),
        batch_independent=batch_norm == "moving",
        description=f"ResNet-50 v2, batch norm by {batch_norm} statistics, "
        f"{len(weights)} variables read, {ignored} others ignored{stretched}",
    )


def start_tensorflow():
    """Import TensorFlow and let it find its devices, with all that it says about that held back.

    For programs; what it said is shown where starting fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_held_back():
        import tensorflow as tf

        tf.config.list_logical_devices()


@contextmanager
def _stderr_held_back():
    """Hold back what is written to file descriptor 2, by compiled code too, unless it fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
