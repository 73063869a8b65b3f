"""Maps while a network trains: a real training run, and what it leaves for TensorBoard."""

import io
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_drawing import holds

from models import load_network
from simvis import image_ops
from simvis.plotting.legend import value_text
from simvis.training import SimilarityMaps
from visualize_similarity import EXAMPLE_PAIR, visualize_pair

SIDE = 32


def synthetic(count, seed):
    """Images of noise with a disc, red or green, in one quarter; return images, classes, masks."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 200, (count, SIDE, SIDE, 3)).astype(np.uint8)
    classes = rng.integers(0, 2, count)
    masks = np.zeros((count, SIDE, SIDE), bool)
    y, x = np.mgrid[:SIDE, :SIDE]
    for image, kind, mask in zip(images, classes, masks, strict=True):
        cy, cx = rng.choice([8, 24], 2)
        mask[(y - cy) ** 2 + (x - cx) ** 2 < 36] = True
        image[mask] = ((230, 30, 30), (30, 230, 30))[kind]
    return images, classes, masks


def build():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.RandomFlip(),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="last_conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.1),
            layers.Dense(2),
        ]
    )


def train(callbacks, epochs=4, model=None, **options):
    images, classes, _ = synthetic(256, 0)
    if model is None:
        model = build()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
    options = {"batch_size": 32, "verbose": 0, **options}
    model.fit(images, classes, epochs=epochs, callbacks=callbacks, **options)
    return model


def events(folder):
    """Return {tag: {step: value}} of a folder's event file, as TensorBoard reads it."""
    reader = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    reader.Reload()
    tags = reader.Tags()
    found = {tag: {e.step: e.value for e in reader.Scalars(tag)} for tag in tags["scalars"]}
    for tag in tags["images"]:
        found[tag] = {e.step: e.encoded_image_string for e in reader.Images(tag)}
    return found


def share_on_object(path_or_picture, similarity, mask):
    positive = image_ops.upsample_map(similarity, mask.shape).clip(0)
    return positive[mask].sum() / positive.sum()


@pytest.mark.filterwarnings("ignore:SimilarityMaps, step .*collapsed:UserWarning")  # two of a kind
def test_a_training_run_can_be_watched(tmp_path):
    images, classes, masks = synthetic(40, 1)
    red = np.flatnonzero(classes == 0)[:2]
    pairs = [tuple(images[red]), EXAMPLE_PAIR]
    maps = SimilarityMaps(pairs, tmp_path / "logs", tmp_path / "maps", epochs=2)
    model = train([maps])
    names = ("01_image1_image2", "02_room_a_view1_room_a_view2")
    found = events(tmp_path / "logs")
    assert sorted(found) == sorted(
        f"{kind}/{name}" for kind in ("similarity", "similarity_maps") for name in names
    )
    after = visualize_pair(*pairs[0], load_network(model))
    outputs = np.asarray(model(images[red].astype(np.float32), training=False), np.float64)
    cosine = outputs[0] @ outputs[1] / np.prod(np.linalg.norm(outputs, axis=1))
    scalars = found[f"similarity/{names[0]}"]
    assert list(scalars) == [0, 2, 4]
    assert_allclose(scalars[4], cosine, atol=1e-4)
    # what was learned is looked at: the disc, which is a tenth of the image
    before = visualize_pair(*pairs[0], load_network(build()))
    on_disc = [share_on_object(pair, pair.similarity1, masks[red[0]]) for pair in (before, after)]
    assert on_disc[1] > 2 * on_disc[0] and on_disc[1] > 0.5, on_disc
    for name, size in zip(names, ((SIDE, 400), (480, 1440)), strict=True):
        for step, content in found[f"similarity_maps/{name}"].items():
            picture = image_ops.load_image(tmp_path / "maps" / f"{step:06d}_{name}.png")
            assert picture.shape[0] > size[0] and picture.shape[1] == size[1]  # with a legend
            assert holds(picture, f"epoch {step}, similarity", 10 if size[1] == 400 else 30)
            assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), picture)
    expected = image_ops.combine_horizontal([after.overlay1, after.overlay2])
    last = image_ops.load_image(tmp_path / "maps" / f"000004_{names[0]}.png")
    assert np.abs(last[:SIDE, : 2 * SIDE] - expected.astype(int)).mean() < 0.5
    assert holds(last, value_text(after.similarity1.max(), np.abs(after.similarity1).max()))
    assert len(list((tmp_path / "maps").iterdir())) == 6


@pytest.mark.filterwarnings("ignore:SimilarityMaps, step .*collapsed:UserWarning")  # two of a kind
def test_steps_are_the_trainings_own(tmp_path):
    """A second training goes on, whether it counts on or begins to count again."""

    def steps():
        return [int(path.name[:6]) for path in sorted(tmp_path.iterdir())]

    images = synthetic(2, 2)[0]
    maps = SimilarityMaps([tuple(images)], folder=tmp_path)
    model = train([maps], 2)
    assert steps() == [0, 1, 2]
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())]
    train([maps], 4, model, initial_epoch=2)
    assert steps() == [0, 1, 2, 3, 4]
    train([maps], 1, model)
    assert steps() == [0, 1, 2, 3, 4, 5]
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())][:3] == times
    for path in tmp_path.iterdir():
        path.unlink()
    train([SimilarityMaps([tuple(images)], folder=tmp_path)], 8, model, initial_epoch=7)
    assert steps() == [7, 8]
    for path in tmp_path.iterdir():
        path.unlink()
    maps = SimilarityMaps([tuple(images)], folder=tmp_path, batches=5)
    train([maps], 2, model, initial_epoch=1)  # of eight batches
    assert steps() == [8, 10, 15]


def test_a_network_that_collapses_is_told(tmp_path):
    one, other = synthetic(2, 2)[0]

    class Collapse(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[-1].kernel.assign(0 * self.model.layers[-1].kernel)
            self.model.layers[-1].bias.assign([1.0, 2.0])

    maps = SimilarityMaps([(one, other)], folder=tmp_path)
    with pytest.warns(UserWarning, match="step 1: all pairs are 1.0000 similar .*collapsed"):
        train([Collapse(), maps], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # an image is like itself to any network
        train([Collapse(), SimilarityMaps([(one, one)], folder=tmp_path)], 1)


def test_watching_changes_nothing(tmp_path):
    image = synthetic(1, 2)[0][0]
    watched = train([SimilarityMaps([(image, image)], folder=tmp_path, batches=3)], epochs=1)
    assert [path.name[:6] for path in sorted(tmp_path.iterdir())] == ["000000", "000003", "000006"]
    for weights, expected in zip(watched.get_weights(), train([], 1).get_weights(), strict=True):
        assert_allclose(weights, expected, atol=1e-6)


def test_a_layer_is_watched_before_a_head_that_is_not_linear(tmp_path):
    image = synthetic(1, 2)[0][0]
    model = build()
    model.add(layers.Softmax())
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="nowhere"):
        maps = SimilarityMaps([(image, image)], tmp_path, layer="nowhere")
        model.fit(image[None], np.array([0]), callbacks=[maps])
    maps = SimilarityMaps([(image, image)], tmp_path, layer="last_conv", look={"size": 50})
    model.fit(image[None], np.array([0]), verbose=0, callbacks=[maps])
    (content, *_) = events(tmp_path)["similarity_maps/01_image1_image2"].values()
    assert Image.open(io.BytesIO(content)).size[0] == 400  # room for a legend


def test_a_network_that_breaks_is_a_warning_and_goes_on(tmp_path):
    image = synthetic(1, 2)[0][0]
    maps = SimilarityMaps([(image, image)], folder=tmp_path)

    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[-1].bias.assign([np.nan, 0.0])

    with pytest.warns(UserWarning, match="SimilarityMaps, step 1, 01_image1_image2: .*not finite"):
        train([Break(), maps], epochs=1)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "log_dir, folder: give one"),
        ({"folder": "f", "epochs": 0}, "epochs: expected an integer >= 1, got 0"),
        ({"folder": "f", "batches": 1.5}, "batches: expected an integer >= 1, got 1.5"),
    ],
)
def test_options_are_checked_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        SimilarityMaps([EXAMPLE_PAIR], **options)
    with pytest.raises(FileNotFoundError, match="gone.png"):
        SimilarityMaps([("gone.png", "gone.png")], folder="f")


def test_events_are_written_without_tensorboard(tmp_path):
    """TensorFlow no longer brings TensorBoard along."""
    image = synthetic(1, 2)[0][0]
    train([SimilarityMaps([(image, image)], tmp_path)], epochs=1)
    (path,) = tmp_path.iterdir()
    records = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    assert [len(event.summary.value) for event in records] == [0, 2, 2]
