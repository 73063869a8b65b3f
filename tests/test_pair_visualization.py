"""A pair in Python: what a notebook has, the shell has."""

import json
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import image_ops
from pair_maps import Method
from pair_visualization import EXAMPLE_PAIR, FIGURE_FORMATS, Look, visualize_pair
from visualize_similarity import main


@pytest.fixture(scope="module")
def pair(imagenet):
    return visualize_pair(*EXAMPLE_PAIR, imagenet, region1=(196, 90, 334, 170), point1=(293, 150))


def test_all_that_is_an_image_is_taken(imagenet):
    paths = visualize_pair(*EXAMPLE_PAIR, imagenet)
    pictures = [Image.open(path) for path in EXAMPLE_PAIR]
    arrays = [image_ops.load_image(path) for path in EXAMPLE_PAIR]
    lists = [array[:9, :9].tolist() for array in arrays]
    for given in (pictures, arrays, map(str, EXAMPLE_PAIR), map(memoryview, arrays)):
        other = visualize_pair(*given, imagenet)
        assert_array_equal(other.overlay1, paths.overlay1)
        assert other.similarity == paths.similarity
    assert other.names == ("image 1", "image 2")
    transparent = pictures[0].convert("RGBA")
    transparent.putalpha(0)
    white = visualize_pair(transparent, arrays[1], imagenet, alpha=0).overlay1
    assert (white == 255).all()
    with pytest.raises(ValueError, match="image: expected an RGB uint8 .* got int64 of shape"):
        visualize_pair(*lists, imagenet)
    with pytest.raises(ValueError, match="image: expected an RGB uint8 .* got NoneType"):
        visualize_pair(None, arrays[1], imagenet)


def test_it_prints_as_one_line_and_shows_itself(pair):
    assert re.fullmatch(r"PairVisualization\(similarity 0\.\d{4}, .*imagenet network\)", repr(pair))
    page = pair._repr_html_()
    assert f"similarity {pair.similarity:.4f}" in page and page.count("<img") == 1
    assert f"{pair.value_range2[1]:.2g}" in page


def test_what_the_shell_writes_a_notebook_writes(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = ["--region1", "196,90,334,170", "--point1", "293,150"]
    files = ["--output", "a.png", "--figure", "a.figure.png", "--html", "a.html"]
    assert main([*map(str, EXAMPLE_PAIR), *places, *files, "--save-maps", "a.npz"]) == 0
    image_ops.save_image("b.png", pair.picture())
    pair.save_figure("b.figure.png")
    pair.save_page("b.html")
    for ending in ("png", "figure.png", "html"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    pair.save_maps("b.npz")
    with np.load("a.npz") as shell, np.load("b.npz") as notebook:
        settings = [json.loads(str(maps["settings"])) for maps in (shell, notebook)]
        for name in set(shell.files) - {"settings"}:
            assert_array_equal(shell[name], notebook[name])
    same = ("network", "pooling", "power", "embedding", "point1")
    assert all(settings[0][name] == settings[1][name] for name in same)
    assert settings[1]["region1"] == [196, 90, 334, 170]


def test_a_figure_is_matplotlibs(pair):
    figure = pair.figure()
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert {path.name for path in EXAMPLE_PAIR} <= set(titles)
    assert figure.get_suptitle() == f"similarity {pair.similarity:.3f}"


@pytest.mark.parametrize("ending", FIGURE_FORMATS)
def test_a_figure_is_written(pair, tmp_path, ending):
    pair.save_figure(tmp_path / f"figure{ending}")
    start = (tmp_path / f"figure{ending}").read_bytes()[:1000]
    assert {".png": b"PNG", ".pdf": b"%PDF", ".svg": b"<svg"}[ending] in start


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pooling": "mean"}, "pooling: expected average or max or gem, got 'mean'"),
        ({"power": 0.5}, "power: expected a number >= 1, got 0.5"),
        ({"power": "3"}, "power: expected a number >= 1, got '3'"),
        ({"explain": "output"}, "explain: expected pooled or head, got 'output'"),
        ({"region1": (9, 0, 5, 5)}, "region1: expected X0 < X1"),
        ({"region2": np.zeros((480, 720))}, "region2: the mask is empty"),
        ({"point2": (720, 0)}, "point2: 720,0 is outside"),
        ({"colormap": "jett"}, "colormap: 'jett'"),
        ({"alpha": None}, "alpha: expected a number in 0..1, got None"),
        ({"upsample": "nearest"}, "upsample: expected bilinear or bicubic, got 'nearest'"),
        ({"normalize": "both"}, "normalize: expected each or pair, got 'both'"),
        ({"size": 0}, "size: expected 1 to 10000 pixels, got 0"),
    ],
)
def test_bad_options_are_named_before_a_network_runs(options, message):
    with pytest.raises(ValueError, match=message):
        visualize_pair(*EXAMPLE_PAIR, "no such network", **options)


def test_values_do_not_change():
    with pytest.raises(AttributeError):
        Method().pooling = "max"
    with pytest.raises(AttributeError):
        Look().alpha = 0
