"""Rendered views of rooms on disk: an image, the object at each pixel, and what the view shows.

A folder holds ``views.json``, a list of entries, and for each entry ``NAME.webp`` and
``NAME_objects.png``, a palette image of object numbers.  Nothing here needs the renderer.
"""

import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from PIL import Image

from simvis.image_ops import write_whole

OBJECTS = (  # the index is the number in the masks; the first fifteen as in example_images
    *("none", "wall", "carpet", "ceiling", "window", "curtains", "bed", "headboard", "pillows"),
    *("nightstands", "lamps", "picture", "dresser", "television", "armchair"),
    *("runner", "cushions", "suitcase", "towel"),
)
LABELS = ("room", "headboard", "carpet")
CHANGES = ("", "swap", "delete")
LARGEST = 4096  # pixels a side, so that a stranger's file cannot fill the memory


@dataclass(frozen=True)
class View:
    """One view of a room.

    folder : pathlib.Path of its files
    name : str, of the files, and unique in the folder
    room : str, the room that it shows
    number : int, of the view among those of its room, from 0
    labels : dict of ``room``, ``headboard`` and ``carpet`` to str; views of equal ``labels[k]``
        share what a network k is taught: everything that identifies a room; headboard and
        pictures; the carpet
    chain : str, the rooms that share one object with this one, or ""
    swap_of : str, the name of the view that this is, rendered again with one thing changed, or ""
    swapped : str, the object that was changed, or ""
    change : str, "swap" for another room's object, "delete" for none, or ""
    """

    folder: Path
    name: str
    room: str
    number: int
    labels: dict = field(hash=False)
    chain: str = ""
    swap_of: str = ""
    swapped: str = ""
    change: str = ""

    @property
    def image_path(self):
        """The image's file."""
        return self.folder / f"{self.name}.webp"

    @property
    def objects_path(self):
        """The file of the objects' numbers."""
        return self.folder / f"{self.name}_objects.png"

    def image(self):
        """Return the image, RGB uint8 (H, W, 3)."""
        with Image.open(self.image_path, formats=["WEBP"]) as image:
            return np.array(image.convert("RGB"))

    def objects(self):
        """Return the number of the object at each pixel, an index into OBJECTS, uint8 (H, W)."""
        with Image.open(self.objects_path, formats=["PNG"]) as image:
            if image.mode != "P":
                raise ValueError(f"{self.objects_path} must be a palette image, got {image.mode}")
            numbers = np.array(image)
        if numbers.max() >= len(OBJECTS):
            raise ValueError(
                f"{self.objects_path} must hold numbers below {len(OBJECTS)}, got {numbers.max()}"
            )
        return numbers

    def exposure(self):
        """Return the brightness of the linear light that the image was exposed for."""
        with Image.open(self.objects_path, formats=["PNG"]) as image:
            text = image.text.get("median", "none")
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < np.inf:
            raise ValueError(f"{self.objects_path} must have its exposure, got {text[:50]!r}")
        return value


KEYS = {key.name: key.type for key in fields(View) if key.name != "folder"}  # of an entry


def load_views(folder):
    """Return the views in a folder, in the order of its views.json.

    Raises a FileNotFoundError if the folder has no views.json, or a view's image or objects are
    missing; a ValueError if an entry is not a view's, a name is no plain file name or comes twice,
    or the sizes of an image and its objects differ or are not 1 to 4096.
    """
    folder = Path(folder)
    path = folder / "views.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no views.json")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of views, got {type(entries).__name__}")
    views = [_view(folder, entry) for entry in entries]
    if len({view.name.lower() for view in views}) < len(views):
        raise ValueError(f"{path} must name each view once")
    for view in views:
        _check_sizes(view)
    return views


def save_views(folder, views):
    """Write views.json for these views, whole or not at all."""
    entries = [{key: getattr(view, key) for key in KEYS} for view in views]
    text = "[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n"
    write_whole(Path(folder) / "views.json", lambda file: file.write(text.encode()))


def _view(folder, entry):
    """Return a view of an entry of views.json, of which nothing is taken on trust."""
    needed = {"name", "room", "number", "labels"}
    if not isinstance(entry, dict) or not needed <= set(entry) <= set(KEYS):
        raise ValueError(f"a view must be an object with {', '.join(KEYS)}; got {entry!r:.200}")
    for key, value in entry.items():
        if type(value) is not KEYS[key]:
            raise ValueError(f"{key} must be {KEYS[key].__name__}, got {value!r:.100}")
    view = View(folder, **entry)
    for key, name in (("name", view.name), ("swap_of", view.swap_of or "none")):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):  # plain on any system
            raise ValueError(
                f"{key} must be 1 to 100 letters, digits, _ and -, beginning with a letter or "
                f"digit; got {name[:100]!r}"
            )
    labels = view.labels
    if set(labels) != set(LABELS) or not all(isinstance(text, str) for text in labels.values()):
        raise ValueError(f"labels must have {', '.join(LABELS)}, all text; got {labels!r:.200}")
    if view.swapped not in ("", "light", *OBJECTS):
        raise ValueError(f"swapped must be an object's name, got {view.swapped[:100]!r}")
    if view.change not in CHANGES:
        raise ValueError(f"change must be one of {CHANGES}, got {view.change[:100]!r}")
    return view


def _check_sizes(view):
    """Raise an error unless a view's files are there, of their kinds, and of one size."""
    sizes = []
    for path, kind in ((view.image_path, "WEBP"), (view.objects_path, "PNG")):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        try:
            with Image.open(path, formats=[kind]) as image:
                sizes.append(image.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is not {kind}: {error}") from None
    if sizes[0] != sizes[1] or max(sizes[0]) > LARGEST:
        raise ValueError(
            f"{view.image_path} and its objects must have one size up to {LARGEST}, got {sizes}"
        )
