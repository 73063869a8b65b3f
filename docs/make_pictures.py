"""Make the pictures of the README: python -m docs.make_pictures"""

import dataclasses
from pathlib import Path

import image_ops
from models import efficientnet_lite0, load_network
from visualize_similarity import EXAMPLE_PAIR, main, visualize_pair

DOCS = Path(__file__).resolve().parent
COMMANDS = {
    "pair": "",
    "max": "--pooling max",
    "gem": "--pooling gem --gem-power 3",
    "region": "--region1 196,90,334,170",
    "point": "--point1 293,252",
}


def make_pictures():
    for name, options in COMMANDS.items():
        main([*map(str, EXAMPLE_PAIR), *options.split(), "--output", str(DOCS / f"{name}.jpg")])
    # The offline network has no head that was trained for similarity; its classifier stands in.
    classifier = efficientnet_lite0.classifier(efficientnet_lite0.read_weights())
    network = dataclasses.replace(load_network(), projection=classifier)
    pair = visualize_pair(*EXAMPLE_PAIR, network, embedding="head")
    picture = image_ops.combine_horizontal([pair.overlay1, pair.overlay2])
    image_ops.save_image(DOCS / "head.jpg", picture)


if __name__ == "__main__":
    make_pictures()
