"""What the programs share: one line for what is wrong, and nothing else on stderr."""

import builtins
import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import warnings

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

import search_gallery
import visualize_similarity
from simvis import __version__, models
from simvis.cli import printable, resumable, run_program
from simvis.files import locked
from visualize_similarity import Task


def raised(error, *argv):
    """Run a program that raises an error instead of doing what it is asked for."""

    def run(task):
        raise error

    return run_program("program", [Task], lambda argv: None, run, argv)


def test_errors_speak_the_language_of_the_shell(capsys):
    words = 'batch_size: each pair is a batch, say layer= or pooling="gem"; a,layer=b other='
    words += " grid=(h, w), allow_unsafe=True"
    assert raised(ValueError(words), "--batch-size", "4") == 2
    expected = "--batch-size: each pair is a batch, say --layer or --pooling gem; a,layer=b other="
    expected += " --grid h,w, --allow-unsafe"
    assert capsys.readouterr().err == f"program: error: {expected}\n"
    for name in ("--gem-power", "--power"):  # an option is called by the name that was typed
        raised(ValueError("power: expected more"), f"{name}=0.5")
        assert capsys.readouterr().err == f"program: error: {name}: expected more\n"


def test_whatever_ends_a_program_is_one_line(capsys):
    assert raised(MemoryError()) == 2
    assert raised(OSError("a\nb")) == 2
    assert raised(KeyboardInterrupt()) == 130
    lines = ["error: there is not enough memory for it", "error: a b", "interrupted"]
    assert capsys.readouterr().err.splitlines() == [f"program: {line}" for line in lines]


@pytest.mark.parametrize(
    "arguments",
    [
        ["find", "a" * 10**7],
        ["find", "a.png", "--region", "1," * 5 * 10**6],
        ["find", "x=(" * 10**6],
        ["find", "--" + "b" * 10**7],
        ["remove", *["--" + "b" * 5000] * 10],
    ],
)
def test_however_long_the_input_is_the_line_is_short(capsys, arguments):
    assert search_gallery.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 1200


def test_what_a_signal_ends_while_ray_starts_is_one_line(capsys):
    @resumable()
    def run(task):
        sys.exit(signal.SIGTERM)  # as Ray's handler does

    assert run_program("program", [], list, run, []) == 143
    words = "program: terminated; the same command goes on where it was\n"
    assert capsys.readouterr().err == words


def test_what_other_libraries_say_is_not_shown(capfd, caplog):
    def run(task):
        warnings.warn("Glyph 35486 missing", UserWarning, stacklevel=1)
        logging.getLogger("matplotlib").warning("Bad key in file matplotlibrc")
        print("told")
        return 0

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run_program("program", [], list, run, []) == 0
    assert capfd.readouterr() == ("told\n", "") and caplog.text == ""


@given(st.text())
def test_what_is_printed_does_nothing_to_a_terminal(text):
    shown = printable(text)
    assert shown.isprintable() and (shown == text) == text.isprintable()


TOLD = """
import sys
from simvis.cli import run_program
def run(task):
    if task:
        raise ValueError("failed")
    print("told " * 10_000)
    return 0
sys.exit(run_program("program", [], list, run))
"""


@pytest.mark.parametrize(
    "shell, status, error",
    [
        ("{} >&-", 0, ""),
        ("{} >/dev/full", 1, "program: all is done, but cannot be told: No space left on device\n"),
        ("{} | true", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; {}", 2, "program: error: the current folder was del"),
        ("{} 2>&-", 0, ""),
        ("{} fail 2>/dev/full", 2, ""),
    ],
)
def test_wherever_the_output_goes_there_is_one_line(tmp_path, shell, status, error):
    (tmp_path / "told.py").write_text(TOLD)
    program = f"'{sys.executable}' '{tmp_path}/told.py'"
    completed = subprocess.run(
        ["bash", "-c", "set -o pipefail; " + shell.format(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert completed.returncode == status
    assert completed.stderr.startswith(error) and completed.stderr.count("\n") == bool(error)


def test_no_file_gets_what_is_said_if_stderr_is_closed(tmp_path):
    script = """if True:
        import os, sys
        from simvis.cli import run_program
        def run(task):
            with open("written", "w") as file:
                os.write(2, b"said by compiled code")
                print("said", file=sys.stderr)
            return 0
        sys.exit(run_program("program", [], list, run, []))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 0
    assert (tmp_path / "written").read_text() == ""


def test_tensorflow_starts_without_a_stderr(monkeypatch):
    models.start_tensorflow()
    monkeypatch.setattr(sys, "stderr", None)
    models.start_tensorflow()


def test_tensorflow_starts_without_keras_which_comes_when_it_is_asked_for():
    script = """if True:
        import gc, sys
        from simvis import models
        models.start_tensorflow()
        print(sorted({"keras", "matplotlib"} & set(sys.modules)), gc.isenabled())
        import tensorflow as tf
        print(tf.keras.optimizers.Adam.__module__, tf.optimizers.Adam is tf.keras.optimizers.Adam)
        network = models.load_network("keras:MobileNetV2", weights="none")
        print(network.activations(network.preprocess([tf.zeros((9, 9, 3), "uint8").numpy()])).shape)
    """
    command, environment = [sys.executable, "-c", script], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "[] True",
        "keras.src.optimizers.adam True",
        "(1, 7, 7, 1280)",
    ], done.stderr


@pytest.mark.parametrize("limit", [60_000, 1_900_000])  # kB: not for numpy, not for TensorFlow
def test_too_little_memory_for_imports_is_one_line(tmp_path, limit):
    command = f"ulimit -v {limit}; exec '{sys.executable}' '{ROOT}/visualize_similarity.py'"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("visualize_similarity.py: error: ") and "memory" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error, words",
    [
        (ImportError("libtensorflow_cc.so.2: failed to map segment"), "there is not enough memory"),
        (MemoryError(), "there is not enough memory"),
        (
            AttributeError("module 'numpy' has no\nattribute"),
            "AttributeError: module 'numpy' has no",
        ),
    ],
)
def test_whatever_tensorflow_starts_with_is_one_line(monkeypatch, error, words):
    def fail(name, *rest):
        if name == "tensorflow":
            raise error
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(ValueError, match=f"TensorFlow does not start: {words}"):
        models.start_tensorflow()


@pytest.mark.parametrize(
    "error", [NotImplementedError("use SoftFileLock"), OSError(errno.ENOLCK, "No locks available")]
)
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(fcntl, "flock", fail)
    words = f"{tmp_path}: its file system has no locks, name"
    with pytest.raises(ValueError, match=words), locked(tmp_path):
        pass


@pytest.mark.parametrize("program", ["visualize_similarity.py", "search_gallery.py"])
def test_an_interruption_while_importing_is_one_line(tmp_path, program):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.abc, os, signal, sys\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'simvis.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    completed = subprocess.run(
        [sys.executable, ROOT / program, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert completed.stderr == f"{program}: interrupted\n"
    assert completed.returncode == 130


@pytest.mark.parametrize("program", [visualize_similarity, search_gallery])
def test_help_and_version_are_told(program, capsys):
    assert program.main(["--version"]) == 0
    name = program.__name__.replace("_", "-")
    assert capsys.readouterr().out == f"{name} {__version__}\n"
    assert program.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {program.__name__}.py ")


def test_what_is_parsed_is_frozen(tmp_path):
    task = visualize_similarity.parse(["--pairs", "p.csv", "--power", "2", "--size", "64"])
    assert (task.pairs, task.method.power, task.look.size) == ("p.csv", 2, 64)
    assert task.network.network == "imagenet" and str(task.output) == "p_similarity"
    with pytest.raises(AttributeError):
        task.pairs = "other.csv"
