"""Maps while a network trains: a real training run, and what it leaves for TensorBoard."""

import io
import resource
import shutil
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal
from pictures import holds
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models import load_network
from simvis import image_ops
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


def train(callbacks, epochs=1, model=None, count=64, **options):
    images, classes, _ = synthetic(count, 0)
    if model is None:
        model = build()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(images, classes, 32, epochs, verbose=0, callbacks=callbacks, **options)
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


def share_on_disc(pair, mask):
    positive = image_ops.upsample_map(pair.similarity1, mask.shape).clip(0)
    return positive[mask].sum() / positive.sum()


@pytest.mark.filterwarnings("ignore:SimilarityMaps, step .*collapsed:UserWarning")  # two of a kind
def test_a_training_run_can_be_watched(tmp_path):
    images, classes, masks = synthetic(40, 1)
    red = np.flatnonzero(classes == 0)[:2]
    pairs = [tuple(images[red]), EXAMPLE_PAIR]
    maps = SimilarityMaps(pairs, tmp_path / "logs", tmp_path / "maps", epochs=2)
    model = train([maps], 4, count=256)
    names = ("01_image1_image2", "02_room_a_view1_room_a_view2")
    found = events(tmp_path / "logs")
    assert set(found) == {f"{k}/{n}" for k in ("similarity", "similarity_maps") for n in names}
    outputs = np.asarray(model(images[red].astype(np.float32), training=False), np.float64)
    cosine = outputs[0] @ outputs[1] / np.prod(np.linalg.norm(outputs, axis=1))
    scalars = found[f"similarity/{names[0]}"]
    assert list(scalars) == [0, 2, 4]
    assert_allclose(scalars[4], cosine, atol=1e-4)
    # what was learned is looked at: the disc, which is a tenth of the image
    before, after = (visualize_pair(*pairs[0], load_network(each)) for each in (build(), model))
    shares = [share_on_disc(pair, masks[red[0]]) for pair in (before, after)]
    assert shares[1] > 2 * shares[0] and shares[1] > 0.5, shares
    for name, size in zip(names, ((SIDE, 400), (480, 1440)), strict=True):
        for step, content in found[f"similarity_maps/{name}"].items():
            picture = image_ops.load_image(tmp_path / "maps" / f"{step:06d}_{name}.png")
            assert picture.shape[0] > size[0] and picture.shape[1] == size[1]  # with a legend
            assert holds(picture, f"epoch {step}, similarity", 10 if size[1] == 400 else 30)
            assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), picture)
    last = image_ops.load_image(tmp_path / "maps" / f"000004_{names[0]}.png")
    expected = image_ops.combine_horizontal([after.overlay1, after.overlay2])
    assert np.abs(last[:SIDE, : 2 * SIDE] - expected.astype(int)).mean() < 0.5
    assert len(list((tmp_path / "maps").iterdir())) == 6


@pytest.mark.filterwarnings("ignore:SimilarityMaps, step .*collapsed:UserWarning")  # two of a kind
def test_steps_are_the_trainings_own(tmp_path):
    """A second training goes on, whether it counts on or begins to count again."""

    def steps(folder):
        return [int(path.name[:6]) for path in sorted((tmp_path / folder).iterdir())]

    pair = tuple(synthetic(2, 2)[0])
    maps = SimilarityMaps([pair], folder=tmp_path / "a")
    model = train([maps], 2)
    assert steps("a") == [0, 1, 2]
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "a").iterdir())]
    train([maps], 4, model, initial_epoch=2)
    assert steps("a") == [0, 1, 2, 3, 4]
    train([maps], 1, model)
    assert steps("a") == [0, 1, 2, 3, 4, 5]
    now = [path.stat().st_mtime_ns for path in sorted((tmp_path / "a").iterdir())]
    assert now[:3] == times
    train([SimilarityMaps([pair], folder=tmp_path / "b")], 8, model, initial_epoch=7)
    assert steps("b") == [7, 8]
    maps = SimilarityMaps([pair], folder=tmp_path / "c", batches=5)
    train([maps], 2, model, count=256, initial_epoch=1)  # of eight batches
    assert steps("c") == [8, 10, 15]


@pytest.fixture
def image():
    return synthetic(1, 2)[0][0]


@pytest.mark.parametrize("every, drawn", [(2, [0, 3, 6, 9, 12]), (6, [0, 6, 12])])
def test_steps_that_run_several_at_once_are_counted_all(every, drawn, tmp_path):
    model = build()
    model.compile("sgd", "mse", steps_per_execution=3)
    images, _, _ = synthetic(48, 0)
    pair = tuple(images[:2])
    targets = np.zeros((48, 2))
    maps = SimilarityMaps([pair], folder=tmp_path, batches=every)
    model.fit(images, targets, batch_size=8, epochs=2, verbose=0, callbacks=[maps])
    assert sorted(int(path.name[:6]) for path in tmp_path.glob("*.png")) == drawn


def test_a_model_that_is_built_on_its_first_batch(tmp_path):
    copies = [layer.from_config(layer.get_config()) for layer in build().layers]
    model = keras.Sequential(copies)
    assert not model.built
    model.compile("sgd", "mse")
    images, _, _ = synthetic(16, 0)
    maps = SimilarityMaps([tuple(images[:2])], folder=tmp_path)
    model.fit(images, np.zeros((16, 2)), verbose=0, callbacks=[maps])
    assert len(list(tmp_path.glob("*.png"))) == 2


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


def test_watching_changes_nothing(image, tmp_path):
    watched = train([SimilarityMaps([(image, image)], folder=tmp_path, batches=1)])
    assert [path.name[:6] for path in sorted(tmp_path.iterdir())] == ["000000", "000001", "000002"]
    for weights, expected in zip(watched.get_weights(), train([]).get_weights(), strict=True):
        assert_allclose(weights, expected, atol=1e-6)


def test_a_layer_is_watched_before_a_head_that_is_not_linear(image, tmp_path):
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


def test_maps_may_be_fine(image, tmp_path):
    other, shapes = 255 - image, []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            network = load_network(self.model, layer="last_conv")
            pair = visualize_pair(image, other, network, stride=2)
            shapes.append((pair.similarity1.shape, pair.picture(legend=True, note="epoch 1")))

    maps = SimilarityMaps([(image, other)], folder=tmp_path, stride=2, layer="last_conv")
    train([Look(), maps])
    (shape, picture), path = shapes[0], tmp_path / "000001_01_image1_image2.png"
    assert shape == (16, 16) and (image_ops.load_image(path) == picture).all()
    with pytest.raises(ValueError, match="stride: .* no layer of 8 pixels .* there are 1, 2, 4"):
        train([SimilarityMaps([(image, other)], folder=tmp_path, stride=8, layer="last_conv")])


def test_a_network_that_breaks_is_a_warning_and_goes_on(image, tmp_path):
    maps = SimilarityMaps([(image, image)], folder=tmp_path)

    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[-1].bias.assign([np.nan, 0.0])

    with pytest.warns(UserWarning, match="SimilarityMaps, step 1, 01_image1_image2: .*not finite"):
        train([Break(), maps])
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("fault", ["folder gone", "disk full"])
def test_a_folder_that_fails_ends_no_training(image, tmp_path, fault):
    maps = SimilarityMaps([(image, image)], tmp_path / "logs", tmp_path / "maps")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Fail(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if fault == "folder gone":
                shutil.rmtree(tmp_path / "maps")
                shutil.rmtree(tmp_path / "logs")
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (9, limit[1]))

    try:
        with pytest.warns(UserWarning, match="SimilarityMaps, step 1, 01_image1_image2: .*maps"):
            model = train([Fail(), maps])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert model.optimizer.iterations == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "log_dir, folder: give one"),
        ({"folder": "f", "epochs": 0}, "epochs: expected an integer >= 1, got 0"),
        ({"folder": "f", "stride": 0}, "stride: expected a whole number of pixels"),
        ({"folder": "f", "batches": 1.5}, "batches: expected an integer >= 1, got 1.5"),
    ],
)
def test_options_are_checked_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        SimilarityMaps([EXAMPLE_PAIR], **options)
    with pytest.raises(FileNotFoundError, match="gone.png"):
        SimilarityMaps([("gone.png", "gone.png")], folder="f")
