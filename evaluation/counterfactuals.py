"""Table 2: does a map say what changes the cosine?  One object is changed, all else is left.

This is the protocol of FunnyBirds (Hesse, Schaub-Meyer and Roth, "FunnyBirds: a synthetic vision
dataset for a part-based analysis of explainable AI methods", ICCV 2023), which intervenes on the
parts of rendered birds and watches class scores, brought to pairs of images and their cosine.
"""

import numpy as np

from evaluation import measures, rivals
from evaluation.focus import SMALL, mask_of, objects_of, partners_of, room_of
from evaluation.tables import figure, mean_figures
from evaluation.views import OBJECTS

GRAINS = {16: "14x14", 8: "28x28", 4: "56x56"}  # of fine maps, by their strides at 224 pixels
UNCHANGED = 0.01  # a change that moves the cosine by less than this has changed nothing
COLUMNS = ("rooms", "pairs", "objects", "changes", "drop")


def intervene(subject, views, explain, partners=3, most=None):
    """Change objects and record what the maps had said of them.

    views are base views, other views of their rooms, and changed views; explain is a function of
    (subject, view, list of partners) -> dict of name to list of maps, `free_explanations` or
    `all_explanations`; partners is how many other views of the room there are at most, and most how
    many views are taken, those with the most changes first.

    Returns a recarray with a row for each object that was changed in a view that shows more than a
    sliver of it, and each partner of that view: ``rooms``, ``pairs`` and ``objects`` name its room,
    the two views, and what was changed, ``changes`` is "swap" or "delete", and ``drop`` is
    cos(view, partner) - cos(changed view, partner).  Then comes a column for each explanation, its
    mass on the object in the view's map; "maps, signed" is the sum of the map on the object, in
    units of the cosine, and "area" the object's area.
    """
    changed, rows = {}, []
    for view in views:
        if view.swapped in OBJECTS:
            changed.setdefault(view.swap_of, []).append(view)
    bases = [view for view in views if view.name in changed]
    for view in sorted(bases, key=lambda view: -len(changed[view.name]))[:most]:
        others = partners_of(view, views)[:partners]
        maps, objects = explain(subject, view, others), objects_of(view)
        area = measures.area_by_object(objects, len(OBJECTS))
        after = [c for c in changed[view.name] if area[OBJECTS.index(c.swapped)] >= SMALL]
        if not after:
            continue
        before, now = (
            rivals.cosines(subject.embeddings(of), subject.embeddings(others))
            for of in ([view], after)
        )
        for index, other in enumerate(others):
            on = objects, len(OBJECTS)
            said = [measures.mass_by_object(of[index], *on) for of in maps.values()]
            said += [measures.sum_by_object(maps["maps"][index], *on), area]
            for drop, change in zip((before - now)[:, index], after, strict=True):
                row = room_of(view), f"{view.name} {other.name}", change.swapped, change.change
                number = OBJECTS.index(change.swapped)
                rows.append((*row, drop, *(of[number] for of in said)))
    if not rows:
        raise ValueError("views: expected some with one object changed, got none")
    return np.rec.fromrecords(rows, names=[*COLUMNS, *maps, "maps, signed", "area"])


def free_explanations(subject, view, others, seed=0):
    """Return the maps of a view given each of several others, and the rivals that need no run.

    Returns a dict of explanation to list of (h, w) arrays, one for each of the others.
    """
    conv, projection = subject.conv(view), subject.head
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


def fine_explanations(subject, view, others):
    """Return maps of each grain, and Grad-CAM at two of their layers: "maps, 28x28" and so on.

    What has no grain in its name has 7x7 cells, of the last layer.
    """
    found = free_explanations(subject, view, others)
    found = {name: found[name] for name in ("maps", "Grad-CAM")}
    batch, embeddings = subject.preprocess([view.image()]), subject.embeddings(others)
    for stride, grain in GRAINS.items():
        fine, (front, rest) = subject.at(stride), subject.parts(stride)
        found[f"maps, {grain}"] = [fine.maps(view, other)[0] for other in others]
        if stride > 4:
            (conv,) = front(batch)
            found[f"Grad-CAM, {grain}"] = [rivals.grad_cam_at(rest, conv, f) for f in embeddings]
    return found


def all_at_fine_grain(subject, view, others):
    """Return what `fine_explanations` does, and the rivals at a fine grain."""
    (image,) = subject.preprocess([view.image()])
    embeddings, pixels = subject.embeddings(others), (subject.embed, image)
    small, large = (tuple(n * cells for cells in subject.grid) for n in (2, 4))
    found = fine_explanations(subject, view, others) | {
        "blob, 28x28": [rivals.blob(large)] * len(others),
        "integrated gradients, 28x28": [
            rivals.integrated_gradients(*pixels, f, large) for f in embeddings
        ],
        "occlusion, 14x14": list(rivals.occlusion(*pixels, embeddings, small)),
    }
    if rivals.has_sbsm():
        found["SBSM, 14x14"] = list(rivals.sbsm(*pixels, embeddings, small))
    return found


def correlations(rows, name):
    """Measure how well each explanation ranks the drops.

    Returns a dict of way to dict of (explanation, network) to Figure, over all rows: ``pooled``,
    and ``size of the change``, whichever way the cosine went.
    """
    ways = {"pooled": rows.drop, "size of the change": abs(rows.drop)}
    return {
        way: {
            (said, name): figure(measures.rank_correlation, rows.rooms, rows[said], drop)
            for said in explanations(rows)
        }
        for way, drop in ways.items()
    }


def explanations(rows):
    """Return the names of the columns of `intervene`'s rows that say something of the drop."""
    return rows.dtype.names[len(COLUMNS) :]


def attainable(rows, name):
    """Measure how well the drop of a swap can be told by what else is known of the same object.

    An oracle renders the view without the object, or sees the same swap with another partner: what
    ranks the drops no better than that is not to be blamed on a map.

    Returns a dict of (explanation, network) to Figure: rank correlations on the same rows,
    those that have all of it.
    """
    keys = list(zip(rows.pairs, rows.objects, rows.changes, strict=True))
    row_of, alike, found = {key: row for row, key in enumerate(keys)}, {}, []
    for row, (pair, *what) in enumerate(keys):
        alike.setdefault((pair.split()[0], *what), []).append(row)
    for row, (pair, thing, change) in enumerate(keys):
        others = [other for other in alike[pair.split()[0], thing, change] if other != row]
        deleted = row_of.get((pair, thing, "delete"))
        if change == "swap" and others and deleted is not None:
            found.append((row, deleted, others[0]))
    if not found:
        return {}
    swapped, deleted, elsewhere = np.array(found).T
    told = {
        "the object rendered away": rows.drop[deleted],
        "the same swap, another partner": rows.drop[elsewhere],
    }
    told |= {said: rows[said][swapped] for said in explanations(rows) if said != "area"}
    cells, drop = {("rows", name): len(found)}, rows.drop[swapped]
    for said, of in told.items():
        cells[said, name] = figure(measures.rank_correlation, rows.rooms[swapped], of, drop)
    return cells


def by_object(rows, name):
    """Measure each object's mean drop, and the mean mass of the maps on it.

    Returns a dict of "drop" and "mass" to dict of (object, column) to Figure.
    """
    measured = {"drop": {}, "mass": {}}
    for thing in sorted(set(rows.objects), key=OBJECTS.index):
        chosen = rows[rows.objects == thing]
        views = len({pair.split()[0] for pair in chosen.pairs})
        for cells, values in zip(measured.values(), (chosen.drop, chosen["maps"]), strict=True):
            cells[thing, "views, pixels"] = f"{views}, {chosen.area.mean():.1%}"
            cells[thing, name] = figure(np.mean, chosen.rooms, values)
    return measured


def distractibility(rows, name):
    """Measure what explanations put on objects whose change changes nothing, over their area.

    Returns a dict of (explanation, network) to Figure, the lift: 0 is perfect, 1 is a flat map.
    """
    nothing = rows[abs(rows.drop) < UNCHANGED]
    cells = {("rows", name): f"{len(nothing)} of {len(rows)}"}
    for explanation in explanations(rows) if len(nothing) else ():
        if explanation not in ("maps, signed", "area"):  # the first is no share, the last is 1
            mass = nothing[explanation]
            cells[explanation, name] = figure(measures.lift, nothing.rooms, mass, nothing.area)
    return cells


def background_independence(rows, name, taught):
    """Measure, of the network, the share of changes of what was not taught that change nothing."""
    others = rows[~np.isin(rows.objects, taught)]
    nothing = abs(others.drop) < UNCHANGED
    return {("all objects not taught", name): figure(np.mean, others.rooms, nothing)}


def contrastivity(subject, views, explain, most=None):
    """Exchange the partner for one that shares something else, and see whether the map follows.

    This is FunnyBirds' target sensitivity, on rooms where each view shares headboard and pictures
    with some views, and the carpet with others, but both with none; at most so many views.

    Returns a dict of measure to dict of (explanation, network) to Figure: ``follows``: how
    often what is shared has more of the mass than it has given a partner that shares the other
    thing; 0.5 is chance, and what a map has that takes no notice of the partner.  ``peak``: how
    often the peak lies on what is shared.
    """
    shared = {"headboard": ("headboard", "picture"), "carpet": ("carpet",)}
    rooms, found = [], {}
    for view in sorted(views, key=lambda view: view.number):  # all rooms once before any twice
        partners = [partners_of(view, views, label)[:1] for label in shared]
        if not all(partners) or len(rooms) == most:
            continue
        rooms.append(room_of(view))
        masks = [mask_of(view, names) for names in shared.values()]
        for name, maps in explain(subject, view, sum(partners, [])).items():
            follows, peaks = [], []
            for mask, given, otherwise in zip(masks, maps, maps[::-1], strict=True):
                gained = measures.mass_on(given, mask) - measures.mass_on(otherwise, mask)
                follows.append((np.sign(gained) + 1) / 2)
                peaks.append(measures.peak_on(given, mask))
            found.setdefault(name, []).append((np.mean(follows), np.mean(peaks)))
    return mean_figures(rooms, found, ("follows", "peak"), subject.name)


def light(subject, views, name):
    """Measure how often day turned into night moves the cosine by less than UNCHANGED."""
    base, rooms, nothing = {view.name: view for view in views}, [], []
    for change in views:
        if change.swapped == "light":
            others = partners_of(change, views)
            both = subject.embeddings([base[change.swap_of], change])
            before, after = rivals.cosines(both, subject.embeddings(others))
            rooms += [room_of(change)] * len(others)
            nothing += list(abs(before - after) < UNCHANGED)
    return {("day and night", name): figure(np.mean, rooms, nothing)} if rooms else {}
