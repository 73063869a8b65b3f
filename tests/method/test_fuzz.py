"""Twenty seconds of damaged and hostile input, in a process of its own that it might end."""

import os
import subprocess
import sys

from conftest import ROOT


def test_whatever_comes_in_the_outcome_is_a_result_or_one_line():
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "20"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " result " in run.stdout and " error " in run.stdout
