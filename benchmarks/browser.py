"""A headless Chromium that opens the pages, for tests, benchmarks and the docs' pictures."""

import contextlib
import shutil
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# without a sandbox, which containers do not let it make: it opens nothing but our own pages
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-sync", *QUIET]


@contextlib.contextmanager
def browser():
    """Yield a headless Chromium of this machine's, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise FileNotFoundError(f"none of {', '.join(BROWSERS)} is installed")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=OPTIONS) as chromium,
    ):
        yield chromium


def open_page(chromium, path, **options):
    """Return a page with an explorer in it that is ready."""
    page = chromium.new_page(**options)
    page.goto(Path(path).resolve().as_uri())
    wait_until(page, "window.explorer")
    return page


def wait_until(page, condition):
    """Wait in the page itself for up to a minute: its policy forbids Playwright's own waiting."""
    late = f"if (performance.now() > end) throw Error({condition!r});"
    wait = f"while (!({condition})) {{ {late} await new Promise(requestAnimationFrame); }}"
    page.evaluate(f"async () => {{ const end = performance.now() + 60000; {wait} }}")
