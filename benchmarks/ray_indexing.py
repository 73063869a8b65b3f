"""Indexing on Ray against one process, and what its parts cost: python -m benchmarks.ray_indexing

The rate on Ray is from the first block of images that is done to the last commit, without the
start, which is given apart; that of one process includes bringing its network to LiteRT.  For
docs/beyond_one_machine.md.
"""

import tempfile
import time
import tracemalloc
from functools import partial
from pathlib import Path

from benchmarks import MEASURED, seconds, table
from benchmarks.gallery import clustered, link_images, make_table
from simvis.gallery import on_ray as ray_indexing
from simvis.gallery.folder import File, ImageFolder
from simvis.gallery.gallery import Gallery, load_explained
from simvis.gallery.table import NAME, ImageTable
from simvis.models import count_cores

LOADER = partial(load_explained, "imagenet")


def report_indexing(count=1000, repeats=3):
    cores = count_cores()
    with tempfile.TemporaryDirectory() as place:
        (folder := Path(place) / "images").mkdir()
        link_images(folder, count)
        one_process, network = [], None
        for number in range(repeats):
            gallery = Gallery(Path(place) / f"local{number}", network)
            network = gallery._load(graph=True)
            network.embed(network.preprocess([ImageFolder(folder).load("0000.jpg")[0]]))
            one_process.append(count / seconds(gallery.index, folder))
        begun = time.perf_counter()
        with ray_indexing._cluster():
            started = time.perf_counter() - begun
            runs = [run_on_ray(gallery, folder, Path(place) / f"ray{i}") for i in range(repeats)]
            first, on_ray = zip(*runs, strict=True)
        storage = ImageTable(Path(place) / "ray0").storage()["bytes"] / count
    local, rate = max(one_process), max(on_ray)
    table(
        f"{count:,} images of 640 x 427 pixels, imagenet network, {cores} cores, "
        f"fastest of {repeats} rounds",
        MEASURED,
        [
            ("one process, images per second", f"{local:.1f}"),
            (f"Ray, {cores} workers, images per second", f"{rate:.1f}"),
            ("Ray, in the rate of one process", f"{rate / local:.2f}x"),
            ("Ray is imported and a local cluster started in", f"{started:.1f} s"),
            ("then the first block of images is done in", f"{min(first):.1f} s"),
            ("on disk, an image", f"{storage:,.0f} bytes"),
        ],
    )


def run_on_ray(gallery, folder, path):
    """Return the seconds until the first block is done, and images per second from then on."""
    images, done = ImageFolder(folder), []
    listed = images.files()
    identity = ImageTable(gallery.path).identity
    made = ImageTable.create(path, identity, ImageTable(gallery.path).dimension)
    begun = time.perf_counter()
    given = made, images, listed, sorted(listed), LOADER, None
    ray_indexing.index_on_ray(*given, lambda count: done.append((time.perf_counter(), count)))
    ended = time.perf_counter()
    (first, size), *_ = done
    return first - begun, (len(listed) - size) / (ended - first)


def report_costs(count=100_000, dimension=1280):
    """What grows with the gallery: the index, a search, the memory of who hands out the work."""
    tracemalloc.start()
    listed = {f"folder{i // 1000:04d}/image{i:08d}.jpg": File(60_000 + i, i) for i in range(count)}
    memory = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    del listed
    vectors, searches, indices = clustered(3 * count, dimension), [], []
    for part in (vectors[:count], vectors):
        with tempfile.TemporaryDirectory() as folder:
            made, built = make_table(folder, part)
            searches.append(search_time(made, vectors[:50]))
            files = (Path(folder) / NAME / "_indices").rglob("*")
            size = sum(file.stat().st_size for file in files) / len(part)
            if part is not vectors:
                indices = [(each, index_time(made, each)) for each in (16, 512)]
    per_image = (searches[1] - searches[0]) / (2 * count)
    table(
        f"Vectors of {dimension} numbers, {count:,} and {3 * count:,} of them",
        MEASURED,
        [
            ("merged and indexed, per million images", f"{built / len(vectors) * 1e6:,.0f} s"),
            *(
                (f"an index of {each} partitions, per million", f"{taken / count * 1e6:,.0f} s")
                for each, taken in indices
            ),
            ("the indices on disk, an image", f"{size:,.0f} bytes"),
            (f"a search among {count:,}", f"{1000 * searches[0]:.1f} ms"),
            ("more for every million images looked into", f"{per_image * 1e9:,.1f} ms"),
            ("what is known of a listed file, in memory", f"{memory:,.0f} bytes"),
        ],
    )


def search_time(made, queries):
    made.nearest(queries[0], 10)
    return sum(seconds(made.nearest, query, 10) for query in queries) / len(queries)


def index_time(made, partitions):
    options = {"metric": "l2", "num_partitions": partitions, "replace": True}
    return seconds(lambda: made.dataset.create_index("embedding", "IVF_RQ", **options))


def report():
    report_indexing()


if __name__ == "__main__":
    report()
    report_costs()
