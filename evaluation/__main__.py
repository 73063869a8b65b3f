"""Measure what the maps are worth: python -m evaluation

Prints Markdown tables, and writes them, their figures as a CSV file, and pictures to a folder.
With --network NAME|FILE --images FOLDER it is a report card of your own network (evaluation.card).
"""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

# Many small products: a second thread of numpy's BLAS costs more than it brings.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from simvis.image_ops import write_whole  # noqa: E402

HELD_OUT = Path(__file__).resolve().parent / "held_out"
FRESH = {  # arguments of evaluation.rooms for each set
    "held_all": "--teach all --rooms 40 --views 4 --seed {seed}",
    "held_parts": "--teach parts --rooms 40 --views 4 --seed {parts_seed}",
    "held_swaps": "--teach all --rooms 40 --views 4 --seed {seed} --swaps {folder}/held_all"
    " --count 64 --deletions 32",
    "held_chains": "--teach all --rooms 42 --views 4 --seed {chains_seed} --chains 42",
}


def main(argv=None):
    """Run the program and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if {"--network", "--images"} & {word.partition("=")[0] for word in argv}:
        from evaluation import card

        return card.main(argv)
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, metavar="FOLDER", help="sets of views (default: those that ship)")
    add("--output", type=Path, metavar="FOLDER", default=Path("evaluation_output"))
    words = "with graf1.png and others (default: where Debian's package opencv-doc has them)"
    add("--photographs", type=Path, metavar="FOLDER", help=words)
    add("--full", action="store_true", help="render fresh rooms to the folder of --data first")
    add("--seed", type=int, default=1001, help="of the fresh rooms (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.full:
            render(arguments.data, arguments.seed)
        evaluate(arguments.data, arguments.output, arguments.photographs)
    except (OSError, ValueError, ImportError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def render(folder, seed):
    """Render fresh sets to a folder, which takes hours; interrupted, it goes on where it was."""
    if folder is None:
        raise ValueError("--full needs --data FOLDER, where the fresh rooms go")
    if find_spec("mitsuba") is None:
        raise ImportError("--full renders by Mitsuba, which is missing: pip install mitsuba pyoidn")
    from evaluation import rooms

    for name, options in FRESH.items():
        seeds = {"seed": seed, "parts_seed": seed + 1, "chains_seed": seed + 2}
        rooms.main([str(folder / name), *options.format(folder=folder, **seeds).split()])


def evaluate(data=None, output=Path("evaluation_output"), photographs=None):
    """Measure all networks on the sets in a folder, None for those that ship.

    Of photographs, a folder too, None are those of Debian's package, which are left out with a word
    where they are not.
    """
    from evaluation import examination, figures, geometry, rivals
    from evaluation.subjects import NETWORKS, load_subject
    from evaluation.tables import csv_text, markdown
    from evaluation.views import load_views
    from simvis.models import start_tensorflow

    folder = data or HELD_OUT
    names = [name for name in examination.OPTIONAL_SETS if (folder / name).exists()]
    sets = {name: load_views(folder / name) for name in (*examination.SETS, *names)}
    known = {}
    if photographs or geometry.FOLDER.is_dir():
        known = geometry.load_photographs(photographs or geometry.FOLDER)
    else:
        print("without photographs: Debian's opencv-doc is not installed", file=sys.stderr)
    start_tensorflow()
    output.mkdir(parents=True, exist_ok=True)
    report = examination.Report()
    if not rivals.has_sbsm():
        words = "SBSM is left out, as xaitk-saliency is not installed"
        print(f"evaluation: {words}", file=sys.stderr)
    budget = examination.SHIPPED if data is None else examination.THOROUGH
    for name in NETWORKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        examination.examine(name, sets, report, budget)
    examination.measure_photographs(known, report)
    text = "\n".join(markdown(title, cells) for title, cells in report.items())
    print(text)
    for name, content in (("tables.md", text), ("tables.csv", csv_text(report))):
        write_whole(output / name, lambda file, content=content: file.write(content.encode()))
    pair = examination.telling_pair(sets["held_all"])
    subjects = [load_subject(name) for name in ("imagenet", "rooms-headboard", "rooms-carpet")]
    figures.pair_figure(output / "taught.jpg", pair, subjects)
    grains = [subjects[1].at(stride) for stride in (None, 16, 8)]
    figures.pair_figure(output / "grains.jpg", pair, grains)
    cells = report[examination.RIVALS_TABLE].items()
    cells = {cell: value for cell, value in cells if cell[1] != "runs"}
    figures.correlation_figure(output / "counterfactuals.png", cells)


if __name__ == "__main__":
    sys.exit(main())
