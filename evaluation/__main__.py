"""Measure what the maps are worth: python -m evaluation

Prints Markdown tables, and writes them, a CSV file and two figures to a folder.
"""

import argparse
import sys
from pathlib import Path

HELD_OUT = Path(__file__).resolve().parent / "held_out"


def main(argv=None):
    """Run the program and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        evaluate(**vars(arguments))
    except (OSError, ValueError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="where the sets of views are, and where --full renders (default: those that ship)",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=Path("evaluation_output"))
    parser.add_argument("--full", action="store_true", help="render fresh rooms first (Mitsuba)")
    return parser


def evaluate(data=None, output=Path("evaluation_output"), full=False):
    """Measure all networks on all sets; see the parser for the arguments."""
    from evaluation.examination import SETS, SHIPPED, THOROUGH, Report, examine
    from evaluation.subjects import NETWORKS
    from evaluation.tables import markdown, write_csv
    from evaluation.views import load_views
    from models import start_tensorflow

    sets = {name: load_views((data or HELD_OUT) / name) for name in SETS}
    start_tensorflow()
    output.mkdir(parents=True, exist_ok=True)
    report = Report()
    for name in NETWORKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        examine(name, sets, report, SHIPPED if data is None else THOROUGH)
    text = "\n".join(markdown(title, cells) for title, cells in report.tables.items())
    print(text)
    (output / "tables.md").write_text(text)
    write_csv(output / "tables.csv", report.tables)
    for part, seconds in report.seconds.items():
        print(f"{seconds:6.1f} s  {part}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
