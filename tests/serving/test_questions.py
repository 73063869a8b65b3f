"""What a page may ask, and what its marks come to."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from simvis import image_ops
from simvis.serving.questions import places, read_question
from simvis.serving.turns import Busy, Superseded, Turns

SIZE, CELLS = (40, 60), (4, 6)
CORNERS = st.tuples(st.integers(0, 59), st.integers(0, 39), st.integers(1, 30), st.integers(1, 30))
BOXES = CORNERS.map(lambda c: [c[0], c[1], min(c[0] + c[2], 60), min(c[1] + c[3], 40)])


def marked(**marks):
    return places(read_question({"row": 0, **marks}), SIZE, CELLS)


@given(st.lists(BOXES, max_size=4), st.lists(BOXES, max_size=4))
def test_boxes_are_the_pixels_in_any_of_them(boxes, ignored):
    for found, given_boxes in zip(
        marked(boxes=boxes, ignored=ignored), (boxes, ignored), strict=True
    ):
        if not given_boxes:
            assert found is None
        elif len(given_boxes) == 1:
            assert found == tuple(given_boxes[0])
        else:
            expected = np.zeros(SIZE, bool)
            for x0, y0, x1, y1 in given_boxes:
                expected[y0:y1, x0:x1] = True
            assert_array_equal(found, expected)


def test_a_point_is_the_box_of_a_cell_and_goes_with_boxes():
    box = image_ops.box_of_point((30, 20), SIZE, CELLS)
    assert marked(points=[[30, 20]]) == (box, None)
    region, _ = marked(points=[[30, 20]], boxes=[[0, 0, 2, 2]])
    assert region[:2, :2].all() and region[15:25, 26:35].all() and not region[:, 40:].any()


def test_a_brush_paints_what_is_near_its_line():
    _, painted = marked(strokes=[[5, 10, 20, 40, 20], [3, 50, 5]])
    y, x = np.mgrid[:40, :60]
    line = np.hypot(x - np.clip(x, 10, 40), y - 20)
    distance = np.minimum(line - 5, np.hypot(x - 50, y - 5) - 3)
    assert painted[distance < -1].all() and not painted[distance > 1.5].any()
    large = places(read_question({"row": 0, "strokes": [[200, 2000, 1500]]}), (3000, 4000), CELLS)
    assert abs(large[1].sum() / (np.pi * 200**2) - 1) < 0.05


@pytest.mark.parametrize(
    "asked, words",
    [
        ({}, "row: expected a whole number, got 'None'"),
        ({"row": "../../etc/passwd"}, "row: expected"),
        ({"row": -1}, "row: "),
        ({"row": True}, "row: "),
        ({"row": 1.0}, "row: "),
        ({"photo": "../secret.png"}, "photo: it is none"),
        ({"photo": 7}, "photo: "),
        ({"row": 1, "boxes": [[0, 0, 1]]}, "boxes: expected lists of 4"),
        ({"row": 1, "boxes": {"a": 1}}, "boxes: expected at most"),
        ({"row": 1, "boxes": [[0, 0, 1, float("nan")]]}, "boxes: "),
        ({"row": 1, "boxes": [[0, 0, 1, 10**400]]}, "boxes: "),
        ({"row": 1, "boxes": [[0, 0, 1, "1"]]}, "boxes: "),
        ({"row": 1, "boxes": [[0, 0, 1, 1]] * 65}, "boxes: expected at most 64"),
        ({"row": 1, "strokes": [[1, 2]]}, "strokes: expected a radius"),
        ({"row": 1, "strokes": [[1.0, *[2.0] * 9000]]}, "strokes: expected a radius"),
        ({"row": 1, "like": "a.png"}, "like: expected at most"),
        ({"row": 1, "unlike": ["a.png"]}, "unlike: expected a whole number"),
        ({"row": 1, "like": [1] * 65}, "like: "),
        ({"row": 1, "label": "a"}, "label: expected a list"),
        ({"row": 1, "not_label": [1]}, "not_label: expected a list"),
        ({"row": 1, "top": 0}, "top: expected 1 to 120"),
        ({"row": 1, "top": 10**9}, "top: "),
    ],
)
def test_what_is_no_question_is_named(asked, words):
    with pytest.raises(ValueError, match=words):
        read_question(asked)


def test_strokes_beside_the_picture_are_named():
    with pytest.raises(ValueError, match="strokes: they lie outside"):
        marked(strokes=[[1, -500, -500]])
    with pytest.raises(ValueError, match="leaves the image"):
        marked(boxes=[[0, 0, 61, 9], [0, 0, 9, 9]])


# --- turns ----------------------------------------------------------------------------------------


def in_a_loop(run):
    """Run a coroutine in a thread, since Playwright leaves a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(run())).result()


def test_a_newer_question_gives_up_older_ones_and_frees_their_places():
    turns, begun, let_go, done = Turns(waiting=2), threading.Event(), threading.Event(), []

    def work(name):
        begun.set()
        assert let_go.wait(60)
        done.append(name)
        return name

    async def run():
        jobs = [asyncio.create_task(turns.do(work, "running", page="a", turn=1))]
        while not begun.is_set():
            await asyncio.sleep(0)
        for name, page, turn in (("old", "b", 1), ("new", "b", 2), ("other", "c", 1)):
            jobs.append(asyncio.create_task(turns.do(work, name, page=page, turn=turn)))
            await asyncio.sleep(0)
        with pytest.raises(Busy):  # one is worked on, and two wait
            await turns.do(work, "more", page="d", turn=1)
        with pytest.raises(Superseded):
            await turns.do(work, "late", page="b", turn=1)
        let_go.set()
        return await asyncio.gather(*jobs, return_exceptions=True)

    running, old, new, other = in_a_loop(run)
    assert (running, new, other) == ("running", "new", "other") == tuple(done)
    assert isinstance(old, Superseded)
    assert turns.end(60)


def test_pages_that_come_and_go_are_forgotten():
    turns = Turns(waiting=4)

    async def run():
        for number in range(3000):
            await turns.do(abs, number, page=f"page {number}", turn=1)

    in_a_loop(run)
    assert len(turns._turns) <= 1024 and not turns._jobs
    assert turns.end(60)
