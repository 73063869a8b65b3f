"""Which measurements are taken of which network on which views, and the tables that they go to."""

from typing import NamedTuple

import numpy as np

from evaluation import counterfactuals, faithfulness, focus, geometry, object_search
from evaluation.random_parts import IDENTITY
from evaluation.rivals import COSTS
from evaluation.subjects import load_subject
from evaluation.views import OBJECTS
from simvis.maps import REFERENCES

SETS = ("held_all", "held_swaps", "held_parts")
OPTIONAL_SETS = ("held_chains",)
SIZES = ((224, 224), (448, 448))
TAUGHT = {  # what each network was taught of a room
    "imagenet": (),
    "rooms": IDENTITY,
    "rooms-headboard": ("headboard", "picture"),
    "rooms-carpet": ("carpet",),
}
ASKED = ("headboard", "picture", "carpet", "curtains", "cushions", "lamps", "television")
RIVALS_TABLE = "Counterfactuals, all rivals, identity: rank correlation, pooled, 7x7"
BOARD, WALL = ("headboard", "picture"), ("wall",)
GRIDS = {None: "7x7, closed form"} | {  # the rows of tables by the grain of maps
    stride: f"{grain}, stride {stride}" for stride, grain in counterfactuals.GRAINS.items()
}
LAYERS = (1, 2, 3, 6, 12, 24, 50)  # drawn anew, from the last on


class Budget(NamedTuple):
    """How much is measured, in pairs, views and partners."""

    different: int  # pairs of different rooms
    partners: int  # of each view with a counterfactual
    rivals: int  # views whose counterfactuals the rivals that run the network explain
    contrasts: int  # views whose partners the rivals see exchanged
    covered: int  # views whose cells are covered
    fine: bool  # whether counterfactuals are measured with 14x14 maps too
    patches: int  # views whose 14x14 patches are covered, and about which rivals of that grain say


SHIPPED, THOROUGH = Budget(60, 2, 6, 2, 3, False, 12), Budget(240, 3, 24, 12, 12, True, 40)


class Report(dict):
    """Tables by their titles, their cells as `evaluation.tables.markdown` takes them."""

    def add(self, title, cells):
        """Add cells to the table of this title."""
        if cells:
            self.setdefault(title, {}).update(cells)

    def add_all(self, title, measured):
        """Add a dict of measure to cells: a table for each."""
        for measure, cells in measured.items():
            self.add(title.format(measure), cells)


def examine(name, sets, report, budget):
    """Take all measurements of one network.

    name is one of `evaluation.subjects.NETWORKS`, sets a dict of SETS to list of View.
    """
    for size in SIZES:
        subject, small = load_subject(name, size), size == SIZES[0]
        for name_of_set in SETS if budget.fine or small else SETS[:1]:
            subject.look(sets[name_of_set])
        measure_focus(subject, sets, report, budget)
        if budget.fine or small:
            measure_counterfactuals(subject, sets, report, budget)
        measure_search(subject, sets["held_all"], report)
        cells = geometry.telling_apart(subject, sets["held_all"])
        report.add(
            f"Right and wrong pairs of equal similarity, by their matches, {_grid(subject)}", cells
        )
        measure_places(subject, sets["held_all"], report)
        if small:  # they run the network many times
            measure_faithfulness(subject, sets["held_all"], report, budget)
            measure_fine_maps(subject, sets, report, budget)


def measure_focus(subject, sets, report, budget):
    views, parts, grid = sets["held_all"], sets["held_parts"], _grid(subject)
    report.add(f"Same room from another side, {grid}", focus.retrieval(subject, views))
    for label, what in (("headboard", "headboard and pictures"), ("carpet", "carpet")):
        title = f"Same {what}, all else drawn anew, {grid}"
        report.add(title, focus.retrieval(subject, parts, label))
    if "held_chains" in sets and subject.size == SIZES[0]:
        cells = focus.retrieval(subject, sets["held_chains"])
        report.add(f"Same room from another side, rooms in chains, {grid}", cells)
    same = focus.same_pairs(views)
    different = focus.different_pairs(views, budget.different)
    for kind, pairs in (("same room", same), ("different rooms from one side", different)):
        title = f"Lift on each object, {kind}, {grid}"
        report.add(title, focus.lifts(subject, pairs, groups=[("headboard", "picture")]))
    cells = focus.variants(subject, same, ("headboard", "picture", "carpet"))
    report.add("Lift by the embedding explained and the grid, same room", cells)


def measure_counterfactuals(subject, sets, report, budget):
    grid, name = _grid(subject), subject.name
    views, free = sets["held_all"] + sets["held_swaps"], counterfactuals.free_explanations
    both = counterfactuals.intervene(subject, views, free, budget.partners)
    swaps, deletions = (both[both.changes == change] for change in ("swap", "delete"))
    report_rows(report, "Counterfactuals", swaps, name, grid)
    identity = swaps[np.isin(swaps.objects, IDENTITY)]
    cells = counterfactuals.correlations(identity, name)["pooled"]
    report.add(f"Counterfactuals, identity: rank correlation, pooled, {grid}", cells)
    cells = counterfactuals.attainable(both, name)
    report.add(f"What is attainable: rank correlation with the drops of swaps, {grid}", cells)
    if len(deletions):
        report_rows(report, "Single deletion", deletions, name, grid)
    cells = counterfactuals.distractibility(swaps, name)
    report.add(f"Distractibility: lift on what changes nothing, {grid}", cells)
    cells = counterfactuals.background_independence(swaps, name, TAUGHT[name])
    cells |= counterfactuals.light(subject, views, name)
    report.add(f"Background independence: share of swaps that change nothing, {grid}", cells)
    contrastivity, parts = counterfactuals.contrastivity, sets["held_parts"]
    report.add_all(f"Contrastivity, {{}}, {grid}", contrastivity(subject, parts, free))
    if subject.size == SIZES[0]:
        every = counterfactuals.all_explanations
        measured = contrastivity(subject, parts, every, budget.contrasts)
        report.add_all("Contrastivity, {}, all rivals, 7x7", measured)
        rows = counterfactuals.intervene(subject, views, every, 1, budget.rivals)
        for change, title in (("swap", "Counterfactuals"), ("delete", "Single deletion")):
            for kind, things in (("identity", IDENTITY), ("all objects", OBJECTS)):
                some = rows[(rows.changes == change) & np.isin(rows.objects, things)]
                if len(some):
                    cells = {(rival, "runs"): cost for rival, cost in COSTS.items()}
                    cells |= counterfactuals.correlations(some, name)["pooled"]
                    of = RIVALS_TABLE.replace("Counterfactuals", title).replace("identity", kind)
                    report.add(of, cells)


def report_rows(report, title, rows, name, grid):
    ranked = counterfactuals.correlations(rows, name)
    report.add_all(f"{title}: rank correlation, {{}}, {grid}", ranked)
    report.add_all(f"{title}: {{}} of each object, {grid}", counterfactuals.by_object(rows, name))


def measure_search(subject, views, report):
    grid, silent = _grid(subject), "Queries whose region has no activation at all"
    measured, count = object_search.pointing(subject, views, ASKED)
    report.add_all(f"Map 2 on the object that image 1 is asked about: {{}}, {grid}", measured)
    report.add(silent, {(f"pointing, {grid}", subject.name): count})
    cells = object_search.example_headboard(subject)
    report.add("The headboard of the example images, positive mass of map 2 on it", cells)
    measured, count = object_search.gallery_search(subject, views, ASKED)
    report.add_all(f"Search of the gallery by the object alone: {{}}, {grid}", measured)
    report.add(silent, {(f"search, {grid}", subject.name): count})


def measure_faithfulness(subject, views, report, budget):
    pairs, maps = _first_pairs(views)[: budget.covered], []
    for view, other in pairs:
        of_view = counterfactuals.all_explanations(subject, view, [other])
        maps.append({name: similarity for name, (similarity,) in of_view.items()})
    cells = faithfulness.covering(subject, pairs, maps)
    report.add(f"Cells covered, {subject.name}", cells)
    cells = faithfulness.preservation_and_deletion(subject, pairs, maps, views)
    report.add(f"Preservation and deletion checks, {subject.name}", cells)
    if TAUGHT[subject.name]:
        measured = focus.explanations_on(pairs, maps, TAUGHT[subject.name], subject.name)
        report.add_all("Maps and rivals on what was taught: {}", measured)
    cells = faithfulness.randomization(subject, pairs, LAYERS)
    report.add("Maps before and after layers are drawn anew, rank correlation", cells)


def measure_places(subject, views, report):
    """Where maps of each grain lie, and, at 448 pixels, those of the last layer."""
    pairs, name = focus.one_pair_each(views), subject.name
    grids = GRIDS if subject.size == SIZES[0] else {None: f"{_grid(subject)}, of 448 pixels"}
    for stride, row in grids.items():
        measured = focus.places(subject.at(stride), pairs, (BOARD, ("carpet",), WALL))
        for (thing, measure), value in measured.items():
            report.add(f"Maps by grain: {measure}, {thing}", {(row, name): value})
        if stride:
            cells = focus.lifts(subject.at(stride), pairs, groups=[BOARD])
            report.add(f"Lift on each object, same room, {row}", cells)


def measure_fine_maps(subject, sets, report, budget):
    """What fine maps say of changes, and maps and rivals on equal patches."""
    views, name, fine = sets["held_all"], subject.name, counterfactuals.fine_explanations
    changed, every = views + sets["held_swaps"], counterfactuals.all_at_fine_grain
    on_taught = TAUGHT[name] if name == "rooms-carpet" else BOARD
    for of, explain, most in (("", fine, None), (", all rivals", every, budget.rivals)):
        rows = counterfactuals.intervene(subject, changed, explain, 1, most)
        for change, title in (("swap", "Counterfactuals"), ("delete", "Single deletion")):
            some = rows[(rows.changes == change) & np.isin(rows.objects, IDENTITY)]
            if len(some):
                cells = counterfactuals.correlations(some, name)["pooled"]
                report.add(f"{title} by grain{of}, identity: rank correlation, pooled", cells)
    measured = counterfactuals.contrastivity(subject, sets["held_parts"], fine, 2 * budget.covered)
    report.add_all("Contrastivity by grain, {}", measured)
    eighth, stride = subject.at(8), GRIDS[8]
    measured, _ = object_search.pointing(eighth, views, on_taught)
    report.add_all(f"Map 2 on the object that image 1 is asked about: {{}}, {stride}", measured)
    pairs, maps = _first_pairs(views)[: budget.patches], []
    cells = faithfulness.randomization(eighth, pairs[: budget.covered], LAYERS[1::2])
    report.add(f"Maps before and after layers are drawn anew, rank correlation, {stride}", cells)
    for view, other in pairs:
        of_view = every(subject, view, [other])
        maps.append({rival: similarity for rival, (similarity,) in of_view.items()})
    cells, less = faithfulness.patches(subject, pairs, maps)
    report.add(f"Patches of 14x14 covered, {name}", cells)
    cells = {(rival, name): value for rival, value in less.items()}
    report.add("Deletion area of 14x14 patches, less that of the 28x28 maps", cells)
    for what, things in (("what was taught", on_taught), ("the wall", WALL)):
        measured = focus.explanations_on(pairs, maps, things, name)
        report.add_all(f"Maps and rivals by grain, on {what}: {{}}", measured)
    measure_references(subject, views, pairs, on_taught, report)


def measure_references(subject, views, pairs, on_taught, report):
    """Fine maps with each of the references, at stride 8."""
    for reference in REFERENCES:
        fine, name = subject.at(8, reference), subject.name
        measured = focus.places(fine, focus.one_pair_each(views), (on_taught, WALL))
        maps = [{"maps, 28x28": fine.maps(*pair)[0]} for pair in pairs]
        areas, _ = faithfulness.patches(subject, pairs, maps)
        found = {
            f"{measure} on the wall": measured["wall", measure] for measure in ("lift", "peak")
        }
        found["lift on what was taught"] = measured[" and ".join(on_taught), "lift"]
        for what, value in (found | {column: area for (_, column), area in areas.items()}).items():
            report.add(f"References, {GRIDS[8]}: {what}", {(reference, name): value})


def _first_pairs(views):
    """Return the first pair of views of each room."""
    found = {}
    for pair in focus.same_pairs(views):
        found.setdefault(pair[0].room, pair)
    return list(found.values())


def telling_pair(views):
    """Return the pair of views of a room that shows most of what the networks were taught.

    That is the largest of the smallest shares of headboard and pictures, and of carpet, in either.
    """

    def least(pair):
        groups = TAUGHT["rooms-headboard"], TAUGHT["rooms-carpet"]
        return min(focus.mask_of(view, group).mean() for group in groups for view in pair)

    return max(focus.same_pairs(views), key=least)


def measure_photographs(known, report):
    """Measure matches under the classifier on what `geometry.load_photographs` returns."""
    for size in geometry.SIZES:
        subject = load_subject("imagenet", (size, size))
        for what, photographs in known.items():
            cells = geometry.photograph_matches(subject, *photographs)
            report.add(f"Matches on photographs of {what}, imagenet", cells)


def _grid(subject):
    return "x".join(map(str, subject.grid))
