"""Every command and every piece of Python in the README and the docs runs; values are true."""

import ast
import re
import shlex
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

import search_gallery
import simvis
import visualize_similarity
from simvis import Gallery, image_ops, load_network, visualize_pair
from simvis.models import downloads
from simvis.pair import EXAMPLE_PAIR

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = {
    "python visualize_similarity.py": visualize_similarity.main,
    "python search_gallery.py": search_gallery.main,
}


def blocks(language):
    """Return (page, text) of every fenced block in a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.M | re.S)
    return [(page, text) for page in PAGES for text in pattern.findall(page.read_text("utf-8"))]


COMMANDS = [
    line
    for _page, text in blocks("")
    for line in text.splitlines()
    if line.startswith(tuple(PROGRAMS)) and "[" not in line  # which a synopsis has
]
COMMANDS += [
    f"python visualize_similarity.py {option}"
    for page in PAGES
    for option in re.findall(r"^\|.*\| `(--[^`]*)` \|", page.read_text("utf-8"), re.M)
]


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder with all that the pages name, made once."""
    stock = tmp_path_factory.mktemp("stock")
    for number, path in enumerate([*EXAMPLE_PAIR, EXAMPLE_PAIR[0].parent / "room_b_view1.jpg"], 1):
        for name in (f"IMAGE{number}", f"room{number}.jpg"):
            (stock / name).symlink_to(path)
    (stock / "IMAGE").symlink_to(EXAMPLE_PAIR[0])
    for path in (ROOT / "docs").glob("my_*_network.py"):
        shutil.copy(path, stock)
    (stock / "FOLDER").mkdir()
    shutil.copy(EXAMPLE_PAIR[1], stock / "FOLDER" / "a.jpg")
    for name in ("A/1", "A/2", "B/1", "B/2"):
        (stock / "FOLDER" / name[0]).mkdir(exist_ok=True)
        shutil.copy(EXAMPLE_PAIR[int(name[2]) - 1], stock / "FOLDER" / f"{name}.jpg")
    rows = "path,label", "a.jpg,A", "A/1.jpg,A", "A/2.jpg,A", "B/1.jpg,B", "B/2.jpg,B"
    (stock / "labels.csv").write_text("\n".join(rows))
    (stock / "paths.txt").write_text("A/1.jpg\nFOLDER/B/1.jpg\n")
    (stock / "pairs.csv").write_text("image1,image2\nroom1.jpg,room2.jpg\n")
    gallery = Gallery(stock / "gallery", "rooms", input_size=(64, 64))
    gallery.index(stock / "FOLDER", labels=stock / "labels.csv")
    inputs = keras.Input((32, 32, 3))
    conv = keras.layers.Conv2D(4, 3, strides=8)(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(conv))
    keras.Model(inputs, outputs).save(stock / "model.keras")
    return stock


@pytest.fixture
def folder(stock, tmp_path, monkeypatch):
    """A copy of the stock of one's own, in which one is."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stock, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def authors_files(folder, monkeypatch):
    """What the authors' server holds, with random weights, as if it had been fetched."""
    from benchmarks.program import write_random_hotels

    write_random_hotels(folder)
    monkeypatch.setattr(downloads, "_places", lambda name, _: [folder / name])
    for suffix in (".index", ".data-00000-of-00001"):
        for name in ("PREFIX", "hotels/hotels", "faces/faces"):
            path = folder / f"{name}{suffix}"
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(folder / f"hotels{suffix}")
    for name in ("FILE.npy", "hotels/hotels_meanIm.npy", "faces/faces_meanIm.npy"):
        (folder / name).symlink_to(folder / "mean.npy")
    for number, path in enumerate(EXAMPLE_PAIR, 1):
        (folder / "hotels" / f"hotels{number}.jpg").symlink_to(path)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(each, marks=pytest.mark.slow if "--engine ray" in each else ())
        for each in COMMANDS
    ],
)
def test_a_command_runs(request, folder, command, capsys):
    if "hotels" in command or "faces" in command:
        request.getfixturevalue("authors_files")
    if "my_torch" in command:
        pytest.importorskip("torch")
    if "keras:" in command:
        command += " --weights none"  # instead of ImageNet's, which Keras would download
    python, program, *arguments = shlex.split(command)
    if arguments[:1] == ["index"]:
        shutil.rmtree("gallery")
    options = program == "visualize_similarity.py" and arguments[:1] and arguments[0][0] == "-"
    if options and not {"--network", "--pairs", "--version"} & set(arguments):
        arguments = ["IMAGE1", "IMAGE2", *arguments]
    if arguments[:1] == ["serve"]:
        assert_serves(program, *arguments, "--port", "0", "--no-browser")
        return
    main = PROGRAMS[f"{python} {program}"]
    assert main(arguments) == 0, capsys.readouterr().err


def assert_serves(program, *arguments):
    """The program must say where it serves, and goes on until it is told to end."""
    command = [sys.executable, ROOT / program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.terminate()
        assert line.startswith("serving     http://127.0.0.1:") and process.wait(60) == 143


def test_there_are_commands():
    assert len(COMMANDS) > 10


# Keras shuffles by default, and warns that it does not shuffle a dataset.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
# A model that is fitted to zeros does collapse, and is said to.
@pytest.mark.filterwarnings("ignore:SimilarityMaps, step .*collapsed:UserWarning")
@pytest.mark.parametrize("page, text", blocks("python"))
def test_a_piece_of_python_runs_and_its_values_are_true(folder, page, text):
    images = [image_ops.load_image(path) for path in EXAMPLE_PAIR]
    data = tf.data.Dataset.from_tensors((np.zeros((2, 32, 32, 3)), np.zeros((2, 2))))
    model = keras.saving.load_model("model.keras", compile=False)
    model.compile(loss="mse")
    names = {"image1": images[0], "image2": Image.fromarray(images[1]), "model": model}
    names |= {"data": data, "load_network": load_network, "visualize_pair": visualize_pair}
    shutil.rmtree("gallery")
    lines = text.splitlines()
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), str(page), "exec"), names)
            continue
        value = eval(compile(ast.Expression(statement.value), str(page), "eval"), names)
        said = lines[statement.end_lineno - 1][statement.end_col_offset :].strip(" #")
        if re.match(r"[\d('\[-]", said):
            assert_said(value, said)


def assert_said(value, said):
    """A value must be the text after it, a float to as many digits as are given there."""
    expected = ast.literal_eval(said)
    if isinstance(value, tuple) and isinstance(expected, tuple) and value != expected:
        parts = ast.parse(said, mode="eval").body.elts
        for each, part in zip(value, parts, strict=True):
            assert_said(each, ast.get_source_segment(said, part))
    elif isinstance(expected, float):
        digits = len(said.partition(".")[2])
        assert f"{value:.{digits}f}" == said
    else:
        assert value == expected


def test_the_readme_says_which_version_it_is_of():
    assert f"version {simvis.__version__} of" in (ROOT / "README.md").read_text("utf-8")


def test_what_pages_link_to_is_there():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 140
