"""Table 1: which views a network holds alike, and which objects its maps lie on."""

import itertools

import numpy as np

from evaluation.measures import (
    area_by_object,
    average_precision,
    lift,
    mass_by_object,
    rank_of_first,
)
from evaluation.rivals import cosines
from evaluation.subjects import EMBEDDINGS
from evaluation.tables import figure
from evaluation.views import OBJECTS

SMALL = 0.002  # of the pixels: less of an object than this is not asked about


def retrieval(subject, views, label="room"):
    """Measure whether the nearest other view shows what has the same label.

    Parameters
    ----------
    subject : Subject
    views : list of View
    label : "room", "headboard" or "carpet"
        What identifies a view; those that no other view shares it with are not asked.

    Returns
    -------
    cells : dict of (measure, subject) to Figure
    """
    labels = np.array([view.labels[label] for view in views])
    relevant = (labels[:, None] == labels) & ~np.eye(len(views), dtype=bool)
    asked = relevant.any(axis=1)
    similarities = cosines(*[subject.embeddings(views)] * 2)
    np.fill_diagonal(similarities, -np.inf)
    first = rank_of_first(similarities[asked], relevant[asked]) == 0
    precision = average_precision(similarities[asked], relevant[asked])
    rooms = np.array([view.room for view in views])[asked]
    chance = relevant.sum() / len(views) / (len(views) - 1)
    return {
        ("recall@1", subject.name): figure(np.mean, rooms, first),
        ("mAP", subject.name): figure(np.mean, rooms, precision),
        ("recall@1 by chance", subject.name): f"{chance:.2f}",
    }


def same_room_pairs(views):
    """Return all pairs of views of one room."""
    return [(a, b) for a, b in itertools.combinations(views, 2) if a.room == b.room]


def different_room_pairs(views, count, seed=0):
    """Return so many pairs of views of different rooms, the same number in each: random ones."""
    pairs = [
        (a, b)
        for a, b in itertools.combinations(views, 2)
        if a.room != b.room and a.number == b.number
    ]
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[index] for index in sorted(chosen)]


def object_shares(subject, pairs, embedding=None):
    """Return, for both maps of each pair, the mass and the area of each object.

    Returns
    -------
    rooms : (2 n,) array of the first view's room
    mass, area : float64 (2 n, len(OBJECTS)) arrays
    """
    mass, area, rooms = [], [], []
    for pair in pairs:
        for view, similarity in zip(pair, subject.maps(*pair, embedding), strict=True):
            mass.append(mass_by_object(similarity, view.objects(), len(OBJECTS)))
            area.append(area_by_object(view.objects(), len(OBJECTS)))
            rooms.append(pair[0].room)
    return np.array(rooms), np.array(mass), np.array(area)


def lifts(subject, pairs, embedding=None, groups=()):
    """Measure the mass on each object over its area.

    Parameters
    ----------
    groups : tuple of tuples of names
        Objects to be taken together, besides each one alone.

    Returns
    -------
    cells : dict of (object, subject) to Figure, for objects that ten maps at least see
    """
    rooms, mass, area = object_shares(subject, pairs, embedding)
    cells = {}
    for names in [*((name,) for name in OBJECTS), *groups]:
        numbers = [OBJECTS.index(name) for name in names]
        on, of = mass[:, numbers].sum(axis=1), area[:, numbers].sum(axis=1)
        shown = of >= SMALL
        if shown.sum() >= 10:
            cells[" and ".join(names), "pixels"] = f"{of[shown].mean():.1%}"
            value = figure(lift, rooms[shown], on[shown], of[shown])
            cells[" and ".join(names), subject.name] = value
    return cells


def variants(subject, pairs, names):
    """Measure the lift on some objects for the pooled feature and the head.

    Returns
    -------
    cells : dict of (object, "7x7, head") to Figure
    """
    cells = {}
    for embedding in EMBEDDINGS[: 1 if subject.head is None else 2]:
        found = lifts(subject, pairs, embedding)
        grid = "x".join(map(str, subject.grid))
        for name in names:
            if (name, subject.name) in found:
                cells[name, f"{subject.name}, {embedding}, {grid}"] = found[name, subject.name]
    return cells
