"""Every command and every piece of Python in the README and the docs runs."""

import re
import shlex
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

import search_gallery
import visualize_similarity
from models import load_network
from simvis import image_ops
from simvis.gallery.gallery import Gallery
from simvis.models import downloads
from visualize_similarity import EXAMPLE_PAIR, visualize_pair

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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with all that the pages name."""
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(EXAMPLE_PAIR, 1):
        for name in (f"IMAGE{number}", f"room{number}.jpg"):
            (tmp_path / name).symlink_to(path)
    for name in ("IMAGE3", "room3.jpg"):
        (tmp_path / name).symlink_to(ROOT / "example_images" / "room_b_view1.jpg")
    (tmp_path / "IMAGE").symlink_to(EXAMPLE_PAIR[0])
    (tmp_path / "FOLDER").mkdir()
    shutil.copy(EXAMPLE_PAIR[1], tmp_path / "FOLDER" / "a.jpg")
    (tmp_path / "pairs.csv").write_text("image1,image2\nroom1.jpg,room2.jpg\n")
    return tmp_path


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((32, 32, 3))
    conv = keras.layers.Conv2D(4, 3, strides=8)(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(conv))
    model = keras.Model(inputs, outputs)
    model.compile(loss="mse")
    return model


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


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(request, folder, model, command, capsys):
    if "hotels" in command or "faces" in command:
        request.getfixturevalue("authors_files")
    if "keras:" in command:
        command += " --weights none"  # instead of ImageNet's, which Keras would download
    model.save("model.keras")
    python, program, *arguments = shlex.split(command)
    if program == "search_gallery.py" and arguments[0] != "index":
        Gallery("gallery", "rooms", input_size=(64, 64)).index("FOLDER")
    options = program == "visualize_similarity.py" and arguments[0].startswith("--")
    if options and not {"--network", "--pairs"} & set(arguments):
        arguments = ["IMAGE1", "IMAGE2", *arguments]
    main = PROGRAMS[f"{python} {program}"]
    assert main(arguments) == 0, capsys.readouterr().err


def test_there_are_commands():
    assert len(COMMANDS) > 10


# Keras shuffles by default, and warns that it does not shuffle a dataset.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
# A model that is fitted to zeros does collapse, and is said to.
@pytest.mark.filterwarnings("ignore:SimilarityMaps, step .*collapsed:UserWarning")
@pytest.mark.parametrize("page, text", blocks("python"))
def test_a_piece_of_python_runs(folder, model, page, text):
    images = [image_ops.load_image(path) for path in EXAMPLE_PAIR]
    data = tf.data.Dataset.from_tensors((np.zeros((2, 32, 32, 3)), np.zeros((2, 2))))
    names = {"image1": images[0], "image2": Image.fromarray(images[1]), "model": model}
    names |= {"data": data, "load_network": load_network, "visualize_pair": visualize_pair}
    exec(compile(text, str(page), "exec"), names)


def test_what_pages_link_to_is_there():
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 160
