"""Medians over repeats, as ratios to something measured in the same run.

Absolute times say more about the machine, and about what else it does, than about the program.
"""

import statistics
import time


def medians(*functions, repeats=30, pick=statistics.median):
    """Return the median seconds of each function, called in turn so that drift hits all alike.

    ``pick=min`` takes the fastest instead: where threads share few cores, a system may keep them
    all on one for a while, which says nothing of the program.
    """
    for function in functions:
        function()
    times = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [pick(taken) for taken in times]


def table(title, header, rows):
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)
