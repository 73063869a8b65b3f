"""Retrieval figures, against loops from their definitions and against two libraries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from simvis.gallery import figures
from simvis.gallery.figures import FIGURES, find_neighbours, with_intervals


def labelled(rng, sizes, dimension=6, spread=1.0):
    """Return embeddings in clusters, float32 (N, D) of unit length, and their labels, shuffled."""
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = rng.standard_normal((len(sizes), dimension))
    vectors = centres[labels] + spread * rng.standard_normal((len(labels), dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def by_loops(embeddings, labels):
    """Return what `find_neighbours` does, one image after the other."""
    rows = []
    for i, query in enumerate(embeddings):
        cosines = {j: float(query @ other) for j, other in enumerate(embeddings) if j != i}
        ranked = sorted(cosines, key=lambda j: (-cosines[j], j))
        own = [j for j in ranked if labels[j] == labels[i]]
        strangers = [j for j in ranked if labels[j] != labels[i]]
        nearest = strangers[0] if strangers else -1
        if not own:
            rows.append(([np.nan] * 5, nearest, -1, -1))
            continue
        wanted, right, precision = len(own), 0, 0
        for rank, j in enumerate(ranked[:wanted], 1):
            if labels[j] == labels[i]:
                right += 1
                precision += right / rank
        recalls = [any(labels[j] == labels[i] for j in ranked[:k]) for k in (1, 5, 10)]
        rows.append(([*recalls, right / wanted, precision / wanted], nearest, own[0], own[-1]))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("block", [1, 400, 2**23])
@pytest.mark.parametrize("sizes", [[5] * 12, [1, 1, 2, 3, 30, 7], [40], [1] * 8, [1], [2, 60]])
def test_figures_are_those_of_a_loop(rng, monkeypatch, sizes, block):
    monkeypatch.setattr(figures, "BLOCK", block)
    embeddings, labels = labelled(rng, sizes)
    found = find_neighbours(embeddings, labels)
    values, stranger, own, farthest = by_loops(embeddings, labels)
    assert_allclose(found.values, values, atol=1e-12)
    for name, expected in (("stranger", stranger), ("own", own), ("farthest", farthest)):
        assert getattr(found, name).tolist() == expected.tolist(), name
        for i, j in enumerate(expected):
            similarity = getattr(found, f"to_{name}")[i]
            if j < 0:
                assert np.isnan(similarity)
            else:
                assert similarity == pytest.approx(embeddings[i] @ embeddings[j], abs=1e-6)


def test_of_equal_ones_the_first_is_nearer():
    embeddings = np.zeros((40, 2), np.float32)
    embeddings[:, 0] = 1
    labels = np.array([0] * 3 + [1] * 36 + [0])
    found = find_neighbours(embeddings, labels)
    assert_allclose(found.values, by_loops(embeddings, labels)[0])
    # the query 39 is asked after all others, and the three of its label come first
    assert found.values[39].tolist() == [1] * 5 and found.values[0, 4] == pytest.approx(2 / 3)


# Neither is in requirements-dev.txt: where scikit-learn is installed, Keras imports it every time.
def test_scikit_learn_finds_the_same_neighbours(rng):
    sklearn = pytest.importorskip("sklearn.neighbors")
    embeddings, labels = labelled(rng, [4] * 30)
    judge = sklearn.NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute")
    hits = labels[judge.fit(embeddings).kneighbors(return_distance=False)] == labels[:, None]
    values = find_neighbours(embeddings, labels).values
    for column, count in enumerate((1, 5, 10)):
        assert (values[:, column] == hits[:, :count].any(1)).all()
    assert 0.2 < values[:, 0].mean() < 0.95
    assert_allclose(values[:, 3], hits[:, :3].mean(1))


def test_pytorch_metric_learning_says_the_same(rng):
    """The library of the authors of MAP@R."""
    pytest.importorskip("pytorch_metric_learning", exc_type=ImportError)
    import torch
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    embeddings, labels = labelled(rng, [2, 3, 5, 8, 13, 21, 4, 4, 4])
    names = "precision_at_1", "r_precision", "mean_average_precision_at_r"
    judge = AccuracyCalculator(
        include=names, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity())
    )
    expected = judge.get_accuracy(torch.tensor(embeddings), torch.tensor(labels))
    means = dict(zip(FIGURES, find_neighbours(embeddings, labels).values.mean(0), strict=True))
    for name, other in zip(("recall@1", "R-precision", "MAP@R"), names, strict=True):
        assert means[name] == pytest.approx(expected[other], abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_figures_keep_their_laws(seed):
    rng = np.random.default_rng(seed)
    embeddings, labels = labelled(rng, rng.integers(1, 7, 6))
    values = find_neighbours(embeddings, labels).values
    asked = values[~np.isnan(values[:, 0])]
    assert (asked >= 0).all() and (asked <= 1).all()
    assert (np.diff(asked[:, :3]) >= 0).all()  # a hit in one is one in five
    assert (asked[:, 4] <= asked[:, 3] + 1e-12).all()
    # they do not depend on the order, the names of labels, or a rotation
    order = rng.permutation(len(labels))
    rotation, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    turned = (embeddings[order] @ rotation).astype(np.float32)
    again = find_neighbours(turned, 9 - labels[order]).values
    assert_allclose(again, values[order], atol=1e-12)


def test_intervals_are_of_labels(rng):
    # of 400 labels of one value each, the interval is that of a mean of so many numbers
    labels = np.repeat(np.arange(400), 5)
    values = np.repeat(rng.integers(0, 2, 400).astype(float), 5)[:, None]
    ((mean, low, high),) = with_intervals(values, labels)
    reach = 1.96 * values.std() / np.sqrt(400)
    assert mean == values.mean()
    assert_allclose((low, high), (mean - reach, mean + reach), atol=0.006)
    # images without a partner do not count, and one label has no spread
    values = np.array([[np.nan], [0.0], [1.0]])
    assert with_intervals(values, [0, 1, 1]).tolist() == [[0.5, 0.5, 0.5]]
    assert np.isnan(with_intervals(values[:1], [0])).all()
    # labels count by their images
    values, labels = np.array([[1.0]] * 9 + [[0.0]]), [0] * 9 + [1]
    assert with_intervals(values, labels)[0].tolist() == [0.9, 0, 1]
