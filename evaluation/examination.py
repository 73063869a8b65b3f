"""Which measurements are taken of which network on which views, and the tables that they go to."""

import time
from contextlib import contextmanager
from typing import NamedTuple

from evaluation import counterfactuals, faithfulness, focus, object_search
from evaluation.subjects import load_subject

SETS = ("held_all", "held_swaps", "held_parts")
SIZES = ((224, 224), (448, 448))
# What a room is known by, and what each network was taught of it.
IDENTITY = (
    *("headboard", "picture", "carpet", "runner", "cushions", "curtains", "lamps", "armchair"),
)
TAUGHT = {
    "imagenet": (),
    "rooms": IDENTITY,
    "rooms-headboard": ("headboard", "picture"),
    "rooms-carpet": ("carpet",),
}
ASKED = ("headboard", "picture", "carpet", "curtains", "cushions", "lamps", "television")
TOGETHER = (("headboard", "picture"),)
LAYERS = (1, 2, 3, 6, 12, 24, 50)  # drawn anew, from the last on


class Budget(NamedTuple):
    """How much is measured: the numbers of pairs and of partners, and steps of the integral."""

    different_rooms: int = 60
    partners: int = 1
    covered: int = 6
    steps: int = 16


THOROUGH = Budget(different_rooms=240, partners=3, covered=32)


class Report:
    """Tables by their titles, cells as `evaluation.tables.markdown` takes them, and their times."""

    def __init__(self):
        self.tables, self.seconds = {}, {}

    def add(self, title, cells):
        self.tables.setdefault(title, {}).update(cells)

    @contextmanager
    def timed(self, part):
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0) + time.perf_counter() - start


def examine(name, sets, report, budget):
    """Take all measurements of one network.

    Parameters
    ----------
    name : str, one of `evaluation.subjects.NETWORKS`
    sets : dict of SETS to list of View
    report : Report
    budget : Budget
    """
    for size in SIZES:
        subject = load_subject(name, size)
        with report.timed("networks run on all views once"):
            for views in sets.values():
                subject.look(views)
        with report.timed("1 focus"):
            measure_focus(subject, sets, report, budget)
        with report.timed("2 counterfactuals"):
            measure_counterfactuals(subject, sets["held_swaps"], report, budget)
        with report.timed("3 object search"):
            measure_search(subject, sets["held_all"], report)
        if size == SIZES[0]:  # both run the network many times
            with report.timed("4 faithfulness"):
                measure_faithfulness(subject, sets["held_all"], report, budget)


def measure_focus(subject, sets, report, budget):
    views, grid = sets["held_all"], _grid(subject)
    report.add(f"Same room from another viewpoint, {grid}", focus.retrieval(subject, views))
    same = focus.same_room_pairs(views)
    different = focus.different_room_pairs(views, budget.different_rooms)
    for kind, pairs in (("same room", same), ("different rooms", different)):
        lifts = focus.lifts(subject, pairs, groups=TOGETHER)
        report.add(f"Lift on each object, {kind}, {grid}", lifts)
    cells = focus.variants(subject, same, ("headboard", "picture", "carpet"))
    report.add("Lift by the embedding explained and the grid, same room", cells)


def measure_counterfactuals(subject, views, report, budget):
    expensive = subject.size == SIZES[0]
    grid, name = _grid(subject), subject.name

    def explain(subject, view, others):
        if not expensive:
            return counterfactuals.free_explanations(subject, view, others)
        return counterfactuals.all_explanations(subject, view, others, budget.steps)

    for change in ("swap", "delete"):
        rows = counterfactuals.intervene(subject, views, change, explain, budget.partners)
        if not rows.drop:
            continue
        title = {"swap": "Counterfactuals (swap)", "delete": "Single deletion"}[change]
        for column, cells in counterfactuals.correlations(rows, name).items():
            report.add(f"{title}: rank correlation, {column}, {grid}", cells)
        report.add(f"{title}: each object, {grid}", counterfactuals.by_object(rows, name))
        report.add(f"{title}: distractibility, {grid}", counterfactuals.distractibility(rows, name))
        report.add(
            f"{title}: background independence, {grid}",
            counterfactuals.background_independence(rows, name, TAUGHT[name]),
        )


def measure_search(subject, views, report):
    grid = _grid(subject)
    cells, silent = object_search.pointing(subject, views, ASKED)
    report.add(f"Pointing: map 2 asked about an object of image 1, {grid}", cells)
    report.add("Queries without any activation", {("pointing", f"{subject.name}, {grid}"): silent})
    cells, silent = object_search.gallery_search(subject, views, ASKED)
    report.add(f"Search of the gallery by the object alone, {grid}", cells)
    report.add("Queries without any activation", {("search", f"{subject.name}, {grid}"): silent})


def measure_faithfulness(subject, views, report, budget):
    pairs = one_pair_a_room(views)[: budget.covered]
    maps = []
    for view, other in pairs:
        of_view = counterfactuals.all_explanations(subject, view, [other], budget.steps)
        maps.append({name: similarity for name, (similarity,) in of_view.items()})
    cells = faithfulness.covering(subject, pairs, maps)
    report.add(f"Cells covered, {subject.name}", cells)
    cells = faithfulness.preservation_and_deletion(subject, pairs, maps, views)
    report.add(f"Preservation and deletion checks, {subject.name}", cells)
    cells = faithfulness.randomization(subject, pairs, LAYERS)
    report.add("Maps before and after layers are drawn anew, rank correlation", cells)


def one_pair_a_room(views):
    """Return the first two views of each room."""
    pairs = {}
    for pair in focus.same_room_pairs(views):
        pairs.setdefault(pair[0].room, pair)
    return list(pairs.values())


def _grid(subject):
    return "x".join(map(str, subject.grid))
