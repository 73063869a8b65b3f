"""The explorer's page, in a real browser, against the method in Python."""

import io
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import EYES, HOSTILE, ROOT, Finger, assert_accessible, expect, texts
from numpy.testing import assert_allclose
from PIL import Image

from benchmarks import browser as browsing
from benchmarks.explorer import hover_times, opening_times, sparse_activations
from similarity_ops import (
    compute_pairwise_similarity,
    compute_spatial_similarity,
    mutual_matches,
    point_similarity,
)
from simvis import image_ops
from simvis.pages.explorer import write_explorer
from visualize_similarity import EXAMPLE_PAIR, visualize_pair

CHOICES = ("average", "max", "gem", "head")
WHOLE = None, None


@dataclass
class Case:
    """A pair with its page, and what Python says of it."""

    images: tuple
    convs: tuple
    projection: tuple | None = None
    pooling: str = "average"

    def write(self, path, **options):
        options |= {"projection": self.projection, "pooling": self.pooling}
        write_explorer(path, *self.images, *self.convs, **options)
        return path

    def expected(
        self, explain, regions=WHOLE, cover=False, power=3.0, compute=compute_spatial_similarity
    ):
        options = {"power": power, "projection": self.projection if explain == "head" else None}
        options["pooling"] = self.pooling if explain == "head" else explain
        for i, region in enumerate(regions):
            if region is not None:
                size, shape = self.images[i].shape[:2], self.convs[i].shape[:2]
                # a cell that is covered wholly takes no part, not even by what rounding leaves
                share = image_ops.region_weights(region, size, shape).round(12)
                options[f"region{i + 1}"] = 1 - share if cover else share
        return compute(*self.convs, **options)

    def pairwise(self, explain, regions=WHOLE):
        return self.expected(explain, regions, compute=compute_pairwise_similarity)

    def match(self, image, point, explain="average", regions=WHOLE):
        """Return what a pixel (x, y) of an image, 1 or 2, matches in the other one."""
        size, shape = self.images[image - 1].shape[:2], self.convs[image - 1].shape[:2]
        y, x = image_ops.cell_of(point, size, shape)
        return point_similarity(self.pairwise(explain, regions), y, x, image)


@pytest.fixture
def case(rng):
    """Two images of different sizes, whose maps differ in shape, have unlike sides and ties."""
    images = tuple(
        rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((60, 90), (80, 50))
    )
    convs = tuple(
        sparse_activations(rng, *shape, 24).round(1) + np.float32(0.1) for shape in ((3, 4), (5, 2))
    )
    return Case(images, convs, (rng.standard_normal((24, 6)) + 0.5, rng.standard_normal(6)))


@pytest.fixture
def visit(go, tmp_path):
    """Return a function that opens a case's page, which must not ask for anything."""

    def visit(case, write=None, **options):
        path = case.write(tmp_path / "explorer.html", **(write or {}))
        page = go(path.as_uri(), **options)
        browsing.wait_until(page, "window.explorer")
        return page

    yield visit
    assert [url[:7] for url in go.asked_for()] == ["file://"]


# --- what a hand does, and until when to wait for it ----------------------------------------------


def until(page, condition):
    """Wait until the page's state, ``s``, fulfils a condition, and is painted."""
    browsing.wait_until(page, f"!waiting && ((s) => {condition})(explorer.state())")


def at(page, image, x, y):
    """Return where a position in an image's pixels, from its edges, is on the screen."""
    return page.evaluate(
        """([i, x, y]) => {
            const stage = document.querySelectorAll(".stage")[i];
            stage.scrollIntoView({ block: "nearest" });
            const box = stage.getBoundingClientRect(), size = explorer.state().images[i];
            return [box.x + x / size.width * box.width, box.y + y / size.height * box.height];
        }""",
        [image - 1, x, y],
    )


def until_point(page, image, x, y, pinned):
    is_there = f"s.point?.image == {image} && s.point.x == {x} && s.point.y == {y}"
    until(page, f"{is_there} && s.point.pinned == {str(pinned).lower()}")


def hover(page, image, x, y):
    page.mouse.move(*at(page, image, x + 0.5, y + 0.5))
    until_point(page, image, x, y, pinned=False)


def click(page, image, x, y, pinned=True):
    page.mouse.click(*at(page, image, x + 0.5, y + 0.5))
    until_point(page, image, x, y, pinned)


def drag(page, image, box):
    """Drag a box of whole pixels, from within its first to within its last one."""
    x0, y0, x1, y1 = box
    start, end = (at(page, image, x, y) for x, y in ((x0 + 0.3, y0 + 0.3), (x1 - 0.3, y1 - 0.3)))
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=3)
    page.mouse.up()
    until_region(page, image, box)


def until_region(page, image, box):
    until(page, f"String(s.region{image}) == '{','.join(map(str, box))}'")


def choose(page, name, value):
    page.locator(f"input[name={name}][value={value}]").check()
    until(page, f"s.settings.{name} == '{value}'")


def cover(page, on=True):
    """Make or end the cover-up test, which marks the number as an estimate and does not move it."""
    before = page.locator("#cosine").bounding_box()
    page.locator("#cover").click()
    until(page, f"s.estimate == {str(on).lower()}")
    assert page.locator("#similarity").inner_text().startswith("≈ ") == on
    assert page.locator("#cosine").bounding_box()["x"] == before["x"]


def escape(page):
    page.keyboard.press("Escape")
    until(page, "!s.point && !s.region1 && !s.region2 && !s.estimate")


def shown(page):
    """Return the page's state, with its maps as arrays."""
    found = page.evaluate("({...explorer.state(), ...explorer.maps()})")
    for name in ("similarity1", "similarity2", "match1", "match2"):
        found[name] = None if found[name] is None else np.array(found[name])
    return found


def assert_same_map(actual, expected):
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.ptp(expected))


def assert_shows(page, maps):
    found = shown(page)
    for number, expected in enumerate(maps, 1):
        assert_same_map(found[f"similarity{number}"], expected)
    assert_allclose(found["similarity"], maps[0].sum(), rtol=1e-4)
    text = page.locator("#similarity").inner_text().removeprefix("≈ ").replace("−", "-")
    assert float(text) == pytest.approx(maps[0].sum(), abs=1e-4)


# --- the numbers are Python's ---------------------------------------------------------------------


def test_a_point_shows_what_it_matches(case, visit):
    page = visit(case)
    for explain in CHOICES:
        choose(page, "explain", explain)
        maps = case.expected(explain)
        assert_shows(page, maps)
        # a centre of a cell, between centres, and in the outer half of a corner's cell
        points = [(1, 11, 10), (1, 40, 33), (1, 89, 0), (2, 12, 8), (2, 25, 41), (2, 0, 79)]
        for image, *point in points:
            hover(page, image, *point)
            match, found = case.match(image, point, explain), shown(page)
            assert_same_map(found[f"match{3 - image}"], match)
            assert found[f"match{image}"] is None
            assert_allclose(found["point"]["value"], match.sum(), rtol=1e-4)
            assert_allclose(found["point"]["share"], match.sum() / maps[0].sum(), rtol=1e-4)
        assert "Pixel 0, 79 of image 2 adds " in page.locator("#place").inner_text()
    page.mouse.move(1, 1)
    until(page, "s.point === null")


@pytest.mark.parametrize("boxes", [WHOLE, ((7, 5, 60, 31), (9, 30, 43, 78))])
def test_the_pointed_cells_match_is_marked_with_how_sure_it_is(case, visit, boxes):
    page, sure = visit(case, {"regions": boxes}), set()
    for explain in CHOICES:
        choose(page, "explain", explain)
        pairwise = case.pairwise(explain, boxes)
        cells, adds, cosines = case.expected(explain, boxes, compute=mutual_matches)
        assert len(cells) > 1
        mutual = {tuple(cell[:2]): k for k, cell in enumerate(cells)}
        for y, x in np.ndindex(case.convs[0].shape[:2]):
            hover(page, 1, int((x + 0.5) * 90 / 4), int((y + 0.5) * 20))
            match, k = shown(page)["point"]["match"], mutual.get((y, x))
            words = page.locator("#place").inner_text()
            ovals = page.locator(".there").evaluate_all("all => all.map((one) => !one.hidden)")
            assert ovals == [False, match is not None]
            assert (k is not None) == bool(match and match["mutual"])
            if match is None:  # outside of the region, or without any peak
                assert not pairwise[y, x].max() > 0 and "Its match" not in words
                continue
            sure.add(match["mutual"])
            oval, stage = (page.locator(each).last.bounding_box() for each in (".there", ".stage"))
            for axis, side, count in (("x", "width", 2), ("y", "height", 5)):
                cell = stage[side] / count
                assert abs(oval[axis] - stage[axis] - match[axis] * cell) < 1
                assert abs(oval[side] - cell) < 1
            assert_allclose(match["adds"], pairwise[y, x, match["y"], match["x"]], rtol=1e-4)
            unsure = "unsure" in page.locator(".there").last.get_attribute("class")
            assert unsure == ("not mutual" in words) == (k is None)
            assert f"cosine {match['cosine']:.2f}" in words
            if k is not None:
                assert (match["image"], match["y"], match["x"]) == (2, *cells[k, 2:])
                assert_allclose([match["cosine"], match["adds"]], [cosines[k], adds[k]], rtol=1e-4)
    assert sure == {True, False}


def test_regions_and_their_cover_up_are_those_of_the_method(case, visit):
    page = visit(case)
    one, two = (7, 5, 60, 31), (9, 30, 43, 78)
    for explain in CHOICES:
        choose(page, "explain", explain)
        whole = case.expected(explain)[0].sum()
        for image, box, boxes in ((1, one, (one, None)), (2, two, (one, two))):
            drag(page, image, box)
            assert_shows(page, case.expected(explain, boxes))
            assert_allclose(shown(page)["whole_similarity"], whole, rtol=1e-4)
            assert f"whole images: {whole:.4f}" in page.locator("#meaning").inner_text()
            cover(page)
            assert_shows(page, case.expected(explain, boxes, cover=True))
            assert "estimated similarity with" in page.locator("#meaning").inner_text()
            cover(page, on=False)
        hover(page, 2, 25, 60)
        assert_same_map(shown(page)["match1"], case.match(2, (25, 60), explain, (one, two)))
        escape(page)


def test_cells_that_a_box_only_touches_take_no_part(rng, visit):
    image, convs = np.zeros((50, 50, 3), np.uint8), sparse_activations(rng, 2, 5, 5, 8)
    case = Case((image, image), tuple(convs), (rng.standard_normal((8, 3)), np.ones(3)))
    page = visit(case)
    # 30 / 50 is not 3 times 1 / 5 in floating point; the other box lies within one cell
    for box, columns in ((30, 10, 50, 40), 2), ((12, 12, 19, 17), 1):
        drag(page, 1, box)
        for explain in CHOICES:
            choose(page, "explain", explain)
            assert_shows(page, case.expected(explain, (box, None)))
            assert np.count_nonzero(shown(page)["similarity1"].any(axis=0)) == columns
            cover(page)
            assert_shows(page, case.expected(explain, (box, None), cover=True))
            cover(page, on=False)


def test_a_page_may_begin_with_a_mask_a_box_and_a_point_and_saves_its_numbers(case, visit):
    mask = np.zeros((60, 90), np.uint8)
    mask[10:50, 20:47] = 255
    mask[5:20, 60:80] = 128
    regions = mask, (5.0, 10.5, 40.0, 62.0)
    begin = {"regions": regions, "points": (None, (25, 41)), "names": ("a.png", "b.png")}
    page = visit(case, {**begin, "network": "net"})
    for explain in CHOICES:
        choose(page, "explain", explain)
        assert_shows(page, case.expected(explain, regions))
        found = shown(page)
        assert found["region1"] == "mask" and found["region2"] == list(regions[1])
        assert found["point"]["pinned"]
        assert_same_map(found["match1"], case.match(2, (25, 41), explain, regions))
        cover(page)
        assert_shows(page, case.expected(explain, regions, cover=True))
        cover(page, on=False)
    with page.expect_download() as download:
        page.locator("#saveNumbers").click()
    assert download.value.suggested_filename == "similarity.json"
    with open(download.value.path(), encoding="utf-8") as file:
        saved = json.load(file)
    assert saved == page.evaluate("({...explorer.state(), ...explorer.maps()})")
    assert saved["network"] == "net" and saved["images"][1]["name"] == "b.png"
    escape(page)
    assert_shows(page, case.expected(explain))


@pytest.mark.parametrize("pooling", ["max", "gem"])
def test_the_head_follows_the_networks_own_pooling_and_gem_a_power(case, visit, pooling):
    case.pooling = pooling
    page = visit(case, {"explain": "head", "power": 2.5})
    assert page.locator("#power").is_visible() == (pooling == "gem")
    assert_shows(page, case.expected("head", power=2.5))
    drag(page, 2, (9, 30, 43, 78))
    assert_shows(page, case.expected("head", (None, (9, 30, 43, 78)), power=2.5))
    escape(page)
    choose(page, "explain", "gem")
    assert_shows(page, case.expected("gem", power=2.5))
    page.locator("#power").fill("7")
    until(page, "s.settings.power == 7")
    assert_shows(page, case.expected("gem", power=7))


def test_maxima_that_are_nearly_tied_are_not_shared(rng, visit):
    conv = rng.uniform(1, 1 + 1e-6, (4, 4, 50)).astype(np.float32)
    assert np.unique(conv).size > 5
    image = np.zeros((40, 40, 3), np.uint8)
    case = Case((image, image), (conv, conv[:, ::-1]), pooling="max")
    assert_shows(visit(case), case.expected("max"))


def test_negative_activations_and_a_negative_similarity(case, rng, visit):
    first = rng.standard_normal((3, 4, 24))
    case.convs = first, 0.1 * rng.standard_normal((5, 2, 24)) - first.mean(axis=(0, 1))
    page = visit(case)
    gem = page.locator("input[value=gem]")
    assert gem.is_disabled() and "negative" in gem.locator("..").get_attribute("title")
    for explain in ("average", "max", "head"):
        choose(page, "explain", explain)
        assert_shows(page, case.expected(explain))
    assert case.expected("average")[0].sum() < -0.5


@pytest.mark.parametrize("scale", [1e-50, 1e50])
def test_activations_of_any_size(case, visit, scale):
    case.convs = tuple(np.float64(conv) * scale for conv in case.convs)
    case.projection = case.projection[0], case.projection[1] * scale
    page = visit(case)
    for explain in CHOICES:
        choose(page, "explain", explain)
        assert_shows(page, case.expected(explain))


def test_images_of_one_pixel_maps_of_one_cell_and_no_head(visit):
    image = np.full((1, 1, 3), 80, np.uint8)
    page = visit(Case((image, image), (np.ones((1, 1, 3)), np.ones((1, 1, 3)))))
    assert not page.locator("input[value=head]").is_visible()
    hover(page, 1, 0, 0)
    drag(page, 2, (0, 0, 1, 1))
    assert_shows(page, (np.ones((1, 1)), np.ones((1, 1))))
    cover(page)
    assert page.locator("#similarity").inner_text() == "≈ –"
    assert "nothing is left" in page.locator("#meaning").inner_text()
    assert shown(page)["similarity"] is None
    escape(page)
    assert shown(page)["similarity"] == pytest.approx(1)


def test_large_images_are_shrunk_and_keep_their_coordinates(case, rng, visit):
    coarse = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    case.images = np.array(coarse.resize((1300, 900))), case.images[1]
    page = visit(case)
    sizes = page.locator(".size").all_inner_texts()
    assert sizes == ["1300 × 900, shown at 640 × 443", "50 × 80"]
    # at the middle of the cell that adds most, no more than the bar says
    row, column = divmod(case.expected("average")[0].argmax(), 4)
    hover(page, 1, round((column + 0.5) * 325 - 0.5), round((row + 0.5) * 300 - 0.5))
    worth = re.search(r"adds ([0-9.]+) per cell", page.locator("#place").inner_text())[1]
    high = float(page.locator(".high").first.inner_text())
    assert 0.98 * high < float(worth) <= high
    drag(page, 1, (100, 200, 700, 850))
    assert_shows(page, case.expected("average", ((100, 200, 700, 850), None)))


# --- the looks ------------------------------------------------------------------------------------


@pytest.fixture
def flat(rng):
    """A pair of even colour, which JPEG keeps, as large as the saved picture shows it."""
    colors = ((200, 120, 40), (30, 90, 160))
    images = tuple(np.full((400, 480, 3), color, np.uint8) for color in colors)
    return Case(images, tuple(sparse_activations(rng, 2, 3, 4, 12)))


def saved_picture(page):
    with page.expect_download() as download:
        page.locator("#savePicture").click()
    assert download.value.suggested_filename == "similarity.png"
    return np.asarray(Image.open(download.value.path()).convert("RGB"))


def overlays(picture):
    """Return the two images out of a saved picture of flat ones."""
    return picture[104:504, 24:504], picture[104:504, 528:1008]


def assert_looks(page, case, maps, ranges=WHOLE, **looks):
    found = overlays(saved_picture(page))
    for image, map, values, overlay in zip(case.images, maps, ranges, found, strict=True):
        expected = image_ops.combine_image_and_heatmap(image, map, value_range=values, **looks)
        difference = np.abs(overlay.astype(int) - expected)
        assert difference.max() <= 6 and difference.mean() < 1


def test_overlays_are_those_of_the_program(flat, visit):
    looks = {"colormap": "twilight", "alpha": 0.7}
    page = visit(flat, looks)
    for explain in ("max", "average"):
        choose(page, "explain", explain)
        assert_looks(page, flat, flat.expected(explain), **looks)
    assert {"jet", "cividis", "twilight"} <= set(page.locator("#colormap option").all_inner_texts())
    page.locator("#colormap").select_option("cividis")
    page.locator("#opacity").fill("0.25")
    until(page, "s.settings.colormap == 'cividis' && s.settings.opacity == 0.25")
    assert_looks(page, flat, flat.expected("average"), colormap="cividis", alpha=0.25)
    assert page.locator(".heat").first.evaluate("heat => heat.style.opacity") == "0.25"


def test_ranges_of_values_are_those_of_the_program(flat, rng, visit):
    flat.convs = tuple(rng.standard_normal((2, 3, 4, 12)) + 0.2)
    page = visit(flat, {"normalize": "absolute"})
    maps = flat.expected("average")
    each = [(values.min(), values.max()) for values in maps]
    both, reach = (np.min(each), np.max(each)), np.abs(each).max()
    for normalize, ranges, colormap in (
        ("absolute", [(0, 3 / 12)] * 2, "jet"),
        ("pair", [both] * 2, "jet"),
        ("zero", [(-reach, reach)] * 2, "coolwarm"),
        ("each", each, "jet"),
    ):
        choose(page, "range", normalize)
        assert_allclose(shown(page)["ranges"], ranges, rtol=1e-4)
        high = page.locator(".high").last.inner_text()
        assert float(high) == pytest.approx(ranges[1][1], abs=1e-3)
        assert page.locator("#colormap").input_value() == colormap
        assert_looks(page, flat, maps, ranges, colormap=colormap)
        if normalize == "zero":
            bar, zero = (page.locator(name).first.bounding_box() for name in (".bar", ".zero"))
            assert zero["x"] + 1 == pytest.approx(bar["x"] + bar["width"] / 2, abs=1)
    choose(page, "range", "absolute")
    drag(page, 1, (0, 100, 240, 300))
    assert_allclose(shown(page)["ranges"], [[0, 3 / 3], [0, 3 / 12]])
    hover(page, 2, 100, 100)
    assert_allclose(shown(page)["ranges"][0], [0, 3 / 3 / 12])


def test_cells_are_shown_on_request_and_a_flat_map_in_the_middle_colour(flat, visit):
    flat.convs = flat.convs[0], np.ones((3, 3, 12))
    page = visit(flat, {"upsample": "none"})
    maps = flat.expected("average")
    assert_looks(page, flat, maps, method="none")
    assert page.locator("#cells").get_attribute("aria-pressed") == "true"
    page.locator("#cells").click()
    until(page, "!s.settings.cells")
    assert_looks(page, flat, maps)


def test_the_plain_images_are_seen_while_something_is_held(flat, visit):
    page = visit(flat)
    button = page.locator("#plain")
    for press, release in (
        (lambda: page.keyboard.down("p"), lambda: page.keyboard.up("p")),
        (lambda: (button.hover(), page.mouse.down()), page.mouse.up),
        (lambda: (button.focus(), page.keyboard.down("Space")), lambda: page.keyboard.up("Space")),
    ):
        for act, expected in ((press, "hidden"), (release, "visible")):
            act()
            expect(page.locator(".heat").first).to_have_css("visibility", expected)


def test_what_is_on_the_screen_is_what_is_saved(flat, visit):
    page = visit(flat, viewport={"width": 1600, "height": 1000})
    click(page, 1, 100, 100)
    found = overlays(saved_picture(page))[1]
    screen = Image.open(io.BytesIO(page.locator(".stage").last.screenshot())).convert("RGB")
    screen = np.asarray(screen.resize((480, 400)), int)
    state = shown(page)
    y, x = (state["point"]["match"][axis] for axis in "yx")
    cell = np.zeros((400, 480), bool)
    cell[max(0, y * 400 // 3 - 8) : (y + 1) * 400 // 3 + 8, max(0, x * 120 - 8) : x * 120 + 128] = 1
    assert np.abs(screen - found)[20:-20, 20:-20][~cell[20:-20, 20:-20]].max() <= 8
    expected = image_ops.combine_image_and_heatmap(flat.images[1], state["match2"])
    assert np.abs(expected.astype(int) - found)[~cell].max() <= 6
    for picture in (screen, found):  # the oval around the match touches its cell's sides
        row = picture[int((y + 0.5) * 400 / 3) - 30 :][:60, x * 120 : (x + 1) * 120]
        assert (row[:, :9] > 250).all(axis=2).any() and (row[:, -9:] > 250).all(axis=2).any()
        assert not (row[:, 12:-12] > 250).all(axis=2).any()


def test_saved_pictures_show_regions_points_covers_and_what_was_asked(flat, visit):
    mask = np.zeros((400, 480), bool)
    mask[100:200, 100:300] = mask[200:300, 100:150] = True
    page = visit(flat, {"network": "net", "regions": (mask, None)})
    outlined = overlays(saved_picture(page))[0]
    assert (outlined[[98, 150, 250], [200, 301, 151]] == 255).all()
    assert (outlined[[96, 150, 250], [200, 303, 153]] == 0).all()
    assert len(np.unique(outlined[110:190, 110:290])) > 2
    cover(page)
    covered = overlays(saved_picture(page))[0]
    assert (covered[110:190, 110:290] == 128).all() and (covered[210:290, 110:140] == 128).all()
    assert not (covered[250, 200] == 128).all()
    escape(page)
    first = saved_picture(page)
    assert page.evaluate("networkWords()") == "net, average pooling"
    choose(page, "explain", "max")
    assert page.evaluate("networkWords()") == "net, maximum pooling"
    drag(page, 1, (100, 100, 200, 180))
    cover(page)
    click(page, 1, 400, 300)
    second = saved_picture(page)
    plain, marked = (overlays(picture)[0] for picture in (first, second))
    assert (marked[110:170, 110:190] == 128).all()
    assert (marked[100, 150] == 255).all() and (marked[300, 408] == 255).all()
    assert not (plain[100, 150] == 255).all()
    feet = first[-50:], second[-50:]
    assert all((foot < 200).any() for foot in feet) and (feet[0] != feet[1]).any()


# --- hands ----------------------------------------------------------------------------------------


def test_a_click_pins_and_the_next_one_lets_go(case, visit):
    page = visit(case)
    click(page, 1, 40, 20)
    pinned = shown(page)["match2"]
    for image in (1, 2):
        page.mouse.move(*at(page, image, 10, 10))
        until_point(page, 1, 40, 20, pinned=True)
        assert_allclose(shown(page)["match2"], pinned)
    click(page, 2, 10, 30)  # elsewhere, the pin moves
    click(page, 2, 10, 30, pinned=False)
    for _ in range(7):
        page.mouse.click(*at(page, 1, 50.5, 50.5), delay=0)
    until_point(page, 1, 50, 50, pinned=True)


def test_careless_drags(case, visit):
    page = visit(case, viewport={"width": 1280, "height": 900})

    def pull(x, y, *steps):
        page.mouse.move(x, y)
        page.mouse.down()
        for step in steps:
            step() if callable(step) else page.mouse.move(*step)
        page.mouse.up()

    def shrink():
        page.set_viewport_size({"width": 700, "height": 900})
        browsing.wait_until(page, "innerWidth === 700")
        page.mouse.move(*at(page, 1, 10.3, 8.7))

    x, y = at(page, 1, 45.5, 30.5)
    pull(x, y, (x + 2, y + 2))  # a trembling hand clicks
    until(page, "s.region1 === null && s.point?.pinned")
    pull(x, y, (x + 300, y), (x + 3000, y - 3000))  # beyond the corner, the box ends there
    until_region(page, 1, (45, 0, 90, 31))
    assert shown(page)["point"] is None
    pull(x, y, (x - 30, y - 30), shrink)  # it began at a pixel, wherever that is by now
    until_region(page, 1, (10, 8, 46, 31))
    x, y = at(page, 1, 50, 50)
    pull(x, y, (x + 60, y + 10), lambda: escape(page), (x + 90, y + 10))
    hover(page, 2, 10, 10)
    assert shown(page)["region1"] is None
    page.mouse.click(*at(page, 2, 20.5, 10.5), button="right")
    until_point(page, 2, 20, 10, pinned=False)


def test_changes_are_told_and_hovering_is_not_and_a_resting_hand_hides_no_map(case, visit):
    page = visit(case)
    assert page.locator("#live").get_attribute("role") == "status"
    hover(page, 1, 40, 20)
    assert page.evaluate("speaking") == 0  # nothing is about to be told
    drag(page, 1, (10, 10, 60, 40))
    similarity = f"{shown(page)['similarity']:.4f}"
    told = f"{similarity} similarity of image 1’s region to image 2"
    expect(page.locator("#live")).to_contain_text(told)
    x, y = at(page, 1, 59.7, 39.7)
    page.mouse.move(x + 3, y + 3)
    until(page, "s.point === null")
    assert shown(page)["match2"] is None
    page.mouse.move(x - 60, y - 60)
    until(page, "s.point")
    assert shown(page)["match2"] is not None


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_a_tap_points_and_a_swipe_scrolls(case, visit):
    page = visit(case, **PHONE)
    for condition in ("s.point?.pinned", "!s.point", "s.point?.pinned"):
        page.touchscreen.tap(*at(page, 1, 40.5, 20.5))
        until(page, condition)
    assert shown(page)["match2"] is not None
    page.evaluate("scrollTo(0, 0)")
    browsing.wait_until(page, "scrollY === 0")
    x, y = at(page, 2, 25, 70)
    finger = Finger(page)
    finger.touch("touchStart", (x, y))
    finger.draw((x, y), (x + 3, y - 300))
    browsing.wait_until(page, "scrollY > 100")
    until_point(page, 1, 40, 20, pinned=True)
    found = shown(page)
    assert found["region1"] is found["region2"] is None


def test_a_long_press_points_and_it_or_a_button_begins_a_region(case, visit):
    page = visit(case, **PHONE)
    finger = Finger(page)
    start, end = at(page, 2, 5.3, 10.3), at(page, 2, 29.7, 59.7)
    finger.rest(start)
    until_point(page, 2, 5, 10, pinned=False)
    assert shown(page)["match1"] is not None
    for stage in page.locator(".stage").all():  # both images are on the screen
        box = stage.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 844
    finger.draw(start, end)
    until_region(page, 2, (5, 10, 30, 60))
    assert shown(page)["point"] is None and page.evaluate("scrollY") == 0
    page.locator("#clear").tap()
    page.locator("#mark").tap()
    expect(page.locator("#mark")).to_have_attribute("aria-pressed", "true")
    page.evaluate("scrollTo(0, 0)")
    browsing.wait_until(page, "scrollY === 0")
    start, end = at(page, 1, 10.3, 40.7), at(page, 1, 59.7, 10.3)
    finger.touch("touchStart", start)
    finger.draw(start, end)
    until_region(page, 1, (10, 10, 60, 41))
    expect(page.locator("#mark")).to_have_attribute("aria-pressed", "false")
    finger.rest(end)
    finger.touch("touchEnd")
    until(page, "s.point?.pinned")


SIZES = [((480, 720), (480, 720)), ((900, 50), (900, 50))]
SIZES = [((800, 400), (400, 800)), *(pytest.param(each, marks=pytest.mark.slow) for each in SIZES)]


@pytest.mark.parametrize("sizes", SIZES)
def test_images_and_their_words_have_their_places(rng, visit, sizes):
    images = tuple(np.full((*size, 3), 90, np.uint8) for size in sizes)
    case = Case(images, tuple(sparse_activations(rng, 2, 7, 7, 8) * 1e-3))
    page = visit(case, viewport={"width": 1600, "height": 1000})

    def boxes(selector):
        return [each.bounding_box() for each in page.locator(selector).all()]

    for width, height in (390, 844), (375, 667), (768, 1024), (1600, 1000):
        page.set_viewport_size({"width": width, "height": height})
        browsing.wait_until(page, f"innerWidth === {width} && innerHeight === {height}")
        selectors = "figcaption", ".stage", ".low", ".high", ".what"
        for caption, stage, low, high, what in zip(*map(boxes, selectors), strict=True):
            assert abs(caption["x"] - stage["x"]) < 2 and caption["y"] < stage["y"]
            assert low["x"] + low["width"] < high["x"]  # numbers do not collide
            assert stage["y"] >= 0 and stage["y"] + stage["height"] <= height
            for number in (low, high):
                before = number["x"] >= what["x"] + what["width"]
                after = what["x"] >= number["x"] + number["width"]
                assert before or after or what["y"] >= number["y"] + number["height"]
        tops = [stage["y"] for stage in boxes(".stage")]
        assert width < 704 or tops[0] == tops[1]  # aligned at the top
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_does_it_all(case, visit):
    page = visit(case)

    def press(*keys):
        for key in keys:
            page.keyboard.press(key)

    press("Tab")
    expect(page.get_by_label("Image 1: image 1")).to_be_focused()
    press("ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "Enter")
    until_point(page, 1, 45 + 11, 0, pinned=True)
    assert_same_map(shown(page)["match2"], case.match(1, (56, 0)))
    press("Tab")
    expect(page.get_by_label("Image 2: image 2")).to_be_focused()
    until(page, "s.point.image === 1")  # pinned
    press("ArrowLeft", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown")
    until_region(page, 2, (12, 40, 39, 49))
    assert_shows(page, case.expected("average", (None, (12, 40, 39, 49))))
    press("Shift+ArrowLeft")
    until_region(page, 2, (12, 40, 26, 49))
    page.locator("#cover").focus()
    press("Space")
    until(page, "s.estimate")
    escape(page)


# --- two grains -----------------------------------------------------------------------------------


@pytest.fixture
def fine(case, rng):
    """Maps of the case at a finer grain, which sum to the same."""
    maps = [rng.standard_normal(shape) for shape in ((9, 12), (20, 5))]
    similarity = case.expected("average")[0].sum()
    return [each + (similarity - each.sum()) / each.size for each in maps]


MOUSE = {"viewport": {"width": 1440, "height": 900}}


@pytest.mark.parametrize("device", [MOUSE, PHONE], ids=["mouse", "finger"])
def test_a_switch_shows_either_grain(case, fine, visit, device):
    page = visit(case, {"fine": fine}, **device)
    coarse = case.expected("average")
    assert_shows(page, fine)
    switch = page.get_by_role("group", name="Cells of the maps")
    for name, maps in (("3 × 4", coarse), ("9 × 12", fine)):
        label = switch.locator("label", has_text=name)
        label.tap() if device is PHONE else label.click()
        until(page, f"s.settings.grain == '{'fine' if maps is fine else 'coarse'}'")
        expect(switch.get_by_role("radio", name=name, exact=True)).to_be_checked()
        assert_shows(page, maps)
        shapes = [f"{rows} × {columns}" for rows, columns in (each.shape for each in maps)]
        assert [text.split(" of ")[1] for text in plain(page, ".what")] == shapes
    expect(page.locator("#live")).to_contain_text("9 × 12 cells.")
    assert_accessible(page)


def test_fine_overlays_are_those_of_the_program(flat, rng, visit):
    maps = rng.random((10, 12)), rng.random((14, 14))
    ranges = [(each.min(), each.max()) for each in maps]
    assert_looks(visit(flat, {"fine": maps}), flat, maps, ranges)


def plain(page, selector):
    return [text.replace("\xa0", " ") for text in texts(page, selector)]


def test_a_fine_cell_is_read_under_the_pointer(case, fine, visit):
    page = visit(case, {"fine": fine, "normalize": "absolute"})
    assert_allclose(page.evaluate("explorer.state().ranges"), [[0, 3 / 108], [0, 3 / 100]])
    for image, x, y in ((1, 0, 0), (1, 41, 33), (1, 89, 59), (2, 30, 79), (2, 49, 2)):
        hover(page, image, x, y)
        (height, width), map_ = case.images[image - 1].shape[:2], fine[image - 1]
        rows, columns = map_.shape
        expected = map_[int((y + 0.5) * rows / height), int((x + 0.5) * columns / width)]
        found = shown(page)
        assert_allclose(found["point"]["value"], expected, atol=1e-4)
        words = plain(page, "#place")[0]
        assert f" per cell of {rows} × {columns}, " in words and "Its match, of " in words
        # what it matches stays what the page computes
        assert_same_map(found[f"match{3 - image}"], case.match(image, (x, y)))
    assert plain(page, "#grain") == ["A point’s match is of 3 × 4."]
    page.mouse.move(1, 1)
    until(page, "!s.point")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Image 1: image 1")).to_be_focused()
    page.keyboard.press("ArrowRight")
    until_point(page, 1, 45 + 4, 30, pinned=False)  # by half a fine cell


def test_the_keyboard_switches_and_what_has_no_fine_map_is_said(case, fine, visit):
    page = visit(case, {"fine": fine})
    page.locator("input[value=fine]").focus()
    page.keyboard.press("ArrowLeft")
    until(page, "s.settings.grain == 'coarse'")
    assert_shows(page, case.expected("average"))
    assert plain(page, "#grain") == [""]
    page.locator(".stage").first.focus()
    page.keyboard.press("g")
    until(page, "s.settings.grain == 'fine'")
    assert_shows(page, fine)
    for explain in ("max", "gem", "head"):
        choose(page, "explain", explain)
        assert_shows(page, case.expected(explain))
        assert plain(page, "#grain") == ["Of this, the page has only 3 × 4."]
    choose(page, "explain", "average")
    box = 7, 5, 60, 31
    drag(page, 1, box)
    assert_shows(page, case.expected("average", (box, None)))
    assert plain(page, ".what")[0] == "adds to the similarity, per cell of 3 × 4"
    escape(page)
    assert_shows(page, fine)
    page.keyboard.press("g")
    until(page, "s.settings.grain == 'coarse'")
    assert_shows(page, case.expected("average"))


def test_without_fine_maps_there_is_no_switch(case, visit):
    page = visit(case)
    page.keyboard.press("g")
    assert not page.locator("#grains").is_visible() and "×" not in texts(page, ".what")[0]
    assert_shows(page, case.expected("average"))


REGION = (196, 90, 334, 170)


@pytest.mark.parametrize(
    "options", [{"stride": 8}, {"stride": 4}, {"stride": 16, "region1": REGION}]
)
def test_the_page_of_a_fine_pair_has_its_maps_and_is_small(options, imagenet, go, tmp_path):
    pairs = [visualize_pair(*EXAMPLE_PAIR, imagenet, **options)]
    if "region1" not in options:  # what is special of a pair, the page does not ask
        usual = np.full(1280, 0.01)
        pairs.append(visualize_pair(*EXAMPLE_PAIR, imagenet, special=usual, **options))
    for pair in pairs:
        pair.save_page(path := tmp_path / "pair.html")
        assert path.stat().st_size < 2e6
        page = go(path.as_uri())
        browsing.wait_until(page, "window.explorer")
        assert_shows(page, (pairs[0].similarity1, pairs[0].similarity2))


# --- the page itself ------------------------------------------------------------------------------


def test_names_are_text(case, visit):
    name = HOSTILE + "n" * 250
    words = {"names": (name, name), "network": name}
    page = visit(case, words, viewport={"width": 375, "height": 800})
    assert texts(page, ".name") == [name.replace("\udcff", "\ufffd")] * 2
    assert page.locator("script").count() == 2 and page.locator("img").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    saved_picture(page)


def test_a_pair_of_photographs_is_under_a_megabyte(rng, tmp_path):
    paths = [ROOT / "example_images" / path.name for path in EXAMPLE_PAIR]
    images = [image_ops.resize(image_ops.load_image(path), (427, 640)) for path in paths]
    head = rng.standard_normal((2048, 128)), rng.standard_normal(128)
    case = Case(images, tuple(sparse_activations(rng, 2, 7, 7, 2048)), head)
    assert case.write(tmp_path / "explorer.html").stat().st_size < 1e6


@pytest.mark.parametrize("width, scheme", EYES)
def test_everyone_can_use_it(case, visit, width, scheme):
    page = visit(case, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert_accessible(page)
    page.locator("summary").click()
    choose(page, "explain", "gem")
    drag(page, 1, (10, 10, 60, 40))
    cover(page)
    click(page, 2, 10, 30)
    assert_accessible(page)


def test_the_benchmark_measures(case, chromium, tmp_path):
    path = case.write(tmp_path / "explorer.html")
    assert min(opening_times(chromium, path, repeats=1)) > 0
    page = browsing.open_page(chromium, path)
    times = hover_times(page, repeats=5)
    assert len(times) == 5 and min(times) > 0
    page.close()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"explain": "output"}, "explain: expected pooled or head, got 'output'"),
        ({"explain": "head"}, "explain: head needs a projection"),
        ({"normalize": "none"}, "normalize: expected each or pair or zero or absolute"),
        ({"points": (None, (4, 0))}, "point: 4,0 is outside"),
        ({"fine": (np.ones(4), np.ones((4, 4)))}, r"fine: expected finite maps .*, got \(4,\)"),
        ({"power": 0.5}, "power: expected a real number >= 1, got 0.5"),
        ({"alpha": 1.5}, "alpha: expected a number in 0..1, got 1.5"),
        ({"conv2": np.ones((2, 2, 5))}, "conv1 and conv2: expected the same number of channels"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, options, message):
    image, conv = np.zeros((4, 4, 3), np.uint8), np.ones((2, 2, 3))
    arguments = {"image1": image, "image2": image, "conv1": conv, "conv2": conv, **options}
    with pytest.raises(ValueError, match=message):
        write_explorer(tmp_path / "explorer.html", **arguments)
    assert list(tmp_path.iterdir()) == []
