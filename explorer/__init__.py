"""A page to explore, in any browser, why a network calls two images similar.

The page, ``template.html``, holds its own copy of the method and gets the activations with it, so
that it needs neither a server nor the network once it is written.
"""

import base64
import gzip
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

import image_ops
from files import write_whole
from similarity_ops import compute_spatial_similarity

TEMPLATE = Path(__file__).with_name("template.html")
COLORMAPS = ("jet", "viridis", "cividis", "magma", "coolwarm")
LONGEST_SIDE = 640  # pixels of the images in the page


def write_explorer(
    path,
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
    regions=(None, None),
    names=("image 1", "image 2"),
    network="",
):
    """Write one HTML file in which two images, their maps, points and regions can be explored.

    Parameters
    ----------
    path : str or Path, of the .html file
    image1, image2 : RGB uint8 (H, W, 3) arrays or PIL images
        Shown at no more than 640 pixels on the longer side; coordinates remain those given here.
    conv1, conv2 : float (h, w, C) arrays, their last convolutional activations
    pooling : "average", "max" or "gem", the network's own
    projection : None or (kernel (C, D), bias (D,) or None), the network's linear head
    power : real number >= 1, the exponent of GeM at first
    explain : "pooled" or "head", what is explained at first
    colormap : str, any of matplotlib's, at first
    alpha : 0..1, how opaque the colours are at first
    normalize : "each" or "pair": each map over its own range of values, or both over one, at first
    regions : two of None or a box (x0, y0, x1, y1) in pixels, what is asked about at first
    names : two str, for the eye
    network : str, for the eye

    Raises
    ------
    ValueError
        Names the argument at fault, as `compute_spatial_similarity` and `image_ops` do.
    OSError
        Where the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> image, conv = np.zeros((20, 30, 3), np.uint8), np.ones((2, 3, 4), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_explorer(Path(folder) / "explorer.html", image, image, conv, conv)
    ...     (Path(folder) / "explorer.html").read_text()[:15]
    '<!doctype html>'
    """
    for name, value, allowed in (
        ("explain", explain, ("pooled", "head")),
        ("normalize", normalize, ("each", "pair")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}: expected {' or '.join(allowed)}, got {value!r}")
    if explain == "head" and projection is None:
        raise ValueError("explain: head needs a projection, pass (kernel, bias) or use pooled")
    images = [image_ops.as_image(image) for image in (image1, image2)]
    for region, image in zip(regions, images, strict=True):
        if region is not None:
            image_ops.check_box(region, image.shape[:2])
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
    data = {
        "images": [
            {"name": str(name), **_picture(image), **_activations(conv, pooling, projection)}
            for name, image, conv in zip(names, images, convs, strict=True)
        ],
        "head": _head(pooling, projection),
        "nonnegative": bool(min(conv.min() for conv in convs) >= 0),
        "colormaps": {name: _colors(name) for name in dict.fromkeys((*COLORMAPS, colormap))},
        "network": str(network),
        "settings": {
            "explain": "head" if explain == "head" else pooling,
            "power": float(power),
            "colormap": colormap,
            "opacity": float(alpha),
            "range": normalize,
            "regions": [box and [float(edge) for edge in box] for box in regions],
        },
    }
    page = _page(data)
    write_whole(path, lambda file: file.write(page))


def _page(data):
    """Return the template with the data in it, as bytes."""
    page = TEMPLATE.read_text("utf-8")
    # Nothing may run or be loaded but the template's own style and script, known by their hashes.
    hashes = {
        tag: base64.b64encode(
            hashlib.sha256(re.search(f"<{tag}>(.*?)</{tag}>", page, re.S)[1].encode()).digest()
        ).decode()
        for tag in ("style", "script")
    }
    policy = "; ".join(
        ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "img-src data:"]
        + [f"{tag}-src 'sha256-{digest}'" for tag, digest in hashes.items()]
    )
    # ASCII only, which escapes U+2028 and lone surrogates; the rest would end or open a tag.
    text = json.dumps(data)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return page.replace("{{policy}}", policy).replace("{{data}}", text).encode()


def _picture(image):
    """Return an image as a JPEG in a data URI, shrunk where it is large, and its true size."""
    height, width = image.shape[:2]
    scale = min(1, LONGEST_SIDE / max(height, width))
    size = tuple(max(1, round(side * scale)) for side in (height, width))
    file = io.BytesIO()
    shown = image if scale == 1 else image_ops.resize(image, size)
    Image.fromarray(shown).save(file, "JPEG", quality=88)
    uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return {"width": width, "height": height, "uri": uri}


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
