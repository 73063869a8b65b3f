"""Kill what writes results at random times, and look at what is left.

    python -m tests.kills pairs --kills 100
    python -m tests.kills gallery --kills 100

Runs of many pairs go on after each kill, and every picture, every file of maps and the table of
scores must come out as those of a run that was let be, to the bit, with nothing left behind.

A gallery must open after every kill, with no path twice and with all that had been committed, a run
that ends must leave what is in the folder and nothing else, and in the end the gallery must hold
what one that was let be holds.  The network is a few lines of numpy, every few images are a commit.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from simvis.batch.pairs import visualize_pairs
from simvis.gallery import indexing
from simvis.gallery.gallery import Gallery
from simvis.gallery.table import ImageTable
from tests.galleries import color_network, write_images

PAIRS, IMAGES = 60, 240  # of a gallery, in the beginning
ACTIONS = ("index", "index", "index", "remove", "compact")


def start(*arguments):
    """Start the process that is killed."""
    return subprocess.Popen([sys.executable, "-m", "tests.kills", "--run", *map(str, arguments)])


def is_killed(process, seconds):
    """Kill a process unless it ends in time; return whether it was killed."""
    try:
        assert process.wait(seconds) == 0, process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


# --- many pairs ----------------------------------------------------------------------------------


def run_pairs(folder, output):
    """Run all pairs of the images, of which one is text, one is cut and one is missing."""
    rng, paths = np.random.default_rng(1), sorted(Path(folder).rglob("*.png"))[:15]
    pairs = [tuple(rng.choice([*paths, f"{folder}/gone.png"], 2)) for _ in range(PAIRS)]
    visualize_pairs(pairs, color_network(), output, save_maps=True)


def results(output):
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != ".lock"}


def kill_pairs(place, kills, rng):
    """Kill so many runs; return how many runs that took and what was wrong."""
    folder = write_images(place / "images", 16)
    (folder / "0" / "0_0003.png").write_text("no image")
    (cut := folder / "1" / "0_0007.png").write_bytes(cut.read_bytes()[:90])
    whole, output, killed, runs, differences = place / "whole", place / "killed", 0, 0, set()
    begun = time.monotonic()
    assert start("pairs", folder, whole).wait() == 0
    takes, expected = time.monotonic() - begun, results(whole)
    while True:
        # most of the time goes into starting, and a run that goes on has less to do
        last, runs = killed == kills, runs + 1
        if is_killed(
            start("pairs", folder, output), None if last else rng.uniform(0.2, 0.9) * takes
        ):
            killed += 1
            continue
        found = results(output)
        differences |= {name for name in expected | found if expected.get(name) != found.get(name)}
        if last:
            return runs, sorted(differences)
        for path in output.iterdir():
            path.unlink()


# --- galleries -----------------------------------------------------------------------------------


def run_gallery(action, folder, gallery, told):
    """Do one thing, and tell of each commit."""
    indexing.SECONDS, indexing.COMMITS = 0.02, 3
    put, drop = ImageTable.put, ImageTable.drop

    def tell(word, paths):
        with open(told, "a") as file:
            file.write("".join(f"{word} {path}\n" for path in paths))

    def put_and_tell(table, rows):
        put(table, rows)
        tell("put", [row.path for row in rows])

    def drop_and_tell(table, paths):
        paths = list(paths)
        tell("dropping", paths)
        drop(table, paths)
        tell("dropped", paths)

    ImageTable.put, ImageTable.drop = put_and_tell, drop_and_tell
    subject = Gallery(gallery, color_network())
    Path(told).touch()  # it begins
    if action == "index":
        subject.index(folder)
    elif action == "compact":
        subject.compact()
    else:
        paths = sorted(ImageTable(gallery).files())
        subject.remove(random.Random(told).sample(paths, len(paths) // 4))


def look(gallery, before, told):
    """Return what is wrong with a gallery after a kill, given what it held before."""
    wrong, table = [], ImageTable(gallery)
    rows = set(table.files())
    if table.dataset.count_rows() != len(rows):
        wrong.append("a path twice")
    held, unsure = set(before), set()
    for line in told.read_text().splitlines():
        word, path = line.split(" ", 1)
        if word == "dropping":
            unsure.add(path)
        elif word == "put":
            held.add(path)
        else:
            held.discard(path)
            if path in rows:
                wrong.append(f"{path} came back")
    if lost := held - unsure - rows:
        wrong.append(f"{len(lost)} lost")
    table.nearest([1.0, 0.5, 0.2], 5)
    return wrong, rows


def kill_gallery(place, kills, rng):
    """Kill so many processes; return how many runs that took and what was wrong."""
    folder, gallery = write_images(place / "images", IMAGES), place / "gallery"
    Gallery(gallery, color_network()).index(folder)
    killed, runs, wrong, took, held = 0, 0, [], {}, set(ImageTable(gallery).files())
    while killed < kills:
        action, told = rng.choice(ACTIONS), place / f"told_{runs}"
        if action == "index":
            write_images(folder, 30, seed=1000 + runs)
            paths = sorted(folder.rglob("*.png"))
            for path in rng.sample(paths, 20 + max(0, len(paths) - IMAGES)):
                path.unlink()
            changed = sorted(folder.rglob("*.png"))
            for path, other in zip(changed[::20], changed[1::20], strict=False):
                path.write_bytes(other.read_bytes())
        process = start(action, folder, gallery, told)
        while not told.exists():
            time.sleep(0.002)
        begun, runs = time.monotonic(), runs + 1
        if is_killed(process, rng.uniform(0, took.get(action, 1.0))):
            killed += 1
        else:
            took[action] = time.monotonic() - begun
        found, held = look(gallery, held, told)
        wrong += [f"{action}: {each}" for each in found]
        allowed = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
        if action == "index" and process.returncode == 0 and held != allowed:
            wrong.append("a finished run left something out")
    for each in (gallery, whole := place / "whole"):
        Gallery(each, color_network()).index(folder)
    if contents(gallery) != contents(whole):
        wrong.append("the end is another")
    return runs, wrong


def contents(gallery):
    table = ImageTable(gallery)
    return {(*row[:7], row.embedding.tobytes()) for row in table.rows(table.files()).values()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("pairs", "gallery"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kill = kill_pairs if arguments.what == "pairs" else kill_gallery
    with tempfile.TemporaryDirectory() as place:
        runs, wrong = kill(Path(place), arguments.kills, random.Random(arguments.seed))
    print(f"{arguments.kills} kills in {runs} runs; wrong: {wrong or 'nothing'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        action, *given = sys.argv[2:]
        run_pairs(*given) if action == "pairs" else run_gallery(action, *given)
    else:
        main()
