"""What grows with the work: python -m benchmarks.growth

Draws docs/growth.png and prints what it shows: indexing, a search, an audit and a page of cards,
each at several sizes, and the peak memory of indexing.  It takes nine minutes.
"""

import re
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import seconds, table
from benchmarks.audit import labelled
from benchmarks.browser import browser
from benchmarks.explorer import opening_times
from benchmarks.gallery import clustered, link_images, make_table, search_table
from benchmarks.program import PROGRAM, cold
from simvis.gallery.figures import find_neighbours
from simvis.pages.cards import Card, write_cards

PICTURE = PROGRAM.parent / "docs" / "growth.png"
INDEXED = 1_000, 10_000, 50_000
SEARCHED = 10_000, 100_000, 1_000_000
AUDITED = 2_000, 10_000, 50_000
CARDS = 12, 500, 5_000


def index(count):
    """Return the seconds that indexing so many images takes, cold, and its peak memory in MB."""
    program = PROGRAM.parent / "search_gallery.py"
    with tempfile.TemporaryDirectory() as place:
        (folder := Path(place) / "images").mkdir()
        link_images(folder, count)
        return cold([sys.executable, str(program), "index", "images"], place)


def search(count, dimension=128, queries=50):
    """Return the median seconds of a search among so many vectors."""
    vectors = clustered(count + queries, dimension)
    with tempfile.TemporaryDirectory() as folder:
        made, _ = make_table(folder, vectors[:count])
        made.nearest(vectors[0], 10)
        return np.median([seconds(search_table, made, query, []) for query in vectors[count:]])


def open_page(count):
    """Return the milliseconds until a page of so many cards has painted its first picture."""
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    cards = [Card(f"{i}.png", 1 - i / count, image) for i in range(count)]
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        path = Path(folder) / "cards.html"
        write_cards(path, cards, title="Cards")
        return min(opening_times(chromium, path, ready="document.querySelector('img')", repeats=3))


def draw(parts):
    """Draw each part, (title, unit, sizes, values), with its values where all cost grew alike."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.8), layout="constrained")
    for axes, (title, unit, sizes, values) in zip(figure.subplots(1, 4), parts, strict=True):
        axes.loglog(sizes, values, "o-", label="measured")
        axes.loglog(sizes, np.divide(sizes, sizes[0]) * values[0], ":", label="in proportion")
        for size, value in zip(sizes, values, strict=True):
            axes.annotate(_digits(value), (size, value), (0, 5), textcoords="offset points")
        axes.margins(0.15, 0.2)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axes.minorticks_off()
        axes.set_title(title, fontsize=10)
        axes.set_ylabel(unit)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)


def main():
    indexed, memory = zip(*map(index, INDEXED), strict=True)
    parts = [
        ("indexing, images", "seconds", INDEXED, indexed),
        ("a search, vectors of 128", "ms", SEARCHED, [1000 * search(size) for size in SEARCHED]),
        (
            "an audit, vectors of 1,280",
            "seconds",
            AUDITED,
            [seconds(partial(find_neighbours, *labelled(size, 1280))) for size in AUDITED],
        ),
        ("a page opens, cards", "ms", CARDS, [open_page(size) for size in CARDS]),
    ]
    rows = [
        (re.sub(",.*", "", title), f"{size:,}", f"{_digits(value)} {unit}")
        for title, unit, sizes, values in parts
        for size, value in zip(sizes, values, strict=True)
    ]
    rows += [
        ("peak memory of indexing", f"{size:,}", f"{peak:,.0f} MB")
        for size, peak in zip(INDEXED, memory, strict=True)
    ]
    table("What grows with the work", ("work", "of", "takes"), rows)
    draw(parts)


def _digits(value):
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
