"""Where a room is seen from: random cameras that see enough of what matters.

A camera is a dict of ``origin``, ``target`` (metres) and ``fov`` (degrees, of the width).
"""

import numpy as np

from evaluation.views import OBJECTS

WIDTH, DEPTH, HEIGHT = 5.0, 5.2, 2.6  # of the room, in metres
BED_X = 2.25  # the bed's middle
ZONES = (  # of the camera: lowest and highest x, y; a view's number chooses among them
    ((0.45, -0.6), (1.3, 0.8)),  # left of the foot
    ((3.6, -0.6), (4.6, 1.2)),  # right of it
    ((4.1, 1.8), (4.6, 3.2)),  # by the window
    ((0.7, 0.9), (1.1, 2.5)),  # by the dresser
    ((1.7, -0.7), (3.1, 0.5)),  # at the foot
)


def draw_camera(parts, seed, room, number, tries=200):
    """Return a random camera for a view of a room, a dict.

    The view's number chooses the side that the room is seen from, so that views of a room differ
    strongly and views of one number are alike.  Carpet is in all views, and bed; headboard and
    picture in all but one in eight, before occlusion by small things.
    """
    rng = np.random.default_rng([seed, 4000, room, number])
    strict = rng.uniform() > 0.125
    low, high = ZONES[number % len(ZONES)]
    for _ in range(tries):
        spread = (0.7, 0.4, 0.3) if strict else (1.3, 1.0, 0.4)
        target = np.array((BED_X, DEPTH - 0.5, 0.85)) + rng.uniform(-1, 1, 3) * spread
        camera = {
            "origin": [*rng.uniform(low, high), rng.uniform(1.1, 2.0)],
            "target": [float(value) for value in target],
            "fov": rng.uniform(50, 78),
        }
        seen = dict(zip(OBJECTS, shares_seen(parts, camera), strict=True))
        enough = seen["carpet"] >= 0.08 and seen["bed"] + seen["headboard"] >= 0.05
        if strict:
            enough &= seen["headboard"] >= 0.015 and seen["picture"] >= 0.012
        near = seen["dresser"] + seen["television"] + seen["armchair"] + seen["suitcase"]
        if enough and seen["bed"] < 0.5 and near < 0.35:
            break
    return camera


def shares_seen(parts, camera, width=36, height=24):
    """Return the share of a view that each of the OBJECTS covers, roughly: all are boxes."""
    origin, rays = camera_rays(camera, width, height)
    nearest, numbers = np.full(len(rays), np.inf), np.zeros(len(rays), int)
    for name, low, high in boxes_of(parts):
        with np.errstate(divide="ignore"):
            to_low, to_high = (np.array(low) - origin) / rays, (np.array(high) - origin) / rays
        enter = np.minimum(to_low, to_high).max(1)
        leave = np.maximum(to_low, to_high).min(1)
        hit = (enter < leave) & (enter > 0) & (enter < nearest)
        nearest[hit], numbers[hit] = enter[hit], OBJECTS.index(name)
    return np.bincount(numbers, minlength=len(OBJECTS)) / len(rays)


def camera_rays(camera, width, height):
    """Return a camera's origin (3,) and the directions through its pixels, (height * width, 3)."""
    origin, target = np.array(camera["origin"]), np.array(camera["target"])
    forward = (target - origin) / np.linalg.norm(target - origin)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    half = np.tan(np.radians(camera["fov"]) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * half
    y = (1 - (np.arange(height) + 0.5) / height * 2) * half * height / width
    rays = forward + x[None, :, None] * right + y[:, None, None] * up
    return origin, rays.reshape(-1, 3)


def boxes_of(parts):
    """Return (object, low corner, high corner) for what fills a view."""
    board, picture = parts["headboard"], parts["picture"]
    total = picture["count"] * picture["width"] + (picture["count"] - 1) * picture["gap"]
    left, right = BED_X - board["width"] / 2, BED_X + board["width"] / 2
    chair_x, chair_y, _turn = parts["armchair_at"]
    low, high = picture["low"], picture["low"] + picture["height"]
    back = parts["armchair"]["back"]
    boxes = [
        ("carpet", (0, -1, -0.1), (WIDTH, DEPTH, 0)),
        ("bed", (1.27, 2.96, 0.1), (3.23, 5.07, 0.65)),
        ("pillows", (1.4, 4.5, 0.65), (3.1, 5.05, 1.0)),
        ("headboard", (left, DEPTH - 0.12, 0.3), (right, DEPTH, board["top"])),
        ("picture", (BED_X - total / 2, DEPTH - 0.03, low), (BED_X + total / 2, DEPTH, high)),
        ("nightstands", (0.64, 4.75, 0.1), (1.14, 5.2, 0.52)),
        ("nightstands", (3.36, 4.75, 0.1), (3.86, 5.2, 0.52)),
        ("dresser", (0, 2.2, 0), (0.52, 3.8, 0.72)),
        ("television", (0.22, 2.42, 0.8), (0.27, 3.58, 1.47)),
        ("armchair", (chair_x - 0.4, chair_y - 0.4, 0.1), (chair_x + 0.4, chair_y + 0.4, back)),
    ]
    if parts["suitcase"]:
        (x, y, _turn), (width, _depth, height) = parts["suitcase"]["at"], parts["suitcase"]["size"]
        half = 0.4 * width
        boxes.append(("suitcase", (x - half, y - half, 0), (x + half, y + half, height)))
    return boxes
