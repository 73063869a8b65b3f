"""What a network looks at over all: how much of the maps lies on masks, or on the border."""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from simvis.batch.pipeline import stream_activations
from simvis.files import one_line
from simvis.gallery.labels import mask_paths
from simvis.gallery.results import local_of
from simvis.image_ops import region_weights

MARGIN = 0.1  # of an image, on each of its sides, that is its border


class Attention(NamedTuple):
    """Where the maps of N images lie; NaN and None where nobody looked."""

    place: str | None  # "mask" or "border", None if nobody looked at all
    shares: np.ndarray  # float64 (N,), of the positive values of the map that lie there
    areas: np.ndarray  # float64 (N,), of the image that is there
    maps: dict  # of an image's number to its float64 (h, w) map
    skipped: dict  # of a path to the reason why nobody could look

    def by_label(self, labels):
        """Return a list of (label, images, mean share, mean area), the worst first."""
        looked, found = ~np.isnan(self.shares), []
        for label in np.unique(labels[looked]):
            own = looked & (labels == label)
            means = (float(each[own].mean()) for each in (self.shares, self.areas))
            found.append((str(label), int(own.sum()), *means))
        # of masks, the labels that live from elsewhere; of borders, those that live from there
        return sorted(
            found, key=lambda each: each[2] if self.place == "mask" else each[3] - each[2]
        )


def measure(data, near, images, network, count):
    """Return the `Attention` of up to so many images, each with the nearest of its own label.

    If any image has a mask, one that was named, or NAME_mask.png beside NAME.jpg, images that have
    one are looked at, and how much of their maps lies on it; else how much lies on the border.
    A map is that of the image with the embedding of the other one, in the gallery:

        map[u] = <l[u], f> / (|sum_u l[u]| |f|)

    Parameters
    ----------
    data : findings.Labelled
    near : figures.Neighbours
    images : ImageFolder
    network : EmbeddingNetwork
    count : int
    """
    everyone, total = np.flatnonzero(near.own >= 0), len(data.paths)
    found = Attention(None, *np.full((2, total), np.nan), {}, {})
    if not count or not len(everyone):
        return found
    there, masks = images.masks(), {}
    for i in everyone:
        beside = (path for path in mask_paths(str(data.paths[i])) if path in there)
        if mask := data.masks[i] or next(beside, None):
            masks[i] = mask
    chosen = _of_all_labels(np.array([*masks] or everyone), data.labels, count)
    stream = stream_activations(
        chosen,
        lambda batch: network.run(batch),
        network,
        lambda i: (data.load(images, i), ""),
        readers=images.readers,
    )
    stream = tqdm(stream, "maps", len(chosen), unit=" images", disable=None)
    for i, (conv, _, size, error, _) in zip(chosen, stream, strict=True):
        try:
            if error:
                raise ValueError(error)
            if masks:
                weights = region_weights(images.load_mask(masks[i]), size, conv.shape[:2])
            else:
                (height, width), ends = size, np.array([MARGIN, 1 - MARGIN])
                (x0, x1), (y0, y1) = width * ends, height * ends
                weights = 1 - region_weights((x0, y0, x1, y1), size, conv.shape[:2])
            found.maps[i] = similarity = _map(network, conv, data.embeddings[near.own[i]])
        except (ValueError, OSError, MemoryError) as error:
            found.skipped[str(data.paths[i])] = one_line(error)
            continue
        positive = np.maximum(similarity, 0)
        if positive.any():
            found.shares[i] = (positive * weights).sum() / positive.sum()
            found.areas[i] = weights.mean()
    return found._replace(place="mask" if masks else "border")


def _of_all_labels(numbers, labels, count):
    """Return up to so many of the images' numbers, sorted, from each label about as many."""
    numbers = numbers[np.argsort(labels[numbers], kind="stable")]
    _, starts, sizes = np.unique(labels[numbers], return_index=True, return_counts=True)
    # 0 for the first one of each label, 1 for the second
    turns = np.arange(len(numbers)) - np.repeat(starts, sizes)
    return sorted(numbers[np.argsort(turns, kind="stable")[:count]].tolist())


def _map(network, conv, embedding):
    """Return what each place of an image adds to its similarity with an embedding of length 1."""
    local = local_of(conv, network)
    norm = np.linalg.norm(local.sum((0, 1)))
    if not norm or local.shape[2] != len(embedding):
        raise ValueError("the network sees nothing in it")
    return local @ embedding.astype(np.float64) / norm
