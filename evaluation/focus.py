"""Table 1: which views a network holds alike, and which objects its maps lie on."""

import itertools
from functools import cache

import numpy as np

from evaluation import measures
from evaluation.rivals import cosines
from evaluation.tables import figure, mean_figures
from evaluation.views import OBJECTS, View

SMALL = 0.002  # of the pixels: less of an object than this is not asked about
objects_of = cache(View.objects)  # a view's objects, read once


def mask_of(view, names):
    """Return where a view shows one of the named objects, bool (H, W)."""
    return np.isin(objects_of(view), [OBJECTS.index(name) for name in names])


def retrieval(subject, views, label="room"):
    """Measure whether the nearest other view shows what has the same label.

    The label is "room", "headboard" or "carpet"; views that no other view shares it with are not
    asked.

    Returns a dict of (measure, network) to Figure.
    """
    labels = np.array([view.labels[label] for view in views])
    rooms = np.array([room_of(view) for view in views])
    numbers = np.array([view.number for view in views])
    relevant = (labels[:, None] == labels) & ~np.eye(len(views), dtype=bool)
    asked = relevant.any(axis=1)
    similarities = cosines(*[subject.embeddings(views)] * 2)
    np.fill_diagonal(similarities, -np.inf)
    nearest = similarities.argmax(axis=1)
    first = measures.rank_of_first(similarities[asked], relevant[asked]) == 0
    precision = measures.average_precision(similarities[asked], relevant[asked])
    aside = (labels[nearest] != labels) & (numbers[nearest] == numbers)
    chance = relevant.sum() / len(views) / (len(views) - 1)
    return {
        ("views, recall@1 by chance", subject.name): f"{asked.sum()}, {chance:.2f}",
        ("recall@1", subject.name): figure(np.mean, rooms[asked], first),
        ("mAP", subject.name): figure(np.mean, rooms[asked], precision),
        ("nearest: another, seen from the same side", subject.name): figure(np.mean, rooms, aside),
    }


def room_of(view):
    """Return what intervals are drawn over: the room, or the headboard if all else varies."""
    return view.labels["headboard"]


def partners_of(view, views, label="room"):
    """Return the other views that share a view's label, unchanged ones, in order."""
    return [
        other
        for other in views
        if other.labels[label] == view.labels[label]
        and not other.swap_of
        and other.name not in (view.name, view.swap_of)
    ]


def one_pair_each(views):
    """Return each view with the first other one of its room."""
    return [(view, other) for view in views for other in partners_of(view, views)[:1]]


def same_pairs(views):
    """Return all pairs of views of one room."""
    pairs = itertools.combinations(views, 2)
    return [(a, b) for a, b in pairs if a.labels["room"] == b.labels["room"]]


def different_pairs(views, count, seed=0):
    """Return so many pairs of views of different rooms from the same side, random ones."""
    pairs = itertools.combinations(views, 2)
    pairs = [(a, b) for a, b in pairs if room_of(a) != room_of(b) and a.number == b.number]
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[index] for index in sorted(chosen)]


def lifts(subject, pairs, groups=()):
    """Measure the mass on each object over its area, in both maps of each pair.

    Objects of a group, a tuple of names, are taken together, besides each one alone.

    Returns a dict of (object, network) to Figure, for objects that ten maps at least see.
    """
    mass, area, rooms, cells = [], [], [], {}
    for pair in pairs:
        for view, similarity in zip(pair, subject.maps(*pair), strict=True):
            mass.append(measures.mass_by_object(similarity, objects_of(view), len(OBJECTS)))
            area.append(measures.area_by_object(objects_of(view), len(OBJECTS)))
            rooms.append(room_of(pair[0]))
    mass, area, rooms = np.array(mass), np.array(area), np.array(rooms)
    for names in [*((name,) for name in OBJECTS), *groups]:
        numbers, title = [OBJECTS.index(name) for name in names], " and ".join(names)
        on, of = mass[:, numbers].sum(axis=1), area[:, numbers].sum(axis=1)
        shown = of >= SMALL
        if shown.sum() >= 10:
            cells[title, "pixels"] = f"{of[shown].mean():.1%}"
            cells[title, subject.name] = figure(measures.lift, rooms[shown], on[shown], of[shown])
    return cells


def places(subject, pairs, groups):
    """Measure where the maps of each pair's first view lie: on which of some groups of objects.

    Returns a dict of (group, measure) to Figure, over the views that show the group: ``lift``: the
    mass on it over its area.  ``mass``.  ``peak``: how often the map's highest point lies on it.
    """
    measured = {}
    for names in groups:
        rows, rooms, title = [], [], " and ".join(names)
        for view, other in pairs:
            similarity, on = subject.maps(view, other)[0], mask_of(view, names)
            if on.mean() >= SMALL:
                mass, peak = measures.mass_on(similarity, on), measures.peak_on(similarity, on)
                rows.append((mass, peak, on.mean()))
                rooms.append(room_of(view))
        mass, peak, area = np.array(rows, float).T
        measured[title, "lift"] = figure(measures.lift, rooms, mass, area)
        measured[title, "mass"] = figure(np.mean, rooms, mass)
        measured[title, "peak"] = figure(np.mean, rooms, peak)
    return measured


def variants(subject, pairs, names):
    """Measure the lift on some objects for the pooled feature and for the head, if there is one.

    Returns a dict of (object, "NETWORK, head, 7x7") to Figure.
    """
    cells, explained = {}, {"pooled": subject.without_head()}
    if subject.head is not None:
        explained["head"] = subject
    for embedding, network in explained.items():
        found = lifts(network, pairs)
        column = f"{subject.name}, {embedding}, {'x'.join(map(str, subject.grid))}"
        shown = (name for name in names if (name, subject.name) in found)
        cells |= {(name, column): found[name, subject.name] for name in shown}
    return cells


def explanations_on(pairs, maps, names, network):
    """Measure each explanation of the first view of each pair on the named objects together.

    Pairs and maps are those of `evaluation.faithfulness`.

    Returns a dict of measure to dict of (explanation, network) to Figure: the share of the mass
    on the objects, and of maps whose peak lies on one of them.
    """
    rooms, masks = [room_of(view) for view, _ in pairs], [mask_of(view, names) for view, _ in pairs]
    found = {}
    for on, of_pair in zip(masks, maps, strict=True):
        for name, similarity in of_pair.items():
            row = measures.mass_on(similarity, on), measures.peak_on(similarity, on)
            found.setdefault(name, []).append(row)
    measured = mean_figures(rooms, found, ("mass", "peak"), network)
    area = figure(np.mean, rooms, [on.mean() for on in masks])
    return measured | {"mass": {("area", network): area} | measured["mass"]}
