"""Networks by their names: what there is, with which options, loaded when it is asked for."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from simvis.models import python_files
from simvis.models.network import MODEL_FILES, EmbeddingNetwork, of_function
from simvis.similarity_ops import POOLINGS

ROOMS = ("rooms", "rooms-headboard", "rooms-carpet")
AUTHORS = ("hotels", "faces")
NETWORKS = ("imagenet", *ROOMS, *AUTHORS)
SMALLEST_INPUT, LARGEST_INPUT = 32, 2048  # pixels a side
OPTIONS = {  # of each family of networks
    "efficientnet": ("pooling", "input_size"),
    "python": ("pooling",),
    "authors": ("pooling", "input_size", "checkpoint", "mean_image", "batch_norm"),
    "keras": (
        *("pooling", "input_size", "layer", "preprocess", "weights"),
        *("grid", "prefix", "import_file", "allow_unsafe"),
    ),
}


def load_network(name="imagenet", *, graph=False, redraw=None, **options):
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
        mean image of your own, their published files are downloaded once, to a cache folder.
        ``"keras:NAME"``: any model of keras.applications.  A ``.keras`` or ``.h5`` file, or a
        model: any Keras 3 network that pools a feature map.
        ``"FILE.py:FUNCTION"``: what a function of a Python file of your own returns, which is run:
        a network of `from_torch`, `from_onnx` or `from_functions`, or a keras.Model.
    graph : bool
        Run as a compiled graph, which starts later and pays from some ten images on.
    redraw : None or function of a list of arrays, which returns as many of the same shapes
        It is given the weights of a network by name, or of a model file, in the order of its
        layers, and returns those to use instead.
    pooling : None, "average", "max" or "gem"
        Instead of the network's own.  Of a Keras model also "network": whatever it is that the
        model does with the activations.
    input_size : None or (height, width)
        Whole images are resized to it, by default to 224 x 224 pixels; (448, 448) gives maps of
        14 x 14 cells.  At least 32 pixels, but for Keras models.  For hotels and faces, the mean
        image is stretched to it, which the authors' code never did.
    checkpoint : None, str or Path
        For hotels and faces: a checkpoint of slim's resnet_v2_50, as its prefix, the folder that
        it lies in, or an archive of that.
    mean_image : None, str or Path
        For hotels and faces: a .npy file, (224, 224, 3), that is subtracted from BGR pixels.
    batch_norm : None, "batch" or "moving"
        For hotels and faces: ``"batch"``, the default, is the authors' demonstration: statistics
        of the images in the batch, so that the maps of an image depend on its partner.
        ``"moving"`` uses the averages of the training: one embedding for each image.
    layer : None or str
        Of a Keras model, as all that follow: the name of a layer, or ``"submodel/layer"``, at any
        depth.  A vector that it puts out is what is explained.  A feature map is pooled, and the
        pooled feature explained, unless pooling is "network"; from tokens, all that follows is
        explained, unless a pooling is given.
    preprocess : None, str or function
        ``"none"`` for RGB pixels in 0..255, ``"0..1"``, ``"-1..1"``, ``"caffe"``, ``"torch"``, or a
        function of such float32 pixels (N, H, W, 3).  By default an application's own, else none.
    weights : None or str
        Of an application: ``"imagenet"``, the default, which Keras downloads, a weights file, or
        ``"none"`` for random ones.
    grid : None or (height, width)
        Of the image, in tokens, if it cannot be told from their number.
    prefix : None or int
        How many tokens that are no place in the image, as CLS and registers, stand before those.
    import_file : None, str or Path
        A Python file that registers the layers of one's own in a model file; it is run first.
    allow_unsafe : bool
        Whether a model file may hold Python code, which loading it then runs.

    Returns
    -------
    network : EmbeddingNetwork

    Raises
    ------
    ValueError
        For an unknown name, an option that the network does not have, weights that do not fit, or
        a model without a place to look at; it says what to do instead.
    OSError
        If files are missing, or cannot be downloaded.

    Examples
    --------
    >>> network = load_network("imagenet")
    >>> batch = network.preprocess([np.zeros((300, 400, 3), np.uint8)])
    >>> network.activations(batch).shape
    (1, 7, 7, 1280)
    """
    check_options(name, **options)
    if options.get("input_size") is not None:
        options["input_size"] = tuple(map(int, options["input_size"]))
    family = _family(name)
    if redraw is not None and (family == "python" or not isinstance(name, (str, os.PathLike))):
        raise ValueError("redraw: the weights are known of networks by name and model files alone")
    options = {option: options.get(option) for option in OPTIONS[family]}
    if family == "keras":
        from simvis.models.keras_models.loading import load

        return load(name, graph=graph, redraw=redraw, **options)
    pooling = options.pop("pooling")
    if family == "python":
        network = python_files.load(name)
        if not isinstance(network, EmbeddingNetwork):
            return load_network(network, graph=graph, pooling=pooling)
        return replace(network, pooling=pooling or network.pooling)
    load_family = _load_authors if family == "authors" else _load_efficientnet
    network = load_family(name, graph, redraw or list, **options)
    return replace(network, pooling=pooling or network.pooling)


def check_options(name, **options):
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
        if not any(option in of_family for of_family in OPTIONS.values()):
            raise TypeError(f"load_network has no option {option!r}")
        if value is not None and value is not False and option not in OPTIONS[family]:
            raise ValueError(f"{option}: the {name} network has no such option")
    pooling, size, batch_norm = map(options.get, ("pooling", "input_size", "batch_norm"))
    poolings = (*POOLINGS, "network") if family == "keras" else POOLINGS
    if pooling is not None and pooling not in poolings:
        raise ValueError(f"pooling: expected one of {', '.join(poolings)}, got {pooling!r}")
    smallest = 1 if family == "keras" else SMALLEST_INPUT
    if size is not None and not _is_size(size, smallest):
        raise ValueError(
            f"input_size: expected (height, width), {smallest} to {LARGEST_INPUT} whole pixels "
            f"each, got {size!r}"
        )
    if batch_norm not in (None, "batch", "moving"):
        raise ValueError(f"batch_norm: expected batch or moving, got {batch_norm!r}")


def is_python(name):
    """Return whether a network is named as what a Python file of one's own makes."""
    return isinstance(name, (str, os.PathLike)) and python_files.split(name) is not None


def example_pair(name):
    """Return the authors' example images for hotels and faces, fetched on first use, else None."""
    if name not in AUTHORS:
        return None
    from simvis.models import downloads

    return downloads.example_pair(name)


def _is_size(size, smallest):
    """Return whether a value is a (height, width) of whole pixels that a network may take."""
    try:
        height, width = size
        return all(smallest <= side <= LARGEST_INPUT and side == int(side) for side in size)
    except (TypeError, ValueError):
        return False


def _family(name):
    """Return the family of networks that a name stands for: a key of OPTIONS."""
    if not isinstance(name, (str, os.PathLike)):
        if any(each.__module__.startswith("torch.nn") for each in type(name).__mro__):
            raise ValueError("network: make one of a PyTorch module by from_torch(module, ...)")
        if hasattr(name, "layers"):
            return "keras"
        raise ValueError(f"network: expected a name or a keras.Model, got {type(name).__name__}")
    if name in NETWORKS:
        return "authors" if name in AUTHORS else "efficientnet"
    if str(name).startswith("keras:") or Path(name).suffix in MODEL_FILES or Path(name).is_dir():
        return "keras"
    if is_python(name):
        return "python"
    raise ValueError(
        f"network: expected one of {', '.join(NETWORKS)}, keras:NAME, a .keras or .h5 file, or "
        f"FILE.py:FUNCTION, got {name!r}"
    )


def _load_efficientnet(name, graph, redraw, input_size):
    from simvis.models import efficientnet_lite0, rooms

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
    arrays = redraw([part for pair in (*convolutions.values(), projection) for part in pair])
    *pairs, projection = zip(arrays[::2], arrays[1::2], strict=True)
    convolutions = dict(zip(convolutions, pairs, strict=True))
    return of_function(
        efficientnet_lite0.build_folded(convolutions),
        projection,
        graph,
        parts_at=partial(efficientnet_lite0.parts_at, convolutions),
        name=name,
        input_size=size,
        preprocess=lambda images: efficientnet_lite0.preprocess(images, size),
        # of imagenet, what lies close together; the classifier can be explained, too
        own="pooled" if name == "imagenet" else "head",
        explain="pooled" if name == "imagenet" else "head",
        description=description,
        weights=lambda: [part for pair in convolutions.values() for part in pair] + [*projection],
    )


def _load_authors(name, graph, redraw, input_size, checkpoint, mean_image, batch_norm):
    from simvis.models import downloads

    batch_norm = batch_norm or "batch"
    if checkpoint is None:
        checkpoint, fetched_mean_image = downloads.fetch_authors_files(name)
        mean_image = mean_image or fetched_mean_image
    else:
        checkpoint = downloads.find_checkpoint(checkpoint)
        mean_image = mean_image or downloads.fetch_mean_image(name)
    from simvis.models import resnet_v2

    size = input_size or resnet_v2.INPUT_SIZE
    stretched = "" if size == resnet_v2.INPUT_SIZE else ", the 224 x 224 mean image stretched"
    mean = resnet_v2.read_mean_image(mean_image, size)
    weights, ignored = resnet_v2.read_weights(checkpoint)
    weights = dict(zip(weights, redraw(list(weights.values())), strict=True))
    return of_function(
        resnet_v2.build(weights, batch_norm),
        resnet_v2.projection(weights),
        graph,
        parts_at=None if batch_norm == "batch" else partial(resnet_v2.build, weights, "moving"),
        name=name,
        input_size=size,
        preprocess=lambda images: resnet_v2.preprocess(images, mean),
        batch_independent=batch_norm == "moving",
        explain="pooled",  # as the authors' demonstration does
        weights=lambda: [*weights.values(), mean],
        description=f"ResNet-50 v2, batch norm by {batch_norm} statistics, "
        f"{len(weights)} variables read, {ignored} others ignored{stretched}",
    )
