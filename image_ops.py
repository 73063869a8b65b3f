"""Images in and out, and maps laid over them.

Images are RGB uint8 arrays (H, W, 3), sizes are (height, width), similarity maps are real (h, w)
arrays.  A map covers its whole image: cell (0, 0) is the top left corner's patch, not its point.
"""

import os
import uuid
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# Formats that are decoded in this process.  Pillow would hand others, EPS for one, to programs.
READ_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000")
WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
UPSAMPLINGS = {"bilinear": 1, "bicubic": 3}  # and the degree of the spline


def load_image(path):
    """Read an image file as RGB.

    EXIF orientation is applied, transparency is laid over white, 16-bit samples keep their upper 8
    bits, and of an animation the first frame is taken.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    image : uint8 (H, W, 3) array, RGB

    Raises
    ------
    FileNotFoundError
        Where there is no file.
    ValueError
        Names the file, where it cannot be decoded, or has more pixels than
        ``PIL.Image.MAX_IMAGE_PIXELS``.

    Examples
    --------
    >>> load_image(Path(__file__).parent / "example_images" / "room_a_view1.jpg").shape[2]
    3
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected an image file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    try:
        with Image.open(path, formats=READ_FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                raise ValueError(f"{image.width} x {image.height} is over the limit of {limit}")
            return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path}: not an image, or in none of {', '.join(READ_FORMATS)}") from None
    except Exception as error:  # a damaged file raises nearly anything, down in its decoder
        raise ValueError(f"{path}: cannot be read as an image: {error}") from None


def _to_rgb(image):
    if image.mode.startswith("I") or image.mode == "F":
        samples = np.nan_to_num(np.asarray(image))
        # 16 bits, also where Pillow keeps them in 32
        samples = samples if image.mode == "F" else samples >> 8
        image = Image.fromarray(samples.clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def resize(image, size):
    """Resize a whole image, anti-aliased where it shrinks (Pillow's bilinear filter).

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    size : (height, width)

    Returns
    -------
    resized : uint8 (height, width, 3) array

    Raises
    ------
    ValueError
        For an image of another shape or dtype.

    Examples
    --------
    >>> resize(np.zeros((100, 150, 3), np.uint8), (224, 224)).shape
    (224, 224, 3)
    """
    _check_image(image)
    height, width = size
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def upsample_map(similarity, size, method="bilinear"):
    """Interpolate a map to the size of the image that it lies over.

    Values stand at the centres of their cells, and the border is continued outwards from them.

    Parameters
    ----------
    similarity : real (h, w) array
    size : (height, width) in pixels
    method : "bilinear" or "bicubic"
        Bicubic is the interpolating cubic spline, which may leave the range of the map's values.

    Returns
    -------
    upsampled : float64 (height, width) array

    Raises
    ------
    ValueError
        For a map of another shape, non-finite values or an unknown method.

    Examples
    --------
    >>> upsample_map([[0.0, 1.0]], (1, 4))
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    similarity = _check_map(similarity)
    if method not in UPSAMPLINGS:
        raise ValueError(f"method: expected one of {', '.join(UPSAMPLINGS)}, got {method!r}")
    # Interpolation is linear in the values, and works along each axis alone: two small matrices.
    rows, columns = (
        _interpolation(cells, pixels, UPSAMPLINGS[method])
        for cells, pixels in zip(similarity.shape, size, strict=True)
    )
    return rows @ similarity @ columns.T


def _interpolation(cells, pixels, degree):
    """Return the (pixels, cells) matrix that interpolates along one axis."""
    from scipy.ndimage import zoom

    matrix = np.eye(cells)
    return zoom(matrix, (pixels / cells, 1), order=degree, mode="nearest", grid_mode=True)


def colorize_map(similarity, colormap="jet", value_range=None):
    """Colour a map by its values.

    Parameters
    ----------
    similarity : real (h, w) array
    colormap : str
        Any of matplotlib's; in the default, jet, red is high.
    value_range : None or (low, high)
        The values that get the colormap's ends; None for the map's own minimum and maximum.  Pass
        the range of both maps to compare two pictures.  Where low equals high the map is flat, in
        the colormap's middle.

    Returns
    -------
    heatmap : uint8 (h, w, 3) array

    Raises
    ------
    ValueError
        For a map of another shape, non-finite values or an unknown colormap.

    Examples
    --------
    >>> colorize_map([[0.0, 1.0]])
    array([[[  0,   0, 127],
            [127,   0,   0]]], dtype=uint8)
    """
    similarity = _check_map(similarity)
    low, high = (similarity.min(), similarity.max()) if value_range is None else value_range
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"value_range: expected finite low <= high, got {value_range!r}")
    colors = _colors(colormap)
    # The halves keep a range as wide as floating point itself from overflowing.
    span = high / 2 - low / 2
    share = (similarity / 2 - low / 2) / span if span > 0 else np.full(similarity.shape, 0.5)
    return colors[(share * len(colors)).clip(0, len(colors) - 1).astype(np.intp)]


def _colors(colormap):
    """Return a colormap's 256 colours, uint8 (256, 3)."""
    import matplotlib

    if colormap not in matplotlib.colormaps:
        raise ValueError(
            f"colormap: {colormap!r} is none of matplotlib's; try jet, viridis, magma or coolwarm"
        )
    return matplotlib.colormaps[colormap](np.arange(256) / 255, bytes=True)[:, :3]


def blend(image, heatmap, alpha=0.5):
    """Mix an image with a heatmap of the same size: (1 - alpha) image + alpha heatmap.

    Parameters
    ----------
    image, heatmap : uint8 (H, W, 3) arrays
    alpha : real number in 0..1

    Returns
    -------
    overlay : uint8 (H, W, 3) array

    Raises
    ------
    ValueError
        For different sizes or an alpha outside of 0..1.

    Examples
    --------
    >>> blend(np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 200, np.uint8), 0.25)
    array([[[50, 50, 50]]], dtype=uint8)
    """
    _check_image(image)
    _check_image(heatmap, "heatmap")
    if image.shape != heatmap.shape:
        raise ValueError(f"heatmap: expected shape {image.shape}, got {heatmap.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in 0..1, got {alpha}")
    mixed = Image.blend(Image.fromarray(image), Image.fromarray(heatmap), alpha)
    return np.array(mixed)


def combine_image_and_heatmap(
    image, similarity, *, alpha=0.5, colormap="jet", method="bilinear", value_range=None
):
    """Lay a map over its image, at the image's own resolution.

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    similarity : real (h, w) array
    alpha, colormap, method, value_range
        As for `blend`, `colorize_map` and `upsample_map`.

    Returns
    -------
    overlay : uint8 (H, W, 3) array

    Raises
    ------
    ValueError
        Names the argument at fault.

    Examples
    --------
    >>> combine_image_and_heatmap(np.zeros((60, 90, 3), np.uint8), np.eye(7)).shape
    (60, 90, 3)
    """
    _check_image(image)
    upsampled = upsample_map(similarity, image.shape[:2], method)
    return blend(image, colorize_map(upsampled, colormap, value_range), alpha)


def combine_horizontal(images):
    """Put images side by side, all brought to the height of the tallest.

    Parameters
    ----------
    images : sequence of uint8 (H, W, 3) arrays

    Returns
    -------
    combined : uint8 (H, W, 3) array

    Raises
    ------
    ValueError
        For no image, or one of another shape or dtype.

    Examples
    --------
    >>> tall, wide = np.zeros((80, 20, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)
    >>> combine_horizontal([tall, wide]).shape
    (80, 140, 3)
    """
    if len(images) == 0:
        raise ValueError("images: expected at least one, got none")
    for image in images:
        _check_image(image)
    height = max(len(image) for image in images)
    return np.hstack(
        [
            image
            if len(image) == height
            else resize(image, (height, max(1, round(image.shape[1] * height / len(image)))))
            for image in images
        ]
    )


def save_image(path, image):
    """Write an image; the file's ending says in which format.

    Parameters
    ----------
    path : str or Path
        Ends in .png, .jpg, .jpeg or .webp.
    image : uint8 (H, W, 3) array

    Raises
    ------
    ValueError
        For another ending, or an image of another shape or dtype.
    OSError
        Where the file cannot be written.
    """
    _check_image(image)
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
    write : function of a binary file

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_image(image, name="image"):
    if not (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size
    ):
        found = getattr(image, "dtype", type(image).__name__), getattr(image, "shape", "")
        raise ValueError(f"{name}: expected an RGB uint8 (H, W, 3) array, got {found}")


def _check_map(similarity):
    similarity = np.asarray(similarity, np.float64)
    if similarity.ndim != 2 or similarity.size == 0:
        raise ValueError(f"similarity: expected an (h, w) map, got shape {similarity.shape}")
    if not np.isfinite(similarity).all():
        raise ValueError("similarity: expected finite values, got NaN or infinity")
    return similarity
