"""Table 2: does a map say what changes the cosine?  One object is swapped, all else is left.

This is the protocol of FunnyBirds (Hesse, Schaub-Meyer and Roth, "FunnyBirds: a synthetic vision
dataset for a part-based analysis of explainable AI methods", ICCV 2023), which intervenes on the
parts of rendered birds and watches class scores, brought to pairs of images and their cosine.
"""

from dataclasses import dataclass, field

import numpy as np

from evaluation import rivals
from evaluation.focus import SMALL
from evaluation.measures import area_by_object, lift, mass_by_object, rank_correlation
from evaluation.tables import Figure, figure
from evaluation.views import OBJECTS

UNCHANGED = 0.01  # a swap that moves the cosine by less than this has changed nothing


@dataclass
class Interventions:
    """One row for each (view, partner, object that was changed in the view).

    rooms, pairs, objects : lists of str, of the view's room, of the pair, of the object
    drop : list of float, cos(view, partner) - cos(changed view, partner)
    area : list of float, of the object in the view
    mass : dict of explanation to list of float, on the object in the view's map given the partner
    """

    rooms: list = field(default_factory=list)
    pairs: list = field(default_factory=list)
    objects: list = field(default_factory=list)
    drop: list = field(default_factory=list)
    area: list = field(default_factory=list)
    mass: dict = field(default_factory=dict)


def changed_views(views, change):
    """Return a dict from each view's name to the views that show it with one object changed."""
    changed = {}
    for view in views:
        if view.change == change and view.swap_of:
            changed.setdefault(view.swap_of, []).append(view)
    return changed


def intervene(subject, views, change="swap", explain=None, partners=3):
    """Change objects and record what the maps said of them.

    Parameters
    ----------
    subject : Subject
    views : list of View
        Base views, other views of their rooms, and changed views.
    change : "swap" or "delete"
    explain : None or function of (subject, view, list of partners) -> dict of name to maps
        None for `free_explanations`.
    partners : int
        At most so many other views of the room.

    Returns
    -------
    rows : Interventions
    """
    changed = changed_views(views, change)
    bases = [view for view in views if view.name in changed]
    rows = Interventions()
    for view in bases:
        others = [
            other
            for other in views
            if other.room == view.room and not other.swap_of and other.name != view.name
        ][:partners]
        maps = (explain or free_explanations)(subject, view, others)
        objects, count = view.objects(), len(OBJECTS)
        area = area_by_object(objects, count)
        after = [c for c in changed[view.name] if area[OBJECTS.index(c.swapped)] >= SMALL]
        before = rivals.cosines(subject.embeddings([view]), subject.embeddings(others))
        drops = before - rivals.cosines(subject.embeddings(after), subject.embeddings(others))
        for partner, other in enumerate(others):
            mass = {
                name: mass_by_object(of_partner[partner], objects, count)
                for name, of_partner in maps.items()
            }
            for swap, drop in zip(after, drops[:, partner], strict=True):
                number = OBJECTS.index(swap.swapped)
                rows.rooms.append(view.room)
                rows.pairs.append(f"{view.name} {other.name}")
                rows.objects.append(swap.swapped)
                rows.drop.append(drop)
                rows.area.append(area[number])
                for name in mass:
                    rows.mass.setdefault(name, []).append(mass[name][number])
    return rows


def free_explanations(subject, view, others, seed=0):
    """Return the maps of a view given each of several others, and the rivals that need no run.

    Returns
    -------
    maps : dict of explanation to list of (h, w) arrays, one for each of the others
    """
    conv, projection = subject.conv(view), subject.projection()
    rng = np.random.default_rng([seed, *view.name.encode()])
    return {
        "maps": [subject.maps(view, other)[0] for other in others],
        "Grad-CAM": [rivals.grad_cam(conv, subject.conv(other), projection) for other in others],
        "blob": [rivals.blob(subject.grid)] * len(others),
        "random": [rng.random(subject.grid) for _ in others],
    }


def all_explanations(subject, view, others, steps=16):
    """Return what `free_explanations` does, and the rivals that run the network."""
    (image,) = subject.preprocess([view.image()])
    embeddings, pixels = subject.embeddings(others), (subject.embed, image)
    return free_explanations(subject, view, others) | {
        "gradient x input": [
            rivals.gradient_times_input(*pixels, f, subject.grid) for f in embeddings
        ],
        "integrated gradients": [
            rivals.integrated_gradients(*pixels, f, subject.grid, steps) for f in embeddings
        ],
        "occlusion": list(rivals.occlusion(*pixels, embeddings, subject.grid)),
    }


def correlations(rows, name):
    """Measure how well each explanation ranks the drops.

    Returns
    -------
    cells : dict of way to dict of (explanation, network) to Figure
        ``pooled``: over all rows.  ``within pairs``: over the objects of one view and partner,
        then averaged.  ``size of the change``: pooled, whichever way the cosine went.
    """
    rooms, pairs, drop = (np.array(column) for column in (rows.rooms, rows.pairs, rows.drop))
    _, first, pair_of = np.unique(pairs, return_index=True, return_inverse=True)
    ways = {"pooled": {}, "within pairs": {}, "size of the change": {}}
    for explanation, mass in {**rows.mass, "area": rows.area}.items():
        mass, cell = np.array(mass), (explanation, name)
        within = [
            rank_correlation(mass[pair_of == pair], drop[pair_of == pair])
            for pair in range(len(first))
        ]
        ways["pooled"][cell] = figure(rank_correlation, rooms, mass, drop)
        ways["within pairs"][cell] = figure(np.mean, rooms[first], within)
        ways["size of the change"][cell] = figure(rank_correlation, rooms, mass, abs(drop))
    return ways


def by_object(rows, name):
    """Measure each object's drop and the maps' mass on it, and lift.

    Returns
    -------
    cells : dict of (object, column) to Figure
    """
    objects, rooms, cells = np.array(rows.objects), np.array(rows.rooms), {}
    drop, area, mass = (np.array(column) for column in (rows.drop, rows.area, rows.mass["maps"]))
    for thing in sorted(set(rows.objects), key=OBJECTS.index):
        chosen = objects == thing
        cells[thing, "swaps"] = len({pair.split()[0] for pair in np.array(rows.pairs)[chosen]})
        cells[thing, f"{name}: drop"] = figure(np.mean, rooms[chosen], drop[chosen])
        cells[thing, f"{name}: mass"] = figure(np.mean, rooms[chosen], mass[chosen])
    return cells


def distractibility(rows, name):
    """Measure what explanations put on objects whose swap changes nothing, over their area.

    Returns
    -------
    cells : dict of (explanation, subject) to Figure, the lift: 0 is perfect, 1 is a flat map
    """
    rooms, area = np.array(rows.rooms), np.array(rows.area)
    nothing = abs(np.array(rows.drop)) < UNCHANGED
    cells = {("rows where nothing changes", name): f"{nothing.sum()} of {len(nothing)}"}
    for explanation, mass in rows.mass.items():
        if nothing.any():
            shares = np.array(mass)[nothing], area[nothing]
            cells[explanation, name] = figure(lift, rooms[nothing], *shares)
    return cells


def background_independence(rows, name, taught):
    """Measure the share of swaps of what was not taught that change nothing: of the network."""
    untaught = ~np.isin(rows.objects, taught)
    nothing = abs(np.array(rows.drop)) < UNCHANGED
    rooms = np.array(rows.rooms)
    return {
        ("swaps of other objects that change nothing", name): figure(
            np.mean, rooms[untaught], nothing[untaught]
        )
        if untaught.any()
        else Figure(0.0)
    }
