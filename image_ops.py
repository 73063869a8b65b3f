"""Images in and out, and maps laid over them.

Images are RGB uint8 arrays (H, W, 3), PIL images or whatever ``np.asarray`` makes such an array of;
sizes are (height, width), similarity maps are real (h, w) arrays.  A map covers its whole image:
cell (0, 0) is the top left corner's patch, not its point.

An argument of another kind, shape or range is a ValueError that names it and says what came.
"""

import io
import numbers
import os
import re
import uuid
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from simvis.decoding import HEAVY_FORMATS as HEAVY_FORMATS
from simvis.decoding import IMAGE_ENDINGS as IMAGE_ENDINGS
from simvis.decoding import MAX_SCANNED as MAX_SCANNED
from simvis.decoding import MAX_SCANS as MAX_SCANS
from simvis.decoding import MAX_SIDE, decode, to_mask, to_rgb, upright
from simvis.decoding import READ_FORMATS as READ_FORMATS

MAX_COMBINED = 2**28  # pixels of images side by side
WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
UPSAMPLINGS = {"bilinear": 1, "bicubic": 3, "none": 0}  # and the degree of the spline
CLASSES = 64  # a mask of three or more whole numbers below it is taken for numbers of classes


def load_image(path):
    """Read an image file as RGB.

    EXIF orientation is applied, transparency is laid over white, and of an animation the first
    frame is taken.  An embedded colour profile, also of CMYK, is brought to sRGB by relative
    colorimetry; a broken one is ignored, and CMYK without one is 255 (1 - C) (1 - K) and so on.
    Of samples with more bits the upper 8 are kept, counted from the bits that a TIFF says it uses;
    floats are in 0..1 or in 0..255.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    image : uint8 (H, W, 3) array, RGB

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        Names what is no file, or a file that cannot be decoded, or that has more pixels than
        ``PIL.Image.MAX_IMAGE_PIXELS``, or half as many in JPEG 2000, WebP, AVIF or with samples of
        32 bits, a side over `MAX_SIDE`, or over `MAX_SCANS` scans; or samples of which nobody can
        tell how bright they are, such as 12 bits in 16.

    Examples
    --------
    >>> load_image(Path(__file__).parent / "example_images" / "room_a_view1.jpg").shape[2]
    3
    """
    return _read(path, to_rgb)


def read_mask(path):
    """Read an image file as the mask of a region.

    Its transparency is the mask if that varies, else its brightness: white, or what is not
    transparent, is the region.  What its values stand for is said at `region_weights`.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    mask : uint8 (H, W) array, 255 being in the region and 0 outside of it; it may be empty

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_image`, and if the mask has colours or classes in it.

    Examples
    --------
    >>> read_mask(Path(__file__).parent / "example_images" / "room_a_view1_objects.png")
    Traceback (most recent call last):
    ValueError: ... cannot be read as a mask: it has more than two colours: paint the region ...
    """
    mask = _mask_weights(_read(path, to_mask), path)
    return np.rint(255 * mask, out=mask).astype(np.uint8)


def check_no_stream(path):
    """Raise a ValueError for a path at which there is no file that can be read again and again.

    It says what to do about an address, a pipe, also that of the shell's ``<(...)``, and ``-``.

    Examples
    --------
    >>> check_no_stream("http://example.org/a.png")
    Traceback (most recent call last):
    ValueError: http://example.org/a.png: is an address, download it first and name the file
    """
    if os.path.isfile(path) or os.path.isdir(path):
        return
    # as they were typed, or as a path that made one slash of two, in the folder of a list
    if address := re.search(r"(?:^|/)([a-zA-Z][\w+.-]+:)/+(.*)", str(path)[:300]):
        raise ValueError(
            f"{address[1]}//{address[2]}: is an address, download it first and name the file"
        )
    if str(path) == "-" or os.path.exists(path):
        raise ValueError(f"{path}: is a pipe or a device, write it to a file first and name that")


def decode_image(data, name="image"):
    """Decode the bytes of an image file as `load_image` does; an error calls them by the name.

    Examples
    --------
    >>> decode_image((Path(__file__).parent / "docs" / "pair.jpg").read_bytes()).shape[2]
    3
    """
    return decode(io.BytesIO(data), name, to_rgb)


def _read(path, convert):
    check_no_stream(path)
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected an image file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    return decode(path, path, convert)


def as_image(image):
    """Return what stands for an image as an RGB uint8 (H, W, 3) array, itself if it is one.

    Parameters
    ----------
    image : str, Path, PIL image, or anything that ``np.asarray`` makes an RGB uint8 (H, W, 3) of
        A path is read by `load_image`, and a PIL image treated as such a file would be.

    Examples
    --------
    >>> as_image(Image.new("L", (3, 2), 255)).shape
    (2, 3, 3)
    """
    if isinstance(image, (str, os.PathLike)):
        return load_image(image)
    return _check_image(image)


def resize(image, size):
    """Resize a whole image to a uint8 (height, width, 3) array, anti-aliased where it shrinks.

    It is Pillow's bilinear filter.

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    size : (height, width)

    Examples
    --------
    >>> resize(np.zeros((100, 150, 3), np.uint8), (224, 224)).shape
    (224, 224, 3)
    """
    image = _check_image(image)
    height, width = _check_size(size)
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_like_opencv(image, size):
    """Resize a whole image as OpenCV's bilinear ``cv2.resize`` does, to the bit.

    It neither averages where it shrinks nor rounds as one would expect: its weights are integers
    of 11 bits, and it drops bits on the way.  A network that was trained on such pixels sees the
    difference.  Parameters and result are those of `resize`.

    Examples
    --------
    >>> resize_like_opencv(np.array([[[0] * 3, [100] * 3]], np.uint8), (1, 4))[0, :, 0]
    array([  0,  25,  75, 100], dtype=uint8)
    """
    image = _check_image(image)
    height, width = _check_size(size)
    left, share = _opencv_positions(image.shape[1], width)
    outside = (left < 0) | (left >= image.shape[1] - 1)
    share = np.where(outside, np.float32(0), share)
    left = left.clip(0, image.shape[1] - 1)
    right = (left + 1).clip(0, image.shape[1] - 1)
    before, after = _opencv_weights(share, (1, -1, 1))
    # whole rows at a time, of those that are needed
    top, share = _opencv_positions(image.shape[0], height)
    upper, lower = (row.clip(0, image.shape[0] - 1) for row in (top, top + 1))
    rows, where = np.unique(np.concatenate([upper, lower]), return_inverse=True)
    pixels = image[rows].astype(np.int32)
    wide = (pixels[:, left] * before + pixels[:, right] * after) >> 4
    upper, lower = wide[where[:height]], wide[where[height:]]
    before, after = _opencv_weights(share, (-1, 1, 1))
    return ((((before * upper) >> 16) + ((after * lower) >> 16) + 2) >> 2).astype(np.uint8)


def _opencv_positions(inputs, outputs):
    """Return, for each output pixel, the input pixel before it and the way to the next one."""
    position = ((np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5).astype(np.float32)
    before = np.floor(position)
    return before.astype(np.intp), position - before


def _opencv_weights(share, shape):
    """Return the weights of the pixels before and after, in 2048ths."""
    shares = (np.float32(1) - share) * np.float32(2048), share * np.float32(2048)
    return [np.rint(weight).astype(np.int32).reshape(shape) for weight in shares]


def upsample_map(similarity, size, method="bilinear"):
    """Interpolate a map to the size of its image, as a float64 (height, width) array.

    Values stand at the centres of their cells, and the border is continued outwards from them.

    Parameters
    ----------
    similarity : real (h, w) array
    size : (height, width) in pixels
    method : "bilinear", "bicubic" or "none"
        Bicubic is the interpolating cubic spline, which may leave the range of the map's values.
        None shows the cells as they are: a pixel gets the value of the cell that its centre is in.

    Examples
    --------
    >>> upsample_map([[0.0, 1.0]], (1, 4))
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    similarity = _check_map(similarity)
    if not (isinstance(method, str) and method in UPSAMPLINGS):
        raise ValueError(f"method: expected one of {', '.join(UPSAMPLINGS)}, got {method!r}")
    # Interpolation is linear in the values, and works along each axis alone: two small matrices.
    rows, columns = (
        _interpolation(cells, pixels, UPSAMPLINGS[method])
        for cells, pixels in zip(similarity.shape, _check_size(size), strict=True)
    )
    return rows @ similarity @ columns.T


@lru_cache(maxsize=64)  # many pictures have few sizes
def _interpolation(cells, pixels, degree):
    """Return the (pixels, cells) matrix that interpolates along one axis."""
    from scipy.ndimage import zoom

    matrix = np.eye(cells)
    if degree == 0:
        return matrix[((np.arange(pixels) + 0.5) * cells / pixels).astype(int)]
    return zoom(matrix, (pixels / cells, 1), order=degree, mode="nearest", grid_mode=True)


def region_weights(region, image_size, map_shape):
    """Bring a region of an image to the resolution of its map.

    Cell (i, j) of an (h, w) map covers the pixels from i H / h to (i + 1) H / h, and likewise
    across; its weight is the fraction of it that the region covers.

    Parameters
    ----------
    region : box (x0, y0, x1, y1), or mask, an (H, W) array
        A box in pixels from the image's left and top edges, (0, 0, W, H) being all of it.  Of a
        mask with one or two values, of any dtype, the larger one is the region; more values, which
        are >= 0, are weights over their maximum, but whole numbers that are all below `CLASSES`
        are refused, since they are numbers of classes.  Neither may be empty, nor leave the image.
    image_size : (height, width) of the image
    map_shape : (h, w)

    Returns
    -------
    weights : float64 (h, w) array in 0..1

    Examples
    --------
    >>> region_weights((0, 0, 3, 4), (4, 8), (2, 4))
    array([[1. , 0.5, 0. , 0. ],
           [1. , 0.5, 0. , 0. ]])
    """
    (height, width), (rows, columns) = image_size, _check_size(map_shape, "map_shape")
    if len(np.shape(region)) == 1:
        x0, y0, x1, y1 = check_box(region, image_size)
        across = _coverage(np.array([x0 / width, x1 / width]), columns)
        down = _coverage(np.array([y0 / height, y1 / height]), rows)
        return down @ across.T
    mask = check_mask(region, image_size)
    if (rows, columns) == mask.shape:
        return mask
    down = _coverage(np.linspace(0, 1, height + 1), rows)
    across = _coverage(np.linspace(0, 1, width + 1), columns)
    return (down @ mask @ across.T).clip(0, mask.max())


def region_without(region, ignored, image_size):
    """Return a region of an image without what is to be ignored, as a mask.

    A pixel's weight is that of the region, times one minus that of what is ignored.

    Parameters
    ----------
    region : None for the whole image, or a box or a mask as for `region_weights`
    ignored : box or mask, likewise
    image_size : (height, width) of the image

    Returns
    -------
    mask : float64 (height, width) array in 0..1

    Raises
    ------
    ValueError
        If nothing is left, or for what `region_weights` refuses.

    Examples
    --------
    >>> region_without((0, 0, 3, 1), (1, 0, 2, 1), (1, 4))
    array([[1., 0., 1., 0.]])
    """
    left = 1 - region_weights(ignored, image_size, tuple(image_size))
    if region is not None:
        left *= region_weights(region, image_size, tuple(image_size))
    # not by what rounding leaves of it: of max pooling even the dust would take part
    left = left.round(12)
    if not left.any():
        what = "image" if region is None else "region"
        raise ValueError(f"ignore: it covers all of the {what}, nothing is left to compare")
    return left


def cell_of(point, image_size, map_shape):
    """Return the position in map cells of a point in pixels, for `similarity_ops.point_similarity`.

    Parameters
    ----------
    point : (x, y) in pixels inside of the image, (0, 0) being the centre of the top left one
    image_size : (height, width) of the image
    map_shape : (h, w)

    Returns
    -------
    y, x : floats in cells, (0, 0) being the centre of the first one

    Examples
    --------
    >>> cell_of((3.5, 1.5), (4, 8), (2, 4))
    (0.5, 1.5)
    """
    x, y = _check_numbers(point, 2, "point")
    (height, width), (rows, columns) = image_size, map_shape
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
        raise ValueError(
            f"point: {x:g},{y:g} is outside of the image, which is {width} x {height} pixels"
        )
    return (y + 0.5) * rows / height - 0.5, (x + 0.5) * columns / width - 0.5


def box_of_cells(cells, image_size):
    """Return the box (x0, y0, x1, y1) around some cells of a map, floats in pixels of its image.

    Parameters
    ----------
    cells : bool (h, w) array, not all False
    image_size : (height, width)

    Examples
    --------
    >>> box_of_cells(np.array([[False, True, True, False]]), (30, 80))
    (20.0, 0.0, 60.0, 30.0)
    """
    (rows, columns), (height, width) = np.shape(cells), image_size
    down, across = np.flatnonzero(np.any(cells, axis=1)), np.flatnonzero(np.any(cells, axis=0))
    x0, x1 = (float(edge * width / columns) for edge in (across[0], across[-1] + 1))
    y0, y1 = (float(edge * height / rows) for edge in (down[0], down[-1] + 1))
    return x0, y0, x1, y1


def box_of_point(point, image_size, map_shape):
    """Return the box of a cell's size around a point: what a network sees there.

    It is (x0, y0, x1, y1) in pixels, floats, and cut off where the image ends.
    Its `region_weights` are those of bilinear interpolation between the cells.

    Parameters
    ----------
    point : (x, y) in pixels inside of the image, (0, 0) being the centre of the top left one
    image_size : (height, width)
    map_shape : (h, w)

    Examples
    --------
    >>> box_of_point((19.5, 0), (10, 40), (1, 4))
    (15.0, 0.0, 25.0, 5.5)
    """
    cell_of(point, image_size, map_shape)
    (height, width), (rows, columns) = image_size, map_shape
    x, y = (float(position) + 0.5 for position in point)
    reach, drop = width / columns / 2, height / rows / 2
    return max(0.0, x - reach), max(0.0, y - drop), min(x + reach, width), min(y + drop, height)


def _coverage(edges, cells):
    """Return which fraction of each of n cells of 0..1 lies between edges k and k + 1: (n, k)."""
    borders = np.linspace(0, 1, cells + 1)
    low = np.maximum(borders[:-1, None], edges[:-1])
    high = np.minimum(borders[1:, None], edges[1:])
    return np.maximum(high - low, 0) * cells


def check_box(box, image_size):
    """Return a box as four floats, or raise a ValueError that says what is wrong with it."""
    height, width = image_size
    x0, y0, x1, y1 = box = _check_numbers(box, 4, "region", "a box X0,Y0,X1,Y1")
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"region: expected X0 < X1 and Y0 < Y1, got {box}")
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise ValueError(f"region: {box} leaves the image, which is {width} x {height} pixels")
    return box


def check_mask(mask, image_size):
    """Return a mask of an image's size as float64 weights in 0..1, or raise a ValueError."""
    if np.ma.is_masked(mask):
        raise ValueError("region: some of the mask's own values are masked, fill them")
    mask = np.asarray(mask)
    if mask.dtype == bool and mask.shape == tuple(image_size) and mask.any():
        return mask.astype(np.float64)  # as all of what follows does, in a tenth of the time
    if mask.dtype.kind not in "biuf":
        raise ValueError(f"region: expected a box or a mask of numbers, got {mask.dtype}")
    if mask.shape != tuple(image_size):
        (height, width), got = image_size, " x ".join(map(str, mask.shape[::-1]))
        raise ValueError(
            f"region: expected a mask of the image's size, {width} x {height} pixels, got {got}"
        )
    mask = _mask_weights(mask, "region")
    if not mask.any():
        raise ValueError("region: the mask is empty, every pixel of it is 0")
    return mask


def _mask_weights(mask, name):
    """Return a mask's weights, see `region_weights`, or raise a ValueError that begins so."""
    low, high = mask.min(), mask.max()
    if not (np.isfinite(mask).all() and low >= 0):
        raise ValueError(f"{name}: expected a mask of finite values >= 0")
    if ((mask == low) | (mask == high)).all():
        return ((mask == high) & (high > 0)).astype(np.float64)
    if mask.dtype.kind in "iu" and high < CLASSES:
        raise ValueError(
            f"{name}: its whole numbers up to {high} are classes, no mask: pass one, mask == 1"
        )
    return mask.astype(np.float64) / high


def draw_region(image, region):
    """Outline a region, white within black, on a copy, so that it stands out from any colour.

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    region : box or mask, as for `region_weights`

    Examples
    --------
    >>> drawn = draw_region(np.full((60, 90, 3), 99, np.uint8), (20, 10, 50, 40))
    >>> drawn[[9, 8, 25], 30, 0]
    array([255,   0,  99], dtype=uint8)
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    image = _check_image(image)
    inside = region_weights(region, image.shape[:2], image.shape[:2]) > 0.5
    width = _line_width(image)
    drawn = image.copy()
    white, black = (binary_dilation(inside, iterations=n) for n in (width, 2 * width))
    if inside.sum() > 0 and inside.all():  # nothing around it to draw on
        white, black, inside = inside, inside, binary_erosion(inside, iterations=width)
    drawn[black & ~inside] = 0
    drawn[white & ~inside] = 255
    return drawn


def draw_point(image, x, y):
    """Mark a point by a ring, white within black, on a copy.

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    x, y : real numbers
        In pixels, (0, 0) being the centre of the top left one.

    Examples
    --------
    >>> drawn = draw_point(np.full((200, 300, 3), 99, np.uint8), 150, 100)
    >>> drawn[100, [150, 156, 157], 0]
    array([ 99, 255,   0], dtype=uint8)
    """
    image = _check_image(image)
    x, y = _check_numbers((x, y), 2, "x and y", "a pair")
    width = _line_width(image)
    radius = 5 * width
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    for extra, color in ((2 * width, "black"), (width, "white")):
        reach = radius + extra
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=color, width=width)
    return np.array(drawn)


def _line_width(image):
    return max(1, round(min(image.shape[:2]) / 200))


def colorize_map(similarity, colormap="jet", value_range=None):
    """Colour a map by its values, as a uint8 (h, w, 3) array.

    Parameters
    ----------
    similarity : real (h, w) array
    colormap : str, any of matplotlib's; in the default, jet, red is high
    value_range : None or (low, high)
        The values that get the colormap's ends; None for the map's own minimum and maximum.  Pass
        the range of both maps to compare two pictures.  Where low equals high the map is flat, in
        the colormap's middle.

    Examples
    --------
    >>> colorize_map([[0.0, 1.0]])
    array([[[  0,   0, 127],
            [127,   0,   0]]], dtype=uint8)
    """
    similarity = _check_map(similarity)
    low, high = similarity.min(), similarity.max()
    if value_range is not None:
        low, high = _check_numbers(value_range, 2, "value_range", "(low, high)")
    if low > high:
        raise ValueError(f"value_range: expected low <= high, got {value_range!r}")
    colors = _colors(str(colormap))
    # The halves keep a range as wide as floating point itself from overflowing.
    span = high / 2 - low / 2
    if span > 0:
        similarity = similarity / 2
        similarity -= low / 2
        similarity /= span
    else:
        similarity = np.full(similarity.shape, 0.5)
    similarity *= len(colors)
    indices = Image.fromarray(similarity.clip(0, len(colors) - 1, out=similarity).astype(np.uint8))
    indices.putpalette(colors.tobytes())
    return np.array(indices.convert("RGB"))


@lru_cache(maxsize=8)
def _colors(colormap):
    """Return a colormap's 256 colours, uint8 (256, 3)."""
    try:
        import matplotlib
    except (ValueError, OSError) as error:
        words = "look at MPLBACKEND and at your matplotlibrc"
        raise ValueError(f"matplotlib cannot be imported: {error}; {words}") from None
    if colormap not in matplotlib.colormaps:
        raise ValueError(
            f"colormap: {colormap!r} is none of matplotlib's; try jet, viridis, magma or coolwarm"
        )
    colors = matplotlib.colormaps[colormap].resampled(256)  # whatever a matplotlibrc says
    return colors(np.arange(256) / 255, bytes=True)[:, :3]


def blend(image, heatmap, alpha=0.5):
    """Return (1 - alpha) image + alpha heatmap, rounded, as a uint8 (H, W, 3) array.

    Parameters
    ----------
    image, heatmap : uint8 (H, W, 3) arrays
    alpha : real number in 0..1

    Examples
    --------
    >>> blend(np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 200, np.uint8), 0.25)
    array([[[50, 50, 50]]], dtype=uint8)
    """
    image = _check_image(image)
    heatmap = _check_image(heatmap, "heatmap")
    if image.shape != heatmap.shape:
        raise ValueError(f"heatmap: expected shape {image.shape}, got {heatmap.shape}")
    if not (isinstance(alpha, numbers.Real) and 0 <= alpha <= 1):
        raise ValueError(f"alpha: expected a number in 0..1, got {alpha!r}")
    mixed = Image.blend(Image.fromarray(image), Image.fromarray(heatmap), alpha)
    return np.array(mixed)


def combine_image_and_heatmap(
    image, similarity, *, alpha=0.5, colormap="jet", method="bilinear", value_range=None
):
    """Lay a map over its image; return a uint8 (H, W, 3) array of the image's own resolution.

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    similarity : real (h, w) array
    alpha, colormap, method, value_range
        As for `blend`, `colorize_map` and `upsample_map`.

    Examples
    --------
    >>> combine_image_and_heatmap(np.zeros((60, 90, 3), np.uint8), np.eye(7)).shape
    (60, 90, 3)
    """
    image = _check_image(image)
    upsampled = upsample_map(similarity, image.shape[:2], method)
    return blend(image, colorize_map(upsampled, colormap, value_range), alpha)


def combine_horizontal(images):
    """Return images side by side, all brought to the height of the tallest, uint8 (H, W, 3).

    That height is lowered if the picture would be wider than `MAX_SIDE` or have more pixels than
    `MAX_COMBINED`.

    Parameters
    ----------
    images : sequence of uint8 (H, W, 3) arrays, at least one

    Examples
    --------
    >>> tall, wide = np.zeros((80, 20, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)
    >>> combine_horizontal([tall, wide]).shape
    (80, 140, 3)
    """
    return np.hstack(bring_to_one_height(images))


def bring_to_one_height(images):
    """Return images, all brought to the height of the tallest, as a list.

    Parameters and errors are those of `combine_horizontal`.

    Examples
    --------
    >>> tall, wide = np.zeros((80, 20, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)
    >>> [image.shape for image in bring_to_one_height([tall, wide])]
    [(80, 20, 3), (80, 120, 3)]
    """
    if len(images) == 0:
        raise ValueError("images: expected at least one, got none")
    images = [_check_image(image) for image in images]
    # Of two thin images, one high, one wide, the wide one would become a thousand times larger.
    ratio = sum(image.shape[1] / len(image) for image in images)  # of the picture's sides
    height = min(
        max(len(image) for image in images), MAX_SIDE / ratio, np.sqrt(MAX_COMBINED / ratio)
    )
    height = max(1, int(height))
    return [
        image
        if len(image) == height
        else resize(image, (height, max(1, round(image.shape[1] * height / len(image)))))
        for image in images
    ]


def save_image(path, image):
    """Write an image; the file's ending says in which format.

    Parameters
    ----------
    path : str or Path that ends in .png, .jpg, .jpeg or .webp
    image : uint8 (H, W, 3) array

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    image = _check_image(image)
    suffix = Path(path).suffix.lower()
    if suffix not in WRITE_FORMATS:
        raise ValueError(f"{path}: expected a name ending in {', '.join(WRITE_FORMATS)}")
    options = {"compress_level": 1} if suffix == ".png" else {"quality": 92}
    picture = Image.fromarray(image)
    write_whole(path, lambda file: picture.save(file, WRITE_FORMATS[suffix], **options))


def write_whole(path, write):
    """Call ``write(file)`` so that path ends up with all that it writes, or as it was before.

    Parameters
    ----------
    path : str or Path
    write : function of a binary file, an OSError of which is passed on, with the path

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "greeting.txt", lambda file: file.write(b"hello"))
    ...     [path.name for path in Path(folder).iterdir()]
    ['greeting.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with errors_name(path):
            with open(temporary, "xb") as file:
                write(file)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def errors_name(path):
    """Name a file in an OSError that does not, as that of a full disk.

    Examples
    --------
    >>> with errors_name("a.png"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'a.png'
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno is None:
            raise OSError(f"{path}: {error}") from None
        raise OSError(error.errno, error.strerror, str(path)) from None


def _check_image(image, name="image"):
    """Return an image as an RGB uint8 (H, W, 3) array, or raise a ValueError."""
    if isinstance(image, Image.Image):
        return np.array(upright(to_rgb(image), image))
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        found = f"{array.dtype} of shape {array.shape}" if array.ndim else f"{type(image).__name__}"
        raise ValueError(f"{name}: expected an RGB uint8 (H, W, 3) array, got {found}")
    return array


def _check_map(similarity):
    array = np.asarray(similarity)
    if array.dtype.kind not in "biuf" or array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"similarity: expected a real (h, w) map, got {array.dtype} of shape {array.shape}"
        )
    if np.ma.is_masked(similarity) or not np.isfinite(array).all():
        raise ValueError("similarity: expected finite values, got NaN, infinity or masked ones")
    return array.astype(np.float64, copy=False)


def _check_size(size, name="size"):
    """Return (height, width) as two ints, or raise a ValueError."""
    if not (
        len(np.shape(size)) == 1
        and len(size) == 2
        and all(isinstance(side, numbers.Integral) and 1 <= side < 2**31 for side in size)
    ):
        raise ValueError(f"{name}: expected (height, width), whole numbers >= 1, got {size!r}")
    return int(size[0]), int(size[1])


def _check_numbers(values, count, name, form="(x, y)"):
    """Return so many finite numbers as floats, or raise a ValueError."""
    largest = np.finfo(np.float64).max
    if (
        isinstance(values, (tuple, list, np.ndarray))
        and len(values) == count
        and all(isinstance(value, numbers.Real) and abs(value) <= largest for value in values)
    ):
        return tuple(map(float, values))
    raise ValueError(f"{name}: expected {form} of finite numbers, got {values!r}")
