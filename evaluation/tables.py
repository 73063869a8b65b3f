"""What was measured, as Markdown tables and as a CSV file."""

import csv
import io
from typing import NamedTuple

import numpy as np

from evaluation.measures import interval


class Figure(NamedTuple):
    """A measured value, its 95% interval over rooms, and of how many rows it is."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self):
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def figure(statistic, rooms, *columns):
    """Return the Figure of a statistic of columns of equal length, with rooms drawn anew.

    >>> print(figure(np.mean, ["a", "b"], np.array([1.0, 1.0])))
    1.00 (1.00 to 1.00)
    """
    columns = [np.asarray(column) for column in columns]
    value = float(statistic(*columns))
    return Figure(value, *interval(statistic, rooms, *columns), len(columns[0]))


def mean_figures(rooms, rows_by_name, measures, network):
    """Return a dict of measure to dict of (name, network) to Figure, the mean.

    rows_by_name is a dict of name to rows, of which there is one for each of the rooms, with one
    value for each of the measures.
    """
    measured = {measure: {} for measure in measures}
    for name, rows in rows_by_name.items():
        for cells, values in zip(measured.values(), np.array(rows, float).T, strict=True):
            cells[name, network] = figure(np.mean, rooms, values)
    return measured


def markdown(title, cells):
    """Return a Markdown table of a dict from (row, column) to what is printed there.

    Rows and columns come in the order in which they first appear; what is missing is left empty.

    >>> print(markdown("Sizes", {("a", "x"): 1, ("b", "y"): 2}))
    ### Sizes
    <BLANKLINE>
    |  | x | y |
    | --- | --- | --- |
    | a | 1 |  |
    | b |  | 2 |
    <BLANKLINE>
    """
    rows, columns = (dict.fromkeys(keys) for keys in zip(*cells, strict=True))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(str(cells.get((row, column), "")) for column in columns)] for row in rows]
    return "\n".join([f"### {title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def csv_text(tables):
    """Return all tables, a dict from title to cells, as CSV with one line for each cell.

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
