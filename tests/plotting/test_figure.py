"""A figure, as a reader of the paper and its publisher open it."""

import base64
import dataclasses
import io
import os
import re
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pypdf
import pytest
from conftest import ROOT
from PIL import Image

from simvis import image_ops
from simvis.pair import EXAMPLE_PAIR, FIGURE_FORMATS, visualize_pair
from visualize_similarity import main


@pytest.fixture(scope="module")
def pair(imagenet):
    """A pair of small pictures, which are quicker to draw."""
    return visualize_pair(*EXAMPLE_PAIR, imagenet, region1=(196, 90, 334, 170), size=90)


@pytest.fixture(scope="module")
def point(imagenet):
    return visualize_pair(*EXAMPLE_PAIR, imagenet, point1=(293, 150), size=90)


def saved(pair, ending, style="screen"):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair.figure(style).savefig(file, format=ending)
    return file


def test_a_users_matplotlibrc_neither_breaks_nor_restyles_it(pair):
    plain = saved(pair, "png").getvalue()
    mine = {"text.usetex": True, "font.family": "monospace", "savefig.bbox": "tight"}
    with matplotlib.rc_context({**mine, "axes.facecolor": "red", "figure.facecolor": "red"}):
        assert saved(pair, "png").getvalue() == plain


@pytest.mark.parametrize("mine, words", [(b"image.lut: 4", ""), (b"\xff", "at your matplotlibrc")])
def test_nor_does_it_change_the_colours(tmp_path, mine, words):
    (tmp_path / "matplotlibrc").write_bytes(mine)
    script = "from simvis import image_ops; print(image_ops.colorize_map([[0, 0.2, 0.7, 1]]))"
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    told = run.stdout or run.stderr
    assert (words or str(image_ops.colorize_map([[0, 0.2, 0.7, 1]]))) in told


def bars(figure):
    return [ax for ax in figure.axes if ax.get_xlabel().startswith("contribution to the similar")]


def test_it_says_of_what_the_similarity_is(pair):
    title = pair.figure().get_suptitle().replace("\n", " ")
    assert title == (
        f"similarity {pair.similarity:.4f} of image 1's region to image 2, "
        f"{pair.whole_similarity:.4f} of the whole images imagenet, average pooling"
    )


def test_no_bar_is_under_an_image_without_a_map(pair, point):
    assert len(bars(pair.figure())) == 2
    (bar,) = bars(point.figure())
    assert bar.get_xlim() == pytest.approx(point.value_range2)
    box, under = bar.get_position(), point.figure().axes[3].get_position()
    assert under.x0 - 0.1 < box.x0 and box.x1 < under.x1 + 0.1 and box.y1 < under.y1


def test_a_bar_has_a_tip_where_values_leave_its_range(pair):
    low, high = pair.shown1.min(), pair.shown1.max()
    for value_range, tip in (
        ((low, high), "neither"),
        ((low, high / 2), "max"),
        ((high / 2, high), "min"),
        ((high / 3, high / 2), "both"),
    ):
        figure = dataclasses.replace(pair, value_range1=value_range).figure()
        assert bars(figure)[0]._colorbar.extend == tip


def test_a_fine_map_stays_within_its_own_range(imagenet):
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet, stride=4)  # whose highest cell meets no pixel
    assert pair.shown1.max() > 1.01 * pair.value_range1[1]
    assert [bar._colorbar.extend for bar in bars(pair.figure())] == ["neither"] * 2


@pytest.mark.parametrize("style", ["screen", "paper"])
def test_a_pdf_has_truetype_text_and_the_images_own_pixels(pair, style):
    (page,) = pypdf.PdfReader(saved(pair, "pdf", style)).pages
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    kinds = [font["/Subtype"] for font in fonts]
    kinds += [
        each.get_object()["/Subtype"] for f in fonts for each in f.get("/DescendantFonts", [])
    ]
    assert kinds and "/Type3" not in kinds and "/CIDFontType2" in kinds
    text = " ".join(page.extract_text().split())
    for words in ("imagenet, average pooling", "room_a_view1.jpg", f"{pair.similarity:.4f}"):
        assert words in text
    photos = [image.image.size for image in page.images]
    assert photos.count((90, 90)) == 4
    found = [np.asarray(image.image.convert("RGB"))[::-1] for image in page.images]
    for each in (pair.image1, pair.overlay1, pair.image2, pair.overlay2):
        assert any(np.array_equal(each, image) for image in found)  # to the bit, from the bottom up
    width, height = (float(side) / 72 for side in page.mediabox[2:])
    expected = {"screen": (8, 6), "paper": (3.35, 2.75)}[style]
    assert (width, height) == pytest.approx(expected, abs=0.01)


def test_an_svg_has_text_and_the_images_own_pixels(pair):
    page = saved(pair, "svg").getvalue().decode()
    assert "imagenet, average pooling" in page and "room_a_view2.jpg" in page
    links = re.findall(r'href="data:image/png;base64,([^"]*)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(link))).size for link in links]
    assert sizes.count((90, 90)) == 4


@pytest.mark.parametrize("ending", ["ps", "eps"])
def test_postscript_has_truetype_text(point, ending, caplog):
    content = saved(point, ending).getvalue().decode("latin-1")
    assert content.startswith("%!PS-Adobe")
    assert "/FontType 42 def" in content and "/FontType 3 def" not in content
    assert caplog.text == ""  # nothing is transparent, which PostScript does not know


def test_a_png_has_a_dot_for_each_pixel(pair, imagenet):
    figure = visualize_pair(*EXAMPLE_PAIR, imagenet).figure()
    file = io.BytesIO()
    figure.savefig(file)
    share = figure.axes[0].get_position().width  # of the figure, for its first image
    assert share * Image.open(file).width >= 720
    assert Image.open(saved(pair, "png")).size == (1600, 1200)


def test_each_format_is_written_whatever_the_names(pair, tmp_path):
    odd = dataclasses.replace(pair, names=("猫 $x_1^2$.png", "a\n\udcff.png"))
    kinds = {".png": b"PNG", ".pdf": b"%PDF", ".svg": b"<svg", ".eps": b"EPSF", ".ps": b"%!PS"}
    for ending in FIGURE_FORMATS:
        odd.save_figure(tmp_path / f"figure{ending}", "paper")
        assert kinds[ending] in (tmp_path / f"figure{ending}").read_bytes()[:1000]
    titles = {ax.get_title() for ax in odd.figure().axes}
    assert {"? $x_1^2$.png", "a ?.png"} <= titles


def test_the_program_writes_it_in_a_style(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--figure-style", "paper", "--normalize", "pair", "--size", "90"]
    assert main(["--figure", "figure.pdf", *options]) == 0
    assert "written     figure.pdf\n" in capsys.readouterr().out
    (page,) = pypdf.PdfReader("figure.pdf").pages
    assert float(page.mediabox.width) == pytest.approx(3.35 * 72, abs=1)
    with pytest.raises(ValueError, match="style: expected screen or paper, got 'poster'"):
        pair.figure("poster")
