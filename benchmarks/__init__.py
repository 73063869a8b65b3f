"""Medians over repeats, as ratios to something measured in the same run.

Absolute times say more about the machine, and about what else it does, than about the program.
"""

import statistics
import time


def seconds(function, *arguments):
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def medians(*functions, repeats=30, pick=statistics.median):
    """Return the median seconds of each function, called in turn so that drift hits all alike.

    ``pick=min`` takes the fastest instead: if threads share few cores, a system may keep them all
    on one for a while, which says nothing of the program.
    """
    for function in functions:
        function()
    rounds = [[seconds(function) for function in functions] for _ in range(repeats)]
    return [pick(taken) for taken in zip(*rounds, strict=True)]


MEASURED = "", "measured"  # the header of a table with one value in each row
TABLES = []  # (title, header, rows) of each table that this process has printed


def table(title, header, rows):
    """Print a Markdown table."""
    TABLES.append((title, list(header), [list(map(str, row)) for row in rows]))
    lines = [header, ["---"] * len(header), *rows]
    print(f"\n### {title}\n", *(f"| {' | '.join(map(str, row))} |" for row in lines), sep="\n")
    print(flush=True)
