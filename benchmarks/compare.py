"""What two runs of the benchmarks differ in, from the tables that they printed."""

import re

NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?")


def read_tables(text):
    """Return the tables in what a run printed: a list of (title, header, rows), all of str.

    Examples
    --------
    >>> read_tables("### Maps\\n| size | cost |\\n| --- | --- |\\n| 7x7 | 1.40x |\\n")
    [('Maps', ['size', 'cost'], [['7x7', '1.40x']])]
    """
    tables, title = [], ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("### "):
            title = line.removeprefix("### ")
            tables.append((title, None, []))
        elif tables and line.startswith("|") and set("".join(cells)) != {"-"}:
            title, header, rows = tables[-1]
            if header is None:
                tables[-1] = title, cells, rows
            else:
                rows.append(cells)
    return [each for each in tables if each[1] is not None]


def changes(before, now, least=1.1):
    """Return rows of what has changed by more than a factor, the largest change first.

    Parameters
    ----------
    before, now : lists of (title, header, rows), as of `read_tables`
    least : float > 1

    Returns
    -------
    rows : list of (what, cell before, cell now, their ratio), of str

    Examples
    --------
    >>> before, now = ([("Maps", ["size", "cost"], [["7x7", cell]])] for cell in ("2 ms", "3 ms"))
    >>> changes(before, now)
    [('Maps: 7x7, cost', '2 ms', '3 ms', '1.50')]
    """
    known, found = dict(_cells(before)), []
    for what, cell in _cells(now):
        numbers = [_number(each) for each in (known.get(what, ""), cell)]
        if None in numbers or 0 in numbers:
            continue
        ratio = numbers[1] / numbers[0]
        if max(ratio, 1 / ratio) > least:
            found.append((max(ratio, 1 / ratio), (what, known[what], cell, f"{ratio:.2f}")))
    return [row for _, row in sorted(found, key=lambda each: -each[0])]


def _cells(tables):
    """Yield (what it is of, cell) of each cell but for those that name their rows."""
    for title, header, rows in tables:
        for first, *cells in rows:
            for column, cell in zip(header[1:], cells, strict=False):  # the last row may be cut
                yield f"{title}: {first}, {column}", str(cell)


def _number(cell):
    """Return the number that a cell begins with, or None."""
    found = NUMBER.match(cell.removesuffix("%"))
    return float(found[0].replace(",", "")) if found else None
