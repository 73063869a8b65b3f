"""Galleries: indexing, and searching a million vectors: python -m benchmarks.gallery

The vectors are 20,000 clusters on the sphere: centres of independent normal numbers, of unit
length; sizes of a Pareto distribution (1.5), plus 0.1; around each, normal noise whose length is
about 0.7; everything brought to unit length.  Queries are 200 more of the same.
"""

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import MEASURED, seconds, table
from benchmarks.pairs import write_images
from simvis import models
from simvis.batch.pipeline import prefetch
from simvis.gallery.folder import ImageFolder
from simvis.gallery.gallery import Gallery
from simvis.gallery.table import ImageTable, Row

PHOTOGRAPHS = 240  # distinct ones, to which all others are links
CLUSTERS, NOISE, QUERIES, TURNS, TOP = 20_000, 0.7, 200, 4, 10
BATCHES = (1, 4, 16)  # of the bare network, of which the quickest counts
SIZES = ((20_000, 128), (200_000, 1280), (1_000_000, 128))


def clustered(count, dimension, seed=0):
    """Return vectors of unit length, float32 (count, dimension), see above."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((CLUSTERS, dimension), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    sizes = rng.pareto(1.5, CLUSTERS) + 0.1
    chosen = rng.choice(CLUSTERS, count, p=sizes / sizes.sum())
    vectors = np.empty((count, dimension), np.float32)
    for start in range(0, count, 50_000):
        part = chosen[start : start + 50_000]
        noise = rng.standard_normal((len(part), dimension), np.float32)
        vectors[start : start + 50_000] = centres[part] + NOISE / np.sqrt(dimension) * noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_table(folder, vectors):
    """Return the table of a gallery with these vectors, and the seconds that its index took."""
    made = ImageTable.create(folder, {"format": 1}, vectors.shape[1])
    for start in range(0, len(vectors), 50_000):
        part = enumerate(vectors[start : start + 50_000], start)
        made.put([Row(f"{i:08d}.jpg", 1, 1, "", 1, 1, None, vector) for i, vector in part])
    return made, seconds(made.maintain)


def report_search(sizes=SIZES):
    """Searches of the table against exact numpy, and how much of its answer they find."""
    rows = []
    for count, dimension in sizes:
        vectors = clustered(count + QUERIES, dimension)
        vectors, queries = vectors[:count], vectors[count:]
        with tempfile.TemporaryDirectory() as folder:
            made, built = make_table(folder, vectors)
            own, exact, recalls = [], [], []
            # by turns of many, since numpy's threads go on spinning for a while
            for turn in np.array_split(queries, TURNS):
                nearest, found = [], []
                exact += [seconds(search_exactly, vectors, query, nearest) for query in turn]
                made.nearest(turn[0], TOP)
                own += [seconds(search_table, made, query, found) for query in turn]
                for expected, paths in zip(nearest, found, strict=True):
                    recalls.append(len({f"{i:08d}.jpg" for i in expected} & paths) / TOP)
            size = made.storage()["bytes"]
        middle, late = np.median(own), np.quantile(own, 0.95)
        rows.append(
            (
                f"{count:,} x {dimension}",
                f"{np.mean(recalls):.4f}",
                f"{middle / np.median(exact):.2f}x",
                f"{late / middle:.1f}x",
                f"{1000 * middle:.1f} ms",
                f"{built:.1f} s",
                f"{size / 1e6:,.0f} MB",
            )
        )
        print("   ", *rows[-1], file=sys.stderr, flush=True)
    columns = "recall@10", "exact numpy", "p95 / p50", "p50", "index built in", "on disk"
    table(f"A search for {TOP}, in the time of exact numpy", ("vectors", *columns), rows)
    size, recall, cost, spread, *_ = rows[-1]
    return [
        (f"recall@10, {size}", recall, "0.996"),
        (f"a search, {size}, in exact numpy", cost, "0.30x"),
        ("its p95, in its p50", spread, "2x"),
    ]


def search_exactly(vectors, query, answers):
    answers.append(np.argpartition(-(vectors @ query), TOP)[:TOP])


def search_table(made, query, answers):
    answers.append(dict(made.nearest(query, TOP)).keys())


def make_gallery(place, count, there):
    """Make a gallery in a folder, of so many images that are there, and vectors of others.

    Returns the Gallery and its folder of images.
    """
    (folder := place / "images").mkdir()
    write_images(folder, there)
    gallery = Gallery(place / "gallery", "imagenet")
    gallery.index(folder)
    made = ImageTable(gallery.path)
    vectors = enumerate(clustered(count - there, made.dimension))
    made.put([Row(f"v{i:07d}.jpg", 1, 1, "", 1, 1, None, vector) for i, vector in vectors])
    gallery.compact()
    return gallery, folder


def link_images(folder, count):
    """Write so many images into a folder, all but the first ones links to those."""
    write_images(folder, min(count, PHOTOGRAPHS))
    for i in range(PHOTOGRAPHS, count):
        os.link(folder / f"{i % PHOTOGRAPHS:04d}.jpg", folder / f"link{i:06d}.jpg")


def report_indexing(count=3000, repeats=3):
    """Indexing against reading, decoding, resizing and the bare network, in core-seconds."""
    models.start_tensorflow()
    cores = models.count_cores()
    from simvis.models.litert import in_litert

    with tempfile.TemporaryDirectory() as place:
        (folder := Path(place) / "images").mkdir()
        link_images(folder, count)
        network = models.load_network(graph=True)
        quick = in_litert(network)
        images = ImageFolder(folder)
        paths = list(images.files())[:PHOTOGRAPHS]
        inputs = [network.preprocess([images.load(path)[0]]) for path in paths]

        def on_all_cores(work, values):
            list(prefetch(work, values, 2 * cores, cores))

        def prepare(path):
            return network.preprocess([images.load(path)[0]])

        def run_batches(size):
            for start in range(0, len(paths), size):
                network.embed(np.concatenate(inputs[start : start + size]))

        def index():
            with tempfile.TemporaryDirectory(dir=place) as gallery:
                Gallery(gallery, network).index(folder)

        def core_seconds(work):
            before = time.process_time()
            work()
            return 1000 * (time.process_time() - before) / len(paths)

        works = [partial(on_all_cores, prepare, paths)]
        works += [partial(on_all_cores, each.embed, inputs) for each in (quick, network)]
        works += [partial(run_batches, size) for size in BATCHES]
        index()
        rounds = [(seconds(index), *map(core_seconds, works)) for _ in range(repeats)]
    indexing, reading, litert, tensorflow, *batches = map(min, zip(*rounds, strict=True))
    allowed = f"{count * (reading + litert) / 1000 / cores / indexing:.2f}"
    table(
        f"Indexing {count:,} images of 640 x 427 pixels, imagenet network, {cores} cores",
        MEASURED,
        [
            ("images per second, of what the parts allow", allowed),
            ("images per second", f"{count / indexing:.0f}"),
            ("reading, decoding and resizing, core-ms an image", f"{reading:.1f}"),
            ("the bare network in LiteRT, core-ms an image", f"{litert:.1f}"),
            ("in TensorFlow, an image at a time", f"{tensorflow:.1f}"),
            ("in TensorFlow, in batches of the best size", f"{min(batches):.1f}"),
        ],
    )
    gain = f"{tensorflow / litert:.2f}x"
    return [
        ("indexing, of what the parts allow", allowed, "0.95"),
        ("the bare network, TensorFlow's core-ms in LiteRT's", gain, "1.5x"),
    ]


def report():
    return report_indexing() + report_search()


if __name__ == "__main__":
    report()
