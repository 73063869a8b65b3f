"""Which regions of two images make their embeddings similar: the method, in plain numpy.

Every pooling writes an embedding f as a sum over positions u of *local features* l[u]:

    f = sum_u l[u]        so        cos(f1, f2) = sum_u sum_v <l1[u], l2[v]> / (|f1| |f2|)

and each function below is a view of that double sum.  Positions are the cells of a network's last
convolutional layer; ``conv`` is its output, (H, W, C), or (K*K, C) flattened row by row.
"""

import math
import numbers
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
        Names the argument at fault: wrong shapes, non-finite or masked values, an unknown pooling,
        an empty region, an embedding that is all zero, whose cosine is undefined, or values that
        cancel each other out beyond floating-point precision.

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
    return _of_two_images(
        lambda image1, image2: (_similarity_to(image1, image2), _similarity_to(image2, image1)),
        *(conv1, conv2, pooling, projection, region1, region2, power, data_format),
    )


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
    (pairwise,) = _of_two_images(
        lambda image1, image2: (_pairwise(image1, image2),),
        *(conv1, conv2, pooling, projection, region1, region2, power, data_format),
    )
    return pairwise


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
        For a position outside the image, an image that is neither 1 nor 2, or non-finite values.

    Examples
    --------
    >>> conv = np.eye(4).reshape(2, 2, 4)
    >>> point_similarity(compute_pairwise_similarity(conv, conv), 0, 0.5)
    array([[0.125, 0.125],
           [0.   , 0.   ]])
    """
    pairwise = _check_pairwise(pairwise)
    if image not in (1, 2):
        raise ValueError(f"image: expected 1 or 2, got {image!r}")
    rows = pairwise if image == 1 else pairwise.transpose(2, 3, 0, 1)
    (top, bottom, down), (left, right, across) = (
        _neighbours(name, position, size)
        for name, position, size in zip("yx", (y, x), rows.shape[:2], strict=True)
    )
    upper = (1 - across) * rows[top, left] + across * rows[top, right]
    lower = (1 - across) * rows[bottom, left] + across * rows[bottom, right]
    similarity = (1 - down) * upper + down * lower
    _check_finite(similarity, "pairwise")
    return similarity


def strongest_matches(pairwise, count):
    """Return the pairs of positions that add the most to the similarity, well apart.

    The strongest pair comes first.  Cells that touch it, in either image, take no further part, for
    they would say the same again; then comes the strongest pair of what is left, and so on, as long
    as it adds anything.  So any two matches are at least two cells apart in both images.

    Parameters
    ----------
    pairwise : (H1, W1, H2, W2) array
        From `compute_pairwise_similarity`.
    count : int >= 0
        How many to return; fewer if no pair is left that adds to the similarity.

    Returns
    -------
    matches : int (n, 4) array of (y1, x1, y2, x2), in cells
        In the order of their values, ``pairwise[tuple(matches.T)]``; of equal ones, the first in
        reading order.

    Raises
    ------
    ValueError
        For a tensor of another shape, non-finite values, or a count that is no whole number >= 0.

    Examples
    --------
    >>> conv = np.eye(4).reshape(1, 4, 4) * [4, 3, 2, 1]
    >>> strongest_matches(compute_pairwise_similarity(conv, conv), 3)
    array([[0, 0, 0, 0],
           [0, 2, 0, 2]])
    """
    pairwise = _check_pairwise(pairwise)
    if not (isinstance(count, (int, np.integer)) and count >= 0):
        raise ValueError(f"count: expected a whole number >= 0, got {count!r}")
    _check_finite(pairwise, "pairwise")
    left, matches = pairwise.copy(), []
    while len(matches) < count:
        match = np.unravel_index(left.argmax(), left.shape)
        if left[match] <= 0:
            break
        matches.append(match)
        y1, x1, y2, x2 = (slice(max(cell - 1, 0), cell + 2) for cell in match)
        left[y1, x1] = left[:, :, y2, x2] = -np.inf
    return np.array(matches, int).reshape(-1, 4)


def strongest_part(similarity):
    """Return the connected part of a map around its highest cell.

    Parameters
    ----------
    similarity : real (h, w) array

    Returns
    -------
    part : bool (h, w) array
        The cells of at least half of the highest value that are joined to the highest one by their
        sides, through others of that kind; if no value is positive, the highest cell alone.

    Raises
    ------
    ValueError
        For what is no finite (h, w) array.

    Examples
    --------
    >>> strongest_part([[2.0, 1.0, 0.0, 1.5]])
    array([[ True,  True, False, False]])
    """
    similarity = _real_array(similarity, "similarity")
    if similarity.ndim != 2 or not similarity.size:
        raise ValueError(f"similarity: expected a map (h, w), got shape {similarity.shape}")
    _check_finite(similarity, "similarity")
    part = np.zeros(similarity.shape, bool)
    part.flat[similarity.argmax()] = True
    strong = part | ((similarity >= similarity.max() / 2) & (similarity > 0))
    while True:
        grown = np.pad(part, 1)
        grown[:-2, 1:-1] |= part
        grown[2:, 1:-1] |= part
        grown[1:-1, :-2] |= part
        grown[1:-1, 2:] |= part
        grown = grown[1:-1, 1:-1] & strong
        if (grown == part).all():
            return part
        part = grown


def best_box(local, feature):
    """Return the box of cells of one image that looks most like another image, or a part of one.

    A box is what its local features add up to: after average pooling, the embedding of the image
    cut to it.

    Parameters
    ----------
    local : real (h, w, D) array, an image's `local_features`
    feature : real (D,) array, an embedding, of another image or region

    Returns
    -------
    similarity : float in -1..1, the cosine of the box and the feature
    box : (y0, x0, y1, x1) in cells; y1 and x1 are outside of it

    Raises
    ------
    ValueError
        For arrays of other shapes, and for those that are not finite or all zero.

    Examples
    --------
    >>> best_box([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]], [0.0, 2.0])
    (1.0, (0, 1, 1, 2))
    """
    local, feature = _real_array(local, "local"), _real_array(feature, "feature")
    if local.ndim != 3 or feature.shape != local.shape[2:]:
        raise ValueError(
            "expected local features (h, w, D) and a feature (D,), "
            f"got {local.shape} and {feature.shape}"
        )
    for array, name in ((local, "local"), (feature, "feature")):
        _check_finite(array, name)
        if not array.any():
            raise ValueError(f"{name}: all of it is zero")
    (local,), _ = _over_their_peak(local.astype(np.float64))
    (unit,), _ = _over_their_peak(feature.astype(np.float64))
    unit = unit / np.linalg.norm(unit)
    rows, columns, _ = local.shape
    down = np.concatenate([np.zeros_like(local[:1]), np.cumsum(local, axis=0)])
    x0, x1 = np.triu_indices(columns + 1, 1)
    best = -np.inf, None
    for y0 in range(rows):
        for y1 in range(y0 + 1, rows + 1):
            strip = down[y1] - down[y0]  # (w, D), a row of cells that are y1 - y0 high
            across = np.pad(np.cumsum(strip @ unit), (1, 0))
            inner = np.pad(np.cumsum(np.cumsum(strip @ strip.T, axis=0), axis=1), (1, 0))
            square = inner[x1, x1] - inner[x0, x1] - inner[x1, x0] + inner[x0, x0]
            # what is left of a box of zeros by rounding has no direction
            seen = square > 1e-12 * inner.diagonal().max()
            cosines = np.full(len(x0), -1.0)
            cosines[seen] = (across[x1] - across[x0])[seen] / np.sqrt(square[seen])
            k = cosines.argmax()
            if cosines[k] > best[0]:
                best = cosines[k], (y0, int(x0[k]), y1, int(x1[k]))
    return float(min(max(best[0], -1), 1)), best[1]


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
    return _of_one_image(
        lambda image: _spread(_local(image), image).reshape(image.shape + (-1,)),
        *(conv, pooling, projection, region, power, data_format),
    )


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
    return _of_one_image(
        lambda image: image.embedding,
        *(conv, pooling, projection, region, power, data_format),
    )


def tokens_to_map(tokens, grid=None, prefix=0):
    """Lay tokens, as a transformer puts them out, where they are in the image.

    Parameters
    ----------
    tokens : (T, C) or (N, T, C) array
        Those that are no place in the image first, as CLS and registers, then places row by row.
    grid : None or (height, width)
        In tokens; None for a square.
    prefix : int >= 0
        How many tokens stand before the first place.

    Returns
    -------
    conv : (h, w, C) or (N, h, w, C) view of the tokens

    Raises
    ------
    ValueError
        If the tokens do not make that grid, or no square.

    Examples
    --------
    >>> tokens_to_map(np.zeros((197, 768)), prefix=1).shape
    (14, 14, 768)
    """
    tokens = np.asarray(tokens)
    if tokens.ndim not in (2, 3):
        raise ValueError(f"tokens: expected (T, C) or (N, T, C), got shape {tokens.shape}")
    count = tokens.shape[-2] - prefix
    if grid is None:
        side = int(np.sqrt(max(count, 0)))
        grid = side, side
    height, width = grid
    if not (prefix >= 0 and count > 0 and height * width == count):
        raise ValueError(
            f"grid: {tokens.shape[-2]} tokens, {prefix} of them before the others, do not make "
            f"{height} x {width}"
        )
    return tokens[..., prefix:, :].reshape(*tokens.shape[:-2], height, width, tokens.shape[-1])


class _Pooled(NamedTuple):
    """One image after pooling.

    Its local features, before a linear head, are a large matrix times two vectors,

        l[u, c] = weights[u] * basis[u, c] * gain[c],

    and are multiplied out only if somebody asks for them.  The rows of the matrix are the n
    positions that take part in the pooling.
    """

    shape: tuple  # (H, W)
    inside: np.ndarray | None  # (H*W,) bool, n of them true, or None if all positions take part
    basis: np.ndarray  # (n, C) float32 or float64
    gain: np.ndarray | float  # (C,) float64, or one number for all channels
    weights: np.ndarray | None  # (n,) float64, a region's, in 0..1, or None for all ones
    kernel: np.ndarray | None  # (C, D) float64, if there is a head
    bias: np.ndarray | float  # (D,) float64
    embedding: np.ndarray  # (D,) float64
    norm: float  # |embedding|
    scale: float  # by which the embedding and the local features were divided; no cosine sees it


@np.errstate(over="ignore", invalid="ignore")  # what overflows is done again, or refused
def _of_two_images(
    compute, conv1, conv2, pooling, projection, region1, region2, power, data_format
):
    """Return compute(image1, image2), arrays that each sum to the cosine, which is made sure."""
    conv1, shape1 = _flatten(conv1, "conv1", data_format)
    conv2, shape2 = _flatten(conv2, "conv2", data_format)
    for careful in (False, True):
        options = pooling, projection, power, careful
        image1 = _pool(conv1, "conv1", shape1, region1, "region1", *options)
        image2 = _pool(conv2, "conv2", shape2, region2, "region2", *options)
        _check_partners(image1, image2)
        results = compute(image1, image2)
        cosine = image1.embedding.dot(image2.embedding) / (image1.norm * image2.norm)
        if all(abs(np.add.reduce(result, axis=None) - cosine) < 1e-5 for result in results):
            return results
    raise ValueError(
        "conv1 and conv2: their values cancel each other out beyond floating-point precision"
    )


@np.errstate(over="ignore", invalid="ignore")
def _of_one_image(compute, conv, pooling, projection, region, power, data_format):
    """Return compute(image), at the scale of the activations."""
    conv, shape = _flatten(conv, "conv", data_format)
    image = _pool(conv, "conv", shape, region, "region", pooling, projection, power)
    values = compute(image) if image.scale == 1 else compute(image) * image.scale
    if not np.isfinite(values).all():
        raise ValueError("conv: its pooled feature leaves the range of floating-point numbers")
    return values


def _check_partners(image1, image2):
    channels1, channels2 = image1.basis.shape[1], image2.basis.shape[1]
    if channels1 != channels2:
        raise ValueError(
            "conv1 and conv2: expected the same number of channels, "
            f"got {channels1} and {channels2}"
        )
    for name, image in (("conv1", image1), ("conv2", image2)):
        if image.norm == 0:
            raise ValueError(f"{name}: its pooled feature is all zero, the cosine is undefined")


def _similarity_to(image, other):
    """Return <l[u], f_other> / (|f| |f_other|), (H, W), without building l."""
    direction, norms = other.embedding, image.norm * other.norm
    if image.kernel is not None:  # <l @ kernel + bias / n, f> = <l, kernel @ f> + <bias, f> / n
        direction = image.kernel @ direction
    direction = direction * (image.gain / norms)
    similarity = image.basis.dot(direction.astype(image.basis.dtype)).astype(np.float64)
    if image.weights is not None:
        similarity *= image.weights
    if image.kernel is not None:
        similarity += image.bias @ other.embedding / norms / len(similarity)
    return _spread(similarity, image).reshape(image.shape)


def _pairwise(image1, image2):
    """Return <l1[u], l2[v]> / (|f1| |f2|), (H1, W1, H2, W2)."""
    if image1.kernel is None:
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
    pairwise = _spread(_spread(pairwise, image1).T, image2).T
    return pairwise.reshape(image1.shape + image2.shape)


def _local(image):
    """Return the local features of the positions that take part, (n, D) float64."""
    local = image.basis * np.asarray(image.gain, np.float64)
    if image.weights is not None:
        local *= image.weights[:, None]
    if image.kernel is not None:
        local = local @ image.kernel + image.bias / len(local)
    return local


def _spread(values, image):
    """Return values of the positions that take part at their place among all, zero elsewhere."""
    if image.inside is None:
        return values
    whole = np.zeros((len(image.inside), *values.shape[1:]))
    whole[image.inside] = values
    return whole


def _pool(conv, name, shape, region, region_name, pooling, projection, power, careful=False):
    """Pool an image's (H*W, C) activations.

    Done carefully it is in float64, with everything over its largest value, so that nothing
    overflows or vanishes.  That is only done if the embedding is not of an ordinary size.
    """
    rows, total, inside, weights, scale = conv, _sum_over_positions(conv), None, None, 1.0
    if careful or not total.dot(total) < np.inf:  # what is not finite shows in the sum
        _check_finite(conv, name)
    if region is not None:
        weights = _region_weights(region, region_name, shape)
        inside = weights > 0
        rows, weights = conv[inside], weights[inside]
    if careful:
        (rows,), scale = _over_their_peak(rows.astype(np.float64))
    if careful or region is not None:
        total = _sum_over_positions(rows, weights)
    count = len(rows) if weights is None else weights.sum()
    if pooling == "average":
        basis, gain = rows, 1 / count
    elif pooling == "max":
        basis, gain, total = _max(rows)
        weights = None
    elif pooling == "gem":
        basis, gain, total = _gem(rows, name, weights, count, power)
    else:
        raise ValueError(f"pooling: expected one of {', '.join(POOLINGS)}, got {pooling!r}")
    embedding, kernel, bias = gain * total, None, 0.0
    if projection is not None:
        kernel, bias, scale = _head(projection, len(embedding), scale, careful)
        embedding = embedding @ kernel + bias
    if careful:
        (embedding,), peak = _over_their_peak(embedding)
        gain, bias, scale = gain / peak, bias / peak, scale * peak
    squared = embedding.dot(embedding)
    if not (careful or 1e-30 < squared < 1e60):
        return _pool(conv, name, shape, region, region_name, pooling, projection, power, True)
    norm = math.sqrt(squared)
    return _Pooled(shape, inside, basis, gain, weights, kernel, bias, embedding, norm, scale)


def _max(conv):
    """Return the basis and the gain of max pooling, and the basis's sum over positions."""
    maximum = conv.max(axis=0)
    basis = (conv == maximum).astype(conv.dtype)
    ties = _sum_over_positions(basis)
    return basis, maximum / ties, ties


def _gem(conv, name, weights, count, power):
    """Return the basis and the gain of GeM pooling, and the basis's (weighted) sum."""
    if not (isinstance(power, numbers.Real) and 1 <= power < 1e300):
        raise ValueError(f"power: expected a real number >= 1, got {_short(power)}")
    if conv.min() < 0:
        raise ValueError(
            f"{name}: GeM pooling needs activations >= 0, got a minimum of {conv.min():.6g}"
        )
    peak, basis = 1.0, _raise_to(conv, power)
    total = _sum_over_positions(basis, weights)
    dubious = ~((total > 1e-30) & (total < 1e30))
    if dubious.any() and conv[:, dubious].any():
        # powers overflow or vanish, but not those of a channel over its maximum
        peak = conv.max(axis=0)
        peak[peak == 0] = 1
        basis = _raise_to(conv / peak, power)
        total = _sum_over_positions(basis, weights)
    feature = peak * (total / count) ** (1 / power)
    return basis, np.divide(feature, total, out=np.zeros_like(total), where=total > 0), total


def _raise_to(base, power):
    """Return base ** power; whole powers by squaring, many times faster."""
    if power != int(power) or power > 64:
        return np.power(base, base.dtype.type(power))
    result = base
    for digit in f"{int(power):b}"[1:]:  # each binary digit doubles the exponent, and a 1 adds one
        result = np.multiply(result, result, out=None if result is base else result)
        if digit == "1":
            result *= base
    return result


def _sum_over_positions(matrix, weights=None):
    """Return the (weighted) sum over an (N, C) matrix's rows, (C,) float64."""
    # A product with ones is the fastest sum over the first axis that numpy has.
    dtype = matrix.dtype
    weights = np.ones(len(matrix), dtype) if weights is None else weights.astype(dtype)
    return weights.dot(matrix).astype(np.float64, copy=False)


def _over_their_peak(*arrays):
    """Return arrays over a power of two next to their largest value, and that power.

    No digit is rounded off by it, so that what sums to zero still does.
    """
    peak = max(np.abs(array).max() for array in arrays)
    scale = math.ldexp(0.5, math.frexp(peak)[1])
    return [array / scale for array in arrays], scale


def _head(projection, channels, scale, careful):
    """Return a head's (kernel, bias) for features over a scale, and the scale of what it returns."""
    if not (isinstance(projection, (tuple, list)) and len(projection) == 2):
        raise ValueError(
            "projection: expected None or a pair (kernel, bias or None), "
            f"got {type(projection).__name__}"
        )
    kernel = _real_array(projection[0], "projection kernel").astype(np.float64, copy=False)
    if kernel.ndim != 2 or len(kernel) != channels or kernel.size == 0:
        raise ValueError(f"projection kernel: expected shape ({channels}, D), got {kernel.shape}")
    bias = np.zeros(kernel.shape[1]) if projection[1] is None else projection[1]
    bias = _real_array(bias, "projection bias").astype(np.float64, copy=False)
    if bias.shape != kernel.shape[1:]:
        raise ValueError(f"projection bias: expected shape {kernel.shape[1:]}, got {bias.shape}")
    _check_finite(kernel, "projection kernel")
    _check_finite(bias, "projection bias")
    if careful:
        if scale < 1 and bias.any():  # the bias may be all that there is, beside such features
            kernel, scale = kernel * scale, 1.0
        (kernel, bias), peak = _over_their_peak(kernel, bias / scale)
        scale *= peak
    return kernel, bias, scale


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
            stacklevel=6,  # the line that called the public function
        )


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


def _real_array(values, name):
    """Return values as a float32 array if they are one, as float64 otherwise."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: some of its values are masked, fill them or use a region")
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cOSUmM":
            raise TypeError
        return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError):
        kind = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name}: expected an array of real numbers, got {kind}") from None


def _check_finite(array, name):
    if not np.isfinite(array).all():
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: expected finite values, got {array[position]} at {position}")


def _check_pairwise(pairwise):
    pairwise = _real_array(pairwise, "pairwise").astype(np.float64, copy=False)
    if pairwise.ndim != 4 or 0 in pairwise.shape:
        raise ValueError(f"pairwise: expected (H1, W1, H2, W2), got shape {pairwise.shape}")
    return pairwise


def _neighbours(name, position, size):
    """Return the cells before and after a fractional position, and the share of the second."""
    if not (isinstance(position, numbers.Real) and -0.5 <= position <= size - 0.5):
        raise ValueError(
            f"{name}: expected a position in -0.5..{size - 0.5} cells, got {_short(position)}"
        )
    position = min(max(float(position), 0.0), size - 1.0)
    before = min(int(position), max(size - 2, 0))
    return before, min(before + 1, size - 1), position - before


def _short(value):
    """Return how a value is written, or its kind if that is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of over 4300 digits
        text = ""
    return text if 0 < len(text) < 40 else f"a {type(value).__name__}"
