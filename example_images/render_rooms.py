"""Path-trace the example images: two hotel rooms, made of nothing but the numbers in this file.

    pip install mitsuba pyoidn
    python example_images/render_rooms.py

Room A is seen from two viewpoints, room B, of the same layout in other colours and furniture, from
the first.  Beside each view lies a palette PNG of which object each pixel shows; objects.json
names the numbers.  Lengths are metres; x runs along the headboard's wall, y towards it, z up.
"""

import argparse
import json
import tempfile
from pathlib import Path

import mitsuba as mi
import numpy as np
from PIL import Image
from pyoidn.denoise import denoise

OBJECTS = (
    *("none", "wall", "floor", "ceiling", "window", "curtains", "bed", "headboard", "pillows"),
    *("nightstands", "lamps", "picture", "dresser", "television", "armchair"),
)
WIDTH, DEPTH, HEIGHT = 5.0, 5.2, 2.6  # of the room
BED_X = 2.25  # the bed's middle
BACK = DEPTH  # the wall that the headboard stands at

ROOMS = {
    "room_a": {
        "wall": (0.74, 0.69, 0.60),
        "accent": (0.33, 0.43, 0.46),
        "carpet": ((0.46, 0.38, 0.30), (0.36, 0.29, 0.23)),
        "bed": (0.84, 0.83, 0.80),
        "runner": (0.52, 0.22, 0.13),
        "cushion": (0.58, 0.27, 0.16),
        "curtains": (0.62, 0.52, 0.38),
        "wood": (0.30, 0.17, 0.09),
        "headboard": (0.27, 0.29, 0.33),
        "shade": (2.6, 1.75, 0.95),
        "lamp": (0.75, 0.72, 0.66),
        "armchair": (0.20, 0.30, 0.33),
    },
    "room_b": {
        "wall": (0.66, 0.70, 0.71),
        "accent": (0.60, 0.56, 0.52),
        "carpet": ((0.13, 0.17, 0.27), (0.30, 0.30, 0.33)),
        "bed": (0.80, 0.80, 0.83),
        "runner": (0.10, 0.24, 0.19),
        "cushion": (0.72, 0.55, 0.16),
        "curtains": (0.34, 0.10, 0.13),
        "wood": (0.52, 0.36, 0.20),
        "headboard": (0.46, 0.29, 0.15),
        "shade": (2.5, 1.9, 1.2),
        "lamp": (0.16, 0.16, 0.17),
        "armchair": (0.55, 0.33, 0.12),
    },
}
VIEWS = {  # camera position, what it looks at, field of view in degrees
    "room_a_view1": ("room_a", (0.75, 0.15, 1.5), (2.75, 4.3, 0.88), 66),
    "room_a_view2": ("room_a", (4.45, 1.1, 1.62), (1.45, 4.5, 0.72), 68),
    "room_b_view1": ("room_b", (0.75, 0.15, 1.5), (2.75, 4.3, 0.88), 66),
}


# --- meshes --------------------------------------------------------------------------------------


def grid_faces(rows, columns):
    """Return the triangles of a rows x columns grid of vertices, (T, 3)."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    upper = np.stack([corner, corner + 1, corner + columns], 1)
    return np.concatenate(
        [upper, np.stack([corner + 1, corner + columns + 1, corner + columns], 1)]
    )


def rounded_box(size, radius, wrinkle=0.0, cells=28):
    """Return a box of this size round the origin, with rounded edges and a wavy upper side."""
    half = np.array(size) / 2
    radius = min(radius, *half)
    ticks = np.sin(np.linspace(-np.pi / 2, np.pi / 2, cells))  # denser towards the edges
    u, v = (axis.ravel() for axis in np.meshgrid(ticks, ticks, indexing="ij"))
    vertices, faces = [], []
    for axis in range(3):
        for side in (-1, 1):
            faces.append(grid_faces(cells, cells)[:, ::side] + cells * cells * len(vertices))
            vertices.append(np.insert(np.stack([u, v]), axis, side, axis=0).T)
    surface = np.concatenate(vertices) * half
    inner = np.clip(surface, -(half - radius), half - radius)
    outward = surface - inner
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    points = inner + radius * outward
    x, y = points[:, 0], points[:, 1]
    waves = np.sin(9 * x + 4 * y) + np.sin(13 * y - 6 * x + 1) + np.sin(21 * x + 17 * y + 2) / 2
    points[:, 2] += wrinkle * waves * np.clip(outward[:, 2], 0, 1)
    return points, np.concatenate(faces)


def pillow(width, height, thickness, cells=40):
    """Return a plump pillow in the x-y plane, its corners drawn out and its edge thin."""
    ticks = np.sin(np.linspace(-np.pi / 2, np.pi / 2, cells))
    u, v = (axis.ravel() for axis in np.meshgrid(ticks, ticks, indexing="ij"))
    x = u * width / 2 * (1 - 0.07 * (1 - v**2))
    y = v * height / 2 * (1 - 0.07 * (1 - u**2))
    bulge = thickness / 2 * ((1 - u**4) * (1 - v**4)) ** 0.55
    bulge *= 1 + 0.05 * np.sin(5 * u + 3 * v) + 0.04 * np.sin(8 * v - 4 * u + 1)
    points = np.concatenate([np.stack([x, y, bulge], 1), np.stack([x, y, -bulge], 1)])
    faces = grid_faces(cells, cells)
    return points, np.concatenate([faces, faces[:, ::-1] + cells * cells])


def curtain(length, height, folds):
    """Return a pleated curtain in the y-z plane, hanging down from the origin."""
    y, z = np.meshgrid(np.linspace(0, 1, folds * 16), np.linspace(0, -1, 12), indexing="ij")
    depth = (0.045 + 0.02 * np.sin(7 * y)) * np.sin(2 * np.pi * folds * (y + 0.01 * np.sin(20 * y)))
    points = np.stack([depth * (0.75 - 0.25 * z), y * length, z * height], -1).reshape(-1, 3)
    return points, grid_faces(folds * 16, 12)


def cone(bottom, top, height, cells=48):
    """Return an open lamp shade, standing on the origin."""
    angle = np.linspace(0, 2 * np.pi, cells)
    rings = [
        np.stack([r * np.cos(angle), r * np.sin(angle), np.full(cells, z)], 1)
        for r, z in ((bottom, 0), (top, height))
    ]
    return np.concatenate(rings), grid_faces(2, cells)


def turned(outline, cells=40):
    """Return a body of revolution round z from (radius, z) pairs."""
    angle = np.linspace(0, 2 * np.pi, cells)
    rings = [
        np.stack([r * np.cos(angle), r * np.sin(angle), np.full(cells, z)], 1) for r, z in outline
    ]
    return np.concatenate(rings), grid_faces(len(outline), cells)


class Scene(dict):
    """A Mitsuba scene whose shapes are called OBJECT.NUMBER."""

    def __init__(self, folder):
        super().__init__(type="scene")
        self.folder = folder

    def add(self, name, shape, material=None, emission=None):
        if isinstance(material, tuple):
            material = cloth(material)
        if material is not None:
            shape["bsdf"] = {"type": "twosided", "nested": material}
        if emission is not None:
            shape["emitter"] = {"type": "area", "radiance": emission}
        self[f"{name}__{len(self)}"] = shape

    def mesh(self, name, mesh, at, material, turn=((1, 0, 0), 0), emission=None):
        points, faces = mesh
        path = str(Path(self.folder) / f"{len(self)}.ply")
        write_ply(path, points, faces)
        move = mi.ScalarTransform4f().translate(list(at)).rotate(list(turn[0]), turn[1])
        self.add(name, {"type": "ply", "filename": path, "to_world": move}, material, emission)

    def box(self, name, low, high, material, radius=0.006, wrinkle=0.0):
        low, high = np.array(low), np.array(high)
        self.mesh(name, rounded_box(high - low, radius, wrinkle), (low + high) / 2, material)

    def panel(self, name, corner, along, up, material, emission=None):
        """Add a rectangle from a corner along two edges; it faces along x up."""
        corner, along, up = (np.array(vector, float) for vector in (corner, along, up))
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1] = along / 2, up / 2
        matrix[:3, 2] = np.cross(along, up) / np.linalg.norm(np.cross(along, up))
        matrix[:3, 3] = corner + along / 2 + up / 2
        move = mi.ScalarTransform4f(matrix)
        self.add(name, {"type": "rectangle", "to_world": move}, material, emission)


def write_ply(path, points, faces):
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    data = points.astype("<f4").tobytes() + rows.tobytes()
    Path(path).write_bytes(head.encode() + data)


# --- materials -----------------------------------------------------------------------------------


def rgb(color):
    return {"type": "rgb", "value": list(color)}


def cloth(color):
    return {"type": "diffuse", "reflectance": rgb(color)}


def polished(color, roughness=0.35):
    return {"type": "principled", "base_color": rgb(color), "roughness": roughness, "specular": 0.4}


def bitmap(pixels, repeat=(1, 1)):
    """Return a texture from (h, w, 3) reflectances in 0..1, row 0 on top."""
    move = mi.ScalarTransform4f().scale([repeat[0], repeat[1], 1])
    image = mi.Bitmap(np.ascontiguousarray(pixels[::-1], np.float32))
    return {"type": "bitmap", "bitmap": image, "raw": True, "to_uv": move}


def textured(pixels, repeat=(1, 1)):
    return {"type": "diffuse", "reflectance": bitmap(pixels, repeat)}


def carpet(colors, room):
    """Return one repeat of a carpet: lozenges in room A, interlocking rings in room B."""
    y, x = np.mgrid[0:1:256j, 0:1:256j]
    if room == "room_a":
        shape = ((np.abs(x - 0.5) + np.abs(y - 0.5)) * 6 % 1) > 0.62
    else:
        shape = np.zeros_like(x, bool)
        for cx, cy in ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)):
            shape |= np.abs(np.hypot(x - cx, y - cy) - 0.36) < 0.03
    noise = np.random.default_rng(1).uniform(0.82, 1.08, x.shape)[..., None]
    return np.where(shape[..., None], colors[1], colors[0]) * noise


def painting(room):
    """Return a picture: hills under a low sun for room A, circles and bars for room B."""
    y, x = np.mgrid[0:1:300j, 0:2:600j]
    if room == "room_a":
        image = (1 - y[..., None]) * (0.85, 0.45, 0.20) + y[..., None] * (0.95, 0.80, 0.55)
        image[np.hypot(x - 1.35, y - 0.42) < 0.13] = (0.97, 0.90, 0.70)
        for level, color in (
            (0.52, (0.45, 0.35, 0.42)),
            (0.66, (0.25, 0.30, 0.40)),
            (0.82, (0.10, 0.17, 0.22)),
        ):
            hill = level + 0.09 * np.sin(4 * x + 9 * level) + 0.04 * np.sin(11 * x + 5 * level)
            image[y > hill] = color
        return image
    image = np.full((*x.shape, 3), (0.88, 0.86, 0.80))
    image[(x > 0.25) & (x < 0.42)] = (0.80, 0.62, 0.16)
    image[(y > 0.62) & (y < 0.70)] = (0.12, 0.14, 0.18)
    for cx, cy, radius, color in (
        (0.8, 0.42, 0.30, (0.16, 0.32, 0.45)),
        (1.45, 0.55, 0.34, (0.70, 0.22, 0.16)),
        (1.12, 0.30, 0.16, (0.12, 0.14, 0.18)),
    ):
        image[np.hypot(x - cx, y - cy) < radius] = color
    return image


def wood(color, seed):
    """Return a board's grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:1:64j, 0:1:256j]
    grain = np.sin(40 * y + 3 * np.sin(5 * x + rng.uniform(0, 6)) + 2 * np.sin(11 * x)) * 0.09
    return np.array(color) * (1 + grain + rng.uniform(-0.05, 0.05, (64, 1)))[..., None]


# --- the room ------------------------------------------------------------------------------------


def build_shell(scene, room, look):
    """Add floor, ceiling, three walls with a window, skirting and the light."""
    scene.panel(
        "floor",
        (0, -1, 0),
        (WIDTH, 0, 0),
        (0, DEPTH + 1, 0),
        textured(carpet(look["carpet"], room), (12, 15)),
    )
    white = cloth((0.82, 0.81, 0.79))
    scene.panel("ceiling", (0, -1, HEIGHT), (0, DEPTH + 1, 0), (WIDTH, 0, 0), white)
    scene.panel("wall", (0, BACK, 0), (WIDTH, 0, 0), (0, 0, HEIGHT), look["accent"])
    scene.panel("wall", (0, -1, 0), (0, DEPTH + 1, 0), (0, 0, HEIGHT), look["wall"])
    low, high, near, far = 0.85, 2.25, 1.7, 3.9  # the window's opening
    for corner, along, up in (
        ((WIDTH, DEPTH, 0), (0, far - DEPTH, 0), (0, 0, HEIGHT)),
        ((WIDTH, near, 0), (0, -1 - near, 0), (0, 0, HEIGHT)),
        ((WIDTH, far, 0), (0, near - far, 0), (0, 0, low)),
        ((WIDTH, far, high), (0, near - far, 0), (0, 0, HEIGHT - high)),
    ):
        scene.panel("wall", corner, along, up, look["wall"])
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
    scene.panel(
        "window",
        (WIDTH + 0.06, far, low),
        (0, near - far, 0),
        (0, 0, high - low),
        None,
        bitmap(0.42 * sky()),
    )
    for start, length, folds in ((near - 0.55, 0.72, 7), (far - 0.17, 0.72, 7)):
        scene.mesh(
            "curtains", curtain(length, 2.42, folds), (WIDTH - 0.13, start, 2.46), look["curtains"]
        )
    scene.box(
        "curtains",
        (WIDTH - 0.16, near - 0.7, 2.46),
        (WIDTH - 0.12, far + 0.7, 2.50),
        polished(look["wood"]),
        0.02,
    )
    scene.box("wall", (0, BACK - 0.015, 0), (WIDTH, BACK + 0.02, 0.09), white)
    scene.box("wall", (-0.02, -1, 0), (0.015, DEPTH, 0.09), white)
    scene.box("wall", (WIDTH - 0.015, -1, 0), (WIDTH + 0.02, DEPTH, 0.09), white)
    # the photographer's soft light, behind every camera
    scene.panel("none", (WIDTH, -1, 0.3), (-WIDTH, 0, 0), (0, 0, 2), None, rgb((1.5, 1.42, 1.32)))


def sky():
    """Return what the window shows: sky over far trees, as radiance."""
    y, x = np.mgrid[0:1:128j, 0:1:256j]
    image = (1 - y[..., None]) * (1.7, 3.0, 5.2) + y[..., None] * (4.0, 4.6, 5.2)
    trees = 0.80 + 0.03 * np.sin(23 * x) + 0.02 * np.sin(57 * x + 1) + 0.015 * np.sin(131 * x)
    image[y > trees] = (0.55, 0.75, 0.45)
    return image


def build_bed(scene, look):
    """Add the base, mattress, duvet with its fold, runner, pillows and a cushion."""
    x, head = BED_X, BACK - 0.13
    foot = head - 2.05
    scene.box("bed", (x - 0.88, foot + 0.05, 0.04), (x + 0.88, head, 0.30), polished(look["wood"]))
    scene.box("bed", (x - 0.90, foot, 0.30), (x + 0.90, head, 0.56), (0.82, 0.81, 0.78), 0.06)
    scene.box(
        "bed",
        (x - 0.97, foot - 0.06, 0.16),
        (x + 0.97, head - 0.62, 0.64),
        look["bed"],
        0.07,
        0.005,
    )
    scene.box(
        "bed",
        (x - 0.975, head - 0.86, 0.36),
        (x + 0.975, head - 0.56, 0.665),
        tuple(np.minimum(1.04 * np.array(look["bed"]), 0.9)),
        0.06,
        0.005,
    )
    scene.box(
        "bed",
        (x - 0.98, foot + 0.12, 0.20),
        (x + 0.98, foot + 0.62, 0.665),
        look["runner"],
        0.072,
        0.003,
    )
    white = (0.86, 0.855, 0.84)
    for side in (-0.46, 0.46):
        scene.mesh(
            "pillows",
            pillow(0.80, 0.52, 0.25),
            (x + side, head - 0.15, 0.80),
            white,
            ((1, 0, 0), 68),
        )
        scene.mesh(
            "pillows",
            pillow(0.74, 0.48, 0.23),
            (x + side * 0.97, head - 0.36, 0.735),
            white,
            ((1, 0, 0), 46),
        )
    scene.mesh(
        "pillows",
        pillow(0.46, 0.36, 0.19),
        (x, head - 0.58, 0.765),
        look["cushion"],
        ((1, 0, 0), 48),
    )


def build_headboard(scene, room, look):
    """Add padded panels for room A, wooden slats under a rail for room B."""
    x, width = BED_X, 2.1
    if room == "room_a":
        for column in range(6):
            for row in range(3):
                left = x - width / 2 + column * width / 6
                scene.box(
                    "headboard",
                    (left, BACK - 0.12, 0.28 + row * 0.33),
                    (left + width / 6, BACK, 0.61 + row * 0.33),
                    look["headboard"],
                    0.045,
                )
        return
    board = textured(wood(look["headboard"], 4))
    for column in range(15):
        left = x - width / 2 + column * width / 15
        scene.box(
            "headboard",
            (left + 0.02, BACK - 0.08, 0.1),
            (left + width / 15 - 0.02, BACK - 0.03, 1.02),
            polished(look["headboard"]),
        )
    for low, high in ((0.96, 1.12), (0.30, 0.40)):
        scene.box(
            "headboard",
            (x - width / 2, BACK - 0.11, low),
            (x + width / 2, BACK, high),
            polished(look["headboard"]),
            0.02,
        )
    scene.panel("headboard", (x - width / 2, BACK - 0.029, 0.1), (width, 0, 0), (0, 0, 0.9), board)


def build_nightstands(scene, room, look):
    """Add a nightstand with a drawer and a lamp on either side of the bed."""
    for x in (BED_X - 1.36, BED_X + 1.36):
        front = BACK - 0.45
        scene.box(
            "nightstands",
            (x - 0.25, front, 0.12),
            (x + 0.25, BACK - 0.02, 0.52),
            polished(look["wood"]),
            0.012,
        )
        scene.box(
            "nightstands",
            (x - 0.22, front - 0.015, 0.33),
            (x + 0.22, front, 0.49),
            polished(tuple(1.25 * np.array(look["wood"]))),
            0.006,
        )
        scene.box(
            "nightstands",
            (x - 0.05, front - 0.035, 0.405),
            (x + 0.05, front - 0.01, 0.425),
            polished((0.7, 0.62, 0.45), 0.2),
            0.008,
        )
        for leg in (-0.21, 0.21):
            for depth in (front + 0.04, BACK - 0.06):
                scene.box(
                    "nightstands",
                    (x + leg - 0.02, depth - 0.02, 0),
                    (x + leg + 0.02, depth + 0.02, 0.13),
                    polished(look["wood"]),
                )
        at = x, BACK - 0.25, 0.52
        scene.mesh(
            "lamps",
            turned(
                (
                    (0, 0),
                    (0.09, 0),
                    (0.09, 0.015),
                    (0.03, 0.03),
                    (0.075, 0.10),
                    (0.085, 0.15),
                    (0.06, 0.21),
                    (0.018, 0.25),
                    (0.012, 0.33),
                )
            ),
            at,
            polished(look["lamp"], 0.25),
        )
        top = 0.10 if room == "room_a" else 0.155
        scene.mesh(
            "lamps",
            cone(0.17, top, 0.23),
            (at[0], at[1], at[2] + 0.27),
            cloth((0.8,) * 3),
            emission=rgb(look["shade"]),
        )


def build_picture(scene, room, look):
    x, low, width, height = BED_X, 1.50, 1.2, 0.6
    scene.box(
        "picture",
        (x - width / 2 - 0.04, BACK - 0.035, low - 0.04),
        (x + width / 2 + 0.04, BACK, low + height + 0.04),
        polished((0.07, 0.06, 0.05)),
    )
    scene.panel(
        "picture",
        (x - width / 2, BACK - 0.037, low),
        (width, 0, 0),
        (0, 0, height),
        textured(painting(room)),
    )


def build_dresser(scene, look):
    """Add a dresser of three drawers along the left wall, and a television on it."""
    near, far, top = 2.2, 3.8, 0.72
    scene.box("dresser", (0.02, near, 0.08), (0.50, far, top), polished(look["wood"]), 0.012)
    scene.box("dresser", (0.06, near + 0.04, 0), (0.44, far - 0.04, 0.09), polished((0.05,) * 3))
    for drawer in range(3):
        start = near + 0.03 + drawer * (far - near - 0.03) / 3
        end = start + (far - near - 0.12) / 3
        scene.box(
            "dresser",
            (0.50, start, 0.14),
            (0.515, end, top - 0.06),
            polished(tuple(1.25 * np.array(look["wood"]))),
            0.006,
        )
        scene.box(
            "dresser",
            (0.51, (start + end) / 2 - 0.07, 0.50),
            (0.535, (start + end) / 2 + 0.07, 0.52),
            polished((0.7, 0.62, 0.45), 0.2),
            0.008,
        )
    middle = (near + far) / 2
    scene.box(
        "television",
        (0.15, middle - 0.2, top),
        (0.36, middle + 0.2, top + 0.015),
        polished((0.03,) * 3),
    )
    scene.box(
        "television",
        (0.23, middle - 0.03, top),
        (0.26, middle + 0.03, top + 0.12),
        polished((0.03,) * 3),
    )
    scene.box(
        "television",
        (0.225, middle - 0.58, top + 0.08),
        (0.265, middle + 0.58, top + 0.75),
        polished((0.02,) * 3, 0.3),
        0.008,
    )
    scene.panel(
        "television",
        (0.2655, middle - 0.565, top + 0.095),
        (0, 1.13, 0),
        (0, 0, 0.64),
        polished((0.012, 0.013, 0.016), 0.12),
    )


def build_armchair(scene, look):
    """Add an armchair in the corner by the window."""
    x, y, fabric = 4.35, 4.55, look["armchair"]
    scene.box("armchair", (x - 0.36, y - 0.36, 0.14), (x + 0.36, y + 0.36, 0.34), fabric, 0.05)
    scene.box(
        "armchair", (x - 0.27, y - 0.38, 0.32), (x + 0.27, y + 0.24, 0.47), fabric, 0.06, 0.003
    )
    scene.box("armchair", (x - 0.33, y + 0.20, 0.30), (x + 0.33, y + 0.40, 0.90), fabric, 0.09)
    for side in (-1, 1):
        low, high = sorted((x + side * 0.27, x + side * 0.40))
        scene.box("armchair", (low, y - 0.36, 0.16), (high, y + 0.38, 0.60), fabric, 0.06)
        for depth in (-0.3, 0.3):
            at = x + side * 0.3, y + depth
            scene.box(
                "armchair",
                (at[0] - 0.02, at[1] - 0.02, 0),
                (at[0] + 0.02, at[1] + 0.02, 0.16),
                polished(look["wood"]),
            )


def build(room, folder):
    scene, look = Scene(folder), ROOMS[room]
    build_shell(scene, room, look)
    build_bed(scene, look)
    build_headboard(scene, room, look)
    build_nightstands(scene, room, look)
    build_picture(scene, room, look)
    build_dresser(scene, look)
    build_armchair(scene, look)
    return scene


# --- rendering -----------------------------------------------------------------------------------


def render(scene, view, width, samples):
    """Return a view as linear RGB (H, W, 3), and the number of the object at each pixel (H, W)."""
    _room, origin, target, angle = VIEWS[view]
    height = width * 2 // 3
    sensor = {
        "type": "perspective",
        "fov": angle,
        "to_world": mi.ScalarTransform4f().look_at(list(origin), list(target), [0, 0, 1]),
        "sampler": {"type": "independent", "sample_count": samples},
        "film": {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "rfilter": {"type": "box"},
            "pixel_format": "rgb",
        },
    }
    loaded = mi.load_dict({**scene, "sensor": sensor}, optimize=False)
    path = mi.load_dict(
        {
            "type": "aov",
            "aovs": "albedo:albedo,normal:sh_normal",
            "image": {"type": "path", "max_depth": 10},
        }
    )
    layers = np.array(mi.render(loaded, spp=samples, integrator=path), np.float32)
    color, albedo, normal = layers[..., :3], layers[..., -6:-3], layers[..., -3:]
    linear = denoise(color, albedo=albedo, normal=normal, hdr=True)

    # one sample in each pixel, so that no two numbers are mixed
    aov = mi.load_dict({"type": "aov", "aovs": "index:shape_index"})
    indices = np.array(mi.render(loaded, spp=1, integrator=aov))[..., -1].round().astype(int)
    numbers = [OBJECTS.index(shape.id().split("__")[0]) for shape in loaded.shapes()]
    return linear, np.array([0, *numbers], np.uint8)[indices]  # it counts shapes from 1


def develop(linear):
    """Return linear light as sRGB uint8, exposed for the room, the window's light rolled off."""
    light = linear * 0.30 / np.median(linear.mean(axis=2))
    light = (light * (1 + light / 16) / (1 + 0.7 * light)).clip(0, 1)
    srgb = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (srgb * 255).round().astype(np.uint8)


def save_objects(path, numbers):
    image = Image.fromarray(numbers)
    image = image.convert("P")
    palette = np.random.default_rng(5).integers(60, 256, (len(OBJECTS), 3))
    palette[0] = 0
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description="Path-trace the example images.")
    parser.add_argument("--samples", type=int, default=64, help="per pixel")
    parser.add_argument("--width", type=int, default=720, help="in pixels")
    parser.add_argument("--only", choices=tuple(VIEWS), help="one view instead of all")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    for view in [arguments.only] if arguments.only else VIEWS:
        with tempfile.TemporaryDirectory() as folder:
            scene = build(VIEWS[view][0], folder)
            linear, numbers = render(scene, view, arguments.width, arguments.samples)
        picture = Image.fromarray(develop(linear))
        picture.save(arguments.output / f"{view}.jpg", quality=90)
        save_objects(arguments.output / f"{view}_objects.png", numbers)
        print(f"{view}: {picture.width} x {picture.height}")
    names = {str(number): name for number, name in enumerate(OBJECTS)}
    (arguments.output / "objects.json").write_text(json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    main()
