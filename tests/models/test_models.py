"""The offline network is the one that its weights were trained in, and its file cannot run code."""

import hashlib
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from conftest import ROOT
from numpy.testing import assert_allclose

from models import EmbeddingNetwork, load_network
from similarity_ops import pool_features
from simvis.image_ops import load_image
from simvis.models.checkpoints import read_torch_state_dict
from simvis.models.efficientnet_lite0 import (
    SHA256,
    classifier,
    read_weights,
)

# ImageNet's names for what stands in a hotel room: crib, four-poster, studio couch
BEDS_AND_COUCHES = {520, 564, 831}
PINNED = 0.131233, 0.579836, 0.149488, 0.086113


@pytest.fixture(scope="module")
def weights():
    return read_weights()


def test_activations_of_a_fixed_input_do_not_drift(imagenet):
    y, x = np.mgrid[0:300, 0:400]
    image = np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)
    conv = imagenet.activations(imagenet.preprocess([image]))
    assert conv.shape == (1, 7, 7, 1280) and conv.dtype == np.float32
    assert conv.min() == 0 and conv.max() <= 6
    figures = conv.mean(), conv.std(), conv[0, 3, 3, :640].mean(), (conv > 0).mean()
    assert_allclose(figures, PINNED, rtol=1e-3)


@pytest.mark.parametrize("room", ["room_a_view1", "room_a_view2", "room_b_view1"])
def test_the_files_own_classifier_sees_beds_in_the_rooms(imagenet, weights, room):
    batch = imagenet.preprocess([load_image(ROOT / "example_images" / f"{room}.jpg")])
    scores = pool_features(imagenet.activations(batch)[0], projection=classifier(weights))
    assert BEDS_AND_COUCHES & set(np.argsort(scores)[-5:].tolist())


# --- the weights file is data from outside -------------------------------------------------------


@pytest.mark.parametrize("attack", [(os.system, "touch witness"), (eval, "1"), (getattr, {}, "x")])
def test_a_weights_file_cannot_run_code(tmp_path, monkeypatch, attack):
    class Attack:
        def __reduce__(self):
            return attack[0], attack[1:]

    monkeypatch.chdir(tmp_path)
    parts = 0x1950A86A20F9469CFC6C, 1001, {}, OrderedDict(a=Attack()), []
    content = b"".join(pickle.dumps(part, 2) for part in parts)
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="w.pth: its SHA-256 is .*, expected 5793"):
        read_torch_state_dict(path, SHA256)
    # nor could it if that were the file that is known
    with pytest.raises(pickle.UnpicklingError, match="it asks for .*, which no tensor needs"):
        read_torch_state_dict(path, hashlib.sha256(content).hexdigest())
    assert not (tmp_path / "witness").exists()


def test_unknown_networks_are_refused_before_tensorflow_is_imported():
    with pytest.raises(ValueError, match="network: expected one of imagenet.*got 'resnet'"):
        load_network("resnet")
    with pytest.raises(TypeError, match="load_network has no option 'colour'"):
        load_network("imagenet", colour=None)


# --- a network and its own embedding -------------------------------------------------------------


def test_one_pass_gives_the_activations_and_the_networks_own_embedding(imagenet):
    images = [load_image(ROOT / "example_images" / f"room_a_view{i}.jpg") for i in (1, 2)]
    batch = imagenet.preprocess(images)
    for explain, projection in (("pooled", None), ("head", imagenet.projection)):
        convs, embeddings = imagenet.run(batch, explain)
        expected = [pool_features(conv, projection=projection) for conv in convs]
        assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-4)
    assert_allclose(imagenet.activations(batch), convs, atol=1e-5)
    assert_allclose(imagenet.embed(batch), [pool_features(conv) for conv in convs], atol=1e-4)
    # another pooling than the network's is a question of what if, which it has no answer to
    assert load_network("imagenet", pooling="max").run(batch, "pooled")[1] is None


@pytest.mark.parametrize("projection", [None, (np.ones((3, 2)), np.zeros(2))])
def test_a_network_made_by_hand_of_two_functions(projection):
    def embed(batch):
        return batch.mean((1, 2)) @ (np.eye(3) if projection is None else projection[0])

    def made(**embed):
        return EmbeddingNetwork("own", (2, 2), "average", projection, np.stack, np.abs, **embed)

    batch = np.ones((1, 2, 2, 3))
    for explain in ("pooled", "head"):
        assert made().run(batch, explain)[1] is None
        own = made(embed=embed).run(batch, explain)[1]
        assert (own is not None) == (explain == ("head" if projection else "pooled"))
