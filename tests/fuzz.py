"""Feed damaged and hostile files and arrays to all that reads them, as long as one likes.

    python -m tests.fuzz --seconds 20 --seed 0

What may come of an input is a result that keeps its promise, or an error of one line.  The first
that is neither is printed with the seed and the number that make it again (--only NUMBER).
"""

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from simvis import image_ops, similarity_ops
from simvis.batch import pairs, records
from tests.models.tensor_tables import read_table, write_table

EXTREMES = (0.0, -0.0, 5e-324, 1e-310, 1e-45, 1e-38, 1.0, -1.0, 3e38, 1e154, 1e308, -1e308)
MAX_MEMORY = 6 * 2**30  # of this process: what asks for more gets a MemoryError


def damaged(data, rng):
    """Return bytes with some changed, repeated, cut out or put in."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        part, byte = data[place : place + length], rng.choice((b"\0", b"\xff", b"\x7f", b"\x80"))
        changes = [rng.randbytes(length), byte * length, b"", part * rng.choice((2, 3, 51))]
        data[place : place + length] = rng.choice(changes)
        if rng.random() < 0.2:
            del data[place:]
    return bytes(data)


def image(rng, folder):
    """Images of all formats."""
    kind = rng.choice(image_ops.READ_FORMATS)
    mode = rng.choice(("RGB", "L", "1", "F", "I;16", "RGBA", "P") if kind == "TIFF" else ("RGB",))
    compression = rng.choice((None, "tiff_lzw", "tiff_deflate", "packbits"))
    options = {"JPEG": {"progressive": rng.random() < 0.5}, "TIFF": {"compression": compression}}
    pixels = np.frombuffer(rng.randbytes(30 * 20 * 3), np.uint8).reshape(20, 30, 3)
    picture = Image.fromarray(pixels).convert("L" if mode in ("F", "I;16") else mode).convert(mode)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    extra = {"icc_profile": damaged(profile, rng), "exif": b"Exif\0\0II*\0" + rng.randbytes(40)}
    extra = extra if kind in ("PNG", "JPEG", "WEBP") and rng.random() < 0.3 else {}
    picture.save(file := io.BytesIO(), kind, **options.get(kind, {}), **extra)
    path = folder / f"image.{kind.lower()}"  # what it is, its first bytes say
    path.write_bytes(damaged(file.getvalue(), rng))
    if rng.random() < 0.2:
        assert image_ops.read_mask(path).dtype == np.uint8
    found = image_ops.load_image(path)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
    assert found.nbytes < 400_000_000


def arrays(rng, folder):
    """Activations, regions and heads of any size and kind."""
    shape = rng.choice(((1, 1, 1), (2, 3, 4), (1, 5, 33), (4, 4, 1)))
    values = np.random.default_rng(rng.randrange(2**32))

    def draw(shape):
        array = values.standard_normal(shape) * rng.choice((1, 1, 1e-30, 1e20, 1e200))
        if rng.random() < 0.5:
            array = np.abs(array)
        for _ in range(rng.choice((0, 0, 1, 5))):
            array.flat[rng.randrange(array.size)] = rng.choice(EXTREMES)
        if rng.random() < 0.05:
            array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf))
        with np.errstate(all="ignore"):
            return array.astype(rng.choice((np.float32, np.float64)))

    options = {"data_format": "channels_last", "pooling": rng.choice(similarity_ops.POOLINGS)}
    options["power"] = rng.choice((1, 3, 2.5, 1e3, 1e299, -1, np.nan, 3 + 0j, "3", None))
    if rng.random() < 0.3:
        options["region1"] = draw(shape[:2]) ** 2 if rng.random() < 0.8 else draw((9,))
    if rng.random() < 0.3:
        options["projection"] = draw((shape[2], 2)), rng.choice((None, draw((2,))))
    conv1, conv2 = draw(shape), draw(shape)
    maps = similarity_ops.compute_spatial_similarity(conv1, conv2, **options)
    cosine = maps[0].sum()
    assert np.isfinite(maps).all() and abs(cosine - maps[1].sum()) < 1e-4 > abs(cosine) - 1
    pairwise = similarity_ops.compute_pairwise_similarity(conv1, conv2, **options)
    assert np.isfinite(pairwise).all() and abs(pairwise.sum() - cosine) < 1e-4
    options["region"] = options.pop("region1", None)
    assert np.isfinite(similarity_ops.pool_features(conv1, **options)).all()


def mean_image(rng, folder):
    """Mean images, .npy files."""
    from simvis.models.resnet_v2 import read_mean_image

    path = folder / "mean.npy"
    np.save(path, np.zeros((224, 224, 3), rng.choice(("<f4", "<f8", "<f2"))))
    data = path.read_bytes()
    path.write_bytes(damaged(data[:128], rng) + data[128:] if rng.random() < 0.9 else data[:999])
    assert np.isfinite(read_mean_image(path)).all()


def checkpoint(rng, folder):
    """TensorFlow's checkpoints: an index with right checksums, and any shape in it."""
    import tensorflow as tf
    from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

    from simvis.models.checkpoints import read_tensorflow_variables

    prefix, names = str(folder / "checkpoint"), ["one", "two"]
    index, tensors = Path(f"{prefix}.index"), [tf.ones((3, 4)), tf.ones(5)]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=["", ""], tensors=tensors)
    if rng.random() < 0.3:
        index.write_bytes(damaged(index.read_bytes(), rng))
    else:
        entries, name = dict(read_table(index)), rng.choice((b"one", b"two"))
        entry = BundleEntryProto.FromString(entries[name])
        number = rng.choice((-1, 0, 1, 254, 2**31, 2**62, -(2**63)))
        kind = rng.randrange(6)
        if kind == 0:
            entry.shape.dim[0].size = number
        elif kind == 1:
            for _ in range(rng.choice((1, 253, 300))):
                entry.shape.dim.add().size = rng.choice((1, number))
        elif kind == 2:
            entry.dtype = number % 130
        elif kind == 3:
            entry.offset, entry.size = number, rng.choice((48, number))
        elif kind == 4:
            entry.shard_id = number % 2**31
        else:
            entry.slices.add().extent.add().start = number
        content = entry.SerializeToString()
        entries[name] = content if rng.random() < 0.7 else damaged(content, rng)
        index.write_bytes(write_table(sorted(entries.items())))
    found, _ = read_tensorflow_variables(prefix, {"one": (3, 4)})
    assert found["one"].shape == (3, 4)


def model_file(rng, folder):
    """Keras's model files, with other numbers in the configuration."""
    from simvis.models.keras_models.limits import load_model_file

    path = folder / "model.keras"
    if not path.is_file():
        import keras

        inputs, layers = keras.Input((32, 32, 3)), keras.layers
        pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, strides=8)(inputs))
        keras.Model(inputs, layers.Dense(5)(pooled)).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    numbers = (-1, 0, 7, 65_537, 3 * 10**8, 2**63, 1.5, None, "x", [9], True)

    def changed(node):
        if rng.random() < 0.01:
            return rng.choice(numbers)
        if isinstance(node, dict):
            return {key: changed(value) for key, value in node.items()}
        return [changed(value) for value in node] if isinstance(node, list) else node

    members["config.json"] = json.dumps(changed(json.loads(members["config.json"]))).encode()
    spoilt = rng.choice(list(members)) if rng.random() < 0.3 else None
    hostile = folder / "hostile.keras"
    with zipfile.ZipFile(hostile, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, damaged(content, rng) if name == spoilt else content)
    if rng.random() < 0.2:
        hostile.write_bytes(damaged(hostile.read_bytes(), rng))
    try:
        load_model_file(hostile)
    except Exception as error:  # which the reader turns into one line that names the file
        raise ValueError(" ".join(str(error).split())) from None


def tables(rng, folder):
    """Lists of pairs, and the results of earlier runs."""
    path = folder / "pairs.csv"
    text = "image1{0}image2\na.png{0}b.png\n'c,1.png'{0}d.png\n".format(rng.choice(",;\t"))
    path.write_bytes(damaged(text.replace("'", '"').encode(), rng))
    results = folder / "results"
    results.mkdir(exist_ok=True)
    row = dict.fromkeys(records.FIELDS, "") | {"pair": "1", "similarity": "0.5"}
    records.write_scores(results, [row])
    scores = results / "scores.csv"
    scores.write_bytes(damaged(scores.read_bytes(), rng))
    try:
        assert all(len(pair) == 2 for pair in pairs.read_pairs(path))
    finally:
        assert all(int(row["pair"]) > 0 for row in records.read_scores(results))


LIGHT = [image, arrays] * 10 + [tables] * 3  # which need no TensorFlow
ALL = LIGHT + [mean_image, checkpoint] * 3 + [model_file]


def fuzz(numbers, kinds, seed, seconds):
    """Feed inputs; return how many there were of each kind, and of each outcome."""
    seen, end = Counter(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in numbers:
            if time.monotonic() > end:
                break
            rng = random.Random(f"{seed} {number}")
            kind, outcome = rng.choice(kinds), "error"
            try:
                kind(rng, Path(folder))
                outcome = "result"
            except MemoryError:
                pass
            except Exception as error:
                lines = str(error).strip().splitlines()
                if not isinstance(error, (ValueError, OSError)) or len(lines) != 1:
                    raise AssertionError(f"{kind.__name__} {number}: {error!r}") from error
            seen[kind.__name__, outcome] += 1
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=10**9, help="stop after so many")
    parser.add_argument("--light", action="store_true", help="only what needs no TensorFlow")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one input again")
    arguments = parser.parse_args()
    with contextlib.suppress(ImportError):  # on a system that has no limits
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    numbers = range(arguments.inputs) if arguments.only is None else [arguments.only]
    try:
        seen = fuzz(numbers, LIGHT if arguments.light else ALL, arguments.seed, arguments.seconds)
    except AssertionError:
        traceback.print_exc()
        sys.exit("to see it again: the same command, and --only NUMBER")
    for (kind, outcome), count in sorted(seen.items()):
        print(f"{kind:12} {outcome:7} {count}")


if __name__ == "__main__":
    main()
