"""A triplet: what makes an image closer to one image than to another, and how it is shown."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from simvis import image_ops
from simvis.triplet import EXAMPLE_TRIPLET, visualize_triplet
from visualize_similarity import main, visualize_pair

ANCHOR, POSITIVE, NEGATIVE = map(str, EXAMPLE_TRIPLET)


REGION = (196, 90, 334, 170)
ASKED = [{}, {"explain": "head"}, {"region": REGION}, {"region": REGION, "stride": 16}]


@pytest.fixture(scope="module", params=[*ASKED, {"stride": 8, "reference": "blur"}])
def asked(request):
    return request.param


@pytest.fixture(scope="module")
def triplet(imagenet, asked):
    return visualize_triplet(*EXAMPLE_TRIPLET, imagenet, **asked)


def test_its_maps_sum_to_the_difference_of_the_cosines(triplet, imagenet, asked):
    options = {{"region": "region1"}.get(name, name): value for name, value in asked.items()}
    closer, farther = (
        visualize_pair(ANCHOR, other, imagenet, **options) for other in (POSITIVE, NEGATIVE)
    )
    difference = closer.similarity - farther.similarity
    expected = closer.similarity1 - farther.similarity1
    assert_allclose(triplet.difference, difference, atol=1e-6)
    assert_allclose(triplet.difference_map, expected, atol=1e-6)
    both = triplet.closer.similarity2.sum() - triplet.farther.similarity2.sum()
    assert_allclose(both, difference, atol=1e-6)


def test_zero_is_in_the_middle_of_the_colours(triplet):
    assert triplet.look.colormap == "coolwarm"
    (low, high), *others = triplet.value_ranges
    assert -low == high > 0 and others[0] == others[1] and sum(others[0]) == 0
    assert triplet.difference_map.shape == triplet.closer.similarity1.shape
    upsampled = image_ops.upsample_map(triplet.difference_map, triplet.overlays[0].shape[:2])
    assert np.abs(upsampled).max() == high
    maps = triplet.closer.similarity2, -triplet.farther.similarity2
    for path, each, overlay in zip((POSITIVE, NEGATIVE), maps, triplet.overlays[1:], strict=True):
        colors = {"colormap": "coolwarm", "value_range": others[0]}
        image = image_ops.load_image(path)
        expected = image_ops.combine_image_and_heatmap(image, each, **colors)
        assert_array_equal(overlay, expected)


def test_it_shows_itself(triplet):
    words = f"{triplet.closer.similarity:.4f} - {triplet.farther.similarity:.4f} = "
    assert words in repr(triplet) and words in triplet._repr_html_()
    assert triplet.picture().shape == (480, 3 * 720, 3)
    assert_array_equal(triplet.picture(legend=True)[:480], triplet.picture())


def test_the_program_shows_it(tmp_path, monkeypatch, imagenet, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([ANCHOR, POSITIVE, "--than", NEGATIVE, "--save-maps", "m.npz"]) == 0
    triplet = visualize_triplet(*EXAMPLE_TRIPLET, imagenet)
    printed = capsys.readouterr().out
    assert f"similarity  {triplet.closer.similarity:.4f} to {POSITIVE}\n" in printed
    assert f"than        {triplet.farther.similarity:.4f} to {NEGATIVE}\n" in printed
    assert f"difference  {triplet.difference:.4f}\n" in printed
    picture = "room_a_view1_room_a_view2_room_b_view1_similarity.png"
    assert_array_equal(image_ops.load_image(picture), triplet.picture(legend=True))
    with np.load("m.npz") as maps:
        assert_array_equal(maps["difference_map"], triplet.difference_map)
        assert_allclose(maps["difference_map"].sum(), maps["difference"], atol=1e-6)
        assert str(maps["negative"]) == NEGATIVE
    assert main(["--than", NEGATIVE, "--plain", "--output", "p.png"]) == 0  # the example pair
    assert_array_equal(image_ops.load_image("p.png"), triplet.picture())
