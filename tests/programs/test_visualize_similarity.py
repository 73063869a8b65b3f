"""The program for pairs: what it prints and writes, and one line for what is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import visualize_similarity
from models import load_network
from similarity_ops import (
    compute_pairwise_similarity,
    compute_spatial_similarity,
    point_similarity,
)
from simvis import __version__, image_ops
from visualize_similarity import EXAMPLE_PAIR, main, visualize_pair

PAIR = "left.png", "right.jpg"


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """The current folder, with two small images of different shapes."""
    monkeypatch.chdir(tmp_path)
    for name, size in zip(PAIR, ((90, 60), (50, 80)), strict=True):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(tmp_path / name)
    return tmp_path


def printed(capsys):
    """Return {word: rest} of the lines that were printed."""
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())


def saved(path="m.npz"):
    """Return what a file of maps holds, and its settings."""
    with np.load(path, allow_pickle=False) as maps:
        return dict(maps), json.loads(str(maps["settings"]))


def test_without_arguments_the_example_pair_is_shown(tmp_path):
    completed = subprocess.run(
        [sys.executable, ROOT / "visualize_similarity.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
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


def test_maps_and_page_keep_what_the_picture_shows(folder, imagenet, capsys):
    look = ["--colormap", "viridis", "--alpha", "0.7"]
    assert main([*PAIR, *look, "--save-maps", "m.npz", "--html", "pair.html"]) == 0
    lines = printed(capsys)
    maps, settings = saved()
    assert maps["similarity1"].dtype == np.float64 and maps["similarity1"].shape == (7, 7)
    for name in ("similarity1", "similarity2"):
        assert_allclose(maps[name].sum(), maps["similarity"], rtol=1e-5)
    assert f"{maps['similarity']:.4f}" == lines["similarity"]
    assert (str(maps["image1"]), str(maps["image2"])) == PAIR
    assert settings["colormap"] == "viridis" and settings["alpha"] == 0.7
    assert settings["version"] == __version__ and settings["allow_unsafe"] is False
    shown = visualize_pair(*PAIR, imagenet, colormap="viridis", alpha=0.7)
    expected = image_ops.combine_horizontal([shown.overlay1, shown.overlay2])
    picture = image_ops.load_image("left_right_similarity.png")
    assert_array_equal(picture[: len(expected), : expected.shape[1]], expected)
    assert_array_equal(picture, shown.picture(legend=True))
    assert lines["written"] == "pair.html"
    page = Path("pair.html").read_text("utf-8")
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', page)[1])
    assert [image["name"] for image in data["images"]] == list(PAIR)
    assert data["settings"]["colormap"] == "viridis" and data["network"].startswith("imagenet: ")
    output = "new/../newer/deep/o.png"  # whose folder is made
    assert main([*PAIR, *look, "--plain", "--output", output]) == 0
    assert_array_equal(image_ops.load_image("newer/deep/o.png"), expected)
    assert printed(capsys)["written"] == "newer/deep/o.png" and not Path("new").exists()


def test_odd_file_names_are_no_trouble(folder, capfd):
    odd, long = "$x_1^2$ ünï\n\udcff.png", "n" * 250 + ".png"
    Path("left.png").rename(odd)
    assert main([odd, PAIR[1], "--figure", "f.png", "--save-maps", "m.npz"]) == 0
    assert capfd.readouterr().err == ""
    Path(odd).rename(long)
    assert main([long, PAIR[1]]) == 2
    assert "File name too long" in capfd.readouterr().err


@pytest.mark.parametrize("pooling", ["average", "max", "gem"])
def test_the_program_explains_regions_and_points(folder, imagenet, capsys, pooling):
    Image.new("L", (50, 80), 255).save("white.png")
    places = ["--region1", "20,10,47,50", "--region2", "white.png", "--point1", "30,30"]
    files = ["--save-maps", "m.npz", "--save-pairwise"]
    assert main([*PAIR, "--pooling", pooling, "--gem-power", "2", *places, *files]) == 0
    out = capsys.readouterr().out
    maps, settings = saved()
    assert settings["pooling"] == pooling and settings["region1"] == [20, 10, 47, 50]
    assert settings["region2"] is None and settings["mask2"].startswith("a mask, SHA-256 ")
    convs = imagenet.activations(imagenet.preprocess([image_ops.load_image(p) for p in PAIR]))
    region = image_ops.region_weights((20, 10, 47, 50), (60, 90), (7, 7))
    options = {"pooling": pooling, "power": 2.0, "region1": region}
    assert_allclose(maps["pairwise"], compute_pairwise_similarity(*convs, **options), atol=1e-6)
    expected = compute_spatial_similarity(*convs, **options)
    assert_allclose(maps["similarity1"], expected[0], atol=1e-6)
    match = point_similarity(maps["pairwise"], 30.5 * 7 / 60 - 0.5, 30.5 * 7 / 90 - 0.5)
    assert_allclose(maps["match2"], match, atol=1e-8)
    assert f"similarity  {maps['similarity']:.4f} of the region, " in out
    assert f"{maps['whole_similarity']:.4f} of the whole images" in out
    assert f"point       30,30 adds {match.sum():.4f} of it" in out
    assert "region2     100 % of the image, by its mask\n" in out and "region1  " not in out


def test_the_program_prints_and_keeps_matches(folder, imagenet, capsys):
    assert main([*PAIR, "--matches", "99", "--save-maps", "m.npz"]) == 0
    out, (maps, settings) = capsys.readouterr().out, saved()
    adds, count = maps["match_contributions"], len(maps["matches"])
    assert 0 < count < 49 and maps["matches"].shape == (count, 4) and settings["matches"] == 99
    words = f"{count} add {adds.sum():.4f} of it; no more cells are each other's nearest\n"
    assert f"matches     {words}" in out
    lines = re.findall(
        r"^match (\d+) +(\d+),(\d+) and (\d+),(\d+) add (.*) of it, cosine (.*)$", out, re.M
    )
    numbers = np.array(lines, float)
    assert_array_equal(numbers[:, 0], np.arange(1, count + 1))
    assert_allclose(numbers[:, 5], adds, atol=6e-3 * adds[0])
    assert_allclose(numbers[:, 6], maps["match_cosines"], atol=6e-5)
    sizes = [image_ops.load_image(path).shape[:2] for path in PAIR]
    for line, cell in zip(numbers.astype(int), maps["matches"], strict=True):
        for i, size in enumerate(sizes):  # a pixel that can be asked about
            at = image_ops.cell_of(line[1 + 2 * i : 3 + 2 * i], size, (7, 7))
            assert_allclose(at, cell[2 * i : 2 * i + 2], atol=0.51 * 7 / min(size))
    assert main([*PAIR, "--matches", str(count - 1)]) == 0
    assert "no more" not in capsys.readouterr().out


def test_a_transparent_mask_is_a_region_and_its_share_is_told(folder, imagenet, capsys):
    mask = np.zeros((60, 90, 4), np.uint8)
    mask[10:50, 20:47, 3] = 1
    Image.fromarray(mask).save("mask.png")
    shown = []
    for region in ("mask.png", "20,10,47,50"):
        assert main([*PAIR, "--region1", region, "--output", "a.png", "--save-maps", "m.npz"]) == 0
        shown.append((saved()[0]["similarity1"], image_ops.load_image("a.png")))
        assert ("region1     20 % of the image" in capsys.readouterr().out) == ("," not in region)
    assert_allclose(shown[0][0], shown[1][0], atol=1e-6)
    assert_array_equal(shown[0][1], shown[1][1])
    assert main([*PAIR, "--cover1", "mask.png"]) == 0
    assert "cover1      20 % of the image" in capsys.readouterr().out


def test_a_head_is_explained_by_either_name_if_there_is_one(folder, imagenet, capsys):
    import keras

    inputs = keras.Input((32, 32, 3))
    conv = keras.layers.Conv2D(4, 3, strides=8)(inputs)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(conv)).save("headless.keras")
    expected = visualize_pair(*PAIR, imagenet, explain="head").similarity
    for option in ("--explain", "--embedding"):
        assert main([*PAIR, option, "head"]) == 0
        assert f"similarity  {expected:.4f}\n" in capsys.readouterr().out
        assert main([*PAIR, "--network", "headless.keras", option, "head"]) == 2
        error = capsys.readouterr().err
        assert f"{option}: the headless.keras network has no linear head" in error


def test_what_matplotlib_or_a_disk_fails_at_is_one_line_with_what_was_written(
    folder, capsys, monkeypatch
):
    def fail(*_, **__):
        raise RuntimeError("latex could not be found\nfor it")

    files = ["--output", "new/o.png", "--figure", "f.pdf"]
    monkeypatch.setattr(visualize_similarity.PairVisualization, "figure", fail)
    assert main([*PAIR, *files]) == 2
    words = "--figure: matplotlib cannot draw it: latex could not be found for it; written before: "
    assert capsys.readouterr().err == f"visualize_similarity.py: error: {words}new/o.png\n"
    assert Path("new/o.png").exists() and not Path("f.pdf").exists()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_ops.Image.Image, "save", full)
    assert main([*PAIR, *files[:2]]) == 2
    assert "No space left on device: 'new/o.png'\n" in capsys.readouterr().err


def test_a_keras_model_is_a_network(folder):
    import keras

    from simvis.gallery.gallery import Gallery

    inputs = keras.Input((32, 32, 3))
    conv = keras.layers.Conv2D(4, 3, strides=8)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(conv))
    expected = visualize_pair(*PAIR, load_network(model))
    assert visualize_pair(*PAIR, model).similarity == expected.similarity
    triplet = visualize_similarity.visualize_triplet(*PAIR, PAIR[0], model)
    assert triplet.closer.similarity == expected.similarity
    gallery = Gallery(folder / "gallery", model, preprocess="0..1")
    assert gallery.index(folder).images == 2
    assert gallery.find(PAIR[0], top=1).hits[0].path == PAIR[0]
    for network in (5, ["imagenet"]):
        with pytest.raises(ValueError, match="network: expected a name or a keras.Model, got"):
            visualize_pair(*PAIR, network)
        with pytest.raises(ValueError, match="network: expected a name or a keras.Model, got"):
            Gallery(folder / "other", network).index(folder)


@pytest.mark.parametrize("place", ["--", "-- --region1", "--against", "--pairs"])
@pytest.mark.parametrize(
    "name, words",
    [
        ("http://example.org/a.png", "http://example.org/a.png: is an address, download it first"),
        ("file:///a.png", "file://a.png: is an address"),
        ("pipe", "pipe: is a pipe or a device, write it to a file first"),
        ("-", "-: is a pipe or a device"),
    ],
)
def test_what_is_no_file_is_one_line(folder, capsys, place, name, words):
    os.mkfifo("pipe")
    arguments = {
        "--": [name, PAIR[1]],
        "-- --region1": [*PAIR, f"--region1={name}"],
        "--against": [PAIR[0], f"--against={name}"],
        "--pairs": [f"--pairs={name}"],
    }
    assert main(arguments[place]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_an_address_in_a_list_is_told(folder):
    with pytest.raises(ValueError, match="^https://example.org/a.png: is an address"):
        image_ops.load_image(Path("photos") / "https://example.org/a.png")


# --- bad input: one line, exit status 2, nothing written ------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("left.png", "expected two images"),
        ("left.png right.jpg left.png", "expected two images, .*left.png"),
        ("left.png nowhere.png", "nowhere.png: no such image file"),
        ("left.png folder", "folder: is a folder, expected an image"),
        ("left.png text.png", "text.png: not an image"),
        ("-- --network resnet", "--network: .*'resnet'"),
        ("-- --batch-norm batch", "--batch-norm: the imagenet network has no such option"),
        ("-- --input-size 3", "--input-size: expected H,W, got '3'"),
        ("-- --input-size 64.5,64", "--input-size: .*whole pixels each, got .64.5, 64"),
        ("-- --colormap jett", "--colormap: 'jett'"),
        ("-- --alpha 1.01", "--alpha: .*1.01"),
        ("-- --alpha half", "--alpha: .*'half'"),
        ("-- --size 0", "--size: .*got 0"),
        ("-- --matches -2", "--matches: .*got -2"),
        ("-- --output folder", "--output: .*ending in .png"),
        ("-- --output left.png/a.png", "--output: .*left.png is no fold"),
        ("-- --output left.png", "--output: left.png is one of the files to read"),
        ("-- --output f.png/../left.png", "--output: left.png is one of the files to read"),
        ("-- --output hard.png", "--output: hard.png is one of the files to read"),
        ("-- --region1 black.png --output black.png", "black.png is one of the files to read"),
        ("-- --than black.png --output black.png", "black.png is one of the files to read"),
        ("-- --output a.png --figure folder/../a.png", "--figure: a.png is the file of --output"),
        ("-- --output a.png --figure loop/a.png", "--figure: loop/a.png is the file of --output"),
        ("-- --save-pairwise", "--save-pairwise: needs --save-maps"),
        ("-- --figure figure.doc", "--figure: .*.svg, .*got figure.doc"),
        ("-- --figure-style paper", "--figure-style: needs --figure"),
        ("-- --gem-power 0.5", "--gem-power: .*got 0.5"),
        ("-- --power=0.5", "--power: .*got 0.5"),
        ("-- --upsample nearest", "--upsample: invalid choice"),
        ("-- --colour jet", "unrecognized arguments: --colour"),
        ("-- --region1 5,5,5,9", "--region1: .*X0 < X1"),
        ("-- --region2 0,0,51,9", "--region2: .*50 x 80 pixels"),
        ("-- --region1 1,2,3", "--region1: expected X0,Y0,X1,Y1.*'1,2"),
        ("-- --region1 mask.png", "--region1: mask.png: no such file"),
        ("-- --region1 text.png", "--region1: text.png: not an image"),
        ("-- --region1 -5,0,10,10", "--region1: .*leaves the image"),
        ("-- --region2 black.png", "--region2: .*50 x 80.*got 90 x 60"),
        ("-- --region1 left.png", "--region1: left.png: .*as a mask: it has more than two colours"),
        ("-- --region1 black.png", "--region1: the mask is empty"),
        ("-- --point1 90,5", "--point1: 90,5 is outside.*90 x 60"),
        ("-- --point2 5", "--point2: expected X,Y"),
        ("-- --cover1 5,5,5,9", "--cover1: expected X0 < X1"),
        ("-- --cover1 0,0,9,9 --region2 0,0,9,9", "--cover1: is for whole images"),
        ("-- --cover-with blur", "--cover-with: needs --cover1"),
        ("-- --than left.png --point1 1,1", "--point1: is for a pair, without --than"),
        ("-- --than left.png --normalize each", "--normalize: is for a pair"),
        ("-- --than left.png --region1 0,0,9,999", "--region1: .*leaves the image"),
        ("--pairs p.csv --than left.png", "--than: is for a single pair"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, message):
    (folder / "folder").mkdir()
    (folder / "f.png").mkdir()
    (folder / "text.png").write_text("not a picture")
    Image.new("L", (90, 60)).save("black.png")
    (folder / "hard.png").hardlink_to("left.png")
    (folder / "loop").symlink_to(".")
    before = sorted(folder.rglob("*"))
    assert main(arguments.replace("-- ", "left.png right.jpg ", 1).split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert captured.err.startswith("visualize_similarity.py: error: ")
    assert re.search(message, captured.err)
    assert sorted(folder.rglob("*")) == before


def test_the_best_five_are_told(imagenet, capsys):
    names = "similarity", "image1", "image2", "error"
    rows = [
        dict(zip(names, (f"0.{i}1234", "a", f"sub/{i}.png", ""), strict=True)) for i in range(7)
    ]
    rows.append(dict(zip(names, ("", "a", "broken.png", "no image"), strict=True)))
    assert visualize_similarity.report_pairs(imagenet, rows, 0, Path("out"), best=5) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("best ")]
    assert told == [f"best        0.{i}123  {i}.png" for i in (6, 5, 4, 3, 2)]


def test_bad_input_fails_before_tensorflow_is_imported(folder):
    program = """if True:
        import sys
        sys.modules["tensorflow"] = None
        import visualize_similarity
        sys.exit(visualize_similarity.main(["left.png", "nowhere.png"]))
    """
    completed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert completed.returncode == 2 and "nowhere.png" in completed.stderr
