"""Images of every kind in, pictures out: outside implementations and closed forms as judges."""

import io
import struct
import zlib

import matplotlib
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageCms, PngImagePlugin
from scipy.ndimage import map_coordinates

from simvis import image_ops
from simvis.image_ops import load_image
from simvis.pair import cover

small_maps = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-1e6, 1e6, allow_subnormal=False),
)


@pytest.fixture
def photo(rng):
    coarse = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    return np.array(coarse.resize((90, 60), Image.Resampling.BICUBIC))


def encoded(image, kind, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def hollow_png(width, height):
    """A PNG without pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(b""))
    )


# --- load_image ----------------------------------------------------------------------------------


def test_lossless_files_come_back_to_the_pixel(tmp_path, photo):
    for name in ("a.png", "a.bmp", "a.tif", "a.ppm"):
        Image.fromarray(photo).save(tmp_path / name)
        assert_array_equal(load_image(tmp_path / name), photo)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, photo, orientation):
    upright = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, -1),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    assert_array_equal(load_image(tmp_path / "a.png"), upright[orientation])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path, photo, mode):
    image = Image.fromarray(photo)
    if mode in ("I;16", "I"):
        samples = np.asarray(image.convert("L")).astype(np.int32) * 257
        image = Image.fromarray(samples.astype(np.uint16 if mode == "I;16" else np.int32))
    image = image if image.mode == mode else image.convert(mode)
    path = tmp_path / ("a.tif" if mode in ("PA", "CMYK", "I", "F") else "a.png")
    image.save(path)
    loaded = load_image(path)
    assert loaded.dtype == np.uint8 and loaded.shape == photo.shape
    colours = mode in ("P", "PA", "RGBA", "CMYK")
    seen = "RGB" if colours else "1" if mode == "1" else "L"  # dithered, or grey
    expected = np.asarray(Image.fromarray(photo).convert(seen).convert("RGB"))
    assert np.abs(loaded.astype(int) - expected).mean() < 25
    assert np.corrcoef(loaded.ravel(), expected.ravel())[0, 1] > 0.95


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    assert_array_equal(load_image(tmp_path / "a.png"), expected)
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=1)
    assert_array_equal(load_image(tmp_path / "p.png"), [[[200, 0, 0], [255, 255, 255]]])


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert_array_equal(load_image(tmp_path / "a.png")[0, :, 0], [0, 0, 1, 255])


def test_one_pixel_and_first_frame(tmp_path, photo):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert_array_equal(load_image(tmp_path / "a.png"), [[[1, 2, 3]]])
    frames = [Image.new("RGB", (4, 3), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert_array_equal(load_image(tmp_path / "a.gif")[0, 0], [255, 0, 0])


def test_unreadable_files_are_errors_that_name_them(tmp_path, photo, capfd):
    lzw = bytearray(encoded(photo, "TIFF", compression="tiff_lzw"))
    lzw[60:400] = bytes(340)
    damaged = "cannot be read as an image: "
    contents = {
        "truncated.png": (encoded(photo, "PNG")[:-400], damaged),
        "truncated.jpg": (encoded(photo, "JPEG")[:-900], damaged),
        "lzw.tif": (lzw, damaged + "its data are damaged$"),
        "cut.jp2": (encoded(photo, "JPEG2000")[:200], damaged + "broken data stream"),
        "empty.png": (b"", "not an image"),
        "text.jpg": (b"not an image", "not an image, or in none of JPEG, "),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            load_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere.png: no such image file"):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="is a folder"):
        load_image(tmp_path)
    assert capfd.readouterr() == ("", "")  # libtiff would write on stderr


# --- samples, colours and what else a file says of its pixels ------------------------------------


def tiff(samples, bits, kind=1, white_is_zero=False, **tags):
    """A TIFF of the samples' bytes; tags by number, as _281."""
    height, width, count = (*samples.shape, 1)[:3]
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 2 if count == 3 else 1, 277: count}
    entries |= {278: height, 279: samples.nbytes, 339: kind, 273: 0}
    entries |= {int(name[1:]): value for name, value in tags.items()} | (
        {262: 0} if white_is_zero else {}
    )
    place = 14 + 12 * len(entries)
    entries[273] = place + 6
    data = b"II*\0\10\0\0\0" + struct.pack("<H", len(entries))
    for tag in sorted(entries):
        entry = (tag, 3, 3, place) if tag == 258 and count == 3 else (tag, 4, 1, entries[tag])
        data += struct.pack("<HHII", *entry)
    return data + bytes(4) + struct.pack("<3H", bits, bits, bits) + samples.tobytes()


GREYS = np.arange(0, 256, 5, dtype=np.uint8)[None]
TWELVE = GREYS.astype(np.uint16) * 16 + 15
SIGNED = GREYS.astype(np.int16) * 128 + 127
FLOATS = GREYS.astype(np.float32) / 255


@pytest.mark.parametrize(
    "data",
    [
        tiff(FLOATS, 32, 3),
        tiff(FLOATS * 255, 32, 3),
        tiff(FLOATS * 4095, 32, 3, _341=4095),
        tiff(1 - FLOATS, 32, 3, white_is_zero=True),
        tiff(TWELVE, 16, _341=4095),
        tiff(TWELVE, 16, _281=4095),
        tiff(TWELVE * 16, 16),
        tiff(65535 - TWELVE * 16, 16, white_is_zero=True),
        tiff(TWELVE.astype(np.int32) * 16, 32, 2),
        tiff(SIGNED, 16, 2),
        b"P5 52 1 4095 " + TWELVE.byteswap().tobytes(),
    ],
)
def test_samples_are_scaled_by_what_the_file_says(data):
    image = image_ops.decode_image(data)
    assert_array_equal(image, np.repeat(GREYS[..., None], 3, axis=2))


def test_twelve_packed_bits_are_scaled():
    two = np.array([[0xFF, 0xF8, 0x00]], np.uint8)  # 4095 and 2048
    data = bytearray(tiff(two, 12))
    data[18:22] = struct.pack("<I", 2)  # the width in pixels
    assert_array_equal(image_ops.decode_image(data)[0, :, 0], [255, 128])


@pytest.mark.parametrize(
    "data, reason",
    [
        (
            tiff(TWELVE, 16),
            "its samples lie in 15 to 4095, .* which of them is white: save it with",
        ),
        (encoded(TWELVE, "PNG"), "its samples lie in 15 to 4095"),
        (tiff(np.dstack([TWELVE] * 3), 16), "its samples lie in 0 to 4095"),
        (tiff(FLOATS * 1.5, 32, 3), "its samples lie in 0 to 1.5"),
        (tiff(FLOATS - 1, 32, 3), "its samples lie in -1 to 0"),
        (tiff(FLOATS * 9999, 32, 3), "its samples lie in 0 to 9999"),
        (tiff(TWELVE.astype(np.int32) * 1000, 32, 2), "its samples lie in 15000 to "),
        (tiff(np.dstack([FLOATS] * 3), 32, 3), "a TIFF .* such as colours of 32 bits: save it"),
    ],
)
def test_samples_that_may_mean_anything_are_refused(data, reason):
    with pytest.raises(ValueError, match=f"a.tif: .*{reason}"):
        image_ops.decode_image(data, "a.tif")


def icc_profile(primaries, gamma):
    """An RGB profile of the primaries' XYZ, a row each, relative to white, and a gamma."""
    columns = [b"XYZ \0\0\0\0" + (row * 65536).round().astype(">i4").tobytes() for row in primaries]
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    white = b"XYZ \0\0\0\0" + (np.array(D50) * 65536).round().astype(">i4").tobytes()
    names = [b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"]
    table, body, start = struct.pack(">I", len(names)), b"", 132 + 12 * len(names)
    for name, value in zip(names, [white, *columns, curve, curve, curve], strict=True):
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s", start + len(body), 0x2200000, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    head += bytes(28) + np.array(np.array(D50) * 65536).round().astype(">i4").tobytes()
    return head.ljust(128, b"\0") + table + body


D50 = 0.9642, 1.0, 0.8249
# columns are the XYZ of red, green and blue, adapted to D50
SRGB = np.array([[0.4361, 0.2225, 0.0139], [0.3851, 0.7169, 0.0971], [0.1431, 0.0606, 0.7141]])
ADOBE = np.array([[0.6097, 0.3111, 0.0195], [0.2053, 0.6257, 0.0609], [0.1492, 0.0632, 0.7446]])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_colour_profile_is_brought_to_srgb(photo, kind):
    soft = image_ops.blend(photo, np.full_like(photo, 128), 0.6)  # colours that sRGB has too
    plain = image_ops.decode_image(encoded(soft, kind))
    image = image_ops.decode_image(encoded(soft, kind, icc_profile=icc_profile(ADOBE, 2.2)))
    linear = ((plain / 255) ** 2.2 @ ADOBE @ np.linalg.inv(SRGB)).clip(0, 1)
    expected = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    assert np.abs(image - 255 * expected).max() < 2 < np.abs(image - plain.astype(float)).max()


def test_srgb_no_profile_and_broken_ones_leave_the_pixels(photo):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    adobe = icc_profile(ADOBE, 2.2)
    for profile in (srgb, b"no profile", adobe[:150], adobe.replace(b"RGB ", b"CMYK")):
        assert_array_equal(
            image_ops.decode_image(encoded(photo, "PNG", icc_profile=profile)), photo
        )
    grey = Image.fromarray(photo).convert("L")
    grey.info["icc_profile"] = adobe  # which is of another kind of image
    assert_array_equal(image_ops.as_image(grey), np.asarray(grey.convert("RGB")))


def test_a_profile_spares_the_transparency(photo):
    image = Image.fromarray(np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)]))
    image.putpixel((0, 0), (9, 9, 9, 0))
    image.info["icc_profile"] = icc_profile(ADOBE, 2.2)
    opaque = image.convert("RGB")
    expected = image_ops.as_image(opaque)
    expected[0, 0] = 255
    assert_array_equal(image_ops.as_image(image), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("damage", ["header", "tags"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow
def test_a_damaged_exif_costs_no_more_than_itself(photo, kind, order, damage):
    entries = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)  # a quarter turn
    entries += struct.pack(order + "HHII", 0x011A, 5, 1, 2**31)  # a fraction that is nowhere
    entries += struct.pack(order + "HHI4s", 0x9C9B, 7, 4, b"text")
    exif = struct.pack(order + "HIH", 42, 8, 3) + entries + bytes(4)
    exif = {"<": b"II", ">": b"MM"}[order] + exif
    if damage == "header":
        exif = b"??" + exif[2:]
    plain = encoded(photo, kind)
    turned = np.rot90(image_ops.decode_image(plain), -1)
    exif = b"Exif\0\0" + exif
    assert_array_equal(image_ops.decode_image(encoded(photo, kind, exif=exif)), turned)
    upright = image_ops.decode_image(encoded(photo, kind, exif=exif[:12] + b"?" * 9))
    assert_array_equal(upright, image_ops.decode_image(plain))


def test_texts_and_profiles_of_a_png_may_be_long(photo):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "a" * 2**21, zip=True)
    orientation = Image.Exif()
    orientation[0x0112] = 3
    data = encoded(photo, "PNG", pnginfo=text, exif=orientation)
    assert_array_equal(image_ops.decode_image(data), photo[::-1, ::-1])
    data = encoded(photo, "PNG", pnginfo=text, icc_profile=bytes(2**21))
    assert_array_equal(image_ops.decode_image(data), photo)


@pytest.mark.skipif("AVIF" not in image_ops.READ_FORMATS, reason="this Pillow reads no AVIF")
def test_avif_is_read(tmp_path, photo):
    (tmp_path / "a.avif").write_bytes(encoded(photo, "AVIF", quality=95))
    assert np.abs(load_image(tmp_path / "a.avif").astype(int) - photo).mean() < 3
    assert ".avif" in image_ops.IMAGE_ENDINGS


def test_heic_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x24ftypheic" + bytes(99))  # as phones send them
    with pytest.raises(ValueError, match="a.jpg: HEIC is not read, save it as JPEG or PNG"):
        image_ops.load_image(tmp_path / "a.jpg")


# --- small files that ask for much ---------------------------------------------------------------


def hollow_tiff(bits, kind, *size, kinds=None):
    """A TIFF without pixels; its tiles may have another size, and its tags another kind than 4."""
    width, height, *tile = size
    tags = {256: width, 257: height, 258: bits, 259: 8, 262: 1, 277: 1, 339: kind}
    tags |= dict(zip((322, 323), tile, strict=False)) or {278: height}
    tags |= dict.fromkeys((324, 325) if tile else (273, 279), 8)
    kinds = dict.fromkeys(tags, 4) | (kinds or {})
    entries = (struct.pack("<HHII", tag, kinds[tag], 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0\10\0\0\0" + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)


def test_what_would_cost_much_is_refused_before_it_is_decoded(tmp_path, photo, monkeypatch):
    jpeg2000 = bytearray(encoded(photo, "JPEG2000", no_jp2=True))
    place = jpeg2000.index(b"\xff\x51") + 6  # the size in the codestream's header
    jpeg2000[place : place + 8] = struct.pack(">II", 9000, 9000)
    jpeg = encoded(photo, "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")  # the last scan, which comes over and over
    contents = {
        "large.png": (hollow_png(12_000, 8_000), "exceeds limit of|is over the limit"),
        "thin.png": (hollow_png(1, 89_478_485), "over the limit of 65535 a side"),
        "absurd.png": (hollow_png(60_000, 60_000), "exceeds limit of|is over the limit"),
        "float.tif": (hollow_tiff(32, 3, 9000, 9000), "9000 x 9000 is over the limit of 44739242"),
        # a text, kind 2, for a width
        "text.tif": (hollow_tiff(8, 1, 9, 9, 65, 2**31, kinds={322: 2}), "its tiles is no number"),
        "tile.tif": (hollow_tiff(8, 1, 9, 9, 40_000, 40_000), "9 x 9 is over the limit"),
        "edited.j2k": (jpeg2000, "9000 x 9000 is over the limit of 44739242 pixels"),
        "scans.jpg": (jpeg[:last] + jpeg[last:-2] * 300 + jpeg[-2:], "more than 64 scans"),
    }
    monkeypatch.setattr(image_ops, "to_rgb", None)  # nothing is decoded
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert len(content) < 100_000
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            load_image(tmp_path / name)


def test_scans_are_counted_in_the_first_image_alone(photo):
    """A phone appends a video to a photograph, in which anything may stand."""
    data = encoded(photo, "JPEG", progressive=True)
    moving = image_ops.decode_image(data + b"\0\2" + b"\xff\xda\0\2" * 1000)
    assert_array_equal(moving, image_ops.decode_image(data))


# --- resize, upsample_map ------------------------------------------------------------------------


def test_resize_averages_the_whole_image(rng):
    image = rng.integers(0, 256, (120, 240, 3), dtype=np.uint8)
    resized = image_ops.resize(image, (1, 1))
    # The bilinear filter's triangle weighs the middle more, and every pixel a little.
    assert_allclose(resized[0, 0], image.mean(axis=(0, 1)), atol=3)
    image[:, :120] = 0
    assert image_ops.resize(image, (4, 8))[:, :3].max() == 0


@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_cells_are_shown_as_they_are(shape, size):
    similarity = np.random.default_rng(0).standard_normal(shape)
    upsampled = image_ops.upsample_map(similarity, size, "none")
    for y, x in np.ndindex(size):
        # the cell that the centre of the pixel is in, in whole numbers
        row, column = (
            (2 * k + 1) * n // (2 * m) for k, n, m in zip((y, x), shape, size, strict=True)
        )
        assert upsampled[y, x] == similarity[row, column]


@pytest.mark.parametrize("method, degree", [("bilinear", 1), ("bicubic", 3)])
def test_upsample_map_equals_interpolation_at_pixel_centres(rng, method, degree):
    similarity = rng.standard_normal((5, 8))
    size = 61, 97
    positions = [
        (np.arange(pixels) + 0.5) * cells / pixels - 0.5
        for pixels, cells in zip(size, similarity.shape, strict=True)
    ]
    # where the border is continued far enough, splines of scipy and of this project are one
    padded = np.pad(similarity, 12, mode="edge")
    points = np.meshgrid(*(position + 12 for position in positions), indexing="ij")
    expected = map_coordinates(padded, points, order=degree)
    upsampled = image_ops.upsample_map(similarity, size, method)
    assert upsampled.shape == size and upsampled.dtype == np.float64
    assert_allclose(upsampled, expected, atol=1e-6)


@given(small_maps, st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_bilinear_upsampling_stays_in_range_and_keeps_constants(similarity, size):
    upsampled = image_ops.upsample_map(similarity, size)
    slack = 1e-9 * (1 + np.abs(similarity).max())
    assert upsampled.shape == size
    assert similarity.min() - slack <= upsampled.min()
    assert upsampled.max() <= similarity.max() + slack
    for method in image_ops.UPSAMPLINGS:
        constant = np.full(similarity.shape, similarity[0, 0])
        assert_allclose(image_ops.upsample_map(constant, size, method), similarity[0, 0], rtol=1e-9)


# --- colorize_map, blend, combine ----------------------------------------------------------------


def test_colours_are_matplotlibs(rng):
    similarity = rng.standard_normal((20, 30))
    share = (similarity - similarity.min()) / np.ptp(similarity)
    for name in ("jet", "viridis", "coolwarm"):
        expected = matplotlib.colormaps[name](share, bytes=True)[..., :3]
        difference = image_ops.colorize_map(similarity, name).astype(int) - expected
        assert np.abs(difference).max() <= 8  # a value on a colour's edge may fall to either side
        assert (difference == 0).mean() > 0.99


def test_red_is_high_and_a_shared_range_is_shared():
    red, green, blue = image_ops.colorize_map([[0.0, 1.0]])[0, 1]
    assert red > 100 and green == blue == 0
    half = image_ops.colorize_map([[0.0, 1.0]], value_range=(0, 2))[0, 1]
    assert_array_equal(half, image_ops.colorize_map([[0.0, 1.0, 2.0]])[0, 1])
    outside = image_ops.colorize_map([[-5.0, 7.0]], value_range=(0, 1))
    assert_array_equal(outside, image_ops.colorize_map([[0.0, 1.0]]))
    flat = image_ops.colorize_map([[-3.0, -3.0]])  # the middle, of a map that is constant
    assert_array_equal(flat[0, 0], flat[0, 1])


def test_blend_is_the_weighted_mean(rng):
    image, heatmap = rng.integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    for alpha in (0, 0.3, 0.5, 1):
        expected = (1 - alpha) * image.astype(float) + alpha * heatmap
        assert_allclose(image_ops.blend(image, heatmap, alpha), expected, atol=1)


def test_thin_images_side_by_side_stay_small(monkeypatch):
    high, wide = np.zeros((30_000, 1, 3), np.uint8), np.zeros((1, 30_000, 3), np.uint8)
    combined = image_ops.combine_horizontal([high, wide])
    assert combined.shape == (2, 60_001, 3)
    monkeypatch.setattr(image_ops, "MAX_COMBINED", 10_000)
    combined = image_ops.combine_horizontal([high, np.zeros((1, 1, 3), np.uint8)])
    assert combined.shape == (99, 100, 3)


def test_different_heights_are_brought_to_one(photo):
    small = image_ops.resize(photo, (30, 45))
    combined = image_ops.combine_horizontal([photo, small])
    assert combined.shape == (60, 180, 3)
    assert_array_equal(combined[:, :90], photo)
    assert np.abs(combined[:, 90:].astype(int) - photo).mean() < 12


# --- regions and points --------------------------------------------------------------------------

boxes = st.tuples(*[st.floats(0, 1)] * 4).filter(
    lambda box: box[2] - box[0] > 1e-3 and box[3] - box[1] > 1e-3
)


@given(boxes, st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 7)] * 2))
def test_box_weights_are_covered_fractions(box, size, shape):
    (height, width), (rows, columns) = size, shape
    box = x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    weights = image_ops.region_weights(box, size, shape)
    for row in range(rows):
        for column in range(columns):
            left, right = column * width / columns, (column + 1) * width / columns
            top, bottom = row * height / rows, (row + 1) * height / rows
            covered = max(0, min(right, x1) - max(left, x0))
            covered *= max(0, min(bottom, y1) - max(top, y0))
            fraction = covered / ((right - left) * (bottom - top))
            assert_allclose(weights[row, column], fraction, atol=1e-9)
    area = weights.mean() * width * height
    assert_allclose(area, (x1 - x0) * (y1 - y0), rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 30)] * 2))
def test_mask_weights_keep_the_masks_area(seed, size):
    mask = np.random.default_rng(seed).random(size) < 0.5
    mask[0, 0] = True
    for shape in ((1, 1), (3, 5), (7, 7), size):
        weights = image_ops.region_weights(mask, size, shape)
        assert weights.shape == shape and 0 <= weights.min() <= weights.max() <= 1
        assert_allclose(weights.mean(), mask.mean(), atol=1e-12)
    assert_allclose(image_ops.region_weights(mask, size, size), mask, atol=1e-12)
    grey = np.where(mask, 255, 0).astype(np.uint8)
    weights, greys = (image_ops.region_weights(each, size, (2, 3)) for each in (mask, grey))
    assert_allclose(greys, weights, atol=1e-12)


MASK = np.zeros((60, 90), bool)
MASK[10:50, 20:47] = True


def palette_mask(dark, bright):
    image = Image.fromarray(MASK.astype(np.uint8), "P")
    image.putpalette([*dark, *bright])
    return image


def with_alpha(image, mask=MASK):
    image = image.copy()
    image.putalpha(Image.fromarray(mask * np.uint8(255)))
    return image


ROOM = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
MASKS = {
    "a.bmp": Image.fromarray(MASK),
    "ones.png": Image.fromarray(MASK.astype(np.uint8)),
    "white.png": Image.fromarray(MASK * np.uint8(255)),
    "two.png": Image.fromarray(np.where(MASK, 7, 3).astype(np.uint8)),
    "palette.png": palette_mask((0, 0, 0), (1, 1, 1)),
    "red.png": palette_mask((0, 0, 90), (255, 0, 0)),
    "rgba.png": with_alpha(ROOM),
    "la.png": with_alpha(Image.new("L", (90, 60))),
    "opaque.png": with_alpha(Image.fromarray(MASK * np.uint8(255)), np.ones((60, 90), bool)),
    "sixteen.png": Image.fromarray(MASK.astype(np.uint16)),
    "full.png": Image.fromarray(MASK * np.uint16(65535)),
    "i.tif": Image.fromarray(MASK.astype(np.int32)),
    "f.tif": Image.fromarray(MASK * np.float32(0.5)),
    "unsigned.tif": tiff(MASK * np.uint32(2**32 - 1), 32),
    "inverse.tif": tiff(~MASK * np.uint16(9), 16, white_is_zero=True),
}


@pytest.mark.parametrize("name", MASKS)
def test_any_image_of_two_values_is_a_mask(tmp_path, name):
    if isinstance(MASKS[name], bytes):
        (tmp_path / name).write_bytes(MASKS[name])
    else:
        MASKS[name].save(tmp_path / name)
    mask = image_ops.read_mask(tmp_path / name)
    assert mask.dtype == np.uint8
    assert_array_equal(mask, MASK * 255)


def test_a_palettes_transparency_and_an_orientation_are_a_masks_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = palette_mask((255, 255, 255), (255, 255, 255))
    image.save(tmp_path / "a.png", transparency=0, exif=exif)
    assert_array_equal(image_ops.read_mask(tmp_path / "a.png"), np.rot90(MASK, -1) * 255)


def test_more_values_are_weights_or_no_mask(tmp_path):
    soft = np.tile(np.arange(90, dtype=np.uint8), (60, 1))
    path = tmp_path / "a.png"
    Image.fromarray(soft).save(path)
    assert_allclose(image_ops.read_mask(path), soft * (255 / 89), atol=0.51)
    palette = Image.fromarray(soft % 3, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    for image, reason in (
        (Image.fromarray(soft % 3), "its whole numbers up to 2 are classes, no mask"),
        (Image.fromarray((soft % 3).astype(np.uint16)), "up to 2 are classes"),
        (palette, "a mask: it has more than two colours: paint the region white"),
        (ROOM, "it has more than two colours"),
    ):
        image.save(path)
        with pytest.raises(ValueError, match=f"a.png: .*{reason}"):
            image_ops.read_mask(path)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.uint16, np.float16, np.float64])
@pytest.mark.parametrize("values", [(0, 1), (0, 0.5), (0, 255), (3, 7)])
def test_any_array_of_two_values_is_a_mask(kind, values):
    region = np.where(MASK, *np.array(values[::-1], kind if max(values) >= 1 else float))
    if region.any() and not region.all() or region.dtype != bool:
        assert_array_equal(image_ops.region_weights(region, (60, 90), (60, 90)).round(12), MASK)
        image = np.full((60, 90, 3), 99, np.uint8)
        assert_array_equal(image_ops.draw_region(image, region), image_ops.draw_region(image, MASK))
        assert_array_equal(cover(image + ROOM, region), cover(image + ROOM, MASK))


def test_more_values_of_an_array_are_parts_of_the_largest():
    for kind in (np.uint8, np.int32, np.float32):
        region = np.array([[0, 50, 200]], kind)
        assert_allclose(image_ops.region_weights(region, (1, 3), (1, 3)), [[0, 0.25, 1]])
    with pytest.raises(ValueError, match="region: its whole numbers up to 2 are classes"):
        image_ops.region_weights(np.array([[0, 1, 2]]), (1, 3), (1, 3))


@pytest.mark.parametrize("box", [(0, 0, 90, 60), (89.4, 59.4, 90, 60), (10, 10, 11, 50)])
def test_any_region_is_drawn_somewhere_and_the_input_stays(photo, box):
    photo.setflags(write=False)
    drawn = image_ops.draw_region(photo, box)
    assert drawn.shape == photo.shape
    assert (drawn != photo).any() or box[2] - box[0] < 1


def test_points_at_the_edge_are_drawn(photo):
    for x, y in ((0, 0), (89, 59), (44.5, 30)):
        changed = (image_ops.draw_point(photo, x, y) != photo).any(axis=2)
        assert changed.any() and np.abs(np.argwhere(changed) - (y, x)).max() <= 8


def test_saved_pictures_come_back(tmp_path, photo):
    for ending in image_ops.WRITE_FORMATS:
        image_ops.save_image(tmp_path / f"a{ending}", photo)
        loaded = load_image(tmp_path / f"a{ending}")
        assert np.abs(loaded.astype(int) - photo).mean() < (1e-9 if ending == ".png" else 3)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        image_ops.write_whole(path, fail)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


# --- errors --------------------------------------------------------------------------------------

IMAGE = np.zeros((4, 5, 3), np.uint8)
MASKED = np.ma.masked_less(IMAGE[..., 0], 9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: image_ops.resize(IMAGE / 2, (2, 2)), "image: expected an RGB uint8.*float64"),
        (lambda: image_ops.resize(IMAGE[..., 0], (2, 2)), r"image: .*\(4, 5\)"),
        (lambda: image_ops.blend(IMAGE, IMAGE[:2]), r"heatmap: expected shape \(4, 5, 3\)"),
        (lambda: image_ops.blend(IMAGE, IMAGE, 1.5), "alpha: .*got 1.5"),
        (lambda: image_ops.upsample_map(np.ones(3), (4, 4)), r"similarity: .*\(3,\)"),
        (lambda: image_ops.upsample_map([[np.nan]], (4, 4)), "similarity: .*NaN"),
        (lambda: image_ops.upsample_map([[1.0]], (4, 4), "cubic"), "method: .*'cubic'"),
        (lambda: image_ops.colorize_map([[1.0]], "jett"), "colormap: 'jett'"),
        (lambda: image_ops.colorize_map([[1.0]], value_range=(2, 1)), r"value_range: .*\(2, 1\)"),
        (lambda: image_ops.combine_horizontal([]), "images: .*none"),
        (lambda: image_ops.blend(IMAGE, IMAGE, 0.5j), "alpha: .*got 0.5j"),
        (lambda: image_ops.upsample_map([[1.0]], (0, 4)), r"size: .*>= 1, got \(0, 4\)"),
        (lambda: image_ops.upsample_map([[1.0]], 4), "size: .*got 4"),
        (lambda: image_ops.upsample_map([[1j]], (4, 4)), "similarity: .*real.*complex128"),
        (lambda: image_ops.upsample_map([[1.0]], (4, 4), ["bilinear"]), "method: .*'bilinear'"),
        (lambda: image_ops.resize(IMAGE, (0, 2)), r"size: .*>= 1, got \(0, 2\)"),
        (lambda: image_ops.resize_like_opencv(IMAGE, None), "size: .*got None"),
        (lambda: image_ops.colorize_map([[1.0]], value_range=3), "value_range: .*got 3"),
        (lambda: image_ops.colorize_map([[1.0]], value_range=(0, np.nan)), "value_range: .*nan"),
        (lambda: image_ops.draw_point(IMAGE, "a", 0), "x and y: .*'a'"),
        (lambda: image_ops.cell_of((1, None), (4, 5), (2, 2)), r"point: .*\(1, None\)"),
        (lambda: image_ops.region_weights((0, 0, 1, None), (4, 5), (2, 2)), "region: .*None"),
        (lambda: image_ops.region_weights((0, 0, 1, 1), (4, 5), (0, 2)), "map_shape: .*0, 2"),
        (lambda: image_ops.region_weights(IMAGE[..., 0] * 1j, (4, 5), (2, 2)), "region: .*complex"),
        (lambda: image_ops.region_weights(MASKED, (4, 5), (2, 2)), "region: .*masked"),
        (lambda: image_ops.save_image("a.gif", IMAGE), "a.gif: .*ending in .png"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_photograph_is_no_mask_and_what_is_not_to_be_seen_is_empty(tmp_path):
    photo = ROOT / "example_images" / "room_a_view1.jpg"
    with pytest.raises(ValueError, match="more than two colours"):
        image_ops.read_mask(photo)
    muted = np.asarray(Image.open(photo).convert("RGB")) // 8 + 100
    Image.fromarray(muted).save(tmp_path / "muted.png")
    with pytest.raises(ValueError, match="more than two colours"):
        image_ops.read_mask(tmp_path / "muted.png")
    Image.new("RGBA", (6, 4), (200, 200, 200, 0)).save(tmp_path / "clear.png")
    assert not image_ops.read_mask(tmp_path / "clear.png").any()
