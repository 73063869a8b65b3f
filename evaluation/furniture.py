"""The furniture of a hotel room: each function adds the shapes of one object to a Scene.

Lengths are metres; x runs along the headboard's wall, y towards it, z up.  Materials are those of
`room_parts`.
"""

import numpy as np

from evaluation.room_parts import (
    bitmap,
    cloth,
    cone,
    curtain,
    extruded,
    pillow,
    polished,
    rgb,
    textured,
    turned,
)
from evaluation.viewpoints import BED_X, DEPTH, HEIGHT, WIDTH

BACK = DEPTH  # the wall that the headboard stands at
WINDOW = 0.85, 2.25, 1.7, 3.9  # of its opening: low, high, near, far
DRESSER = 2.2, 3.8, 0.72  # near, far, top


def build_shell(scene, look, floor, sky, drapes, floor_name="floor"):
    """Add floor, ceiling, three walls with a window, curtains, skirting and the light.

    Parameters
    ----------
    look : dict
        Materials of ``wall``, ``accent`` (the headboard's wall), ``curtains`` and ``wood``;
        ``light``, the radiance of the photographer's lamp; where the curtains have a pattern,
        ``curtains_repeat``, its repeats a metre.
    floor : a material whose texture spans 5 x 6.2 m
    sky : radiances (H, W, 3) that the window shows
    drapes : pairs of (where along the wall, length of that); none for no curtains
    """
    scene.panel(floor_name, (0, -1, 0), (WIDTH, 0, 0), (0, DEPTH + 1, 0), floor)
    white = cloth((0.82, 0.81, 0.79))
    scene.panel("ceiling", (0, -1, HEIGHT), (0, DEPTH + 1, 0), (WIDTH, 0, 0), white)
    scene.panel("wall", (0, BACK, 0), (WIDTH, 0, 0), (0, 0, HEIGHT), look["accent"])
    scene.panel("wall", (0, -1, 0), (0, DEPTH + 1, 0), (0, 0, HEIGHT), look["wall"])
    low, high, near, far = WINDOW
    for corner, along, up in (
        ((WIDTH, DEPTH, 0), (0, far - DEPTH, 0), (0, 0, HEIGHT)),
        ((WIDTH, near, 0), (0, -1 - near, 0), (0, 0, HEIGHT)),
        ((WIDTH, far, 0), (0, near - far, 0), (0, 0, low)),
        ((WIDTH, far, high), (0, near - far, 0), (0, 0, HEIGHT - high)),
    ):
        scene.panel("wall", corner, along, up, look["wall"])
    build_window(scene, sky, white)
    for start, length in drapes:
        mesh = curtain(length, 2.42, 7)
        at = WIDTH - 0.13, start, 2.46
        repeat = look.get("curtains_repeat")
        uv = None if repeat is None else mesh[0][:, 1:] * repeat
        scene.mesh("curtains", mesh, at, look["curtains"], uv=uv)
    if drapes:
        rail = (WIDTH - 0.16, near - 0.7, 2.46), (WIDTH - 0.12, far + 0.7, 2.50)
        scene.box("curtains", *rail, polished(look["wood"]), 0.02)
    scene.box("wall", (0, BACK - 0.015, 0), (WIDTH, BACK + 0.02, 0.09), white)
    scene.box("wall", (-0.02, -1, 0), (0.015, DEPTH, 0.09), white)
    scene.box("wall", (WIDTH - 0.015, -1, 0), (WIDTH + 0.02, DEPTH, 0.09), white)
    # the photographer's soft light, behind every camera
    light = rgb(look["light"])
    scene.panel("none", (WIDTH, -1, 0.3), (-WIDTH, 0, 0), (0, 0, 2), None, light)


def build_window(scene, sky, white):
    """Add the window's frame and what it shows, which lights the room."""
    low, high, near, far = WINDOW
    for side, thickness in ((near, 0.06), ((near + far) / 2, 0.05), (far, 0.06)):
        scene.box(
            "window",
            (WIDTH - 0.02, side - thickness / 2, low),
            (WIDTH + 0.05, side + thickness / 2, high),
            white,
        )
    for level in (low, high):
        scene.box(
            "window",
            (WIDTH - 0.05, near - 0.03, level - 0.03),
            (WIDTH + 0.05, far + 0.03, level + 0.03),
            white,
        )
    corner, along, up = (WIDTH + 0.06, far, low), (0, near - far, 0), (0, 0, high - low)
    scene.panel("window", corner, along, up, None, bitmap(sky))


def build_bed(scene, wood, linen):
    """Add the base, mattress and duvet with its fold."""
    x, head = BED_X, BACK - 0.13
    foot = head - 2.05
    scene.box("bed", (x - 0.88, foot + 0.05, 0.04), (x + 0.88, head, 0.30), polished(wood))
    scene.box("bed", (x - 0.90, foot, 0.30), (x + 0.90, head, 0.56), (0.82, 0.81, 0.78), 0.06)
    low, high = (x - 0.97, foot - 0.06, 0.16), (x + 0.97, head - 0.62, 0.64)
    scene.box("bed", low, high, linen, 0.07, 0.005)
    low, high = (x - 0.975, head - 0.86, 0.36), (x + 0.975, head - 0.56, 0.665)
    scene.box("bed", low, high, tuple(np.minimum(1.04 * np.array(linen), 0.9)), 0.06, 0.005)


def build_runner(scene, name, material, start=0.12, end=0.62, repeat=None):
    """Add a cloth across the foot of the bed."""
    foot = BACK - 0.13 - 2.05
    low, high = (BED_X - 0.98, foot + start, 0.20), (BED_X + 0.98, foot + end, 0.665)
    scene.box(name, low, high, material, 0.072, 0.003, repeat)


def build_pillows(scene, shifts=((0, 0, 0),) * 4):
    """Add four white pillows, each moved along x and y and turned by degrees."""
    head, white = BACK - 0.13, (0.86, 0.855, 0.84)
    shifts = iter(shifts)
    for side in (-0.46, 0.46):
        for shape, spread, back, height, tilt in (
            ((0.80, 0.52, 0.25), 1, 0.15, 0.80, 68),
            ((0.74, 0.48, 0.23), 0.97, 0.36, 0.735, 46),
        ):
            dx, dy, turn = next(shifts)
            at = BED_X + side * spread + dx, head - back + dy, height
            scene.mesh("pillows", pillow(*shape), at, white, ((1, 0, 0), tilt + turn))


def build_cushion(scene, name, material, dx=0.0, dy=0.0, size=(0.46, 0.36, 0.19), repeat=None):
    """Add a small cushion that leans on the pillows."""
    at = BED_X + dx, BACK - 0.13 - 0.58 + dy, 0.765
    mesh = pillow(*size)
    uv = None if repeat is None else mesh[0][:, :2] * repeat
    scene.mesh(name, mesh, at, material, ((1, 0, 0), 48), uv=uv)


def build_nightstand(scene, x, wood):
    """Add a nightstand with a drawer."""
    front = BACK - 0.45
    low, high = (x - 0.25, front, 0.12), (x + 0.25, BACK - 0.02, 0.52)
    scene.box("nightstands", low, high, polished(wood), 0.012)
    low, high = (x - 0.22, front - 0.015, 0.33), (x + 0.22, front, 0.49)
    scene.box("nightstands", low, high, polished(tuple(1.25 * np.array(wood))), 0.006)
    low, high = (x - 0.05, front - 0.035, 0.405), (x + 0.05, front - 0.01, 0.425)
    scene.box("nightstands", low, high, polished((0.7, 0.62, 0.45), 0.2), 0.008)
    for leg in (-0.21, 0.21):
        for depth in (front + 0.04, BACK - 0.06):
            low = x + leg - 0.02, depth - 0.02, 0
            high = x + leg + 0.02, depth + 0.02, 0.13
            scene.box("nightstands", low, high, polished(wood))


VASE = (
    *((0, 0), (0.09, 0), (0.09, 0.015), (0.03, 0.03), (0.075, 0.10), (0.085, 0.15)),
    *((0.06, 0.21), (0.018, 0.25), (0.012, 0.33)),
)


def build_lamp(scene, x, base, light, outline=VASE, shade=(0.17, 0.10, 0.23), color=(0.8,) * 3):
    """Add a lamp on a nightstand: a base of this outline, and a shade that gives light.

    shade is its bottom and top radius and its height.
    """
    at = x, BACK - 0.25, 0.52
    scene.mesh("lamps", turned(outline), at, polished(base, 0.25))
    at = at[0], at[1], at[2] + 0.27
    scene.mesh("lamps", cone(*shade), at, cloth(color), emission=rgb(light))


def build_picture(
    scene, pixels, x=BED_X, low=1.50, width=1.2, height=0.6, frame=(0.07, 0.06, 0.05)
):
    """Add a framed picture over the headboard."""
    scene.box(
        "picture",
        (x - width / 2 - 0.04, BACK - 0.035, low - 0.04),
        (x + width / 2 + 0.04, BACK, low + height + 0.04),
        polished(frame),
    )
    corner = x - width / 2, BACK - 0.037, low
    scene.panel("picture", corner, (width, 0, 0), (0, 0, height), textured(pixels))


def build_dresser(scene, wood):
    """Add a dresser of three drawers along the left wall."""
    near, far, top = DRESSER
    scene.box("dresser", (0.02, near, 0.08), (0.50, far, top), polished(wood), 0.012)
    scene.box("dresser", (0.06, near + 0.04, 0), (0.44, far - 0.04, 0.09), polished((0.05,) * 3))
    for drawer in range(3):
        start = near + 0.03 + drawer * (far - near - 0.03) / 3
        end = start + (far - near - 0.12) / 3
        front = polished(tuple(1.25 * np.array(wood)))
        scene.box("dresser", (0.50, start, 0.14), (0.515, end, top - 0.06), front, 0.006)
        low = 0.51, (start + end) / 2 - 0.07, 0.50
        high = 0.535, (start + end) / 2 + 0.07, 0.52
        scene.box("dresser", low, high, polished((0.7, 0.62, 0.45), 0.2), 0.008)


def build_television(scene, emission=None):
    """Add a television on the dresser, dark unless its screen has an emission."""
    near, far, top = DRESSER
    middle = (near + far) / 2
    black = polished((0.03,) * 3)
    low, high = (0.15, middle - 0.2, top), (0.36, middle + 0.2, top + 0.015)
    scene.box("television", low, high, black)
    low, high = (0.23, middle - 0.03, top), (0.26, middle + 0.03, top + 0.12)
    scene.box("television", low, high, black)
    low, high = (0.225, middle - 0.58, top + 0.08), (0.265, middle + 0.58, top + 0.75)
    scene.box("television", low, high, polished((0.02,) * 3, 0.3), 0.008)
    corner, along, up = (0.2655, middle - 0.565, top + 0.095), (0, 1.13, 0), (0, 0, 0.64)
    screen = polished((0.012, 0.013, 0.016), 0.12)
    scene.panel("television", corner, along, up, screen, emission)


def build_armchair(scene, x, y, fabric, wood, back=0.90, arms=0.60, arm_width=0.13):
    """Add an armchair; without arms where their height is 0."""
    low, high = (x - 0.36, y - 0.36, 0.14), (x + 0.36, y + 0.36, 0.34)
    scene.box("armchair", low, high, fabric, 0.05)
    low, high = (x - 0.27, y - 0.38, 0.32), (x + 0.27, y + 0.24, 0.47)
    scene.box("armchair", low, high, fabric, 0.06, 0.003)
    low, high = (x - 0.33, y + 0.20, 0.30), (x + 0.33, y + 0.40, back)
    scene.box("armchair", low, high, fabric, 0.09)
    for side in (-1, 1):
        if arms:
            low, high = sorted((x + side * 0.27, x + side * (0.27 + arm_width)))
            scene.box("armchair", (low, y - 0.36, 0.16), (high, y + 0.38, arms), fabric, 0.06)
        for depth in (-0.3, 0.3):
            at = x + side * 0.3, y + depth
            low, high = (at[0] - 0.02, at[1] - 0.02, 0), (at[0] + 0.02, at[1] + 0.02, 0.16)
            scene.box("armchair", low, high, polished(wood))


# --- headboards ----------------------------------------------------------------------------------


def padded_headboard(scene, fabric, width=2.1, low=0.28, row=0.33, columns=6, rows=3, radius=0.045):
    """Add a headboard of padded panels in rows and columns."""
    for column in range(columns):
        for number in range(rows):
            left = BED_X - width / 2 + column * width / columns
            scene.box(
                "headboard",
                (left, BACK - 0.12, low + number * row),
                (left + width / columns, BACK, low + row + number * row),
                fabric,
                radius,
            )


def slatted_headboard(scene, color, board, width=2.1, top=1.12, slats=15):
    """Add wooden slats between two rails, before a board."""
    for column in range(slats):
        left = BED_X - width / 2 + column * width / slats
        scene.box(
            "headboard",
            (left + 0.02, BACK - 0.08, 0.1),
            (left + width / slats - 0.02, BACK - 0.03, top - 0.10),
            polished(color),
        )
    for low, high in ((top - 0.16, top), (0.30, 0.40)):
        scene.box(
            "headboard",
            (BED_X - width / 2, BACK - 0.11, low),
            (BED_X + width / 2, BACK, high),
            polished(color),
            0.02,
        )
    corner = BED_X - width / 2, BACK - 0.029, 0.1
    scene.panel("headboard", corner, (width, 0, 0), (0, 0, top - 0.22), board)


def framed_headboard(scene, frame, board, width, top, border):
    """Add a flat board in a frame."""
    left, right = BED_X - width / 2, BED_X + width / 2
    for low, high in (
        ((left, 0.2), (left + border, top)),
        ((right - border, 0.2), (right, top)),
        ((left, top - border), (right, top)),
    ):
        low, high = (low[0], BACK - 0.10, low[1]), (high[0], BACK, high[1])
        scene.box("headboard", low, high, polished(frame), 0.015)
    corner = left + border, BACK - 0.06, 0.2
    along, up = (width - 2 * border, 0, 0), (0, 0, top - border - 0.2)
    scene.panel("headboard", corner, along, up, board)


def arched_headboard(scene, edge, fabric, width, top, shoulder, border):
    """Add an upholstered arch with an edge of another colour."""
    angle = np.linspace(0, np.pi, 33)
    for inset, thickness, material in ((0.0, 0.08, edge), (border, 0.11, fabric)):
        half, rise = width / 2 - inset, top - shoulder - inset
        outline = [(half * np.cos(a), shoulder + rise * np.sin(a)) for a in angle]
        outline = [(half, 0.2), *outline, (-half, 0.2)]
        at = BED_X, BACK - thickness, 0
        scene.mesh("headboard", extruded(outline, thickness), at, material)


def railed_headboard(scene, color, width, top, rails, posts=0.03):
    """Add a frame of metal tubes: two posts and rails between them."""
    left, right = BED_X - width / 2, BED_X + width / 2
    for x in (left, right):
        low, high = (x - posts, BACK - 0.09, 0), (x + posts, BACK - 0.09 + 2 * posts, top)
        scene.box("headboard", low, high, polished(color, 0.25), posts)
    for level in np.linspace(0.45, top - 0.06, rails):
        low, high = (left, BACK - 0.08, level - 0.022), (right, BACK - 0.036, level + 0.022)
        scene.box("headboard", low, high, polished(color, 0.25), 0.02)
