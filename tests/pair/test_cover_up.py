"""What is left of a similarity without a region: by estimate, and as the network itself says."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from similarity_ops import compute_spatial_similarity
from simvis import image_ops
from simvis.pair import cover, cover_up
from visualize_similarity import EXAMPLE_PAIR, main, visualize_pair

BED = (152, 186, 506, 410)


@pytest.mark.parametrize("number, filling", [(1, "mean"), (2, "blur")])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_it_is_what_the_network_says_of_the_covered_image(imagenet, number, filling, pooling):
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet, pooling=pooling)
    estimate, similarity = cover_up(pair, BED, number, filling)
    given = list(pair.images)
    given[number - 1] = cover(given[number - 1], BED, filling)
    covered = visualize_pair(*given, imagenet, pooling=pooling).similarity
    assert similarity == pytest.approx(covered, abs=1e-6)
    left = (1 - image_ops.region_weights(BED, (480, 720), (7, 7))).round(9)
    maps = compute_spatial_similarity(pair.conv1, pair.conv2, pooling, **{f"region{number}": left})
    assert estimate == pytest.approx(maps[0].sum(), abs=1e-6)


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
    one, two = cover_up(pair, BED), cover_up(pair, (0, 0, 720, 480), 2)
    assert two[0] is None
    printed = capsys.readouterr().out
    for number, estimate, similarity in ((1, f"{one[0]:.4f}", one[1]), (2, "nothing left", two[1])):
        words = f"{estimate} by estimate from the maps, {similarity:.4f} by the network"
        assert f"covered     image {number}'s region: {words}\n" in printed
