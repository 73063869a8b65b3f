"""The method against the authors' loop, against reading its inputs once, and against BLAS."""

import numpy as np

from benchmarks import medians, table
from simvis.similarity_ops import compute_pairwise_similarity, compute_spatial_similarity

SIDES = (7, 14, 28)
CHANNELS = 2048


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


def report():
    rows, poolings = [], []
    for side in SIDES:
        rng = np.random.default_rng(side)
        conv1, conv2 = np.maximum(rng.standard_normal((2, side, side, CHANNELS)), 0)
        conv1, conv2 = conv1.astype(np.float32), conv2.astype(np.float32)

        def read(conv1=conv1, conv2=conv2):
            return conv1.sum(), conv2.sum()

        def maps(*arguments, conv1=conv1, conv2=conv2, **options):
            return compute_spatial_similarity(conv1, conv2, *arguments, **options)

        def power(conv1=conv1, conv2=conv2):
            return np.power(conv1, 2.5), np.power(conv2, 2.5)

        def pairwise(conv1=conv1, conv2=conv2):
            return compute_pairwise_similarity(conv1, conv2)

        def product(conv1=conv1, conv2=conv2):
            return conv1.reshape(-1, CHANNELS) @ conv2.reshape(-1, CHANNELS).T

        reading, average = medians(read, maps, repeats=200)
        read_again, maximum, whole = medians(
            read, lambda: maps("max"), lambda: maps("gem"), repeats=50
        )
        powers, real = medians(power, lambda: maps("gem", power=2.5), repeats=10)
        blas, pairs = medians(product, pairwise)
        (looped,) = medians(lambda c1=conv1, c2=conv2: loop(c1, c2), repeats=3)
        size = f"{side}x{side}x{CHANNELS}"
        rows.append((size, f"{looped / average:.0f}x", f"{average / reading:.2f}x"))
        poolings.append(
            (
                size,
                f"{maximum / read_again:.1f}x",
                f"{whole / read_again:.1f}x",
                f"{real / powers:.2f}x",
                f"{pairs / blas:.2f}x",
            )
        )
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
