"""The program, run as a user runs it."""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import visualize_similarity
from similarity_ops import (
    compute_pairwise_similarity,
    compute_spatial_similarity,
    point_similarity,
)
from simvis import image_ops
from simvis.cli import OneLineParser, run_program
from visualize_similarity import EXAMPLE_PAIR, main, visualize_pair

PROGRAM = ROOT / "visualize_similarity.py"


def run(*arguments, cwd):
    """Run the program in a process of its own, from a folder of the user's."""
    return subprocess.run(
        [sys.executable, PROGRAM, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )


@pytest.fixture
def pair(tmp_path, monkeypatch, rng):
    """Two small images of different shapes in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, size in (("left.png", (90, 60)), ("right.jpg", (50, 80))):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(tmp_path / name)
    return "left.png", "right.jpg"


def test_without_arguments_the_example_pair_is_shown(tmp_path):
    completed = run(cwd=tmp_path)
    assert completed.returncode == 0 and completed.stderr == ""
    lines = dict(line.split(maxsplit=1) for line in completed.stdout.splitlines())
    stems = "_".join(path.stem for path in EXAMPLE_PAIR)
    assert lines["network"].startswith("imagenet: ") and lines["maps"] == "7 x 7"
    assert 0.4 < float(lines["similarity"]) < 1
    assert lines["written"] == f"{stems}_similarity.png"
    assert [path.name for path in tmp_path.iterdir()] == [lines["written"]]
    heights = [image_ops.load_image(path).shape[0] for path in EXAMPLE_PAIR]
    height, width, _ = image_ops.load_image(tmp_path / lines["written"]).shape
    assert max(heights) < height < max(heights) + width / 8  # with a slim legend


def test_maps_keep_what_the_picture_shows(pair, imagenet, capsys):
    assert main([*pair, "--save-maps", "maps.npz", "--colormap", "viridis", "--alpha", "0.7"]) == 0
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    with np.load("maps.npz", allow_pickle=False) as maps:
        assert maps["similarity1"].dtype == np.float64 and maps["similarity1"].shape == (7, 7)
        for name in ("similarity1", "similarity2"):
            assert_allclose(maps[name].sum(), maps["similarity"], rtol=1e-5)
        assert f"{maps['similarity']:.4f}" == printed["similarity"]
        assert (str(maps["image1"]), str(maps["image2"])) == pair
        settings = json.loads(str(maps["settings"]))
    assert settings["colormap"] == "viridis" and settings["alpha"] == 0.7
    shown = visualize_pair(*pair, imagenet, colormap="viridis", alpha=0.7)
    expected = image_ops.combine_horizontal([shown.overlay1, shown.overlay2])
    picture = image_ops.load_image("left_right_similarity.png")
    assert_array_equal(picture[: len(expected), : expected.shape[1]], expected)
    assert_array_equal(picture, shown.picture(legend=True))
    assert main([*pair, "--plain", "--colormap", "viridis", "--alpha", "0.7"]) == 0
    assert_array_equal(image_ops.load_image("left_right_similarity.png"), expected)


def test_overlays_are_of_the_images_own_size_or_of_the_one_asked_for(pair, imagenet):
    shown = visualize_pair(*pair, imagenet)
    assert shown.overlay1.shape == (60, 90, 3) and shown.overlay2.shape == (80, 50, 3)
    shown = visualize_pair(*pair, imagenet, size=224)
    assert shown.overlay1.shape == shown.overlay2.shape == (224, 224, 3)


def test_normalize_pair_colours_equal_values_alike(pair, imagenet):
    each = visualize_pair(*pair, imagenet)
    both = visualize_pair(*pair, imagenet, normalize="pair", colormap="gray", alpha=1)
    assert each.value_range1 != each.value_range2 and both.value_range1 == both.value_range2
    brightest = [overlay.max() for overlay in (both.overlay1, both.overlay2)]
    assert max(brightest) == 255 and min(brightest) < 255


def test_an_image_against_itself_is_wholly_similar(pair, imagenet):
    shown = visualize_pair(pair[0], pair[0], imagenet)
    assert_allclose(shown.similarity, 1, rtol=1e-5)
    assert_allclose(shown.similarity1, shown.similarity2, atol=1e-6)


def test_a_page_to_explore_is_written(pair, capsys):
    assert main([*pair, "--html", "pair.html", "--colormap", "cividis"]) == 0
    assert "written     pair.html" in capsys.readouterr().out
    with open("pair.html", encoding="utf-8") as file:
        page = file.read()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert [image["name"] for image in data["images"]] == list(pair)
    assert [(image["width"], image["height"]) for image in data["images"]] == [(90, 60), (50, 80)]
    assert data["settings"]["colormap"] == "cividis" and data["network"].startswith("imagenet: ")


def test_odd_file_names_are_no_trouble(pair, tmp_path, capsys):
    odd = "$x_1^2$ ünï\n\udcff.png"
    (tmp_path / "left.png").rename(tmp_path / odd)
    completed = run(odd, pair[1], "--figure", "f.png", "--save-maps", "m.npz", cwd=tmp_path)
    assert completed.returncode == 0 and completed.stderr == ""
    long = "n" * 250 + ".png"
    (tmp_path / odd).rename(tmp_path / long)
    assert main([long, pair[1]]) == 2
    assert "File name too long" in capsys.readouterr().err


# --- regions, points, poolings, heads ------------------------------------------------------------


def test_a_box_and_its_mask_are_one_region(pair, imagenet):
    mask = np.zeros((60, 90), bool)
    mask[10:50, 20:47] = True
    by_box = visualize_pair(*pair, imagenet, region1=(20, 10, 47, 50))
    by_mask = visualize_pair(*pair, imagenet, region1=mask)
    assert_allclose(by_box.similarity1, by_mask.similarity1, atol=1e-6)
    assert_array_equal(by_box.overlay1, by_mask.overlay1)
    whole = visualize_pair(*pair, imagenet)
    assert by_box.similarity != by_box.whole_similarity
    assert_allclose(by_box.whole_similarity, whole.similarity, rtol=1e-6)
    assert by_box.similarity1[0].max() == by_box.similarity1[:, 5:].max() == 0


@pytest.mark.parametrize("pooling", ["average", "max", "gem"])
def test_the_program_explains_regions_and_points(pair, imagenet, capsys, pooling):
    Image.new("L", (50, 80), 255).save("white.png")
    places = ["--region1", "20,10,47,50", "--region2", "white.png", "--point1", "30,30"]
    files = ["--save-maps", "m.npz", "--save-pairwise"]
    assert main([*pair, "--pooling", pooling, "--gem-power", "2", *places, *files]) == 0
    printed = capsys.readouterr().out
    with np.load("m.npz", allow_pickle=False) as maps:
        maps = dict(maps)
    settings = json.loads(str(maps["settings"]))
    assert settings["pooling"] == pooling and settings["region1"] == "20,10,47,50"
    convs = imagenet.activations(imagenet.preprocess([image_ops.load_image(p) for p in pair]))
    region = image_ops.region_weights((20, 10, 47, 50), (60, 90), (7, 7))
    options = {"pooling": pooling, "power": 2.0, "region1": region}
    assert_allclose(maps["pairwise"], compute_pairwise_similarity(*convs, **options), atol=1e-6)
    assert_allclose(
        maps["similarity1"], compute_spatial_similarity(*convs, **options)[0], atol=1e-6
    )
    match = point_similarity(maps["pairwise"], 30.5 * 7 / 60 - 0.5, 30.5 * 7 / 90 - 0.5)
    assert_allclose(maps["match2"], match, atol=1e-12)
    assert f"similarity  {maps['similarity']:.4f} of the region, " in printed
    assert f"{maps['whole_similarity']:.4f} of the whole images" in printed
    assert f"point       30,30 adds {match.sum():.4f} of it" in printed


def test_a_point_shows_its_match_on_the_other_image_alone(pair, imagenet):
    shown = visualize_pair(*pair, imagenet, point2=(25, 40), size=100)
    assert shown.match2 is None and shown.match1.shape == (7, 7)
    plain = image_ops.resize(image_ops.load_image(pair[1]), (100, 100))
    assert_array_equal(shown.overlay2, image_ops.draw_point(plain, 50.5, 50.125))
    expected = image_ops.combine_image_and_heatmap(shown.image1, shown.match1)
    assert_array_equal(shown.overlay1, expected)


def test_the_head_explains_the_networks_output(pair, imagenet, rng):
    head = rng.standard_normal((1280, 16)), rng.standard_normal(16)
    network = dataclasses.replace(imagenet, projection=head)
    shown = visualize_pair(*pair, network, explain="head")
    convs = network.activations(network.preprocess([image_ops.load_image(p) for p in pair]))
    outputs = [conv.mean(axis=(0, 1)) @ head[0] + head[1] for conv in convs]
    cosine = outputs[0] @ outputs[1] / np.prod([np.linalg.norm(output) for output in outputs])
    assert_allclose(shown.similarity, cosine, rtol=1e-5)
    assert visualize_pair(*pair, network).similarity != pytest.approx(cosine, rel=1e-3)
    by_default = visualize_pair(*pair, dataclasses.replace(network, explain="head"))
    assert_allclose(by_default.similarity, cosine, rtol=1e-5)


# --- bad input: one line, exit status 2, nothing written ------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["left.png"], "expected two images"),
        (["left.png", "right.jpg", "left.png"], "expected two images, .*left.png"),
        (["left.png", "nowhere.png"], "nowhere.png: no such image file"),
        (["left.png", "folder"], "folder: is a folder, expected an image"),
        (["left.png", "text.png"], "text.png: not an image"),
        (["left.png", "right.jpg", "--network", "resnet"], "--network: .*'resnet'"),
        (["left.png", "right.jpg", "--colormap", "jett"], "colormap: 'jett'"),
        (["left.png", "right.jpg", "--alpha", "1.01"], "--alpha: .*1.01"),
        (["left.png", "right.jpg", "--alpha", "nan"], "--alpha: .*nan"),
        (["left.png", "right.jpg", "--alpha", "half"], "--alpha: .*'half'"),
        (["left.png", "right.jpg", "--size", "0"], "--size: .*got 0"),
        (["left.png", "right.jpg", "--matches", "-2"], "--matches: .*got -2"),
        (["left.png", "right.jpg", "--matches", "many"], "--matches: .*'many'"),
        (["left.png", "right.jpg", "--size", "99999"], "--size: .*got 99999"),
        (["left.png", "right.jpg", "--output", "folder"], "--output: .*ending in .png"),
        (["left.png", "right.jpg", "--output", "f.png"], "--output: f.png is a folder"),
        (
            ["left.png", "right.jpg", "--output", "left.png/a.png"],
            "--output: .*left.png is no fold",
        ),
        (
            ["left.png", "right.jpg", "--output", "left.png"],
            "--output: left.png is one of the file",
        ),
        (
            ["left.png", "right.jpg", "--output", "f.png/../left.png"],
            "--output: left.png is one of",
        ),
        (
            ["left.png", "right.jpg", "--output", "link.png"],
            "--output: link.png is one of the file",
        ),
        (
            ["left.png", "right.jpg", "--output", "hard.png"],
            "--output: hard.png is one of the file",
        ),
        (
            ["left.png", "right.jpg", "--region1", "black.png", "--output", "black.png"],
            "files to r",
        ),
        (["left.png", "right.jpg", "--output", "a.gif"], "--output: .*got a.gif"),
        (["left.png", "right.jpg", "--output", "a.png", "--figure", "a.png"], "of --output, name"),
        (
            ["left.png", "right.jpg", "--output", "a.png", "--figure", "folder/../a.png"],
            "--figure: a.png is the file of --output, name another one",
        ),
        (
            ["left.png", "right.jpg", "--output", "a.png", "--figure", "loop/a.png"],
            "--figure: loop/a.png is the file of --output, name another one",
        ),
        (["left.png", "right.jpg", "--save-maps", "maps.txt"], "--save-maps: .*.npz"),
        (["left.png", "right.jpg", "--figure", "figure.doc"], "--figure: .*.svg, .*got figure.doc"),
        (["left.png", "right.jpg", "--html", "page.txt"], "--html: .*.html"),
        (["left.png", "right.jpg", "--batch-norm", "batch"], "--batch-norm: the imagenet"),
        (["left.png", "right.jpg", "--pooling", "mean"], "--pooling: invalid choice"),
        (["left.png", "right.jpg", "--gem-power", "0.5"], "--gem-power: .*got 0.5"),
        (["left.png", "right.jpg", "--power=0.5"], "--power: .*got 0.5"),
        (["left.png", "right.jpg", "--explain", "all"], "--explain.*: invalid choice"),
        (["left.png", "right.jpg", "--region1", "5,5,5,9"], "--region1: .*X0 < X1"),
        (["left.png", "right.jpg", "--region1", "9,5,5,9"], "--region1: .*X0 < X1"),
        (["left.png", "right.jpg", "--region2", "0,0,51,9"], "--region2: .*50 x 80 pixels"),
        (["left.png", "right.jpg", "--region1", "1,2,3"], "--region1: expected X0,Y0,X1,Y1.*'1,2"),
        (["left.png", "right.jpg", "--region1", "nan,0,1,1"], "--region1: expected X0"),
        (["left.png", "right.jpg", "--region1", "mask.png"], "--region1: mask.png: no such file"),
        (["left.png", "right.jpg", "--region1", "-5,0,10,10"], "--region1: .*leaves the image"),
        (["left.png", "right.jpg", "--point1", "-5,0"], "--point1: -5,0 is outside"),
        (["left.png", "right.jpg", "--region2", "left.png"], "--region2: .*50 x 80.*got 90 x 60"),
        (["left.png", "right.jpg", "--region1", "black.png"], "--region1: the mask is empty"),
        (["left.png", "right.jpg", "--point1", "90,5"], "--point1: 90,5 is outside.*90 x 60"),
        (["left.png", "right.jpg", "--point2", "5"], "--point2: expected X,Y"),
        (["left.png", "right.jpg", "--save-pairwise"], "--save-pairwise: needs --save-maps"),
        (["left.png", "right.jpg", "--upsample", "nearest"], "--upsample: invalid choice"),
        (["left.png", "right.jpg", "--colour", "jet"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_input_is_one_line(pair, tmp_path, capsys, arguments, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "f.png").mkdir()
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("L", (90, 60)).save(tmp_path / "black.png")
    (tmp_path / "link.png").symlink_to("left.png")
    (tmp_path / "hard.png").hardlink_to("left.png")
    (tmp_path / "loop").symlink_to(".")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("visualize_similarity.py: error: ")
    assert re.search(message, captured.err)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_best_five_are_told(imagenet, capsys):
    names = "similarity", "image1", "image2", "error"
    rows = [
        dict(zip(names, (f"0.{i}1234", "a", f"sub/{i}.png", ""), strict=True)) for i in range(7)
    ]
    rows.append(dict(zip(names, ("", "a", "broken.png", "no image"), strict=True)))
    assert visualize_similarity.report_pairs(imagenet, rows, 0, Path("out"), best=5) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("best ")]
    assert told == [f"best        0.{i}123  {i}.png" for i in (6, 5, 4, 3, 2)]


def test_the_folder_of_a_picture_is_made(pair, imagenet, capsys):
    assert main([*pair, "--output", "new/../newer/deep/o.png"]) == 0
    assert Path("newer/deep/o.png").is_file() and not Path("new").exists()
    assert capsys.readouterr().out.endswith("written     newer/deep/o.png\n")


def test_errors_speak_the_language_of_the_shell(capsys):
    def run(arguments):
        raise ValueError('batch_size: each pair is a batch, say layer= or pooling="gem"; a,layer=b')

    command = ["--batch-size", "4", "--pairs", "p.csv"]
    assert run_program(visualize_similarity.parser(), run, command) == 2
    message = "--batch-size: each pair is a batch, say --layer or --pooling gem; a,layer=b"
    assert capsys.readouterr().err == f"visualize_similarity.py: error: {message}\n"


def test_what_other_libraries_say_is_not_shown(capfd):
    def run(arguments):
        warnings.warn("Glyph 35486 missing", UserWarning, stacklevel=1)
        logging.getLogger("matplotlib").warning("Bad key in file matplotlibrc")
        print("told")
        return 0

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run_program(OneLineParser("program"), run, []) == 0
    assert capfd.readouterr() == ("told\n", "")


def test_too_little_memory_is_one_line(capsys):
    def run(arguments):
        raise MemoryError

    assert run_program(OneLineParser("program"), run, []) == 2
    assert capsys.readouterr().err == "program: error: there is not enough memory for it\n"


TOLD = """
import sys
import warnings
from pathlib import Path
from simvis.cli import OneLineParser, run_program
def run(arguments):
    print("told " * 10_000)
    return 0
sys.exit(run_program(OneLineParser("program"), run, []))
"""


@pytest.mark.parametrize(
    "shell, status, error",
    [
        ("{} >&-", 0, ""),
        ("{} >/dev/full", 1, "program: all is done, but cannot be told: No space left on device\n"),
        ("{} | true", 0, ""),
        (
            "mkdir gone; cd gone; rmdir ../gone; {}",
            2,
            "program: error: the current folder was dele",
        ),
        ("{} 2>&-", 0, ""),
    ],
)
def test_wherever_the_output_goes_there_is_one_line_and_the_right_status(
    tmp_path, shell, status, error
):
    (tmp_path / "told.py").write_text(TOLD)
    program = f"'{sys.executable}' '{tmp_path}/told.py'"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    completed = subprocess.run(
        ["bash", "-c", "set -o pipefail; " + shell.format(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert completed.returncode == status
    assert completed.stderr.startswith(error) and completed.stderr.count("\n") == bool(error)


def test_an_interruption_while_importing_is_one_line(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # an image_ops that waits until it is interrupted
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.abc, os, signal, sys\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'image_pairs':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    completed = subprocess.run(
        [sys.executable, PROGRAM, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert completed.stderr == "visualize_similarity.py: interrupted\n"
    assert completed.returncode == 130


@pytest.fixture
def headless(pair):
    """A model file whose network pools and has no head."""
    import keras

    inputs = keras.Input((32, 32, 3))
    conv = keras.layers.Conv2D(4, 3, strides=8)(inputs)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(conv)).save("headless.keras")
    return "headless.keras"


def test_a_head_that_is_not_there_cannot_be_explained(pair, headless, capsys):
    for option in ("--explain", "--embedding"):
        assert main([*pair, "--network", headless, option, "head"]) == 2
        error = capsys.readouterr().err
        assert f"{option}: the headless.keras network has no linear head" in error


def test_the_classifier_is_explained_by_either_name(pair, imagenet, capsys):
    expected = visualize_pair(*pair, imagenet, explain="head").similarity
    for option in ("--explain", "--embedding"):
        assert main([*pair, option, "head"]) == 0
        assert f"similarity  {expected:.4f}\n" in capsys.readouterr().out


def test_bad_input_fails_before_tensorflow_is_imported(pair):
    program = f"""
import sys
import warnings
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
sys.modules["tensorflow"] = None
import visualize_similarity
sys.exit(visualize_similarity.main(["left.png", "nowhere.png"]))
"""
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert completed.returncode == 2 and "nowhere.png" in completed.stderr
