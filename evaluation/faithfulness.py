"""Table 4: the network run again with parts of an image covered, and with its weights redrawn.

``pairs`` are (View, View), ``maps`` the explanations of each pair's first view, a dict of name to
map.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from evaluation.focus import objects_of, room_of
from evaluation.measures import area_under, covering_steps, mass_by_object, rank_correlation
from evaluation.rivals import cell_sums, cosines, occlusion, run_covered
from evaluation.subjects import Subject
from evaluation.tables import figure, mean_figures
from evaluation.views import OBJECTS
from simvis.image_ops import upsample_map

BLUR = 1 / 14  # standard deviation of the blur, in parts of the image's width
STEPS, PATCHES = 7, (14, 14)  # in which cells are covered; cells of equal grain


def blur(image):
    """Return a preprocessed image (H, W, 3) blurred."""
    sigma = BLUR * image.shape[1]
    return gaussian_filter(image, (sigma, sigma, 0)).astype(np.float32)


def covering(subject, pairs, maps):
    """Cover cells in each explanation's order, in equal steps, and each alone; watch the cosine.

    Returns a dict of (explanation, column) to Figure.  As in RISE, from the highest cell on: the
    area under the cosine while cells are covered by the mean colour (*deletion*, low is good),
    and while they are uncovered in a blurred image (*insertion*, high is good).  The rank
    correlations of the map with the drop that covering each single cell makes.
    """
    found = {}
    for (view, other), of_pair in zip(pairs, maps, strict=True):
        (image,) = subject.preprocess([view.image()])
        target, pixels = subject.embeddings([other]), (subject.embed, image)
        mean, blurred = image.mean((0, 1)), blur(image)
        drops = [occlusion(*pixels, target, subject.grid, fill) for fill in (mean, blurred)]
        for name, similarity in of_pair.items():
            row = _areas(pixels, target, similarity, (mean, blurred))
            row += [rank_correlation(similarity, drop) for drop in drops]
            found.setdefault(name, []).append(row)
    columns = "deletion", "insertion", "single cells, mean colour", "single cells, blur"
    return _cells(pairs, found, columns)


def patches(subject, pairs, maps):
    """Cover PATCHES in each explanation's order, whatever its own grain, and watch the cosine.

    A finer map's cells are summed over each patch, a coarser map is interpolated.  Both the
    deletion area and the insertion area are with the blurred image.

    Returns a dict of (explanation, column) to Figure, and a dict of explanation to Figure: its
    deletion area less that of the maps of 28x28 cells.
    """
    found = {}
    for (view, other), of_pair in zip(pairs, maps, strict=True):
        (image,) = subject.preprocess([view.image()])
        target, pixels = subject.embeddings([other]), (subject.embed, image)
        fills = [blur(image)] * 2
        for name, similarity in of_pair.items():
            row = _areas(pixels, target, at_grid(similarity, PATCHES), fills)
            found.setdefault(name, []).append(row)
    rooms, fine = [room_of(view) for view, _ in pairs], np.array(found["maps, 28x28"])
    less = {name: figure(np.mean, rooms, (np.array(of) - fine)[:, 0]) for name, of in found.items()}
    return _cells(pairs, found, ("deletion", "insertion")), less


def at_grid(similarity, grid):
    """Return a map at a grid of cells: summed if it is finer, interpolated if it is coarser.

    >>> at_grid([[1.0, 2.0, 3.0, 4.0]], (1, 2))
    array([[3., 7.]])
    """
    if np.shape(similarity)[0] < grid[0]:
        return upsample_map(similarity, grid)
    return cell_sums(np.asarray(similarity)[..., None], grid)


def _areas(pixels, target, similarity, fills):
    """Return the deletion area, covering with the first fill, and the insertion area."""
    covered, grid = covering_steps(similarity, STEPS), similarity.shape
    return [
        area_under(cosines(run_covered(*pixels, cells, grid, fill), target))
        for cells, fill in zip((covered, ~covered), fills, strict=True)
    ]


def preservation_and_deletion(subject, pairs, maps, views):
    """Keep, or remove, the objects that hold half of an explanation, and look for the room again.

    FunnyBirds' checks by these names, with objects blurred where theirs are rendered away.  Objects
    are taken by mass over area, from the highest on, until they hold half of the mass.

    Returns a dict of (explanation, column) to Figure: ``kept, room found``: the share of views
    that still have a view of their room first with all other objects blurred (high is good);
    ``removed, room lost``: that have not with these blurred (high is good); ``pixels``: how
    much of the image these objects are.
    """
    gallery, found = subject.embeddings(views), {}
    for (view, _), of_pair in zip(pairs, maps, strict=True):
        (image,) = subject.preprocess([view.image()])
        objects, fill = objects_of(view), blur(image)
        rows, columns = (
            ((np.arange(n) + 0.5) * size / n).astype(int)
            for n, size in zip(subject.size, objects.shape, strict=True)
        )
        relevant = [v.room == view.room and v.name != view.name for v in views]
        for name, similarity in of_pair.items():
            chosen = np.isin(objects, important_objects(similarity, objects))
            inside = chosen[rows][:, columns, None]
            batch = np.stack([np.where(inside, image, fill), np.where(inside, fill, image)])
            similarities = cosines(np.asarray(subject.embed(batch)), gallery)
            similarities[:, [v.name == view.name for v in views]] = -np.inf
            kept, removed = np.take(relevant, similarities.argmax(axis=1))
            found.setdefault(name, []).append((kept, not removed, chosen.mean()))
    return _cells(pairs, found, ("kept, room found", "removed, room lost", "pixels"))


def _cells(pairs, found, columns):
    measured = mean_figures([room_of(view) for view, _ in pairs], found, columns, "")
    return {(name, column): measured[column][name, ""] for name in found for column in columns}


def important_objects(similarity, objects):
    """Return the numbers of the fewest objects, by mass over area, that hold half of the mass.

    >>> important_objects([[0.0, 3.0, 1.0]], np.array([[0, 1, 2]]))
    array([1])
    """
    mass = mass_by_object(similarity, objects, len(OBJECTS))
    area = np.bincount(objects.ravel(), minlength=len(OBJECTS))
    density = np.divide(mass, area, out=np.zeros(len(mass)), where=area > 0)
    order = np.argsort(-density, kind="stable")
    needed = np.searchsorted(np.cumsum(mass[order]), 0.5 * mass.sum()) + 1
    return order[:needed]


def randomization(subject, pairs, depths):
    """Redraw the last layers and compare the maps with those of the trained network.

    Returns a dict of ("last N", network) to Figure: for each of the depths N, the rank
    correlation of the cells of the maps before and after, averaged over pairs.
    """
    rooms, cells = [room_of(view) for view, _ in pairs], {}
    before = [subject.maps(*pair)[0] for pair in pairs]
    for depth in depths:
        redrawn = randomized(subject, depth).at(subject.stride)
        redrawn.look([view for pair in pairs for view in pair])
        same = [
            rank_correlation(first, redrawn.maps(*pair)[0])
            for first, pair in zip(before, pairs, strict=True)
        ]
        layers = len(subject.convolutions) + (subject.head is not None)
        row = f"last {depth}" if depth < layers else "all"
        cells[row, subject.name] = figure(np.mean, rooms, same)
    return cells


def randomized(subject, count, seed=0):
    """Return a network with its last `count` layers drawn anew, the head being the last."""
    rng = np.random.default_rng(seed)
    head, convolutions = subject.head, dict(subject.convolutions)
    if head is not None and count > 0:
        head, count = (drawn_anew(head[0], rng), None), count - 1
    for name in list(convolutions)[::-1][:count]:
        convolutions[name] = tuple(drawn_anew(part, rng) for part in convolutions[name])
    return Subject(subject.name, convolutions, head, subject.size, graph=False)


def drawn_anew(array, rng):
    """Return random weights: of a kernel's mean and spread, or a vector permuted.

    So the activations stay alive (cascading randomisation: Adebayo et al., "Sanity checks for
    saliency maps", NeurIPS 2018).
    """
    if array.ndim == 1:
        return rng.permutation(array)
    return rng.normal(array.mean(), array.std(), array.shape).astype(array.dtype)
