"""A part of an image that is left out, of pairs and of searches."""

import numpy as np
import pytest
from galleries import color_network, write_images
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from simvis import image_ops
from simvis.gallery.gallery import Gallery
from simvis.pair import visualize_pair
from visualize_similarity import main

SIZE = 28, 28  # which the network does not resize; a cell has 4 x 4 of the pixels
BOXES = st.tuples(*[st.integers(0, 28)] * 4).filter(
    lambda edges: edges[0] != edges[1] and edges[2] != edges[3]
)


def box_of(edges):
    (x0, x1), (y0, y1) = sorted(edges[:2]), sorted(edges[2:])
    return x0, y0, x1, y1


def pixels_of(box):
    mask = np.zeros(SIZE, bool)
    if box is not None:
        x0, y0, x1, y1 = box
        mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)


@given(st.none() | BOXES.map(box_of), BOXES.map(box_of))
def test_what_is_left_is_the_region_pixel_by_pixel(region, ignored):
    expected = (pixels_of(region) if region else np.ones(SIZE, bool)) & ~pixels_of(ignored)
    if not expected.any():
        with pytest.raises(ValueError, match="ignore: it covers all of the"):
            image_ops.region_without(region, ignored, SIZE)
        return
    assert_array_equal(image_ops.region_without(region, ignored, SIZE), expected)
    again = image_ops.region_without(region, pixels_of(ignored), SIZE)
    assert_array_equal(again, expected)
    # what a cell has of it is what a plain loop counts
    weights = image_ops.region_weights(expected, SIZE, (7, 7))
    for y, x in np.ndindex(7, 7):
        share = expected[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean()
        assert weights[y, x] == pytest.approx(share, abs=1e-12)


@given(BOXES.map(box_of), BOXES.map(box_of))
def test_what_is_ignored_has_no_say(box1, box2):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    boxes = [
        [y0 // 4 * 4, -(-y1 // 4) * 4, x0 // 4 * 4, -(-x1 // 4) * 4]
        for x0, y0, x1, y1 in (box1, box2)
    ]  # whole cells, which the colours are means of
    cells = [(x0, y0, x1, y1) for y0, y1, x0, x1 in boxes]
    if any(not (~pixels_of(each)).any() for each in cells):
        return
    asked = {"ignore1": cells[0], "ignore2": cells[1]}
    pair = visualize_pair(*images, color_network(), **asked)
    changed = images.copy()
    for image, (y0, y1, x0, x1) in zip(changed, boxes, strict=True):
        image[y0:y1, x0:x1] = 255 - image[y0:y1, x0:x1]
    same = visualize_pair(*changed, color_network(), **asked)
    assert_allclose(same.similarity, pair.similarity, rtol=1e-6)
    for found, (x0, y0, x1, y1) in ((pair.similarity1, cells[0]), (pair.similarity2, cells[1])):
        assert not found[y0 // 4 : y1 // 4, x0 // 4 : x1 // 4].any()
        assert found.sum() == pytest.approx(pair.similarity)


@pytest.mark.parametrize("pooling", ["average", "max", "gem"])
def test_to_ignore_a_part_is_to_ask_for_the_rest(images, pooling):
    box, network = (6, 4, 23, 20), color_network()
    ignored = visualize_pair(*images, network, pooling=pooling, ignore1=box)
    rest = visualize_pair(*images, network, pooling=pooling, region1=~pixels_of(box))
    assert_array_equal(ignored.similarity1, rest.similarity1)
    assert_array_equal(ignored.overlay1, rest.overlay1)
    assert ignored.method.ignore1 is None  # it is in the region
    assert_array_equal(ignored.method.region1, rest.method.region1)


def test_a_search_leaves_out_what_the_pair_does(tmp_path):
    folder = write_images(tmp_path / "images", 9)
    gallery, query = Gallery(tmp_path / "gallery", color_network()), folder / "0" / "0_0000.png"
    gallery.index(folder)
    for place in ({}, {"region": (5, 0, 60, 40)}, {"point": (30, 20)}):
        found = gallery.find(query, ignore=(28, 10, 35, 30), **place)
        for hit in found.hits:
            asked = {"region1": found.region} if "point" in place else {}
            asked |= {"region1": place["region"]} if "region" in place else {}
            pair = visualize_pair(
                query, folder / hit.path, color_network(), ignore1=(28, 10, 35, 30), **asked
            )
            assert_allclose(hit.map, pair.similarity2, rtol=1e-12)
    with pytest.raises(ValueError, match="ignore: it covers all of the image"):
        gallery.find(query, ignore=(0, 0, 60, 45))
    with pytest.raises(ValueError, match="ignore: .* leaves the image"):
        gallery.find(query, ignore=(0, 0, 99, 45))


def test_the_program_says_it_and_refuses_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)).save(name)
    mask = np.zeros((40, 60), np.uint8)
    mask[:20] = 255
    Image.fromarray(mask).save("mask.png")
    pair = ["a.png", "b.png", "--network", "rooms", "--input-size", "64,64", "--output", "o.png"]
    assert main([*pair, "--ignore1", "mask.png", "--save-maps", "m.npz"]) == 0
    printed = capsys.readouterr().out
    assert "ignore1     50 % of the image, by its mask\n" in printed and "of the region" in printed
    maps = np.load("m.npz")
    assert not maps["similarity1"][0].any() and '"ignore1"' in str(maps["settings"])
    for arguments, words in (
        (["--ignore1", "0,0,60,40"], "--ignore1: it covers all of the image"),
        (["--region1", "0,0,9,9", "--ignore1", "0,0,9,9"], "--ignore1: it covers all of the reg"),
        (["--ignore2", "0,0,61,40"], "--ignore2: "),
        (["--ignore2", "0,0,6,4", "--cover1", "0,0,9,9"], "--cover1: is for whole images"),
        (["--ignore2", "0,0,6,4", "--than", "a.png"], "--ignore2: is for a pair"),
    ):
        assert main([*pair, *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
