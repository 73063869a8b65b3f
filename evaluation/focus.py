"""Table 1: which views a network holds alike, and which objects its maps lie on."""

import itertools
from functools import cache

import numpy as np

from evaluation.measures import (
    area_by_object,
    average_precision,
    lift,
    mass_by_object,
    peak_on,
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
    cells : dict of (measure, network) to Figure
    """
    labels = np.array([view.labels[label] for view in views])
    rooms = np.array([room_of(view) for view in views])
    numbers = np.array([view.number for view in views])
    relevant = (labels[:, None] == labels) & ~np.eye(len(views), dtype=bool)
    asked = relevant.any(axis=1)
    similarities = cosines(*[subject.embeddings(views)] * 2)
    np.fill_diagonal(similarities, -np.inf)
    nearest = similarities.argmax(axis=1)
    first = rank_of_first(similarities[asked], relevant[asked]) == 0
    precision = average_precision(similarities[asked], relevant[asked])
    aside = (labels[nearest] != labels) & (numbers[nearest] == numbers)
    chance = relevant.sum() / len(views) / (len(views) - 1)
    return {
        ("views, recall@1 by chance", subject.name): f"{asked.sum()}, {chance:.2f}",
        ("recall@1", subject.name): figure(np.mean, rooms[asked], first),
        ("mAP", subject.name): figure(np.mean, rooms[asked], precision),
        ("nearest: another, seen from the same side", subject.name): figure(np.mean, rooms, aside),
    }


def room_of(view):
    """Return what intervals are drawn over: the room, or the headboard where all else varies."""
    return view.labels["headboard"]


def objects_of(view):
    """Return a view's objects, read once."""
    return _read_objects(view.folder, view)


@cache  # by the folder too, since views of one name are equal whatever their folder
def _read_objects(_folder, view):
    return view.objects()


def partners_of(view, views, label="room"):
    """Return the other views that share a view's label, unchanged ones, in order."""
    return [
        other
        for other in views
        if other.labels[label] == view.labels[label]
        and not other.swap_of
        and other.name not in (view.name, view.swap_of)
    ]


def same_pairs(views, label="room"):
    """Return all pairs of views that share a label."""
    return [
        (a, b) for a, b in itertools.combinations(views, 2) if a.labels[label] == b.labels[label]
    ]


def different_pairs(views, count, seed=0):
    """Return so many pairs of views of different rooms from the same side, random ones."""
    pairs = [
        (a, b)
        for a, b in itertools.combinations(views, 2)
        if room_of(a) != room_of(b) and a.number == b.number
    ]
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[index] for index in sorted(chosen)]


def object_shares(subject, pairs, embedding=None):
    """Return, for both maps of each pair, the mass and the area of each object.

    Returns
    -------
    rooms : (2 n,) array of `room_of` the first view
    mass, area : float64 (2 n, len(OBJECTS)) arrays
    """
    mass, area, rooms = [], [], []
    for pair in pairs:
        for view, similarity in zip(pair, subject.maps(*pair, embedding), strict=True):
            mass.append(mass_by_object(similarity, objects_of(view), len(OBJECTS)))
            area.append(area_by_object(objects_of(view), len(OBJECTS)))
            rooms.append(room_of(pair[0]))
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


def explanations_on(pairs, maps, names, network):
    """Measure each explanation of the first view of each pair on some objects together.

    Parameters
    ----------
    pairs : list of (View, View)
    maps : list of dict of explanation to map, of each pair's first view
    names : tuple of str

    Returns
    -------
    measured : dict of measure to dict of (explanation, network) to Figure
        The share of the mass on the objects, and of maps whose peak lies on one of them.
    """
    numbers, rooms = [OBJECTS.index(name) for name in names], [room_of(a) for a, _ in pairs]
    found, area = {}, []
    for (view, _), of_pair in zip(pairs, maps, strict=True):
        on = np.isin(objects_of(view), numbers)
        area.append(on.mean())
        for name, similarity in of_pair.items():
            row = mass_by_object(similarity, on.astype(int), 2)[1], peak_on(similarity, on)
            found.setdefault(name, []).append(row)
    measured = {"mass": {("area", network): figure(np.mean, rooms, area)}, "peak": {}}
    for name, rows in found.items():
        for measure, values in zip(measured, np.array(rows, float).T, strict=True):
            measured[measure][name, network] = figure(np.mean, rooms, values)
    return measured
