"""What is left of a similarity without a region: the estimate, and what the network itself says."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from similarity_ops import compute_spatial_similarity
from simvis import image_ops
from simvis.cover_up import cover, cover_up
from visualize_similarity import EXAMPLE_PAIR, main, visualize_pair

BED = (152, 186, 506, 410)


@pytest.mark.parametrize("filling", ["mean", "blur"])
@pytest.mark.parametrize("number", [1, 2])
def test_the_truth_is_what_the_network_says_of_the_covered_image(imagenet, number, filling):
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet)
    result = cover_up(pair.images, pair, BED, number, filling)
    given = list(pair.images)
    given[number - 1] = cover(given[number - 1], BED, filling)
    assert result.truth == pytest.approx(visualize_pair(*given, imagenet).similarity, abs=1e-6)
    weights = 1 - image_ops.region_weights(BED, (480, 720), (7, 7))
    maps = compute_spatial_similarity(pair.conv1, pair.conv2, **{f"region{number}": weights})
    assert result.estimate == pytest.approx(maps[0].sum(), abs=1e-6)
    assert result.whole == pair.similarity and result.image == number


def test_only_the_region_is_covered(rng):
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[5:20, 10:30] = True
    for filling in ("mean", "blur"):
        covered = cover(image, mask, filling)
        assert_array_equal(covered[~mask], image[~mask])
        assert_array_equal(covered, cover(image, (10, 5, 30, 20), filling))
        assert covered[mask].std() < 0.2 * image[mask].std()
    assert_array_equal(cover(image, mask)[10, 20], np.rint(image.mean(axis=(0, 1))))
    with pytest.raises(ValueError, match="filling: expected mean or blur, got 'black'"):
        cover(image, mask, "black")


def test_the_program_prints_both(tmp_path, monkeypatch, capsys, imagenet):
    monkeypatch.chdir(tmp_path)
    assert main(["--cover1", "152,186,506,410", "--cover2", "0,0,720,480"]) == 0
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet)
    one, two = cover_up(pair.images, pair, BED), cover_up(pair.images, pair, (0, 0, 720, 480), 2)
    printed = capsys.readouterr().out
    words = (
        f"image 1's region: {one.estimate:.4f} by estimate from the maps, {one.truth:.4f} by the"
    )
    assert f"covered     {words} network\n" in printed
    assert two.estimate is None
    assert f"image 2's region: nothing left by estimate from the maps, {two.truth:.4f}" in printed


@pytest.mark.parametrize(
    "options, message",
    [
        (["--cover1", "5,5,5,9"], "--cover1: expected X0 < X1"),
        (["--cover2", "1,2"], "--cover2: expected X0,Y0,X1,Y1"),
        (["--cover1", "0,0,9,9", "--region2", "0,0,9,9"], "--cover1, --cover2: are for whole"),
        (["--cover-with", "blur"], "--cover-with: needs --cover1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(options) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
