"""Matches where it is known what matches what: geometry by construction, and an outside judge."""

import shutil

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from evaluation import geometry, measures
from evaluation.__main__ import HELD_OUT
from evaluation.subjects import load_subject
from evaluation.views import load_views
from simvis.image_ops import load_image
from simvis.pair import EXAMPLE_PAIR

XML = '<?xml version="1.0"?>\n<opencv_storage><H13><data>\n{}</data></H13></opencv_storage>'


@pytest.fixture
def folder(tmp_path):
    """Files named like the package's; what the first of a pair shows is 64 pixels to the left."""
    whole = load_image(EXAMPLE_PAIR[0])  # 480 x 720
    for number, name in enumerate(("graf1.png", "graf3.png", "aloeL.png", "aloeR.png")):
        left = 64 * (number % 2)
        Image.fromarray(whole[:, left : left + 640]).save(tmp_path / name)
    for name in "LR":  # whatever it is called
        shutil.move(tmp_path / f"aloe{name}.png", tmp_path / f"aloe{name}.jpg")
    disparity = np.full((480, 640), 64, np.uint8)
    disparity[:, :320] = 0  # unknown
    Image.fromarray(disparity).save(tmp_path / "aloeGT.png")
    (tmp_path / "H1to3p.xml").write_text(XML.format("1. 0. -6.4e+01\n 0. 1. 0. 0. 0. 1."))
    return tmp_path


@pytest.fixture(scope="module")
def subject():
    return load_subject("imagenet")


def test_places_follow_the_homography_and_the_disparity(folder, rng):
    known = geometry.load_photographs(folder)
    places = rng.random((20, 2))
    wall, stereo = (place(places) for _, _, place in known.values())
    assert_allclose(wall, places - (0.1, 0), atol=1e-12)
    unknown = places[:, 0] < 0.5
    assert np.isnan(stereo[unknown]).all()
    assert_allclose(stereo[~unknown], places[~unknown] - (0.1, 0))
    matrix = np.array([[0.9, -0.2, 30], [0.1, 1.1, -20], [2e-4, -1e-4, 1]])
    (folder / "H1to3p.xml").write_text(XML.format(" ".join(map(str, matrix.ravel()))))
    place = geometry.load_photographs(folder)["one wall"][2]
    pixels = cv2.perspectiveTransform(places[None] * (640, 480) - 0.5, matrix)[0]
    assert_allclose(place(places), (pixels + 0.5) / (640, 480))


def test_mutual_matches_are_the_true_ones(folder, subject):
    for what, photographs in geometry.load_photographs(folder).items():
        cells = geometry.photograph_matches(subject, *photographs)
        scores = {
            key: np.array(text.replace(" of", ",").split(","), float) for key, text in cells.items()
        }
        coarse, middle, fine = (f"{n}x{n} of 224x224 pixels" for n in (7, 14, 28))
        one_way, mutual = (
            scores[kind, coarse]
            for kind in ("nearest by what they add, one way", "mutual, last layer")
        )
        # of half the stereo pair nothing is known
        assert one_way[1] == (49 if what == "one wall" else 7 * 4) > mutual[1] > 5
        assert mutual[0] > 0.9 and mutual[0] >= one_way[0]
        down = scores["mutual, the layers of all strides down to it", fine]
        assert down[0] > 0.9 and down[1] > scores["mutual, last layer", fine][1]
        assert scores["mutual, both layers", middle][0] > 0.9


def test_the_ten_that_add_most_are_scored_apart():
    cells = np.stack(np.divmod(np.arange(20).repeat(2).reshape(20, 2), 5), axis=2).reshape(20, 4)
    features = np.ones((2, 4, 5, 1))
    features[:, 2:] = 3  # the last ten add most, the first ten are wrong
    score = geometry._score(lambda places: places + (places[:, 1:] < 0.5), cells, (4, 5), features)
    assert score == "0.50 of 20, 1.00"
    assert geometry._score(lambda places: places + np.nan, cells, (4, 5), features) == "none"


def test_the_homography_is_found_among_wrong_matches(rng):
    matrix = np.array([[0.8, -0.2, 0.1], [0.1, 0.9, 0.05], [0.2, -0.1, 1]])
    for noise in (0, 0.01):
        one = rng.random((60, 2))
        two = cv2.perspectiveTransform(one[None], matrix)[0] + noise * rng.normal(size=(60, 2))
        two[:24] = rng.random((24, 2))
        residual = measures.homography_residual(one, two)
        found, _ = cv2.findHomography(one, two, cv2.LMEDS)
        judge = np.median(
            np.linalg.norm(cv2.perspectiveTransform(one[None], found)[0] - two, axis=1)
        )
        assert residual < (1.2 * judge if noise else 1e-9)
    assert measures.homography_residual(one, rng.random((60, 2))) > 0.1
    assert measures.homography_residual(one[:1].repeat(5, 0), one[:1].repeat(5, 0)) >= 0  # no crash


def test_pairs_are_judged_at_equal_similarity(subject):
    views = load_views(HELD_OUT / "held_all")[:48]
    cases = geometry._equally_similar(subject, views, 0.003)
    assert len({tuple(wrong) for _, wrong in cases}) == len(cases) > 25
    for right, wrong in cases:
        assert right[0].labels["room"] == right[1].labels["room"]
        assert wrong[0].labels["room"] != wrong[1].labels["room"]
        one, other = (subject.maps(*pair)[0].sum() for pair in (right, wrong))
        assert abs(one - other) < 0.0031
    cells = geometry.telling_apart(subject, views)
    assert cells["cases", "imagenet"] == str(len(cases))
    assert abs(cells["similarity itself", "imagenet"].value - 0.5) < 0.15
    assert cells["number of matches", "imagenet"].low > 0.5


@pytest.mark.parametrize(
    "name, content",
    [
        ("graf3.png", None),
        ("H1to3p.xml", None),
        ("H1to3p.xml", b"\xff<data>1 2</data>"),
        ("aloeGT.png", "graf"),
    ],
)
def test_photographs_that_are_not_there_are_named(folder, name, content):
    path = folder / name
    path.unlink()
    if content == "graf":
        Image.new("L", (30, 20)).save(path)
    elif content:
        path.write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=name):
        geometry.load_photographs(folder)


@pytest.mark.skipif(not geometry.FOLDER.is_dir(), reason="needs Debian's package opencv-doc")
def test_thirty_matches_on_the_wall_at_nine_tenths():
    known = geometry.load_photographs()
    cells = geometry.photograph_matches(load_subject("imagenet", (448, 448)), *known["one wall"])
    precision, count = (
        cells["mutual, last layer", "14x14 of 448x448 pixels"].split(",")[0].split(" of ")
    )
    assert float(precision) >= 0.9 and int(count) >= 30
