"""Images of every kind in, pictures out: outside implementations and closed forms as judges."""

import io
import struct
import zlib

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.ndimage import map_coordinates

from simvis import image_ops
from simvis.image_ops import load_image

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
    monkeypatch.setattr(image_ops, "_to_rgb", None)  # nothing is decoded
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
