"""Embedding networks.  This package is the only place that imports TensorFlow, and only on use."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from similarity_ops import POOLINGS, pool_features

ROOMS = ("rooms", "rooms-headboard", "rooms-carpet")
NETWORKS = ("imagenet", *ROOMS, "hotels", "faces")
MODEL_FILES = (".keras", ".h5", ".hdf5")
SMALLEST_INPUT, LARGEST_INPUT = 32, 2048  # pixels a side
OPTIONS = {  # of each family of networks, besides pooling
    "imagenet": ("input_size",),
    "rooms": ("input_size",),
    "authors": ("checkpoint", "mean_image", "batch_norm", "input_size"),
    "keras": (
        *("layer", "preprocess", "weights", "input_size"),
        *("grid", "prefix", "import_file", "allow_unsafe"),
    ),
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
    embed : None or a function of a batch -> float32 (N, D), what the network itself puts out,
        before a last normalisation, which a cosine does not see
    power : the exponent of "gem"
    explain : "pooled" or "head", what is explained by default: the pooled feature, or the
        network's output through the linear head
    batch_independent : whether an image's activations are the same whatever the rest of its batch
    description : one line for people
    tolerance : how far the maps' sum may be from the cosine of the network's own embeddings
    for_pairs : None, or this network in a quicker form: of a batch of two images, its activations
        hold what the two maps need, and nothing more
    one_pass : None, or the network as a `OnePass`; without it, `run` calls both functions
    weights : None or a function that returns the arrays that the network is made of
    """

    name: str
    input_size: tuple[int, int]
    pooling: str
    projection: tuple | None
    preprocess: Callable[[list], np.ndarray]
    activations: Callable[[np.ndarray], np.ndarray]
    embed: Callable[[np.ndarray], np.ndarray] | None = None
    power: float = 3.0
    explain: str = "pooled"
    batch_independent: bool = True
    description: str = ""
    tolerance: float = 1e-3
    for_pairs: "EmbeddingNetwork | None" = None
    one_pass: "OnePass | None" = None
    weights: Callable | None = None

    def fingerprint(self):
        """Return a text that is another one for other weights, or None if they are not known."""
        if self.weights is None:
            return None
        digest = hashlib.sha256()
        for part in self.weights():
            array = np.ascontiguousarray(part)
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.view(np.uint8))
        return digest.hexdigest()

    def run(self, batch, explain=None):
        """Return a batch's activations, and the network's own embedding that they explain.

        Parameters
        ----------
        batch : float32 (N, H, W, 3) array
        explain : None for the network's default, "pooled" or "head"

        Returns
        -------
        activations : float32 (N, h, w, C) array
        embeddings : float32 (N, D) array, or None where the network itself puts out no such thing
        """
        explain = explain or self.explain
        if self.one_pass is None:
            embeds = "pooled" if self.projection is None else "head"
            convs, own = self.activations(batch), None
            if self.embed is not None and explain == embeds:
                own = self.embed(batch)
        else:
            convs, pooled, output = self.one_pass.run(batch)
            own = pooled if explain == "pooled" else output
            # of a pooling or a head that someone put in instead, it knows nothing
            if self.pooling != self.one_pass.pooling or (
                explain == "head" and self.projection is not self.one_pass.projection
            ):
                own = None
        return np.asarray(convs, np.float32), own if own is None else np.asarray(own, np.float32)

    def embeddings(self, batch):
        """Return a batch's embeddings, those that are explained by default, float (N, D).

        They are the network's own, or pooled from its activations if it puts out no such thing.
        """
        embeds = "pooled" if self.projection is None else "head"
        alone = self.for_pairs or (self.one_pass is None and self.explain == embeds)
        if alone and self.embed is not None:  # its activations may take long
            return np.asarray(self.embed(batch), np.float32)
        convs, own = self.run(batch)
        return own if own is not None else np.stack([self.pooled(conv) for conv in convs])

    def pooled(self, conv, region=None):
        """Return the embedding, that is explained by default, of activations (h, w, C): (D,).

        With a region, weights (h, w), it is that of the region, see `similarity_ops`.
        """
        return pool_features(
            conv,
            self.pooling,
            projection=self.projection if self.explain == "head" else None,
            region=region,
            power=self.power,
            data_format="channels_last",
        )


@dataclass(frozen=True)
class OnePass:
    """What a network computes itself, all of it in one pass.

    run : function of a batch -> (activations, pooled feature, output of the head), or None for
        those of the last two that it does not compute
    pooling, projection : which, of EmbeddingNetwork, it does itself
    """

    run: Callable
    pooling: str
    projection: tuple | None


def assemble(run, embeds, *, pooling, projection, **fields):
    """Make an EmbeddingNetwork of one function.

    Parameters
    ----------
    run : see OnePass
    embeds : "pooled" or "head", which of them is the network's embedding, or None
    pooling, projection, fields : of EmbeddingNetwork
    """
    place = {"pooled": 1, "head": 2}
    return EmbeddingNetwork(
        pooling=pooling,
        projection=projection,
        activations=lambda batch: run(batch)[0],
        embed=embeds and (lambda batch: run(batch)[place[embeds]]),
        one_pass=OnePass(run, pooling, projection),
        **fields,
    )


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
    grid=None,
    prefix=None,
    import_file=None,
    allow_unsafe=False,
    graph=False,
):
    """Load an embedding network.

    Parameters
    ----------
    name : str or keras.Model
        ``"imagenet"``: EfficientNet-Lite0 trained on ImageNet, with weights that pip brings.  Its
        linear head is the ImageNet classifier; the pooled feature is explained by default.
        ``"rooms"``, ``"rooms-headboard"``, ``"rooms-carpet"``: the same network, taught on rendered
        rooms to tell them apart: by all that there is in them, by headboard and pictures alone, or
        by the carpet alone.
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
    layer, preprocess, weights, grid, prefix, import_file, allow_unsafe
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
        "grid": grid,
        "prefix": prefix,
        "import_file": import_file,
        "allow_unsafe": allow_unsafe,
    }
    check_options(name, pooling=pooling, **authors, **keras_options)
    if input_size is not None:
        keras_options["input_size"] = input_size = tuple(map(int, input_size))
    if _family(name) == "keras":
        from models import keras_model

        return keras_model.load(name, pooling=pooling, graph=graph, **keras_options)
    if _family(name) == "authors":
        network = _load_authors(name, graph, input_size, **authors)
    else:
        network = _load_efficientnet(name, graph, input_size)
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
        if value is not None and value is not False and option not in OPTIONS[family]:
            raise ValueError(f"{option}: the {name} network has no such option")
    poolings = (*POOLINGS, "network") if family == "keras" else POOLINGS
    if pooling is not None and pooling not in poolings:
        raise ValueError(f"pooling: expected one of {', '.join(poolings)}, got {pooling!r}")
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
    """Return a function of batches (N, *input_size, 3) that returns numpy arrays, or None."""
    import tensorflow as tf

    if graph:
        batches = tf.TensorSpec((None, *input_size, 3), tf.float32)
        run = tf.function(run, input_signature=[batches])

    def run_to_numpy(batch):
        with failures_in_words(f"a batch {batch.shape}"):
            return [None if value is None else value.numpy() for value in run(batch)]

    return run_to_numpy


@contextmanager
def failures_in_words(what):
    """Raise a ValueError, in one line, for what TensorFlow fails at."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"network: it failed on {what}: {reason}") from error


def with_head(run, projection):
    """Return a function of batches: activations, their average, and that through a linear head."""
    import tensorflow as tf

    kernel, bias = (tf.constant(values, tf.float32) for values in projection)

    def run_with_head(batch):
        conv = run(batch)
        pooled = tf.reduce_mean(conv, (1, 2))
        return conv, pooled, pooled @ kernel + bias

    return run_with_head


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
    run = with_head(efficientnet_lite0.build_folded(convolutions), projection)
    # what lies close together; the classifier can be explained too
    explain = "pooled" if name == "imagenet" else "head"
    return assemble(
        to_numpy(run, size, graph),
        embeds=explain,
        name=name,
        input_size=size,
        pooling="average",
        projection=projection,
        preprocess=lambda images: efficientnet_lite0.preprocess(images, size),
        explain=explain,
        description=description,
        weights=lambda: [part for pair in convolutions.values() for part in pair] + [*projection],
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
    projection = resnet_v2.projection(weights)
    run = with_head(resnet_v2.build(weights, batch_norm), projection)
    return assemble(
        to_numpy(run, size, graph),
        embeds="head",
        name=name,
        input_size=size,
        pooling="average",
        projection=projection,
        preprocess=lambda images: resnet_v2.preprocess(images, mean),
        batch_independent=batch_norm == "moving",
        weights=lambda: [*weights.values(), mean],
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
        except Exception:  # but not where the user interrupts it
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
