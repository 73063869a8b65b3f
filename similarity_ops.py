"""Which regions of two images make their embeddings similar: the method, in plain numpy.

Every pooling writes an embedding f as a sum over positions u of *local features* l[u]:

    f = sum_u l[u]        so        cos(f1, f2) = sum_u sum_v <l1[u], l2[v]> / (|f1| |f2|)

and each function below is a view of that double sum.  Positions are the cells of a network's last
convolutional layer; ``conv`` is its output, (H, W, C), or (K*K, C) flattened row by row.
"""

import math
import numbers
import reprlib
import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np

POOLINGS = ("average", "max", "gem")
COSINES_AT_ONCE = 2**22  # of all positions of an image with some of another: 16 MB, or 32
_ones = lru_cache(np.ones)  # every sum over positions needs them, and nobody writes to them


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
    power : real number >= 1, the exponent of GeM
    data_format : None, "channels_last" or "channels_first"
        Say "channels_first" if conv1 and conv2 are (C, H, W) or (C, K*K), as PyTorch has them.
        None reads them as "channels_last", and warns if that does not look right.

    Returns
    -------
    similarity1, similarity2 : float64 (H, W) arrays
        Signed, and each of its own image's size.  Both sum to the cosine of the embeddings.

    Raises
    ------
    ValueError
        Names the argument at fault: wrong shapes, non-finite or masked values, an unknown pooling,
        an empty region, an embedding that is all zero, whose cosine is undefined, or values that
        cancel each other out beyond floating-point precision.

    Examples
    --------
    >>> left, right = np.eye(4).reshape(2, 2, 4), np.eye(4)[:1].reshape(1, 1, 4)
    >>> similarity1, similarity2 = compute_spatial_similarity(left, right)
    >>> similarity1  # only the first of left's four positions looks like right
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    return _of_two_images(
        lambda image1, image2: (_similarity_to(image1, image2), _similarity_to(image2, image1)),
        *(conv1, conv2, pooling, projection, region1, region2, power, data_format),
    )


def compute_direction_similarity(
    conv,
    direction,
    pooling="average",
    *,
    projection=None,
    region=None,
    power=3.0,
    data_format=None,
):
    """Return how much each position of an image adds to its unit embedding along a direction.

        similarity[u] = <l[u], d> / |f|

    A direction is a question.  The unit embedding of another image, or of a region of one, asks
    what `compute_spatial_similarity` asks; the local feature of one of its positions, over the
    length of its embedding, what that position matches; the difference of two unit embeddings, why
    the image is closer to the one; the mean of a class, what tells that it is of this class.

    Parameters
    ----------
    conv, pooling, projection, region, power, data_format : as for `compute_spatial_similarity`
    direction : finite (D,) array, of any length

    Returns
    -------
    similarity : float64 (H, W) array
        Its sum is <f, d> / |f|, the cosine if the direction is of length 1.

    Raises
    ------
    ValueError
        As of `compute_spatial_similarity`.

    Examples
    --------
    >>> compute_direction_similarity(np.eye(4).reshape(2, 2, 4), [2.0, 0.0, 0.0, -2.0])
    array([[ 1.,  0.],
           [ 0., -1.]])
    """

    def compute(image):
        if image.norm == 0:
            raise ValueError("conv: its pooled feature is all zero, the cosine is undefined")
        along = _array(direction, "direction", len(image.embedding))
        along, peak = _over_its_peak(along) if along.any() else (along, 1.0)
        found = _similarity_to(image, image._replace(embedding=along, norm=1.0))
        seen, size = image.embedding.dot(along) / image.norm, np.linalg.norm(along)
        if not abs(found.sum() - seen) <= 1e-5 * size:
            raise ValueError("conv: its values cancel out beyond floating-point precision")
        return (
            found * peak / image.scale
        )  # which is multiplied to what is of the activations' scale

    return _of_one_image(compute, conv, pooling, projection, region, power, data_format)


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
    """Return what each *pair* of positions adds to the cosine, a float64 (H1, W1, H2, W2) array.

        pairwise[u, v] = <l1[u], l2[v]> / (|f1| |f2|)

    Summed over (H2, W2) it is similarity1, and summed over (H1, W1) similarity2.  Parameters and
    errors are those of `compute_spatial_similarity`.

    Examples
    --------
    >>> conv = np.eye(4).reshape(2, 2, 4)
    >>> compute_pairwise_similarity(conv, conv)[0, 1]  # matches the same position of the other
    array([[0.  , 0.25],
           [0.  , 0.  ]])
    """
    (pairwise,) = _of_two_images(
        lambda image1, image2: (_pairwise(image1, image2),),
        *(conv1, conv2, pooling, projection, region1, region2, power, data_format),
    )
    return pairwise


def point_similarity(pairwise, y, x, image=1):
    """Return the map of what one position matches in the other image, (H2, W2), float64.

    At a cell's centre it sums to that cell's value in the image's own map.  This and the functions
    below raise a ValueError that names the argument at fault.

    Parameters
    ----------
    pairwise : finite (H1, W1, H2, W2) array, from `compute_pairwise_similarity`
    y, x : real numbers
        A position in cells, (0, 0) being the centre of the first cell.  Between the centres the
        four nearest cells are interpolated bilinearly; in the outer half cells, down to -0.5 and
        up to H - 0.5 and W - 0.5, the border is continued.
    image : 1 or 2, the image that the position lies in; of 2, the map is (H1, W1)

    Examples
    --------
    >>> conv = np.eye(4).reshape(2, 2, 4)
    >>> point_similarity(compute_pairwise_similarity(conv, conv), 0, 0.5)
    array([[0.125, 0.125],
           [0.   , 0.   ]])
    """
    pairwise = _array(pairwise, "pairwise", "H1", "W1", "H2", "W2")
    if image not in (1, 2):
        raise ValueError(f"image: expected 1 or 2, got {image!r}")
    rows = pairwise if image == 1 else pairwise.transpose(2, 3, 0, 1)
    top, bottom, down = _neighbours("y", y, rows.shape[0])
    left, right, across = _neighbours("x", x, rows.shape[1])
    upper = (1 - across) * rows[top, left] + across * rows[top, right]
    lower = (1 - across) * rows[bottom, left] + across * rows[bottom, right]
    return (1 - down) * upper + down * lower


def strongest_matches(pairwise, count):
    """Return the pairs of positions that add the most, well apart: int (n, 4), (y1, x1, y2, x2).

    The strongest pair comes first.  Cells that touch it, in either image, take no further part, for
    they would say the same again; then comes the strongest pair of what is left, and so on, as long
    as it adds anything.  So any two matches are at least two cells apart in both images.

    Parameters
    ----------
    pairwise : finite (H1, W1, H2, W2) array, from `compute_pairwise_similarity`
    count : whole number >= 0, how many to return at most; of equal ones, the first read first

    Examples
    --------
    >>> conv = np.eye(4).reshape(1, 4, 4) * [4, 3, 2, 1]
    >>> strongest_matches(compute_pairwise_similarity(conv, conv), 3)
    array([[0, 0, 0, 0],
           [0, 2, 0, 2]])
    """
    left = _array(pairwise, "pairwise", "H1", "W1", "H2", "W2").copy()
    _check_count(count)
    matches = []
    while len(matches) < count:
        match = np.unravel_index(left.argmax(), left.shape)
        if left[match] <= 0:
            break
        matches.append(match)
        y1, x1, y2, x2 = (slice(max(cell - 1, 0), cell + 2) for cell in match)
        left[y1, x1] = left[:, :, y2, x2] = -np.inf
    return np.array(matches, int).reshape(-1, 4)


def mutual_matches(
    conv1,
    conv2,
    count=None,
    pooling="average",
    *,
    projection=None,
    region1=None,
    region2=None,
    power=3.0,
    data_format=None,
):
    """Return the pairs of positions that are each other's nearest, those that add the most first.

    Nearest is what `mutual_neighbours` says of the local features.  What a pair adds says how
    strongly the network sees it, not whether it matches: a strong position adds much with any.

    Parameters
    ----------
    count : None or whole number >= 0, how many to return at most
    conv1, conv2, pooling, ... : as for `compute_spatial_similarity`; a position whose local feature
        is all zero, as outside of a region, matches nothing

    Returns
    -------
    cells : int (n, 4) array of (y1, x1, y2, x2)
    contributions : float64 (n,) array > 0, what the pairs add, see `compute_pairwise_similarity`
    cosines : float64 (n,) array in 0..1, of the local features

    Examples
    --------
    >>> conv = np.diag([1.0, 2.0]).reshape(1, 2, 2)
    >>> cells, contributions, cosines = mutual_matches(conv, conv[:, ::-1])
    >>> cells, contributions, cosines
    (array([[0, 1, 0, 0],
           [0, 0, 0, 1]]), array([0.8, 0.2]), array([1., 1.]))
    """
    if count is not None:
        _check_count(count)
    found = []

    def compute(image1, image2):
        image1, image2 = map(_with_head, (image1, image2))
        left, right = (
            image.basis * np.asarray(image.gain / image.norm).astype(image.basis.dtype)
            for image in (image1, image2)
        )
        first, second, cosines = _nearest_both_ways(left, right)
        adds = (left[first].astype(np.float64) * right[second]).sum(axis=1)
        best = np.argsort(-adds, kind="stable")[:count]
        cells = _as_cells(first[best], image1.shape, second[best], image2.shape)
        found[:] = cells, adds[best], cosines[best]
        return (_similarity_to(image1, image2),)  # whose sum shows whether to trust the numbers

    options = pooling, projection, region1, region2, power, data_format
    _of_two_images(compute, conv1, conv2, *options)
    return tuple(found)


def mutual_neighbours(features1, features2):
    """Return the pairs of cells that are each other's nearest, by the cosine of any features.

    Of all cells of image 2 it is v whose feature has the largest cosine with that of u, and of all
    of image 1 it is u for v.  Cosines are compared by six decimals, and of equal ones the first
    cell, read row by row, is the nearest; so constant features have one match.  Features that are
    all zero, and cosines that are not positive, have none.

    Parameters
    ----------
    features1, features2 : finite (H, W, C) arrays, which may differ in H and W

    Returns
    -------
    cells : int (n, 4) array of (y1, x1, y2, x2), in the order of image 1
    cosines : float64 (n,) array in 0..1

    Examples
    --------
    >>> cells, cosines = mutual_neighbours([[[1.0, 0.0], [3.0, 4.0]]], [[[1.0, 1.0]]])
    >>> cells, cosines.round(4)  # of the two cells, the second one is nearer
    (array([[0, 1, 0, 0]]), array([0.9899]))
    """
    features1 = _array(features1, "features1", "H", "W", "C")
    features2 = _array(features2, "features2", "H", "W", features1.shape[2])
    rows = (features.reshape(-1, features.shape[2]) for features in (features1, features2))
    first, second, cosines = _nearest_both_ways(*rows)
    return _as_cells(first, features1.shape, second, features2.shape), cosines


def strongest_part(similarity):
    """Return the connected part of a map around its highest cell, a bool (h, w) array.

    It is the cells of at least half of the highest value that are joined to the highest one by
    their sides, through others of that kind; if no value is positive, the highest cell alone.

    Parameters
    ----------
    similarity : finite (h, w) array

    Examples
    --------
    >>> strongest_part([[2.0, 1.0, 0.0, 1.5]])
    array([[ True,  True, False, False]])
    """
    similarity = _array(similarity, "similarity", "h", "w")
    part = np.zeros(similarity.shape, bool)
    part.flat[similarity.argmax()] = True
    strong = part | ((similarity >= similarity.max() / 2) & (similarity > 0))
    while True:
        edged = np.pad(part, 1)
        beside = edged[:-2, 1:-1] | edged[2:, 1:-1] | edged[1:-1, :-2] | edged[1:-1, 2:]
        grown = part | (beside & strong)
        if (grown == part).all():
            return part
        part = grown


def best_box(local, feature):
    """Return the box of cells of one image that looks most like another image, or a part of one.

    A box is what its local features add up to; after average pooling, the embedding of the crop.

    Parameters
    ----------
    local : finite (h, w, D) array, an image's `local_features`, not all zero
    feature : finite (D,) array, the embedding of another image or region, not all zero

    Returns
    -------
    similarity : float in -1..1, the cosine of the box and the feature
    box : (y0, x0, y1, x1) in cells; y1 and x1 are outside of it

    Examples
    --------
    >>> best_box([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]], [0.0, 2.0])
    (1.0, (0, 1, 1, 2))
    """
    local = _array(local, "local", "h", "w", "D")
    feature = _array(feature, "feature", local.shape[2])
    for array, name in ((local, "local"), (feature, "feature")):
        if not array.any():
            raise ValueError(f"{name}: all of it is zero")
    (local, _), (unit, _) = _over_its_peak(local), _over_its_peak(feature)
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
    local : float64 (H, W, D) array, where D is C if there is no projection

    Examples
    --------
    >>> conv = np.array([[[1.0, 4.0], [3.0, 4.0]]])
    >>> local_features(conv, "max")  # the second channel's maximum is shared by two positions
    array([[[0., 2.],
            [3., 2.]]])
    """

    def compute(image):
        image = _with_head(image)
        return (image.basis.astype(np.float64) * image.gain).reshape(image.shape + (-1,))

    return _of_one_image(compute, conv, pooling, projection, region, power, data_format)


def pool_features(
    conv, pooling="average", *, projection=None, region=None, power=3.0, data_format=None
):
    """Return the embedding f that a network pools from its activations, a float64 (D,) array.

    Parameters and errors are those of `local_features`, whose sum over positions this is.

    Examples
    --------
    >>> pool_features(np.array([[[1.0, 4.0], [3.0, 4.0]]]))
    array([2., 4.])
    """
    return _of_one_image(
        lambda image: image.embedding, conv, pooling, projection, region, power, data_format
    )


def tokens_to_map(tokens, grid=None, prefix=0):
    """Lay a transformer's tokens where they are in the image: a view (h, w, C) or (N, h, w, C).

    Parameters
    ----------
    tokens : (T, C) or (N, T, C) array
        Those that are no place in the image first, as CLS and registers, then places row by row.
    grid : None or (height, width) in tokens; None for a square
    prefix : int >= 0, how many tokens stand before the first place

    Examples
    --------
    >>> tokens_to_map(np.zeros((197, 768)), prefix=1).shape
    (14, 14, 768)
    """
    tokens = np.asarray(tokens)
    if tokens.ndim not in (2, 3):
        raise ValueError(f"tokens: expected (T, C) or (N, T, C), got shape {tokens.shape}")
    count = tokens.shape[-2] - prefix
    height, width = [math.isqrt(max(count, 0))] * 2 if grid is None else grid
    if not (prefix >= 0 and count > 0 and height * width == count):
        raise ValueError(
            f"grid: {tokens.shape[-2]} tokens, {prefix} of them before the others, do not make "
            f"{height} x {width}"
        )
    return tokens[..., prefix:, :].reshape(*tokens.shape[:-2], height, width, tokens.shape[-1])


class _Pooled(NamedTuple):
    """One image after pooling: its local features are l[u] = (basis[u] * gain) @ kernel + bias[u].

    The basis is the one large matrix; after average pooling it is conv itself, which is not copied.
    """

    shape: tuple  # (H, W)
    basis: np.ndarray  # (H*W, D) float32 or float64
    gain: np.ndarray | float  # (D,) float64, or one number for all channels
    embedding: np.ndarray  # (D,) float64
    norm: float  # |embedding|
    scale: float  # by which the embedding and the local features were divided; no cosine sees it
    head: tuple | None  # (kernel, share (H*W, 1) of the bias, bias), not yet multiplied out


@np.errstate(over="ignore", invalid="ignore")  # what overflows is done again, or refused
def _of_two_images(
    compute, conv1, conv2, pooling, projection, region1, region2, power, data_format
):
    """Return compute(image1, image2), arrays each of which is checked to sum to the cosine."""
    conv1, shape1 = _flatten(conv1, "conv1", data_format)
    conv2, shape2 = _flatten(conv2, "conv2", data_format)
    if conv1.shape[1] != conv2.shape[1]:
        counts = f"{conv1.shape[1]} and {conv2.shape[1]}"
        raise ValueError(f"conv1 and conv2: expected the same number of channels, got {counts}")
    for careful in (False, True):
        options = pooling, projection, power, careful
        image1 = _pool(conv1, "conv1", shape1, region1, "region1", *options)
        image2 = _pool(conv2, "conv2", shape2, region2, "region2", *options)
        for name, image in (("conv1", image1), ("conv2", image2)):
            if image.norm == 0:
                raise ValueError(f"{name}: its pooled feature is all zero, the cosine is undefined")
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


def _similarity_to(image, other):
    """Return <l[u], f_other> / (|f| |f_other|), (H, W), without building l."""
    size, direction = image.norm * other.norm, other.embedding
    if image.head is not None:
        kernel, share, bias = image.head
        direction, offset = kernel @ direction, np.ravel(share * bias.dot(direction) / size)
    direction = (direction * (image.gain / size)).astype(image.basis.dtype)
    similarity = image.basis.dot(direction).astype(np.float64)
    return (similarity if image.head is None else similarity + offset).reshape(image.shape)


def _pairwise(image1, image2):
    """Return <l1[u], l2[v]> / (|f1| |f2|), (H1, W1, H2, W2)."""
    image1, image2 = map(_with_head, (image1, image2))
    # all the gains on the left factor, so that the right one need not be copied
    gain = np.asarray((image1.gain / image1.norm) * (image2.gain / image2.norm))
    left = image1.basis * gain.astype(image1.basis.dtype)
    return (left @ image2.basis.T).astype(np.float64).reshape(image1.shape + image2.shape)


def _nearest_both_ways(rows1, rows2):
    """Return the numbers of the rows that are each other's nearest by cosine, and the cosines."""
    units1, units2 = map(_unit_rows, (rows1, rows2))
    nearest1, nearest2 = np.zeros(len(units1), int), np.zeros(len(units2), int)
    highest2 = np.full(len(units2), -np.inf)
    at_once = max(1, COSINES_AT_ONCE // len(units2))
    for start in range(0, len(units1), at_once):
        cosines = units1[start : start + at_once] @ units2.T
        cosines.round(6, out=cosines)  # so that equal ones tie
        nearest1[start : start + at_once] = cosines.argmax(axis=1)
        highest = cosines.max(axis=0)
        closer = highest > highest2
        nearest2[closer] = start + cosines.argmax(axis=0)[closer]
        highest2[closer] = highest[closer]
    first = np.flatnonzero(
        (nearest2[nearest1] == np.arange(len(units1))) & (highest2[nearest1] > 0)
    )
    second = nearest1[first]
    cosines = (units1[first].astype(np.float64) * units2[second]).sum(axis=1)
    return first, second, cosines.clip(0, 1)


def _unit_rows(rows):
    """Return the rows of a matrix at length 1, but for those that are all zero."""
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(peaks > 0, peaks, 1)  # so that no square overflows or vanishes
    norms = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows / np.where(norms > 0, norms, 1)


def _as_cells(first, shape1, second, shape2):
    """Return pairs of numbers of cells, counted row by row, as int (n, 4), (y1, x1, y2, x2)."""
    pairs = *np.divmod(first, shape1[1]), *np.divmod(second, shape2[1])
    return np.stack(pairs, axis=1)


def _with_head(image):
    """Return an image with its head multiplied out at every position."""
    if image.head is None:
        return image
    kernel, share, bias = image.head
    basis = image.basis @ (np.reshape(image.gain, (-1, 1)) * kernel) + share * bias
    return image._replace(basis=basis, gain=1.0, head=None)


def _pool(conv, name, shape, region, region_name, pooling, projection, power, careful=False):
    """Pool an image's (H*W, C) activations.

    If the embedding is not of an ordinary size, it is done again with care: in float64, with
    everything over its largest value, so that nothing overflows or vanishes.
    """
    total = _sum_over_positions(conv)
    if careful or not total.dot(total) < np.inf:  # what is not finite shows in the sum
        _check_finite(conv, name)
    rows, count, scale, weights, inside = conv, len(conv), 1.0, None, None
    if region is not None:
        weights = _region_weights(region, region_name, shape)
        inside, count = weights > 0, weights.sum()
        # Positions outside repeat one that is inside, so that only values inside matter.
        rows = conv[np.where(inside[:, 0], np.arange(len(conv)), inside.argmax())]
    if careful:
        rows, scale = _over_its_peak(rows)
    if pooling == "average":
        basis, gain = _weighted(rows, weights), 1 / count
        total = total if basis is conv else _sum_over_positions(basis)
    elif pooling == "max":
        maximum = rows.max(axis=0)
        basis = _weighted((rows == maximum).astype(rows.dtype), inside)
        total = _sum_over_positions(basis)  # how many positions share the maximum
        gain = maximum / total
    elif pooling == "gem":
        basis, gain, total = _gem(rows, name, weights, count, power)
    else:
        raise ValueError(f"pooling: expected one of {', '.join(POOLINGS)}, got {pooling!r}")
    embedding, head = gain * total, None
    if projection is not None:
        kernel, bias = _check_projection(projection, basis.shape[1])
        if bias.any():  # which is of the scale of the activations themselves
            gain, embedding, scale = gain * scale, embedding * scale, 1.0
        if careful:
            both, peak = _over_its_peak(np.vstack([kernel, bias]))
            kernel, bias, scale = both[:-1], both[-1], scale * peak
        share = 1 / len(conv) if inside is None else inside / inside.sum()
        embedding, head = embedding @ kernel + bias, (kernel, share, bias)
    if careful:
        embedding, peak = _over_its_peak(embedding)
        gain, scale = gain / peak, scale * peak
        head = head and (kernel, share, bias / peak)
    squared = embedding.dot(embedding)
    if not (careful or 1e-30 < squared < 1e60):
        return _pool(conv, name, shape, region, region_name, pooling, projection, power, True)
    return _Pooled(shape, basis, gain, embedding, math.sqrt(squared), scale, head)


def _gem(conv, name, weights, count, power):
    """Return the basis of GeM pooling, its gain, and its sum over positions."""
    if not (isinstance(power, numbers.Real) and 1 <= power < 1e300):
        raise ValueError(f"power: expected a real number >= 1, got {reprlib.repr(power)}")
    least = conv.min()
    if least < 0:
        raise ValueError(
            f"{name}: GeM pooling needs activations >= 0, got a minimum of {least:.6g}"
        )
    peak, basis = 1.0, _weighted(_raise_to(conv, power), weights)
    total = _sum_over_positions(basis)
    doubtful = ~((total > 1e-30) & (total < 1e30))
    if conv[:, doubtful].any():  # powers that overflow or vanish: take each channel over its peak
        peak = conv.max(axis=0)
        peak[peak == 0] = 1
        basis = _weighted(_raise_to(conv / peak, power), weights)
        total = _sum_over_positions(basis)
    feature = peak * (total / count) ** (1 / power)
    return basis, np.divide(feature, total, out=np.zeros_like(total), where=total > 0), total


def _raise_to(base, power):
    """Return base ** power; whole powers by squaring, many times faster."""
    if power != int(power) or power > 64:
        return np.power(base, base.dtype.type(power))
    result = base
    for digit in f"{int(power):b}"[1:]:  # each binary digit doubles the exponent, and a 1 adds one
        result = result * result * base if digit == "1" else result * result
    return result


def _weighted(matrix, weights):
    return matrix if weights is None else matrix * weights.astype(matrix.dtype)


def _sum_over_positions(matrix):
    """Return the sum over an (N, C) matrix's rows, (C,) float64."""
    # A product with ones is the fastest sum over the first axis that numpy has.
    return _ones(len(matrix), matrix.dtype).dot(matrix).astype(np.float64, copy=False)


def _over_its_peak(array):
    """Return (array / scale, scale), a power of two near its peak, so that no digit is rounded."""
    scale = math.ldexp(0.5, math.frexp(np.abs(array).max())[1])
    return array.astype(np.float64) / scale, scale


def _flatten(conv, name, data_format):
    """Return conv as an (H*W, C) float32 or float64 matrix, and (H, W)."""
    conv = _real_array(conv, name)
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(
            f"data_format: expected channels_last or channels_first, got {data_format}"
        )
    if conv.ndim not in (2, 3) or conv.size == 0:
        raise ValueError(
            f"{name}: expected (H, W, C) or (K*K, C), each at least 1, got {conv.shape}"
        )
    if data_format == "channels_first":
        conv = np.moveaxis(conv, 0, -1)
    elif data_format is None and conv.ndim == 3 and conv.shape[2] < min(conv.shape[:2]):
        height, width, channels = conv.shape
        warnings.warn(
            f"{name}: read as (H, W, C), {height} x {width} positions of {channels} channels; say "
            'data_format="channels_first" if it is (C, H, W), or "channels_last" if that is right',
            stacklevel=5,  # the line that called the public function
        )
    side = math.isqrt(len(conv))
    if conv.ndim == 2 and side * side != len(conv):
        raise ValueError(
            f"{name}: flattened activations (K*K, C) need a square number of positions, "
            f"got shape {conv.shape}; pass (H, W, C) instead"
        )
    shape = conv.shape[:2] if conv.ndim == 3 else (side, side)
    return conv.reshape(-1, conv.shape[-1]), shape


def _region_weights(region, name, shape):
    """Return a region's weights over the largest one, (H*W, 1) float64."""
    region = _array(region, name, *shape)
    if region.min() < 0:
        raise ValueError(f"{name}: expected weights >= 0, got a minimum of {region.min():.6g}")
    if region.max() == 0:
        raise ValueError(f"{name}: every weight is zero, the region is empty")
    return (region / region.max()).reshape(-1, 1)


def _check_projection(projection, channels):
    """Return a head's kernel and bias, (C, D) and (D,) float64."""
    if not (isinstance(projection, (tuple, list)) and len(projection) == 2):
        kind = type(projection).__name__
        raise ValueError(f"projection: expected None or a pair (kernel, bias or None), got {kind}")
    kernel = _array(projection[0], "projection kernel", channels, "D")
    bias = np.zeros(kernel.shape[1]) if projection[1] is None else projection[1]
    return kernel, _array(bias, "projection bias", kernel.shape[1])


def _array(values, name, *axes):
    """Return finite values as a float64 array with these axes; a letter stands for any length."""
    array = _real_array(values, name).astype(np.float64, copy=False)
    pairs = zip(axes, array.shape, strict=False)
    shape = tuple(length if isinstance(axis, str) else axis for axis, length in pairs)
    if array.ndim != len(axes) or array.shape != shape or array.size == 0:
        expected = str(axes).replace("'", "")
        raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
    _check_finite(array, name)
    return array


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


def _check_count(count):
    if not (isinstance(count, (int, np.integer)) and count >= 0):
        raise ValueError(f"count: expected a whole number >= 0, got {count!r}")


def _neighbours(name, position, size):
    """Return the cells before and after a fractional position, and the share of the second."""
    if not (isinstance(position, numbers.Real) and -0.5 <= position <= size - 0.5):
        raise ValueError(
            f"{name}: expected a position in -0.5..{size - 0.5} cells, got {reprlib.repr(position)}"
        )
    position = min(max(float(position), 0.0), size - 1.0)
    before = min(int(position), max(size - 2, 0))
    return before, min(before + 1, size - 1), position - before
