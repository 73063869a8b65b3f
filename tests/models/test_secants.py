"""Secants: what they pass on is what the definition says, and nothing of a difference is lost."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from similarity_ops import pool_features
from simvis.models.contributions import differentiate, pooled
from simvis.models.secants import MOST_STEPS, Secants, contributions

UNARY = {
    "relu": (tf.nn.relu, lambda x: max(x, 0)),
    "relu6": (tf.nn.relu6, lambda x: min(max(x, 0), 6)),
    "silu": (tf.nn.silu, lambda x: x / (1 + np.exp(-x))),
    "tanh": (tf.tanh, np.tanh),
    "exp": (tf.exp, np.exp),
    "square": (tf.square, lambda x: x * x),
    "cube": (lambda x: x**3, lambda x: x**3),
    "reciprocal": (lambda x: 1 / (x * x + 1), lambda x: 1 / (x * x + 1)),
    "root": (lambda x: tf.sqrt(tf.abs(x)), lambda x: np.sqrt(abs(x))),
    "clip": (lambda x: tf.clip_by_value(x, -1.0, 0.5), lambda x: min(max(x, -1.0), 0.5)),
    "stopped": (lambda x: tf.stop_gradient(tf.tanh(x)), np.tanh),
}


@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_one_number_passes_on_its_difference(name, rng):
    function, plain = UNARY[name]
    x, r = rng.normal(0, 3, (2, 4, 5)).astype(np.float32)
    x[0, :2] = r[0, :2]  # where nothing moves
    x[1, :2] = r[1, :2] + 1e-6  # and hardly
    expected = [[plain(x[u, c]) - plain(r[u, c]) for u in range(4)] for c in range(5)]
    summed = Secants(lambda points: tf.reduce_sum(function(points), 1))
    parts, constant = contributions(summed, x, r, np.eye(5))
    assert_allclose(parts, expected, atol=2e-6 * np.abs(expected).max())
    assert_allclose(constant, [sum(plain(value) for value in r[:, c]) for c in range(5)], rtol=1e-5)


def test_products_share_equally(rng):
    """d(ab) = mean(a) db + mean(b) da, which is what two players share equally (Shapley)."""
    x, r = rng.normal(size=(2, 2, 6)).astype(np.float32)
    parts, _ = contributions(Secants(lambda x: x[:, 0] * x[:, 1]), x, r, np.eye(6))
    for c in range(6):
        (a, b), (a0, b0) = x[:, c].tolist(), r[:, c].tolist()
        shapley = [((a - a0) * b0 + (a - a0) * b) / 2, ((b - b0) * a0 + (b - b0) * a) / 2]
        assert_allclose(parts[c], shapley, atol=1e-6)


def test_rectifiers_are_deeplift(rng):
    """A plain loop of the rescale rule, through two layers."""
    x, r = rng.normal(size=(2, 3, 4)).astype(np.float32)
    one, two = rng.normal(size=(12, 8)), rng.normal(size=(8, 2))
    bias = rng.normal(size=8)

    def function(points):
        flat = tf.reshape(points, (-1, 12))
        return tf.nn.relu(flat @ np.float32(one) + np.float32(bias)) @ np.float32(two)

    parts, _ = contributions(Secants(function), x, r, np.eye(2))
    inner, outer = (each.reshape(12) @ one + bias for each in (np.float64(r), np.float64(x)))
    for k in range(2):
        expected = np.zeros(12)
        for j in range(8):
            slope = (max(outer[j], 0) - max(inner[j], 0)) / (outer[j] - inner[j])
            expected += one[:, j] * slope * two[j, k] * (np.float64(x) - r).reshape(12)
        assert_allclose(parts[k], expected.reshape(3, 4).sum(1), atol=1e-5)


def mixed(weights):
    """A function with what networks are made of."""

    def function(x):
        x = tf.nn.max_pool2d(tf.nn.silu(x), 2, 1, "SAME")
        x = (x - tf.reduce_mean(x, -1, True)) * tf.math.rsqrt(
            tf.math.reduce_variance(x, -1, True) + 1e-3
        )
        tokens = tf.reshape(x, (tf.shape(x)[0], -1, x.shape[-1]))
        seen = tf.nn.softmax(tf.einsum("bqc,bkc->bqk", tokens, tokens @ weights[0]))
        tokens += tf.matmul(seen, tokens)
        both = tf.maximum(tf.reduce_max(tokens, 1), tf.reduce_min(tokens, 1) ** 2)
        gate = tf.sigmoid(both @ weights[1])
        return keras.ops.normalize(gate * tf.nn.gelu(both) / (1 + both**2), -1)

    return function


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 8]), st.floats(0.01, 30))
def test_nothing_is_lost_in_any_number_of_steps(seed, steps, size):
    rng = np.random.default_rng(seed)
    x, r = (size * rng.normal(size=(2, 3, 4, 6))).astype(np.float32)
    directions = rng.normal(size=(3, 6))
    parts, constant = contributions(MIXED, x, r, directions, steps, tolerance=1e-4)
    expected = directions @ np.float64(FUNCTION(x[None])[0])
    assert_allclose(parts.sum((1, 2)) + constant, expected, atol=2e-4)
    assert_allclose(constant, directions @ np.float64(FUNCTION(r[None])[0]), atol=1e-5)
    assert not MIXED.unruled


FUNCTION = mixed([tf.random.stateless_normal((6, 6), (i, 0)) for i in (1, 2)])
MIXED = Secants(FUNCTION)


def test_many_steps_come_to_integrated_gradients(rng):
    x, r = rng.normal(size=(2, 3, 2)).astype(np.float32)
    parts, _ = contributions(
        Secants(lambda x: tf.reduce_sum(x, 1) ** 3), x, r, np.eye(2), MOST_STEPS
    )
    expected, steps = np.zeros_like(x), 4000
    for a in (np.arange(steps) + 0.5) / steps:
        expected += 3 * (r + a * (x - r)).sum(0) ** 2 * (x - r) / steps
    assert_allclose(parts.T, expected, rtol=1e-3, atol=1e-3)


def test_an_operation_without_a_rule_takes_more_steps_or_is_named(rng):
    x, r = rng.uniform(1, 2, (2, 3, 2)).astype(np.float32)
    smooth = Secants(lambda x: tf.reduce_sum(tf.math.lgamma(x), 1))
    parts, constant = contributions(smooth, x, r, np.eye(2), tolerance=1e-4)
    assert smooth.unruled == ["Lgamma"]
    expected = tf.reduce_sum(tf.math.lgamma(x), 0).numpy()
    assert_allclose(parts.sum(1) + constant, expected, atol=1e-4)
    jumps = Secants(lambda x: tf.reduce_sum(tf.math.floor(8 * x) + 0 * tf.math.lgamma(x), 1))
    with pytest.raises(ValueError, match=f"in {MOST_STEPS} steps.*Floor, Lgamma.*layer="):
        contributions(jumps, x, r, np.eye(2))


def test_functions_that_are_compiled_are_parts(rng):
    x, r = rng.normal(size=(2, 3, 2)).astype(np.float32)
    inner = tf.function(tf.nn.silu)
    secants = Secants(lambda x: tf.reduce_sum(inner(x), 1))
    contributions(secants, x, r, np.eye(2))
    assert not secants.unruled


@pytest.mark.parametrize("pooling", ["average", "max", "gem"])
@pytest.mark.parametrize("head", [False, True])
def test_the_pooling_of_a_region_is_that_of_the_method(pooling, head, rng):
    conv = rng.uniform(0, 2, (3, 4, 5)).astype(np.float32)
    region = rng.uniform(0, 1, (3, 4)) * (rng.random((3, 4)) < 0.7)
    projection = (rng.normal(size=(5, 2)), rng.normal(size=2)) if head else None
    function = pooled(lambda x: x, pooling, 2.5, projection)
    found = function(tf.constant(conv[None]), tf.constant(region.ravel(), tf.float32))[0]
    expected = pool_features(conv, pooling, projection=projection, region=region, power=2.5)
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_one_derivative_of_a_mixture_of_poolings(rng):
    """A mean, a maximum and a bias: where each comes from is known."""
    x = rng.uniform(1, 2, (2, 3, 4)).astype(np.float32)

    def function(x):
        return tf.reduce_mean(x, (1, 2)) + tf.reduce_max(x, (1, 2)) + 3

    parts, constant = differentiate(function, x, np.eye(4))
    expected = x / 6 + np.where(x == x.max((0, 1)), x, 0)
    assert_allclose(parts, np.moveaxis(expected, -1, 0), rtol=1e-5)
    assert_allclose(constant, 3)


def test_a_gap_is_told_against_the_embedding_not_its_share(rng):
    """Of two images that are not alike at all, the share is zero, and so is what can be missed."""
    x, r = rng.normal(size=(2, 3, 4)).astype(np.float32)
    weights = np.float32(rng.normal(size=(4, 6)))
    secants = Secants(lambda x: tf.nn.gelu(tf.reduce_sum(x, 1) @ weights))
    own, seen = (tf.nn.gelu(each.sum(0, keepdims=True) @ weights)[0].numpy() for each in (x, r))
    across = np.linalg.svd(np.stack([own, seen]))[2][2:]  # to which both are orthogonal
    parts, constant = contributions(secants, x, r, across)
    assert_allclose(parts.sum(1) + constant, 0, atol=1e-6 * np.linalg.norm(own))


def test_a_reference_without_variance_takes_more_steps(rng):
    x = rng.normal(size=(3, 8)).astype(np.float32)

    def function(x):
        x = x - tf.reduce_mean(x, -1, True)
        x *= tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, True) + 1e-6)
        return tf.reduce_sum(x, 1)

    parts, constant = contributions(Secants(function), x, 0 * x + 1, np.eye(8))
    expected = function(x[None])[0].numpy()
    assert_allclose(parts.sum(1) + constant, expected, atol=3.1e-5 * np.linalg.norm(expected))
