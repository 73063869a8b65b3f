"""What maps sum to is checked image by image, by direction: two cosines may agree by chance."""

from dataclasses import replace

import numpy as np
import pytest

from models import EmbeddingNetwork
from visualize_similarity import visualize_pair


def turned_network(angle, tolerance=1e-3):
    """A network that puts out its pooled feature turned, both images alike: no cosine sees it."""
    turn = np.eye(4, dtype=np.float32)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]

    def forward(batch):
        conv = np.stack([batch[..., 0], batch[..., 1], batch[..., 2], 0 * batch[..., 0] + 1], -1)
        return conv, 7 * conv.mean((1, 2)) @ turn.T, None

    return EmbeddingNetwork(
        "turned",
        (2, 2),
        "average",
        None,
        lambda images: np.stack([np.float32(image[:2, :2]) / 255 for image in images]),
        lambda batch: forward(batch)[0],
        lambda batch: forward(batch)[1],
        forward=forward,
        tolerance=tolerance,
    )


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)


def test_two_cosines_that_agree_do_not_pass(images):
    true = visualize_pair(*images, turned_network(0))
    assert true.network_similarity == pytest.approx(true.similarity, abs=1e-6)
    message = r"of image [12] the sum of the local features is 0\.0\d* away.*average pooling"
    with pytest.raises(ValueError, match=message):
        visualize_pair(*images, turned_network(0.1))
    visualize_pair(*images, turned_network(0.1, tolerance=0.2))  # which says how much is allowed


def test_a_negative_multiple_is_another_direction(images):
    network = turned_network(0)
    forward = network.forward
    network = replace(network, forward=lambda b: (forward(b)[0], -forward(b)[1], None))
    with pytest.raises(ValueError, match="image [12] the sum of the local features is 2 away"):
        visualize_pair(*images, network)
