"""The contract that a network of one's own is held to, whatever framework it is of."""

import numpy as np
from numpy.testing import assert_allclose

from simvis.image_ops import resize
from simvis.models.network import directions_apart
from simvis.pair import visualize_pair

SIZE = (64, 64)


def channels_last(images):
    """Return float32 (N, 64, 64, 3) in -1..1."""
    return np.stack([resize(image, SIZE) for image in images]).astype(np.float32) / 127.5 - 1


def channels_first(images):
    return channels_last(images).transpose(0, 3, 1, 2)


def pictures(rng):
    """Return two uint8 images that no pooling takes for one another."""
    noise = rng.integers(0, 256, (2, 80, 100, 3), dtype=np.uint8)
    noise[0, :, 40:], noise[1, :50, :, 0] = 240, 0
    return list(noise)


def assert_explains(network, images, outputs, tolerance=1e-5, way=None):
    """Assert that its local features are the network's own outputs (N, D), in direction.

    And that maps, pairwise margins, regions and points are all of one piece.
    """
    batch = network.preprocess(images)
    convs, own = network.run(batch)
    for conv, vector, output in zip(convs, own, outputs, strict=True):
        assert directions_apart(network.pooled(conv), output) < tolerance
        assert directions_apart(vector, output) < tolerance
    units = [np.ravel(each) / np.linalg.norm(each) for each in np.asarray(outputs, np.float64)]
    pair = visualize_pair(*images, network)
    for each in (pair.similarity1.sum(), pair.similarity2.sum(), pair.network_similarity):
        assert abs(each - units[0] @ units[1]) < tolerance
    assert np.ptp(pair.similarity1) > 1e-6
    full = visualize_pair(*images, network, pairwise=True, point1=(70, 20))
    assert_allclose(full.pairwise.sum((2, 3)), pair.similarity1, atol=10 * tolerance)
    assert_allclose(full.pairwise.sum((0, 1)), pair.similarity2, atol=10 * tolerance)
    part = visualize_pair(*images, network, region1=(0, 0, 30, 79))
    assert_allclose(part.whole_similarity, pair.similarity, atol=tolerance)
    assert_allclose(part.similarity1.sum(), part.similarity, atol=1e-6)
    if way is not None:
        assert way in network.description
    return network
