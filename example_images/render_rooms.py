"""Path-trace the example images: two hotel rooms, made of nothing but the numbers in this file.

    pip install mitsuba pyoidn
    python example_images/render_rooms.py

Room A is seen from two viewpoints, room B, of the same layout in other colours and furniture, from
the first.  Beside each view lies a palette PNG of which object each pixel shows; objects.json
names the numbers.  Lengths are metres; x runs along the headboard's wall, y towards it, z up.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import mitsuba as mi
import numpy as np
from PIL import Image
from pyoidn.denoise import denoise

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# the script is run by its path, too, and then finds nothing beside itself
from evaluation import furniture, views  # noqa: E402
from evaluation import room_parts as parts  # noqa: E402
from evaluation.render import camera_sensor  # noqa: E402

OBJECTS = tuple("floor" if name == "carpet" else name for name in views.OBJECTS[:15])
LOOKS = {  # of room A and of room B
    "wall": ((0.74, 0.69, 0.60), (0.66, 0.70, 0.71)),
    "accent": ((0.33, 0.43, 0.46), (0.60, 0.56, 0.52)),
    "carpet": (((0.46, 0.38, 0.30), (0.36, 0.29, 0.23)), ((0.13, 0.17, 0.27), (0.30, 0.30, 0.33))),
    "bed": ((0.84, 0.83, 0.80), (0.80, 0.80, 0.83)),
    "runner": ((0.52, 0.22, 0.13), (0.10, 0.24, 0.19)),
    "cushion": ((0.58, 0.27, 0.16), (0.72, 0.55, 0.16)),
    "curtains": ((0.62, 0.52, 0.38), (0.34, 0.10, 0.13)),
    "wood": ((0.30, 0.17, 0.09), (0.52, 0.36, 0.20)),
    "headboard": ((0.27, 0.29, 0.33), (0.46, 0.29, 0.15)),
    "shade": ((2.6, 1.75, 0.95), (2.5, 1.9, 1.2)),
    "lamp": ((0.75, 0.72, 0.66), (0.16, 0.16, 0.17)),
    "armchair": ((0.20, 0.30, 0.33), (0.55, 0.33, 0.12)),
}
FIRST = {"origin": (0.75, 0.15, 1.5), "target": (2.75, 4.3, 0.88), "fov": 66}
SECOND = {"origin": (4.45, 1.1, 1.62), "target": (1.45, 4.5, 0.72), "fov": 68}
VIEWS = {"room_a_view1": FIRST, "room_a_view2": SECOND, "room_b_view1": FIRST}


# --- patterns -----------------------------------------------------------------------------------


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
        colors = (0.45, 0.35, 0.42), (0.25, 0.30, 0.40), (0.10, 0.17, 0.22)
        for level, color in zip((0.52, 0.66, 0.82), colors, strict=True):
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


def sky():
    """Return what the window shows, sky over far trees, as radiance."""
    y, x = np.mgrid[0:1:128j, 0:1:256j]
    image = (1 - y[..., None]) * (1.7, 3.0, 5.2) + y[..., None] * (4.0, 4.6, 5.2)
    trees = 0.80 + 0.03 * np.sin(23 * x) + 0.02 * np.sin(57 * x + 1) + 0.015 * np.sin(131 * x)
    image[y > trees] = (0.55, 0.75, 0.45)
    return image


# --- rooms and rendering -------------------------------------------------------------------------


def build(room, folder):
    """Return the scene of room A or B."""
    scene = parts.Scene(folder)
    look = {name: colors[room == "room_b"] for name, colors in LOOKS.items()}
    look["light"] = (1.5, 1.42, 1.32)
    near, far = furniture.WINDOW[2:]
    floor = parts.textured(carpet(look["carpet"], room), (12, 15))
    drapes = (near - 0.55, 0.72), (far - 0.17, 0.72)
    furniture.build_shell(scene, look, floor, 0.42 * sky(), drapes)
    furniture.build_bed(scene, look["wood"], look["bed"])
    furniture.build_runner(scene, "bed", look["runner"])
    furniture.build_pillows(scene)
    furniture.build_cushion(scene, "pillows", look["cushion"])
    if room == "room_a":
        top = 0.10  # of the lamps' shades
        furniture.padded_headboard(scene, look["headboard"])
    else:
        top = 0.155
        board = parts.textured(parts.wood(look["headboard"], 4))
        furniture.slatted_headboard(scene, look["headboard"], board)
    for x in (furniture.BED_X - 1.36, furniture.BED_X + 1.36):
        furniture.build_nightstand(scene, x, look["wood"])
        furniture.build_lamp(scene, x, look["lamp"], look["shade"], shade=(0.17, top, 0.23))
    size, frame = (1.2, 0.6), (0.07, 0.06, 0.05)
    furniture.build_picture(scene, painting(room), furniture.BED_X, 1.5, *size, frame)
    furniture.build_dresser(scene, look["wood"])
    furniture.build_television(scene)
    furniture.build_armchair(scene, 4.35, 4.55, look["wood"], look["armchair"])
    return scene


def render(scene, camera, width, samples):
    """Return a view as linear RGB (H, W, 3), and the number of the object at each pixel (H, W)."""
    sensor = camera_sensor(camera, width * 2 // 3, width)
    sensor["sampler"] = {"type": "independent", "sample_count": samples}
    loaded = mi.load_dict({**scene, "sensor": sensor}, optimize=False)
    image = {"type": "path", "max_depth": 10}
    path = mi.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal", "image": image})
    layers = np.array(mi.render(loaded, spp=samples, integrator=path), np.float32)
    color, albedo, normal = layers[..., :3], layers[..., -6:-3], layers[..., -3:]
    linear = denoise(color, albedo=albedo, normal=normal, hdr=True)

    # one sample in each pixel, so that no two numbers are mixed
    aov = mi.load_dict({"type": "aov", "aovs": "index:shape_index"})
    indices = np.array(mi.render(loaded, spp=1, integrator=aov))[..., -1].round().astype(int)
    numbers = [OBJECTS.index(shape.id().split("__")[0]) for shape in loaded.shapes()]
    return linear, np.array([0, *numbers], np.uint8)[indices]  # it counts shapes from 1


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
            scene = build(view[:6], folder)
            linear, numbers = render(scene, VIEWS[view], arguments.width, arguments.samples)
        picture = Image.fromarray(parts.develop(linear))
        picture.save(arguments.output / f"{view}.jpg", quality=90)
        parts.save_objects(arguments.output / f"{view}_objects.png", numbers, len(OBJECTS))
        print(f"{view}: {picture.width} x {picture.height}")
    names = {str(number): name for number, name in enumerate(OBJECTS)}
    (arguments.output / "objects.json").write_text(json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    main()
