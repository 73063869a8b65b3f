"""What furniture is made of: meshes, materials, a scene to put them in, and its development.

A mesh is vertices (V, 3) in metres and triangles (T, 3); a material is a colour (three
reflectances in 0..1, taken as cloth) or a BSDF from one of the functions below.  A Mitsuba variant
must be set before they run.
"""

from pathlib import Path

import mitsuba as mi
import numpy as np
from PIL import Image

# --- meshes --------------------------------------------------------------------------------------


def grid_faces(rows, columns):
    """Return the triangles of a rows x columns grid of vertices, (T, 3)."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    upper, lower = corner + [0, 1, columns], corner + [1, columns + 1, columns]
    return np.concatenate([upper, lower])


def plane(cells):
    """Return the coordinates in -1..1 of a grid of vertices, denser towards the edges."""
    ticks = np.sin(np.linspace(-np.pi / 2, np.pi / 2, cells))
    return (axis.ravel() for axis in np.meshgrid(ticks, ticks, indexing="ij"))


def rounded_box(size, radius, wrinkle=0.0, cells=28):
    """Return a box of this size round the origin, with rounded edges and a wavy upper side."""
    half = np.array(size) / 2
    radius = min(radius, *half)
    u, v = plane(cells)
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
    u, v = plane(cells)
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


def turned(outline, cells=40):
    """Return a body of revolution round z from (radius, z) pairs."""
    angle = np.linspace(0, 2 * np.pi, cells)
    rings = [
        np.stack([r * np.cos(angle), r * np.sin(angle), np.full(cells, z)], 1) for r, z in outline
    ]
    return np.concatenate(rings), grid_faces(len(outline), cells)


def extruded(outline, thickness):
    """Return a board in the x-z plane from its (x, z) outline round the origin, front at y = 0."""
    front = np.insert(np.array(outline, float), 1, 0.0, axis=1)
    middle, back = [[0.0, 0.0, front[:, 2].mean()]], front + (0, thickness, 0)
    count, number = len(front), np.arange(len(front))
    following, edge = (number + 1) % count, count + 1
    faces = [  # of the front, from its middle, and of the edge
        (number, following, np.full(count, count)),
        (number + edge, number + count + edge, following + count + edge),
        (number + edge, following + count + edge, following + edge),
    ]
    faces = np.concatenate([np.stack(corners, 1) for corners in faces])
    return np.concatenate([front, middle, front, back]), faces


class Scene(dict):
    """A Mitsuba scene whose shapes are called OBJECT__NUMBER.

    The meshes' files go to a folder; a box has so many cells along each side.
    """

    def __init__(self, folder, cells=28):
        super().__init__(type="scene")
        self.folder, self.cells = folder, cells
        self.place = mi.ScalarTransform4f()  # of the furniture that is being built

    def add(self, name, shape, material=None, emission=None):
        """Add a shape of an object, Mitsuba's dict, of a material or one that gives light."""
        if isinstance(material, tuple):
            material = {"type": "diffuse", "reflectance": rgb(material)}
        if material is not None:
            shape["bsdf"] = {"type": "twosided", "nested": material}
        if emission is not None:
            shape["emitter"] = {"type": "area", "radiance": emission}
        self[f"{name}__{len(self)}"] = shape

    def mesh(self, name, mesh, at, material, turn=((1, 0, 0), 0), emission=None, uv=None):
        """Add a mesh at a place, turned round an axis by degrees, with texture coordinates uv."""
        points, faces = mesh
        path = str(Path(self.folder) / f"{len(self)}.ply")
        write_ply(path, points, faces, uv)
        move = mi.ScalarTransform4f().translate(list(at)).rotate(list(turn[0]), turn[1])
        shape = {"type": "ply", "filename": path, "to_world": self.place @ move}
        self.add(name, shape, material, emission)

    def box(self, name, low, high, material, radius=0.006, wrinkle=0.0, repeat=None):
        """Add a rounded box between two corners; with repeats a metre, under a pattern."""
        low, high = np.array(low), np.array(high)
        mesh, uv = rounded_box(high - low, radius, wrinkle, self.cells), None
        if repeat is not None:  # on top of the body and down its x sides
            x, y, z = mesh[0].T
            uv = np.stack([x - np.sign(x) * (z - z.max()), y], 1) * repeat
        self.mesh(name, mesh, (low + high) / 2, material, uv=uv)

    def boxes(self, name, *boxes):
        """Add several boxes of one object, each the arguments of `box`."""
        for box in boxes:
            self.box(name, *box)

    def panel(self, name, corner, along, up, material, emission=None):
        """Add a rectangle from a corner along two edges; it faces along x up."""
        corner, along, up = (np.array(vector, float) for vector in (corner, along, up))
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1] = along / 2, up / 2
        matrix[:3, 2] = np.cross(along, up) / np.linalg.norm(np.cross(along, up))
        matrix[:3, 3] = corner + along / 2 + up / 2
        move = mi.ScalarTransform4f(matrix)
        self.add(name, {"type": "rectangle", "to_world": move}, material, emission)


def write_ply(path, points, faces, uv=None):
    """Write a mesh of vertices (V, 3), triangles (T, 3) and texture coordinates (V, 2)."""
    if uv is not None:
        points = np.concatenate([points, uv], 1)
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property float {name}" for name in "xyzuv"[: points.shape[1]]]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    rows = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    data = points.astype("<f4").tobytes() + rows.tobytes()
    Path(path).write_bytes("\n".join([*head, ""]).encode() + data)


# --- materials -----------------------------------------------------------------------------------


def rgb(color):
    """Return a colour, of three numbers, as Mitsuba takes it."""
    return {"type": "rgb", "value": list(color)}


def polished(color, roughness=0.35):
    """Return painted wood, metal or plastic."""
    return {"type": "principled", "base_color": rgb(color), "roughness": roughness, "specular": 0.4}


def bitmap(pixels, repeat=(1, 1)):
    """Return a texture from (h, w, 3) reflectances in 0..1, row 0 on top."""
    move = mi.ScalarTransform4f().scale([repeat[0], repeat[1], 1])
    image = mi.Bitmap(np.ascontiguousarray(pixels[::-1], np.float32))
    return {"type": "bitmap", "bitmap": image, "raw": True, "to_uv": move}


def textured(pixels, repeat=(1, 1)):
    """Return a cloth with a pattern of (h, w, 3) reflectances."""
    return {"type": "diffuse", "reflectance": bitmap(pixels, repeat)}


def wood(color, seed):
    """Return a board's grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:1:64j, 0:1:256j]
    grain = np.sin(40 * y + 3 * np.sin(5 * x + rng.uniform(0, 6)) + 2 * np.sin(11 * x)) * 0.09
    return np.array(color) * (1 + grain + rng.uniform(-0.05, 0.05, (64, 1)))[..., None]


# --- pictures ------------------------------------------------------------------------------------


def brightness(linear):
    """Return the median brightness of linear light (H, W, 3), which `develop` exposes for."""
    return np.median(linear.mean(axis=2))


def develop(linear, gain=None, median=None):
    """Return linear light as sRGB uint8, exposed for the room, the window's light rolled off.

    gain is an exposure and white balance, three factors; median the brightness to expose for if
    it is not the picture's own.
    """
    light = linear * 0.30 / (brightness(linear) if median is None else median)
    if gain is not None:
        light = light * np.array(gain, light.dtype)
    light = (light * (1 + light / 16) / (1 + 0.7 * light)).clip(0, 1)
    srgb = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (srgb * 255).round().astype(np.uint8)


def save_objects(file, numbers, count, text=None):
    """Write the objects' numbers, uint8 (H, W) below count, as a palette PNG of bright colours.

    text is a PngInfo to keep with them.
    """
    image = Image.fromarray(numbers).convert("P")
    palette = np.random.default_rng(5).integers(60, 256, (count, 3))
    palette[0] = 0
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(file, "PNG", optimize=True, pnginfo=text)
