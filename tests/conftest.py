"""What several test files share."""

import os
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
