"""Keras models that people have, beyond the plain ones: built late, quantized, branched, hashed."""

import keras
import numpy as np
import pytest
from keras import layers
from own_contract import pictures

from models import load_network
from simvis.models.network import directions_apart
from simvis.pair import visualize_pair

SIDE = 64


@pytest.fixture
def images(rng):
    keras.utils.set_random_seed(0)
    return pictures(rng)


def pooled(head, channels=3):
    inputs = keras.Input((SIDE, SIDE, channels))
    x = layers.Conv2D(8, 3, 4, activation="relu", name="conv")(inputs)
    return keras.Model(inputs, head(layers.GlobalAveragePooling2D()(x)))


def check(network, images, outputs, tolerance=1e-5):
    """The local features of both images sum to the outputs, and both maps to their cosine."""
    convs, _ = network.run(network.preprocess(images))
    for conv, output in zip(convs, np.asarray(outputs), strict=True):
        assert directions_apart(network.pooled(conv), output) < tolerance
    pair = visualize_pair(*images, network)
    assert abs(pair.similarity1.sum() - pair.network_similarity) < tolerance
    assert np.ptp(pair.similarity1) > 0


def outputs_of(model, network, images):
    return keras.ops.convert_to_numpy(model(network.preprocess(images), training=False))


def branched(join):
    inputs = keras.Input((SIDE, SIDE, 3))
    conv, pool = layers.Conv2D(8, 3, 4, activation="relu"), layers.GlobalAveragePooling2D()
    other = layers.Conv2D(6, 5, 4, activation="relu")
    return keras.Model(inputs, layers.Dense(5)(join(inputs, conv, other, pool)))


BRANCHED = {
    "two backbones": lambda x, conv, other, pool: layers.Concatenate()(
        [pool(conv(x)), pool(other(x))]
    ),
    "two scales": lambda x, conv, other, pool: layers.Concatenate()(
        [pool(conv(x)), pool(conv(layers.AveragePooling2D(2)(x)))]
    ),
    "a mirrored copy": lambda x, conv, other, pool: layers.Average()(
        [pool(conv(x)), pool(conv(keras.ops.flip(x, 2)))]
    ),
}


@pytest.mark.parametrize("kind", BRANCHED)
def test_branches_meet_in_the_image(kind, images):
    model = branched(BRANCHED[kind])
    network = load_network(model, preprocess="-1..1")
    check(network, images, outputs_of(model, network, images))
    assert "all that follows input_layer" in network.description


@pytest.mark.parametrize("quantized, bent", [(False, False), (False, True), (True, False)])
def test_stop_gradient_and_quantized_heads(quantized, bent, images):
    def head(x):
        x = x if quantized else keras.ops.stop_gradient(x)
        return layers.Dense(5)(layers.Dense(16, activation="gelu")(x) if bent else x)

    model = pooled(head)
    if quantized:
        model.quantize("int8")
    network = load_network(model, preprocess="-1..1")
    tolerance = 1e-2 if quantized else 1e-5
    check(network, images, outputs_of(model, network, images), tolerance)


def test_a_sequential_without_an_input(images):
    model = keras.Sequential(
        [layers.Conv2D(8, 3, 4), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(4)]
    )
    pair = visualize_pair(*images, load_network(model, input_size=(SIDE, SIDE)))
    assert pair.similarity1.shape == (16, 16)
    assert not model.built  # it is left to be built on what it is trained with


def test_one_channel(images):
    model = pooled(layers.Dense(5), channels=1)
    network = load_network(model, preprocess="0..1")
    batch = network.preprocess([np.full((9, 9, 3), (255, 0, 0), np.uint8)])
    assert batch.shape == (1, SIDE, SIDE, 1) and np.allclose(batch, 0.299)
    check(network, images, outputs_of(model, network, images))


@pytest.mark.parametrize("step", ["sign", "round"])
def test_of_deep_hashing_it_is_what_the_step_is_given(step, images):
    def head(x):
        x = layers.Dense(16, name="codes")(x)
        return getattr(keras.ops, step)(x if step == "sign" else keras.ops.sigmoid(x))

    model = pooled(head)
    network = load_network(model, preprocess="-1..1")
    before = keras.Model(model.inputs, model.get_layer("codes").output)
    outputs = outputs_of(before, network, images)
    if step == "round":
        outputs = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    check(network, images, outputs)
    assert f"up to what {step} (" in network.description


def test_a_key_of_a_dict_is_a_layer(images):
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, 4, activation="relu")(inputs))
    model = keras.Model(inputs, {"embedding": layers.Dense(5)(x), "logits": layers.Dense(7)(x)})
    network = load_network(model, preprocess="-1..1", layer="embedding")
    check(network, images, model(network.preprocess(images))["embedding"])


def test_layers_that_a_siamese_model_shares_one_by_one(images):
    inputs = [keras.Input((SIDE, SIDE, 3)) for _ in range(2)]
    conv, dense = layers.Conv2D(8, 3, 4, activation="relu"), layers.Dense(5, name="dense")
    one, other = (dense(layers.GlobalAveragePooling2D()(conv(x))) for x in inputs)
    model = keras.Model(inputs, keras.ops.sum(one * other, -1))
    with pytest.raises(ValueError, match="dense .* is called 2 times"):
        load_network(model, layer="dense")  # since the two ways to it are not the same
    pool = layers.GlobalAveragePooling2D()
    one, other = (dense(pool(conv(x))) for x in inputs)
    model = keras.Model(inputs, keras.ops.sum(one * other, -1))
    network = load_network(model, preprocess="-1..1", layer="dense")
    batch = network.preprocess(images)
    check(network, images, dense(pool(conv(batch))))


def test_an_imported_file_finds_the_modules_beside_it(tmp_path, images, monkeypatch):
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "twice_beside.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "layers_of_mine.py").write_text(
        "import keras\nfrom twice_beside import FACTOR\n\n"
        '@keras.saving.register_keras_serializable("mine_rare")\n'
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n        return FACTOR * x\n"
    )
    import runpy

    sys.path.insert(0, str(tmp_path))
    twice = runpy.run_path(str(tmp_path / "layers_of_mine.py"))["Twice"]
    pooled(lambda x: layers.Dense(4)(twice()(x))).save(tmp_path / "model.keras")
    sys.path.remove(str(tmp_path))
    sys.modules.pop("twice_beside")
    network = load_network(
        str(tmp_path / "model.keras"), import_file=str(tmp_path / "layers_of_mine.py")
    )
    assert visualize_pair(*images, network).network_similarity is not None
