"""The offline network is the one that its weights were trained in, and its file cannot run code."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from conftest import ROOT
from numpy.testing import assert_allclose

from models import EmbeddingNetwork, checkpoints, load_network
from similarity_ops import pool_features
from simvis.image_ops import load_image
from simvis.models.checkpoints import check_names_and_shapes, read_torch_state_dict
from simvis.models.efficientnet_lite0 import build, classifier, read_weights, weights_path

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


def test_any_multiple_of_32_pixels_works(imagenet):
    assert imagenet.activations(np.zeros((2, 64, 96, 3), np.float32)).shape == (2, 2, 3, 1280)


@pytest.mark.parametrize("room", ["room_a_view1", "room_a_view2", "room_b_view1"])
def test_the_files_own_classifier_sees_beds_in_the_rooms(imagenet, weights, room):
    batch = imagenet.preprocess([load_image(ROOT / "example_images" / f"{room}.jpg")])
    scores = pool_features(imagenet.activations(batch)[0], projection=classifier(weights))
    assert BEDS_AND_COUCHES & set(np.argsort(scores)[-5:].tolist())


def test_misfits_are_reported_together_by_name(weights):
    expected = {name: array.shape for name, array in weights.items()}
    broken = {**expected, "_extra": (3,), "_bn0.bias": (31,)}
    del broken["_conv_head.weight"]
    message = "3 of.*missing _conv_head.weight.*unexpected _extra.*_bn0.bias has shape .31,."
    with pytest.raises(ValueError, match=message):
        check_names_and_shapes(broken, expected, "weights.pth")


def test_every_weight_matters(weights):
    """A weight that could change unseen would be one that the port reads wrongly or not at all."""
    image = np.random.default_rng(1).standard_normal((1, 64, 64, 3)).astype(np.float32)
    plain = build(weights)(image).numpy()
    for name in weights:
        if name.startswith("_fc") or name.endswith("num_batches_tracked"):
            continue
        if not name.startswith(("_conv_stem", "_bn", "_blocks.0.", "_blocks.9.", "_conv_head")):
            continue
        noisy = weights[name] * 1.5 + 0.1
        assert not np.allclose(build({**weights, name: noisy})(image), plain, rtol=1e-3), name


# --- the weights file is data from outside -------------------------------------------------------


def write_torch_file(path, state_dict_pickle):
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    path.write_bytes(b"".join(parts) + state_dict_pickle + pickle.dumps([], 2))


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_weights_file_cannot_run_code(tmp_path):
    witness = tmp_path / "witness"
    for attack in (
        Attack(os.system, f"touch {witness}"),
        Attack(eval, "1"),
        Attack(getattr, {}, "x"),
    ):
        write_torch_file(tmp_path / "w.pth", pickle.dumps(OrderedDict(a=attack), 2))
        with pytest.raises(ValueError, match="w.pth: not a readable torch state dict: it asks for"):
            read_torch_state_dict(tmp_path / "w.pth")
    assert not witness.exists()


def test_a_weights_file_cannot_eat_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_HEADERS", 2**16)
    # a memo index of four thousand million, for which the compiled unpickler would make a table
    write_torch_file(tmp_path / "memo.pth", b"\x80\x02}r\xff\xff\xff\xff.")
    assert read_torch_state_dict(tmp_path / "memo.pth") == {}
    # a bytes object of 2^62 bytes
    write_torch_file(tmp_path / "long.pth", b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="long.pth: not a readable"):
        read_torch_state_dict(tmp_path / "long.pth")
    # twice the same tuple in a tuple, 60 deep: hashed, compared or printed, it takes years
    nested = b")" + b"".join(b"q%c(h%ch%ct" % (i, i, i) for i in range(60))
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpuK\1NtQ"
    tensor = b"(" + storage + b"K\0%b%b\x89NtR"
    for name, content in {
        "key": b"}" + nested + b"Ns",
        "keys": b"}(" + nested + b"Nu",
        "reference": b"}X\1\0\0\0a(" + nested + b"NNNNNtQs",
        "kind": b"}X\1\0\0\0a" + nested + b"Qs",
        "arguments": b"}X\1\0\0\0a" + rebuild + b"(" + nested * 4 + b"tRs",
        "value": b"}X\1\0\0\0a" + nested + b"s",
        "stride": b"}X\1\0\0\0a" + rebuild + tensor % (b"K\1\x85", b"X\1\0\0\0b\x85") + b"s",
        "size": b"}X\1\0\0\0a" + rebuild + tensor % (nested, b"K\1\x85") + b"s",
        "negative": b"}X\1\0\0\0a"
        + rebuild
        + tensor % (b"J\xff\xff\xff\xff\x85", b"K\1\x85")
        + b"s",
        "bytearray": b"\x96" + (2**30).to_bytes(8, "little"),
        "lists": b"]" * 200_000,
        "dictionary": b"ccollections\nOrderedDict\n(" + nested + b"tR",
        "list": nested,
    }.items():
        write_torch_file(tmp_path / f"{name}.pth", b"\x80\2" + content + b".")
        with pytest.raises(ValueError, match=f"{name}.pth: not a readable torch state dict: .+"):
            read_torch_state_dict(tmp_path / f"{name}.pth")


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth: no such weights file"):
        read_torch_state_dict(tmp_path / "nowhere.pth")
    with open(weights_path(), "rb") as file:
        content = file.read()
    for name, damaged in {
        "short": content[:1_000_000],
        "empty": b"",
        "text": b"weights",
        "zip": b"PK\x03\x04" + bytes(100),
    }.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}: not a readable torch state dict"):
            read_torch_state_dict(tmp_path / name)


def test_unknown_networks_are_refused_before_tensorflow_is_imported():
    with pytest.raises(ValueError, match="network: expected one of imagenet.*got 'resnet'"):
        load_network("resnet")


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
