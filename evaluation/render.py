"""Render a view of a random room: its picture, and the object at each pixel by ray casting.

Needs ``pip install mitsuba pyoidn`` and an LLVM that Mitsuba's llvm_ad_rgb can use (set
DRJIT_LIBLLVM_PATH if it is not found).
"""

import io
import tempfile

import drjit as dr
import mitsuba as mi
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pyoidn.denoise import denoise

from evaluation import furniture, room_parts
from evaluation.patterns import cover, paint, sky, weave
from evaluation.views import OBJECTS
from simvis.image_ops import write_whole

AUXILIARY = 6  # rays a pixel for the denoiser's albedo and normals
# What is drawn at random must not change the code that the renderer compiles, which costs as much
# as a view does: so scenes have one number of shapes, and no texture a transform of its own.
SHAPES = 50  # or a multiple of it


def save_view(view, parts, width=360, samples=2):
    """Render a view of these parts and write its two files, the image last.

    The masks' file keeps the brightness that the image was exposed for, as its text "median".
    """
    image, numbers, median = render_view(parts, width, samples, seed=view.number)
    png, webp, text = io.BytesIO(), io.BytesIO(), PngInfo()
    text.add_text("median", str(median))
    room_parts.save_objects(png, numbers, len(OBJECTS), text)
    Image.fromarray(image).save(webp, "WEBP", quality=90)
    write_whole(view.objects_path, lambda file: file.write(png.getvalue()))
    write_whole(view.image_path, lambda file: file.write(webp.getvalue()))


def render_view(parts, width=360, samples=2, seed=0):
    """Return a view as RGB uint8 (H, W, 3), its objects' numbers, uint8 (H, W), and its exposure.

    The exposure is the median brightness of the linear light, or ``parts["median"]``: a view with
    one thing changed is exposed as it was before.
    """
    if mi.variant() != "llvm_ad_rgb":
        mi.set_variant("llvm_ad_rgb")
        mi.set_log_level(mi.LogLevel.Error)
        dr.set_thread_count(1)  # one process a core is fastest
    shape = width * 2 // 3, width
    with tempfile.TemporaryDirectory() as folder:
        scene = mi.load_dict({**build_room(parts, folder)}, optimize=False)
    sensor = mi.load_dict(camera_sensor(parts["camera"], *shape))
    path = mi.load_dict({"type": "path", "max_depth": 4, "rr_depth": 3})
    sampler, rays = sample_rays(sensor, *shape, samples, seed)
    light, _valid, _aovs = path.sample(scene, sampler, rays)
    light = mean_over_samples(light, *shape, samples)
    _sampler, rays = sample_rays(sensor, *shape, AUXILIARY, seed + 1)
    hit = scene.ray_intersect(rays)
    albedo = mean_over_samples(hit.bsdf().eval_diffuse_reflectance(hit), *shape, AUXILIARY)
    normal = mean_over_samples(hit.sh_frame.n, *shape, AUXILIARY)
    linear = denoise(light, albedo=albedo, normal=normal, hdr=True, quality="fast")
    median = parts.get("median") or float(room_parts.brightness(linear))
    image = room_parts.develop(linear, parts["light"]["gain"], np.float32(median))
    return image, cast_objects(scene, sensor, *shape), median


def camera_sensor(camera, height, width):
    """Return a sensor for Mitsuba, a dict."""
    origin, target = list(camera["origin"]), list(camera["target"])
    look = mi.ScalarTransform4f().look_at(origin, target, [0, 0, 1])
    film = {"type": "hdrfilm", "width": width, "height": height, "rfilter": {"type": "box"}}
    return {"type": "perspective", "fov": camera["fov"], "to_world": look, "film": film}


def sample_rays(sensor, height, width, samples, seed):
    """Return a sampler and rays through all pixels, stratified over each pixel's height."""
    count = height * width * samples
    sampler = mi.load_dict({"type": "independent"})
    sampler.seed(seed, count)
    ray = dr.arange(mi.UInt32, count)
    pixel, stratum = ray // samples, mi.Float(ray % samples)
    offset = sampler.next_2d()
    offset.y = (stratum + offset.y) / samples
    place = mi.Vector2f(mi.Float(pixel % width), mi.Float(pixel // width)) + offset
    place /= mi.Vector2f(width, height)
    return sampler, sensor.sample_ray_differential(0, 0.5, place, mi.Point2f(0.5))[0]


def mean_over_samples(values, height, width, samples):
    """Return the mean (height, width, 3) of what the rays of each pixel brought, (3, rays)."""
    values = np.array(values, np.float32).reshape(3, height, width, samples)
    return np.ascontiguousarray(np.moveaxis(values.mean(3), 0, -1))


def cast_objects(scene, sensor, height, width):
    """Return the number of the object that the ray through each pixel's centre meets first.

    Shapes are told apart by their own address: in llvm_ad_rgb the AOV "shape_index" does not
    follow ``scene.shapes()``.
    """
    pixel = dr.arange(mi.UInt32, height * width)
    place = mi.Vector2f(mi.Float(pixel % width), mi.Float(pixel // width)) + 0.5
    place /= mi.Vector2f(width, height)
    ray, _weight = sensor.sample_ray(0, 0.5, place, mi.Point2f(0.5))
    hit = np.array(dr.reinterpret_array(mi.UInt32, scene.ray_intersect(ray).shape))
    numbers = np.zeros(height * width, np.uint8)
    for shape in scene.shapes():
        address = np.array(dr.reinterpret_array(mi.UInt32, mi.ShapePtr(shape)))
        numbers[hit == address] = OBJECTS.index(shape.id().split("__")[0])
    return numbers.reshape(height, width)


# --- from numbers to shapes ----------------------------------------------------------------------


def build_room(parts, folder):
    """Return the Scene of these parts; a part that is None is left out."""
    scene, wood = room_parts.Scene(folder, cells=8), parts["wood"]
    build_walls(scene, parts)
    furniture.build_bed(scene, wood, parts["linen"])
    if runner := parts["runner"]:
        material, repeat = woven(runner)
        furniture.build_runner(scene, "runner", material, runner["start"], runner["end"], repeat)
    furniture.build_pillows(scene, parts["pillows"])
    if cushions := parts["cushions"]:
        (material, repeat), (dx, dy) = woven(cushions), parts["cushions_at"]
        size = cushions["width"], cushions["height"], 0.18
        for offset in row_of(cushions["count"], cushions["width"] + 0.04):
            furniture.build_cushion(scene, "cushions", material, dx + offset, dy, size, repeat)
    if parts["headboard"]:
        build_headboard(scene, **parts["headboard"])
    for x in (furniture.BED_X - 1.36, furniture.BED_X + 1.36):
        furniture.build_nightstand(scene, x, wood)
        if lamp := parts["lamps"]:
            light = np.array(lamp["shade"]) * (2.6, 2.0, 1.35)
            light *= 1.0 if parts["light"]["lamps"] else 1e-3
            shade = lamp["bottom"], lamp["top"], lamp["height"]
            look = lamp["base"], light, lamp["outline"], shade, lamp["shade"]
            furniture.build_lamp(scene, x, *look)
    if picture := parts["picture"]:
        width, height = picture["width"], picture["height"]
        offsets = row_of(picture["count"], width + picture["gap"])
        for seed, offset in zip(picture["seeds"], offsets, strict=True):
            pixels = paint(picture["family"], picture["colors"], seed, width / height)
            place = furniture.BED_X + offset, picture["low"], width, height
            furniture.build_picture(scene, pixels, *place, picture["frame"])
    furniture.build_dresser(scene, wood)
    if television := parts["television"]:
        glow = television["glow"] if television["on"] else 1e-3
        pixels = paint(television["family"], television["colors"], television["seed"], 1.77)
        furniture.build_television(scene, room_parts.bitmap(glow * pixels))
    if parts["armchair"]:
        scene.place = placed(*parts["armchair_at"])
        furniture.build_armchair(scene, 0, 0, wood, **parts["armchair"])
    if case := parts["suitcase"]:
        scene.place = placed(*case["at"])
        furniture.build_suitcase(scene, case["size"], case["color"])
    if towel := parts["towel"]:
        (dx, dy, turn), (width, depth, height) = towel["at"], towel["size"]
        scene.place = placed(furniture.BED_X + dx, furniture.BACK - 2.18 + dy, turn, 0.66)
        low, high = (-width / 2, -depth / 2, 0), (width / 2, depth / 2, height)
        scene.box("towel", low, high, tuple(towel["color"]), 0.04)
    while (len(scene) - 1) % SHAPES:  # out of sight, under the floor
        scene.panel("none", (0, 0, -9), (0.1, 0, 0), (0, 0.1, 0), (0.0, 0.0, 0.0))
    return scene


def placed(x, y, turn, z=0):
    """Return the transform of what stands there, turned by degrees."""
    return mi.ScalarTransform4f().translate([x, y, z]).rotate([0, 0, 1], turn)


def woven(part):
    """Return a cloth's material and its repeats a metre, None for one colour."""
    if part["family"] == "plain":
        return part["colors"][0], None
    pixels = weave(part["family"], part["colors"], part["seed"], 64)
    return room_parts.textured(pixels), part["repeat"]


def build_walls(scene, parts):
    """Add carpet, walls, window and curtains."""
    light, wall = parts["light"], parts["wall"]["color"]
    look = {"wall": wall, "accent": wall, "wood": parts["wood"]}
    look["light"] = tuple(light["flash"] * np.array((1.5, 1.42, 1.32)))
    floor, drapes = (0.45, 0.43, 0.40), ()
    if carpet := parts["carpet"]:
        pixels = weave(carpet["family"], carpet["colors"], carpet["seed"])
        pixels = pixels.swapaxes(0, 1) if carpet["turned"] else pixels
        size = furniture.DEPTH + 1, furniture.WIDTH
        floor = room_parts.textured(0.8 * cover(pixels, size, carpet["tile"], (1240, 1000)))
    if parts["curtains"]:
        look["curtains"], look["curtains_repeat"] = woven(parts["curtains"])
        near, far = furniture.WINDOW[2:]
        first, second = parts["drapes"]
        drapes = (near - 0.35, first), (far + 0.35 - second, second)
    shown = light["sun"] * sky(light["sky"], light["night"])
    furniture.build_shell(scene, look, floor, shown, drapes, "carpet")
    front = (furniture.WIDTH, -1.01, 0), (-furniture.WIDTH, 0, 0), (0, 0, furniture.HEIGHT)
    scene.panel("wall", *front, wall)


def row_of(count, step):
    """Return where so many things stand in a row round 0, so far apart."""
    return [(number - (count - 1) / 2) * step for number in range(count)]


def build_headboard(scene, kind, width, top, color, second, count, rows, pattern, seed):
    """Add a headboard of one of the six kinds."""
    if kind == "padded":
        furniture.padded_headboard(scene, color, width, (top - 0.28) / rows, count, rows)
    elif kind == "channels":
        furniture.padded_headboard(scene, color, width, top - 0.28, 2 * count, 1, 0.08)
    elif kind == "slatted":
        furniture.slatted_headboard(scene, color, second, width, top, 2 * count + 3)
    elif kind == "framed":
        pixels = weave(pattern, (second, color) * 2, seed, 64)
        board = room_parts.textured(cover(pixels, (top, width), 3 / count, (160, 320)))
        furniture.framed_headboard(scene, color, board, width, top, 0.03 + 0.015 * count)
    elif kind == "arched":
        shoulder, border = top - 0.1 * (rows + 1), 0.02 * count
        furniture.arched_headboard(scene, second, color, width, top, shoulder, border)
    else:
        furniture.railed_headboard(scene, color, width, top, count + 1, 0.02 + 0.01 * rows)
