"""The explorer's page, in a real browser, against the method in Python."""

import contextlib
import io
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import ROOT, settle
from numpy.testing import assert_allclose
from PIL import Image

from benchmarks import browser as browsing
from similarity_ops import (
    compute_pairwise_similarity,
    compute_spatial_similarity,
    point_similarity,
)
from simvis import image_ops
from simvis.pages.explorer import write_explorer
from visualize_similarity import EXAMPLE_PAIR

CHOICES = ("average", "max", "gem", "head")
WHOLE = None, None


def sparse_activations(rng, *shape):
    """Return what a ReLU lets through of noise, float32."""
    return np.maximum(rng.standard_normal(shape), 0).astype(np.float32)


@dataclass
class Case:
    """A pair with its page, and what Python says of it."""

    images: tuple
    convs: tuple
    projection: tuple | None = None
    pooling: str = "average"

    def write(self, path, **options):
        write_explorer(
            path,
            *self.images,
            *self.convs,
            projection=self.projection,
            pooling=self.pooling,
            **options,
        )
        return path

    def expected(self, explain, boxes=WHOLE, cover=False, compute=compute_spatial_similarity):
        weights = {}
        for number, (box, image, conv) in enumerate(
            zip(boxes, self.images, self.convs, strict=True), 1
        ):
            if box is not None:
                region = image_ops.region_weights(box, image.shape[:2], conv.shape[:2])
                # a cell that is covered wholly takes no part, not even by what rounding leaves
                region = region.round(12)
                weights[f"region{number}"] = 1 - region if cover else region
        head = {"projection": self.projection} if explain == "head" else {}
        pooling = self.pooling if explain == "head" else explain
        return compute(*self.convs, pooling, **head, **weights)


@pytest.fixture
def case(rng):
    """Two images of different sizes, whose maps differ in shape, have unlike sides and ties."""
    images = tuple(
        rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((60, 90), (80, 50))
    )
    convs = tuple(
        sparse_activations(rng, *shape, 24).round(1) + np.float32(0.1) for shape in ((3, 4), (5, 2))
    )
    head = rng.standard_normal((24, 6)) + 0.5, rng.standard_normal(6)
    return Case(images, convs, head)


@pytest.fixture(scope="module")
def tab(chromium):
    """A page that serves all tests that want nothing special of it, for pages take long to make."""
    return chromium.new_page()


@pytest.fixture
def visit(chromium, tab, tmp_path):
    """Return a function that opens a case's page, which must not complain nor ask for anything."""
    complaints, requests = [], []
    with contextlib.ExitStack() as contexts:

        def visit(case, write=None, **options):
            path = case.write(tmp_path / "explorer.html", **(write or {}))
            page = tab
            if options:
                page = contexts.enter_context(chromium.new_context(**options)).new_page()
            page.goto("about:blank")
            page.mouse.move(0, 0)
            for event, hear in (
                ("console", lambda message: complaints.append(message.text)),
                ("pageerror", lambda error: complaints.append(str(error))),
                ("dialog", lambda dialog: complaints.append(dialog.message)),
                ("request", lambda request: requests.append(request.url)),
            ):
                page.on(event, hear)
                contexts.callback(page.remove_listener, event, hear)
            page.goto(path.as_uri())
            browsing.wait_until(page, "window.explorer")
            return page

        visit.complaints = complaints
        yield visit
    assert complaints == []
    kinds = {url.split(":")[0] for url in requests}
    assert kinds <= {"file", "data", "blob"} and sum(url[:4] == "file" for url in requests) == 1


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


def hover(page, image, x, y):
    page.mouse.move(*at(page, image, x + 0.5, y + 0.5))
    settle(page)
    point = page.evaluate("explorer.state().point")
    assert (point["image"], point["x"], point["y"]) == (image, x, y)


def drag(page, image, box):
    """Drag a box of whole pixels, from within its first to within its last one."""
    x0, y0, x1, y1 = box
    start, end = (at(page, image, x, y) for x, y in ((x0 + 0.3, y0 + 0.3), (x1 - 0.3, y1 - 0.3)))
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=3)
    page.mouse.up()
    settle(page)
    assert page.evaluate("explorer.state()")[f"region{image}"] == list(box)


def choose(page, name, value):
    page.locator(f"input[name={name}][value={value}]").check()
    settle(page)


def shown(page):
    """Return the page's state, with its maps as arrays."""
    found = page.evaluate("({...explorer.state(), ...explorer.maps()})")
    for name in ("similarity1", "similarity2", "match1", "match2"):
        found[name] = None if found[name] is None else np.array(found[name])
    return found


def assert_same_map(actual, expected, tolerance=1e-4):
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=0, atol=tolerance * np.ptp(expected))


def assert_shows(page, maps, tolerance=1e-4):
    found = shown(page)
    for number, expected in enumerate(maps, 1):
        assert_same_map(found[f"similarity{number}"], expected, tolerance)
    assert_allclose(found["similarity"], maps[0].sum(), rtol=tolerance)
    text = page.locator("#similarity").inner_text().removeprefix("≈ ").replace("−", "-")
    assert float(text) == pytest.approx(maps[0].sum(), abs=1e-4)


# --- the numbers are Python's ---------------------------------------------------------------------


@pytest.mark.parametrize("explain", CHOICES)
def test_a_point_shows_what_it_matches(case, visit, explain):
    page = visit(case)
    choose(page, "explain", explain)
    assert_shows(page, case.expected(explain))
    pairwise = case.expected(explain, compute=compute_pairwise_similarity)
    # a centre of a cell, between centres, and in the outer half of a corner's cell
    for image, points in ((1, ((11, 10), (40, 33), (89, 0))), (2, ((12, 8), (25, 41), (0, 79)))):
        size, shape = case.images[image - 1].shape[:2], case.convs[image - 1].shape[:2]
        for point in points:
            hover(page, image, *point)
            y, x = image_ops.cell_of(point, size, shape)
            match, found = point_similarity(pairwise, y, x, image), shown(page)
            assert_same_map(found[f"match{3 - image}"], match)
            assert found[f"match{image}"] is None
            assert_allclose(found["point"]["value"], match.sum(), rtol=1e-4)
            assert_allclose(found["point"]["share"], match.sum() / pairwise.sum(), rtol=1e-4)
    assert "Pixel 0, 79 of image 2 adds " in page.locator("#place").inner_text()
    page.mouse.move(1, 1)
    settle(page)
    assert shown(page)["point"] is None


@pytest.mark.parametrize("explain", CHOICES)
def test_regions_and_their_cover_up_are_those_of_the_method(case, visit, explain):
    page = visit(case)
    choose(page, "explain", explain)
    one, two = (7, 5, 60, 31), (9, 30, 43, 78)
    whole = case.expected(explain)[0].sum()
    for image, box, boxes in ((1, one, (one, None)), (2, two, (one, two))):
        drag(page, image, box)
        assert_shows(page, case.expected(explain, boxes))
        assert_allclose(shown(page)["whole_similarity"], whole, rtol=1e-4)
        assert f"whole images: {whole:.4f}" in page.locator("#meaning").inner_text()
        page.locator("#cover").click()
        settle(page)
        assert_shows(page, case.expected(explain, boxes, cover=True))
        assert "estimated similarity with" in page.locator("#meaning").inner_text()
        page.locator("#cover").click()
        settle(page)
    pairwise = case.expected(explain, (one, two), compute=compute_pairwise_similarity)
    hover(page, 2, 25, 60)
    match = point_similarity(pairwise, *image_ops.cell_of((25, 60), (80, 50), (5, 2)), image=2)
    assert_same_map(shown(page)["match1"], match)


@pytest.mark.parametrize("explain", CHOICES)
def test_cells_that_a_box_only_touches_take_no_part(rng, visit, explain):
    image, convs = np.zeros((50, 50, 3), np.uint8), sparse_activations(rng, 2, 5, 5, 8)
    case = Case((image, image), tuple(convs), (rng.standard_normal((8, 3)), np.ones(3)))
    page = visit(case)
    choose(page, "explain", explain)
    box = (30, 10, 50, 40)  # 30 / 50 is not 3 times 1 / 5 in floating point
    drag(page, 1, box)
    assert_shows(page, case.expected(explain, (box, None)))
    assert np.count_nonzero(shown(page)["similarity1"].any(axis=0)) == 2
    page.locator("#cover").click()
    settle(page)
    assert_shows(page, case.expected(explain, (box, None), cover=True))


def test_a_page_may_begin_with_regions(case, visit):
    boxes = (10.0, 5.0, 62.5, 40.0), None
    page = visit(case, {"regions": boxes})
    assert_shows(page, case.expected("average", boxes))
    page.keyboard.press("Escape")
    settle(page)
    assert_shows(page, case.expected("average"))


@pytest.mark.parametrize("explain", ["average", "max", "gem"])
def test_a_page_may_begin_with_masks_and_a_point(case, rng, visit, explain):
    mask = np.zeros((60, 90), np.uint8)
    mask[10:50, 20:47] = 255
    mask[5:20, 60:80] = 128
    case.pooling = explain
    page = visit(case, {"regions": (mask, None), "points": (None, (25, 41))})
    choose(page, "explain", explain)
    weights = image_ops.region_weights(mask, (60, 90), (3, 4))
    maps = compute_spatial_similarity(*case.convs, explain, region1=weights)
    assert_shows(page, maps)
    found = shown(page)
    assert found["region1"] == "mask" and found["point"]["pinned"]
    pairwise = compute_pairwise_similarity(*case.convs, explain, region1=weights)
    match = point_similarity(pairwise, *image_ops.cell_of((25, 41), (80, 50), (5, 2)), image=2)
    assert_same_map(found["match1"], match)
    page.locator("#cover").click()
    settle(page)
    covered = compute_spatial_similarity(*case.convs, explain, region1=1 - weights)
    assert_shows(page, covered)
    page.keyboard.press("Escape")
    settle(page)
    assert_shows(page, case.expected(explain))


def test_a_mask_is_outlined_and_covered(flat, visit):
    mask = np.zeros((400, 480), bool)
    mask[100:200, 100:300] = mask[200:300, 100:150] = True
    page = visit(flat, {"regions": (mask, None)})
    outlined = overlays(saved_picture(page))[0]
    assert (outlined[[98, 150, 250], [200, 301, 151]] == 255).all()
    assert (outlined[[96, 150, 250], [200, 303, 153]] == 0).all()
    assert len(np.unique(outlined[110:190, 110:290])) > 2
    page.locator("#cover").click()
    settle(page)
    covered = overlays(saved_picture(page))[0]
    assert (covered[110:190, 110:290] == 128).all() and (covered[210:290, 110:140] == 128).all()
    assert not (covered[250, 200] == 128).all()


def test_a_region_within_one_cell(case, visit):
    page = visit(case)
    drag(page, 1, (30, 25, 41, 33))
    assert_shows(page, case.expected("average", ((30, 25, 41, 33), None)))
    assert np.count_nonzero(shown(page)["similarity1"]) == 1


@pytest.mark.parametrize("pooling", ["max", "gem"])
def test_the_head_follows_the_networks_own_pooling(case, visit, pooling):
    case.pooling = pooling
    page = visit(case, write={"explain": "head"})
    assert shown(page)["settings"]["explain"] == "head"
    assert_shows(page, case.expected("head"))
    drag(page, 2, (9, 30, 43, 78))
    assert_shows(page, case.expected("head", (None, (9, 30, 43, 78))))


def test_the_power_of_gem_can_be_chosen(case, visit):
    page = visit(case, write={"power": 2.5})
    assert not page.locator("#power").is_visible()
    choose(page, "explain", "gem")
    assert_shows(page, compute_spatial_similarity(*case.convs, "gem", power=2.5))
    page.locator("#power").fill("7")
    settle(page)
    assert_shows(page, compute_spatial_similarity(*case.convs, "gem", power=7))


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


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_activations_of_any_size(case, visit, scale):
    case.convs = tuple(np.float64(conv) * scale for conv in case.convs)
    case.projection = case.projection[0], case.projection[1] * scale
    page = visit(case)
    for explain in CHOICES:
        choose(page, "explain", explain)
        assert_shows(page, case.expected(explain))


def test_without_a_head_there_is_no_such_choice(case, visit):
    case.projection = None
    assert not visit(case).locator("input[value=head]").is_visible()


def test_images_of_one_pixel_and_maps_of_one_cell(visit):
    image = np.full((1, 1, 3), 80, np.uint8)
    case = Case((image, image), (np.ones((1, 1, 3)), np.ones((1, 1, 3))))
    page = visit(case)
    hover(page, 1, 0, 0)
    drag(page, 2, (0, 0, 1, 1))
    assert_shows(page, (np.ones((1, 1)), np.ones((1, 1))))
    page.locator("#cover").click()
    settle(page)
    assert page.locator("#similarity").inner_text() == "≈ –"
    assert "nothing is left" in page.locator("#meaning").inner_text()
    assert shown(page)["similarity"] is None
    page.keyboard.press("Escape")
    settle(page)
    assert shown(page)["similarity"] == pytest.approx(1)


def test_large_images_are_shrunk_and_keep_their_coordinates(case, rng, visit):
    coarse = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    case.images = np.array(coarse.resize((1300, 900))), case.images[1]
    page = visit(case)
    sizes = page.locator(".size").all_inner_texts()
    assert sizes == ["1300 × 900, shown at 640 × 443", "50 × 80"]
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


def assert_looks(page, case, maps, ranges=(None, None), **looks):
    found = overlays(saved_picture(page))
    for image, similarity, value_range, overlay in zip(
        case.images, maps, ranges, found, strict=True
    ):
        expected = image_ops.combine_image_and_heatmap(
            image, similarity, value_range=value_range, **looks
        )
        difference = np.abs(overlay.astype(int) - expected)
        assert difference.max() <= 6 and difference.mean() < 1


@pytest.mark.parametrize("colormap", ["jet", "viridis", "twilight"])
def test_overlays_are_those_of_the_program(flat, visit, colormap):
    page = visit(flat, write={"colormap": colormap, "alpha": 0.7})
    maps = flat.expected("average")
    assert_looks(page, flat, maps, colormap=colormap, alpha=0.7)
    choose(page, "explain", "max")
    assert_looks(page, flat, flat.expected("max"), colormap=colormap, alpha=0.7)
    assert {"jet", "cividis", colormap} <= set(page.locator("#colormap option").all_inner_texts())


def test_colours_opacity_and_range_change_the_picture(flat, visit):
    flat.convs[1][:] *= np.linspace(0, 1, 12).reshape(3, 4, 1)
    page = visit(flat)
    maps = flat.expected("average")
    page.locator("#colormap").select_option("cividis")
    page.locator("#opacity").fill("0.25")
    settle(page)
    assert_looks(page, flat, maps, colormap="cividis", alpha=0.25)
    assert page.locator(".heat").first.evaluate("heat => heat.style.opacity") == "0.25"
    choose(page, "range", "pair")
    both = min(map(np.min, maps)), max(map(np.max, maps))
    assert_looks(page, flat, maps, (both, both), colormap="cividis", alpha=0.25)
    assert_allclose(shown(page)["ranges"], [both, both], rtol=1e-4)
    assert float(page.locator(".high").last.inner_text()) == pytest.approx(both[1], abs=1e-3)


def test_zero_may_be_in_the_middle(flat, rng, visit):
    flat.convs = tuple(rng.standard_normal((2, 3, 4, 12)) + 0.2)
    page = visit(flat)
    maps = flat.expected("average")
    choose(page, "range", "zero")
    reach = max(np.abs(each).max() for each in maps)
    assert_allclose(shown(page)["ranges"], [[-reach, reach]] * 2, rtol=1e-4)
    assert page.locator("#colormap").input_value() == "coolwarm"
    assert_looks(page, flat, maps, [(-reach, reach)] * 2, colormap="coolwarm")
    bar, zero = (page.locator(name).first.bounding_box() for name in (".bar", ".zero"))
    assert zero["x"] + 1 == pytest.approx(bar["x"] + bar["width"] / 2, abs=1)
    choose(page, "range", "each")
    assert page.locator("#colormap").input_value() == "jet"
    assert_allclose(shown(page)["ranges"], [[each.min(), each.max()] for each in maps], rtol=1e-4)


def test_absolute_ranges_are_those_of_the_program(flat, visit):
    page = visit(flat, write={"normalize": "absolute"})
    maps = flat.expected("average")
    assert_looks(page, flat, maps, [(0, 3 / 12)] * 2)
    drag(page, 1, (0, 100, 240, 300))
    assert_allclose(shown(page)["ranges"], [[0, 3 / 3], [0, 3 / 12]])
    hover(page, 2, 100, 100)
    assert_allclose(shown(page)["ranges"][0], [0, 3 / 3 / 12])


def test_cells_are_shown_on_request(flat, visit):
    page = visit(flat, write={"upsample": "none"})
    maps = flat.expected("average")
    ranges = [(each.min(), each.max()) for each in maps]
    assert_looks(page, flat, maps, ranges, method="none")
    assert page.locator("#cells").get_attribute("aria-pressed") == "true"
    page.locator("#cells").click()
    settle(page)
    assert_looks(page, flat, maps, ranges)


@pytest.mark.parametrize("way", ["key", "mouse", "button's key"])
def test_the_plain_images_are_seen_while_something_is_held(flat, visit, way):
    page = visit(flat)
    heat = page.locator(".heat").first

    def visible():
        return heat.evaluate("heat => getComputedStyle(heat).visibility") == "visible"

    button = page.locator("#plain")
    button.focus()
    press, release = {
        "key": (lambda: page.keyboard.down("p"), lambda: page.keyboard.up("p")),
        "mouse": (lambda: (button.hover(), page.mouse.down()), page.mouse.up),
        "button's key": (lambda: page.keyboard.down("Space"), lambda: page.keyboard.up("Space")),
    }[way]
    assert visible()
    press()
    assert not visible()
    release()
    assert visible()


def test_no_place_is_worth_more_than_the_bar_says(rng, visit):
    image = np.zeros((1000, 1500, 3), np.uint8)
    case = Case((image, image), tuple(sparse_activations(rng, 2, 7, 7, 8)))
    page = visit(case)
    values = case.expected("average")[0]
    row, column = np.unravel_index(values.argmax(), values.shape)
    (y, x) = round((row + 0.5) * 1000 / 7 - 0.5), round((column + 0.5) * 1500 / 7 - 0.5)
    hover(page, 1, x, y)
    text = page.locator("#place").inner_text()
    worth = float(re.search(r"adds ([0-9.]+) per cell", text)[1])
    low, high = (float(page.locator(name).first.inner_text()) for name in (".low", ".high"))
    assert low <= worth <= high and worth > 0.98 * high


def test_an_estimate_is_marked_without_moving_the_number(case, visit):
    page = visit(case)
    drag(page, 1, (7, 5, 60, 31))
    before = page.locator("#cosine").bounding_box()
    page.locator("#cover").click()
    settle(page)
    assert page.locator("#similarity").inner_text().startswith("≈ ")
    assert page.locator("#cosine").bounding_box()["x"] == before["x"]
    weights = [
        page.locator(name).evaluate(
            "e => getComputedStyle(e).fontWeight + getComputedStyle(e).fontSize"
        )
        for name in ("#approx", "#cosine")
    ]
    assert weights[0] == weights[1]


def test_a_saved_picture_names_network_and_pooling(flat, visit):
    page = visit(flat, write={"network": "net"})
    feet = []
    for explain, words in (("average", "net, average pooling"), ("max", "net, maximum pooling")):
        choose(page, "explain", explain)
        feet.append(saved_picture(page)[-50:])
        assert page.evaluate("networkWords()") == words
    assert all((foot < 200).any() for foot in feet) and (feet[0] != feet[1]).any()


def test_a_flat_map_gets_the_colormaps_middle(flat, visit):
    flat.convs = np.ones((2, 2, 4)), np.ones((3, 3, 4))
    page = visit(flat)
    assert_looks(page, flat, flat.expected("average"))


def test_what_is_on_the_screen_is_what_is_saved(flat, visit):
    page = visit(flat, viewport={"width": 1600, "height": 1000})
    hover(page, 1, 100, 100)
    page.mouse.click(*at(page, 1, 100.5, 100.5))
    found = overlays(saved_picture(page))[1]
    screen = Image.open(io.BytesIO(page.locator(".stage").last.screenshot())).convert("RGB")
    screen = np.asarray(screen.resize((480, 400)), int)
    assert np.abs(screen - found)[20:-20, 20:-20].max() <= 8
    expected = image_ops.combine_image_and_heatmap(flat.images[1], shown(page)["match2"])
    assert np.abs(expected.astype(int) - found).max() <= 6


# --- saving ---------------------------------------------------------------------------------------


def test_saved_numbers_are_those_shown(case, visit):
    page = visit(case, write={"names": ("a.png", "b.png"), "network": "net"})
    drag(page, 1, (7, 5, 60, 31))
    page.mouse.click(*at(page, 2, 25.5, 41.5))
    settle(page)
    with page.expect_download() as download:
        page.locator("#saveNumbers").click()
    assert download.value.suggested_filename == "similarity.json"
    with open(download.value.path(), encoding="utf-8") as file:
        saved = json.load(file)
    assert saved == page.evaluate("({...explorer.state(), ...explorer.maps()})")
    maps = case.expected("average", ((7, 5, 60, 31), None))
    assert_same_map(np.array(saved["similarity2"]), maps[1])
    assert saved["region1"] == [7, 5, 60, 31] and saved["region2"] is None
    assert saved["point"]["pinned"] and saved["point"]["x"] == 25 and saved["match2"] is None
    assert saved["network"] == "net" and saved["settings"]["explain"] == "average"
    assert [image["name"] for image in saved["images"]] == ["a.png", "b.png"]


def test_saved_pictures_show_regions_points_and_covers(flat, visit):
    page = visit(flat)
    plain = overlays(saved_picture(page))[0]
    drag(page, 1, (100, 100, 200, 180))
    page.locator("#cover").click()
    settle(page)
    page.mouse.click(*at(page, 1, 400, 300))
    settle(page)
    marked = overlays(saved_picture(page))[0]
    assert (marked[110:170, 110:190] == 128).all()
    assert (marked[100, 150] == 255).all() and (marked[300, 408] == 255).all()
    assert not (plain[100, 150] == 255).all()


# --- hands ----------------------------------------------------------------------------------------


def test_a_click_pins_and_the_next_one_lets_go(case, visit):
    page = visit(case)
    page.mouse.click(*at(page, 1, 40.5, 20.5))
    settle(page)
    pinned = shown(page)["match2"]
    for image in (1, 2):
        page.mouse.move(*at(page, image, 10, 10))
        settle(page)
        assert shown(page)["point"]["x"] == 40
        assert_allclose(shown(page)["match2"], pinned)
    page.mouse.click(*at(page, 2, 10.5, 30.5))  # elsewhere, the pin moves
    settle(page)
    assert (shown(page)["point"]["image"], shown(page)["point"]["pinned"]) == (2, True)
    page.mouse.click(*at(page, 2, 10.5, 30.5))
    settle(page)
    assert not shown(page)["point"]["pinned"]
    for _ in range(7):
        page.mouse.click(*at(page, 1, 50.5, 50.5), delay=0)
    settle(page)
    assert shown(page)["point"]["pinned"]


def test_careless_drags(case, visit):
    page = visit(case, viewport={"width": 1280, "height": 900})
    x, y = at(page, 1, 45.5, 30.5)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 2, y + 2)
    page.mouse.up()  # a trembling hand clicks
    settle(page)
    assert shown(page)["region1"] is None and shown(page)["point"]["pinned"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 3000, y - 3000, steps=3)
    page.mouse.up()  # beyond the corner, the box ends there
    settle(page)
    assert shown(page)["region1"] == [45, 0, 90, 31] and shown(page)["point"] is None
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 30, y - 30)
    page.set_viewport_size({"width": 700, "height": 900})
    page.mouse.move(*at(page, 1, 10.3, 8.7))
    page.mouse.up()  # it began at a pixel, wherever that is by now
    settle(page)
    assert shown(page)["region1"] == [10, 8, 46, 31]
    page.mouse.move(*at(page, 1, 50, 50))
    page.mouse.down()
    page.mouse.move(*at(page, 1, 70, 55))
    page.keyboard.press("Escape")
    page.mouse.move(*at(page, 1, 80, 55))
    page.mouse.up()
    settle(page)
    assert shown(page)["region1"] is None
    page.mouse.click(*at(page, 2, 10, 10), button="right")
    settle(page)
    assert not (shown(page)["point"] or {}).get("pinned")


def test_a_resting_hand_leaves_the_regions_maps_on_show(case, visit):
    page = visit(case)
    drag(page, 1, (10, 10, 60, 40))
    x, y = at(page, 1, 59.7, 39.7)
    page.mouse.move(x + 3, y + 3)
    settle(page)
    assert shown(page)["match2"] is None
    page.mouse.move(x - 60, y - 60)
    settle(page)
    assert shown(page)["match2"] is not None


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class Finger:
    """One finger on a touch screen."""

    def __init__(self, page):
        self.page, self.session = page, page.context.new_cdp_session(page)

    def touch(self, kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def drag(self, start, end, rest=0):
        self.touch("touchStart", start)
        self.page.wait_for_timeout(rest)
        for share in (0.25, 0.5, 0.75, 1):
            at = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
            self.touch("touchMove", at)
            self.page.wait_for_timeout(20)
        self.touch("touchEnd")
        settle(self.page)


def test_a_tap_points_and_a_swipe_scrolls(case, visit):
    page = visit(case, **PHONE)
    page.touchscreen.tap(*at(page, 1, 40.5, 20.5))
    settle(page)
    assert shown(page)["point"]["pinned"] and shown(page)["match2"] is not None
    page.evaluate("scrollTo(0, 0)")
    settle(page)
    x, y = at(page, 2, 25, 70)
    Finger(page).drag((x, y), (x + 3, y - 300))
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") > 100
    found = shown(page)
    assert found["region1"] is found["region2"] is None
    assert (found["point"]["image"], found["point"]["x"], found["point"]["pinned"]) == (1, 40, True)


def test_a_long_press_or_a_button_begins_a_region(case, visit):
    page = visit(case, **PHONE)
    finger = Finger(page)
    start, end = at(page, 2, 5.3, 10.3), at(page, 2, 29.7, 59.7)
    finger.drag(start, end, rest=600)
    assert shown(page)["region2"] == [5, 10, 30, 60] and shown(page)["point"] is None
    assert page.evaluate("scrollY") == 0
    page.locator("#clear").tap()
    page.locator("#mark").tap()
    assert page.locator("#mark").get_attribute("aria-pressed") == "true"
    page.evaluate("scrollTo(0, 0)")
    finger.drag(at(page, 1, 10.3, 40.7), at(page, 1, 59.7, 10.3))
    assert shown(page)["region1"] == [10, 10, 60, 41]
    assert page.locator("#mark").get_attribute("aria-pressed") == "false"


def test_a_resting_finger_shows_the_match_in_the_other_image(case, visit):
    page = visit(case, **PHONE)
    finger = Finger(page)
    finger.touch("touchStart", at(page, 1, 40.5, 20.5))
    page.wait_for_timeout(600)
    settle(page)
    found = shown(page)
    assert found["match2"] is not None and not found["point"]["pinned"]
    whole = """document.querySelectorAll(".stage").forEach((stage) => {
        const { top, bottom } = stage.getBoundingClientRect();
        if (top < 0 || bottom > innerHeight) throw Error(`${top} ${bottom}`);
    })"""
    page.evaluate(whole)  # both images are on the screen
    finger.touch("touchEnd")
    settle(page)
    assert shown(page)["point"]["pinned"]


@pytest.mark.parametrize("width, height", [(390, 844), (375, 667), (768, 1024), (1600, 1000)])
@pytest.mark.parametrize(
    "sizes", [((480, 720), (480, 720)), ((800, 400), (400, 800)), ((900, 50),) * 2]
)
def test_images_and_their_words_have_their_places(rng, visit, sizes, width, height):
    images = tuple(np.full((*size, 3), 90, np.uint8) for size in sizes)
    case = Case(images, tuple(sparse_activations(rng, 2, 7, 7, 8) * 1e-3))
    page = visit(case, viewport={"width": width, "height": height})

    def boxes(selector):
        return [each.bounding_box() for each in page.locator(selector).all()]

    captions, stages, lows, highs = map(boxes, ("figcaption", ".stage", ".low", ".high"))
    for caption, stage, low, high in zip(captions, stages, lows, highs, strict=True):
        assert abs(caption["x"] - stage["x"]) < 2 and caption["y"] < stage["y"]
        assert low["x"] + low["width"] < high["x"]  # numbers do not collide
        assert stage["y"] >= 0 and stage["y"] + stage["height"] <= height, (stages, height)
    if width > 704:
        assert stages[0]["y"] == stages[1]["y"]  # aligned at the top
    for what, low, high in zip(boxes(".what"), lows, highs, strict=True):
        for number in (low, high):
            beside = (
                what["x"] >= number["x"] + number["width"]
                or number["x"] >= what["x"] + what["width"]
            )
            below = what["y"] >= number["y"] + number["height"]
            assert beside or below
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_does_it_all(case, visit):
    page = visit(case)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Image 1: image 1"
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    settle(page)
    point = shown(page)["point"]
    assert (point["x"], point["y"], point["pinned"]) == (45 + 11, 0, True)
    pairwise = case.expected("average", compute=compute_pairwise_similarity)
    match = point_similarity(pairwise, *image_ops.cell_of((56, 0), (60, 90), (3, 4)))
    assert_same_map(shown(page)["match2"], match)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Image 2: image 2"
    assert shown(page)["point"]["image"] == 1  # pinned
    for key in ("ArrowLeft", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    settle(page)
    assert shown(page)["region2"] == [12, 40, 39, 49]
    assert_shows(page, case.expected("average", (None, (12, 40, 39, 49))))
    page.keyboard.press("Shift+ArrowLeft")
    settle(page)
    assert shown(page)["region2"] == [12, 40, 26, 49]
    page.locator("#cover").focus()
    page.keyboard.press("Space")
    settle(page)
    assert shown(page)["estimate"]
    page.keyboard.press("Escape")
    settle(page)
    found = shown(page)
    assert found["point"] is found["region2"] is None and not found["estimate"]


def test_changes_are_told_and_hovering_is_not(case, visit):
    page = visit(case)
    live = page.locator("#live")
    assert live.get_attribute("role") == "status"
    hover(page, 1, 40, 20)
    page.wait_for_timeout(700)
    assert live.inner_text() == ""
    drag(page, 1, (10, 10, 60, 40))
    page.wait_for_timeout(700)
    assert "similarity of image 1’s region to image 2" in live.inner_text()
    assert f"{shown(page)['similarity']:.4f}" in live.inner_text()


# --- the page itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>.png",
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "{{data}} {{policy}} & &amp; \u2028 \\ ' \".png",
        "undecodable \udcff.png",
        "n" * 250,
    ],
)
def test_names_are_text(case, visit, name):
    page = visit(
        case, write={"names": (name, name), "network": name}, viewport={"width": 375, "height": 800}
    )
    shown_name = name.encode(errors="replace").decode().replace("?", "\ufffd")
    for text in page.locator(".name").all_text_contents():
        assert text.encode(errors="replace").decode().replace("?", "\ufffd") == shown_name
    assert page.locator("script").count() == 2 and page.locator("img").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    saved_picture(page)


def test_a_pair_of_photographs_is_under_a_megabyte(rng, tmp_path):
    paths = [ROOT / "example_images" / path.name for path in EXAMPLE_PAIR]
    images = [image_ops.resize(image_ops.load_image(path), (427, 640)) for path in paths]
    convs = sparse_activations(rng, 2, 7, 7, 2048)
    head = rng.standard_normal((2048, 128)), rng.standard_normal(128)
    path = tmp_path / "explorer.html"
    write_explorer(path, *images, *convs, projection=head)
    assert path.stat().st_size < 1e6


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_everyone_can_use_it(case, visit, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(case, viewport={"width": width, "height": 900}, color_scheme=scheme)

    def assert_fine():
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page).response["violations"]
        assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == []

    assert_fine()
    page.locator("summary").click()
    choose(page, "explain", "gem")
    drag(page, 1, (10, 10, 60, 40))
    page.locator("#cover").click()
    page.mouse.click(*at(page, 2, 10.5, 30.5))
    settle(page)
    assert_fine()


def test_only_the_pages_own_script_may_run(case, visit):
    page = visit(case)
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.text = "window.ran = true";
        document.body.append(script);
    }""")
    assert page.evaluate("window.ran") is None
    (complaint,) = visit.complaints
    assert "Content Security Policy" in complaint
    visit.complaints.clear()


def test_the_benchmark_measures(case, chromium, tmp_path):
    from benchmarks.explorer import hover_times, opening_times

    path = case.write(tmp_path / "explorer.html")
    assert min(opening_times(chromium, path, repeats=1)) > 0
    page = browsing.open_page(chromium, path)
    times = hover_times(page, repeats=5)
    assert len(times) == 5 and min(times) > 0
    assert page.evaluate("explorer.state().point.image") == 1
    page.close()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"explain": "output"}, "explain: expected pooled or head, got 'output'"),
        ({"explain": "head"}, "explain: head needs a projection"),
        ({"normalize": "none"}, "normalize: expected each or pair or zero or absolute"),
        ({"regions": (np.zeros((4, 4)), None)}, "region: the mask is empty"),
        ({"points": (None, (4, 0))}, "point: 4,0 is outside"),
        ({"pooling": "mean"}, "pooling: expected one of average, max, gem, got 'mean'"),
        ({"power": 0.5}, "power: expected a real number >= 1, got 0.5"),
        ({"alpha": 1.5}, "alpha: expected a number in 0..1, got 1.5"),
        ({"colormap": "jett"}, "colormap: 'jett'"),
        ({"image1": np.zeros((4, 4))}, "image: expected an RGB uint8"),
        ({"conv2": np.ones((2, 2, 5))}, "conv1 and conv2: expected the same number of channels"),
        ({"conv1": np.full((2, 2, 3), np.nan)}, "conv1: expected finite values"),
        ({"projection": (np.ones((4, 2)), None)}, r"projection kernel: expected shape \(3, D\)"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, options, message):
    image, conv = np.zeros((4, 4, 3), np.uint8), np.ones((2, 2, 3))
    arguments = {"image1": image, "image2": image, "conv1": conv, "conv2": conv, **options}
    with pytest.raises(ValueError, match=message):
        write_explorer(tmp_path / "explorer.html", **arguments)
    assert list(tmp_path.iterdir()) == []
