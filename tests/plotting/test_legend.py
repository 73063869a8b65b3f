"""What is drawn on finished pictures: the numbers of a legend, where zero is, lines that match."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import holds
from PIL import ImageFont

from simvis import image_ops
from simvis.plotting.legend import _spread, add_legend, add_matches, fitted, value_text

LETTERS = ImageFont.load_default(10)


def bar(low, high, colormap="jet", ends=None):
    return np.array([[low, high]]), colormap, ends or (low, high)


def legend(*bars, widths=(240, 240), left="similarity 0.8195", right="imagenet, average pooling"):
    height, width = 30, sum(widths)
    picture = np.full((height, width, 3), 7, np.uint8)
    drawn = add_legend(picture, widths, left, right, bars)
    assert (drawn[:height, :width] == 7).all() and drawn.dtype == np.uint8
    return drawn[height:]


def test_it_says_the_similarity_the_network_and_the_values_that_a_map_holds():
    strip = legend(bar(0.0041, 0.05), bar(-0.2, 0.6))
    assert strip.shape[1] == 480
    for text in ("similarity 0.8195", "imagenet, average pooling"):
        assert len(holds(strip, text)) == 1
    places = [holds(strip, text)[0][0] for text in ("0.0041", "0.0500", "-0.20", "0.60")]
    assert places == sorted(places) and places[1] < 240 < places[2]


def test_readable_at_480_pixels_it_scales_with_the_picture():
    strips = [legend(*[bar(0.0041, 0.05)] * 2, widths=(width, width)) for width in (240, 720)]
    assert len(strips[1]) == pytest.approx(3 * len(strips[0]), abs=4)
    assert len(holds(strips[1], "0.0041", 30)) == 2 and not holds(strips[1], "0.0041", 10)


@pytest.mark.parametrize("low, high", [(-0.02, 0.06), (0.02, 0.06), (-0.06, -0.03), (0.0, 0.5)])
@pytest.mark.parametrize("colormap", ["gray", "coolwarm"])
def test_a_bar_has_its_colours_and_zero_where_they_belong(low, high, colormap):
    strip = legend(bar(low, high, colormap), "", widths=(720, 720))
    ends = min(low, 0), max(high, 0)
    left, right, top = 15, 704, 45 + 15 + 7  # half a letter from the edges, and within the bar
    values = np.linspace(*ends, right - left + 1)
    expected = image_ops.colorize_map(values[None], colormap, (low, high))[0]
    shown = strip[top, left : right + 1].astype(int)
    different = np.flatnonzero(np.abs(shown - expected).max(axis=1) > 3)
    zero = round((0 - ends[0]) / (ends[1] - ends[0]) * (right - left))
    assert len(different) and np.abs(different - zero).max() <= 4  # but for the line at zero
    assert (strip[top, left + zero] == 0).all() and holds(strip, "0", 30)


def test_colours_that_reach_further_have_their_ends_too():
    strip = legend(bar(0.0041, 0.03, ends=(0.0, 0.0612)), "", widths=(720, 720))
    assert all(holds(strip, text, 30) for text in ("0", "0.0041", "0.0300", "0.0612"))
    bracket = strip[79:83, 15:705]  # under the bar, of the map's values
    (columns,) = np.nonzero((bracket == 0).all(axis=2).any(axis=0))
    assert columns.min() == round(0.0041 / 0.0612 * 689)
    assert columns.max() == pytest.approx(0.03 / 0.0612 * 689, abs=3)


def test_words_stand_where_there_is_no_bar_and_are_cut_where_they_do_not_fit():
    flat = bar(0, 0)
    strip = legend("the point adds 0.0441 per cell", flat)
    assert holds(strip, "the point adds 0.0441 per cell")
    strip = legend(flat, flat, right="a network " * 50)
    assert holds(strip, "similarity 0.8195") and holds(strip, "a network a network")
    strip = legend(flat, flat, left="zwölf\nBilder 安")
    assert holds(strip, "zw?lf Bilder ?")


@given(st.text("ab ü\n", min_size=30), st.integers(20, 100), st.sampled_from(["beginning", "end"]))
def test_a_text_that_is_cut_to_its_room_keeps_one_end(text, room, keep):
    whole, cut = fitted(text, LETTERS, np.inf), fitted(text, LETTERS, room, keep)
    assert LETTERS.getlength(cut) <= room and cut.isascii() and "\n" not in cut
    if cut != whole and keep == "beginning":
        assert cut.endswith("...") and whole.startswith(cut[:-3])
    elif cut != whole:
        assert cut.startswith("...") and whole.endswith(cut[3:])


@pytest.mark.parametrize("widths", [(1, 1), (30, 50), (100, 900), (9000, 10), (5, 5, 5)])
def test_pictures_of_any_shape_get_one(widths):
    values = (-1.234e-7, 3.21e-7) if len(widths) == 2 else (-0.2345, 0.9345)
    drawn = legend(*[bar(*values)] * len(widths), widths=widths)
    assert drawn.shape[1] == max(400, sum(widths))


@given(
    st.lists(st.tuples(st.floats(0, 299), st.sampled_from(["0", "0.04", "-0.0042"])), max_size=5)
)
def test_numbers_never_collide(labels):
    labels.sort()
    texts = [text for _, text in labels]
    lefts = _spread([x for x, _ in labels], texts, LETTERS, (0, 300))
    for (x, text), left in zip(labels, lefts, strict=True):
        assert 0 <= left <= 300 - LETTERS.getlength(text)
        if len(labels) == 1:
            middle = left + LETTERS.getlength(text) / 2
            assert abs(middle - x) < 2 or left in (0, 300 - np.ceil(LETTERS.getlength(text)))
    rights = [left + LETTERS.getlength(text) for left, text in zip(lefts, texts, strict=True)]
    assert all(right < left for right, left in zip(rights, lefts[1:], strict=False))


@given(st.floats(1e-12, 1e3), st.floats(-1, 1))
def test_a_number_is_its_value_to_a_hundredth_of_the_largest(peak, share):
    error = abs(float(value_text(share * peak, peak)) - share * peak)
    assert error <= (0.051 if peak < 1e-4 else 0.0051) * peak


def test_lines_lead_from_number_to_number():
    picture = np.full((200, 600, 3), 99, np.uint8)
    lines = [(50, 40, 550, 40), (50, 120, 550, 160)]
    drawn = add_matches(picture, lines)
    assert (picture == 99).all() and drawn.shape == picture.shape
    for x1, y1, x2, y2 in lines:
        discs = [drawn[y - 10 : y + 11, x - 10 : x + 11] for x, y in ((x1, y1), (x2, y2))]
        assert all((disc == 0).all(axis=2).mean() > 0.3 for disc in discs)
        one, other = (disc[4:-4, 4:-4] for disc in discs)  # of one digit
        assert one.mean() > 10 and (one == other).all()
    assert (drawn[:, 300] == 255).all(axis=1).sum() >= 2  # both lines cross the middle
    alone = add_matches(picture, lines[:1])
    assert (alone[40, 80:520] == 255).all()  # a single line is straight
    assert (add_matches(picture, []) == picture).all()
    # the line that adds most is the widest, and all can be seen
    thick, thin = (
        (add_matches(picture, lines, strengths)[:, 300] == 255).all(axis=1).sum()
        for strengths in ([1, 1], [1, 1e-9])
    )
    assert thick > thin >= 2
