"""Kill what writes to a gallery at random times, and look at what is left.

    python -m tests.gallery_kills --kills 100

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

from simvis.gallery import indexing
from simvis.gallery.gallery import Gallery
from simvis.gallery.table import ImageTable
from tests.galleries import color_network, write_images

IMAGES = 240  # in the beginning
ACTIONS = ("index", "index", "index", "remove", "compact")


def run(action, folder, gallery, told):
    """Do one thing, as the process that is killed does, and tell of each commit."""
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
    wrong, rows = [], None
    table = ImageTable(gallery)
    rows = set(table.files())
    if table.dataset.count_rows() != len(rows):
        wrong.append("a path twice")
    held, unsure, put = set(before), set(), set()
    for line in told.read_text().splitlines() if told.exists() else []:
        word, path = line.split(" ", 1)
        (unsure if word == "dropping" else put if word == "put" else set()).add(path)
        if word == "put":
            held.add(path)
        if word == "dropped":
            held.discard(path)
            if path in rows:
                wrong.append(f"{path} came back")
    lost = held - unsure - rows
    if lost:
        wrong.append(f"{len(lost)} lost")
    table.nearest([1.0, 0.5, 0.2], 5)
    return wrong, rows


def kill(folder, gallery, kills, seed):
    """Kill so many processes; return how many runs that took and what was wrong."""
    rng, killed, runs, wrong, took = random.Random(seed), 0, 0, [], {}
    held = set(ImageTable(gallery).files())
    while killed < kills:
        action = rng.choice(ACTIONS)
        if action == "index":
            write_images(folder, 30, seed=1000 + runs)
            paths = sorted(path for path in folder.rglob("*.png"))
            for path in rng.sample(paths, 20 + max(0, len(paths) - IMAGES)):
                path.unlink()
            changed = sorted(folder.rglob("*.png"))
            for path, other in zip(changed[::20], changed[1::20], strict=False):
                path.write_bytes(other.read_bytes())
        told = folder.parent / f"told_{runs}"
        command = [sys.executable, "-m", "tests.gallery_kills", "--run", action]
        process = subprocess.Popen([*command, str(folder), str(gallery), str(told)])
        while not told.exists():
            time.sleep(0.002)
        begun, runs = time.monotonic(), runs + 1
        try:
            process.wait(rng.uniform(0, took.get(action, 1.0)))
            took[action] = time.monotonic() - begun
            assert process.returncode == 0, process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        found, held = look(gallery, held, told)
        wrong += [f"{action}: {each}" for each in found]
        allowed = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
        if action == "index" and process.returncode == 0 and held != allowed:
            wrong.append("a finished run left something out")
    Gallery(gallery, color_network()).index(folder)
    whole = gallery.with_name("whole")
    Gallery(whole, color_network()).index(folder)
    if contents(gallery) != contents(whole):
        wrong.append("the end is another")
    return runs, wrong


def contents(gallery):
    table = ImageTable(gallery)
    return {(*row[:-1], row.embedding.tobytes()) for row in table.rows(table.files()).values()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = write_images(Path(place) / "images", IMAGES)
        gallery = Path(place) / "gallery"
        Gallery(gallery, color_network()).index(folder)
        runs, wrong = kill(folder, gallery, arguments.kills, arguments.seed)
    print(f"{arguments.kills} kills in {runs} runs; wrong: {wrong or 'nothing'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
