"""Local features of any function: they sum to it, and where they are known they are those."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from simvis.models.keras_models.integrated_jacobians import differentiate, integrate


@pytest.fixture
def weights(rng):
    return [tf.constant(rng.standard_normal(shape), tf.float32) for shape in ((5, 7), (7, 30))]


def mlp(weights):
    def function(x):
        pooled = tf.reduce_mean(x, tuple(range(1, len(x.shape) - 1)))
        return tf.nn.gelu(pooled @ weights[0]) @ weights[1]

    return function


@pytest.mark.parametrize("positions", [(6,), (2, 3), (4, 5)])
def test_they_sum_to_the_embedding(rng, weights, positions):
    x, reference = rng.standard_normal((2, *positions, 5)).astype(np.float32)
    function = mlp(weights)
    local, constant = integrate(function, x, reference)
    assert local.shape == (*positions, 30) and local.dtype == np.float64
    output = function(x[None])[0].numpy()
    assert_allclose(local.reshape(-1, 30).sum(0) + constant, output, atol=1e-4 * abs(output).max())
    assert_allclose(constant, function(reference[None])[0], rtol=1e-5, atol=1e-5)
    directions = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    rotated = integrate(function, x, reference, directions)
    assert_allclose(rotated[0] @ directions, local, atol=1e-5)
    assert_allclose(rotated[1] @ directions, constant, atol=1e-5)


def test_against_a_plain_loop_from_the_equation(rng):
    x, reference = rng.uniform(0.5, 1, (2, 3, 2))
    local, _ = integrate(
        lambda x: tf.reduce_sum(x, 1) ** 3, x.astype(np.float32), reference.astype(np.float32)
    )
    expected, steps = np.zeros_like(x), 2000
    for a in (np.arange(steps) + 0.5) / steps:
        slope = 3 * (reference + a * (x - reference)).sum(0) ** 2  # of each channel, at each place
        expected += slope * (x - reference) / steps
    assert_allclose(local, expected, rtol=1e-4)


def test_thresholds_are_found(rng, weights):
    """The derivative of a ReLU jumps: Gauss-Legendre nodes alone are off by the share of one."""

    def function(x):
        return tf.nn.relu(tf.reduce_mean(x, 1) @ weights[0] + 0.1) @ weights[1]

    x, reference = rng.standard_normal((2, 6, 5)).astype(np.float32)
    expected = 0
    for a in (np.arange(4000, dtype=np.float32) + 0.5) / 4000:
        on = np.mean(reference + a * (x - reference), 0) @ weights[0].numpy() + 0.1 > 0
        expected = expected + (weights[0].numpy() * on) @ weights[1].numpy() / 4000
    for directions in (None, np.eye(30)[:2]):
        local, _ = integrate(function, x, reference, directions)
        exact = (x - reference) @ expected / 6
        assert_allclose(local, exact[:, : local.shape[1]], atol=1e-3 * abs(exact).max())


def test_a_gap_that_stays_is_said(rng):
    def step(x):  # whose derivative is zero almost everywhere
        return tf.round(tf.reduce_sum(x, 1)) + 0 * tf.reduce_sum(x, 1)

    x = rng.uniform(1, 2, (3, 2)).astype(np.float32)
    with pytest.warns(UserWarning, match="the local features' sum is still .* away from it"):
        integrate(step, x, 0 * x)


@pytest.mark.parametrize("channels", [2, 40])
def test_what_grows_in_proportion_needs_one_derivative(rng, channels):
    def function(x):
        return tf.concat([tf.reduce_max(x, (1, 2)), tf.reduce_mean(x, (1, 2))], 1) + 1

    x = rng.integers(-2, 3, (3, 4, channels)).astype(np.float32)
    local, constant = differentiate(function, x)
    ties = x == x.max((0, 1))
    expected = np.concatenate([ties * x / ties.sum((0, 1)), x / 12], -1)
    assert_allclose(local, expected, atol=1e-6)
    assert_allclose(constant, 1, atol=1e-6)
