"""A headless Chromium that opens the pages, for tests, benchmarks and the docs' pictures."""

import contextlib
import shutil
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update")


@contextlib.contextmanager
def browser():
    """Yield a headless Chromium of this machine's, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise FileNotFoundError(f"none of {', '.join(BROWSERS)} is installed")
    # without a sandbox, which containers do not let it make: it opens nothing but our own page
    options = ["--no-sandbox", "--disable-gpu", "--disable-sync", *QUIET]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=options)
        yield chromium
        chromium.close()


def open_page(chromium, path, **options):
    """Return a page with an explorer in it that is ready."""
    page = chromium.new_page(**options)
    page.goto(Path(path).resolve().as_uri())
    wait_until(page, "window.explorer")
    return page


def wait_until(page, condition):
    """Wait in the page itself: its policy forbids what Playwright's own waiting does."""
    page.evaluate(
        f"async () => {{ while (!({condition})) await new Promise(requestAnimationFrame); }}"
    )
