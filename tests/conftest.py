"""What several test files share."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The first example of a test pays for imports and BLAS threads; a time limit would only flake.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# A name for the eye that would harm a page which took it for more than text.
HOSTILE = "<img src=x onerror=alert(1)></script><!--<script>{{data}} &amp; \u2028\\ '\" \udcff "

# The widths and colour schemes that a page is looked at in, for `assert_accessible`.
EYES = [(375, "dark"), (1600, "light"), (1600, "dark")]
EYES = [(375, "light"), *(pytest.param(*each, marks=pytest.mark.slow) for each in EYES)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """A folder of nine small images, in folders."""
    from galleries import write_images

    return write_images(tmp_path / "images", 9)


@pytest.fixture
def gallery(tmp_path):
    """A gallery beside it, which holds nothing yet."""
    from galleries import color_network

    from simvis.gallery.gallery import Gallery

    return Gallery(tmp_path / "gallery", color_network())


@pytest.fixture(scope="session")
def imagenet():
    from models import load_network

    return load_network("imagenet")


def skip_or_fail(reason):
    """Skip where a developer lacks a browser, but never where it is all that would be tested."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def chromium():
    from benchmarks import browser

    try:
        import axe_playwright_python  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        skip_or_fail(f"{error.name} is not installed, see requirements-dev.txt")
    if not any(map(shutil.which, browser.BROWSERS)):
        skip_or_fail(f"none of {', '.join(browser.BROWSERS)} is installed")
    with browser.browser() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def tab(chromium):
    """A page that serves all tests that want nothing special of it, for pages take long to make."""
    return chromium.new_page(reduced_motion="reduce")


@pytest.fixture
def go(chromium, tab):
    """Return a function that opens a URL; nothing that it opens may complain unless it is expected.

    With options, of Playwright's contexts, it opens it in a page of its own.  ``asked_for()`` are
    the URLs that were requested, but for what a page itself holds.
    """
    complaints, allowed, requests = [], [], []

    def go(url, **options):
        page = tab
        if options:
            context = chromium.new_context(reduced_motion="reduce", **options)
            page = contexts.enter_context(context).new_page()
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
        page.goto(url)
        return page

    def expect_complaints(page, *words):
        """Wait for complaints that have these words, and allow them."""
        for word in words:
            while not any(word in each for each in complaints):
                page.wait_for_event("console")
        allowed.extend(words)

    go.expect_complaints = expect_complaints
    go.asked_for = lambda: [u for u in requests if u.split(":")[0] not in ("data", "about", "blob")]
    with contextlib.ExitStack() as contexts:
        yield go
    assert [each for each in complaints if not any(word in each for word in allowed)] == []


def expect(locator):
    """Return Playwright's assertions about a locator, which wait however busy the machine is."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    return expect(locator)


def texts(where, selector):
    """Return the texts of elements, a lone surrogate, which does not get to Python, as U+FFFD."""
    script = "all => all.map((each) => each.textContent.replace(/\\udcff/g, '\\ufffd'))"
    return where.locator(selector).evaluate_all(script)


class Finger:
    """One finger on a touch screen."""

    def __init__(self, page):
        self.page, self.session = page, page.context.new_cdp_session(page)

    def touch(self, kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def rest(self, at):
        """Touch, and wait until the touch has become a long press."""
        from benchmarks.browser import wait_until

        self.touch("touchStart", at)
        wait_until(self.page, "document.querySelector('.stage.marking')")

    def draw(self, start, end):
        for share in (0.25, 0.5, 0.75, 1):
            at = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
            self.touch("touchMove", at)
        self.touch("touchEnd")


def assert_accessible(page):
    """Assert that a page is no wider than its window and that axe finds nothing in it."""
    from axe_playwright_python.sync_playwright import Axe

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # a frame has a test of its own
    found = Axe().run(page, options={"iframes": False}).response["violations"]
    assert [(rule["id"], rule["impact"]) for rule in found] == []


@pytest.fixture(scope="session")
def bucket():
    """Start a server that stands in for S3; return a function of a folder there to its URI."""
    if find_spec("moto") is None:
        skip_or_fail("moto is not installed, see requirements-dev.txt")
    from pyarrow import fs

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None
                time.sleep(0.1)
            endpoint = f"endpoint_override=127.0.0.1:{port}&scheme=http"
            create = f"s3://key:hush@?{endpoint}&allow_bucket_creation=1"
            fs.FileSystem.from_uri(create)[0].create_dir("photos")
            yield lambda folder: f"s3://key:hush@photos/{folder}?{endpoint}"
        finally:
            server.kill()
