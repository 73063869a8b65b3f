"""What several test files share."""

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


def settle(page):
    """Wait until what was done is painted."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


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
