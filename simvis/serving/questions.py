"""What a page asks, checked: nothing in it is a path, or costs more than the limits here."""

import math
import re
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from simvis import image_ops

LONGEST = 2**18  # bytes of a question
MARKS = 64  # boxes, points, strokes or hits of each kind
POINTS = 4000  # of all strokes of a brush
PAINTED = 1024  # pixels of the longer side, at the most, on which they are painted
FARTHEST = 1e9  # pixels
TOP = 120  # hits of a page
PHOTO = re.compile("[0-9a-f]{64}")


class Question(NamedTuple):
    """What is searched with, in pixels of the photograph, and for how many hits."""

    photo: str | None  # SHA-256 of one that was sent, or
    row: int | None  # a picture of the gallery
    boxes: tuple = ()  # of (x0, y0, x1, y1)
    points: tuple = ()  # of (x, y)
    ignored: tuple = ()  # of boxes
    strokes: tuple = ()  # of a brush over what is ignored: (radius, x, y, x, y, ...)
    like: tuple = ()  # rows
    unlike: tuple = ()
    label: tuple = ()  # of the images that are searched, one of these
    not_label: tuple = ()  # and none of these
    fine: bool = False
    top: int = 12


def read_question(asked):
    """Return the `Question` in what a page has sent, a dict; a ValueError names what is wrong.

    Examples
    --------
    >>> read_question({"row": 3, "boxes": [[0, 0, 9, 9]]}).boxes
    ((0, 0, 9, 9),)
    >>> read_question({"row": "../secret"})
    Traceback (most recent call last):
    ValueError: row: expected a whole number, got '../secret'
    """
    photo, row = asked.get("photo"), asked.get("row")
    if photo is None:
        whole(row, "row")
    elif not (isinstance(photo, str) and PHOTO.fullmatch(photo)):
        raise ValueError("photo: it is none that was sent")
    strokes = numbers(asked, "strokes", None)
    if sum(map(len, strokes)) > 2 * POINTS or any(len(s) < 3 or len(s) % 2 == 0 for s in strokes):
        raise ValueError(f"strokes: expected a radius and at most {POINTS:,} points")
    lists = {}
    for name in ("like", "unlike"):
        rows = asked.get(name, [])
        if not (isinstance(rows, list) and len(rows) <= MARKS):
            raise ValueError(f"{name}: expected at most {MARKS} rows")
        lists[name] = tuple(whole(row, name) for row in rows)
    for name in ("label", "not_label"):
        texts = asked.get(name, [])
        if not (isinstance(texts, list) and all(_is_label(text) for text in texts[: MARKS + 1])):
            raise ValueError(f"{name}: expected a list of texts")
        lists[name] = tuple(texts[:MARKS])
    top = asked.get("top", Question._field_defaults["top"])
    if not 1 <= whole(top, "top") <= TOP:
        raise ValueError(f"top: expected 1 to {TOP}, got {top}")
    return Question(
        photo=photo,
        row=None if photo else row,
        boxes=numbers(asked, "boxes", 4),
        points=numbers(asked, "points", 2),
        ignored=numbers(asked, "ignored", 4),
        strokes=strokes,
        **lists,
        fine=asked.get("fine") is True,
        top=top,
    )


def _is_label(text):
    return isinstance(text, str) and len(text) <= 1000


def whole(value, name):
    """Return a whole number of 0 or more, or raise a ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{name}: expected a whole number, got {str(value)[:40]!r}")
    return value


def numbers(asked, name, count):
    """Return a tuple of tuples of so many numbers, any number of them for None."""
    lists = asked.get(name, [])
    if not (isinstance(lists, list) and len(lists) <= MARKS):
        raise ValueError(f"{name}: expected at most {MARKS} of them")
    for each in lists:
        fits = isinstance(each, list) and count in (None, len(each))
        if not (fits and all(type(n) in (int, float) and abs(n) < FARTHEST for n in each)):
            raise ValueError(f"{name}: expected lists of {count or 'finite'} numbers")
    return tuple(map(tuple, lists))


def places(question, size, cells):
    """Return the region and what is ignored, for `results.run_query`: None, a box or a mask.

    The photograph has this size, (height, width), and the network's map so many cells, (h, w).
    """
    for point in question.points:
        image_ops.cell_of(point, size, cells)  # raises for one outside
    region = [*question.boxes, *(image_ops.box_of_point(p, size, cells) for p in question.points)]
    ignored = [*question.ignored]
    if question.strokes:
        ignored.append(_painted(question.strokes, size))
    return _one(region, size), _one(ignored, size)


def _one(parts, size):
    """Return boxes and masks as one: none as None, one as it is, more as a mask of whole pixels."""
    if len(parts) < 2:
        return parts[0] if parts else None
    mask = np.zeros(size, bool)
    for part in parts:
        if len(np.shape(part)) == 2:
            mask |= part
        else:
            x0, y0, x1, y1 = image_ops.check_box(part, size)
            mask[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = True
    return mask


def _painted(strokes, size):
    """Return what a brush has painted, a bool mask of this (height, width)."""
    scale = min(1, PAINTED / max(size))  # so that large photographs cost no more
    picture = Image.new("L", tuple(max(1, round(side * scale)) for side in size[::-1]))
    draw = ImageDraw.Draw(picture)
    for radius, *line in strokes:
        radius = min(max(radius * scale, 1), PAINTED)
        points = [min(max(n * scale, -PAINTED), 2 * PAINTED) for n in line]
        places = list(zip(points[::2], points[1::2], strict=True))
        draw.line(places, 255, round(2 * radius))
        for x, y in places:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    mask = np.asarray(picture.resize(size[::-1], Image.Resampling.NEAREST)) > 0
    if not mask.any():
        raise ValueError("strokes: they lie outside of the picture")
    return mask
