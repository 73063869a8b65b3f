"""What was measured, as Markdown tables and as a CSV file."""

import csv
import io
from typing import NamedTuple

import numpy as np

from evaluation.measures import interval


class Figure(NamedTuple):
    """A measured value, its 95% interval over rooms (NaN where there is none), and of how many."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    count: int = 0

    def __str__(self):
        if np.isnan(self.low):
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def figure(statistic, rooms, *columns):
    """Return the Figure of a statistic of columns of equal length, with rooms drawn anew.

    Examples
    --------
    >>> print(figure(np.mean, ["a", "b"], np.array([1.0, 1.0])))
    1.00 (1.00 to 1.00)
    """
    columns = [np.asarray(column) for column in columns]
    value = float(statistic(*columns))
    return Figure(value, *interval(statistic, rooms, *columns), len(columns[0]))


def markdown(title, cells, corner="", note=""):
    """Return a Markdown table of a dict from (row, column) to what is printed there.

    Rows and columns come in the order in which they first appear; what is missing is left empty.

    Examples
    --------
    >>> print(markdown("Sizes", {("a", "x"): 1, ("b", "y"): 2}, "name"))
    ### Sizes
    <BLANKLINE>
    | name | x | y |
    | --- | --- | --- |
    | a | 1 |  |
    | b |  | 2 |
    <BLANKLINE>
    """
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    lines = [f"### {title}", ""]
    lines += [note, ""] if note else []
    lines.append(f"| {corner} | " + " | ".join(columns) + " |")
    lines.append("|" + " --- |" * (len(columns) + 1))
    for row in rows:
        lines.append(
            f"| {row} | " + " | ".join(str(cells.get((row, c), "")) for c in columns) + " |"
        )
    return "\n".join(lines) + "\n"


def csv_text(tables):
    """Return all tables, a dict from title to cells, as CSV with one line for each cell.

    Examples
    --------
    >>> print(csv_text({"Sizes": {("a", "x"): Figure(1.0, 0.5, 1.5, 9)}}).splitlines()[1])
    Sizes,a,x,1.0,0.5,1.5,9
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "low", "high", "count"])
    for title, cells in tables.items():
        for (row, column), cell in cells.items():
            writer.writerow([title, row, column, *(cell if isinstance(cell, Figure) else [cell])])
    return file.getvalue()
