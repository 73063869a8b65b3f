"""Kill a run of many pairs at random times, let it go on, and compare with one that was let be.

    python -m tests.kills --kills 100

Every picture, every file of maps and the table of scores must come out the same to the bit, with
nothing left behind.  The network is a few lines of numpy, so that a process starts at once.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from simvis.batch.pairs import visualize_pairs
from tests.galleries import color_network

PAIRS, IMAGES = 60, 16


def write_images(folder):
    """Write images, of which one is text, one is cut and one is missing."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        coarse.resize((240, 180), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    (folder / "3.png").write_text("no image")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:90])
    (folder / "11.png").unlink()


def run(folder, output):
    """Run all pairs, as the process that is killed does."""
    rng = np.random.default_rng(1)
    pairs = [tuple(f"{folder}/{i}.png" for i in rng.choice(IMAGES, 2)) for _ in range(PAIRS)]

    visualize_pairs(pairs, color_network(), output, save_maps=True)


def contents(output):
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != ".lock"}


def kill_and_compare(folder, kills, seed):
    """Kill runs until so many were killed; return how many runs that took, and differences."""
    whole, output = folder / "whole", folder / "killed"
    command = [sys.executable, "-m", "tests.kills", "--run", str(folder)]
    begun = time.monotonic()
    subprocess.run([*command, str(whole)], check=True)
    takes = time.monotonic() - begun
    expected, rng, killed, runs, differences = contents(whole), random.Random(seed), 0, 0, set()
    while killed < kills:
        process = subprocess.Popen([*command, str(output)])
        runs += 1
        try:
            # most of the time goes into starting, and a run that goes on has less to do
            status = process.wait(rng.uniform(0.2, 0.9) * takes)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            continue
        assert status == 0, status
        found = contents(output)
        differences |= {name for name in expected | found if expected.get(name) != found.get(name)}
        for path in output.iterdir():
            path.unlink()
    subprocess.run([*command, str(output)], check=True)
    found = contents(output)
    differences |= {name for name in expected | found if expected.get(name) != found.get(name)}
    return runs, differences


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--run", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run)
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = arguments.folder or Path(folder)
        write_images(folder)
        runs, differences = kill_and_compare(folder, arguments.kills, arguments.seed)
    print(f"{arguments.kills} kills in {runs} runs, {len(differences)} files differ")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
