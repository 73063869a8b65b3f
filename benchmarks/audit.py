"""An audit, which asks with all images for all, in matrix products: python -m benchmarks.audit"""

from functools import partial

import numpy as np

from benchmarks import medians, table
from benchmarks.gallery import clustered
from simvis.gallery.figures import BLOCK, find_neighbours

IMAGES, OF_LABEL = 20_000, 20


def multiply_all(vectors):
    """Multiply all vectors by all, in the blocks that an audit takes."""
    step = BLOCK // len(vectors)
    for start in range(0, len(vectors), step):
        vectors[start : start + step] @ vectors.T


def labelled(count, dimension):
    """Return vectors and their labels, which say nothing of them, float32 (N, D) and int (N,)."""
    labels = np.arange(count) // OF_LABEL
    return clustered(count, dimension), np.random.default_rng(0).permutation(labels)


def report(repeats=3):
    rows = []
    for dimension in (128, 1280):
        vectors, labels = labelled(IMAGES, dimension)
        products, audit = medians(
            partial(multiply_all, vectors),
            partial(find_neighbours, vectors, labels),
            repeats=repeats,
        )
        rows.append((f"{IMAGES:,} x {dimension}", f"{audit / products:.2f}x", f"{audit:.1f} s"))
    table("An audit, all images against all", ("vectors", "matrix products", "takes"), rows)
    size, cost, _ = rows[-1]
    return [(f"an audit, {size}, in matrix products", cost, "1.2x")]


if __name__ == "__main__":
    report()
