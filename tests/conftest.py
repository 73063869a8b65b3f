"""What several test files share."""

import os
import shutil
import sys
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


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def imagenet():
    from models import load_network

    return load_network("imagenet")


def skip_or_fail(reason):
    """Skip where a developer lacks a browser, but never where it is all that would be tested."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def chromium():
    from explorer import browser

    try:
        import axe_playwright_python  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        skip_or_fail(f"{error.name} is not installed, see requirements-dev.txt")
    if not any(map(shutil.which, browser.BROWSERS)):
        skip_or_fail(f"none of {', '.join(browser.BROWSERS)} is installed")
    with browser.browser() as chromium:
        yield chromium


def settle(page):
    """Wait until what was done is painted."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
