"""A network that starts at once and folders of images, for what tests galleries."""

import os
import signal
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from models import EmbeddingNetwork
from simvis import image_ops


def color_network(**fields):
    """Return a network of a few lines of numpy, whose embedding is the mean colour of its cells."""

    def preprocess(images):
        return np.stack([image_ops.resize(image, (28, 28)) for image in images]).astype("f4")

    return EmbeddingNetwork(
        **{
            "name": "colors",
            "input_size": (28, 28),
            "pooling": "average",
            "projection": None,
            "preprocess": preprocess,
            "activations": lambda batch: batch.reshape(-1, 7, 4, 7, 4, 3).mean(axis=(2, 4)),
            "weights": lambda: [np.zeros(1)],
            **fields,
        }
    )


def write_images(folder, images, seed=0):
    """Write small images of random colours into a folder and folders in it."""
    rng = np.random.default_rng(seed)
    for number in range(images):
        path = folder / f"{number % 3}" / f"{seed}_{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        coarse.resize((60, 45), Image.Resampling.BICUBIC).save(path)
    return folder


def load_colors(graph=False, seconds=0, deaths=0, folder=None, **fields):
    """Return `color_network`, as Ray's workers load it.

    It takes so many seconds an image, and so many of its processes die at their tenth image, having
    left a file in the folder.
    """
    network, calls = color_network(**fields), count(1)

    def activations(batch):
        if deaths and next(calls) == 10 and len(list(Path(folder).iterdir())) < deaths:
            (Path(folder) / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        return network.activations(batch)

    return replace(network, activations=activations)
