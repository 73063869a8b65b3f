"""The whole program, cold, against a bare import of TensorFlow."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import table

SEARCH = "a search of 10,000 images, 12 hits with maps"
PROGRAM = Path(__file__).resolve().parent.parent / "visualize_similarity.py"


def cold(command, folder):
    """Return the seconds and the peak memory in MB of a process."""
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, **quiet)
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status != 0:
        raise RuntimeError(f"{command} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def report(repeats=5):
    bare = [sys.executable, "-c", "import tensorflow"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # not in this process, whose memory would count as the first of its children
        call = "from benchmarks.program import *; from benchmarks.gallery import make_gallery; "
        call += f"write_random_hotels({folder!r}); make_gallery(Path({folder!r}), 10_000, 24)"
        subprocess.run([sys.executable, "-c", call], cwd=PROGRAM.parent, check=True)
        examples = PROGRAM.parent / "example_images"
        pair = [str(examples / f"room_a_view{number}.jpg") for number in (1, 2)]
        hotels = ["--network", "hotels", "--checkpoint", "hotels", "--mean-image", "mean.npy"]
        programs = {
            "imagenet, example pair": [sys.executable, str(PROGRAM)],
            "hotels, a random checkpoint": [sys.executable, str(PROGRAM), *pair, *hotels],
        }
        find = ["find", "images/0000.jpg", "--gallery", "gallery", "--output", "hits"]
        programs[SEARCH] = [sys.executable, str(PROGRAM.parent / "search_gallery.py"), *find]
        for name, command in programs.items():
            runs = [(*cold(bare, folder), *cold(command, folder)) for _ in range(repeats + 1)]
            imported, bare_peak, whole, peak = np.array(runs[1:]).T
            peaks = (f"{np.median(peaks):.0f} MB" for peaks in (peak, bare_peak))
            rows.append((name, f"{np.median(whole / imported):.2f}x", *peaks))
    columns = "run", "time, in bare imports of TensorFlow", "peak memory", "of the bare import"
    table("The programs, cold", columns, rows)
    waited_for = (rows[0], "1.10x"), (rows[-1], "1.5x")
    return [(f"cold, {row[0]}, in bare imports", row[1], reach) for row, reach in waited_for]


def write_random_hotels(folder):
    """Write a checkpoint of the authors' size, hotels, and a mean image, mean.npy."""
    import tensorflow as tf

    from simvis.models import resnet_v2

    rng = np.random.default_rng(0)
    weights = {
        f"resnet_v2_50/{name}": rng.uniform(0.01, 0.02, [128 if n is None else n for n in shape])
        for name, shape in resnet_v2.variable_shapes()
    }
    tf.raw_ops.SaveV2(
        prefix=str(Path(folder) / "hotels"),
        tensor_names=list(weights),
        shape_and_slices=[""] * len(weights),
        tensors=[tf.constant(values, tf.float32) for values in weights.values()],
    )
    np.save(Path(folder) / "mean.npy", np.full((*resnet_v2.INPUT_SIZE, 3), 123, np.float32))
