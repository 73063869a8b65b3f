"""A page to explore, in any browser, why a network calls two images similar.

The page, ``web/explorer.html``, holds its own copy of the method and gets the activations with it,
so that it needs neither a server nor the network once it is written.
"""

import base64
import gzip

import numpy as np
from PIL import Image

from simvis import image_ops
from simvis.maps import EXPLAINED, check_choice, check_number
from simvis.pages.page import colormaps, data_uri, shrunk, write_page
from simvis.similarity_ops import compute_spatial_similarity

COLORMAPS = ("jet", "viridis", "cividis", "magma", "coolwarm")
LONGEST_SIDE = 640  # pixels of the images in the page


def write_explorer(path, image1, image2, conv1, conv2, **options):
    """Write one HTML file in which two images, their maps, points and regions can be explored.

    Parameters
    ----------
    path : str or Path, of the .html file; if it cannot be written, OSError is raised
    image1, image2, conv1, conv2, **options : as for `explorer_data`

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> image, conv = np.zeros((20, 30, 3), np.uint8), np.ones((2, 3, 4), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_explorer(Path(folder) / "explorer.html", image, image, conv, conv)
    ...     (Path(folder) / "explorer.html").read_text()[:15]
    '<!doctype html>'
    """
    write_page(path, "explorer.html", explorer_data(image1, image2, conv1, conv2, **options))


def explorer_data(
    image1,
    image2,
    conv1,
    conv2,
    *,
    pooling="average",
    projection=None,
    power=3.0,
    explain="pooled",
    colormap="jet",
    alpha=0.5,
    normalize="each",
    upsample="bilinear",
    regions=(None, None),
    points=(None, None),
    names=("image 1", "image 2"),
    network="",
    fine=None,
    packed=None,
):
    """Return what the explorer's page knows of a pair, a dict of plain values.

    Parameters
    ----------
    image1, image2 : RGB uint8 (H, W, 3) arrays or PIL images
        Shown at no more than 640 pixels on the longer side; coordinates remain those given here.
    conv1, conv2 : float (h, w, C) arrays, their last convolutional activations
    pooling : "average", "max" or "gem", the network's own
    projection : None or (kernel (C, D), bias (D,) or None), the network's linear head
    power : real number >= 1, the exponent of GeM at first
    explain : "pooled" or "head", what is explained at first
    colormap : str, any of matplotlib's, at first
    alpha : 0..1, how opaque the colours are at first
    normalize : "each", "pair", "zero" or "absolute", over which values the colours go at first, see
        `visualize_pair`
    upsample : "none" to show the cells at first, or anything else
    regions : two of None, a box (x0, y0, x1, y1) in pixels or a mask of the image's size, at first
    points : two of None or (x, y) in pixels, what is pointed at at first
        The page has one at a time, of the first image if both are given.
    names, network : two str and a str, for the eye
    fine : None or two finite float (h', w') arrays
        Finer maps of what is compared at first, which a switch shows instead of those that the page
        computes; of other regions and poolings, and of points, it has its own alone.
    packed : None or dict
        Keeps what was packed of the arrays of one call for the next, if pairs share an image.

    Raises
    ------
    ValueError
        Names the argument at fault, as `compute_spatial_similarity` and `image_ops` do.

    Examples
    --------
    >>> image, conv = np.zeros((20, 30, 3), np.uint8), np.ones((2, 3, 4), np.float32)
    >>> data = explorer_data(image, image, conv, conv, names=("left", "right"))
    >>> [(image["name"], image["rows"], image["columns"]) for image in data["images"]]
    [('left', 2, 3), ('right', 2, 3)]
    """
    check_choice("explain", explain, EXPLAINED)
    check_choice("normalize", normalize, ("each", "pair", "zero", "absolute"))
    if explain == "head" and projection is None:
        raise ValueError("explain: head needs a projection, pass (kernel, bias) or use pooled")
    fine = fine and [np.asarray(each, np.float64) for each in fine]
    for each in fine or ():
        if each.ndim != 2 or not each.size or not np.isfinite(each).all():
            raise ValueError(f"fine: expected finite maps of shape (h, w), got {each.shape}")
    check_number("alpha", alpha, 0, 1, "a number in 0..1")
    check_number("power", power, 1, np.inf, "a real number >= 1")
    # Whatever else is wrong with the activations, the method says so.
    maps = compute_spatial_similarity(
        conv1, conv2, pooling, projection=projection, power=power, data_format="channels_last"
    )
    packed = {} if packed is None else packed

    def once(function, arrays, *arguments):
        key = function, pooling, *map(id, arrays)
        if key not in packed:
            packed[key] = function(*arguments), arrays  # which must live as long as their ids
        return packed[key][0]

    images, lowest, boxes, pins = [], [], [], []
    pair = names, (image1, image2), (conv1, conv2), maps, regions, points
    for i, (name, given, conv, similarity, region, point) in enumerate(zip(*pair, strict=True)):
        image = image_ops.as_image(given)
        size, shape, is_mask = image.shape[:2], similarity.shape, np.ndim(region) == 2
        values = np.asarray(conv, np.float64).reshape(*shape, -1)
        lowest.append(values.min())
        box = None if is_mask or region is None else list(image_ops.check_box(region, size))
        boxes.append("mask" if is_mask else box)
        if point is not None:
            image_ops.cell_of(point, size, shape)
            pins.append({"image": i, "x": float(point[0]), "y": float(point[1]), "pinned": True})
        images.append(
            {
                "name": str(name),
                **once(shrunk, (given,), image, LONGEST_SIDE),
                **once(_activations, (conv, projection), values, pooling, projection),
                "mask": _mask(region, size, shape) if is_mask else None,
            }
        )
    head = None
    if projection is not None:
        kernel = None if pooling == "average" else once(_pack, (projection,), projection[0])
        head = {"pooling": pooling, "dimensions": np.shape(projection[0])[1], "kernel": kernel}
    return {
        "images": images,
        "head": head,
        "fine": fine
        and [{"rows": len(each), "columns": each.shape[1], "values": _pack(each)} for each in fine],
        "nonnegative": bool(min(lowest) >= 0),
        "colormaps": colormaps(dict.fromkeys((*COLORMAPS, colormap))),
        "network": str(network),
        "settings": {
            "explain": "head" if explain == "head" else pooling,
            "power": float(power),
            "colormap": colormap,
            "opacity": float(alpha),
            "range": normalize,
            "cells": upsample == "none",
            "grain": "fine" if fine else "coarse",
            "regions": boxes,
            "point": pins[0] if pins else None,
        },
    }


def _mask(mask, size, shape):
    """Return a mask as a PNG of the shown image's size in a data URI, and the cells' weights."""
    weights = image_ops.region_weights(mask, size, shape)
    most = max(1, weights.max())
    inside = image_ops.region_weights(mask, size, size) / most > 0.5
    picture = Image.fromarray(255 * inside.astype(np.uint8))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return {"weights": (weights / most).ravel().tolist(), "uri": data_uri(picture, "png")}


def _activations(conv, pooling, projection):
    """Return what the page needs of an image's activations."""
    scale = _scale(conv)
    data = dict(zip(("rows", "columns", "channels"), conv.shape, strict=True))
    data["values"] = _pack(conv * scale, ordered=True)
    if projection is not None:
        kernel, bias = (0 if part is None else np.asarray(part, float) for part in projection)
        if pooling == "average":  # the head is linear: its output at each position is all it takes
            projected = conv @ kernel
            scale = _scale(projected)
            data["projected"] = _pack(projected * scale)
        data["bias"] = _pack((np.zeros(kernel.shape[1]) + bias) * scale)
    return data


def _scale(values):
    """Return the power of two that brings the largest value to 0.5..1; cosines do not see it."""
    return 2.0 ** -np.frexp(np.abs(values).max())[1]


def _pack(values, ordered=False):
    """Return real numbers as base64 of gzip of float32 without its last byte, 5 digits.

    The bytes are sorted by place, highest last, which compresses best.  With ``ordered``, numbers
    that differ within a channel, the last axis, still differ after the rounding, for the maximum
    must not be shared by positions that only look alike.
    """
    single = np.asarray(values, np.float32)
    codes = (np.abs(single).view(np.uint32).astype(np.int64) + 128) >> 8
    codes = np.where(single < 0, -codes, codes)
    if ordered:
        values, codes = (array.reshape(-1, array.shape[-1]) for array in (values, codes))
        codes = _keep_order(codes, values)
    codes = np.where(codes < 0, -codes | 1 << 23, codes).ravel()
    planes = np.stack([codes >> shift & 255 for shift in (0, 8, 16)]).astype(np.uint8)
    return base64.b64encode(gzip.compress(planes.tobytes(), 9, mtime=0)).decode()


def _keep_order(codes, values):
    """Raise (N, C) integers as little as makes them order each column as the values do."""
    order = np.argsort(values, axis=0)
    codes, values = (np.take_along_axis(array, order, 0) for array in (codes, values))
    rank = np.zeros_like(codes)
    rank[1:] = np.cumsum(values[1:] > values[:-1], axis=0)
    codes = np.maximum.accumulate(codes - rank, axis=0) + rank
    return np.take_along_axis(codes, np.argsort(order, axis=0), 0)
