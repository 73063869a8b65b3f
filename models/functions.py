"""Networks of functions of arrays, whatever framework they are written in."""

from functools import partial

import numpy as np

from simvis.image_ops import as_image
from simvis.models.network import EmbeddingNetwork, directions_apart
from simvis.similarity_ops import POOLINGS, pool_features, tokens_to_map

# How far directions may be apart, by the number format of what a network puts out.
TOLERANCES = {"float16": 5e-3, "bfloat16": 2e-2}
TOLERANCE = 2e-5  # of float32, and of more digits, since activations go on as float32
POWERS = np.geomspace(1.0, 64.0, 37)  # of GeM, between which the best one is looked for


def from_functions(
    *,
    activations,
    embed=None,
    input_size,
    preprocess,
    pooling=None,
    power=None,
    projection=None,
    grid=None,
    prefix=0,
    data_format="channels_last",
    tolerance=None,
    name="functions",
):
    """Make an `EmbeddingNetwork` of functions of arrays, and hold it to what it puts out.

    Parameters
    ----------
    activations : function of a batch -> (N, h, w, C), the last feature map, or (N, T, C), tokens
        The functions may return anything that numpy makes an array of, PyTorch's tensors as well.
    embed : function of a batch -> (N, D), what the network puts out, or None
        It is asked of every pair, and its direction compared with that of the sum of the local
        features.  Without it nothing is, and the pictures and pages say "not checked".
    input_size : (height, width) in pixels, of the images that one sees in mind
    preprocess : function of a list of RGB uint8 (H, W, 3) arrays -> a float array (N, ...), a batch
    pooling : None, "average", "max" or "gem"
        None for the one that `embed` tells, by a few test images.
    power : None or real number >= 1, the exponent of "gem"; None for the one that `embed` tells
    projection : None or (kernel (C, D), bias (D,) or None), the linear head after the pooling
    grid, prefix : how tokens lie in the image, see `similarity_ops.tokens_to_map`
    data_format : "channels_last", or "channels_first" for activations (N, C, h, w)
    tolerance : None or float, how far the two directions may be apart; None for 2e-5, or more if
        what `embed` returns is in half precision
    name : str

    Returns
    -------
    network : EmbeddingNetwork

    Raises
    ------
    ValueError
        Names the argument at fault, as an `embed` that is not what the others make of it.

    Examples
    --------
    >>> def activations(batch):  # means of 8 x 8 pixels
    ...     return batch.reshape(-1, 4, 8, 4, 8, 3).mean((2, 4))
    >>> network = from_functions(
    ...     activations=activations,
    ...     embed=lambda batch: activations(batch).max((1, 2)),
    ...     input_size=(32, 32),
    ...     preprocess=lambda images: np.stack([image[:32, :32] for image in images]) / 255,
    ... )
    >>> network.pooling
    'max'
    """
    if pooling not in (None, *POOLINGS):
        raise ValueError(f"pooling: expected one of {', '.join(POOLINGS)}, got {pooling!r}")
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"data_format: expected channels_last or channels_first, got {data_format!r}"
        )
    input_size, to_batch = checked_size(input_size), partial(as_batch, preprocess)
    if projection is not None:
        projection = _checked_projection(projection)

    def to_maps(batch):
        maps = as_array("activations", activations(batch))
        if maps.ndim == 4 and data_format == "channels_first":
            maps = np.moveaxis(maps, 1, -1)
        elif maps.ndim == 3:
            maps = tokens_to_map(maps, grid, prefix)
        if maps.ndim != 4 or len(maps) != len(batch):
            raise ValueError(
                f"activations: expected (N, h, w, C), or tokens (N, T, C), of {len(batch)} images, "
                f"got {maps.shape}"
            )
        return np.asarray(maps, np.float32)

    def to_vectors(batch):
        vectors = as_array("embed", embed(batch))
        if vectors.ndim < 2 or len(vectors) != len(batch):
            raise ValueError(f"embed: expected (N, D) of {len(batch)} images, got {vectors.shape}")
        return np.asarray(vectors, np.float32).reshape(len(vectors), -1)

    batch = to_batch(sample_images(input_size))
    maps, vectors = to_maps(batch), None if embed is None else to_vectors(batch)
    _check_channels(maps, projection, vectors)
    if embed is not None:
        if tolerance is None:
            tolerance = tolerance_of(embed(batch[:1]))
        pooling, power = _find_pooling(maps, vectors, pooling, power, projection, tolerance)
    pooling, power = pooling or "average", power or 3.0
    words = pooled_words(pooling, power, projection)
    return EmbeddingNetwork(
        name=name,
        input_size=input_size,
        pooling=pooling,
        projection=projection,
        preprocess=to_batch,
        activations=to_maps,
        embed=None if embed is None else to_vectors,
        power=power,
        description=f"{words}, of functions",
        tolerance=tolerance or TOLERANCE,
    )


def _find_pooling(maps, vectors, pooling, power, projection, tolerance):
    """Return the pooling and the power that turn activations into what a network puts out."""

    def apart(kind, exponent=3.0):
        options = {"projection": projection, "power": exponent, "data_format": "channels_last"}
        pairs = zip(maps, vectors, strict=True)
        return max(directions_apart(pool_features(m, kind, **options), v) for m, v in pairs)

    found = {}
    for kind in POOLINGS if pooling is None else (pooling,):
        if kind != "gem":
            found[kind, None] = apart(kind)
        elif maps.min() >= 0 or pooling == "gem":  # or else the method says so
            best = power or _best_power(lambda exponent: apart("gem", exponent))
            found[kind, best] = apart(kind, best)
    (kind, best), distance = min(found.items(), key=lambda each: each[1])
    if not distance <= tolerance:
        said = f"{kind} pooling" + (f" with the power {best:.3g}" if kind == "gem" else "")
        said = said if pooling else f"average, maximum or GeM pooling, at best {said},"
        head = " and the projection" if projection is not None else ""
        raise ValueError(
            f"embed: what it returns is not {said}{head} of the activations: the directions are "
            f"{distance:.2g} apart for a test image; say projection=(kernel, bias) if a linear "
            'head follows, and for all else return local features, l[u] * N, with pooling="average"'
        )
    return kind, best


def _best_power(apart):
    """Return the exponent of GeM with the smallest distance, a whole number if it is one."""
    from scipy.optimize import minimize_scalar

    distances = [apart(power) for power in POWERS]
    place = int(np.argmin(distances))
    low, high = POWERS[max(place - 1, 0)], POWERS[min(place + 1, len(POWERS) - 1)]
    found = minimize_scalar(apart, bounds=(low, high), method="bounded", options={"xatol": 1e-7})
    whole = float(round(found.x))
    return whole if abs(found.x - whole) < 1e-3 * whole else float(found.x)


def pooled_words(pooling, power, projection):
    """Say how activations become an embedding."""
    words = f"{'GeM' if pooling == 'gem' else pooling} pooling"
    words += f" of power {power:.4g}" if pooling == "gem" else ""
    return words + ("" if projection is None else " and a linear head")


# --- what other frameworks return -----------------------------------------------------------------


def as_array(name, values):
    """Return what a function of anyone's returned as an array of real numbers."""
    if hasattr(values, "detach"):  # PyTorch's, of which numpy has no bfloat16
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    try:
        array = np.asarray(values)
    except Exception as error:  # of whatever class it is
        raise ValueError(f"{name}: expected an array, got {type(values).__name__}") from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected an array of real numbers, got {array.dtype}")
    return array


def as_batch(preprocess, images):
    """Return what a function of anyone's makes of images as a float32 batch."""
    values = preprocess([as_image(image) for image in images])
    if isinstance(values, (list, tuple)):
        values = [as_array("preprocess", each) for each in values]
        if len({each.shape for each in values}) > 1:
            raise ValueError("preprocess: its images differ in size, expected one batch (N, ...)")
    batch = np.asarray(as_array("preprocess", values), np.float32)
    if batch.ndim < 2 or len(batch) != len(images):
        raise ValueError(
            f"preprocess: expected a batch of {len(images)} images, (N, ...), got {batch.shape}"
        )
    return batch


def tolerance_of(values):
    """Return how far directions may be apart, by the number format of what a network returned."""
    return TOLERANCES.get(str(getattr(values, "dtype", "")).rpartition(".")[2], TOLERANCE)


def derived_functions(embed, along):
    """Return the functions of a network whose activations are local features, times their number.

    Their average is the embedding then, and all of `similarity_ops` applies.

    embed : function of a batch -> the network's output (N, D)
    along : its `contributions.Contributions`
    """

    def run(batch):
        outputs = embed(batch)
        maps = [
            np.moveaxis(parts, 0, -1) * parts[0].size + constant
            for parts, constant in along(batch, [np.eye(outputs.shape[1])] * len(batch))
        ]
        return np.stack(maps).astype(np.float32), outputs, None

    return {"activations": lambda batch: run(batch)[0], "embed": embed, "forward": run}


def of_pooling(look, pooling, power, projection, place, **fields):
    """Make the EmbeddingNetwork of a pooling and a linear head after a layer.

    look : function of a batch -> the layer's output as maps (N, h, w, C), and the network's (N, D)
    """

    def run(batch):
        conv, output = look(batch)
        conv = np.maximum(conv, 0) if pooling == "gem" else conv  # as it clips them itself
        return conv, *((output, None) if projection is None else (None, output))

    return EmbeddingNetwork(
        **fields,
        pooling=pooling,
        power=power or 3.0,
        projection=projection,
        activations=lambda batch: run(batch)[0],
        embed=lambda batch: look(batch)[1],
        forward=run,
        description=f"{pooled_words(pooling, power, projection)} after {place}",
    )


def sample_images(size):
    """Return four RGB uint8 images, blocks of colours and noise in them, to try a network with."""
    rng, images = np.random.default_rng(0), []
    for cells in (2, 3, 5, 8):
        side = -(-max(size) // cells)
        blocks = rng.integers(0, 256, (cells, cells, 3)).repeat(side, 0).repeat(side, 1)
        noisy = blocks[: size[0], : size[1]] + rng.integers(-40, 41, (*size, 3))
        images.append(noisy.clip(0, 255).astype(np.uint8))
    return images


def checked_size(size):
    """Return (height, width) as two whole numbers of pixels."""
    try:
        height, width = (int(side) for side in size)
        if (height, width) == tuple(size) and min(height, width) >= 1:
            return height, width
    except (TypeError, ValueError):
        pass
    raise ValueError(f"input_size: expected (height, width) in whole pixels, got {size!r}")


def _checked_projection(projection):
    try:
        kernel, bias = projection
    except (TypeError, ValueError):
        kind = type(projection).__name__
        raise ValueError(f"projection: expected (kernel, bias or None), got {kind}") from None
    kernel = np.asarray(as_array("projection", kernel), np.float64)
    bias = np.zeros(kernel.shape[-1]) if bias is None else as_array("projection", bias)
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        raise ValueError(
            f"projection: expected (C, D) and (D,), got {kernel.shape} and {bias.shape}; a "
            "Linear's weight in PyTorch is (D, C), transpose it"
        )
    return kernel, np.asarray(bias, np.float64)


def _check_channels(maps, projection, vectors):
    """Raise a ValueError, with what may be meant, if activations do not fit what follows them."""
    channels, returned = maps.shape[-1], None if vectors is None else vectors.shape[1]
    if projection is None:
        count, made = returned, returned
        expected = f"embed returns {returned} numbers and there is no projection"
    else:
        count, made = projection[0].shape
        expected = f"the projection's kernel takes {count}"
    if count not in (None, channels):
        words = ""
        if count == maps.shape[1]:
            words = '; they look like (N, C, h, w), say data_format="channels_first"'
        raise ValueError(
            f"activations: {maps.shape} have {channels} channels, but {expected}{words}"
        )
    if returned not in (None, made):
        raise ValueError(f"embed: it returns {returned} numbers, the projection makes {made}")
