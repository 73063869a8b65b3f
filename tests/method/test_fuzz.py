"""Damaged and hostile input, in a process of its own that it might end."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
    "options",
    [
        ["--light", "--inputs", "400", "--seconds", "600"],
        pytest.param(["--seconds", "40"], marks=pytest.mark.slow),
    ],
)
def test_whatever_comes_in_the_outcome_is_a_result_or_one_line(options):
    command = [sys.executable, "-m", "tests.fuzz", *options]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " result " in run.stdout and " error " in run.stdout
