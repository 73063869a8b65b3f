"""Many pairs at steady state, against the parts that no program can avoid: in one process."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import MEASURED, medians, table
from simvis import image_ops, models
from simvis.batch import pairs as image_pairs
from simvis.batch.pipeline import BATCH_SIZE
from simvis.maps import Method, compute_maps
from simvis.pair import EXAMPLES

SIZE = (427, 640)  # of each image, so that a pair is 1280 pixels wide


def write_images(folder, count):
    """Write distinct images, shifted views of the example rooms; return the pairs of neighbours."""
    rooms = [
        image_ops.resize(image_ops.load_image(path), SIZE)
        for path in sorted(EXAMPLES.glob("room_*.jpg"))
    ]
    paths = [str(Path(folder) / f"{i:04d}.jpg") for i in range(count)]
    for i, path in enumerate(paths):
        image_ops.save_image(path, np.roll(rooms[i % len(rooms)], 3 * i, axis=1))
    return dict(enumerate(zip(paths[::2], paths[1::2], strict=True), 1))


def report(count=160, repeats=9):
    models.start_tensorflow()
    network = models.load_network(graph=True)
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_images(folder, count)
        paths = [path for pair in pairs.values() for path in pair]

        def decode():
            for path in paths:
                image_ops.load_image(path)

        inputs = [network.preprocess([image_ops.load_image(path)])[0] for path in paths]
        size = BATCH_SIZE
        batches = [np.stack(inputs[i : i + size]) for i in range(0, count, size)]

        def run_network():
            for batch in batches:
                network.activations(batch)

        picture = image_ops.combine_horizontal([image_ops.load_image(path) for path in paths[:2]])

        def encode():
            for number in pairs:
                image_ops.save_image(Path(folder) / f"bare{number}.jpg", picture)

        def run(pictures=True):
            # a folder of its own, since what is finished would not be done again
            with tempfile.TemporaryDirectory(dir=folder) as output:
                given = pairs.values(), network, output
                rows, _ = image_pairs.visualize_pairs(*given, pictures=pictures)
                if any(row["error"] for row in rows):
                    raise RuntimeError(rows)

        parts = decode, run_network, encode, run, partial(run, pictures=False)
        decoding, bare, encoding, pictures, scores = medians(*parts, repeats=repeats, pick=min)
        convs = network.activations(np.stack(inputs[:2]))
        maps = partial(compute_maps, convs, (SIZE, SIZE), network, Method(), ("", ""))
        (per_pair,) = medians(maps, repeats=200)
    unavoidable = decoding + bare + encoding
    table(
        f"{len(pairs)} pairs of {count} images, {SIZE[1]} x {SIZE[0]} pixels, imagenet network, "
        f"fastest of {repeats} rounds",
        MEASURED,
        [
            ("--pairs, in its unavoidable parts", f"{pictures / unavoidable:.2f}x"),
            ("of these parts: decoding each image once", f"{decoding / unavoidable:.0%}"),
            ("the bare network", f"{bare / unavoidable:.0%}"),
            ("encoding the pictures", f"{encoding / unavoidable:.0%}"),
            ("--no-pictures, in images per second of the bare network", f"{bare / scores:.2f}x"),
            ("the maps of a pair, in the bare network on it", f"{per_pair / bare * count / 2:.1%}"),
            ("the bare network, milliseconds an image", f"{1000 * bare / count:.1f}"),
        ],
    )
    cost = f"{pictures / unavoidable:.2f}x"
    return [("many pairs, pictures, in the unavoidable parts", cost, "1.1x")]


if __name__ == "__main__":
    report()
