"""The method against the authors' loop, against reading its inputs once, and against BLAS."""

import numpy as np

from benchmarks import medians, table
from simvis.similarity_ops import compute_pairwise_similarity, compute_spatial_similarity

SIDES = (7, 14, 28)
CHANNELS = 2048
REACH = "1.5x", "1.1x", "0.5x"


def loop(conv1, conv2):
    """The authors' algorithm: each position of one image against all positions of the other."""
    local1, local2 = (
        conv.reshape(-1, CHANNELS) / np.linalg.norm(conv.mean(axis=(0, 1))) / conv[..., 0].size
        for conv in (conv1, conv2)
    )
    pairwise = np.zeros((len(local1), len(local2)))
    for position, local in enumerate(local1):
        repeated = np.tile(local, (len(local2), 1))
        pairwise[position] = (repeated * local2).sum(axis=1)
    side = conv1.shape[:2]
    return pairwise.sum(axis=1).reshape(side), pairwise.sum(axis=0).reshape(side)


def ratios(side):
    """Return the rows of both tables for maps of this side."""
    rng = np.random.default_rng(side)
    conv1, conv2 = np.maximum(rng.standard_normal((2, side, side, CHANNELS)), 0).astype(np.float32)
    flat1, flat2 = (conv.reshape(-1, CHANNELS) for conv in (conv1, conv2))

    def read():
        return conv1.sum(), conv2.sum()

    def power():
        return np.power(conv1, 2.5), np.power(conv2, 2.5)

    def maps(*arguments, **options):
        return compute_spatial_similarity(conv1, conv2, *arguments, **options)

    # The fastest of many turns: what else the machine does only ever adds to them.
    reading, average = medians(read, maps, repeats=300, pick=min)
    again, largest, whole = medians(
        read, lambda: maps("max"), lambda: maps("gem"), repeats=100, pick=min
    )
    powers, real = medians(power, lambda: maps("gem", power=2.5), repeats=20, pick=min)
    blas, pairs = medians(
        lambda: flat1 @ flat2.T, lambda: compute_pairwise_similarity(conv1, conv2), pick=min
    )
    (looped,) = medians(lambda: loop(conv1, conv2), repeats=3, pick=min)
    size = f"{side}x{side}x{CHANNELS}"
    costs = (largest / again, whole / again, real / powers, pairs / blas)
    first = (size, f"{looped / average:.0f}x", f"{average / reading:.2f}x")
    return first, (size, *(f"{cost:.2f}x" for cost in costs))


def report():
    rows, poolings = zip(*map(ratios, SIDES), strict=True)
    table(
        "compute_spatial_similarity, average pooling, float32",
        ("activations", "faster than the loop", "cost, in readings of both arrays"),
        rows,
    )
    table(
        "The other poolings and the pairwise tensor, float32",
        (
            "activations",
            "max, in readings",
            "GeM p=3, in readings",
            "GeM p=2.5, in np.power calls",
            "pairwise, in matrix products",
        ),
        poolings,
    )
    costs = [(row[0], row[2], reach) for row, reach in zip(rows, REACH, strict=True)]
    costs.append((f"GeM p=3, {poolings[0][0]}", poolings[0][2], "8x"))
    return [(f"maps, {size}, in readings", *cost) for size, *cost in costs]
