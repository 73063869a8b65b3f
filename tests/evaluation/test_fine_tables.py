"""Fine maps and rivals at an equal grain: the user's own maps, closed forms and plain loops."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from evaluation import counterfactuals, examination, faithfulness, focus, rivals
from evaluation.__main__ import HELD_OUT
from evaluation.subjects import load_subject
from evaluation.views import OBJECTS, load_views
from simvis.image_ops import region_weights, upsample_map
from visualize_similarity import visualize_pair


@pytest.fixture(scope="module")
def views():
    return load_views(HELD_OUT / "held_all")


@pytest.fixture(scope="module")
def subject():
    return load_subject("rooms")


@pytest.mark.parametrize(("stride", "reference"), [(8, "grey"), (16, "mean"), (16, "blur")])
def test_fine_maps_are_those_that_users_see(subject, views, stride, reference):
    fine, pair = subject.at(stride, reference), views[:2]
    images = [view.image() for view in pair]
    shown = visualize_pair(*images, "rooms", stride=stride, reference=reference)
    for similarity, other in zip(
        fine.maps(*pair), (shown.similarity1, shown.similarity2), strict=True
    ):
        assert similarity.shape == (224 // stride, 224 // stride)
        assert_allclose(similarity, other, atol=1e-6)
    # the other way round they are the same two, and the network itself is what it was
    assert_allclose(fine.maps(*pair[::-1])[0], shown.similarity2, atol=1e-6)
    assert subject.maps(*pair)[0].shape == (7, 7)
    mask = pair[0].objects() == OBJECTS.index("headboard")
    weights = region_weights(mask, mask.shape, subject.grid)
    asked = visualize_pair(*images, "rooms", stride=stride, reference=reference, region1=mask)
    assert_allclose(fine.maps(*pair, region1=weights)[1], asked.similarity2, atol=1e-6)


def test_grad_cam_at_the_last_layer_is_the_closed_form(rng):
    kernel, conv1, conv2 = rng.normal(size=(6, 5)), rng.random((3, 4, 6)), rng.random((2, 5, 6))
    rest = lambda x: tf.reduce_mean(x, (1, 2)) @ tf.constant(kernel, tf.float32)  # noqa: E731
    similarity = rivals.grad_cam_at(rest, conv1.astype(np.float32), conv2.mean((0, 1)) @ kernel)
    assert similarity.shape == (3, 4)
    assert_allclose(similarity, rivals.grad_cam(conv1, conv2, (kernel, None)), atol=1e-6)


def test_sbsm_against_a_loop_over_windows(rng):
    pytest.importorskip("xaitk_saliency")
    matrix = rng.normal(size=(8 * 8 * 3, 5)).astype(np.float32)
    image, others = rng.normal(size=(8, 8, 3)).astype(np.float32), rng.normal(size=(2, 5))
    embed = lambda batch: tf.reshape(batch, (len(batch), -1)) @ matrix  # noqa: E731
    similarity = rivals.sbsm(embed, image, others, (2, 2))
    assert similarity.shape == (2, 4, 4)
    for partner in range(2):
        total, count = np.zeros((8, 8)), np.zeros((8, 8))
        for top in (-2, 2):  # windows of 8 pixels, every 4, about the image's centre
            for left in (-2, 2):
                place = slice(max(0, top), top + 8), slice(max(0, left), left + 8)
                covered = image.copy()
                covered[place] = 0
                whole, less = rivals.cosines(
                    [x.ravel() @ matrix for x in (image, covered)], others[partner : partner + 1]
                )[:, 0]
                total[place] += max(0, whole - less)
                count[place] += 1
        mean = (total / count)[::2, ::2]
        assert_allclose(similarity[partner], mean / mean.max(), atol=1e-5)


def test_maps_of_any_grain_are_brought_to_one_grid(rng):
    fine = rng.normal(size=(28, 28))
    summed = faithfulness.at_grid(fine, (14, 14))
    for y, x in np.ndindex(14, 14):
        assert_allclose(summed[y, x], fine[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum())
    assert_allclose(faithfulness.at_grid(summed, (14, 14)), summed)
    coarse = rng.normal(size=(7, 7))
    assert_allclose(faithfulness.at_grid(coarse, (14, 14)), upsample_map(coarse, (14, 14)))


def test_explanations_come_at_their_grains_and_the_maps_add_up(subject, views, monkeypatch):
    monkeypatch.setitem(sys.modules, "xaitk_saliency", None)  # as if it were not installed
    view, other = views[:2]
    found = counterfactuals.all_at_fine_grain(subject, view, [other])
    shapes = {name: of.shape for name, (of,) in found.items()}
    assert "SBSM, 14x14" not in found
    for name, shape in shapes.items():
        _, _, grain = name.partition(", ")
        assert "x".join(map(str, shape)) == (grain or "7x7")
    cosine = rivals.cosines(subject.embeddings([view]), subject.embeddings([other]))[0, 0]
    for name in ("maps", "maps, 14x14", "maps, 28x28", "maps, 56x56"):
        assert_allclose(found[name][0].sum(), cosine, atol=1e-4)
    # equal patches: what a map has of its cells' order decides, and it differs from itself by 0
    maps = {"maps, 28x28": found["maps, 28x28"][0], "opposite": -found["maps, 28x28"][0]}
    cells, less = faithfulness.patches(subject, [(view, other)], [maps])
    assert cells["maps, 28x28", "deletion"].value < cells["opposite", "deletion"].value - 0.2
    assert cells["maps, 28x28", "insertion"].value > cells["opposite", "insertion"].value + 0.2
    assert less["maps, 28x28"].value == 0
    difference = cells["opposite", "deletion"].value - cells["maps, 28x28", "deletion"].value
    assert_allclose(less["opposite"].value, difference)


def test_places_are_those_of_the_first_views_maps(views):
    masks = [focus.mask_of(view, ("headboard",)) for view in views[:4]]
    pairs = [
        (view, views[-1])
        for view, mask in zip(views[:4], masks, strict=True)
        if mask.mean() >= focus.SMALL
    ]

    class OnHeadboard:
        name = "knows"

        def maps(self, view, _other):
            return focus.mask_of(view, ("headboard",)).astype(float), None

    cells = focus.places(OnHeadboard(), pairs, (("headboard",), ("wall",), ("headboard", "wall")))
    area = np.mean([focus.mask_of(view, ("headboard",)).mean() for view, _ in pairs])
    expected = {"headboard": (1 / area, 1, 1), "wall": (0, 0, 0)}
    for thing, values in expected.items():
        for measure, value in zip(("lift", "mass", "peak"), values, strict=True):
            assert_allclose(cells[thing, measure].value, value, rtol=1e-6)
    assert cells["headboard and wall", "mass"].value == 1
    assert len(focus.one_pair_each(views)) == len(views)


@pytest.mark.slow
def test_the_fine_tables_have_a_row_for_each_grain(views):
    sets = {name: load_views(HELD_OUT / name) for name in examination.SETS}
    rooms = {view.room for view in views[:8]}
    sets["held_all"] = [view for view in views if view.room in rooms]
    names = {view.name for view in sets["held_all"]}
    sets["held_swaps"] = [view for view in sets["held_swaps"] if view.swap_of in names]
    report, budget = examination.Report(), examination.Budget(4, 1, 1, 1, 1, False, 2)
    subject = load_subject("rooms-headboard")
    examination.measure_places(subject, sets["held_all"], report)
    examination.measure_fine_maps(subject, sets, report, budget)
    lift = {row: cell.value for (row, _), cell in report["Maps by grain: lift, wall"].items()}
    assert list(lift) == list(examination.GRIDS.values())
    assert lift["28x28, stride 8"] < lift["7x7, closed form"] - 0.2
    rows = {row for row, _ in report["Patches of 14x14 covered, rooms-headboard"]}
    assert {"maps", "maps, 28x28", "Grad-CAM, 28x28", "occlusion, 14x14"} <= rows
    references = report["References, 28x28, stride 8: deletion"]
    assert [row for row, _ in references] == ["grey", "mean", "blur"]
