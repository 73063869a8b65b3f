"""The page to search by hand, in a real browser, against the same search in Python."""

import base64
import contextlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import HOSTILE, Finger, assert_accessible, expect
from galleries import write_images
from numpy.testing import assert_allclose
from PIL import Image
from services import served

from benchmarks.browser import wait_until
from simvis import image_ops

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
PHONE = {"viewport": NARROW, "has_touch": True, "is_mobile": True}
EYES = [(1440, "light"), (390, "dark")]
EYES += [pytest.param(*each, marks=pytest.mark.slow) for each in ((1440, "dark"), (390, "light"))]
BOX, OTHER = (60, 40, 180, 150), (200, 160, 300, 220)
SIZE = 320, 240  # of the photograph


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images", 30)


@pytest.fixture
def gallery(gallery, folder):
    gallery.index(folder)
    return gallery


@pytest.fixture
def photo(tmp_path):
    """The file of a photograph that is not in the gallery."""
    coarse = np.random.default_rng(9).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(SIZE, Image.Resampling.NEAREST)
    image.save(tmp_path / "my photo.png")
    return tmp_path / "my photo.png"


@pytest.fixture
def service(gallery):
    with served(gallery) as service:
        yield service


@pytest.fixture
def visit(go, service):
    """Return a function that opens the page, and searches with a photograph if it is given one.

    Nothing but the service may be asked.
    """

    def visit(photo=None, **options):
        page = go(service.address, **{"viewport": WIDE, **options})
        expect(page.locator("#pictures .card")).not_to_have_count(0)
        if photo:
            choose(page, photo)
        return page

    yield visit
    here = f"http://127.0.0.1:{service.port}/"
    assert all(url.startswith((here, "file://")) for url in go.asked_for())


def choose(page, photo):
    page.set_input_files("input[type=file]", photo)
    settled(page)


def settled(page, question=None):
    """Wait until the last question is answered, with all maps; return the hits, (path, text)."""
    if question:
        wait_until(page, f"asked && ((a) => {question})(asked)")
    done = "Number($('cards').dataset.turn) === turn && !document.querySelector('.waiting')"
    wait_until(page, f"asked && !resting && {done}")
    paths = page.locator("#cards .card").evaluate_all("all => all.map((e) => e.dataset.path)")
    return list(zip(paths, page.locator("#cards .similarity").all_text_contents(), strict=True))


def assert_hits(found, wanted):
    assert [path for path, _ in found] == [hit.path for hit in wanted.hits]
    shown = [float(text.replace("−", "-")) for _, text in found]
    assert_allclose(shown, [hit.similarity for hit in wanted.hits], atol=6e-5)


def at(page, x, y):
    """Return where a pixel of the query's picture is on the screen."""
    box = page.locator("[data-query]").bounding_box()
    return box["x"] + x / SIZE[0] * box["width"], box["y"] + y / SIZE[1] * box["height"]


def drag(page, box, let_go=True):
    page.mouse.move(*at(page, box[0] + 0.3, box[1] + 0.3))
    page.mouse.down()
    page.mouse.move(*at(page, box[2] - 0.3, box[3] - 0.3), steps=3)
    if let_go:
        page.mouse.up()


def use(page, tool):
    page.locator(f"input[value={tool}]").check()


# --- what hands do --------------------------------------------------------------------------------


def test_a_photograph_is_searched_with_box_by_box(visit, gallery, photo):
    page = visit(photo)
    assert_hits(settled(page), gallery.find(photo))
    assert page.locator("#asked-name").inner_text() == photo.name
    drag(page, BOX, let_go=False)  # the ranking comes while the hand still rests
    assert_hits(settled(page, "a.marks.length === 1"), gallery.find(photo, BOX))
    page.mouse.up()
    drag(page, OTHER)
    mask = np.zeros(SIZE[::-1], bool)
    for x0, y0, x1, y1 in (BOX, OTHER):
        mask[y0:y1, x0:x1] = True
    assert_hits(settled(page, "a.marks.length === 2"), gallery.find(photo, mask))
    page.locator("#undo").click()
    assert_hits(settled(page, "a.marks.length === 1"), gallery.find(photo, BOX))
    page.locator("#clear").click()
    assert_hits(settled(page, "!a.marks.length"), gallery.find(photo))
    x, y = 130, 99
    page.mouse.click(*at(page, x + 0.5, y + 0.5))
    assert_hits(settled(page, "a.marks.length === 1"), gallery.find(photo, point=(x, y)))


def test_what_is_ignored_by_box_and_by_brush(visit, go, gallery, photo):
    page = visit(photo)
    use(page, "ignore")
    drag(page, OTHER)
    found = settled(page, "a.marks.length === 1")
    assert_hits(found, gallery.find(photo, ignore=OTHER))
    expect(page.locator("#marks .ignored")).to_have_count(1)
    use(page, "brush")
    page.mouse.move(*at(page, 40, 60))
    page.mouse.down()
    page.mouse.move(*at(page, 280, 60), steps=20)
    page.mouse.up()
    found = settled(page, "a.marks.length === 2")
    radius, *line = page.evaluate("asked.marks[1].at")
    xs, ys = line[::2], line[1::2]
    assert xs[0] == pytest.approx(40, abs=1) and xs[-1] == pytest.approx(280, abs=radius)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    painted = np.hypot(x - np.clip(x, xs[0], xs[-1]), y - ys[0]) <= radius
    painted[OTHER[1] : OTHER[3], OTHER[0] : OTHER[2]] = True
    wanted = {hit.path: hit.similarity for hit in gallery.find(photo, ignore=painted, top=30).hits}
    for path, text in found:  # but for a row of pixels at the border
        assert float(text) == pytest.approx(wanted[path], abs=2e-3)
    shade = "document.querySelector('#painted').getContext('2d').getImageData(%d, %d, 1, 1).data[3]"
    assert page.evaluate(shade % (160, 60)) == 255 and page.evaluate(shade % (160, 120)) == 0
    go.expect_complaints(page, "Multiple readback operations")  # which is the test's own


def test_fingers_tap_scroll_and_draw(visit, gallery, photo):
    page = visit(photo, **PHONE)
    finger = Finger(page)

    def draw(box, rest=False):
        start, end = at(page, box[0] + 0.3, box[1] + 0.3), at(page, box[2] - 0.1, box[3] - 0.1)
        finger.rest(start) if rest else finger.touch("touchStart", start)
        finger.draw(start, end)

    page.touchscreen.tap(*at(page, 100.5, 80.5))
    found = settled(page, "a.marks.length === 1")
    x, y = page.evaluate("asked.marks[0].at")
    assert_hits(found, gallery.find(photo, point=(x, y)))
    page.locator("#undo").tap()
    settled(page, "!a.marks.length")
    draw(BOX, rest=True)
    found = settled(page, "a.marks.length === 1")
    assert_allclose(page.evaluate("asked.marks[0].at"), BOX, atol=1.5)
    assert_hits(found, gallery.find(photo, tuple(page.evaluate("asked.marks[0].at"))))
    page.locator("#mark").tap()
    draw(OTHER)
    settled(page, "a.marks.length === 2")
    use(page, "ignore")  # which draws at once
    draw((10, 10, 40, 40))
    settled(page, "a.marks.length === 3 && a.marks[2].kind === 'ignore'")
    page.locator(".right").first.tap()
    expect(page.locator(".right").first).to_have_attribute("aria-pressed", "true")
    page.locator("#cards .thumb").first.tap()
    expect(page.locator("dialog")).to_be_visible()
    page.locator("#close").tap()
    use(page, "look")
    page.evaluate("scrollTo(0, 0)")
    wait_until(page, "scrollY === 0")
    draw((60, 200, 60, 20))  # a swipe scrolls, and marks nothing
    wait_until(page, "scrollY > 20")
    assert page.evaluate("asked.marks.length") == 3


def test_the_keyboard_does_it_all(visit, gallery, photo):
    page = visit()
    page.locator("#text").focus()
    page.keyboard.type("1/0_0001")
    expect(page.locator("#pictures .card")).to_have_count(1)
    page.locator("#pictures button").focus()
    page.keyboard.press("Enter")
    settled(page)
    choose(page, photo)
    page.locator("#asked").focus()
    page.keyboard.press("Enter")
    x, y = page.evaluate("asked.marks[0].at")
    assert (x, y) == (160, 120)
    assert_hits(settled(page, "a.marks.length === 1"), gallery.find(photo, point=(x, y)))
    page.keyboard.press("Backspace")
    settled(page, "!a.marks.length")
    for key in ("ArrowLeft", "ArrowUp", *["Shift+ArrowRight"] * 6, *["Shift+ArrowDown"] * 4):
        page.keyboard.press(key)
    found = settled(page, "a.marks.length === 1 && a.marks[0].at[3] > 150")
    box = page.evaluate("asked.marks[0].at")
    assert box == [149, 109, 215, 153]
    assert_hits(found, gallery.find(photo, tuple(box)))
    use(page, "ignore")
    page.locator("#asked").focus()
    for key in ("ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowUp"):
        page.keyboard.press(key)
    settled(page, "a.marks.length === 2 && a.marks[1].kind === 'ignore'")
    page.keyboard.press("Control+z")
    settled(page, "a.marks.length === 1")
    page.keyboard.press("Escape")
    assert_hits(settled(page, "!a.marks.length"), gallery.find(photo))
    page.locator("#cards .thumb").nth(1).focus()
    expect(page.locator("#cards .overlay").nth(1)).to_have_css("opacity", "1")
    page.keyboard.press("Enter")
    expect(page.frame_locator("iframe").locator("#cosine")).to_have_text(re.compile("[0-9]"))
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    wait_until(page, "document.activeElement.closest('.card') === cards[1].element")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photograph_is_dropped_or_pasted(visit, gallery, photo, way):
    page = visit()
    data = base64.b64encode(photo.read_bytes()).decode()
    page.evaluate(
        """([way, data]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const given = new DataTransfer();
            given.items.add(new File([bytes], "given.png", { type: "image/png" }));
            const options = { bubbles: true, cancelable: true };
            document.querySelector("main").dispatchEvent(
                way === "drop" ? new DragEvent("drop", { ...options, dataTransfer: given })
                    : new ClipboardEvent("paste", { ...options, clipboardData: given }));
        }""",
        [way, data],
    )
    assert_hits(settled(page), gallery.find(photo))
    assert page.locator("#asked-name").inner_text() == "given.png"


# --- on from a hit, and back ----------------------------------------------------------------------


def test_pictures_of_the_gallery_are_picked_page_by_page(visit, gallery, folder, monkeypatch):
    monkeypatch.setattr("simvis.serving.desk.PAGE", 12)
    page = visit()
    expect(page.locator("#total")).to_have_text("30 pictures, page 1 of 3")
    page.locator("#next-page").click()
    expect(page.locator("#total")).to_have_text("30 pictures, page 2 of 3")
    page.locator("#previous-page").click()
    expect(page.locator("#total")).to_have_text("30 pictures, page 1 of 3")
    page.locator("#text").fill("2/0_00")
    expect(page.locator("#total")).to_have_text("10 pictures")
    page.locator("[data-picture='2/0_0008.png'] button").click()
    assert_hits(settled(page), gallery.find(folder / "2" / "0_0008.png"))
    expect(page.locator("#cards .said").first).to_have_text("the query itself")
    page.locator("#browse").click()
    expect(page.locator("#gallery")).to_be_visible()


def test_search_with_this_and_the_way_back(visit, gallery, folder, photo):
    page = visit(photo)
    drag(page, BOX)
    first = settled(page, "a.marks.length === 1")
    card = page.locator("#cards .card").nth(2)
    path = card.get_attribute("data-path")
    card.locator(".with").click()
    second = settled(page, f"a.name === {path!r}")
    assert_hits(second, gallery.find(folder / path))
    page.locator("#back").click()
    assert settled(page, "a.marks.length === 1") == first
    page.evaluate("history.forward()")  # as the browser's own buttons do
    assert settled(page, f"a.name === {path!r}") == second
    page.go_back()
    assert settled(page, "a.marks.length === 1") == first
    page.go_back()
    expect(page.locator("#gallery")).to_be_visible()
    expect(page.locator("#asking")).to_be_hidden()


def test_more_like_these_and_not_like_those(visit, gallery, photo):
    page = visit(photo)
    drag(page, BOX)
    found = settled(page, "a.marks.length === 1")
    expect(page.locator("#again")).to_be_disabled()
    for number, verdict in ((0, "right"), (2, "right"), (5, "wrong"), (3, "wrong"), (3, "wrong")):
        page.locator("#cards .card").nth(number).locator(f".{verdict}").click()
    page.locator("#again").click()
    like, unlike = [found[0][0], found[2][0]], [found[5][0]]
    again = settled(page, "a.like.length === 2 && a.unlike.length === 1")
    assert_hits(again, gallery.find(photo, BOX, like=like, unlike=unlike))
    assert "more like 2 and less like 1" in page.locator("#words").inner_text().lower()
    page.go_back()
    assert settled(page, "!a.like.length") == found


# --- what is seen ---------------------------------------------------------------------------------


def test_maps_are_seen_under_the_pointer_in_the_colours_that_are_chosen(visit, go, gallery, photo):
    page = visit(photo)
    hit = gallery.find(photo).hits[1]
    heat = page.locator("#cards .overlay").nth(1)
    page.mouse.move(5, 5)
    expect(heat).to_have_css("opacity", "0")
    page.locator("#cards .thumb").nth(1).hover()
    expect(heat).to_have_css("opacity", "1")
    pixels = "(e) => [...e.getContext('2d').getImageData(0, 0, e.width, e.height).data]"
    for name in ("jet", "viridis"):
        page.locator("#colormap").select_option(name)
        width, height = heat.evaluate("(e) => [e.width, e.height]")
        shown = np.reshape(heat.evaluate(pixels), (height, width, 4))
        expected = image_ops.colorize_map(image_ops.upsample_map(hit.map, (height, width)), name)
        away = np.abs(shown[..., :3].astype(int) - expected)
        assert (away <= 12).mean() > 0.99 and (shown[..., 3] == 128).all()
    page.locator("#colormap").select_option("")
    expect(heat).to_be_hidden()
    page.locator("#colormap").select_option("jet")
    page.mouse.move(5, 5)
    page.locator("#overlays").click()
    expect(heat).to_have_css("opacity", "1")
    image, box = (
        page.locator("#cards .card").nth(1).locator(name).bounding_box()
        for name in (".picture", ".box")
    )
    found = [box["x"] - image["x"], box["y"] - image["y"], box["width"], box["height"]]
    x0, y0, x1, y1 = np.array(hit.box) * image["width"] / hit.image.shape[1]
    assert_allclose(found, (x0, y0, x1 - x0, y1 - y0), atol=1)
    go.expect_complaints(page, "Multiple readback operations")  # which is the test's own


def test_what_is_usual_and_copies_and_labels(visit, gallery, folder):
    (folder / "more").mkdir()
    shutil.copy(folder / "0" / "0_0000.png", folder / "more" / "same.png")
    small = Image.open(folder / "0" / "0_0000.png").resize((120, 90))
    small.save(folder / "more" / "small.jpg", quality=95)
    gallery.index(folder, labels_from="folders")
    page = visit()
    page.locator("[data-picture='1/0_0001.png'] button").click()
    settled(page)
    page.locator("#top").select_option("48")
    settled(page, "cards.length > 12")
    wanted = gallery.find(folder / "1" / "0_0001.png", top=48).folded()
    shown = page.locator("#cards > :not([hidden])")
    line = page.locator("#cards .line")
    expect(shown).to_have_count(len(wanted) + 1)
    assert "unusual above this line" in line.inner_text()
    before = line.evaluate("(e) => [...e.parentElement.children].indexOf(e)")
    assert before == sum(hit.percentile >= 99 for hit in wanted)
    (first,) = [hit for hit in wanted if len(hit.copies) == 2]
    card = page.locator(f"[data-path='{first.path}']")
    expect(card.locator(".copies")).to_contain_text("2 copies: ")
    assert all(path in card.locator(".copies").text_content() for path in first.copies)
    assert f"label {first.label}" in card.locator(".note").all_text_contents()
    page.locator("#label").fill("more")
    page.locator("#label").press("Enter")
    settled(page, "cards.length === 2")
    page.locator("#label").fill("")
    page.locator("#not-label").fill("1")
    page.locator("#not-label").press("Tab")
    settled(page, "cards.length === 22")


def test_a_hit_opens_its_explorer(visit, gallery, photo):
    page = visit(photo)
    drag(page, BOX)
    settled(page, "a.marks.length === 1")
    page.locator("#cards .thumb").nth(3).click()
    inside = page.frame_locator("iframe")
    expect(inside.locator("#cosine")).to_have_text(re.compile("[0-9]"))
    hit = gallery.find(photo, BOX).hits[3]
    frame = page.locator("iframe").element_handle().content_frame()
    state = frame.evaluate("explorer.state()")
    assert state["similarity"] == pytest.approx(hit.similarity, abs=1e-4)
    assert state["region1"] == list(BOX)
    page.locator("#close").click()
    expect(page.locator("iframe")).to_have_count(0)


def test_a_report_is_saved(visit, gallery, photo, tmp_path):
    page = visit(photo)
    drag(page, BOX)
    found = settled(page, "a.marks.length === 1")
    with page.expect_download() as download:
        page.locator("#report").click()
    assert download.value.suggested_filename == "my photo_report.zip"
    download.value.save_as(tmp_path / "report.zip")
    with zipfile.ZipFile(tmp_path / "report.zip") as report:
        says = json.loads(report.read("search.json"))
        rows = report.read("results.csv").decode().splitlines()[1:]
        report.extract("found.html", tmp_path)
    assert [row.split(",")[1] for row in rows] == [path for path, _ in found]
    assert "--region 60,40,180,150" in says["command"] and says["query"] == "my photo.png"
    page.goto((tmp_path / "found.html").as_uri())
    names = page.locator("#cards .name").all_inner_texts()
    assert names == [path for path, _ in found]


def test_what_is_gone_or_corrupt_is_a_card_that_says_so(visit, go, gallery, folder, photo):
    hits = gallery.find(photo).hits
    (folder / hits[0].path).unlink()
    (folder / hits[1].path).write_text("no image")
    page = visit(photo)
    found = settled(page)
    assert [path for path, _ in found] == [hit.path for hit in hits]
    notes = page.locator("#cards .card").nth(0), page.locator("#cards .card").nth(1)
    expect(notes[0].locator(".said")).to_contain_text("no such file")
    expect(notes[1].locator(".said")).to_contain_text("not an image")
    expect(notes[0].locator(".none")).to_have_text("the picture is gone")
    go.expect_complaints(page, "400 (Bad Request)")


def test_what_the_server_refuses_is_said_in_words(visit, go, photo, tmp_path, monkeypatch):
    from simvis.serving import server, turns

    page = visit()
    (tmp_path / "text.png").write_text("no image")
    page.set_input_files("input[type=file]", tmp_path / "text.png")
    expect(page.locator("#failure")).to_contain_text("the photograph: not an image")
    choose(page, photo)
    expect(page.locator("#failure")).to_be_hidden()

    async def busy(*_, **__):
        raise turns.Busy

    with monkeypatch.context() as patch:
        patch.setattr(turns.Turns, "do", busy)
        drag(page, BOX)
        expect(page.locator("#failure")).to_contain_text(server.BUSY)
    page.locator("#retry").click()
    settled(page, "a.marks.length === 1")
    expect(page.locator("#failure")).to_be_hidden()
    go.expect_complaints(page, "400 (Bad Request)", "503 (Service Unavailable)")


def test_a_photograph_that_is_kept_no_more_is_sent_again(visit, go, service, gallery, photo):
    page = visit(photo)
    service.desk.photos._kept.clear()
    service.desk.answers._kept.clear()
    drag(page, BOX)
    assert_hits(settled(page, "a.marks.length === 1"), gallery.find(photo, BOX))
    go.expect_complaints(page, "410 (Gone)")


def test_names_are_text(gallery, folder, visit, photo):
    name = f"{HOSTILE.replace('/', '').replace(chr(0xDCFF), '')[:80]}.png"
    shutil.copy(folder / "0" / "0_0000.png", folder / name)
    gallery.index(folder)
    page = visit(**PHONE)
    page.locator("#text").fill("<img")
    expect(page.locator("#pictures .card")).to_have_count(1)
    page.locator("#pictures button").click()
    settled(page)
    assert page.locator("#asked-name").text_content() == name
    assert name in page.locator("#cards .name").all_text_contents()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("width, scheme", EYES)
def test_everyone_can_use_it(visit, photo, width, scheme):
    options = {**PHONE} if width == 390 else {"viewport": WIDE}
    page = visit(color_scheme=scheme, **options)
    assert_accessible(page)
    choose(page, photo)
    use(page, "ignore")
    page.locator("#overlays").click()
    page.locator(".right").first.click()
    page.locator("#undo").is_disabled()
    assert_accessible(page)
    page.locator("#cards .thumb").first.click()
    expect(page.frame_locator("iframe").locator("#cosine")).to_have_text(re.compile("[0-9]"))
    assert_accessible(page)


# --- the newcomer's path --------------------------------------------------------------------------


def test_a_newcomer_finds_the_room_of_a_picture_on_the_wall(chromium, tmp_path, monkeypatch):
    from conftest import ROOT
    from test_server import start

    from search_gallery import main

    monkeypatch.chdir(tmp_path)
    assert main(["index", str(ROOT / "example_images"), "--network", "rooms"]) == 0
    with start("gallery") as process, contextlib.closing(chromium.new_page(viewport=WIDE)) as page:
        try:
            page.goto(process.stdout.readline().split()[1])
            page.set_input_files("input[type=file]", ROOT / "example_images" / "room_a_view1.jpg")
            page.locator("[data-path]").first.wait_for()
            box = page.locator("[data-query]").bounding_box()
            x, y, scale = box["x"], box["y"], box["width"] / 720
            page.mouse.move(x + 196 * scale, y + 90 * scale)
            page.mouse.down()
            page.mouse.move(x + 334 * scale, y + 170 * scale, steps=4)
            page.mouse.up()
            paths = [path for path, _ in settled(page, "a.marks.length === 1")]
            assert paths[:2] == ["room_a_view1.jpg", "room_a_view2.jpg"]
            with page.expect_download() as download:
                page.locator("#report").click()
            with zipfile.ZipFile(download.value.path()) as report:
                report.extractall(tmp_path / "report")
            page.goto((tmp_path / "report" / "found.html").as_uri())
            page.locator("#cards button").nth(1).click()
            inside = page.frame_locator("iframe").locator("#cosine")
            expect(inside).to_have_text(re.compile(r"0\.[0-9]"))
        finally:
            process.terminate()
    assert Path("report/contact_sheet.jpg").is_file()
