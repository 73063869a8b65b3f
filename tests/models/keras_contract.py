"""The contract that a Keras network's maps are held to."""

import keras
import numpy as np
from numpy.testing import assert_allclose

from models import load_network
from similarity_ops import compute_pairwise_similarity, compute_spatial_similarity


def randomize(model, seed=1):
    """Give every weight a random value, those of normalisations among them."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = rng.standard_normal(weight.shape) * 0.3
        if "variance" in weight.path or "gamma" in weight.path or weight.path.endswith("scale"):
            values = rng.uniform(0.5, 2, weight.shape)
        elif "float" not in str(weight.dtype) or weight.path.endswith("power"):
            continue
        elif "kernel" in weight.path:
            values = rng.standard_normal(weight.shape) / np.sqrt(np.prod(weight.shape[:-1]))
        weight.assign(values)
    return model


def cosine_of(embeddings):
    embeddings = np.asarray(embeddings, np.float64).reshape(len(embeddings), -1)
    return embeddings[0] @ embeddings[1] / np.prod(np.linalg.norm(embeddings, axis=1))


def assert_contract(model, images, tolerance, output=None, way=None, **options):
    """The maps sum to the cosine of the model's own output, and pairwise margins are the maps.

    Returns the network; way is a part of its description.
    """
    network = load_network(model, preprocess="-1..1", **options)
    batch = network.preprocess(images)
    outputs = keras.ops.cast((output or model)(batch, training=False), "float32").numpy()
    expected = cosine_of(outputs)
    convs, own = network.run(batch)
    last = {"data_format": "channels_last"}
    maps = compute_spatial_similarity(
        *convs, network.pooling, projection=network.projection, power=network.power, **last
    )
    assert max(abs(each.sum() - expected) for each in maps) < tolerance
    if network.embed:
        assert own.dtype == np.float32 and own.size == np.size(outputs)
        assert_allclose(cosine_of(own), expected, atol=tolerance)
        assert_allclose(cosine_of(network.embed(batch)), expected, atol=tolerance)
    assert np.ptp(maps[0]) > 1e-9  # that it is no constant
    convs, _ = network.run(batch)
    method = {"projection": network.projection, "power": network.power, **last}
    pairwise = compute_pairwise_similarity(*convs, network.pooling, **method)
    full = compute_spatial_similarity(*convs, network.pooling, **method)
    for similarity, quick, axes in zip(full, maps, ((2, 3), (0, 1)), strict=True):
        assert_allclose(pairwise.sum(axes), similarity, atol=1e-6)
        assert_allclose(quick, similarity, atol=10 * tolerance)
    if way is not None:
        assert way in network.description
    return network
