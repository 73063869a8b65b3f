"""Print what is fast, as ratios measured in one run: python -m benchmarks [--compare FILE]

FILE is what an earlier run printed; a table then says what has changed since.  The last table holds
what people wait for, beside what is to be reached.  It takes ten minutes on two cores.
"""

import argparse
from pathlib import Path

from benchmarks import (
    TABLES,
    audit,
    explorer,
    gallery,
    method,
    networks,
    pairs,
    program,
    ray_indexing,
    serving,
    table,
)
from benchmarks.compare import changes, read_tables

PARTS = method, program, pairs, networks, explorer, gallery, audit, serving, ray_indexing


def main(argv=None):
    parser = argparse.ArgumentParser("python -m benchmarks", description="Print what is fast.")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="what an earlier run printed")
    file = parser.parse_args(argv).compare
    try:
        before = read_tables(file.read_text()) if file else None
    except (OSError, UnicodeDecodeError) as error:
        parser.error(str(error))
    if before == []:
        parser.error(f"{file}: holds no table, expected what an earlier run printed")
    waited_for = [row for part in PARTS for row in part.report() or ()]
    if before:
        rows = changes(before, TABLES)
        table(f"Changed by over 10 % since {file}", ("what", "before", "now", "ratio"), rows)
    table("What people wait for", ("work", "measured", "to reach"), waited_for)


if __name__ == "__main__":
    main()
