"""Pack the small held-out set that ships: python -m evaluation.pack FOLDER evaluation/held_out

Some rooms of each rendered set in FOLDER, and as many of their swaps as fit.
"""

import io
import sys
from pathlib import Path

from PIL import Image

from evaluation.views import load_views, save_views

LIMIT = 3_000_000  # bytes in all, masks included
ROOMS = {"held_all": 20, "held_parts": 9}


def pack(source, target):
    """Write the small set of the sets held_all, held_parts and held_swaps in a folder.

    Returns its size in bytes, at most LIMIT.
    """
    everything, parts = (load_views(source / name) for name in ROOMS)
    rooms = list(dict.fromkeys(view.room for view in everything))[: ROOMS["held_all"]]
    headboards = connected(parts, ROOMS["held_parts"])
    size = copy([view for view in everything if view.room in rooms], target / "held_all", LIMIT)
    few = [view for view in parts if view.labels["headboard"] in headboards]
    size += copy(few, target / "held_parts", LIMIT - size)
    swaps = [view for view in load_views(source / "held_swaps") if view.room in rooms]
    return size + copy(swaps, target / "held_swaps", LIMIT - size)


def connected(views, count):
    """Return so many headboards whose views share carpets with each other's, one after another."""
    carpets = {}
    for view in views:
        carpets.setdefault(view.labels["headboard"], set()).add(view.labels["carpet"])
    chosen = [next(iter(carpets))]
    while len(chosen) < min(count, len(carpets)):
        seen = set().union(*(carpets[name] for name in chosen))
        left = [name for name in carpets if name not in chosen]
        chosen.append(max(left, key=lambda name: len(carpets[name] & seen)))
    return chosen


def copy(views, folder, limit):
    """Write views to a folder, images compressed more, as long as they fit; return their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    size, written = 0, []
    for view in views:
        image, numbers = io.BytesIO(), view.objects_path.read_bytes()
        Image.fromarray(view.image()).save(image, "WEBP", quality=82, method=6)
        more = len(image.getvalue()) + len(numbers) + 400  # of its entry in views.json
        if size + more > limit:
            break
        size += more
        (folder / view.image_path.name).write_bytes(image.getvalue())
        (folder / view.objects_path.name).write_bytes(numbers)
        written.append(view)
    save_views(folder, written)
    return size


if __name__ == "__main__":
    print(f"{pack(*map(Path, sys.argv[1:])):,} bytes")
