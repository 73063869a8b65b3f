"""From the bytes of an image file to its pixels: what they cost, which way up, which colours."""

import io
import os
import re
import sys
import threading
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

# Formats that are decoded in this process.  Pillow would hand others, EPS for one, to programs.
READ_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000")
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
if find_spec("PIL._avif"):  # which Pillow has since 11.3
    READ_FORMATS, IMAGE_ENDINGS = (*READ_FORMATS, "AVIF"), (*IMAGE_ENDINGS, ".avif")
# What no photograph needs, but a small file can ask for.  The pixels that an image may have are
# PIL.Image.MAX_IMAGE_PIXELS, and a half of them where decoding takes twice the memory.
MAX_SIDE = 65_535  # JPEG's own
MAX_SCANS = 64  # of a JPEG file; progressive ones have some 10
MAX_SCANNED = 20  # times the pixels that an image may have, all scans together
HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"))
HEAVY_FORMATS = ("JPEG2000", "WEBP", "AVIF")
TURNS = dict(zip(range(2, 9), map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), strict=True))  # of EXIF
# An entry of an EXIF that says its orientation, in either order of bytes.
ORIENTATION = re.compile(b"\x12\1\3\0\1\0\0\0([\1-\x08])\0|\1\x12\0\3\0\0\0\1\0([\1-\x08])")


def decode(file, name, convert):
    """Decode an image file to an array, after a look at what that would cost.

    Parameters
    ----------
    file : Path or io.BytesIO
    name : what errors call it
    convert : `to_rgb` or `to_mask`

    Returns
    -------
    pixels : array, (H, W, 3) uint8 by `to_rgb`, (H, W) of the file's own kind by `to_mask`

    Raises
    ------
    ValueError
        If the file is damaged, unknown or over a limit; see `image_ops.load_image`.
    """
    try:
        with (
            Image.open(file, formats=READ_FORMATS) as image,
            stderr_dropped() if image.format == "TIFF" else nullcontext(),
        ):
            _check_cost(image, file)
            return np.array(upright(convert(image), image))
    except Image.UnidentifiedImageError:
        if _bytes(file)[:4] in (b"II*\0", b"MM\0*"):
            raise ValueError(
                f"{name}: a TIFF that is damaged, or of samples that are not read, such as colours"
                " of 32 bits: save it with 8"
            ) from None
        if _bytes(file)[4:12] in HEIC:
            raise ValueError(f"{name}: HEIC is not read, save it as JPEG or PNG") from None
        raise ValueError(f"{name}: not an image, or in none of {', '.join(READ_FORMATS)}") from None
    except MemoryError:
        raise ValueError(f"{name}: takes more memory to read than there is") from None
    except Exception as error:  # a damaged file raises nearly anything, down in its decoder
        reason = " ".join(str(error).split())
        if re.search("MAX_TEXT|Decompressed Data", reason):  # newer and older Pillow's words
            data = _bytes(file)
            if len(rest := _without_text(data)) < len(data):
                return decode(io.BytesIO(rest), name, convert)
        if not reason.strip("-0123456789") or "decoder error" in reason:
            reason = "its data are damaged"
        kind = "a mask" if convert is to_mask else "an image"
        raise ValueError(f"{name}: cannot be read as {kind}: {reason}") from None


def _bytes(file):
    return file.read_bytes() if isinstance(file, Path) else file.getvalue()


def _without_text(data):
    """Return a PNG file without its texts, or without its colour profile if it has none."""
    chunks, position, texts = [], 8, (b"tEXt", b"zTXt", b"iTXt")
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        chunks.append(data[position:end])
        position = end
    left_out = texts if any(chunk[4:8] in texts for chunk in chunks) else (b"iCCP",)
    return data[:8] + b"".join(chunk for chunk in chunks if chunk[4:8] not in left_out)


def _check_cost(image, file):
    """Raise a ValueError for an image, not decoded yet, that would take much time or memory."""
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"{width} x {height} pixels, over the limit of {MAX_SIDE} a side")
    limit = Image.MAX_IMAGE_PIXELS or np.inf
    heavy = image.format in HEAVY_FORMATS or image.mode in ("I", "F")
    pixels, most = width * height, limit / 2 if heavy else limit
    if image.format == "TIFF":  # a tile is decoded whole, however little of it lies in the image
        tile = [image.tag_v2.get(tag, 0) for tag in (322, 323)]
        if not all(isinstance(side, int) for side in tile):
            raise ValueError("the size of its tiles is no number")
        pixels = max(pixels, tile[0] * tile[1])
    if pixels > most:
        raise ValueError(f"{width} x {height} is over the limit of {most:.0f} pixels")
    if image.format in ("JPEG", "MPO"):
        most = min(MAX_SCANS, MAX_SCANNED * limit / pixels)
        data = _bytes(file)
        if data.count(b"\xff\xda") > most and _count_scans(data) > most:
            raise ValueError(f"it has more than {most:.0f} scans, the limit for {pixels} pixels")


def _count_scans(data):
    """Return how many scans a JPEG file has, in the first of the images that may lie in it."""
    marker, scans, position = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]"), 0, 2
    while found := marker.search(data, position):
        position, code = found.end(), data[found.end() - 1]
        if code == 0xD9:  # the image's end
            break
        scans += code == 0xDA
        position += int.from_bytes(data[position : position + 2], "big")
    return scans


_stderr = threading.RLock()


@contextmanager
def stderr_dropped():
    """Drop what is written to stderr, by compiled code, too, which raises what it has to say."""
    if sys.stderr is None:
        yield
        return
    with _stderr, open(os.devnull, "wb") as nothing:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def upright(picture, image):
    """Turn a picture of an image as far as the EXIF of that can be read.

    A TIFF has been turned already, and has no orientation left.
    """
    exif, orientation = (), None
    try:
        exif = image.getexif()
        orientation = exif.get(0x0112)
    except Exception:  # it can be damaged in any way
        pass
    if not len(exif) and (found := ORIENTATION.search(image.info.get("exif", b""))):
        orientation = ord(found[1] or found[2])
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def to_rgb(image):
    """Return an image in sRGB, over white."""
    shown, alpha = _eight_bits(image), None
    if shown.has_transparency_data:
        alpha = shown.convert("RGBA").getchannel("A")
    shown = _to_srgb(shown, image.info.get("icc_profile"))
    if alpha is not None:
        shown.putalpha(alpha)
        shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return shown.convert("RGB")


def _to_srgb(image, profile):
    """Return an image in sRGB by its profile, unless that is broken, or sRGB itself."""
    kind = {"L": "L", "LA": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    image = image.convert(kind)
    if profile:
        from PIL import ImageCms

        levels = np.arange(0, 256, 17, np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
        colors = Image.fromarray(colors).convert(kind)
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        try:
            profile, srgb = io.BytesIO(profile), ImageCms.createProfile("sRGB")
            transform = ImageCms.buildTransform(profile, srgb, kind, "RGB", intent)
            change = ImageChops.difference(transform.apply(colors), colors.convert("RGB"))
            if max(high for _, high in change.getextrema()) > 3:  # as roundings do not
                return transform.apply(image)
        except (ImageCms.PyCMSError, OSError, ValueError):  # or of another kind of image
            pass
    return image.convert("RGB")


def _eight_bits(image):
    """Return an image of 8 bits a sample, or raise a ValueError if nothing says what is white."""
    deep = ";16" in str(getattr(image, "tile", "")) and image.mode != "CMYK"
    image.load()
    tags = getattr(image, "tag_v2", {})
    said = np.max(tags.get(341, tags.get(281, 0)))  # SMaxSampleValue, MaxSampleValue
    if not _is_wide(image):  # Pillow has kept the upper 8 of 16 bits
        if deep and said < 4096 and (high := np.max(image.convert("RGB").getextrema())) < 16:
            raise _unclear(0, 256 * high + 255)
        return image
    samples = np.nan_to_num(np.asarray(image))
    low, high = samples.min(), samples.max()
    if image.mode == "F":
        white = said if said > 1 else 1 if high <= 1 else 255
        clear = said > 1 or high <= 1 or high >= 16
    else:
        signed = np.max(tags.get(339, 1)) == 2
        bits = int(said).bit_length() or min(16, int(np.min(tags.get(258, 16))) - signed)
        bits = max(8, bits)
        white = 2**bits - 1
        clear = said or bits < 15 or high == 0 or high >= 4096 or image.format == "PPM"
    if not (clear and low >= 0 and high <= white):
        raise _unclear(low, high)
    if tags.get(262) == 0:  # WhiteIsZero
        samples = white - samples
    samples = np.rint(samples * (255 / white)) if image.mode == "F" else samples >> (bits - 8)
    return Image.fromarray(samples.astype(np.uint8))


def _unclear(low, high):
    return ValueError(
        f"its samples lie in {low:g} to {high:g}, and it does not say which of them is white:"
        " save it with 8 bits"
    )


def _is_wide(image):
    return image.mode.startswith("I") or image.mode == "F"


def to_mask(image):
    """Return an image's transparency if that varies, else its brightness, with all of its bits."""
    image.load()
    if _is_wide(image):
        tags = getattr(image, "tag_v2", {})
        samples = np.array(image, np.float32 if image.mode == "F" else np.int32)
        if np.max(tags.get(339, 1)) == 1 and image.mode == "I":  # Pillow takes it for signed
            samples[samples < 0] = np.iinfo(np.int32).max
        return Image.fromarray(samples.max() - samples if tags.get(262) == 0 else samples)
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if np.ptp(alpha.getextrema()) or alpha.getextrema() == (0, 0):  # nothing is to be seen
            return alpha
    colors = image.convert("RGB")
    grey = colors.convert("L")
    values, pixels = np.asarray(grey), np.asarray(colors).reshape(-1, 3)
    darkest, brightest = (pixels[i].astype(float) for i in (values.argmin(), values.argmax()))
    share = (np.arange(256) - values.min())[:, None] / max(1, np.ptp(values))
    between = (darkest + share.clip(0, 1) * (brightest - darkest)).astype(np.uint8)
    change = ImageChops.difference(colors, Image.fromarray(between[values]))
    # more than a JPEG file's noise, or, as in a photograph, much that is neither one nor the other
    most, middle = max(high for _, high in change.getextrema()), abs(share[values] - 0.5) < 0.3
    if most > 64 or (most > max(4, np.ptp(values) / 16) and middle.mean() > 0.2):
        raise ValueError("it has more than two colours: paint the region white, all else black")
    return grey
