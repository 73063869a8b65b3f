"""A page to explore, in any browser, why a network calls two images similar.

The page, ``template.html``, holds its own copy of the method and gets the activations with it, so
that it needs neither a server nor the network once it is written.
"""

import base64
import gzip
import io

import numpy as np
from PIL import Image

from simvis import image_ops
from simvis.image_ops import write_whole
from simvis.pages.page import data_uri, fill, policy, shrunk, template
from simvis.similarity_ops import compute_spatial_similarity

COLORMAPS = ("jet", "viridis", "cividis", "magma", "coolwarm")
LONGEST_SIDE = 640  # pixels of the images in the page


def write_explorer(path, image1, image2, conv1, conv2, **options):
    """Write one HTML file in which two images, their maps, points and regions can be explored.

    Parameters
    ----------
    path : str or Path, of the .html file
    image1, image2, conv1, conv2, **options : as for `explorer_data`

    Raises
    ------
    ValueError
        Names the argument at fault, as `compute_spatial_similarity` and `image_ops` do.
    OSError
        If the file cannot be written.

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
    data, page = explorer_data(image1, image2, conv1, conv2, **options), template("explorer.html")
    content = fill(page, policy(page), data)
    write_whole(path, lambda file: file.write(content))


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
    packed=None,
):
    """Return what the explorer's page knows of a pair, as plain values.

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
    regions : two of None, a box (x0, y0, x1, y1) in pixels or a mask of the image's size, what is
        asked about at first
    points : two of None or (x, y) in pixels, what is pointed at at first
        The page has one at a time, of the first image if both are given.
    names : two str, for the eye
    network : str, for the eye
    packed : None or dict
        Keeps what was packed of the arrays of one call for the next, if pairs share an image.

    Returns
    -------
    data : dict

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
    for name, value, allowed in (
        ("explain", explain, ("pooled", "head")),
        ("normalize", normalize, ("each", "pair", "zero", "absolute")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}: expected {' or '.join(allowed)}, got {value!r}")
    if explain == "head" and projection is None:
        raise ValueError("explain: head needs a projection, pass (kernel, bias) or use pooled")
    images = [image_ops.as_image(image) for image in (image1, image2)]
    for region, point, image in zip(regions, points, images, strict=True):
        if region is not None:
            image_ops.region_weights(region, image.shape[:2], (1, 1))
        if point is not None:
            image_ops.cell_of(point, image.shape[:2], (1, 1))
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in 0..1, got {alpha}")
    if not 1 <= power < float("inf"):
        raise ValueError(f"power: expected a real number >= 1, got {power!r}")
    # Whatever else is wrong with the arguments, the method says so.
    for head in (None, projection):
        maps = compute_spatial_similarity(
            conv1, conv2, pooling, projection=head, power=power, data_format="channels_last"
        )
    convs = [
        np.asarray(conv, np.float64).reshape(*similarity.shape, -1)
        for conv, similarity in zip((conv1, conv2), maps, strict=True)
    ]
    boxes = [None if region is None or np.ndim(region) == 2 else region for region in regions]
    masks = [region if region is not None and np.ndim(region) == 2 else None for region in regions]
    packed = {} if packed is None else packed

    def once(function, arrays, *arguments):
        key = function, pooling, *map(id, arrays)
        if key not in packed:
            packed[key] = function(*arguments), arrays  # which must live as long as their ids
        return packed[key][0]

    return {
        "images": [
            {
                "name": str(name),
                **once(shrunk, (given,), image, LONGEST_SIDE),
                **once(_activations, (raw, projection), conv, pooling, projection),
                "mask": _mask(mask, image, conv),
            }
            for name, given, image, raw, conv, mask in zip(
                names, (image1, image2), images, (conv1, conv2), convs, masks, strict=True
            )
        ],
        "head": once(_head, (projection,), pooling, projection),
        "nonnegative": bool(min(conv.min() for conv in convs) >= 0),
        "colormaps": {name: _colors(name) for name in dict.fromkeys((*COLORMAPS, colormap))},
        "network": str(network),
        "settings": {
            "explain": "head" if explain == "head" else pooling,
            "power": float(power),
            "colormap": colormap,
            "opacity": float(alpha),
            "range": normalize,
            "cells": upsample == "none",
            "regions": [
                "mask" if mask is not None else box and [float(edge) for edge in box]
                for box, mask in zip(boxes, masks, strict=True)
            ],
            "point": next(
                (
                    {"image": i, "x": float(point[0]), "y": float(point[1]), "pinned": True}
                    for i, point in enumerate(points)
                    if point is not None
                ),
                None,
            ),
        },
    }


def _mask(mask, image, conv):
    """Return a mask as a PNG of the shown image's size in a data URI, and the cells' weights."""
    if mask is None:
        return None
    size = image.shape[:2]
    weights = image_ops.region_weights(mask, size, conv.shape[:2])
    inside = image_ops.region_weights(mask, size, size) / max(1, np.max(weights))
    picture = Image.fromarray((255 * (inside > 0.5)).astype(np.uint8))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    uri = data_uri(file.getvalue(), "png")
    return {"weights": (weights / max(1, weights.max())).ravel().tolist(), "uri": uri}


def _activations(conv, pooling, projection):
    """Return what the page needs of an image's activations."""
    scale = _scale(conv)
    data = {"rows": conv.shape[0], "columns": conv.shape[1], "channels": conv.shape[2]}
    data["values"] = _pack(conv * scale, ordered=True)
    if projection is not None:
        kernel, bias = (0 if part is None else np.asarray(part, float) for part in projection)
        bias = np.zeros(kernel.shape[1]) + bias
        if pooling == "average":  # the head is linear: its output at each position is all it takes
            projected = conv @ kernel
            scale = _scale(projected)
            data["projected"] = _pack(projected * scale)
        data["bias"] = _pack(bias * scale)
    return data


def _head(pooling, projection):
    if projection is None:
        return None
    kernel = np.asarray(projection[0], float)
    packed = None if pooling == "average" else _pack(kernel)
    return {"pooling": pooling, "dimensions": kernel.shape[1], "kernel": packed}


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


def _colors(colormap):
    """Return a colormap's 256 colours as base64 of their bytes."""
    colors = image_ops.colorize_map(np.arange(256)[None], colormap)
    return base64.b64encode(colors.tobytes()).decode()
