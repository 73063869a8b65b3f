"""What was measured without masks, in plain words on what to trust, and as a page."""

from pathlib import Path
from typing import NamedTuple

from evaluation.unmasked import ABOUT, BETTER, CHECKS, COVERING, GRAINS, OWN, REFUSED, SUMS
from simvis.image_ops import combine_image_and_heatmap
from simvis.pages.page import shrunk, write_page

MARKS = ("poor", "fair", "good")
WORST = {  # the first of these checks that is failed is the headline
    "same in other photographs": "This network looks at one place, whatever is there: "
    "do not ask its maps what is alike.",
    "knowing": "This network does not tell these photographs apart: its maps say nothing of them.",
    "covering": "Do not trust these maps: what they point at matters no more than any other place.",
    "kept with another partner": "These maps hardly change with the partner: "
    "do not take them for an answer about a pair.",
}
BEST = "Trust the maps, best at {}"
LIMITS = {  # of a row: good up to the first, poor from the second on; words, and for the figure
    (CHECKS, "kept with another partner"): (
        *(0.6, 0.85, "The maps answer to the partner", "The maps answer little to the partner"),
        *(
            "The maps hardly answer to the partner",
            "with another one {} of a map is kept",
        ),
    ),
    (CHECKS, "same in other photographs"): (
        *(0.7, 0.9, "They follow what is shown", "They lie much at one place"),
        *("They lie at one place, whatever is shown", "other photographs' correlate by {}"),
    ),
    (CHECKS, "lift on a corner with a paste"): (
        *(0.6, 0.9, "They leave out what does not belong", "They leak to what does not belong"),
        *("They point at what does not belong", "a foreign patch gets {} times its share"),
    ),
    (CHECKS, "same with all layers redrawn"): (
        *(0.4, 0.7, "They show what was learned", "They show in part what was learned"),
        *("They show nothing that was learned", "those of random weights correlate by {}"),
    ),
    (GRAINS, "as the own grid"): (
        *(-0.5, -0.2, "Blunt and fine maps agree", "Blunt and fine maps agree in part"),
        *("Blunt and fine maps contradict each other", "they correlate by {}"),
    ),
    (SUMS, "largest gap"): (
        *(1e-4, 1e-3, "They add up to the network's own cosine", "They add up to it nearly"),
        *("They do not add up to the network's own cosine", "the gap is {:.0e} at the most"),
    ),
}


class Verdict(NamedTuple):
    """A headline, the grains, and for each check its marks, one for each grain, and a sentence."""

    headline: str
    grains: list
    checks: list

    def __str__(self):
        lines = [
            f"{' / '.join(mark or '-' for mark in marks):<11} {words}"
            for marks, words in self.checks
        ]
        return "\n".join([self.headline, f"{' / '.join(self.grains)}:", *lines])

    def tables(self):
        """Return this as a table of its own, see `evaluation.tables`."""
        cells = {("in short", "words"): self.headline}
        for marks, words in self.checks:
            cells |= {(words, grain): mark for grain, mark in zip(self.grains, marks, strict=True)}
        return {"What to trust": cells}


def judge(tables):
    """Return the `Verdict` on the tables of `unmasked.examine`.

    Marks are "good", "fair", "poor", or "" for what was not measured.  A sentence is that of the
    grain that fares best on the whole.
    """
    names = {name.partition(": ")[0] for name, _ in tables[BETTER]}
    grains = sorted((name.removeprefix("maps, ") for name in names), key=OWN.__ne__)
    found = {"covering": {grain: covering(tables[BETTER], grain) for grain in grains}}
    for (title, row), (good, poor, *words, says) in LIMITS.items():
        of = {grain: tables[title][row, grain] for grain in grains if (row, grain) in tables[title]}
        found[row] = {}
        for grain, figure in of.items():
            mark = mark_of(figure, good, poor)
            said = says.format(figure.value if title == SUMS else figure)
            found[row][grain] = mark, f"{words[2 - MARKS.index(mark)]}: {said}."
    shared = [of for of in found.values() if len(of) == len(grains)]
    points = {grain: sum(MARKS.index(of[grain][0]) for of in shared) for grain in grains}
    best = max(reversed(grains), key=points.get)  # the finer one of equals
    checks = [knowing(tables[ABOUT], len(grains))]
    for of in found.values():
        if of:
            words = of.get(best, list(of.values())[-1])[1]
            checks.append(([of[grain][0] if grain in of else "" for grain in grains], words))
    marks = {row: of[best][0] for row, of in found.items() if best in of}
    return Verdict(headline(marks | {"knowing": checks[0][0][0]}, best), grains, checks)


def headline(marks, grain):
    """Return in one sentence what marks, a dict of checks to the best grain's, come to."""
    poor = [check for check, mark in marks.items() if mark == "poor"]
    for check, words in WORST.items():
        if check in poor:
            return words
    if poor:
        return f"{BEST.format(grain)}, with care: read what is marked poor."
    if "fair" in marks.values():
        return f"{BEST.format(grain)}, but for what is marked fair."
    return f"{BEST.format(grain)}: they pass every check that could be made."


def knowing(about, count):
    """Return the marks and the sentence on whether the network tells the labels apart."""
    first, chance = about["recall@1", OWN], about.get(("by chance", OWN))
    if chance is None:
        return [""] * count, "Whether it tells these photographs apart is not known without labels."
    knows = first.low > chance.value
    words = "tells these photographs apart" if knows else "does not tell these photographs apart"
    figures = f"{first} have one of their label nearest, {chance.value:.2f} would by chance"
    return ["good" if knows else "poor"] * count, f"The network {words}: {figures}."


def covering(better, grain):
    """Return the mark and the sentence on what covering what a map points at does."""
    gains = {}
    for (name, _column), gain in better.items():
        of, _, rival = name.partition(": ")
        if of == f"maps, {grain}" and not rival.startswith("maps"):
            gains.setdefault(rival, []).append(gain)
    beaten = [rival for rival, both in gains.items() if all(gain.low > 0 for gain in both)]
    lost = [rival for rival, both in gains.items() if any(gain.high < 0 for gain in both)]
    words = f"more than {', '.join(beaten)} do" if beaten else "no more than random places"
    words += f", but less, one way, than {', '.join(lost)}" if lost else ""
    mark = "poor" if "random" not in beaten else "good" if "blob" in beaten and not lost else "fair"
    return mark, f"Blurring what they point at, and sharpening it, moves the cosine {words}."


def mark_of(figure, good, poor):
    """Return the mark of a `Figure` that is good up to one limit, and poor from another one on.

    Limits below zero are of a figure that is good if it is high.

    >>> from evaluation.tables import Figure
    >>> mark_of(Figure(0.3, 0.1, 0.5, 9), 0.4, 0.7), mark_of(Figure(0.3, 0.1, 0.5, 9), -0.4, -0.2)
    ('good', 'fair')
    """
    value, worst = (-figure.value, -figure.low) if good < 0 else (figure.value, figure.high)
    return "poor" if value >= poor else "good" if value <= good and worst < poor else "fair"


def write_card(path, about, verdict, examined):
    """Write the page of a verdict and of what was `Examined`."""
    image, maps = examined.example
    pictures = [("a photograph", image)]
    for grain, similarity in maps.items():
        pictures.append((f"its map, {grain}", combine_image_and_heatmap(image, similarity)))
    tables = examined.tables
    refused = [[what, why] for (what, _), why in tables[REFUSED].items()]
    data = {
        "words": about,
        "headline": verdict.headline,
        "grains": verdict.grains,
        "checks": verdict.checks,
        "pictures": [(caption, shrunk(picture, 320)["uri"]) for caption, picture in pictures],
        "tables": [
            _table(
                "Cosine while patches are blurred (low is good), and sharpened (high is good)",
                tables[COVERING],
            ),
            _table("Checks", tables[CHECKS]),
            _table("Grains", _turned(tables[SUMS] | tables[GRAINS])),
            _table("The network", _turned(tables[ABOUT])),
            {"title": "Not measured", "columns": ["why"], "rows": refused},
        ],
    }
    write_page(path, Path(__file__).with_name("card.html"), data)


def _turned(cells):
    return {(column, row): cell for (row, column), cell in cells.items()}


def _table(title, cells):
    """Return what the page knows of a table, a dict of (row, column) to cell."""
    rows, columns = (list(dict.fromkeys(keys)) for keys in zip(*cells, strict=True))
    texts = [
        [row, *(_text(column, cells.get((row, column), "")) for column in columns)] for row in rows
    ]
    return {"title": title, "columns": columns, "rows": texts}


def _text(column, cell):
    return f"{cell.value:.0e}" if column == "largest gap" else str(cell)
