"""Many images through a network at its full speed, by threads."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock, Semaphore
from typing import NamedTuple

import numpy as np

from simvis import image_ops
from simvis.files import one_line
from simvis.models.network import LITERT, count_cores

# Images that go through the network at once.  With two or more, the last digit of an image's
# activations depends on its place among them, and so on what else there is to do; with one, they
# depend on the image alone, in the same time.
BATCH_SIZE = 1
PREPARED = 8  # images, at the least, that are read ahead of the network
DECODED = 4  # images that are decoded at once, or as many as there are readers: some are large


class Activations(NamedTuple):
    """What a network makes of one image file."""

    conv: np.ndarray  # float32 (h, w, C), of a black image if there is an error
    embedding: np.ndarray | None  # float32 (D,), the network's own, if it is what is explained
    size: tuple | None  # (height, width) of the image
    error: str  # why it could not be read, or ""
    contents: str  # what tells the file's contents from others, or "" if there is an error


def stream_activations(paths, run, network, read, batch_size=BATCH_SIZE, readers=2):
    """Yield the `Activations` of image files, in order, while threads work on the next ones.

    ``run`` takes a batch of so many images and returns activations, and embeddings or None.
    ``read`` takes a path and returns the image, uint8 (H, W, 3), and a text that tells the file's
    contents from others, or raises a ValueError, an OSError or a MemoryError; so many readers call
    it at once, or a few more.
    """
    reading = Semaphore(max(readers, DECODED))

    def prepare(path):
        try:
            with reading:
                image, contents = read(path)
                return network.preprocess([image])[0], image.shape[:2], "", contents
        except (ValueError, OSError, MemoryError) as error:
            black = np.zeros((*network.input_size, 3), np.uint8)
            return network.preprocess([black])[0], None, one_line(error), ""

    def run_batch(batch):
        pixels, sizes, errors, contents = zip(*batch, strict=True)
        convs, embeddings = run(np.stack(pixels))
        embeddings = [None] * len(convs) if embeddings is None else embeddings
        return list(map(Activations, convs, embeddings, sizes, errors, contents))

    if network.engine == LITERT:  # a thread takes an image all the way, and waits for no other
        threads = max(count_cores(), readers)
        found = prefetch(lambda path: run_batch([prepare(path)]), paths, threads + 2, threads)
    else:
        ahead = max(PREPARED, 2 * batch_size, 2 * readers)
        prepared = prefetch(prepare, paths, ahead, readers)
        found = prefetch(run_batch, iter(lambda: list(islice(prepared, batch_size)), []), 2)
    for activations in found:
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


def image_reader(room):
    """Return `image_ops.load_image` with a memory of the last images, of so many bytes."""
    kept, lock = {}, Lock()

    def load(path):
        with lock:
            image = kept.pop(path, None)
        if image is None:
            image = image_ops.load_image(path)
        with lock:
            kept[path] = image  # the latest one comes last
            while sum(each.nbytes for each in kept.values()) > room:
                del kept[next(iter(kept))]
        return image

    return load
