"""A pair in Python: what a notebook has, the shell has."""

import dataclasses
import json
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pictures import holds
from PIL import Image

from similarity_ops import mutual_matches
from simvis import image_ops
from simvis.maps import Method
from simvis.overlay import Look
from simvis.pair import EXAMPLE_PAIR, visualize_pair
from simvis.plotting.legend import value_text
from visualize_similarity import main


@pytest.fixture(scope="module")
def pair(imagenet):
    return visualize_pair(*EXAMPLE_PAIR, imagenet, region1=(196, 90, 334, 170), point1=(293, 150))


def test_all_that_is_an_image_is_taken(imagenet):
    paths = visualize_pair(*EXAMPLE_PAIR, imagenet)
    pictures = [Image.open(path) for path in EXAMPLE_PAIR]
    arrays = [image_ops.load_image(path) for path in EXAMPLE_PAIR]
    lists = [array[:9, :9].tolist() for array in arrays]
    for given in (pictures, arrays, map(str, EXAMPLE_PAIR), map(memoryview, arrays)):
        other = visualize_pair(*given, imagenet)
        assert_array_equal(other.overlay1, paths.overlay1)
        assert other.similarity == paths.similarity
    assert other.names == ("image 1", "image 2")
    transparent = pictures[0].convert("RGBA")
    transparent.putalpha(0)
    white = visualize_pair(transparent, arrays[1], imagenet, alpha=0).overlay1
    assert (white == 255).all()
    with pytest.raises(ValueError, match="image: expected an RGB uint8 .* got int64 of shape"):
        visualize_pair(*lists, imagenet)
    with pytest.raises(ValueError, match="image: expected an RGB uint8 .* got NoneType"):
        visualize_pair(None, arrays[1], imagenet)


def test_it_prints_as_one_line_and_shows_itself(pair):
    assert re.fullmatch(r"PairVisualization\(similarity 0\.\d{4}, .*imagenet network\)", repr(pair))
    page = pair._repr_html_()
    assert f"similarity {pair.similarity:.4f}" in page and page.count("<img") == 1
    assert f"{pair.value_range2[1]:.2g}" in page


def test_what_the_shell_writes_a_notebook_writes(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = ["--region1", "196,90,334,170", "--point1", "293,150"]
    files = ["--output", "a.png", "--figure", "a.figure.png", "--html", "a.html"]
    assert main([*map(str, EXAMPLE_PAIR), *places, *files, "--save-maps", "a.npz"]) == 0
    image_ops.save_image("b.png", pair.picture(legend=True))
    pair.save_figure("b.figure.png")
    pair.save_page("b.html")
    for ending in ("png", "figure.png", "html"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    pair.save_maps("b.npz")
    with np.load("a.npz") as shell, np.load("b.npz") as notebook:
        settings = [json.loads(str(maps["settings"])) for maps in (shell, notebook)]
        for name in set(shell.files) - {"settings"}:
            assert_array_equal(shell[name], notebook[name])
    same = ("version", "network", "pooling", "power", "embedding", "point1")
    assert all(settings[0][name] == settings[1][name] for name in same)
    assert settings[0]["region1"] == settings[1]["region1"] == [196, 90, 334, 170]


# --- regions, points and heads --------------------------------------------------------------------


def test_a_box_and_its_mask_are_one_region(imagenet):
    box, mask = (100, 60, 300, 400), np.zeros((480, 720), bool)
    mask[60:400, 100:300] = True
    by_box, by_mask = (
        visualize_pair(*EXAMPLE_PAIR, imagenet, region1=region) for region in (box, mask)
    )
    assert_allclose(by_box.similarity1, by_mask.similarity1, atol=1e-6)
    assert_array_equal(by_box.overlay1, by_mask.overlay1)
    whole = visualize_pair(*EXAMPLE_PAIR, imagenet)
    assert by_box.similarity != by_box.whole_similarity
    assert_allclose(by_box.whole_similarity, whole.similarity, rtol=1e-6)
    assert by_box.similarity1[6].max() == by_box.similarity1[:, 3:].max() == 0


def test_a_point_shows_its_match_on_the_other_image_alone(imagenet):
    asked = {"point2": (360, 240), "size": 120, "normalize": "pair"}
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet, **asked)
    assert pair.match2 is pair.shown2 is pair.value_range2 is None and pair.match1.shape == (7, 7)
    plain = image_ops.resize(image_ops.load_image(EXAMPLE_PAIR[1]), (120, 120))
    x, y = 360.5 / 6 - 0.5, 240.5 / 4 - 0.5
    assert_array_equal(pair.overlay2, image_ops.draw_point(plain, x, y))
    expected = image_ops.combine_image_and_heatmap(pair.image1, pair.match1)
    assert_array_equal(pair.overlay1, expected)


def test_the_head_explains_the_networks_output(imagenet, rng):
    head = rng.standard_normal((1280, 16)), rng.standard_normal(16)
    network = dataclasses.replace(imagenet, projection=head)
    pair = visualize_pair(*EXAMPLE_PAIR, network, explain="head")
    outputs = [conv.mean(axis=(0, 1)) @ head[0] + head[1] for conv in (pair.conv1, pair.conv2)]
    cosine = outputs[0] @ outputs[1] / np.prod([np.linalg.norm(output) for output in outputs])
    assert_allclose(pair.similarity, cosine, rtol=1e-5)
    assert visualize_pair(*EXAMPLE_PAIR, network).similarity != pytest.approx(cosine, rel=1e-3)


def test_a_method_is_completed_by_its_network(imagenet):
    method = Method(power=2.0, point1=(1, 1)).of(imagenet)
    assert (method.pooling, method.power, method.explain) == ("average", 2.0, "pooled")
    assert method.point1 == (1, 1) and method.of(imagenet).pooling == "average"
    with pytest.raises(ValueError, match="explain: the imagenet network has no linear head"):
        Method(explain="head").of(dataclasses.replace(imagenet, projection=None))


# --- over which values the colours go -------------------------------------------------------------


def test_normalize_pair_colours_equal_values_alike(imagenet):
    each = visualize_pair(*EXAMPLE_PAIR, imagenet, size=60)
    both = visualize_pair(
        *EXAMPLE_PAIR, imagenet, normalize="pair", colormap="gray", alpha=1, size=60
    )
    assert each.overlay1.shape == each.overlay2.shape == (60, 60, 3)
    assert each.value_range1 != each.value_range2 and both.value_range1 == both.value_range2
    brightest = [overlay.max() for overlay in (both.overlay1, both.overlay2)]
    assert max(brightest) == 255 and min(brightest) < 255


def test_zero_lies_in_the_middle(imagenet, rng):
    head = rng.standard_normal((1280, 8)), None  # with which maps are negative in places
    signed = dataclasses.replace(imagenet, projection=head, explain="head")
    pair = visualize_pair(*EXAMPLE_PAIR, signed, normalize="zero", alpha=1, upsample="none")
    maps = pair.similarity1, pair.similarity2
    reach = max(np.abs(each).max() for each in maps)
    assert min(each.min() for each in maps) < 0
    assert pair.value_range1 == pair.value_range2 == (-reach, reach)
    assert pair.look.colormap == "coolwarm"  # red is more, blue is less than nothing
    for overlay, values in zip((pair.overlay1, pair.overlay2), maps, strict=True):
        values = image_ops.upsample_map(values, overlay.shape[:2], "none")
        redder = overlay[..., 0].astype(int) - overlay[..., 2]
        strong = np.abs(values) > reach / 4
        assert ((redder > 0) == (values > 0))[strong].all()
    assert Look("gray", normalize="zero").colormap == "gray"


def test_absolute_colours_compare_pictures(imagenet):
    """Three times a uniform map's share, whatever the pair."""
    room, noise = image_ops.load_image(EXAMPLE_PAIR[0]), np.zeros((48, 64, 3), np.uint8)
    looks = {"normalize": "absolute", "colormap": "gray", "alpha": 1}
    near = visualize_pair(room, room, imagenet, **looks)
    assert near.similarity == pytest.approx(1, abs=1e-5)
    far = visualize_pair(room, noise, imagenet, **looks)
    for pair in (near, far):
        assert pair.value_range1 == pair.value_range2 == (0, 3 / 49)
    assert near.overlay1.mean() > 1.5 * far.overlay1.mean()
    half = visualize_pair(room, room, imagenet, region1=(0, 0, 360, 480), **looks)
    assert half.value_range1 == pytest.approx((0, 3 / 24.5)) and half.value_range2 == (0, 3 / 49)
    point = visualize_pair(room, room, imagenet, point1=(100, 100), **looks)
    assert point.value_range1 is None and point.value_range2 == pytest.approx((0, 3 / 49**2))


def test_cells_are_visible_on_request(imagenet):
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet, upsample="none", alpha=1)
    cells = pair.overlay1[34::69, 51::103]  # a pixel inside of each
    assert_array_equal(cells, image_ops.colorize_map(pair.similarity1))


# --- legend and matches ---------------------------------------------------------------------------


def test_the_legend_has_the_maps_own_numbers(pair):
    picture = pair.picture(legend=True)
    height = len(pair.picture())
    assert_array_equal(picture[:height], pair.picture())
    strip, match = picture[height:], pair.match2
    peak = np.abs(match).max()
    for value in (match.min(), match.max()):
        assert holds(strip, value_text(value, peak), 30)
    own = f"similarity {pair.similarity:.4f} of image 1's region to image 2"
    assert holds(strip, f"{own}, {pair.whole_similarity:.4f} of the whole images", 30)
    assert holds(strip, "imagenet, average pooling", 30)
    adds = value_text(match.sum(), pair.similarity1.max())
    assert holds(strip, f"the point adds {adds} per cell", 30)


def test_matches_are_drawn_between_the_cells_that_match(imagenet, tmp_path):
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet, matches=3, pairwise=True)
    cells, adds, cosines = mutual_matches(pair.conv1, pair.conv2, 3)
    assert_array_equal(pair.matches, cells)
    assert_allclose(pair.match_contributions, pair.pairwise[tuple(cells.T)], rtol=1e-5)
    assert_allclose([adds, cosines], [pair.match_contributions, pair.match_cosines])
    alone = visualize_pair(*EXAMPLE_PAIR, imagenet, matches=3)
    assert_array_equal(alone.matches, pair.matches)  # which need not be asked for twice
    picture, plain = pair.picture(), np.hstack([pair.overlay1, pair.overlay2])
    for y1, x1, y2, x2 in pair.matches:
        for y, x in ((y1, x1), (y2, x2 + 7)):
            y, x = round((y + 0.5) * 480 / 7), round((x + 0.5) * 720 / 7)
            disc = picture[y - 20 : y + 20, x - 20 : x + 20]
            assert (disc == 0).all(axis=2).mean() > 0.4
    assert (picture != plain).any(axis=2).mean() < 0.1
    thinner = dataclasses.replace(pair, match_contributions=adds * (1, 0.1, 0.1)).picture()
    white = [(drawn == 255).all(axis=2).sum() for drawn in (thinner, picture)]
    assert white[0] < 0.8 * white[1]
    pair.save_maps(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as maps:
        for name in ("matches", "match_contributions", "match_cosines"):
            assert_array_equal(maps[name], getattr(pair, name))
    plain = visualize_pair(*EXAMPLE_PAIR, imagenet)
    assert plain.matches.shape == (0, 4) and len(plain.match_cosines) == 0
    plain.save_maps(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as maps:
        assert not [name for name in maps if name.startswith("match")]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pooling": "mean"}, "pooling: expected average or max or gem, got 'mean'"),
        ({"power": "3"}, "power: expected a number >= 1, got '3'"),
        ({"explain": "output"}, "explain: expected pooled or head, got 'output'"),
        ({"region2": np.zeros((480, 720))}, "region2: the mask is empty"),
        ({"point2": (720, 0)}, "point2: 720,0 is outside"),
        ({"alpha": None}, "alpha: expected a number in 0..1, got None"),
        ({"upsample": "nearest"}, "upsample: expected bilinear or bicubic or none, got 'nearest'"),
        ({"normalize": "both"}, "normalize: expected each or pair or zero or absolute, got 'both'"),
    ],
)
def test_bad_options_are_named_before_a_network_runs(options, message):
    with pytest.raises(ValueError, match=message):
        visualize_pair(*EXAMPLE_PAIR, "no such network", **options)
