"""Many images through a network at its full speed: decoded ahead of it, in batches, by threads."""

import os
from collections import Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import NamedTuple

import numpy as np

from simvis import image_ops
from simvis.files import fingerprint

# Images that go through the network at once.  With two or more, the last digit of an image's
# activations depends on its place among them, and so on what else there is to do; with one, they
# depend on the image alone, in the same time.
BATCH_SIZE = 1
PREPARED = 8  # images, at the least, that are read ahead of the network


class Activations(NamedTuple):
    """What a network makes of one image file."""

    conv: np.ndarray  # float32 (h, w, C), of a black image if there is an error
    embedding: np.ndarray | None  # float32 (D,), the network's own, if it is what is explained
    size: tuple | None  # (height, width) of the image
    error: str  # why it could not be read, or ""
    contents: str  # what tells the file's contents from others, or "" if there is an error


def stream_activations(paths, run, network, read, batch_size=BATCH_SIZE, readers=2):
    """Yield the activations of image files, in order, reading ahead of the network.

    Parameters
    ----------
    paths : iterable of str
    run : function of a batch that returns activations, and embeddings or None
    network : EmbeddingNetwork
    read : function of a path that returns the image, uint8 (H, W, 3), and a text that tells the
        file's contents from others; it may raise a ValueError, an OSError or a MemoryError
    batch_size : int, how many images go through the network at once
    readers : int, how many threads read

    Yields
    ------
    activations : Activations
    """

    def prepare(path):
        try:
            image, contents = read(path)
            return network.preprocess([image])[0], image.shape[:2], "", contents
        except (ValueError, OSError, MemoryError) as error:
            pixels = np.zeros((*network.input_size, 3), np.float32)
            return pixels, None, str(error) or "there is not enough memory for it", ""

    def run_batch(batch):
        pixels, sizes, errors, contents = zip(*batch, strict=True)
        convs, embeddings = run(np.stack(pixels))
        embeddings = [None] * len(convs) if embeddings is None else embeddings
        return list(map(Activations, convs, embeddings, sizes, errors, contents))

    prepared = prefetch(prepare, paths, max(PREPARED, 2 * batch_size, 2 * readers), readers)
    batches = iter(lambda: list(islice(prepared, batch_size)), [])
    for activations in prefetch(run_batch, batches, 2):
        yield from activations


def prefetch(function, values, count, threads=2):
    """Yield function(value) of each value, in order, while threads work on the next ones.

    Examples
    --------
    >>> list(prefetch(abs, [-1, 2, -3], count=2))
    [1, 2, 3]
    """
    waiting = deque()
    with ThreadPoolExecutor(threads) as pool:
        for value in values:
            waiting.append(pool.submit(function, value))
            if len(waiting) == count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class Images:
    """Decoded images, kept until they were taken as often as they are wanted, if there is room.

    Parameters
    ----------
    room : int, bytes of the images that are kept
    wanted : iterable of str, the paths that will be taken, each as often as it will be
    """

    def __init__(self, room, wanted):
        self.kept, self.bytes, self.room, self.lock = OrderedDict(), 0, room, Lock()
        self.wanted = Counter(wanted)

    def load(self, path):
        """Return an image, uint8 (H, W, 3)."""
        with self.lock:
            if path in self.kept:
                self.kept.move_to_end(path)
                return self.kept[path]
        image = image_ops.load_image(path)
        with self.lock:
            if path not in self.kept:
                self.kept[path] = image
                self.bytes += image.nbytes
            while self.bytes > self.room:
                self._drop(next(iter(self.kept)))
        return image

    def load_with_fingerprint(self, path):
        """Return an image, and the fingerprint that its file had before it was read."""
        contents = fingerprint(path) if os.path.isfile(path) else ""
        return self.load(path), contents

    def take(self, path):
        """Return an image that is wanted once less from now on."""
        image = self.load(path)
        with self.lock:
            self.wanted[path] -= 1
            if not self.wanted[path] and path in self.kept:
                self._drop(path)
        return image

    def _drop(self, path):
        self.bytes -= self.kept.pop(path).nbytes
