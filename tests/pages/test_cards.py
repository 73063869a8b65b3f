"""The page of cards, in a real browser: what it shows, opens, and asks for."""

import contextlib
import functools
import http.server
import io
import os
import re
import threading

import numpy as np
import pytest
from conftest import EYES, HOSTILE, Finger, assert_accessible, expect, texts
from numpy.testing import assert_allclose
from PIL import Image

import simvis
from benchmarks.browser import wait_until
from similarity_ops import compute_spatial_similarity
from simvis import image_ops
from simvis.pages.cards import Card, write_cards
from simvis.pages.explorer import write_explorer

BLUE, RED = (30, 60, 200), (200, 40, 30)
PHONE = {"viewport": {"width": 375, "height": 800}}


def flat(color, height=60, width=90):
    return np.full((height, width, 3), color, np.uint8)


@pytest.fixture
def hits(rng):
    """Five cards, three of which open a pair with one query, each in another way."""
    query, projection = flat(BLUE, 80, 120), (rng.standard_normal((24, 6)), np.ones(6))
    convs = np.maximum(rng.standard_normal((4, 3, 4, 24)), 0)
    shared = {"image1": query, "conv1": convs[0], "projection": projection, "pooling": "max"}

    def hit(name, similarity, conv, notes=(), **options):
        pair = {**shared, "image2": flat(BLUE), "conv2": conv, "names": ("query", name), **options}
        return Card(name, similarity, flat(BLUE), flat(RED), (30, 15, 60, 45), notes, pair=pair)

    return [
        hit("b10.png", 0.9, convs[1], ("the query itself",), regions=((0, 0, 30, 40), None)),
        hit("b9.png", 0.75, convs[2], ("changed", "since"), explain="head"),
        Card("gone.png", 0.1, notes=("no such image file",)),
        hit("a.png", -0.5, convs[3]),
        Card("failed.png", None, notes=("not an image",)),
    ]


@pytest.fixture
def visit(go, tmp_path):
    """Return a function that opens a page of cards."""

    def visit(cards, folder=None, query=None, **options):
        words = {"title": "Similar?", "words": "a network", "query": query}
        write_cards(tmp_path / "cards.html", cards, **words)
        return go(f"{folder or tmp_path.as_uri()}/cards.html", **options)

    return visit


def expect_focus(page, name):
    card = "document.activeElement.closest('.card')"
    wait_until(page, f"{card}?.querySelector('.name').innerText === {name!r}")


def explorer_in(page, name):
    """Return the frame of the explorer that was opened, once it is ready."""
    expect(page.locator("#opened .opened")).to_have_text(name)
    inside = page.frame_locator("iframe")
    expect(inside.locator(".name")).to_have_text(["query", name])
    return ready_frame(page)


def ready_frame(page):
    expect(page.frame_locator("iframe").locator("#cosine")).to_have_text(re.compile("[0-9]"))
    return page.locator("iframe").element_handle().content_frame()


def expect_overlays(page, *shown):
    """Wait until the first cards show their overlays, or do not."""
    for card, each in zip(page.locator(".card").all(), shown, strict=False):
        expect(card.locator(".overlay")).to_have_css("opacity", "1" if each else "0")


# --- cards ----------------------------------------------------------------------------------------


def test_cards_stand_best_first_and_can_be_ordered(hits, visit, go):
    page = visit(hits, query=Card("query", None, flat(RED, 80, 120), box=(0, 0, 30, 40)))
    heads = page.locator("#cards .head").all_inner_texts()
    expected = "1 0.9000", "2 0.7500", "3 0.1000", "4 −0.5000"
    assert [head.split() for head in heads] == [head.split() for head in expected]
    assert page.locator(".card").nth(1).locator(".note").all_inner_texts() == ["changed", "since"]
    orders = {
        "best": ["b10.png", "b9.png", "gone.png", "a.png", "failed.png"],
        "worst": ["a.png", "gone.png", "b9.png", "b10.png", "failed.png"],
        "name": ["a.png", "b9.png", "b10.png", "failed.png", "gone.png"],
    }
    for order in ("best", "worst", "name", "best"):
        page.locator(f"input[value={order}]").check()
        expect(page.locator("#cards .name")).to_have_text(orders[order])
    # the boxes are where they should be, of the cards and of the query
    for card, (x0, y0, x1, y1), (height, width) in (
        (page.locator(".card").first, (30, 15, 60, 45), (60, 90)),
        (page.locator("#query"), (0, 0, 30, 40), (80, 120)),
    ):
        image, box = (card.locator(name).bounding_box() for name in (".picture", ".box"))
        scale = image["width"] / width
        assert image["height"] == pytest.approx(height * scale, abs=1)
        found = [box["x"] - image["x"], box["y"] - image["y"], box["width"], box["height"]]
        assert_allclose(found, np.multiply((x0, y0, x1 - x0, y1 - y0), scale), atol=1)
    assert page.title() == "Similar?" and page.locator("#words").inner_text() == "a network"
    assert len(go.asked_for()) == 1


def test_a_line_stands_where_it_is_said_and_ranks_are_their_own(go, tmp_path):
    cards = [Card(f"{rank}.png", 1 - rank / 10, flat(BLUE), rank=rank) for rank in (1, 3, 4)]
    for count, place in ((0, 0), (2, 2), (3, None)):
        write_cards(tmp_path / "cards.html", cards, title="Similar?", line=(count, "not unusual"))
        page = go((tmp_path / "cards.html").as_uri())
        assert texts(page, "#cards .rank") == ["1", "3", "4"]
        shown = texts(page, "#cards > li")
        assert [i for i, text in enumerate(shown) if text == "not unusual"] == (
            [] if place is None else [place]
        )
        page.locator("input[value=worst]").check()
        expect(page.locator(".line")).to_have_count(0)
        page.locator("input[value=best]").check()
        assert texts(page, "#cards > li") == shown
    assert_accessible(page)


def test_groups_are_shown_alone_and_tables_over_them(go, tmp_path):
    cards = [Card(f"{i}.png", None, flat(BLUE), flat(RED), group="ab"[i % 2]) for i in range(5)]
    tables = [("First", ("name", "value"), [("x", "1"), (HOSTILE, "2")]), ("Second", ("n",), [])]
    write_cards(tmp_path / "cards.html", cards, title="Which?", tables=tables)
    page = go((tmp_path / "cards.html").as_uri())
    assert page.locator("#groups label").all_inner_texts() == ["all 5", "a 3", "b 2"]
    for group, count in (("a", 3), ("b", 2), ("", 5)):
        page.locator(f"#groups input[value='{group}']").check()
        expect(page.locator(".card:visible")).to_have_count(count)
    assert texts(page, "details[open] td") == ["x", "1", HOSTILE.replace("\udcff", "\ufffd"), "2"]
    expect(page.locator("#order")).to_be_hidden()


def test_the_overlay_is_seen_under_the_pointer_by_focus_and_for_all(hits, visit):
    page = visit(hits[:2])
    first = page.locator(".card").first
    for expected, color in ((False, BLUE), (True, RED)):
        expect_overlays(page, expected, False)
        shot = np.array(Image.open(io.BytesIO(first.locator(".picture").screenshot())))
        assert_allclose(shot[-9, -9, :3], color, atol=15)  # beyond the box
        first.locator("button").hover()
    expect_overlays(page, True, False)
    page.mouse.move(0, 0)
    expect_overlays(page, False, False)
    page.locator("#overlays").focus()
    page.keyboard.press("Tab")
    expect_overlays(page, True, False)
    page.locator("#overlays").click()
    expect_overlays(page, True, True)


def test_the_overlay_is_seen_as_long_as_a_finger_rests(hits, visit):
    page = visit(hits[:2], has_touch=True, is_mobile=True, **PHONE)
    button = page.locator(".card button").nth(1)
    finger, box = Finger(page), button.bounding_box()
    finger.touch("touchStart", (box["x"] + 50, box["y"] + 50))
    expect_overlays(page, False, True)
    finger.touch("touchEnd")
    expect_overlays(page, False, False)
    expect(page.locator("dialog")).to_be_hidden()  # a finger that rested did not click
    button.tap()
    expect(page.locator("dialog")).to_be_visible()


def test_a_card_that_opens_nothing_keeps_its_overlay_on_a_click(visit):
    page = visit([Card("a.png", 0.5, flat(BLUE), flat(RED))])
    for expected in (True, False):
        page.locator(".card button").click()
        page.mouse.move(0, 0)
        page.locator("#overlays").focus()
        expect_overlays(page, expected)
    expect(page.locator("dialog")).to_be_hidden()


# --- what a card opens ----------------------------------------------------------------------------


def test_cards_open_the_explorers_of_their_pairs(hits, visit, go, tmp_path):
    page = visit(hits)
    opened = [hits[i] for i in (0, 1, 3)]
    page.locator("#cards button").first.click()
    for card in (*opened, opened[0]):  # the next of the last is the first
        frame, pair = explorer_in(page, card.name), card.pair
        weights = {}
        if "regions" in pair:
            weights["region1"] = image_ops.region_weights(pair["regions"][0], (80, 120), (3, 4))
        head = pair["projection"] if pair.get("explain") else None
        maps = compute_spatial_similarity(
            pair["conv1"], pair["conv2"], "max", projection=head, **weights
        )
        found = frame.evaluate("({...explorer.state(), ...explorer.maps()})")
        assert_allclose(found["similarity"], maps[0].sum(), rtol=1e-4)
        for name, expected in zip(("similarity1", "similarity2"), maps, strict=True):
            assert_allclose(found[name], expected, atol=1e-4 * np.ptp(expected))
        page.keyboard.press("ArrowRight")
    for name in ("b10.png", "a.png"):
        page.locator("#previous").click()
        explorer_in(page, name)
    page.locator("#close").click()
    expect(page.locator("iframe")).to_have_count(0)
    expect_focus(page, "a.png")
    assert len(go.asked_for()) == 1
    # what all pairs share is there once
    text = (tmp_path / "cards.html").read_text()
    assert text.count("GeM pooling of power") == text.count('"image1":') == 1


def test_the_keyboard_does_it_all(hits, visit):
    page = visit(hits, viewport={"width": 1280, "height": 800})
    page.locator("#overlays").focus()
    keys = ("Tab", *["ArrowRight"] * 3, *["ArrowLeft"] * 2)
    for key, name in zip(keys, ("b10", "b9", "a", "a", "b9", "b10"), strict=True):
        page.keyboard.press(key)
        expect_focus(page, f"{name}.png")
    page.keyboard.press("Enter")
    explorer_in(page, "b10.png")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect_focus(page, "b10.png")
    # within the explorer Escape clears the region first
    page.keyboard.press("Space")
    frame = explorer_in(page, "b10.png")
    frame.locator(".stage").first.focus()
    page.keyboard.press("Escape")
    wait_until(frame, "!explorer.state().region1")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()


PICTURES = ["00001_a_b.jpg", "x#? %25'\".jpg", "über \udcff<b>.jpg"]


@pytest.mark.parametrize("scheme", ["file", pytest.param("http", marks=pytest.mark.slow)])
def test_pictures_lie_beside_the_page(visit, go, tmp_path, scheme):
    for name in PICTURES:
        Image.new("RGB", (120, 40), BLUE).save(tmp_path / name, "JPEG")
    cards = [Card(f"pair {i}", 1 - i / 10, picture=name) for i, name in enumerate(PICTURES)]
    cards.append(Card("pair 3", 0.1, picture="gone.jpg"))
    if scheme == "http":
        cards = cards[:2]  # Python's server does not know what is no text
    with serve(tmp_path) if scheme == "http" else contextlib.nullcontext(tmp_path.as_uri()) as url:
        page = visit(cards, url)
        if scheme == "file":
            page.get_by_text("the picture is gone").wait_for()
            go.expect_complaints(page, "ERR_FILE_NOT_FOUND")
        wait_until(page, "[...document.images].every((image) => image.complete)")
        widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert widths == [120] * len(cards[:3])
        assert page.locator(".card .picture").first.bounding_box()["height"] > 50
        page.locator("#cards button").first.click()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#opened .opened")).to_have_text("pair 1")
        source = re.compile(re.escape("x%23%3F%20%2525%27%22.jpg") + "$")
        expect(page.locator("#stage img")).to_have_attribute("src", source)
    assert len(go.asked_for()) == 1 + len(cards)


@contextlib.contextmanager
def serve(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_of_thousands_of_pictures_only_those_in_sight_are_loaded(visit, go, tmp_path):
    Image.new("RGB", (120, 40), BLUE).save(tmp_path / "a.jpg")
    pictures = ["a.jpg"] + [f"{i}.jpg" for i in range(1999)]
    for picture in pictures[1:]:
        (tmp_path / picture).hardlink_to(tmp_path / "a.jpg")
    page = visit([Card(f"{i}", 1 - i / 2000, picture=name) for i, name in enumerate(pictures)])
    wait_until(page, "document.images[0].complete")
    assert page.locator(".card").count() == 2000 and 1 < len(go.asked_for()) < 200
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    wait_until(page, "[...document.images].at(-1).complete")
    assert len(go.asked_for()) < 400


def test_words_are_text(hits, visit):
    name = HOSTILE + "n" * 200
    told = name.replace("\udcff", "\ufffd")
    pair = {**hits[0].pair, "names": (name, name), "network": name}
    hits = [hits[0]._replace(name=name, notes=(name,), pair=pair), *hits[1:]]
    page = visit(hits, query=Card(name, None, flat(RED), notes=(name,)), **PHONE)
    for selector in (".name", ".note", "#cards .name"):
        assert texts(page, selector)[0] == told
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.locator("#cards button").first.click()
    frame = ready_frame(page)
    assert [*texts(page, "#opened .opened"), *texts(frame, ".name")] == [told] * 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("script").count() == frame.locator("script").count() == 2


def test_nothing_runs_and_nothing_is_loaded_but_what_a_page_holds(hits, visit, go, tmp_path):
    def intrude(place):
        policy = place.locator("meta[http-equiv]").get_attribute("content")
        assert "default-src 'none'" in policy and "unsafe" not in policy and "self" not in policy
        generator = place.locator("meta[name=generator]").get_attribute("content")
        assert generator == f"simvis {simvis.__version__}"
        place.evaluate("""() => {
            const script = document.createElement("script"), img = new Image();
            script.text = "window.ran = true";
            document.body.append(script);
            img.src = "http://127.0.0.1:9/outside.png";
            document.body.append(img);
            return new Promise((done) => img.onerror = done);
        }""")
        assert place.evaluate("window.ran") is None

    write_explorer(tmp_path / "explorer.html", **hits[0].pair)
    intrude(go((tmp_path / "explorer.html").as_uri()))
    page = visit(hits)
    intrude(page)
    page.locator("#cards button").first.click()
    intrude(explorer_in(page, "b10.png"))
    go.expect_complaints(page, "inline script violates", "Loading the image")


# --- eyes and hands of all kinds ------------------------------------------------------------------


@pytest.mark.parametrize("width, scheme", EYES)
def test_everyone_can_use_it(hits, visit, width, scheme):
    shapes = (30, 900), (900, 30), (1, 1)
    hits += [Card("n" * 99, 0, flat(BLUE, *shape), flat(RED, *shape)) for shape in shapes]
    query = Card("query", None, flat(RED), box=(0, 0, 30, 40))
    viewport = {"width": width, "height": 800}
    page = visit(hits, query=query, viewport=viewport, color_scheme=scheme)
    assert_accessible(page)
    page.locator("#overlays").click()
    page.locator("#cards button").first.click()
    explorer_in(page, "b10.png")
    assert_accessible(page)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"image": np.zeros((4, 4))}, "image: expected an RGB uint8"),
        ({"box": (0, 0, 91, 9)}, "region: .* leaves the image, which is 90 x 60"),
        ({"pair": {"explain": "output"}}, "explain: expected pooled or head"),
    ],
)
def test_bad_cards_write_nothing(hits, tmp_path, options, message):
    options = {"pair": None, **options}
    options["pair"] = options["pair"] and {**hits[0].pair, **options["pair"]}
    with pytest.raises(ValueError, match=message):
        write_cards(tmp_path / "cards.html", [hits[0]._replace(**options)], title="Similar?")
    assert list(tmp_path.iterdir()) == []
