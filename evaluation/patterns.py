"""Random pictures and patterns in numpy: paintings, carpets, cloth and what the window shows.

All return reflectances or radiances as float (H, W, 3), row 0 on top.  A pattern of
``WEAVES`` repeats without a seam.
"""

import colorsys

import numpy as np


def random_color(rng, saturation=(0.25, 0.9), value=(0.12, 0.8)):
    """Return a random colour as three reflectances in 0..1."""
    return _linear(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))


def random_palette(rng, count, saturation=(0.25, 0.95)):
    """Return colours that differ from each other: hues far apart, values from dark to light."""
    hues = rng.uniform() + np.arange(count) * rng.choice((0.08, 0.21, 0.38, 0.5))
    values = rng.permutation(np.linspace(0.22, 0.95, count))
    pairs = zip(hues, values, strict=True)
    return [_linear(hue % 1, rng.uniform(*saturation), value) for hue, value in pairs]


def _linear(*hsv):  # screens' values to roughly linear light
    return tuple(channel**1.6 for channel in colorsys.hsv_to_rgb(*hsv))


# --- paintings -----------------------------------------------------------------------------------


def paint(family, colors, seed, aspect=1.5, shape=(144, 216)):
    """Return a painting of one of the PAINTINGS in four colours, (*shape, 3).

    aspect is its width over its height on the wall, whatever the number of its pixels.

    >>> paint("hills", random_palette(np.random.default_rng(1), 4), 2, 1.5, (16, 24)).shape
    (16, 24, 3)
    """
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : aspect : shape[1] * 1j]
    return PAINTINGS[family](x, y, np.array(colors), np.random.default_rng(seed))


def _distance(x, y, center):
    return np.hypot(x - center[0], y - center[1])


def _turned(x, y, center, angle):
    """Return the coordinates along and across a line through a point."""
    dx, dy, cos, sin = x - center[0], y - center[1], np.cos(angle), np.sin(angle)
    return dx * cos + dy * sin, -dx * sin + dy * cos


def _hills(x, y, colors, rng):
    image = (1 - y[..., None]) * colors[0] + y[..., None] * colors[1]
    sun = rng.uniform(0.2, 0.8) * x.max(), rng.uniform(0.15, 0.45)
    image[_distance(x, y, sun) < rng.uniform(0.07, 0.16)] = (0.95, 0.9, 0.75)
    for layer in range(3):
        level = 0.45 + 0.17 * layer + rng.uniform(-0.05, 0.05)
        waves = 0.09 * np.sin(rng.uniform(3, 6) * x + rng.uniform(0, 6))
        waves += 0.04 * np.sin(rng.uniform(8, 14) * x + rng.uniform(0, 6))
        image[y > level + waves] = colors[2] * (1 - layer / 3) + colors[3] * layer / 3
    return image


def _discs(x, y, colors, rng):
    image = np.full((*x.shape, 3), colors[0])
    for _ in range(rng.integers(4, 10)):
        distance = _distance(x, y, (rng.uniform(0, x.max()), rng.uniform()))
        image[distance < rng.uniform(0.07, 0.33)] = rng.choice(colors)
    return image


def _bars(x, y, colors, rng):
    angle = rng.choice((0, 0.5, 1, rng.uniform(0, 1))) * np.pi / 2
    along = x * np.cos(angle) + y * np.sin(angle)
    edges = np.sort(rng.uniform(along.min(), along.max(), rng.integers(4, 13)))
    return colors[rng.integers(0, 4, len(edges) + 1)][np.searchsorted(edges, along)]


def _blocks(x, y, colors, rng):
    columns = np.sort(rng.uniform(0, x.max(), rng.integers(2, 6)))
    rows = np.sort(rng.uniform(0, 1, rng.integers(2, 5)))
    column, row = np.searchsorted(columns, x), np.searchsorted(rows, y)
    image = colors[rng.integers(1, 4, (len(rows) + 1, len(columns) + 1))][row, column]
    for along, lines in ((x, columns), (y, rows)):
        image[np.any(np.abs(along[..., None] - lines) < 0.018, axis=2)] = colors[0] * 0.3
    return image


def _rings(x, y, colors, rng):
    center = rng.uniform(0.2, 0.8) * x.max(), rng.uniform(0.2, 0.8)
    stretch = rng.uniform(0.6, 1.6)
    distance = np.hypot((x - center[0]) * stretch, y - center[1]) / rng.uniform(0.06, 0.16)
    return colors[rng.permutation(4)][(distance.astype(int)) % 4]


def _contours(x, y, colors, rng):
    waves = (rng.normal(0, 4) * x + rng.normal(0, 4) * y + rng.uniform(0, 6) for _ in range(5))
    return colors[np.digitize(sum(map(np.sin, waves)), (-1.2, 0, 1.2))]


def _cells(x, y, colors, rng):
    seeds = rng.uniform(0, 1, (rng.integers(8, 40), 2)) * (x.max(), 1)
    nearest = _distance(x[..., None], y[..., None], seeds.T).argmin(-1)
    return colors[rng.integers(0, 4, len(seeds))][nearest]


def _rays(x, y, colors, rng):
    center = rng.uniform(0.1, 0.9) * x.max(), rng.uniform(0.1, 1.1)
    angle = np.arctan2(y - center[1], x - center[0]) + rng.uniform(0, 6)
    image = colors[(angle / (2 * np.pi) * 4 * rng.integers(3, 8)).astype(int) % 3]
    image[_distance(x, y, center) < rng.uniform(0.1, 0.25)] = colors[3]
    return image


def _leaves(x, y, colors, rng):
    image = np.full((*x.shape, 3), colors[0] * 0.3 + 0.6)
    foot = rng.uniform(0.4, 0.6) * x.max(), 1.0
    for _ in range(rng.integers(5, 12)):
        angle, length = rng.uniform(-2.8, -0.35), rng.uniform(0.5, 1.0)
        along, across = _turned(x, y, foot, angle)
        width = rng.uniform(0.05, 0.15) * np.sin(np.pi * np.clip(along / length, 0, 1))
        image[np.abs(across) < width] = colors[rng.integers(1, 4)]
    return image


def _strokes(x, y, colors, rng):
    image = np.full((*x.shape, 3), colors[0])
    for _ in range(rng.integers(14, 40)):
        center = rng.uniform(0, x.max()), rng.uniform()
        along, across = _turned(x, y, center, rng.uniform(0, np.pi))
        bend = across + rng.uniform(-1.5, 1.5) * along**2
        stroke = (np.abs(bend) < rng.uniform(0.02, 0.07)) & (np.abs(along) < rng.uniform(0.1, 0.5))
        image[stroke] = colors[rng.integers(1, 4)]
    return image


PAINTED = _hills, _discs, _bars, _blocks, _rings, _contours, _cells, _rays, _leaves, _strokes
PAINTINGS = {function.__name__[1:]: function for function in PAINTED}


# --- carpets and cloth ---------------------------------------------------------------------------


def weave(family, colors, seed, size=128):
    """Return one repeat of a pattern of the WEAVES in up to three colours, (size, size, 3).

    >>> weave("links", random_palette(np.random.default_rng(1), 3), 2, 16).shape
    (16, 16, 3)
    """
    (y, x), rng = (np.mgrid[0:size, 0:size] + 0.5) / size, np.random.default_rng(seed)
    which = WEAVES[family](x, y, rng)
    return np.array(colors)[which] * rng.uniform(0.86, 1.06, x.shape)[..., None]


def cover(pixels, size, tile, shape):
    """Return a pattern repeated over a surface, (*shape, 3).

    size is the surface's height and width, tile one repeat's side, both in metres.

    >>> cover(np.arange(4).reshape(2, 2, 1), (0.5, 1.0), 0.5, (2, 4))[..., 0]
    array([[0, 1, 0, 1],
           [2, 3, 2, 3]])
    """
    rows, columns = (
        (np.arange(count) / count * length / tile * len(pixels)).astype(int) % len(pixels)
        for count, length in zip(shape, size, strict=True)
    )
    return pixels[rows[:, None], columns]


def _plain(x, y, rng):
    return np.zeros(x.shape, int)


def _lozenges(x, y, rng):
    distance = np.abs(x - 0.5) + np.abs(y - 0.5)
    return (distance * rng.integers(2, 7) % 1 > rng.uniform(0.4, 0.65)).astype(int)


def _links(x, y, rng):
    which, radius, line = np.zeros(x.shape, int), rng.uniform(0.28, 0.42), rng.uniform(0.03, 0.06)
    for center in ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)):
        which[np.abs(_distance(x, y, center) - radius) < line] = 1
    return which


def _stripes(x, y, rng):
    edges = np.sort(rng.uniform(0, 1, rng.integers(2, 5) * 2))
    return rng.permutation([0, 1, 2])[np.searchsorted(edges, x) % 3]


def _checks(x, y, rng):
    count = 2 * rng.integers(1, 3)
    return ((x * count).astype(int) + (y * count).astype(int)) % 2


def _zigzags(x, y, rng):
    shifted = y + rng.uniform(0.2, 0.5) * np.abs((2 * x) % 1 - 0.5)
    return (shifted * rng.integers(2, 4) * 3).astype(int) % 3 % rng.integers(2, 4)


def _dots(x, y, rng):
    first, second = (_distance(x, y, (at, at)) < rng.uniform(0.13, 0.26) for at in (0.25, 0.75))
    return np.where(second, 2, first.astype(int))


def _plaid(x, y, rng):
    low = rng.uniform(0.1, 0.5, 2)[0]
    wide = (np.abs(x - low) < 0.14).astype(int) + (np.abs(y - low) < 0.14)
    wide[(np.abs(x - 0.8) < 0.03) | (np.abs(y - 0.8) < 0.03)] = 2
    return wide


def _strewn(x, y, rng):
    which = np.zeros(x.shape, int)
    for _ in range(rng.integers(6, 16)):
        center, angle, length = rng.uniform(size=2), rng.uniform(0, np.pi), rng.uniform(0.06, 0.2)
        dx, dy = (x - center[0] + 0.5) % 1 - 0.5, (y - center[1] + 0.5) % 1 - 0.5
        along, across = _turned(dx, dy, (0, 0), angle)
        leaf = (along / length) ** 2 + (across / rng.uniform(0.03, 0.08)) ** 2 < 1
        which[leaf] = rng.integers(1, 3)
    return which


def _trellis(x, y, rng):
    wave = rng.uniform(0.1, 0.2) * np.sin(2 * np.pi * y)
    line = rng.uniform(0.04, 0.08)
    first, second = (np.abs((x - at + 0.5) % 1 - 0.5) for at in (wave, 0.5 - wave))
    which = (np.minimum(first, second) < line).astype(int)
    which[_distance(x, y, (0.25, 0.5)) < line * 1.6] = 2
    return which


WOVEN = _plain, _lozenges, _links, _stripes, _checks, _zigzags, _dots, _plaid, _strewn, _trellis
WEAVES = {function.__name__[1:]: function for function in WOVEN}


# --- the window ----------------------------------------------------------------------------------


def sky(seed, night, shape=(64, 128)):
    """Return what the window shows, as radiance: sky over trees or roofs, by day or by night."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    grey = rng.uniform()  # from a clear day to an overcast one
    zenith = (1 - grey) * np.array((1.7, 3.0, 5.2)) + grey * np.array((3.6, 3.8, 4.0))
    image = (1 - y[..., None]) * zenith + y[..., None] * (4.0, 4.6, 5.2)
    level = rng.uniform(0.55, 0.85)
    if rng.uniform() < 0.5:
        line = level + sum(0.02 * np.sin(f * x + rng.uniform(0, 6)) for f in (23, 57, 131))
        ground = np.array((0.55, 0.75, 0.45)) * rng.uniform(0.6, 1.2)
    else:
        line = level + rng.uniform(-0.15, 0.15, 12)[(x * 11.99).astype(int)]
        ground = np.array((0.8, 0.75, 0.7)) * rng.uniform(0.6, 1.4)
    image[y > line] = ground
    if night:
        image *= 0.012
        image[(y > line) & (rng.uniform(size=shape) < 0.02)] = (1.6, 1.2, 0.6)
    return image
