"""The measures against plain loops, the rivals against closed forms, and what ships."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.stats import spearmanr

from evaluation import counterfactuals, faithfulness, focus, measures, object_search, rivals
from evaluation.__main__ import HELD_OUT, main
from evaluation.counterfactuals import free_explanations
from evaluation.subjects import NETWORKS, Subject, load_subject
from evaluation.views import LABELS, OBJECTS, View, load_views, save_views
from models import load_network
from simvis.image_ops import upsample_map


def test_mass_by_object_against_a_loop_over_pixels(rng):
    similarity, objects = rng.normal(size=(3, 4)), rng.integers(0, 5, (30, 44))
    pixels = upsample_map(similarity, objects.shape)
    expected, total = np.zeros(6), 0
    for place in np.ndindex(30, 44):
        if pixels[place] > 0:
            expected[objects[place]] += pixels[place]
            total += pixels[place]
    mass = measures.mass_by_object(similarity, objects, 6)
    assert_allclose(mass, expected / total, rtol=1e-12)
    flat = measures.mass_by_object(np.full((7, 7), 0.2), objects, 6)
    assert_allclose(flat, measures.area_by_object(objects, 6))
    assert not measures.mass_by_object(np.full((7, 7), -0.2), objects, 6).any()
    with pytest.raises(ValueError, match=r"objects: expected numbers in 0\.\.3, got 0\.\.4"):
        measures.mass_by_object(np.eye(3), objects, 4)


def test_ranks_and_their_statistics_against_plain_ones(rng):
    similarities, relevant = rng.normal(size=(30, 12)), rng.random((30, 12)) < 0.3
    relevant[np.arange(30), rng.integers(0, 12, 30)] = True
    ranks, precisions = [], []
    for row, hits in zip(similarities, relevant, strict=True):
        places = np.flatnonzero(hits[np.argsort(-row)])
        ranks.append(places[0])
        precisions.append(np.mean([n / (place + 1) for n, place in enumerate(places, 1)]))
    assert_array_equal(measures.rank_of_first(similarities, relevant), ranks)
    assert_allclose(measures.average_precision(similarities, relevant), precisions)
    # correlations are SciPy's, with ties; a tie with what is not relevant does not count as first
    first, second = rng.integers(0, 6, (2, 40))
    assert_allclose(measures.rank_correlation(first, second), spearmanr(first, second).statistic)
    assert_array_equal(measures.rank_of_first([[1.0, 1.0]], [[True, False]]), [1])


def test_the_interval_draws_rooms_not_rows(rng):
    # 40 rooms of 25 equal rows: the spread is that of 40 values, not of 1000
    values = rng.normal(size=40)
    rooms, rows = np.arange(40).repeat(25), values.repeat(25)
    low, high = measures.interval(np.mean, rooms, rows)
    assert_allclose(high - low, 2 * 1.96 * values.std() / np.sqrt(40), rtol=0.15)
    assert low < values.mean() < high
    # the rows' order is of no account
    assert_allclose(measures.interval(np.mean, rooms[::-1], rows[::-1]), (low, high))


@pytest.fixture
def linear(rng):
    """A linear network: embeddings x @ matrix of images (6, 9, 3), at a grid of (2, 3) cells."""
    matrix = rng.normal(size=(6 * 9 * 3, 5)).astype(np.float32)
    image = rng.normal(size=(6, 9, 3)).astype(np.float32)
    other = rng.normal(size=5)
    return lambda batch: tf.reshape(batch, (len(batch), -1)) @ matrix, matrix, image, other


def cosine(first, second):
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def test_gradient_times_input_of_a_linear_network_is_the_closed_form(linear):
    embed, matrix, image, other = linear
    f = image.ravel() @ matrix
    unit, toward = f / np.linalg.norm(f), other / np.linalg.norm(other)
    gradient = matrix @ (toward - cosine(f, other) * unit) / np.linalg.norm(f)
    product = (gradient * image.ravel()).reshape(2, 3, 3, 3, 3)  # rows, y, columns, x, channels
    similarity = rivals.gradient_times_input(embed, image, other, (2, 3))
    assert_allclose(similarity, product.sum(axis=(1, 3, 4)), rtol=1e-3, atol=1e-6)
    # a cosine does not feel its argument's scale, so that what is a sum to us is 0 to a gradient
    assert_allclose(similarity.sum(), 0, atol=1e-6)


def test_integrated_gradients_sum_to_the_difference_from_grey(linear):
    embed, matrix, image, other = linear
    bias = np.float32([1, -2, 0.5, 1, 3])  # so that grey has an embedding of its own
    shifted = lambda batch: embed(batch) + bias  # noqa: E731
    similarity = rivals.integrated_gradients(shifted, image, other, (2, 3), steps=64)
    difference = cosine(image.ravel() @ matrix + bias, other) - cosine(bias, other)
    assert similarity.shape == (2, 3)
    assert_allclose(similarity.sum(), difference, atol=2e-3)


def test_occlusion_against_a_loop(linear, rng):
    embed, matrix, image, _ = linear
    others, fill = rng.normal(size=(2, 5)), rng.normal(size=image.shape).astype(np.float32)
    similarities = rivals.occlusion(embed, image, others, (2, 3), fill)
    assert similarities.shape == (2, 2, 3)
    for partner, row, column in np.ndindex(2, 2, 3):
        covered = image.copy()
        cell = slice(3 * row, 3 * row + 3), slice(3 * column, 3 * column + 3)
        covered[cell] = fill[cell]
        whole, less = (cosine(x.ravel() @ matrix, others[partner]) for x in (image, covered))
        assert_allclose(similarities[partner, row, column], whole - less, atol=1e-5)


def test_grad_cam_is_that_of_tensorflows_gradient(rng):
    kernel, offset = rng.normal(size=(6, 5)), rng.normal(size=5)
    for projection in (None, (kernel, None), (kernel, offset)):
        matrix, bias = projection or (np.eye(6), None)
        conv1, conv2 = rng.random((2, 3, 4, 6))
        conv = tf.constant(conv1)
        with tf.GradientTape() as tape:
            tape.watch(conv)
            f1, f2 = (tf.reduce_mean(x, (0, 1))[None] @ matrix for x in (conv, conv2))
            f1, f2 = (f + (0 if bias is None else bias) for f in (f1, f2))
            similarity = tf.reduce_sum(f1 * f2) / tf.norm(f1) / tf.norm(f2)
        weights = tape.gradient(similarity, conv).numpy().mean((0, 1))
        expected = np.maximum(conv1 @ weights, 0)
        assert_allclose(rivals.grad_cam(conv1, conv2, projection), expected, atol=1e-12)


# What stands at the 7 x 7 cells of a view, by its column; each object has one colour of its own.
COLUMNS = ("wall", "headboard", "headboard", "carpet", "carpet", "lamps", "lamps")


def build_colors(weights):
    """Return a network whose channels are the positive parts of a cell's mean colour, weighted."""
    return lambda batch: tf.nn.relu(tf.nn.avg_pool2d(batch, 32, 32, "VALID")) * weights["colors"]


def write_views(folder, rooms, swaps):
    """Write views in pure colours, in each of which the columns stand in another order.

    Red carries the headboard, green the carpet, blue the lamps, in strengths that say which.
    """

    def write(view, order, strengths):
        numbers = np.array([OBJECTS.index(COLUMNS[column]) for column in order])
        colors = np.array([strengths.get(OBJECTS[number], (0, 0, 0)) for number in numbers])
        image, mask = (np.tile(of.repeat(32, 0), (224, 1, 1)) for of in (colors, numbers[:, None]))
        Image.fromarray(image.astype(np.uint8)).save(view.image_path, lossless=True)
        mask = Image.fromarray(mask[..., 0].astype(np.uint8)).convert("P")
        mask.save(view.objects_path)
        views.append(view)

    views, rng = [], np.random.default_rng(0)
    for room, strengths in rooms.items():
        labels = {"room": room, "headboard": room, "carpet": room}
        for number in range(3):
            order = rng.permutation(7)
            view = View(folder, f"{room}_{number}", room, number, labels)
            write(view, order, strengths)
            for name, color in swaps.get(room, {}).items() if number == 0 else ():
                change = {"swap_of": view.name, "swapped": name, "change": "swap"}
                new = replace(view, name=f"{view.name}_{name}", **change)
                write(new, order, {**strengths, name: color})
    save_views(folder, views)
    return views


@pytest.fixture
def colors(tmp_path):
    """Four rooms, each with two objects swapped, and networks that see red alone, and all."""
    rng, things = np.random.default_rng(1), ("headboard", "carpet", "lamps")
    pure = np.eye(3, dtype=int)
    rooms = {r: {things[i]: pure[i] * rng.integers(140, 255) for i in range(3)} for r in "abcd"}
    swaps = {room: {"headboard": pure[2] * 255, "lamps": pure[2] * 150} for room in rooms}
    networks = {
        name: Subject(name, {"colors": np.float32(weights)}, build=build_colors)
        for name, weights in (("red", (1, 0, 1e-3)), ("all", (1, 1, 1)))
    }
    return write_views(tmp_path, rooms, swaps), networks


def test_a_swap_counts_as_what_it_does_to_the_cosine(colors):
    views, subject = colors[0], colors[1]["all"]
    rows = counterfactuals.intervene(subject, views, free_explanations)
    assert len(rows.drop) == 4 * 2 * 2  # rooms, swaps, partners
    by_name = {view.name: view for view in views}
    for drop, pair, thing in zip(rows.drop, rows.pairs, rows.objects, strict=True):
        view, other = (by_name[name] for name in pair.split())
        f, g, swapped = (
            np.maximum((v.image().astype(float) - 127) / 128, 0).mean((0, 1))
            for v in (view, other, by_name[f"{view.name}_{thing}"])
        )
        assert_allclose(drop, cosine(f, g) - cosine(swapped, g), atol=1e-6)
    view, other = (by_name[name] for name in rows.pairs[0].split())
    of, number = (subject.maps(view, other)[0], view.objects(), 19), OBJECTS.index(rows.objects[0])
    assert_allclose(rows["maps"][0], measures.mass_by_object(*of)[number])
    assert_allclose(rows["maps, signed"][0], measures.sum_by_object(*of)[number])
    assert_allclose(rows.area[0], 2 / 7)


def test_a_network_that_sees_one_object_alone_is_found_out(colors):
    views, networks = colors
    rows = counterfactuals.intervene(networks["red"], views, free_explanations)
    changed = abs(rows.drop) > counterfactuals.UNCHANGED
    assert_array_equal(changed, rows.objects == "headboard")
    cells = counterfactuals.correlations(rows, "red")["pooled"]
    assert cells["maps", "red"].value > 0.6
    assert cells["area", "red"].value == 0  # all have two columns
    assert rows["maps"][changed].min() > rows["maps"][~changed].max()
    lift_on_lamps = counterfactuals.distractibility(rows, "red")["maps", "red"]
    # not 0: between the cells' centres the map is interpolated
    assert lift_on_lamps.value < 0.5 and lift_on_lamps.count == 8
    cells = counterfactuals.background_independence(rows, "red", ("headboard",))
    assert cells["all objects not taught", "red"].value == 1


def test_the_map_follows_a_partner_that_shares_something_else(colors, tmp_path):
    red, green = {"headboard": (200, 0, 0)}, {"carpet": (0, 200, 0)}
    (tmp_path / "parts").mkdir()
    views = write_views(tmp_path / "parts", {"both": red | green, "red": red, "green": green}, {})
    shared = {"both": ("1", "1"), "red": ("1", "2"), "green": ("2", "1")}
    views = [
        replace(view, labels=dict(zip(LABELS, (view.name, *shared[view.room]), strict=True)))
        for view in views
        if view.number == 0
    ]
    measured = counterfactuals.contrastivity(colors[1]["all"], views, free_explanations)
    for cells in measured.values():
        assert cells["maps", "all"].value == 1 and cells["maps", "all"].count == 1
    assert measured["follows"]["blob", "all"].value == 0.5  # it takes no notice of the partner


def test_regions_without_activation_are_counted(colors):
    views, networks = [view for view in colors[0] if not view.change], colors[1]
    asked = networks["all"], views, ("wall", "headboard")
    measured, silent = object_search.gallery_search(*asked)
    assert silent == 12  # all walls are black
    assert measured["recall@1"].keys() == {("headboard", "all")}
    measured, silent = object_search.pointing(*asked)
    assert silent == 12 and measured["peak, asked"]["headboard", "all"].value == 1


def test_cells_of_what_a_network_sees_are_missed_first(colors):
    views, subject = [view for view in colors[0] if not view.change], colors[1]["red"]
    pairs, maps = [(views[0], views[1]), (views[3], views[4])], []
    for pair in pairs:
        maps.append({"maps": subject.maps(*pair)[0]})
        maps[-1]["opposite"] = -maps[-1]["maps"]
    cells = faithfulness.covering(subject, pairs, maps)
    assert cells["maps", "deletion"].value < cells["opposite", "deletion"].value
    assert cells["maps", "insertion"].value > cells["opposite", "insertion"].value
    for column in ("single cells, mean colour", "single cells, blur"):
        assert_allclose(cells["maps", column].value, -cells["opposite", column].value)
    cells = faithfulness.preservation_and_deletion(subject, pairs, maps, views)
    # one of the seven columns of red is half of the map, and more than that is not taken
    assert 1 / 7 <= cells["maps", "pixels"].value <= 2 / 7


@pytest.fixture(scope="module")
def shipped():
    return {path.name: load_views(path) for path in sorted(HELD_OUT.iterdir())}


@pytest.fixture(scope="module")
def subjects():
    return {name: load_subject(name) for name in NETWORKS}


def test_what_ships_is_small_and_whole(shipped):
    assert sum(path.stat().st_size for path in HELD_OUT.rglob("*") if path.is_file()) <= 4_000_000
    assert set(shipped) == {"held_all", "held_parts", "held_swaps"}
    base = {view.name: view for view in shipped["held_all"]}
    assert len(base) >= 40 and len(shipped["held_swaps"]) >= 100
    for after in shipped["held_swaps"][::5]:
        if after.swapped in ("light", "wall"):  # everything, and one near-white for another
            continue
        before, number = base[after.swap_of], OBJECTS.index(after.swapped)
        on = (before.objects() == number) | (after.objects() == number)
        pixels = abs(before.image().astype(int) - after.image()).mean(axis=2)
        # all else is left, but for shadows, reflections and the compression
        assert pixels[on].mean() > 2 * pixels[~on].mean()


def test_subjects_are_the_networks_that_users_load(subjects, shipped):
    pair = shipped["held_all"][:2]
    for name, subject in subjects.items():
        network = load_network(name)
        batch = network.preprocess([view.image() for view in pair])
        convs = network.activations(batch)
        assert_allclose([subject.conv(view) for view in pair], convs, atol=2e-4)
        first, second = subject.embeddings(pair)
        assert_allclose(np.asarray(subject.embed(batch)), [first, second], rtol=1e-3, atol=1e-4)
        for similarity in subject.maps(*pair):
            assert_allclose(similarity.sum(), cosine(first, second), atol=1e-6)


def test_each_network_looks_at_what_it_was_taught(subjects, shipped):
    views = [view for view in shipped["held_all"] if view.number < 2]
    pairs = focus.same_pairs(views)
    groups = (("headboard", "picture"),)
    lifts = {name: focus.lifts(subject, pairs, groups) for name, subject in subjects.items()}
    board, carpet = "headboard and picture", "carpet"
    for name, on, off in (("rooms-headboard", board, carpet), ("rooms-carpet", carpet, board)):
        assert lifts[name][on, name].value > 1.5 * lifts["imagenet"][on, "imagenet"].value
        assert lifts[name][off, name].value < lifts["imagenet"][off, "imagenet"].value
    taught, not_taught = (
        focus.retrieval(subjects[name], views)["recall@1", name].value
        for name in ("rooms", "imagenet")
    )
    assert taught > 0.9 > not_taught


def test_maps_tell_what_a_swap_changes_better_than_what_costs_as_little(subjects, shipped):
    swaps = [view for view in shipped["held_swaps"] if view.change == "swap"][:60]
    views = shipped["held_all"] + swaps
    rows = counterfactuals.intervene(subjects["rooms"], views, free_explanations, partners=2)
    cells = counterfactuals.correlations(rows, "rooms")["pooled"]
    for rival in ("blob", "random", "area"):
        assert cells["maps", "rooms"].value > cells[rival, "rooms"].value + 0.1


def test_the_program_says_in_one_line_what_is_missing(capsys):
    for arguments, words in (
        (["--data", "nowhere"], "has no views.json"),
        (["--full"], "--full needs --data FOLDER"),
        (["--photographs", "nowhere"], "graf1.png"),
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and words in captured.err
