"""What the maps of anyone's network are worth on anyone's photographs, without any masks.

Pairs of photographs that the network holds alike, of one label if there are labels, are measured;
each first image is covered, pasted into, and compared with other partners.  What cannot be measured
of a network says why instead.
"""

import time
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from evaluation import measures, rivals
from evaluation.faithfulness import blur
from evaluation.tables import figure
from simvis import image_ops
from simvis.files import one_line
from simvis.maps import Method, find_maps
from simvis.models import stride_of
from simvis.models.contributions import pooled

OWN, STRIDES = "own grid", {16: "stride 16", 8: "stride 8", 4: "stride 4"}
SUMS, COVERING, GRAINS, CHECKS, ABOUT = (
    *("Sums", "Covering, 14x14 patches", "Agreement with the own grid", "Checks", "The network"),
)
PATCHES, STEPS = 14, 10  # a side, and of an image that is covered by and by
PASTED = 1 / 3  # of the sides of a photograph
MOST_PAIRS, LEAST_PAIRS, SECONDS, RUNS = 24, 4, 300, 330  # of a pair, nearly all of the work
MOST_REDRAWN = 8  # pairs
AT_ONCE = 32 * 224 * 224  # pixels in the network
SHARES = {0.5: "later half of the layers", 1.0: "all layers"}  # that are drawn anew


class Pair(NamedTuple):
    """Numbers of images: one, one that it is alike, another one, and one to paste from."""

    image: int
    alike: int
    other: int
    pasted: int


class Examined(NamedTuple):
    """Tables by their titles, see `evaluation.tables`, with a text for what is impossible."""

    tables: dict
    pairs: list  # of Pair
    images: int  # that the network sees something in
    example: list  # of uint8 (H, W, 3) images and, by grains, maps of the first pair


def examine(network, images, labels=None, pairs=None, redrawn=None, seed=0):
    """Measure what a network's maps are worth on photographs.

    Parameters
    ----------
    network : EmbeddingNetwork
    images : sequence of paths, or uint8 (H, W, 3) arrays
    labels : None, or as many texts; without them, the nearest of the others is alike
    pairs : None for as many as go into some minutes, or how many
    redrawn : None, or a function of a share of its layers, the last ones, that returns the network
        with the weights of these drawn anew
    seed : int, of the choice of pairs and of all that is random

    Returns
    -------
    examined : Examined

    A ValueError says what is missing if there are no pairs of both kinds.
    """
    rng = np.random.default_rng(seed)
    embeddings, labels, seen, seconds = look(network, images, labels)
    if pairs is None:
        pairs = int(np.clip(SECONDS / (RUNS * seconds), LEAST_PAIRS, MOST_PAIRS))
    similarities = rivals.cosines(embeddings, embeddings)
    chosen = choose(similarities, labels, pairs, rng)
    rooms = [f"{pair.image}" if labels is None else labels[pair.image] for pair in chosen]
    card = Card(network, rooms)
    for pair in tqdm(chosen, unit=" pairs", disable=None):
        card.measure(*(image_ops.as_image(images[seen[i]]) for i in pair), rng)
    card.measure_places()
    for share, words in SHARES.items():
        card.measure_redrawn(words, redrawn and partial(redrawn, share))
    card.add(ABOUT, "cosine, alike", OWN, [similarities[p.image, p.alike] for p in chosen])
    card.add(ABOUT, "cosine, others", OWN, [similarities[p.image, p.other] for p in chosen])
    card.tables[ABOUT].update(recall(similarities, labels))
    return Examined(card.finished(), chosen, len(seen), card.example)


def look(network, images, labels):
    """Return the embeddings (n, D), labels and numbers of images that the network sees something in.

    And the seconds of a run of one image.  What cannot be read is left out.
    """
    found, seen, seconds = [], [], []
    for number, image in enumerate(tqdm(images, unit=" images", disable=None)):
        try:
            batch = network.preprocess([image_ops.as_image(image)])
        except (ValueError, OSError, MemoryError):
            continue
        began = time.monotonic()
        embedding = run(network, batch)[0]
        seconds.append(time.monotonic() - began)
        if np.isfinite(embedding).all() and embedding.any():
            found.append(embedding)
            seen.append(number)
    if len(seen) < 4:
        raise ValueError(f"images: expected 4 or more that the network sees, got {len(seen)}")
    labels = labels and [labels[number] for number in seen]
    return np.stack(found), labels, seen, float(np.median(seconds))


def choose(similarities, labels, count, rng):
    """Return so many `Pair`s at the most, of images drawn at random, and each of them once."""
    numbers, chosen = np.arange(len(similarities)), []
    for image in rng.permutation(numbers):
        if labels is None:
            alike = np.argmax(np.where(numbers == image, -np.inf, similarities[image]))
            others = numbers[(numbers != image) & (numbers != alike)]
        else:
            same = np.array(labels) == labels[image]
            partners, others = numbers[same & (numbers != image)], numbers[~same]
            if not len(partners) or len(others) < 2:
                continue
            alike = rng.choice(partners)
        chosen.append(Pair(image, alike, *rng.choice(others, 2, replace=False)))
    if not chosen:
        raise ValueError("labels: expected two images of one label, and two of others")
    return [Pair(*map(int, pair)) for pair in chosen[:count]]


def recall(similarities, labels):
    """Return the cells of the share of images whose nearest other one has their label."""
    if labels is None:
        return {("recall@1", OWN): "no labels were given"}
    relevant = (np.array(labels)[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
    asked = relevant.any(axis=1)
    others = np.where(np.eye(len(labels), dtype=bool), -np.inf, similarities)
    first = measures.rank_of_first(others[asked], relevant[asked]) == 0
    chance = relevant[asked].sum(axis=1) / (len(labels) - 1)
    rooms = np.array(labels)[asked]
    cells = {"recall@1": first, "recall@1 by chance": chance}
    return {(row, OWN): figure(np.mean, rooms, values) for row, values in cells.items()}


class Card:
    """What is measured of the pairs, one after the other.

    network : EmbeddingNetwork
    rooms : sequence of str, what intervals are drawn over, for each pair
    """

    def __init__(self, network, rooms):
        self.network, self.rooms = network, rooms
        self.tables = {title: {} for title in (SUMS, COVERING, GRAINS, CHECKS, ABOUT)}
        self.refused, self.gradients, self.maps, self.example = {}, {}, [], []
        self.fine = None  # of STRIDES

    def add(self, title, row, column, values):
        """Append values, of one pair or of all, to what a cell is the mean of."""
        self.tables[title].setdefault((row, column), []).extend(np.ravel(values))

    def attempt(self, what, function, *arguments):
        """Return what a function does, or None, now and later, if it raises a ValueError."""
        if what not in self.refused:
            try:
                return function(*arguments)
            except ValueError as error:
                self.refused[what] = one_line(error)
        return None

    def map_of(self, image, other, stride=None, network=None):
        return find_maps((image, other), network or self.network, Method(stride=stride), ("", ""))

    def both(self, image, other):
        """Yield each grain, and the map of an image there, for the own grid and the fine one."""
        yield OWN, self.map_of(image, other).similarity1
        if self.fine:
            yield STRIDES[self.fine], self.map_of(image, other, self.fine).similarity1

    def measure(self, image, alike, other, pasted, rng):
        """Measure one pair, uint8 (H, W, 3) images, against another partner, and with a paste."""
        found = {OWN: self.map_of(image, alike)}
        own = stride_of(self.network.input_size, found[OWN].similarity1.shape)
        for stride, grain in STRIDES.items():
            if stride < own:
                fine = self.attempt(grain, self.map_of, image, alike, stride)
                if fine is not None:
                    found[grain] = fine
            else:
                self.refused[grain] = f"the own grid has {own} pixels to a cell"
        if not self.maps:
            self.fine = next((s for s in (8, 16, 4) if STRIDES[s] in found), None)
            self.example = [image, alike, found]
        maps = {grain: each.similarity1 for grain, each in found.items()}
        for grain, each in found.items():
            own = each.network_similarity
            if own is None:
                self.refused[f"sum, {grain}"] = "it puts out nothing to compare with"
            else:
                self.add(SUMS, "largest gap", grain, abs(np.subtract(each.sums, own)).max())
            if grain != OWN:
                coarse = regrid(each.similarity1, self.network.input_size, maps[OWN].shape)
                same = measures.rank_correlation(coarse.ravel(), maps[OWN].ravel())
                self.add(GRAINS, grain, OWN, same)
        self.cover(image, alike, maps, rng)
        for grain, with_other in self.both(image, other):
            same = measures.rank_correlation(maps[grain].ravel(), with_other.ravel())
            self.add(CHECKS, "same with another partner", grain, same)
        self.paste(image, alike, pasted, maps, found[OWN].similarity)
        self.maps.append((image, alike, {OWN: maps[OWN]} | self._finest(maps)))

    def _finest(self, maps):
        return {STRIDES[self.fine]: maps[STRIDES[self.fine]]} if self.fine else {}

    def cover(self, image, alike, maps, rng):
        """Blur patches in the order of each explanation, from its highest on, and watch the cosine.

        *Deletion* is the area under the cosine meanwhile (low is good), *insertion* that while
        these are made sharp again in the blurred image (high is good), as in RISE.
        """
        network, size = self.network, self.network.input_size
        batch, other = (network.preprocess([each]) for each in (image, alike))
        target, grid = run(network, other)[0], tuple(min(PATCHES, side) for side in size)
        fine = "stride {}".format(self.fine)
        ordered = {f"maps, {grain}": maps[grain] for grain in (OWN, fine) if grain in maps}
        for grain, stride in ((OWN, None), (fine, self.fine)):
            if stride or grain == OWN:
                ordered[f"Grad-CAM, {grain}"] = self.attempt(
                    f"Grad-CAM, {grain}", self.grad_cam, stride, batch, target
                )
        ordered["integrated gradients"] = self.attempt(
            "integrated gradients", self.integrated_gradients, batch, target
        )
        ordered |= {"blob": rivals.blob(grid), "random": rng.random(grid)}
        sharp, blurred = batch[0], blur(batch[0])
        down, across = (np.arange(n) * cells // n for n, cells in zip(size, grid, strict=True))
        ends = rivals.cosines(run(network, np.stack([sharp, blurred])), target[None])[:, 0]
        areas = {}
        for name, values in ordered.items():
            if values is None:
                continue
            steps = measures.covering_steps(regrid(values, size, grid), STEPS)[1:-1]
            covered = np.concatenate([steps, ~steps]).reshape(-1, *grid)[:, down][:, :, across]
            at_once, found = max(1, AT_ONCE // (size[0] * size[1])), []
            for start in range(0, len(covered), at_once):
                where = covered[start : start + at_once, ..., None]
                found.append(run(network, np.where(where, blurred, sharp)))
            cosines = rivals.cosines(np.concatenate(found), target[None])[:, 0]
            curves = np.split(cosines, 2)
            areas[name] = [
                measures.area_under([ends[first], *curve, ends[1 - first]])
                for first, curve in enumerate(curves)
            ]
        for name, (deletion, insertion) in areas.items():
            self.add(COVERING, name, "deletion", deletion)
            self.add(COVERING, name, "insertion", insertion)
            for rival in areas:
                if name.startswith("maps") and not rival.startswith("maps"):
                    better = [areas[rival][0] - deletion, insertion - areas[rival][1]]
                    self.add(COVERING, name, f"less deletion than {rival}", better[0])
                    self.add(COVERING, name, f"more insertion than {rival}", better[1])

    def grad_cam(self, stride, batch, target):
        """Return Grad-CAM of the cosine at a layer, float64 (h, w), see `rivals.grad_cam`."""
        front, slopes, to_map = self.gradients_at(stride)
        points, *others = front(batch)
        slope = slopes(points, target, others)
        weights = slope.mean(tuple(range(1, slope.ndim - 1)), keepdims=True)
        values = (points * weights).sum(-1).clip(0).astype(np.float64)
        return (to_map(values)[0] if to_map else values)[0]

    def integrated_gradients(self, batch, target, steps=16):
        """Return `rivals.integrated_gradients` of each pixel, float64 (H, W)."""
        _front, slopes, _to_map = self.gradients_at(1)
        grey = self.network.preprocess([np.full((*self.network.input_size, 3), 128, np.uint8)])
        along = ((np.arange(steps) + 0.5) / steps).astype(np.float32)[:, None, None, None]
        line = grey + along * (batch - grey)
        at_once = max(1, AT_ONCE // (line.shape[1] * line.shape[2]))
        parts = [line[start : start + at_once] for start in range(0, steps, at_once)]
        slope = sum(slopes(part, target, ()).sum(0) for part in parts) / steps
        return (slope * (batch - grey)[0]).sum(-1).astype(np.float64)

    def gradients_at(self, stride):
        if stride not in self.gradients:
            self.gradients[stride] = gradients_at(self.network, stride)
        return self.gradients[stride]

    def paste(self, image, alike, pasted, maps, similarity):
        """Paste a photograph into a corner, each in its turn; measure what of the map goes there."""
        corner = len(self.maps) % 4
        height, width = (round(side * PASTED) for side in image.shape[:2])
        rows = slice(0, height) if corner < 2 else slice(image.shape[0] - height, None)
        columns = slice(0, width) if corner % 2 else slice(image.shape[1] - width, None)
        changed, where = image.copy(), np.zeros(image.shape[:2], int)
        changed[rows, columns] = image_ops.resize(pasted, (height, width))
        where[rows, columns] = 1
        for grain, after in self.both(changed, alike):
            for when, each in (("before", maps[grain]), ("after", after)):
                lift = measures.mass_on(each, where) / where.mean()
                self.add(CHECKS, f"lift on a corner, {when} a paste", grain, lift)
            part = measures.sum_by_object(after, where, 2)[1]
            self.add(CHECKS, "similarity that goes to the paste", grain, part)
        after = self.map_of(changed, alike).similarity
        self.add(CHECKS, "similarity that the paste costs", OWN, similarity - after)

    def measure_places(self):
        """Measure how far the maps of other images say where that of an image is."""
        for grain in self.maps[0][2]:
            if len(self.maps) < 3:
                self.refused[f"place, {grain}"] = "it takes three pairs"
                continue
            each = np.stack([maps[grain].ravel() for *_, maps in self.maps])
            each = (each - each.mean(1, keepdims=True)) / (each.std(1, keepdims=True) + 1e-12)
            rest = each.sum(0) - each
            same = [measures.rank_correlation(*two) for two in zip(each, rest, strict=True)]
            self.add(CHECKS, "same in other photographs", grain, same)

    def measure_redrawn(self, words, load):
        row = f"same with {words} drawn anew"
        network = None if load is None else self.attempt(row, load)
        if load is None:
            self.refused[row] = "its weights are not known"
        for image, alike, maps in self.maps[:MOST_REDRAWN] if network else ():
            for grain, before in maps.items():
                stride = None if grain == OWN else self.fine
                of_grain = f"{row}, {grain}"
                after = self.attempt(of_grain, self.map_of, image, alike, stride, network)
                if after is not None:
                    same = measures.rank_correlation(before.ravel(), after.similarity1.ravel())
                    self.add(CHECKS, row, grain, same)

    def finished(self):
        """Return the tables with a Figure in each cell, the mean, and texts for what is refused."""
        tables = {}
        for title, cells in self.tables.items():
            tables[title] = {}
            for place, values in cells.items():
                if isinstance(values, list):
                    statistic = np.max if title == SUMS else np.mean
                    values = figure(statistic, self.rooms[: len(values)], values)
                tables[title][place] = values
        tables["Not measured"] = {(what, "why"): why for what, why in self.refused.items()}
        return tables


def gradients_at(network, stride):
    """Return functions that lead to a layer, differentiate the cosine there, and make maps of it.

    The second takes activations (B, *positions, C), an embedding (D,) and all else that is needed.
    """
    if stride is None and not network.derived:
        front, tail, to_map = (lambda batch: [network.activations(batch)]), tf.identity, None
    elif network.contributions is None:
        raise ValueError("its gradients are not known")
    else:
        layer = network.contributions.layer(stride)
        front, tail, to_map = layer.front, layer.tail, layer.to_map
        if layer.proportional:
            tail = lambda *given: layer.tail(*given, scales={})  # noqa: E731
    if not network.derived:
        head = network.projection if network.explain == "head" else None
        pool, tail = pooled(tail, network.pooling, network.power, head), None
        cells = int(np.prod(network.activations(blank(network)).shape[1:3]))
        tail = lambda points, *given: pool(points, tf.ones(cells), *given)  # noqa: E731

    @tf.function(autograph=False)
    def differentiate(points, target, others):
        with tf.GradientTape() as tape:
            tape.watch(points)
            embeddings = tf.cast(tail(points, *others), tf.float32)
            cosines = embeddings @ target[:, None] / tf.norm(embeddings, axis=1, keepdims=True)
        return tape.gradient(cosines, points, unconnected_gradients="zero")

    def slopes(points, target, others):
        unit = tf.constant(target / np.linalg.norm(target), tf.float32)
        others = tuple(tf.constant(each) for each in others)
        return differentiate(tf.constant(points), unit, others).numpy()

    return front, slopes, to_map


def blank(network):
    return network.preprocess([np.full((*network.input_size, 3), 128, np.uint8)])


def run(network, batch):
    """Return the embeddings that are explained, float64 (N, D)."""
    return np.asarray(network.run(batch, need="embeddings")[1], np.float64)


def regrid(similarity, size, grid):
    """Return a map, interpolated to pixels of this size, as the mean of each cell of a grid.

    >>> regrid([[0.0, 1.0]], (2, 8), (1, 4)).round(3)
    array([[0.   , 0.188, 0.812, 1.   ]])
    """
    pixels = image_ops.upsample_map(similarity, size)
    for axis, (side, cells) in enumerate(zip(size, grid, strict=True)):
        starts = np.ceil(np.arange(cells) * side / cells).astype(int)
        sums = np.add.reduceat(pixels, starts, axis)
        pixels = sums / np.diff([*starts, side]).reshape((-1, 1) if axis == 0 else (1, -1))
    return pixels


def redraw(share, arrays, seed=0):
    """Return a list of arrays with the later share of it drawn anew.

    Kernels keep their mean and spread, and vectors become permutations of themselves, so that the
    activations stay alive; what is no number with a fraction stays.  (Cascading randomisation:
    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.)

    >>> [each.tolist() for each in redraw(0.5, [np.ones((1, 1)), np.full((2, 1), 3.0)])]
    [[[1.0]], [[3.0], [3.0]]]
    """
    rng, kept = np.random.default_rng(seed), round(len(arrays) * (1 - share))
    drawn = list(arrays[:kept])
    for array in arrays[kept:]:
        if array.ndim >= 2 and np.issubdtype(array.dtype, np.floating):
            array = rng.normal(array.mean(), array.std(), array.shape).astype(array.dtype)
        elif array.ndim == 1 and np.issubdtype(array.dtype, np.floating):
            array = rng.permutation(array)
        drawn.append(array)
    return drawn
