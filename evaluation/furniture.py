"""The furniture of a hotel room: each function adds the shapes of one object to a Scene.

Lengths are metres; x runs along the headboard's wall, y towards it, z up.  Materials are those of
`room_parts`.
"""

import numpy as np

from evaluation import room_parts
from evaluation.room_parts import bitmap, polished, rgb, turned
from evaluation.viewpoints import BED_X, DEPTH, HEIGHT, WIDTH

BACK = DEPTH  # the wall that the headboard stands at
HEAD = BACK - 0.13  # of the bed
FOOT = HEAD - 2.05
WINDOW = 0.85, 2.25, 1.7, 3.9  # of its opening: low, high, near, far
DRESSER = 2.2, 3.8, 0.72  # near, far, top
WHITE = 0.82, 0.81, 0.79  # of ceiling, window and skirting
BRASS = 0.7, 0.62, 0.45
VASE = (
    *((0, 0), (0.09, 0), (0.09, 0.015), (0.03, 0.03), (0.075, 0.10), (0.085, 0.15)),
    *((0.06, 0.21), (0.018, 0.25), (0.012, 0.33)),
)


def build_shell(scene, look, floor, sky, drapes, floor_name="floor"):
    """Add floor, ceiling, three walls with a window, curtains, skirting and the light.

    look is a dict of the materials of ``wall``, ``accent`` (the headboard's wall), ``curtains`` and
    ``wood``, of ``light``, the radiance of the photographer's lamp, and, if the curtains have a
    pattern, of ``curtains_repeat``, its repeats a metre.  floor is a material whose texture spans
    5 x 6.2 m, sky the radiances (H, W, 3) that the window shows, drapes are pairs of where along
    the wall a curtain begins and its length.
    """
    low, high, near, far = WINDOW
    for name, corner, along, up, material in (
        (floor_name, (0, -1, 0), (WIDTH, 0, 0), (0, DEPTH + 1, 0), floor),
        ("ceiling", (0, -1, HEIGHT), (0, DEPTH + 1, 0), (WIDTH, 0, 0), WHITE),
        ("wall", (0, BACK, 0), (WIDTH, 0, 0), (0, 0, HEIGHT), look["accent"]),
        ("wall", (0, -1, 0), (0, DEPTH + 1, 0), (0, 0, HEIGHT), look["wall"]),
        # round the window
        ("wall", (WIDTH, DEPTH, 0), (0, far - DEPTH, 0), (0, 0, HEIGHT), look["wall"]),
        ("wall", (WIDTH, near, 0), (0, -1 - near, 0), (0, 0, HEIGHT), look["wall"]),
        ("wall", (WIDTH, far, 0), (0, near - far, 0), (0, 0, low), look["wall"]),
        ("wall", (WIDTH, far, high), (0, near - far, 0), (0, 0, HEIGHT - high), look["wall"]),
    ):
        scene.panel(name, corner, along, up, material)
    for side, half in ((near, 0.03), ((near + far) / 2, 0.025), (far, 0.03)):
        corners = (WIDTH - 0.02, side - half, low), (WIDTH + 0.05, side + half, high)
        scene.box("window", *corners, WHITE)
    for level in (low, high):
        corner = WIDTH - 0.05, near - 0.03, level - 0.03
        scene.box("window", corner, (WIDTH + 0.05, far + 0.03, level + 0.03), WHITE)
    corner, along, up = (WIDTH + 0.06, far, low), (0, near - far, 0), (0, 0, high - low)
    scene.panel("window", corner, along, up, None, bitmap(sky))
    for start, length in drapes:
        mesh, repeat = room_parts.curtain(length, 2.42, 7), look.get("curtains_repeat")
        uv = None if repeat is None else mesh[0][:, 1:] * repeat
        scene.mesh("curtains", mesh, (WIDTH - 0.13, start, 2.46), look["curtains"], uv=uv)
    if drapes:
        rail = (WIDTH - 0.16, near - 0.7, 2.46), (WIDTH - 0.12, far + 0.7, 2.50)
        scene.box("curtains", *rail, polished(look["wood"]), 0.02)
    scene.boxes(
        "wall",  # its skirting
        ((0, BACK - 0.015, 0), (WIDTH, BACK + 0.02, 0.09), WHITE),
        ((-0.02, -1, 0), (0.015, DEPTH, 0.09), WHITE),
        ((WIDTH - 0.015, -1, 0), (WIDTH + 0.02, DEPTH, 0.09), WHITE),
    )
    # the photographer's soft light, behind every camera
    light = rgb(look["light"])
    scene.panel("none", (WIDTH, -1, 0.3), (-WIDTH, 0, 0), (0, 0, 2), None, light)


def build_bed(scene, wood, linen):
    """Add the base, mattress and duvet with its fold."""
    x, fold = BED_X, tuple(np.minimum(1.04 * np.array(linen), 0.9))
    scene.boxes(
        "bed",
        ((x - 0.88, FOOT + 0.05, 0.04), (x + 0.88, HEAD, 0.30), polished(wood)),
        ((x - 0.90, FOOT, 0.30), (x + 0.90, HEAD, 0.56), (0.82, 0.81, 0.78), 0.06),
        ((x - 0.97, FOOT - 0.06, 0.16), (x + 0.97, HEAD - 0.62, 0.64), linen, 0.07, 0.005),
        ((x - 0.975, HEAD - 0.86, 0.36), (x + 0.975, HEAD - 0.56, 0.665), fold, 0.06, 0.005),
    )


def build_runner(scene, name, material, start=0.12, end=0.62, repeat=None):
    """Add a cloth across the foot of the bed."""
    low, high = (BED_X - 0.98, FOOT + start, 0.20), (BED_X + 0.98, FOOT + end, 0.665)
    scene.box(name, low, high, material, 0.072, 0.003, repeat)


def build_pillows(scene, shifts=((0, 0, 0),) * 4):
    """Add four white pillows, each moved along x and y and turned by degrees."""
    shifts = iter(shifts)
    for side in (-0.46, 0.46):
        for shape, spread, back, height, tilt in (
            ((0.80, 0.52, 0.25), 1, 0.15, 0.80, 68),
            ((0.74, 0.48, 0.23), 0.97, 0.36, 0.735, 46),
        ):
            dx, dy, turn = next(shifts)
            at, lean = (BED_X + side * spread + dx, HEAD - back + dy, height), tilt + turn
            scene.mesh(
                "pillows", room_parts.pillow(*shape), at, (0.86, 0.855, 0.84), ((1, 0, 0), lean)
            )


def build_cushion(scene, name, material, dx=0.0, dy=0.0, size=(0.46, 0.36, 0.19), repeat=None):
    """Add a small cushion that leans on the pillows."""
    at, mesh = (BED_X + dx, HEAD - 0.58 + dy, 0.765), room_parts.pillow(*size)
    uv = None if repeat is None else mesh[0][:, :2] * repeat
    scene.mesh(name, mesh, at, material, ((1, 0, 0), 48), uv=uv)


def build_nightstand(scene, x, wood):
    """Add a nightstand with a drawer."""
    front, drawer = BACK - 0.45, polished(tuple(1.25 * np.array(wood)))
    low, high = (x - 0.05, front - 0.035, 0.405), (x + 0.05, front - 0.01, 0.425)
    scene.boxes(
        "nightstands",
        ((x - 0.25, front, 0.12), (x + 0.25, BACK - 0.02, 0.52), polished(wood), 0.012),
        ((x - 0.22, front - 0.015, 0.33), (x + 0.22, front, 0.49), drawer),
        (low, high, polished(BRASS, 0.2), 0.008),  # its handle
    )
    depths = front + 0.04, BACK - 0.06
    build_legs(scene, "nightstands", (x - 0.21, x + 0.21), depths, 0.13, wood)


def build_legs(scene, name, places, depths, height, wood):
    """Add a leg at each of the places along x and depths along y."""
    for x in places:
        for y in depths:
            low, high = (x - 0.02, y - 0.02, 0), (x + 0.02, y + 0.02, height)
            scene.box(name, low, high, polished(wood))


def build_lamp(scene, x, base, light, outline=VASE, shade=(0.17, 0.10, 0.23), color=(0.8,) * 3):
    """Add a lamp on a nightstand: a base of this outline, and a shade that gives light.

    shade is its bottom and top radius and its height.
    """
    scene.mesh("lamps", turned(outline), (x, BACK - 0.25, 0.52), polished(base, 0.25))
    (bottom, top, height), at = shade, (x, BACK - 0.25, 0.52 + 0.27)
    scene.mesh("lamps", turned([(bottom, 0), (top, height)], 48), at, color, emission=rgb(light))


def build_picture(scene, pixels, x, low, width, height, frame):
    """Add a framed picture over the headboard."""
    left, right = x - width / 2 - 0.04, x + width / 2 + 0.04
    corners = (left, BACK - 0.035, low - 0.04), (right, BACK, low + height + 0.04)
    scene.box("picture", *corners, polished(frame))
    corner = x - width / 2, BACK - 0.037, low
    scene.panel("picture", corner, (width, 0, 0), (0, 0, height), room_parts.textured(pixels))


def build_dresser(scene, wood):
    """Add a dresser of three drawers along the left wall."""
    near, far, top = DRESSER
    front, handle = polished(tuple(1.25 * np.array(wood))), polished(BRASS, 0.2)
    scene.box("dresser", (0.02, near, 0.08), (0.50, far, top), polished(wood), 0.012)
    scene.box("dresser", (0.06, near + 0.04, 0), (0.44, far - 0.04, 0.09), polished((0.05,) * 3))
    for drawer in range(3):
        start = near + 0.03 + drawer * (far - near - 0.03) / 3
        end = start + (far - near - 0.12) / 3
        middle = (start + end) / 2
        scene.boxes(
            "dresser",
            ((0.50, start, 0.14), (0.515, end, top - 0.06), front),
            ((0.51, middle - 0.07, 0.50), (0.535, middle + 0.07, 0.52), handle, 0.008),
        )


def build_television(scene, emission=None):
    """Add a television on the dresser, dark unless its screen has an emission."""
    near, far, top = DRESSER
    y, black, case = (near + far) / 2, polished((0.03,) * 3), polished((0.02,) * 3, 0.3)
    scene.boxes(
        "television",
        ((0.15, y - 0.2, top), (0.36, y + 0.2, top + 0.015), black),
        ((0.23, y - 0.03, top), (0.26, y + 0.03, top + 0.12), black),
        ((0.225, y - 0.58, top + 0.08), (0.265, y + 0.58, top + 0.75), case, 0.008),
    )
    corner, along, up = (0.2655, y - 0.565, top + 0.095), (0, 1.13, 0), (0, 0, 0.64)
    screen = polished((0.012, 0.013, 0.016), 0.12)
    scene.panel("television", corner, along, up, screen, emission)


def build_armchair(scene, x, y, wood, color, back=0.90, arms=0.60, arm_width=0.13):
    """Add an armchair; it has no arms if their height is 0."""
    scene.boxes(
        "armchair",
        ((x - 0.36, y - 0.36, 0.14), (x + 0.36, y + 0.36, 0.34), color, 0.05),
        ((x - 0.27, y - 0.38, 0.32), (x + 0.27, y + 0.24, 0.47), color, 0.06, 0.003),
        ((x - 0.33, y + 0.20, 0.30), (x + 0.33, y + 0.40, back), color, 0.09),
    )
    for side in (-1, 1):
        if arms:
            low, high = sorted((x + side * 0.27, x + side * (0.27 + arm_width)))
            scene.box("armchair", (low, y - 0.36, 0.16), (high, y + 0.38, arms), color, 0.06)
        build_legs(scene, "armchair", (x + side * 0.3,), (y - 0.3, y + 0.3), 0.16, wood)


def build_suitcase(scene, size, color):
    """Add a suitcase that stands at the origin, with its handle pulled out."""
    width, depth, height = size
    steel, black = polished((0.3,) * 3), polished((0.04,) * 3)
    low, high = (-width / 2, -depth / 2, 0.05), (width / 2, depth / 2, height)
    scene.boxes(
        "suitcase",
        (low, high, polished(color), 0.06),
        ((-0.11, -0.01, height), (-0.09, 0.01, height + 0.3), steel),
        ((0.09, -0.01, height), (0.11, 0.01, height + 0.3), steel),
        ((-0.12, -0.015, height + 0.29), (0.12, 0.015, height + 0.32), black),
    )


# --- headboards ----------------------------------------------------------------------------------


def padded_headboard(scene, fabric, width=2.1, row=0.33, columns=6, rows=3, radius=0.045):
    """Add a headboard of padded panels in rows and columns."""
    for column in range(columns):
        left = BED_X - width / 2 + column * width / columns
        for number in range(rows):
            low = left, BACK - 0.12, 0.28 + number * row
            high = left + width / columns, BACK, 0.28 + row + number * row
            scene.box("headboard", low, high, fabric, radius)


def slatted_headboard(scene, color, board, width=2.1, top=1.12, slats=15):
    """Add wooden slats between two rails, before a board."""
    for column in range(slats):
        left = BED_X - width / 2 + column * width / slats
        low, high = left + 0.02, left + width / slats - 0.02
        corners = (low, BACK - 0.08, 0.1), (high, BACK - 0.03, top - 0.10)
        scene.box("headboard", *corners, polished(color))
    left, right = BED_X - width / 2, BED_X + width / 2
    for low, high in ((top - 0.16, top), (0.30, 0.40)):
        corners = (left, BACK - 0.11, low), (right, BACK, high)
        scene.box("headboard", *corners, polished(color), 0.02)
    scene.panel("headboard", (left, BACK - 0.029, 0.1), (width, 0, 0), (0, 0, top - 0.22), board)


def framed_headboard(scene, frame, board, width, top, border):
    """Add a flat board in a frame."""
    left, right = BED_X - width / 2, BED_X + width / 2
    for x0, z0, x1, z1 in (
        (left, 0.2, left + border, top),
        (right - border, 0.2, right, top),
        (left, top - border, right, top),
    ):
        scene.box("headboard", (x0, BACK - 0.10, z0), (x1, BACK, z1), polished(frame), 0.015)
    along, up = (width - 2 * border, 0, 0), (0, 0, top - border - 0.2)
    scene.panel("headboard", (left + border, BACK - 0.06, 0.2), along, up, board)


def arched_headboard(scene, edge, fabric, width, top, shoulder, border):
    """Add an upholstered arch with an edge of another colour."""
    angle = np.linspace(0, np.pi, 33)
    for inset, thickness, material in ((0.0, 0.08, edge), (border, 0.11, fabric)):
        half, rise = width / 2 - inset, top - shoulder - inset
        outline = [(half * np.cos(a), shoulder + rise * np.sin(a)) for a in angle]
        outline = [(half, 0.2), *outline, (-half, 0.2)]
        at = BED_X, BACK - thickness, 0
        scene.mesh("headboard", room_parts.extruded(outline, thickness), at, material)


def railed_headboard(scene, color, width, top, rails, posts=0.03):
    """Add a frame of metal tubes: two posts and rails between them."""
    left, right = BED_X - width / 2, BED_X + width / 2
    for x in (left, right):
        low, high = (x - posts, BACK - 0.09, 0), (x + posts, BACK - 0.09 + 2 * posts, top)
        scene.box("headboard", low, high, polished(color, 0.25), posts)
    for level in np.linspace(0.45, top - 0.06, rails):
        low, high = (left, BACK - 0.08, level - 0.022), (right, BACK - 0.036, level + 0.022)
        scene.box("headboard", low, high, polished(color, 0.25), 0.02)
