"""What the maps of any network are worth on any photographs, measured without masks.

Pairs that the network holds alike, of one label if there are labels, are explained; the first image
of each is covered, pasted into, and shown to another partner and to a network drawn anew.
"""

import time
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from evaluation.faithfulness import blur, drawn_anew
from evaluation.measures import (
    area_under,
    covering_steps,
    mass_on,
    rank_correlation,
    rank_of_first,
    sum_by_object,
)
from evaluation.rivals import blob, cosines
from evaluation.tables import figure
from simvis import image_ops
from simvis.files import one_line
from simvis.maps import Method, find_maps
from simvis.models import stride_of
from simvis.models.contributions import pooled
from simvis.models.network import grey_batch

OWN, STRIDES = "own grid", {"stride 16": 16, "stride 8": 8, "stride 4": 4}
ABOUT, SUMS, COVERING, BETTER, GRAINS, CHECKS, REFUSED = (
    *("The network", "Maps and the network's cosine", "Covering", "Covering: better than"),
    *("Maps of both grains", "Checks", "Not measured"),
)
PATCHES, STEPS = 14, 10  # a side, and of an image that is covered by and by
PASTED = 1 / 3  # of the sides of a photograph
MOST, LEAST, SECONDS, RUNS = 24, 4, 300, 330  # pairs, what all may take, and runs for each of them
REDRAWN = 8  # pairs
SHARES = {"later half of layers redrawn": 0.5, "all layers redrawn": 1.0}
AT_ONCE = 32 * 224 * 224  # pixels in the network


class Pair(NamedTuple):
    """Numbers of images: one, what it is alike, what it is not, and what is pasted into it."""

    image: int
    alike: int
    other: int
    pasted: int


class Examined(NamedTuple):
    """What was measured.

    tables : dict of titles to cells, see `evaluation.tables`; what is impossible is a text
    pairs, images : how many pairs were measured, and images the network sees something in
    example : (image, maps) of the first pair, uint8 (H, W, 3), and a dict of grains to (h, w)
    """

    tables: dict
    pairs: int
    images: int
    example: tuple


def examine(network, images, labels=None, pairs=None, redrawn=None, seed=0):
    """Measure what a network's maps are worth on photographs, and return `Examined`.

    Parameters
    ----------
    network : EmbeddingNetwork
    images : sequence of paths, or uint8 (H, W, 3) arrays
    labels : None, or as many texts; without them an image is alike its nearest one
    pairs : None for as many as go into some minutes, or the most that are wanted
    redrawn : None, or a function of the share of its layers, the last ones, that are drawn anew,
        which returns the network that it makes
    seed : int, of the choice of pairs and of all that is random

    A ValueError says what is missing if there are not images enough, or no pair of both kinds.
    """
    rng = np.random.default_rng(seed)
    embeddings, seen, seconds = look(network, images)
    labels = labels and np.array([labels[number] for number in seen])
    if pairs is None:
        pairs = int(np.clip(SECONDS / (RUNS * seconds), LEAST, MOST))
    similarities = cosines(embeddings, embeddings)
    chosen = choose(similarities, labels, pairs, rng)
    measured = Measured(network, [p.image if labels is None else labels[p.image] for p in chosen])
    for pair in tqdm(chosen, unit=" pairs", disable=None):
        measured.measure(*(image_ops.as_image(images[seen[number]]) for number in pair), rng)
    measured.measure_places()
    for row, share in SHARES.items():
        measured.measure_redrawn(row, redrawn and partial(redrawn, share))
    for pair in chosen:
        measured.add(ABOUT, "cosine of those alike", OWN, similarities[pair.image, pair.alike])
        measured.add(ABOUT, "cosine of others", OWN, similarities[pair.image, pair.other])
    tables = measured.tables()
    tables[ABOUT].update(recall(similarities, labels))
    image, _alike, maps = measured.seen[0]
    return Examined(tables, len(chosen), len(seen), (image, maps))


def look(network, images):
    """Return embeddings (n, D), which of the images they are of, and the seconds of a run.

    Left out is what cannot be read, and in what the network sees nothing.
    """
    found, seen, seconds = [], [], []
    for number, image in enumerate(tqdm(images, unit=" images", disable=None)):
        try:
            batch = network.preprocess([image_ops.as_image(image)])
        except (ValueError, OSError, MemoryError):
            continue
        began = time.monotonic()
        (embedding,) = run(network, batch)
        seconds.append(time.monotonic() - began)
        if np.isfinite(embedding).all() and embedding.any():
            found.append(embedding)
            seen.append(number)
    if len(seen) < 4:
        raise ValueError(f"images: expected 4 in which the network sees something, got {len(seen)}")
    return np.stack(found), seen, float(np.median(seconds))


def choose(similarities, labels, count, rng):
    """Return up to so many `Pair`s, each of another first image, drawn at random."""
    numbers, chosen = np.arange(len(similarities)), []
    for image in rng.permutation(numbers):
        rest = numbers != image
        if labels is None:
            alike = np.where(rest, similarities[image], -np.inf).argmax()
            others = numbers[rest & (numbers != alike)]
        else:
            partners = numbers[rest & (labels == labels[image])]
            others = numbers[labels != labels[image]]
            if len(partners) == 0 or len(others) < 2:
                continue
            alike = rng.choice(partners)
        chosen.append(Pair(*map(int, (image, alike, *rng.choice(others, 2, replace=False)))))
    if not chosen:
        raise ValueError("labels: expected two images of one label, and two of others")
    return chosen[:count]


def recall(similarities, labels):
    """Return the cells that say for how many images the nearest other one has their label."""
    if labels is None:
        return {("recall@1", OWN): "no labels were given"}
    itself = np.eye(len(labels), dtype=bool)
    relevant = (labels[:, None] == labels) & ~itself
    asked = relevant.any(axis=1)
    ranks = rank_of_first(np.where(itself, -np.inf, similarities)[asked], relevant[asked])
    found = {"recall@1": ranks == 0, "by chance": relevant[asked].sum(1) / (len(labels) - 1)}
    return {(row, OWN): figure(np.mean, labels[asked], values) for row, values in found.items()}


class Measured:
    """What is measured of pairs, one after the other.

    network : EmbeddingNetwork
    rooms : what intervals are drawn over, for each pair
    refused : dict of what is impossible to why
    grains : dict of the grains that are measured to their strides
    seen : list of (image, alike, maps) of each pair, maps being those of image by grains
    """

    def __init__(self, network, rooms):
        self.network, self.rooms = network, rooms
        self.values, self.refused, self.grains, self.seen = {}, {}, {OWN: None}, []
        self.slopes_at = cache(partial(slopes_at, network))

    def add(self, title, row, column, value):
        """Append a pair's value to what a cell is the mean of."""
        self.values.setdefault(title, {}).setdefault((row, column), []).append(float(value))

    def attempt(self, what, function, *arguments):
        """Return what a function does; None if it raises a ValueError, and ever after."""
        if what not in self.refused:
            try:
                return function(*arguments)
            except ValueError as error:
                self.refused[what] = one_line(error)
        return None

    def maps(self, image, other, stride=None, network=None):
        return find_maps((image, other), network or self.network, Method(stride=stride), ("", ""))

    def again(self, what, maps, image, other, network=None):
        """Yield each grain, its map, and what that is with something changed, where it is known."""
        for grain, before in maps.items():
            arguments = image, other, self.grains[grain], network
            after = self.attempt(f"{what}, {grain}", self.maps, *arguments)
            if after is not None:
                yield grain, before, after.similarity1

    def measure(self, image, alike, other, pasted, rng):
        """Measure a pair, uint8 (H, W, 3) images, with another partner and a third image."""
        found = {OWN: self.maps(image, alike)}
        own, size = found[OWN].similarity1, self.network.input_size
        own_stride = stride_of(size, own.shape)
        for grain, stride in STRIDES.items():
            if stride >= own_stride:
                self.refused[grain] = f"the own grid has {own_stride} pixels a cell"
            fine = self.attempt(grain, self.maps, image, alike, stride)
            if fine is not None:
                found[grain] = fine
                same = rank_correlation(regrid(fine.similarity1, size, own.shape), own)
                self.add(GRAINS, "as the own grid", grain, same)
        for grain, maps in found.items():
            if maps.network_similarity is not None:
                gap = abs(np.subtract(maps.sums, maps.network_similarity)).max()
                self.add(SUMS, "largest gap", grain, gap)
        if not self.seen and len(found) > 1:
            fine = min(list(found)[1:], key=lambda grain: abs(STRIDES[grain] - 8))
            self.grains[fine] = STRIDES[fine]
        maps = {grain: found[grain].similarity1 for grain in self.grains if grain in found}
        self.cover(image, alike, maps, rng)
        for grain, before, after in self.again("another partner", maps, image, other):
            self.add(CHECKS, "kept with another partner", grain, kept(before, after))
        self.paste(image, alike, pasted, maps)
        self.seen.append((image, alike, maps))

    def cover(self, image, alike, maps, rng):
        """Blur patches, those that an explanation puts first at first, and watch the cosine.

        *Deletion* is its area meanwhile (low is good), *insertion* that while these are made sharp
        again in the blurred image (high is good), as in RISE.
        """
        network, size = self.network, self.network.input_size
        batch, grid = network.preprocess([image, alike]), [min(PATCHES, n) for n in size]
        target, sharp = run(network, batch[1:])[0], image_ops.resize(image, size)
        blurred = blur(sharp.astype(np.float32)).round().astype(np.uint8)
        orders = {f"maps, {grain}": similarity for grain, similarity in maps.items()}
        for grain in maps:
            name, arguments = f"Grad-CAM, {grain}", (self.grains[grain], batch[:1], target)
            orders[name] = self.attempt(name, self.grad_cam, *arguments)
        name = "integrated gradients"
        orders[name] = self.attempt(name, self.integrated_gradients, batch[:1], target)
        orders |= {"blob": blob(grid), "random": rng.random(grid)}
        down, across = (np.arange(n) * cells // n for n, cells in zip(size, grid, strict=True))

        def watch(covered):
            at_once, found = max(1, AT_ONCE // (size[0] * size[1])), []
            for start in range(0, len(covered), at_once):
                pixels = covered[start : start + at_once].reshape(-1, *grid)[:, down][:, :, across]
                images = list(np.where(pixels[..., None], blurred, sharp))
                found.append(run(network, network.preprocess(images)))
            return cosines(np.concatenate(found), target[None])[:, 0]

        for name, values in orders.items():
            if values is not None:
                covered = covering_steps(regrid(values, size, grid), STEPS)
                self.add(COVERING, name, "deletion", area_under(watch(covered)))
                self.add(COVERING, name, "insertion", area_under(watch(~covered)))

    def grad_cam(self, stride, batch, target):
        """Return Grad-CAM of the cosine at a layer, float64 (h, w) >= 0, see `rivals.grad_cam`."""
        front, slopes, to_map = self.slopes_at(stride)
        points, *others = front(batch)
        slope = slopes(points, target, others)
        weights = slope.mean(tuple(range(1, slope.ndim - 1)), keepdims=True)
        values = (points * weights).sum(-1).clip(0).astype(np.float64)
        return (to_map(values)[0] if to_map else values)[0]

    def integrated_gradients(self, batch, target, steps=16):
        """Return those of the pixels from grey, float64 (H, W), see `rivals`."""
        front, slopes, _to_map = self.slopes_at(1)
        grey, total = grey_batch(self.network.preprocess, self.network.input_size), 0
        for step in (np.arange(steps, dtype=np.float32) + 0.5) / steps:
            points, *others = front(grey + step * (batch - grey))
            total += slopes(points, target, others)[0]
        return (total / steps * (batch - grey)[0]).sum(-1).astype(np.float64)

    def paste(self, image, alike, pasted, maps):
        """Paste a photograph into a corner, the next one each time, and see what goes there."""
        bottom, right = divmod(len(self.seen) % 4, 2)
        height, width = (max(1, round(side * PASTED)) for side in image.shape[:2])
        top, left = bottom * (image.shape[0] - height), right * (image.shape[1] - width)
        there, changed = np.zeros(image.shape[:2], int), image.copy()
        changed[top : top + height, left : left + width] = image_ops.resize(pasted, (height, width))
        there[top : top + height, left : left + width] = 1
        for grain, before, after in self.again("a paste", maps, changed, alike):
            for row, similarity in (("corner", before), ("corner with a paste", after)):
                lift = mass_on(similarity, there) / there.mean()
                self.add(CHECKS, f"lift on a {row}", grain, lift)
            self.add(CHECKS, "cosine that the paste adds", grain, sum_by_object(after, there, 2)[1])
            self.add(CHECKS, "cosine that pasting changes", grain, after.sum() - before.sum())

    def measure_places(self):
        """Measure how far the maps of other photographs tell where that of one lies."""
        if len(self.seen) < 3:
            self.refused["same in other photographs"] = "it takes three pairs"
            return
        size, grid = self.network.input_size, self.seen[0][2][OWN].shape
        for grain in self.grains:
            found = [maps[grain] for *_, maps in self.seen if grain in maps]
            maps = np.stack([regrid(each, size, grid).ravel() for each in found])
            maps = maps - maps.mean(1, keepdims=True)
            maps /= np.linalg.norm(maps, axis=1, keepdims=True) + 1e-12
            for one, rest in zip(maps, maps.sum(0) - maps, strict=True):
                self.add(CHECKS, "same in other photographs", grain, rank_correlation(one, rest))

    def measure_redrawn(self, row, load):
        """Measure how far a network with layers drawn anew makes the same maps."""
        if load is None:
            self.refused[row] = "its weights are not known"
        network = self.attempt(row, load)
        for image, alike, maps in self.seen[:REDRAWN] if network else ():
            for grain, before, after in self.again(row, maps, image, alike, network):
                self.add(CHECKS, f"same with {row}", grain, rank_correlation(before, after))

    def tables(self):
        """Return the tables: means, largest gaps, and of pairs how much better the maps are."""
        covering, better = self.values[COVERING], {}
        for (name, column), values in covering.items():
            for (rival, of_column), theirs in covering.items():
                comparable = column == of_column and len(theirs) == len(values)
                if name.startswith("maps") and name != rival and comparable:
                    sign = -1 if column == "deletion" else 1
                    better[f"{name}: {rival}", column] = sign * np.subtract(values, theirs)
        tables = {title: {} for title in (ABOUT, SUMS, COVERING, BETTER, GRAINS, CHECKS)}
        for title, cells in (self.values | {BETTER: better}).items():
            statistic = np.max if title == SUMS else np.mean
            for place, values in cells.items():
                tables[title][place] = figure(statistic, self.rooms[: len(values)], values)
        return tables | {REFUSED: {(what, "why"): why for what, why in self.refused.items()}}


def slopes_at(network, stride):
    """Return what leads to a layer, what differentiates the cosine there, what makes maps of it.

    The second is a function of activations (B, *positions, C), another embedding (D,) and all else
    that the layer's `front` puts out.
    """
    if stride is None and not network.derived:
        front, make, to_map = (lambda batch: [network.activations(batch)]), tf.identity, None
    elif not hasattr(network.contributions, "layer"):
        raise ValueError("its gradients are not known")
    else:
        layer = network.contributions.layer(stride)

        def given_no_scales(*given):
            return layer.tail(*given, scales={})

        make = given_no_scales if layer.proportional else layer.tail
        front, to_map = layer.front, layer.to_map
    weights = ()
    if not network.derived:
        head = network.projection if network.explain == "head" else None
        make = pooled(make, network.pooling, network.power, head)
        (conv,) = network.activations(grey_batch(network.preprocess, network.input_size))
        weights = (np.ones(conv[..., 0].size, np.float32),)

    @tf.function(autograph=False)
    def differentiate(points, target, others):
        with tf.GradientTape() as tape:
            tape.watch(points)
            embeddings = tf.math.l2_normalize(make(points, *others), 1, 1e-20)  # 0 of 0
            similarities = embeddings @ target
        return tape.gradient(similarities, points, unconnected_gradients="zero")

    def slopes(points, target, others):
        unit = tf.constant(target[:, None] / np.linalg.norm(target), tf.float32)
        others = tuple(tf.constant(each) for each in (*weights, *others))
        return differentiate(tf.constant(points), unit, others).numpy()

    return front, slopes, to_map


def kept(before, after):
    """Return how far a map is still there: the rank correlation, times how large it is, up to 1.

    >>> kept(np.array([[1.0, 2.0]]), np.array([[0.25, 0.5]])), kept(np.eye(2), 2 * np.eye(2))
    (0.25, 1.0)
    """
    size = np.linalg.norm(after) / np.linalg.norm(before)
    return rank_correlation(before, after) * float(min(1, size))


def run(network, batch):
    """Return the embeddings of a batch that are explained, float64 (N, D)."""
    return np.asarray(network.run(batch, need="embeddings")[1], np.float64)


def regrid(similarity, size, grid):
    """Return a map, interpolated to pixels of this size, as the mean in each cell of a grid.

    >>> regrid([[0.0, 1.0]], (2, 8), (1, 4)).round(3)
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    pixels = image_ops.upsample_map(similarity, size)
    for axis, (side, cells) in enumerate(zip(size, grid, strict=True)):
        starts = -(-np.arange(cells + 1) * side // cells)
        counts = np.diff(starts).reshape((-1, 1) if axis == 0 else (1, -1))
        pixels = np.add.reduceat(pixels, starts[:-1], axis) / counts
    return pixels


def redraw(share, arrays, seed=0):
    """Return a list of arrays with its later share drawn anew, see `drawn_anew`.  Integers stay.

    >>> [each.tolist() for each in redraw(0.5, [np.ones((1, 1)), np.full((2, 1), 3.0)])]
    [[[1.0]], [[3.0], [3.0]]]
    """
    rng, first = np.random.default_rng(seed), round(len(arrays) * (1 - share))
    later = [
        drawn_anew(array, rng) if array.ndim and np.issubdtype(array.dtype, np.floating) else array
        for array in arrays[first:]
    ]
    return [*arrays[:first], *later]
