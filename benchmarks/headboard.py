"""How well a region is found again: python -m benchmarks.headboard

The region of image 1 is the headboard, and the question is how much of map 2's positive mass falls
on the headboard in the other view of the same room.
"""

import json

import numpy as np
from PIL import Image

from benchmarks import table
from image_ops import upsample_map
from pair_visualization import EXAMPLE_PAIR, EXAMPLES, visualize_pair


def mask_of(path, name):
    """Return which pixels of an example image show the object of this name, (H, W) bool."""
    names = json.loads((EXAMPLES / "objects.json").read_text())
    numbers = np.asarray(Image.open(path.with_name(f"{path.stem}_objects.png")))
    return np.isin(numbers, [int(number) for number in names if names[number] == name])


def mass_on(mask, similarity):
    """Return the share of a map's positive values that lies on a mask."""
    positive = upsample_map(similarity, mask.shape).clip(0)
    return positive[mask].sum() / positive.sum()


def report(name="headboard"):
    query, target = (mask_of(path, name) for path in EXAMPLE_PAIR)
    whole = visualize_pair(*EXAMPLE_PAIR)
    region = visualize_pair(*EXAMPLE_PAIR, region1=query)
    table(
        f"Where map 2 lies when image 1 is asked about its {name}",
        ("", f"on the {name} in image 2"),
        [
            (
                f"positive mass of map 2, with the region on the {name}",
                f"{mass_on(target, region.similarity2):.1%}",
            ),
            (
                "positive mass of map 2, without a region",
                f"{mass_on(target, whole.similarity2):.1%}",
            ),
            ("pixels", f"{target.mean():.1%}"),
        ],
    )


if __name__ == "__main__":
    report()
