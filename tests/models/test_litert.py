"""LiteRT puts out what TensorFlow does, for each image by itself; what it cannot run, it leaves."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from models import litert, load_network
from models.litert import TOLERANCE, in_litert, to_litert
from models.network import LITERT, TENSORFLOW, directions_apart, to_numpy
from simvis import image_ops
from simvis.pair import EXAMPLES


def small_network(*layers, head=(), channels=3, **options):
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, channels))
    conv = keras.layers.Conv2D(16, 3, 4, activation="gelu")(image)
    for layer in layers:
        conv = layer(conv)
    vector = keras.layers.GlobalAveragePooling2D()(conv)
    for layer in head:
        vector = layer(vector)
    return load_network(keras.Model(image, keras.layers.Dense(5)(vector)), graph=True, **options)


@pytest.fixture(scope="module")
def batch():
    """Three photographs, as the imagenet network takes them."""
    images = [image_ops.load_image(path) for path in sorted(EXAMPLES.glob("*.jpg"))[:3]]
    return load_network().preprocess(images)


@pytest.fixture(scope="module", params=["imagenet", "rooms"])
def both(request):
    network = load_network(request.param, graph=True)
    return network, in_litert(network)


def test_embeddings_and_activations_are_tensorflows(both, batch):
    own, other = both
    assert (own.engine, other.engine) == (TENSORFLOW, LITERT)
    (conv, embedding), (other_conv, other_embedding) = own.run(batch), other.run(batch)
    assert conv.shape == other_conv.shape and embedding.shape == other_embedding.shape
    apart = [directions_apart(*pair) for pair in zip(embedding, other_embedding, strict=True)]
    assert 0 < max(apart) < TOLERANCE
    assert_allclose(other_conv, conv, rtol=0, atol=1e-4 * conv.max())


def test_an_image_has_the_same_bits_in_whatever_company(both, batch):
    _, network = both
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(network.embed, [image[None] for image in batch] * 8))
    assert np.array_equal(np.concatenate(alone), np.tile(network.embed(batch), (8, 1)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_of_ones_own_with_a_pooling_of_ones_own(channels):
    network = small_network(pooling="max", channels=channels)
    other = in_litert(network)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 50, 40, 3), dtype=np.uint8))
    batch = network.preprocess(images)
    assert other.engine == LITERT
    for part, other_part in zip(network.run(batch), other.run(batch), strict=True):
        assert_allclose(other_part, part, rtol=1e-4, atol=1e-5)


def test_all_that_follows_a_layer():
    network = small_network(head=[keras.layers.Dense(8, "tanh"), keras.layers.LayerNormalization()])
    other = in_litert(network)
    batch = network.preprocess([np.full((32, 32, 3), 200, np.uint8)])
    assert network.derived and other.engine == LITERT
    assert_allclose(other.activations(batch), network.activations(batch), rtol=1e-4, atol=1e-5)


class Svd(keras.layers.Layer):
    def call(self, conv):
        return conv + tf.linalg.svd(conv, compute_uv=False)[..., None, :1]


def test_what_litert_cannot_run_tensorflow_does():
    network = small_network(Svd(), pooling="average")
    assert in_litert(network) is network


def test_another_output_is_not_believed():
    network = load_network("imagenet", graph=True)

    def functions_by(compiled):
        return {**network.functions_by(compiled), "forward": wrong}

    def wrong(batch):
        conv, pooled, output = network.forward(batch)
        return conv, pooled + 1e-4 * np.roll(pooled, 1), output

    other = replace(network, functions_by=functions_by)
    quick = replace(network, **functions_by(to_litert))
    assert TOLERANCE < litert._apart(network, quick) < 1e-3
    assert in_litert(other) is other


def test_a_heavy_network_stays_in_tensorflow(monkeypatch):
    network = small_network()
    monkeypatch.setattr(litert, "HEAVIEST", 100)
    assert in_litert(network) is network


def test_interpreters_share_the_room_and_the_cores(monkeypatch):
    network = small_network()
    monkeypatch.setattr(litert, "count_cores", lambda: 2)
    batch = network.preprocess([np.full((40, 30, 3), 90, np.uint8)])
    two = in_litert(network).run(batch)
    monkeypatch.setattr(litert, "ROOM", 1)  # for one interpreter, of two threads
    for part, other in zip(two, in_litert(network).run(batch), strict=True):
        assert np.array_equal(part, other)


def test_outputs_that_are_not_there_stay_none():
    def function(batch):
        return None, 2 * batch, None, tf.reduce_sum(batch, (1, 2))

    batch = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    expected = to_numpy(function, (2, 2, 3), graph=True)(batch)
    found = to_litert(function)(batch)
    assert [each is None for each in found] == [True, False, True, False]
    for one, other in zip(found, expected, strict=True):
        assert one is other is None or np.array_equal(one, other)
