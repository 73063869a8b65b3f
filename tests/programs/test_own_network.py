"""--network FILE.py:FUNCTION: for both programs and Ray's workers, and on nobody else's word."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

import search_gallery
import visualize_similarity
from simvis.models import python_files
from simvis.pair import EXAMPLES

OWN = """
import numpy as np
from beside import resize
from simvis import from_functions

def activations(batch):
    return np.maximum(batch.reshape(-1, 8, 8, 8, 8, 3).mean((2, 4)) @ np.eye(3), 0)

def preprocess(images):
    return np.stack([resize(image, (64, 64)) for image in images]).astype(np.float32)

def build():
    open("ran", "a").close()
    return from_functions(
        activations=activations,
        embed=lambda batch: activations(batch).mean((1, 2)),
        input_size=(64, 64),
        preprocess=preprocess,
        name="own",
    )

def nothing():
    return 3

def ends():
    raise SystemExit(5)

def fails():
    return 1 / 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "own.py").write_text(OWN)
    (tmp_path / "nets" / "beside.py").write_text("from simvis.image_ops import resize")
    yield tmp_path
    sys.modules.pop("beside", None)


def test_a_pair(folder, capsys):
    assert visualize_similarity.main(["--network", "nets/own.py:build"]) == 0
    printed = capsys.readouterr().out
    assert "network     own: average pooling, of functions" in printed
    assert "network's   " in printed and list(folder.glob("*_similarity.png"))


def test_nothing_but_numpy_is_started(folder):
    code = "import sys, visualize_similarity as v; v.main(['--network', 'nets/own.py:build'])"
    code += "; print('started', 'tensorflow' in sys.modules, 'torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert "started False False" in run.stdout, run.stderr


@pytest.mark.parametrize(
    "name, words",
    [
        ("nets/own.py", "say which function of nets/own.py makes it"),
        ("nets/own.py:missing", "there is no function missing"),
        ("nets/own.py:nothing", "nothing returned int, expected an EmbeddingNetwork"),
        ("nets/own.py:ends", "SystemExit: 5"),
        ("nets/own.py:fails", "line 29: ZeroDivisionError"),
        ("nets/none.py:build", "none.py: no such file"),
        ("nets/own.py:build --layer conv", "--layer: the nets/own.py:build network has no such"),
    ],
)
def test_what_goes_wrong_is_one_line(folder, name, words, capsys):
    assert visualize_similarity.main(["--network", *name.split()]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def gallery(*arguments):
    return search_gallery.main(list(arguments))


def test_a_gallery_never_runs_a_file_on_its_own_word(folder, capsys):
    assert gallery("index", str(EXAMPLES), "--network", "nets/own.py:build") == 0
    (folder / "ran").unlink()
    image = str(EXAMPLES / "room_a_view1.jpg")
    assert gallery("find", image) == 2
    said = capsys.readouterr().err
    assert "own.py:build: name it" in said and "on a gallery's word" in said
    assert not (folder / "ran").exists()
    assert gallery("find", image, "--network", "nets/own.py:build", "--output", "found") == 0
    assert gallery("info") == 0
    assert "1           1.0000  room_a_view1.jpg, the query itself" in capsys.readouterr().out


@pytest.mark.slow
def test_rays_workers_run_it_too(folder):
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    command = [sys.executable, ROOT / "search_gallery.py", "index", EXAMPLES]
    options = ["--network", "nets/own.py:build", "--engine", "ray", "--workers", "1"]
    run = subprocess.run([*command, *options], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "images      6" in run.stdout


def test_names():
    assert python_files.split("C:\\nets\\own.py:build") == ("C:\\nets\\own.py", "build")
    assert python_files.split("own.py") == ("own.py", "")
    assert python_files.split("keras:VGG16") is None


# --- the files that the docs show -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "timm", "onnx"])
def test_the_example_in_the_docs_runs(folder, name, capsys, monkeypatch):
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        sys.path.insert(0, str(ROOT / "tests" / "models"))
        from onnx_maker import write_model

        write_model(folder / "embedder.onnx", "gem")
    else:
        pytest.importorskip(name, exc_type=(ImportError, RuntimeError))
    path = Path(shutil.copy(ROOT / "docs" / f"my_{name}_network.py", folder))
    if name == "timm":  # without its weights, which would be downloaded, and a small one
        text = path.read_text().replace("PRETRAINED =", "_ =")
        small = 'NAME, PRETRAINED = "vit_tiny_patch16_224", False\n'
        path.write_text(text.replace("\n\n\ndef build", f"\n{small}\n\ndef build"))
    assert visualize_similarity.main(["--network", f"{path}:build"]) == 0, capsys.readouterr().err
    assert "network's" in capsys.readouterr().out
