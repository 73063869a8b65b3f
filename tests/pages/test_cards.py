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
from conftest import settle
from numpy.testing import assert_allclose
from PIL import Image

from benchmarks import browser as browsing
from similarity_ops import compute_spatial_similarity
from simvis import image_ops
from simvis.pages.cards import Card, write_cards

BLUE, RED = (30, 60, 200), (200, 40, 30)
CALM = {"reduced_motion": "reduce"}  # nothing fades, so that a test need not wait
PHONE = {"viewport": {"width": 375, "height": 800}, **CALM}
HOSTILE = "<img src=x onerror=alert(1)></script><!--<script>{{data}} &amp; \u2028\\ '\" \udcff "


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


@pytest.fixture(scope="module")
def tab(chromium):
    """A page that serves all tests that want nothing special of it, for pages take long to make."""
    return chromium.new_page(**CALM)


@pytest.fixture
def visit(chromium, tab, tmp_path):
    """Return a function that opens a page of cards, which must not complain."""
    complaints, requests = [], []
    with contextlib.ExitStack() as contexts:

        def visit(cards, folder=None, query=None, **options):
            write_cards(
                tmp_path / "cards.html", cards, title="Similar?", words="a network", query=query
            )
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
            page.goto(f"{folder or tmp_path.as_uri()}/cards.html")
            return page

        visit.complaints, visit.requests = complaints, requests
        yield visit
    assert complaints == []


def asked_for(visit):
    """Return what was requested, besides what the page itself holds."""
    return [url for url in visit.requests if url.split(":")[0] not in ("data", "about", "blob")]


def names(page):
    return page.locator("#cards .name").all_text_contents()


def focused(page):
    return page.evaluate(
        "document.activeElement.closest('.card')?.querySelector('.name').innerText"
    )


def explorer_in(page, name):
    """Return the frame of the explorer that was opened, once it is ready."""
    assert page.locator("#opened .opened").inner_text() == name
    frame = ready_frame(page)
    assert frame.locator(".name").all_inner_texts() == ["query", name]
    return frame


def ready_frame(page):
    cosine = page.frame_locator("iframe").locator("#cosine")
    cosine.filter(has_text=re.compile("[0-9]")).wait_for(timeout=9000)
    return page.locator("iframe").element_handle().content_frame()


def color_of(page, card):
    """Return the colour of a card's image at its lower right corner, on the screen."""
    settle(page)
    box = card.locator(".picture").bounding_box()
    corner = {"x": box["x"] + box["width"] - 12, "y": box["y"] + box["height"] - 12}
    shot = page.screenshot(clip={**corner, "width": 2, "height": 2})
    color = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), int)[0, 0]
    return next(
        name for name, of in {"plain": BLUE, "overlay": RED}.items() if abs(color - of).max() < 15
    )


# --- cards ----------------------------------------------------------------------------------------


def test_cards_stand_best_first_and_can_be_ordered(hits, visit):
    page = visit(hits, query=Card("query", None, flat(RED, 80, 120), box=(0, 0, 30, 40)))
    assert names(page) == ["b10.png", "b9.png", "gone.png", "a.png", "failed.png"]
    heads = page.locator("#cards .head").all_inner_texts()
    assert [head.split() for head in heads] == [
        ["1", "0.9000"],
        ["2", "0.7500"],
        ["3", "0.1000"],
        ["4", "−0.5000"],
    ]
    assert page.locator(".card").nth(1).locator(".note").all_inner_texts() == ["changed", "since"]
    for order, expected in (
        ("worst", ["a.png", "gone.png", "b9.png", "b10.png", "failed.png"]),
        ("name", ["a.png", "b9.png", "b10.png", "failed.png", "gone.png"]),
        ("best", ["b10.png", "b9.png", "gone.png", "a.png", "failed.png"]),
    ):
        page.locator(f"input[value={order}]").check()
        assert names(page) == expected
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
    assert len(asked_for(visit)) == 1


def test_the_overlay_is_seen_under_the_pointer_by_focus_and_for_all(hits, visit):
    page = visit(hits)
    first, second = (page.locator(".card").nth(i) for i in (0, 1))
    assert color_of(page, first) == "plain"
    first.locator("button").hover()
    assert (color_of(page, first), color_of(page, second)) == ("overlay", "plain")
    page.mouse.move(0, 0)
    page.locator("#overlays").focus()
    page.keyboard.press("Tab")
    assert (color_of(page, first), color_of(page, second)) == ("overlay", "plain")
    page.locator("#overlays").click()
    assert (color_of(page, first), color_of(page, second)) == ("overlay", "overlay")


def test_the_overlay_is_seen_as_long_as_a_finger_rests(hits, visit):
    page = visit(hits, has_touch=True, is_mobile=True, **PHONE)
    second = page.locator(".card").nth(1)
    touch = page.context.new_cdp_session(page)
    box = second.locator("button").bounding_box()
    at = {"x": box["x"] + 50, "y": box["y"] + 50}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    page.wait_for_timeout(450)
    assert color_of(page, second) == "overlay"
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(50)
    assert color_of(page, second) == "plain"
    assert not page.locator("dialog").is_visible()  # a finger that rested did not click
    second.locator("button").tap()
    assert page.locator("dialog").is_visible()


def test_a_card_that_opens_nothing_keeps_its_overlay_on_a_click(visit):
    page = visit([Card("a.png", 0.5, flat(BLUE), flat(RED))])
    card = page.locator(".card")
    for expected in ("overlay", "plain"):
        card.locator("button").click()
        page.mouse.move(0, 0)
        page.locator("#overlays").focus()
        assert color_of(page, card) == expected
    assert not page.locator("dialog").is_visible()


# --- what a card opens ----------------------------------------------------------------------------


def test_cards_open_the_explorers_of_their_pairs(hits, visit, tmp_path):
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
        assert float(frame.locator("#cosine").inner_text().replace("−", "-")) == pytest.approx(
            maps[0].sum(), abs=1e-4
        )
        page.keyboard.press("ArrowRight")
    for name in ("b10.png", "a.png"):
        page.locator("#previous").click()
        explorer_in(page, name)
    page.locator("#close").click()
    assert page.locator("iframe").count() == 0 and focused(page) == "a.png"
    assert len(asked_for(visit)) == 1
    # what all pairs share is there once
    text = (tmp_path / "cards.html").read_text()
    assert text.count("GeM pooling of power") == text.count('"image1":') == 1


def test_the_keyboard_does_it_all(hits, visit):
    page = visit(hits, viewport={"width": 1280, "height": 800})
    page.locator("#overlays").focus()
    page.keyboard.press("Tab")
    assert focused(page) == "b10.png"
    for key, name in (("ArrowRight", "b9.png"), ("ArrowRight", "a.png"), ("ArrowRight", "a.png")):
        page.keyboard.press(key)
        assert focused(page) == name
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    frame = explorer_in(page, "b10.png")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible() and focused(page) == "b10.png"
    # within the explorer Escape clears the region first
    page.keyboard.press("Space")
    frame = explorer_in(page, "b10.png")
    frame.locator(".stage").first.focus()
    page.keyboard.press("Escape")
    assert not frame.evaluate("explorer.state().region1") and page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


# --- pictures beside the page ---------------------------------------------------------------------


PICTURES = ["00001_a_b.jpg", "x#? %25'\".jpg", "über \udcff<b>.jpg"]


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_pictures_lie_beside_the_page(visit, tmp_path, scheme):
    for name in PICTURES:
        Image.new("RGB", (120, 40), BLUE).save(tmp_path / name, "JPEG")
    cards = [Card(f"pair {i}", 1 - i / 10, picture=name) for i, name in enumerate(PICTURES)]
    cards.append(Card("pair 3", 0.1, picture="gone.jpg"))
    if scheme == "http":
        cards = cards[:2]  # Python's server does not know what is no text
    with serve(tmp_path) if scheme == "http" else contextlib.nullcontext() as address:
        page = visit(cards, address)
        if scheme == "file":
            page.get_by_text("the picture is gone").wait_for()
            assert "ERR_FILE_NOT_FOUND" in visit.complaints.pop()
        browsing.wait_until(page, "[...document.images].every((image) => image.complete)")
        widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert widths == [120] * len(cards[:3])
        assert page.locator(".card .picture").first.bounding_box()["height"] > 50
        page.locator("#cards button").first.click()
        page.keyboard.press("ArrowRight")
        assert page.locator("#opened .opened").inner_text() == "pair 1"
        (source,) = page.locator("#stage img").evaluate_all("images => images.map((i) => i.src)")
        assert source.endswith("x%23%3F%20%2525%27%22.jpg")
    assert len(asked_for(visit)) == 1 + len(cards)


@contextlib.contextmanager
def serve(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=os.fspath(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_of_thousands_of_pictures_only_those_in_sight_are_loaded(visit, tmp_path):
    Image.new("RGB", (120, 40), BLUE).save(tmp_path / "a.jpg")
    pictures = ["a.jpg"] + [f"{i}.jpg" for i in range(1999)]
    for picture in pictures[1:]:
        (tmp_path / picture).hardlink_to(tmp_path / "a.jpg")
    page = visit([Card(f"{i}", 1 - i / 2000, picture=name) for i, name in enumerate(pictures)])
    browsing.wait_until(page, "document.images[0].complete")
    assert len(names(page)) == 2000 and 1 < len(asked_for(visit)) < 200
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    browsing.wait_until(page, "[...document.images].at(-1).complete")
    assert len(asked_for(visit)) < 400


# --- strangers ------------------------------------------------------------------------------------


def test_words_are_text(hits, visit):
    name = HOSTILE + "n" * 200
    pair = {**hits[0].pair, "names": (name, name), "network": name}
    hits = [hits[0]._replace(name=name, notes=(name,), pair=pair), *hits[1:]]
    page = visit(hits, query=Card(name, None, flat(RED), notes=(name,)), **PHONE)

    def assert_text(*found):
        for text in found:
            assert text.replace("\ud800", "\ufffd") == name.replace("\udcff", "\ufffd")

    def texts(where, selector):
        # a lone surrogate does not come through to Python
        script = "all => all.map((each) => each.textContent.replace(/\\udcff/g, '\\ufffd'))"
        return where.locator(selector).evaluate_all(script)

    assert_text(texts(page, ".name")[0], texts(page, ".note")[0], texts(page, "#cards .name")[0])
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.locator("#cards button").first.click()
    frame = ready_frame(page)
    assert_text(*texts(page, "#opened .opened"), *texts(frame, ".name"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("script").count() == frame.locator("script").count() == 2


def test_nothing_runs_and_nothing_is_loaded_but_what_the_page_holds(hits, visit):
    page = visit(hits)
    page.locator("#cards button").first.click()
    frame = explorer_in(page, "b10.png")
    for place in (page, frame):
        policy = place.locator("meta[http-equiv]").get_attribute("content")
        assert "default-src 'none'" in policy and "unsafe" not in policy and "self" not in policy
        place.evaluate("""() => {
            const script = document.createElement("script"), img = new Image();
            script.text = "window.ran = true";
            document.body.append(script);
            img.src = "http://127.0.0.1:9/outside.png";
            document.body.append(img);
            return new Promise((done) => img.onerror = done);
        }""")
        assert place.evaluate("window.ran") is None
    for what in ("inline script", "Loading the image"):
        assert sum(what in complaint for complaint in visit.complaints) >= 2
    assert all("Content Security Policy" in complaint for complaint in visit.complaints)
    visit.complaints.clear()


# --- eyes and hands of all kinds ------------------------------------------------------------------


def test_everyone_can_use_it(hits, visit):
    from axe_playwright_python.sync_playwright import Axe

    shapes = (30, 900), (900, 30), (1, 1)
    hits += [Card("n" * 99, 0, flat(BLUE, *shape), flat(RED, *shape)) for shape in shapes]
    page = visit(hits, query=Card("query", None, flat(RED), box=(0, 0, 30, 40)), **PHONE)

    def assert_fine():
        for width in (375, 1600):
            page.set_viewport_size({"width": width, "height": 800})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                # the explorer in the frame has a test of its own
                found = Axe().run(page, options={"iframes": False}).response["violations"]
                assert [rule["id"] for rule in found] == [], (width, scheme)

    assert_fine()
    page.locator("#overlays").click()
    page.locator("#cards button").first.click()
    explorer_in(page, "b10.png")
    assert_fine()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"image": np.zeros((4, 4))}, "image: expected an RGB uint8"),
        ({"overlay": np.zeros((4, 4))}, "image: expected an RGB uint8"),
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
