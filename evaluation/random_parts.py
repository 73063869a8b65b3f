"""What rooms are made of, drawn at random: a dict of numbers for each object.

A room's *identity* (IDENTITY) is drawn once and is the same in all its views; all else is
*nuisance*, drawn anew for each view.  What is generic (walls, wood, linen) comes from palettes so
small that they tell nothing.
"""

import numpy as np

from evaluation.patterns import PAINTINGS, WEAVES, random_color, random_palette
from evaluation.views import OBJECTS

IDENTITY = (
    *("headboard", "picture", "carpet", "runner", "cushions", "curtains", "lamps", "armchair"),
)
HEADBOARDS = ("padded", "slatted", "channels", "framed", "arched", "railed")
WALLS = ((0.76, 0.74, 0.70), (0.78, 0.77, 0.75), (0.73, 0.74, 0.74), (0.78, 0.75, 0.68))
WOODS = ((0.30, 0.17, 0.09), (0.46, 0.31, 0.18), (0.16, 0.10, 0.07))
LINENS = ((0.84, 0.83, 0.80), (0.82, 0.82, 0.83))


def draw_part(name, seed, *index):
    """Return the part of this name of the IDENTITY that this index has, a dict.

    >>> draw_part("carpet", 1, 5) == draw_part("carpet", 1, 5) != draw_part("carpet", 1, 6)
    True
    """
    return _PARTS[name](np.random.default_rng([seed, OBJECTS.index(name), *index]))


def _headboard(rng):
    return {
        "kind": str(rng.choice(HEADBOARDS)),
        "width": rng.uniform(1.7, 2.45),
        "top": rng.uniform(1.08, 1.42),
        "color": random_color(rng),
        "second": random_color(rng),
        "count": int(rng.integers(3, 9)),
        "rows": int(rng.integers(1, 4)),
        "pattern": str(rng.choice(list(WEAVES))),
        "seed": int(rng.integers(2**31)),
    }


def _picture(rng):
    count = int(rng.integers(1, 3))
    height = rng.uniform(0.5, 0.78)
    width = rng.uniform(0.7, 1.5) if count == 1 else rng.uniform(0.45, 0.75)
    return {
        "count": count,
        "family": str(rng.choice(list(PAINTINGS))),
        "colors": random_palette(rng, 4),
        "frame": random_color(rng, (0, 0.6), (0.1, 0.8)),
        "seeds": [int(seed) for seed in rng.integers(2**31, size=count)],
        "width": width,
        "height": height,
        "low": rng.uniform(1.53, 1.60),
        "gap": rng.uniform(0.12, 0.3),
    }


def _carpet(rng):
    return {
        "family": str(rng.choice(list(WEAVES), p=[0.04, *(0.96 / 9,) * 9])),  # seldom plain
        "colors": random_palette(rng, 3, (0.15, 0.7)),
        "seed": int(rng.integers(2**31)),
        "tile": rng.uniform(0.35, 1.1),
        "turned": bool(rng.integers(2)),
    }


def _cloth(rng):
    return {
        "family": "plain" if rng.uniform() < 0.4 else str(rng.choice(list(WEAVES))),
        "colors": random_palette(rng, 3),
        "seed": int(rng.integers(2**31)),
        "repeat": rng.uniform(1.2, 3.5),
    }


def _runner(rng):
    start = rng.uniform(0.02, 0.25)
    return {**_cloth(rng), "start": start, "end": start + rng.uniform(0.4, 0.7)}


def _cushions(rng):
    return {
        **_cloth(rng),
        "count": int(rng.integers(1, 4)),
        "width": rng.uniform(0.36, 0.55),
        "height": rng.uniform(0.3, 0.42),
    }


def _lamps(rng):
    heights = (0.02, 0.06, 0.14, 0.22, 0.28)
    radii = rng.choice(((0.09, 0.02, 0.02, 0.02, 0.02), rng.uniform(0.02, 0.11, 5)))
    return {
        "outline": [(0, 0), (0.09, 0), *zip(radii, heights, strict=True), (0.012, 0.33)],
        "bottom": rng.uniform(0.12, 0.2),
        "top": rng.uniform(0.06, 0.2),
        "height": rng.uniform(0.16, 0.27),
        "base": random_color(rng),
        "shade": random_color(rng, (0.05, 0.6), (0.7, 0.95)),
    }


def _armchair(rng):
    return {
        "color": random_color(rng),
        "back": rng.uniform(0.75, 1.15),
        "arms": float(rng.choice((0, rng.uniform(0.52, 0.72)))),
        "arm_width": rng.uniform(0.08, 0.18),
    }


_FUNCTIONS = _headboard, _picture, _carpet, _runner, _cushions, _cloth, _lamps, _armchair
_PARTS = dict(zip(IDENTITY, _FUNCTIONS, strict=True))


def draw_nuisance(seed, *index):
    """Return all that changes between the views of a room but its camera, by object."""
    rng = np.random.default_rng([seed, 1000, *index])
    night = bool(rng.uniform() < 0.3)
    television = {
        "on": bool(rng.uniform() < 0.7),
        "family": str(rng.choice(list(PAINTINGS))),
        "colors": random_palette(rng, 4),
        "seed": int(rng.integers(2**31)),
        "glow": rng.uniform(0.5, 1.3),
    }
    warm = rng.normal(0, 0.09)
    light = {
        "night": night,
        "lamps": bool(night or rng.uniform() < 0.5),
        "sky": int(rng.integers(2**31)),
        "sun": rng.uniform(0.25, 0.6),
        "flash": rng.uniform(0.6, 1.6),
    }
    exposure, green = rng.uniform(0.7, 1.4), rng.normal(0, 0.03)
    light["gain"] = list(exposure * np.array((1 + warm, 1 + green, 1 - warm)))
    return {
        "light": light,
        "wall": {"color": WALLS[rng.integers(len(WALLS))]},
        "wood": WOODS[rng.integers(len(WOODS))],
        "linen": LINENS[rng.integers(len(LINENS))],
        "television": television,
        "suitcase": _suitcase(rng) if rng.uniform() < 0.65 else None,
        "towel": _towel(rng) if rng.uniform() < 0.65 else None,
        "pillows": [list(rng.normal(0, (0.025, 0.02, 5))) for _ in range(4)],
        "cushions_at": list(rng.normal(0, (0.12, 0.03))),
        "armchair_at": [rng.uniform(4.1, 4.45), rng.uniform(4.35, 4.65), rng.uniform(-35, 15)],
        "drapes": list(rng.uniform(0.4, 1.25, 2)),
    }


def _suitcase(rng):
    spots = ((1.0, 1.0), (3.9, 2.2), (0.9, 0.4), (4.2, 3.4), (3.3, 2.2), (1.6, 2.4))
    x, y = np.array(spots[rng.integers(len(spots))]) + rng.uniform(-0.2, 0.2, 2)
    return {
        "at": [x, y, rng.uniform(0, 180)],
        "size": [rng.uniform(0.4, 0.55), rng.uniform(0.22, 0.3), rng.uniform(0.5, 0.75)],
        "color": random_color(rng),
    }


def _towel(rng):
    return {
        "at": [rng.uniform(-0.6, 0.6), rng.uniform(0.8, 1.25), rng.uniform(-30, 30)],
        "size": [rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.35), rng.uniform(0.05, 0.12)],
        "color": random_color(rng) if rng.uniform() < 0.6 else (0.85, 0.85, 0.83),
    }
