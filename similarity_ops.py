"""Which regions of two images make their embeddings similar: the method, in plain numpy.

Every pooling writes an embedding f as a sum over positions u of *local features* l[u]:

    f = sum_u l[u]        so        cos(f1, f2) = sum_u sum_v <l1[u], l2[v]> / (|f1| |f2|)

and each function below is a view of that double sum.  Positions are the cells of a network's last
convolutional layer; ``conv`` is its output, (H, W, C), or (K*K, C) flattened row by row.
"""

import warnings
from typing import NamedTuple

import numpy as np

POOLINGS = ("average", "max", "gem")


def compute_spatial_similarity(
    conv1,
    conv2,
    pooling="average",
    *,
    projection=None,
    region1=None,
    region2=None,
    power=3.0,
    data_format=None,
):
    """Return how much each position of two images adds to the cosine of their embeddings.

        similarity1[u] = <l1[u], f2> / (|f1| |f2|)      similarity2[v] = <l2[v], f1> / (|f1| |f2|)

    Parameters
    ----------
    conv1, conv2 : (H, W, C) or (K*K, C) arrays of real numbers
        Last convolutional activations.  The two may differ in H and W, not in C; they are never
        modified.  float32 is computed in float32, anything else in float64.
    pooling : "average", "max" or "gem"
        How the network pools: the mean; the maximum, shared equally by tied positions; or the
        generalised mean ``(mean_u conv[u, c]^power)^(1/power)`` of activations >= 0.
    projection : None or (kernel (C, D), bias (D,) or None)
        A linear head after the pooling; the maps then explain the D-dimensional embedding.  Each
        position carries an equal share of the bias.
    region1, region2 : None or (H, W) weights >= 0
        Restricts an image to a region: average and GeM become weighted means, and positions of
        weight 0 take no part in any pooling, nor in the bias.
    power : real number >= 1
        The exponent of GeM.
    data_format : None, "channels_last" or "channels_first"
        Say "channels_first" if conv1 and conv2 are (C, H, W) or (C, K*K), as PyTorch has them.
        None reads them as "channels_last", with a warning if that does not look right.

    Returns
    -------
    similarity1, similarity2 : float64 (H, W) arrays, each of its image's map shape
        Signed.  Both sum to the cosine of the two embeddings, in -1..1.

    Raises
    ------
    ValueError
        Names the argument at fault: wrong shapes, non-finite values, an unknown pooling, an empty
        region, or an embedding that is all zero, whose cosine is undefined.

    Warns
    -----
    UserWarning
        If data_format was not said, and there are fewer channels than rows and than columns.

    Examples
    --------
    >>> left, right = np.eye(4).reshape(2, 2, 4), np.eye(4)[:1].reshape(1, 1, 4)
    >>> similarity1, similarity2 = compute_spatial_similarity(left, right)
    >>> similarity1  # only the first of left's four positions looks like right
    array([[0.5, 0. ],
           [0. , 0. ]])
    >>> similarity2
    array([[0.5]])
    """
    image1, image2 = _two_images(
        conv1, conv2, pooling, projection, region1, region2, power, data_format
    )
    return _similarity_to(image1, image2), _similarity_to(image2, image1)


def compute_pairwise_similarity(
    conv1,
    conv2,
    pooling="average",
    *,
    projection=None,
    region1=None,
    region2=None,
    power=3.0,
    data_format=None,
):
    """Return how much each *pair* of positions adds to the cosine of two embeddings.

        pairwise[u, v] = <l1[u], l2[v]> / (|f1| |f2|)

    Parameters and errors are those of `compute_spatial_similarity`.

    Returns
    -------
    pairwise : float64 (H1, W1, H2, W2) array
        Summed over (H2, W2) it is similarity1, summed over (H1, W1) it is similarity2.

    Examples
    --------
    >>> conv = np.eye(4).reshape(2, 2, 4)
    >>> pairwise = compute_pairwise_similarity(conv, conv)
    >>> pairwise.shape, float(pairwise.sum())
    ((2, 2, 2, 2), 1.0)
    >>> pairwise[0, 1]  # the second position matches the other image's second position
    array([[0.  , 0.25],
           [0.  , 0.  ]])
    """
    image1, image2 = _two_images(
        conv1, conv2, pooling, projection, region1, region2, power, data_format
    )
    if projection is None:
        # all the gains on the left factor, so that the right one need not be copied
        gain = np.asarray((image1.gain / image1.norm) * (image2.gain / image2.norm))
        left = image1.basis * gain.astype(image1.basis.dtype)
        pairwise = (left @ image2.basis.T).astype(np.float64, copy=False)
        if image1.weights is not None:
            pairwise *= image1.weights[:, None]
        if image2.weights is not None:
            pairwise *= image2.weights
    else:
        pairwise = (_local(image1) / image1.norm) @ (_local(image2) / image2.norm).T
    return pairwise.reshape(image1.shape + image2.shape)


def point_similarity(pairwise, y, x, image=1):
    """Return the map, on the other image, of what one position of an image matches.

    Parameters
    ----------
    pairwise : (H1, W1, H2, W2) array
        From `compute_pairwise_similarity`.
    y, x : real numbers
        A position in cells, (0, 0) being the centre of the first cell.  Between the centres the
        four nearest cells are interpolated bilinearly; in the outer half cells, down to -0.5 and
        up to H - 0.5 and W - 0.5, the border is continued.
    image : 1 or 2
        The image that the position lies in.

    Returns
    -------
    similarity : float64 array, (H2, W2) for image 1, (H1, W1) for image 2
        At a cell's centre it sums to that cell's value in the image's own map.

    Raises
    ------
    ValueError
        For a position outside the image or an image that is neither 1 nor 2.

    Examples
    --------
    >>> conv = np.eye(4).reshape(2, 2, 4)
    >>> point_similarity(compute_pairwise_similarity(conv, conv), 0, 0.5)
    array([[0.125, 0.125],
           [0.   , 0.   ]])
    """
    pairwise = np.asarray(pairwise, np.float64)
    if pairwise.ndim != 4 or 0 in pairwise.shape:
        raise ValueError(f"pairwise: expected (H1, W1, H2, W2), got shape {pairwise.shape}")
    if image not in (1, 2):
        raise ValueError(f"image: expected 1 or 2, got {image!r}")
    rows = pairwise if image == 1 else pairwise.transpose(2, 3, 0, 1)
    (top, bottom, down), (left, right, across) = (
        _neighbours(name, position, size)
        for name, position, size in zip("yx", (y, x), rows.shape[:2], strict=True)
    )
    upper = (1 - across) * rows[top, left] + across * rows[top, right]
    lower = (1 - across) * rows[bottom, left] + across * rows[bottom, right]
    return (1 - down) * upper + down * lower


def local_features(
    conv, pooling="average", *, projection=None, region=None, power=3.0, data_format=None
):
    """Return the local features l[u]: the embedding, written as a sum over positions.

        average  l[u, c] = conv[u, c] / N
        max      l[u, c] = conv[u, c] / ties(c) where it is channel c's maximum, else 0
        GeM      l[u, c] = f[c] conv[u, c]^p / sum_u conv[u, c]^p

    and ``l[u] @ kernel + bias / N`` after a linear head.  Parameters and errors are those of
    `compute_spatial_similarity`, except that an embedding of zero is allowed.

    Returns
    -------
    local : float64 (H, W, D) array
        D is C, or the kernel's second axis where there is a projection.

    Examples
    --------
    >>> conv = np.array([[[1.0, 4.0], [3.0, 4.0]]])
    >>> local_features(conv, "max")  # the second channel's maximum is shared by two positions
    array([[[0., 2.],
            [3., 2.]]])
    """
    image = _one_image(conv, pooling, projection, region, power, data_format)
    return _local(image).reshape(image.shape + (-1,))


def pool_features(
    conv, pooling="average", *, projection=None, region=None, power=3.0, data_format=None
):
    """Return the embedding f that a network pools from its last convolutional activations.

    Parameters and errors are those of `local_features`, whose sum over positions this is.

    Returns
    -------
    embedding : float64 (D,) array

    Examples
    --------
    >>> pool_features(np.array([[[1.0, 4.0], [3.0, 4.0]]]))
    array([2., 4.])
    """
    image = _one_image(conv, pooling, projection, region, power, data_format)
    return image.embedding


class _Pooled(NamedTuple):
    """An image after pooling.  Its local features, before a linear head, factor into

    l[u, c] = weights[u] * basis[u, c] * gain[c]

    with the large matrix in ``basis`` alone, so that nothing of its size need be multiplied out.
    """

    shape: tuple  # (H, W)
    basis: np.ndarray  # (H*W, C) float32 or float64
    gain: np.ndarray | float  # (C,) float64, or one for all channels
    weights: np.ndarray | None  # (H*W,) float64 region weights in 0..1, or None for all ones
    projection: tuple | None  # ((C, D), (D,)) float64
    embedding: np.ndarray  # (D,) float64
    norm: float  # |embedding|


def _one_image(conv, pooling, projection, region, power, data_format):
    return _pool(conv, "conv", pooling, projection, region, "region", power, data_format)


def _two_images(conv1, conv2, pooling, projection, region1, region2, power, data_format):
    image1 = _pool(conv1, "conv1", pooling, projection, region1, "region1", power, data_format)
    image2 = _pool(conv2, "conv2", pooling, projection, region2, "region2", power, data_format)
    channels1, channels2 = image1.basis.shape[1], image2.basis.shape[1]
    if channels1 != channels2:
        raise ValueError(
            "conv1 and conv2: expected the same number of channels, "
            f"got {channels1} and {channels2}"
        )
    for name, image in (("conv1", image1), ("conv2", image2)):
        if image.norm == 0:
            raise ValueError(f"{name}: its pooled feature is all zero, the cosine is undefined")
    return image1, image2


def _similarity_to(image, other):
    """Return <l[u], f_other> / (|f| |f_other|) without building l."""
    direction, constant = other.embedding, None
    if image.projection is not None:
        kernel, bias = image.projection
        # <l @ kernel + share * bias, f> = <l, kernel @ f> + share * <bias, f>
        direction, constant = kernel @ direction, bias @ direction / image.norm / other.norm
    direction = direction * (image.gain / image.norm / other.norm)
    similarity = (image.basis @ direction.astype(image.basis.dtype)).astype(np.float64, copy=False)
    if image.weights is not None:
        similarity *= image.weights
    if constant is not None:
        similarity += constant * _bias_shares(image)
    return similarity.reshape(image.shape)


def _local(image):
    """Return the local features l, (H*W, D) float64."""
    local = image.basis * image.gain
    if image.weights is not None:
        local *= image.weights[:, None]
    if image.projection is not None:
        kernel, bias = image.projection
        local = local @ kernel + _bias_shares(image)[:, None] * bias
    return local


def _bias_shares(image):
    """Return 1 / N at each of the N positions that take part, 0 elsewhere."""
    if image.weights is None:
        return np.full(len(image.basis), 1 / len(image.basis))
    return (image.weights > 0) / np.count_nonzero(image.weights)


@np.errstate(over="ignore", invalid="ignore")  # sums that overflow are done again, rescaled
def _pool(conv, name, pooling, projection, region, region_name, power, data_format):
    conv, shape = _flatten(conv, name, data_format)
    weights = None if region is None else _region_weights(region, region_name, shape)
    conv, scale, total = _rescale(conv, name)
    if pooling == "average":
        basis = conv
        if weights is None:
            gain = 1 / len(conv)
        else:
            gain, total = 1 / weights.sum(), _sum_over_positions(conv, weights)
    elif pooling == "max":
        basis, gain, weights, total = _max(conv, weights)
    elif pooling == "gem":
        basis, gain, total = _gem(conv, name, weights, power)
    else:
        raise ValueError(f"pooling: expected one of {', '.join(POOLINGS)}, got {pooling!r}")
    gain = gain * scale
    embedding = gain * total
    if projection is not None:
        projection = kernel, bias = _check_projection(projection, len(embedding))
        embedding = embedding @ kernel + bias
    return _Pooled(shape, basis, gain, weights, projection, embedding, _norm(embedding))


def _max(conv, weights):
    inside = None if weights is None else weights > 0
    maximum = conv.max(axis=0) if inside is None else conv[inside].max(axis=0)
    basis = (conv == maximum).astype(conv.dtype)
    weights = None if inside is None else inside.astype(np.float64)
    ties = _sum_over_positions(basis, weights)
    return basis, maximum / ties, weights, ties


def _gem(conv, name, weights, power):
    if not (np.isscalar(power) and np.isreal(power) and 1 <= power < np.inf):
        raise ValueError(f"power: expected a real number >= 1, got {power!r}")
    if conv.min() < 0:
        raise ValueError(
            f"{name}: GeM pooling needs activations >= 0, got a minimum of {conv.min():.6g}"
        )
    if weights is not None:
        conv = conv * (weights > 0)[:, None].astype(conv.dtype)
    # Powers are taken of each channel over its maximum, so that none overflows or vanishes.
    maximum = conv.max(axis=0)
    basis = _raise_to(conv / np.where(maximum > 0, maximum, 1), power)
    total = _sum_over_positions(basis, weights)
    mean = total / (len(conv) if weights is None else weights.sum())
    feature = maximum * mean ** (1 / power)
    return basis, np.divide(feature, total, out=np.zeros_like(total), where=total > 0), total


def _raise_to(base, power):
    """Return base ** power, overwriting base; whole powers by squaring, many times faster."""
    if power != int(power) or power > 64:
        return np.power(base, base.dtype.type(power), out=base)
    result, power = None, int(power)
    while True:
        if power % 2:
            result = base.copy() if result is None else np.multiply(result, base, out=result)
        power //= 2
        if power == 0:
            return result
        np.multiply(base, base, out=base)


def _sum_over_positions(matrix, weights=None):
    """Return the (weighted) sum over an (N, C) matrix's rows, (C,) float64."""
    # A product with ones is the fastest sum over the first axis that numpy has.
    dtype = matrix.dtype
    weights = np.ones(len(matrix), dtype) if weights is None else weights.astype(dtype)
    return (weights @ matrix).astype(np.float64, copy=False)


def _norm(vector):
    """Return |vector|, also where its square leaves the floating-point range."""
    squared = vector @ vector
    if 1e-200 < squared < 1e200:
        return float(np.sqrt(squared))
    peak = np.abs(vector).max()
    return float(peak * np.linalg.norm(vector / peak)) if peak > 0 else 0.0


def _flatten(conv, name, data_format):
    """Return conv as an (H*W, C) float32 or float64 matrix, and (H, W)."""
    conv = _real_array(conv, name)
    if data_format == "channels_first":
        conv = np.moveaxis(conv, 0, -1) if conv.ndim else conv
    elif data_format is None:
        _warn_of_channels_first(conv, name)
    elif data_format != "channels_last":
        raise ValueError(
            f"data_format: expected channels_last or channels_first, got {data_format!r}"
        )
    if conv.ndim == 2:
        side = round(np.sqrt(len(conv)))
        if side * side != len(conv):
            raise ValueError(
                f"{name}: flattened activations (K*K, C) need a square number of positions, "
                f"got shape {conv.shape}; pass (H, W, C) instead"
            )
        shape = (side, side)
    elif conv.ndim == 3:
        shape = conv.shape[:2]
    else:
        raise ValueError(
            f"{name}: expected shape (H, W, C) or flattened (K*K, C), got {conv.shape}"
        )
    if conv.size == 0:
        raise ValueError(f"{name}: expected at least one position and channel, got {conv.shape}")
    return conv.reshape(shape[0] * shape[1], conv.shape[-1]), shape


def _warn_of_channels_first(conv, name):
    if conv.ndim == 3 and 0 < conv.shape[2] < min(conv.shape[:2]):
        height, width, channels = conv.shape
        warnings.warn(
            f"{name}: read as (H, W, C), {height} x {width} positions of {channels} channels; say "
            'data_format="channels_first" if it is (C, H, W), or "channels_last" if that is right',
            stacklevel=7,  # the line that called the public function
        )


def _rescale(conv, name):
    """Return (conv / scale, scale, its sum over positions) with sums well inside float range."""
    total = _sum_over_positions(conv)
    if 1e-30 < total @ total < 1e60:
        return conv, 1.0, total
    _check_finite(conv, name)
    conv = conv.astype(np.float64)
    # a power of two, so that nothing is rounded and sums of zero stay zero
    scale = 2.0 ** (np.frexp(np.abs(conv).max())[1] - 1)
    conv /= scale
    return conv, scale, _sum_over_positions(conv)


def _region_weights(region, name, shape):
    region = _real_array(region, name)
    if region.shape != shape:
        raise ValueError(f"{name}: expected weights of the map's shape {shape}, got {region.shape}")
    _check_finite(region, name)
    if region.min() < 0:
        raise ValueError(f"{name}: expected weights >= 0, got a minimum of {region.min():.6g}")
    if region.max() == 0:
        raise ValueError(f"{name}: every weight is zero, the region is empty")
    return (region / region.max()).astype(np.float64).ravel()


def _check_projection(projection, channels):
    if not (isinstance(projection, (tuple, list)) and len(projection) == 2):
        raise ValueError(
            "projection: expected None or a pair (kernel, bias or None), "
            f"got {type(projection).__name__}"
        )
    kernel = _real_array(projection[0], "projection kernel").astype(np.float64, copy=False)
    if kernel.ndim != 2 or len(kernel) != channels or kernel.size == 0:
        raise ValueError(f"projection kernel: expected shape ({channels}, D), got {kernel.shape}")
    _check_finite(kernel, "projection kernel")
    if projection[1] is None:
        return kernel, np.zeros(kernel.shape[1])
    bias = _real_array(projection[1], "projection bias").astype(np.float64, copy=False)
    if bias.shape != kernel.shape[1:]:
        raise ValueError(f"projection bias: expected shape {kernel.shape[1:]}, got {bias.shape}")
    _check_finite(bias, "projection bias")
    return kernel, bias


def _real_array(values, name):
    """Return values as a float32 array if they are one, as float64 otherwise."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cOSUmM":
            raise TypeError
        return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        kind = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name}: expected an array of real numbers, got {kind}") from None


def _check_finite(array, name):
    if not np.isfinite(array).all():
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: expected finite values, got {array[position]} at {position}")


def _neighbours(name, position, size):
    """Return the cells before and after a fractional position, and the share of the second."""
    if not -0.5 <= position <= size - 0.5:
        raise ValueError(f"{name}: expected a position in -0.5..{size - 0.5} cells, got {position}")
    position = min(max(float(position), 0.0), size - 1.0)
    before = min(int(position), max(size - 2, 0))
    return before, min(before + 1, size - 1), position - before
