"""The networks that ship are read strictly, explain themselves exactly and can be taught anew."""

import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from numpy.testing import assert_allclose
from PIL import Image

from evaluation import looks, train
from evaluation.views import View, save_views
from models import load_network, rooms
from similarity_ops import compute_spatial_similarity
from simvis.image_ops import load_image

MEGABYTE = 10**6
EXAMPLES = [
    ROOT / "example_images" / f"{name}.jpg"
    for name in ("room_a_view1", "room_a_view2", "room_b_view1")
]
PINNED = {  # three numbers of a unit embedding, three cosines
    "rooms": (0.0583, 0.0057, 0.0095, 0.7838, 0.4995, 0.3501),
    "rooms-headboard": (0.0451, 0.1312, 0.1736, 0.8120, 0.2135, 0.1953),
    "rooms-carpet": (0.0071, 0.0496, -0.0543, 0.9615, 0.3154, 0.3270),
}


@pytest.fixture(scope="module", params=rooms.TAUGHT)
def network(request):
    return load_network(request.param)


@pytest.fixture(scope="module")
def images():
    return [load_image(path) for path in EXAMPLES]


# --- what ships ----------------------------------------------------------------------------------


def test_weights_are_small_enough_to_ship():
    sizes = [rooms.weights_path(name).stat().st_size for name in rooms.TAUGHT]
    assert len(sizes) == 3 and sum(sizes) <= 16 * MEGABYTE


def test_maps_explain_the_head_and_sum_to_its_own_cosine(network, images):
    assert network.explain == "head" and network.projection[0].shape == (1280, 128)
    assert not network.projection[1].any()
    convs = network.activations(network.preprocess(images[:2]))
    assert convs.shape == (2, 7, 7, 1280) and convs.dtype == np.float32
    maps = compute_spatial_similarity(*convs, projection=network.projection)
    embeddings = convs.astype(np.float64).mean(axis=(1, 2)) @ network.projection[0]
    cosine = np.prod([1 / np.linalg.norm(e) for e in embeddings]) * np.dot(*embeddings)
    assert_allclose([one.sum() for one in maps], cosine, atol=1e-6)


def test_embeddings_of_the_example_views_do_not_drift(network, images):
    embeddings = network.activations(network.preprocess(images)).mean((1, 2))
    embeddings = embeddings @ network.projection[0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = (embeddings @ embeddings.T)[[0, 0, 1], [1, 2, 2]]
    assert_allclose([*embeddings[0, :3], *cosines], PINNED[network.name], atol=2e-3)


def test_an_unknown_option_of_a_rooms_network_is_refused():
    with pytest.raises(ValueError, match="batch_norm: the rooms network has no such option"):
        load_network("rooms", batch_norm="moving")


# --- weights files are data from outside ---------------------------------------------------------


@pytest.fixture(scope="module")
def arrays():
    with np.load(rooms.weights_path("rooms")) as file:
        return dict(file)


def broken_files(arrays):
    """Yield a name, a function that writes a broken file, and what the error says of it."""
    some = "_blocks.13._depthwise_conv.bias"

    def saved(**changes):
        changed = {
            name: array for name, array in {**arrays, **changes}.items() if array is not None
        }
        return lambda path: np.savez(path, **changed)

    yield "missing", saved(**{some: None}), f"missing {some}"
    yield "misshapen", saved(**{some: arrays[some][:-1]}), f"{some} has shape .1151,."
    yield "float32", saved(**{some: np.float32(arrays[some])}), f"{some} is float32, expected"
    yield "extra", saved(extra=np.zeros(3, np.float16)), "unexpected extra"
    yield "NaN", saved(**{some: arrays[some] * np.nan}), f"{some} has infinite values or NaN"
    yield "pickled", saved(projection=np.array([print], object)), "not a readable .npz.*pickle"
    yield "text", lambda path: path.write_text("weights"), "not a readable .npz"

    def flip_a_bit(path):
        np.savez(path, **arrays)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    yield "one bit", flip_a_bit, "not a readable .npz"

    def write_twice(path):
        np.savez(path, **arrays)
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("projection.npy", b"")

    yield "twice", write_twice, "two arrays of one name"

    def write_bomb(path):
        header = io.BytesIO()
        shape = {"descr": "<f2", "fortran_order": False, "shape": (2**40,)}
        np.lib.format.write_array_header_1_0(header, shape)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("projection.npy", header.getvalue() + bytes(2**28))

    yield "bomb", write_bomb, "it unpacks to more than twice what is expected"


def test_broken_weights_are_one_error_that_names_the_file(arrays, tmp_path):
    for name, write, message in broken_files(arrays):
        path = tmp_path / f"{name}.npz"
        write(path)
        with pytest.raises(ValueError, match=f"{name}.npz: .*{message}"):
            rooms.read_weights("rooms", path)
    with pytest.raises(FileNotFoundError, match="nowhere.npz: no such weights file"):
        rooms.read_weights("rooms", tmp_path / "nowhere.npz")


# --- the input's size ----------------------------------------------------------------------------


@pytest.mark.parametrize("size, cells", [((448, 448), (14, 14)), ((100, 225), (4, 8))])
@pytest.mark.parametrize("name", ["imagenet", "rooms"])
def test_an_input_size_gives_maps_of_its_own(name, size, cells, images):
    network = load_network(name, input_size=size, graph=True)
    batch = network.preprocess(images[:1])
    assert network.input_size == size and batch.shape == (1, *size, 3)
    assert network.activations(batch).shape == (1, *cells, 1280)


@pytest.mark.parametrize("size", [(31, 64), (2049, 64), (64.5, 64), (64,), 64, "64", (64, None)])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="input_size: expected .height, width., 32 to 2048 whole"):
        load_network("imagenet", input_size=size)


# --- training ------------------------------------------------------------------------------------


def test_the_loss_is_its_equation(rng):
    embeddings, labels = rng.normal(size=(7, 5)), np.array([0, 1, 0, 2, 1, 2, 0])
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    losses = []
    for i in range(7):
        others = [a for a in range(7) if a != i]
        total = sum(np.exp(unit[i] @ unit[a] / 0.2) for a in others)
        positives = [p for p in others if labels[p] == labels[i]]
        losses.append(
            np.mean([-np.log(np.exp(unit[i] @ unit[p] / 0.2) / total) for p in positives])
        )
    loss = train.contrastive_loss(tf.constant(embeddings, tf.float32), tf.constant(labels), 0.2)
    assert_allclose(loss, np.mean(losses), rtol=1e-5)


def test_batches_hold_rooms_of_one_chain_only_where_asked(rng):
    groups = [list(range(5 * group, 5 * group + 5)) for group in range(30)]
    chains = [f"chain {group // 6}" for group in range(24)] + [""] * 6
    for chained in (1, 3):
        seen = 0
        for _ in range(20):
            batch = train.draw_batch(groups, chains, rng, 12, chained)
            assert all(len(set(views)) == 3 and len(set(views // 5)) == 1 for views in batch)
            of_batch = [chains[group] for group in batch[:, 0] // 5]
            counts = [of_batch.count(chain) for chain in set(of_batch) - {""}]
            assert len(set(batch[:, 0] // 5)) == len(batch) <= 12
            seen = max(seen, *counts)
        assert seen == chained


@pytest.fixture(scope="module")
def six_views(tmp_path_factory):
    """Two rooms of three views, told apart by the colour of a square that moves."""
    folder, rng, views = tmp_path_factory.mktemp("views"), np.random.default_rng(0), []
    for number in range(6):
        room, name = number // 3, f"room{number // 3}_view{number % 3}"
        image = rng.integers(90, 120, (48, 72, 3)).astype(np.uint8)
        y, x = rng.integers(0, 24, 2)
        image[y : y + 24, x : x + 24] = (200, 40, 40) if room else (30, 60, 180)
        Image.fromarray(image).save(folder / f"{name}.webp", lossless=True)
        Image.new("P", (72, 48)).save(folder / f"{name}_objects.png")
        labels = dict.fromkeys(("room", "headboard", "carpet"), str(room))
        views.append(View(folder, name, str(room), number % 3, labels))
    save_views(folder, views)
    return folder


def test_a_look_keeps_the_size_that_the_network_takes_and_mirrors_on_request(rng):
    image = np.zeros((48, 72, 3), np.uint8)
    image[:, 36:] = 200  # bright on the right
    for mirrored in (False, True):
        for _ in range(20):
            look = looks.random_look(image, (32, 64), rng, mirrored)
            assert look.shape == (32, 64, 3) and look.dtype == np.uint8
            left, right = look[:, :8].mean(), look[:, -8:].mean()
            assert abs(left - right) < 8 or (left > right) == mirrored


def test_a_training_that_was_cut_ends_in_the_same_weights(six_views, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY", 1)

    def cut(line):
        raise KeyboardInterrupt(line)

    whole = train.train("rooms", [six_views], tmp_path / "whole", steps=2)
    with pytest.raises(KeyboardInterrupt, match="rooms_seed0: 1 of 2 steps"):
        train.train("rooms", [six_views], tmp_path / "cut", steps=2, report=cut)
    lines = []
    resumed = train.train("rooms", [six_views], tmp_path / "cut", steps=2, report=lines.append)
    assert len(lines) == 1 and lines[0].startswith("rooms_seed0: 2 of 2 steps")
    assert resumed.read_bytes() == whole.read_bytes()

    other = tmp_path / "cut" / "rooms_seed0_state.npz"
    with pytest.raises(ValueError, match=f"{other.name}: left by a training with other settings"):
        train.train("rooms", [six_views], tmp_path / "cut", steps=3)

    convolutions, kernel = rooms.read_weights("rooms", whole)  # it is what load_network reads
    assert kernel.shape == (1280, 128) and len(convolutions) == 13
    assert 0 <= train.recall(whole, "rooms", six_views) <= 1


def test_training_says_in_a_line_what_it_cannot_use(six_views, tmp_path, capsys):
    for data, message in ((tmp_path, "has no views.json"), (six_views / "none", "views.json")):
        assert train.main(["rooms", "--data", str(data), "--output", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
    views = [view for view in train.load_views(six_views) if view.room == "0"]
    save_views(six_views, views)
    assert train.main(["rooms", "--data", str(six_views), "--output", str(tmp_path)]) == 2
    assert "expected 3 views or more of each of two rooms" in capsys.readouterr().err
