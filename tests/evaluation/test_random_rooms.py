"""Random rooms: what is drawn keeps its laws, what lies on disk is checked, masks are ray casts."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from evaluation import random_parts, viewpoints
from evaluation.patterns import PAINTINGS, WEAVES, paint, random_palette, weave
from evaluation.random_parts import IDENTITY
from evaluation.rooms import CHAIN, NUISANCE, draw_set, draw_swaps, main, render_set
from evaluation.views import OBJECTS, View, load_views, save_views

LABELS = {"room": "r", "headboard": "r", "carpet": "r"}


def write_view(folder, name="room_1", size=(6, 4), objects_size=None, number=7, **entry):
    """Write a view's files and return the view."""
    Image.new("RGB", size, (200, 30, 40)).save(folder / f"{name}.webp", lossless=True)
    mask = Image.new("L", objects_size or size, number).convert("P")
    mask.save(folder / f"{name}_objects.png")
    return View(folder, name, "room", 0, LABELS, **entry)


def test_views_come_back_as_they_were_saved(tmp_path):
    base = write_view(tmp_path, "a", chain="chain_00_carpet")
    swap = write_view(tmp_path, "b", swap_of="a", swapped="headboard", change="swap")
    save_views(tmp_path, [base, swap])
    assert load_views(tmp_path) == [base, swap]
    expected = np.full((4, 6, 3), (200, 30, 40), np.uint8)
    assert_array_equal(base.image(), expected, strict=True)
    assert_array_equal(base.objects(), np.full((4, 6), 7, np.uint8), strict=True)


BAD_NAMES = ("../room", "a/b", "a\\b", "", ".", "..", ".room", "C:room", "room\n", "x" * 101, "ä")


@pytest.mark.parametrize(
    "change, message",
    [
        *(({"name": name}, "name must be") for name in (*BAD_NAMES, 5, None)),
        ({"number": "0"}, "number must be int"),
        ({"number": True}, "number must be int"),
        ({"labels": {"room": "r"}}, "labels must have"),
        ({"labels": {**LABELS, "room": 3}}, "labels must have"),
        ({"swap_of": "../a"}, "swap_of must be"),
        ({"swapped": "moon"}, "swapped must be"),
        ({"change": "paint"}, "change must be"),
        ({"folder": "/etc"}, "a view must be"),
    ],
)
def test_an_entry_must_be_a_views(tmp_path, change, message):
    write_view(tmp_path)
    entry = {"name": "room_1", "room": "r", "number": 0, "labels": LABELS, **change}
    (tmp_path / "views.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=message):
        load_views(tmp_path)


def test_files_must_be_there_of_one_size_and_named_once(tmp_path):
    def refused(error, message="."):
        with pytest.raises(error, match=message):
            load_views(tmp_path)

    refused(FileNotFoundError, "no views.json")
    for text in ("{}", "[1]", "not json", '[{"name": "a"}]', "[" * 100_000):
        (tmp_path / "views.json").write_text(text)
        refused(ValueError)
    # names must differ even if case does not count
    save_views(tmp_path, [write_view(tmp_path, "room_1"), write_view(tmp_path, "Room_1")])
    refused(ValueError, "once")
    save_views(tmp_path, [write_view(tmp_path, objects_size=(6, 5))])
    refused(ValueError, "one size")
    (tmp_path / "room_1_objects.png").write_bytes(b"no image")
    refused(ValueError, "not PNG")
    (tmp_path / "room_1_objects.png").unlink()
    refused(FileNotFoundError, "missing")


def test_masks_must_be_palette_images_of_known_objects(tmp_path):
    view = write_view(tmp_path, number=len(OBJECTS))
    for read, message in ((view.objects, "below"), (view.exposure, "exposure")):
        with pytest.raises(ValueError, match=message):
            read()
    Image.new("RGB", (6, 4)).save(view.objects_path)
    with pytest.raises(ValueError, match="palette"):
        view.objects()


def shared(parts, others):
    return {name for name in IDENTITY if parts[name] == others[name]}


def test_a_rooms_identity_is_the_same_in_all_its_views_and_nothing_else_is(tmp_path):
    drawn, again, other = (draw_set(tmp_path, "all", 4, 5, seed) for seed in (1, 1, 2))
    assert drawn == again
    assert not shared(drawn[0][1], other[0][1]) and not shared(drawn[0][1], drawn[5][1])
    for room in range(4):
        views = drawn[5 * room : 5 * room + 5]
        assert all(shared(parts, views[0][1]) == set(IDENTITY) for _view, parts in views)
        for name in ("camera", "light", "pillows", "armchair_at", "drapes", "television"):
            assert len({repr(parts[name]) for _view, parts in views}) == 5
        assert all(set(view.labels.values()) == {f"room_1_{room:03d}"} for view, _parts in views)


def test_parts_share_what_their_labels_say_and_nothing_else(tmp_path):
    drawn = draw_set(tmp_path, "parts", 7, 4, 3)
    assert len({view.labels["room"] for view, _parts in drawn}) == len(drawn)
    for kind in ("headboard", "carpet"):
        assert set(Counter(view.labels[kind] for view, _parts in drawn).values()) == {4}
    objects = {"headboard": {"headboard", "picture"}, "carpet": {"carpet"}}
    for (view, parts), (other, other_parts) in itertools.combinations(drawn, 2):
        same = [kind for kind in objects if view.labels[kind] == other.labels[kind]]
        assert len(same) < 2  # no two views share both
        assert shared(parts, other_parts) == set().union(*(objects[kind] for kind in same))


def test_chained_rooms_share_exactly_one_object(tmp_path):
    chains = {}
    for view, parts in draw_set(tmp_path, "all", 36, 1, 5, chained=18):
        chains.setdefault(view.chain, []).append((view, parts))
    assert sorted(len(rooms) for rooms in chains.values()) == [CHAIN, CHAIN, CHAIN, 18]
    assert {name.split("_")[-1] for name in chains} == {"", "carpet", "curtains", "headboard"}
    for name, rooms in chains.items():
        for _view, parts in rooms[1:]:
            assert shared(parts, rooms[0][1]) == {name.split("_")[-1]} - {""}
        labels = {kind: {view.labels[kind] for view, _parts in rooms} for kind in LABELS}
        assert len(labels["carpet"]) == (1 if name.endswith("carpet") else len(rooms))
        assert len(labels["room"]) == len(rooms)


def test_a_set_that_cannot_be_is_refused(tmp_path, capsys):
    for arguments, message in (
        (("parts", 3, 4, 1), "at most the rooms"),
        (("all", 12, 1, 1, 7), "multiple of 6"),
        (("all", 0, 1, 1), "positive"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_set(tmp_path, *arguments)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "new"), "--teach=parts", "--rooms=3", "--views=4", "--seed=1"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "new").exists()


def test_a_swap_changes_one_object_where_it_can_be_seen(tmp_path):
    drawn = draw_set(tmp_path, "all", 6, 3, 1)
    shares = {view.name: np.full(len(OBJECTS), 0.01) for view, _parts in drawn}
    medians = {view.name: number + 0.5 for number, (view, _parts) in enumerate(drawn)}
    for view, parts in drawn:
        for name in ("suitcase", "towel"):
            shares[view.name][OBJECTS.index(name)] *= parts[name] is not None
    hidden = drawn[4][0].name
    shares[hidden][OBJECTS.index("runner")] = 0.0029
    swaps = draw_swaps(tmp_path, drawn, shares, medians, 1, 5, 2)
    base = {view.name: parts for view, parts in drawn}
    counts = Counter((view.change, view.swapped) for view, _parts in swaps)
    assert {counts["swap", name] for name in (*IDENTITY, *NUISANCE)} == {5}
    assert {counts["delete", name] for name in IDENTITY} == {2}
    assert len({view.name for view, _parts in swaps}) == len(swaps)
    for view, parts in swaps:
        before = base[view.swap_of]
        assert {name for name in before if before[name] != parts[name]} <= {view.swapped}
        assert view.name.startswith(view.swap_of)
        assert parts.get("median") == (medians[view.swap_of] if view.swapped != "light" else None)
        if view.change == "delete":
            assert parts[view.swapped] is None
        elif view.swapped in IDENTITY:
            donors = {other.room for other, of in drawn if of[view.swapped] == parts[view.swapped]}
            assert donors and view.room not in donors
    donees = [view for view, _parts in swaps if (view.change, view.swapped) == ("swap", "runner")]
    assert len({view.room for view in donees}) == 5
    with pytest.raises(ValueError, match="1 views are missing"):
        draw_swaps(tmp_path, drawn, dict(list(shares.items())[1:]), medians, 1, 5)
    every = draw_swaps(tmp_path, drawn, shares, medians, 1, 99)
    assert {v.swap_of for v, _parts in every if v.swapped == "runner"} == set(base) - {hidden}


def test_headboards_and_patterns_are_of_all_kinds():
    kinds = {"headboard": ("kind", random_parts.HEADBOARDS), "picture": ("family", PAINTINGS)}
    for name, (key, expected) in (kinds | {"carpet": ("family", WEAVES)}).items():
        parts = [random_parts.draw_part(name, 1, index) for index in range(80)]
        assert {part[key] for part in parts} == set(expected)


@pytest.mark.parametrize("family", [*PAINTINGS, *WEAVES])
def test_patterns_are_reflectances_that_follow_their_seed(family):
    draw = paint if family in PAINTINGS else weave
    colors = random_palette(np.random.default_rng(1), 4)
    image, again, other = (draw(family, colors, seed) for seed in (1, 1, 2))
    assert image.shape[2] == 3 and image.min() >= 0 and image.max() <= 1.06
    assert_array_equal(image, again)
    assert not np.array_equal(image, other)


def test_rays_go_through_the_corners_that_the_field_of_view_says():
    camera = {"origin": [1, 0, 1.5], "target": [1, 3, 1.5], "fov": 90}
    origin, rays = viewpoints.camera_rays(camera, 200, 100)
    assert_array_equal(origin, (1, 0, 1.5))
    assert_allclose(rays[[0, -1]], [(-0.995, 1, 0.495), (0.995, 1, -0.495)], atol=1e-12)


def test_all_views_see_carpet_and_most_see_headboard_and_picture(tmp_path):
    drawn = draw_set(tmp_path, "all", 8, 5, 1)
    seen = np.array([viewpoints.shares_seen(parts, parts["camera"]) for _view, parts in drawn])
    assert seen[:, OBJECTS.index("carpet")].min() >= 0.08
    for name in ("headboard", "picture"):
        assert np.mean(seen[:, OBJECTS.index(name)] > 0.01) > 0.8
    for view, parts in drawn:  # the number says the side
        low, high = viewpoints.ZONES[view.number]
        x, y, _height = parts["camera"]["origin"]
        assert low[0] <= x <= high[0] and low[1] <= y <= high[1]


@pytest.fixture(scope="module")
def render():
    pytest.importorskip("mitsuba")
    pytest.importorskip("pyoidn")
    from evaluation import render

    try:
        render.mi.set_variant("llvm_ad_rgb")
        render.dr.eval(render.mi.Float(1) + render.dr.arange(render.mi.Float, 2))
    except Exception as error:
        pytest.skip(f"Mitsuba's llvm_ad_rgb does not run here: {error}")
    return render


@pytest.fixture(scope="module")
def parts():
    return draw_set("room", "all", 1, 3, 4)[0][1]


def test_masks_are_what_single_rays_meet(render, parts, tmp_path):
    image, objects, _median = render.render_view(parts, width=36, samples=1)
    assert image.shape == (24, 36, 3) and image.dtype == np.uint8
    mi = render.mi
    mi.set_variant("scalar_rgb")
    scene = mi.load_dict({**render.build_room(parts, tmp_path)}, optimize=False)
    sensor = mi.load_dict(render.camera_sensor(parts["camera"], 24, 36))
    expected = np.zeros((24, 36), int)
    for y, x in np.ndindex(24, 36):
        place = mi.Point2f((x + 0.5) / 36, (y + 0.5) / 24)
        hit = scene.ray_intersect(sensor.sample_ray(0, 0.5, place, mi.Point2f(0.5))[0])
        expected[y, x] = OBJECTS.index(hit.shape.id().split("__")[0])
    assert np.mean(objects != expected) <= 0.005  # rays along an edge may fall either way
    assert len(np.unique(objects)) > 8


def test_a_change_leaves_the_exposure_and_the_masks_of_all_else(render, parts):
    before, objects, median = render.render_view(parts, width=72, samples=1)
    after, _objects, kept = render.render_view({**parts, "armchair": None, "median": median}, 72, 1)
    wall = (objects == OBJECTS.index("wall")) & (np.arange(72) < 36)
    assert kept == median and abs(before[wall].mean() - after[wall].mean()) < 3
    brighter, _objects, _median = render.render_view({**parts, "median": median / 2}, 72, 1)
    assert brighter[wall].mean() > before[wall].mean() + 20
    for name in ("picture", "headboard"):
        _image, after, _median = render.render_view({**parts, name: None}, 72, 1)
        gone = objects == OBJECTS.index(name)
        assert gone.any() and not np.any(after == OBJECTS.index(name))
        assert_array_equal(objects[~gone], after[~gone])


def test_rendering_goes_on_where_it_stopped(render, tmp_path):
    drawn = draw_set(tmp_path, "parts", 2, 1, 4)
    render_set(tmp_path, drawn, processes=1, width=36, samples=1)
    views = load_views(tmp_path)
    assert views == [view for view, _parts in drawn]
    assert all(0 < view.exposure() < 100 for view in views)
    first, kept = views[0].image_path.read_bytes(), views[1].image_path.stat().st_mtime_ns
    views[0].image_path.unlink()
    render_set(tmp_path, drawn, processes=1, width=36, samples=1)
    assert views[0].image_path.read_bytes() == first
    assert views[1].image_path.stat().st_mtime_ns == kept
    assert not list(tmp_path.glob(".*.tmp"))
