"""The authors' networks, judged by tf-slim and OpenCV."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tensor_tables import read_table, write_table

from models import load_network
from similarity_ops import compute_spatial_similarity, pool_features
from simvis import image_ops
from simvis.models.checkpoints import read_tensorflow_variables
from simvis.models.resnet_v2 import (
    build,
    preprocess,
    projection,
    read_mean_image,
    read_weights,
)
from simvis.pair import visualize_pair

DIMENSIONS = 128


@pytest.fixture(scope="session")
def judged(tmp_path_factory):
    """A checkpoint with random values in all variables, and what slim makes of random inputs."""
    folder = tmp_path_factory.mktemp("slim")
    judge = [sys.executable, ROOT / "tests" / "models" / "slim_judge.py", folder, str(DIMENSIONS)]
    subprocess.run(judge, check=True, capture_output=True)
    with np.load(folder / "judged.npz") as arrays:
        return folder / "slim", dict(arrays)


@pytest.fixture(scope="session")
def mean_image(tmp_path_factory):
    path = tmp_path_factory.mktemp("mean") / "mean.npy"
    np.save(path, np.random.default_rng(3).uniform(80, 150, (224, 224, 3)))
    return path


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


# --- the network ---------------------------------------------------------------------------------


def test_the_checkpoint_has_the_272_variables_of_slim(judged):
    prefix, expected = judged
    weights, ignored = read_weights(prefix)
    assert {f"resnet_v2_50/{name}" for name in weights} == set(expected["names"])
    assert len(weights) == 272 and ignored == 1  # the global step


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("batch_norm", ["batch", "moving"])
def test_activations_logits_and_maps_equal_slims(judged, batch_norm, size):
    prefix, expected = judged
    weights, _ = read_weights(prefix)
    conv1, conv2 = conv = build(weights, batch_norm)(expected[f"input{size}"]).numpy()
    assert relative_error(conv, expected[f"{batch_norm}{size}"]) < 1e-4
    head = projection(weights)
    logits = np.stack([pool_features(image, projection=head) for image in conv])
    assert relative_error(logits, expected[f"{batch_norm}{size}_logits"]) < 1e-4
    for options in ({}, {"projection": head}):
        maps = compute_spatial_similarity(conv1, conv2, **options)
        judges = compute_spatial_similarity(*expected[f"{batch_norm}{size}"], **options)
        for similarity, judge in zip(maps, judges, strict=True):
            assert relative_error(similarity, judge) < 1e-4


def test_batch_statistics_tie_an_image_to_its_partner(judged, mean_image, rng):
    images = rng.integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    for batch_norm, independent in ((None, False), ("moving", True)):
        network = load_network(
            "hotels", checkpoint=judged[0], mean_image=mean_image, batch_norm=batch_norm
        )
        assert network.batch_independent == independent
        assert network.input_size == (224, 224) and network.explain == "pooled"
        assert network.projection[0].shape == (2048, DIMENSIONS)
        first, _ = network.activations(network.preprocess(images[[0, 1]]))
        second, _ = network.activations(network.preprocess(images[[0, 2]]))
        assert (relative_error(first, second) < 1e-5) == independent


def test_fine_maps_of_training_statistics(judged, mean_image, rng):
    images = rng.integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    options = {"checkpoint": judged[0], "mean_image": mean_image}
    network = load_network("hotels", **options, batch_norm="moving")
    for stride, explain in ((16, "pooled"), (8, "head")):
        pair = visualize_pair(*images, network, stride=stride, explain=explain)
        assert pair.similarity1.shape == (224 // stride, 224 // stride)
        assert_allclose(pair.sums, pair.network_similarity, atol=1e-5)
    with pytest.raises(ValueError, match='batch_norm="moving"'):
        visualize_pair(*images, load_network("hotels", **options), stride=8)


def test_another_input_size_stretches_the_mean_image(judged, mean_image, tmp_path, rng):
    options = {"checkpoint": judged[0], "mean_image": mean_image, "batch_norm": "moving"}
    usual, wide = (load_network("hotels", **options, input_size=s) for s in (None, (96, 160)))
    image, mean = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8), np.load(mean_image)
    expected = image_ops.resize_like_opencv(image, (224, 224))[None, ..., ::-1] - mean
    assert_array_equal(usual.preprocess([image]), expected.astype(np.float32))
    batch = wide.preprocess([image])
    assert wide.input_size == (96, 160) and "mean image stretched" in wide.description
    assert wide.activations(batch).shape == (1, 3, 5, 2048)
    stretched = image_ops.resize_like_opencv(image, (96, 160))[None, ..., ::-1] - batch
    assert_allclose(stretched.mean((0, 1, 2)), mean.mean((0, 1)), atol=0.5)
    ramp = np.broadcast_to(np.linspace(0, 1, 224)[:, None, None], (224, 224, 3))  # stays a ramp
    np.save(tmp_path / "ramp.npy", ramp)
    stretched = read_mean_image(tmp_path / "ramp.npy", (448, 30))
    assert_allclose(stretched[:, 7, 1], (np.arange(448) - 0.5) / 446, atol=3e-3)


# --- the checkpoint ------------------------------------------------------------------------------


def save_variables(prefix, variables):
    """Write a checkpoint of these names and arrays."""
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(value) for value in variables.values()],
    )


def test_all_misfits_are_reported_in_one_line(tmp_path):
    good = {"one": np.ones((3, 4), "f4"), "two": np.ones(5, "f4")}
    save_variables(tmp_path / "good", {f"scope/{name}": value for name, value in good.items()})
    arrays, ignored = read_tensorflow_variables(tmp_path / "good", {"one": (3, None)}, "scope/")
    assert arrays["one"].shape == (3, 4) and ignored == 1  # None is any length
    message = "good: 2 of its.*missing three; one has shape .3, 4., expected .3, 5."
    with pytest.raises(ValueError, match=message):
        read_tensorflow_variables(tmp_path / "good", {"one": (3, 5), "three": ()}, "scope/")
    save_variables(tmp_path / "double", {**good, "one": np.ones(3)})
    with pytest.raises(ValueError, match="double: expected float32.*one is float64"):
        read_tensorflow_variables(tmp_path / "double", {"one": (3,), "two": (5,)})


def test_damaged_checkpoints_are_one_line_that_names_the_prefix(judged, mean_image, tmp_path):
    index, data = (Path(f"{judged[0]}{ending}") for ending in (".index", ".data-00000-of-00001"))
    for name, index_bytes, data_bytes in (
        ("half", index.read_bytes(), None),
        ("cut", index.read_bytes(), data.read_bytes()[:1_000_000]),
        ("flipped", index.read_bytes()[:-100] + bytes(100), data.read_bytes()),
        ("text", b"not a checkpoint", b"at all"),
    ):
        (tmp_path / f"{name}.index").write_bytes(index_bytes)
        if data_bytes is not None:
            (tmp_path / f"{name}.data-00000-of-00001").write_bytes(data_bytes)
    for name in ("half", "cut", "flipped", "text", "missing"):
        with pytest.raises((ValueError, FileNotFoundError), match=name) as error:
            load_network("hotels", checkpoint=tmp_path / name, mean_image=mean_image)
        assert "\n" not in str(error.value)


def test_a_shape_that_no_tensor_can_have_does_not_end_the_process(tmp_path):
    """Checksums are right, and TensorFlow ends the process over the first four of these."""
    from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

    save_variables(tmp_path / "good", {"one": np.ones((3, 4), "f4"), "two": np.ones(5, "f4")})

    def many(entry):
        for _ in range(300):
            entry.shape.dim.add().size = 1

    def sliced(entry):
        for _ in range(2):
            entry.slices.add().extent.add()

    attacks = {
        "negative": lambda entry: setattr(entry.shape.dim[0], "size", -1),
        "many": many,
        "large": lambda entry: setattr(entry.shape.dim[0], "size", 2**62),
        "sliced": sliced,
        "type": lambda entry: setattr(entry, "dtype", 77),
        "offset": lambda entry: setattr(entry, "offset", -5),
        "size": lambda entry: setattr(entry, "size", 2**50),
        "shard": lambda entry: setattr(entry, "shard_id", -7),
    }
    index = dict(read_table(f"{tmp_path}/good.index"))
    for name, attack in attacks.items():
        entry = BundleEntryProto.FromString(index[b"one"])
        attack(entry)
        entries = sorted({**index, b"one": entry.SerializeToString()}.items())
        (tmp_path / f"{name}.index").write_bytes(write_table(entries))
        data = Path(f"{tmp_path}/good.data-00000-of-00001").read_bytes()
        (tmp_path / f"{name}.data-00000-of-00001").write_bytes(data)
    program = """
import sys
from simvis.models.checkpoints import read_tensorflow_variables
for name in sys.argv[2:]:
    try:
        print(name, read_tensorflow_variables(f"{sys.argv[1]}/{name}", {"one": (3, 4)})[0])
    except ValueError as error:
        print(error)
"""
    command = [sys.executable, "-c", program, tmp_path, *attacks, "good"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    *refused, good = run.stdout.splitlines()[: len(attacks) + 1]
    for name, line in zip(attacks, refused, strict=True):
        assert line.startswith(f"{tmp_path}/{name}: "), line
    assert good.startswith("good {'one': array(")


def test_however_a_mean_image_is_damaged_the_error_is_one_line(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (224, 224, 3), }"
    path = tmp_path / "mean.npy"
    for text in (
        header.replace("}", ""),
        header.replace("}", "'"),
        header.replace("224, 224", "9" * 30),
        header.replace("(224", "(-224"),
        header.replace("(224", "(" * 40 + "224"),
        header.replace("<f4", "<f4000000000000"),
        header.replace("'<f4'", "'O'"),
        header.replace("'<f4'", "[('a', '<f4')]"),
        header.replace("'descr'", "descr"),
        "",
        header,  # and no data
    ):
        text = text.encode().ljust(117) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
        with pytest.raises(ValueError, match="mean.npy: [^\n]+$"):
            read_mean_image(path)
    full = np.full((224, 224, 3), 1.0)
    for content, message in (
        (full[..., 0], r"expected a \(224, 224, 3\) array of numbers, got \(224, 224\)"),
        (full * np.nan, "expected finite values"),
        (full * np.longdouble("1e4000"), "expected finite values"),
        (full * 1e300, "expected finite values"),
        (np.array([{}]), "not a mean image"),
    ):
        np.save(path, content)
        with pytest.raises(ValueError, match=f"mean.npy: {message}"):
            read_mean_image(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="mean.npy: no such mean image"):
        read_mean_image(path)
    np.savez(path.with_suffix(".npz"), full)
    path.mkdir()
    for odd in (path, path.with_suffix(".npz")):
        with pytest.raises(ValueError, match="not a mean image"):
            read_mean_image(odd)


# --- preprocessing -------------------------------------------------------------------------------


def test_resizing_equals_opencv_to_the_bit(rng):
    for trial in range(300):
        height, width, new_height, new_width = rng.integers(1, 300, 4).tolist()
        if trial % 5 == 0:
            height, new_width = (1, 1) if trial % 2 else (height, 1)
        if trial % 7 == 0:
            new_height, new_width = 2 * height, 2 * width
        if trial % 11 == 0:
            height, width = 2 * new_height, 2 * new_width
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        resized = image_ops.resize_like_opencv(image, (new_height, new_width))
        assert_array_equal(resized, cv2.resize(image, (new_width, new_height)))


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_the_networks_input_equals_opencvs_to_the_bit(tmp_path, rng, ending):
    path = tmp_path / f"image{ending}"
    for trial in range(16):
        mean = rng.uniform(80, 150, (224, 224, 3)).astype(np.float64 if trial % 2 else np.float32)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        image = coarse.resize(rng.integers(1, 600, 2).tolist(), Image.Resampling.BICUBIC)
        image = image.convert("L") if trial % 5 == 0 else image
        exif = Image.Exif()
        exif[0x0112] = 1 + trial // 2  # each orientation, for each type of the mean image
        image.save(path, exif=exif)
        pixels = cv2.resize(cv2.imread(str(path)), (224, 224))
        expected = (pixels - mean).astype(np.float32)
        assert_array_equal(preprocess([image_ops.load_image(path)], mean)[0], expected)
