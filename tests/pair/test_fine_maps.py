"""Fine maps: exact for every network that has an earlier layer, and where they should be."""

import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_allclose

from models import load_network
from simvis.maps import Method, featureless
from simvis.pair import EXAMPLE_PAIR, EXAMPLES
from simvis.usual import usual_embedding
from visualize_similarity import main, visualize_pair

REGION = (196, 90, 334, 170)


def unit(vector):
    return np.asarray(vector, np.float64) / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def rooms():
    return load_network("rooms")


@pytest.mark.parametrize(
    "stride, pooling",
    [
        *((8, None), (16, "max"), (16, "gem")),
        *(pytest.param(each, None, marks=pytest.mark.slow) for each in (4, 16)),
    ],
)
def test_they_sum_to_the_cosine(stride, pooling, imagenet):
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet, stride=stride, pooling=pooling)
    blunt = visualize_pair(*EXAMPLE_PAIR, imagenet, pooling=pooling)
    assert pair.similarity1.shape == pair.similarity2.shape == (224 // stride, 224 // stride)
    assert pair.similarity == blunt.similarity
    assert pair.network_similarity == blunt.network_similarity
    assert_allclose(pair.sums, pair.similarity, atol=1e-5)
    assert pair.overlay1.shape == blunt.overlay1.shape


@pytest.mark.parametrize("reference", ["grey", "mean", "blur", "an image"])
def test_any_reference_is_exact(reference, rooms):
    if reference == "an image":
        reference = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    pair = visualize_pair(*EXAMPLE_PAIR, rooms, stride=8, reference=reference)
    assert_allclose(pair.sums, pair.similarity, atol=1e-5)
    images = pair.images
    if isinstance(reference, str):
        grey = [np.full((8, 8, 3), 128, np.uint8)] * 2
        given = grey if reference == "grey" else [featureless(each, reference) for each in images]
        given = [np.rint(each).astype(np.uint8) for each in given]
    else:
        given = [reference] * 2
    own, seen = rooms.embed(rooms.preprocess(images)), rooms.embed(rooms.preprocess(given))
    shares = [seen[i] @ unit(own[1 - i]) / np.linalg.norm(own[i]) for i in (0, 1)]
    assert_allclose([pair.reference1, pair.reference2], shares, atol=1e-5)


def test_of_an_image_that_is_its_own_reference_nothing_is_left(rooms):
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    pair = visualize_pair(image, image, rooms, stride=8, reference=image)
    assert_allclose(pair.similarity1, 1 / 28**2, atol=1e-9)


def test_a_part_that_the_partner_does_not_matter_to(rooms):
    """A map of one image against another depends on the second one's embedding alone."""
    left, right = (visualize_pair(*EXAMPLE_PAIR, rooms, stride=8) for _ in range(2))
    assert_allclose(left.similarity1, right.similarity1)
    turned = visualize_pair(*reversed(EXAMPLE_PAIR), rooms, stride=8)
    assert_allclose(turned.similarity2, left.similarity1, atol=1e-7)


@pytest.mark.parametrize("pooling", ["average", pytest.param("max", marks=pytest.mark.slow)])
def test_regions_and_points(pooling, imagenet):
    asked = {"pooling": pooling, "region1": REGION, "point1": (250, 120)}
    pair = visualize_pair(*EXAMPLE_PAIR, imagenet, stride=16, **asked)
    blunt = visualize_pair(*EXAMPLE_PAIR, imagenet, **asked)
    assert pair.similarity == blunt.similarity != pair.whole_similarity
    assert_allclose(pair.sums, blunt.similarity, atol=1e-5)
    assert_allclose(pair.match2.sum(), blunt.match2.sum(), atol=1e-6)
    assert pair.match2.shape == (14, 14)


@pytest.mark.parametrize("stride", [None, 16])
def test_what_is_special(stride, rooms):
    pair = visualize_pair(*EXAMPLE_PAIR, rooms, special=EXAMPLES, stride=stride)
    usual = usual_embedding(EXAMPLES, rooms, Method())
    embeddings = [unit(rooms.embed(rooms.preprocess([each]))[0]) for each in (*pair.images,)]
    expected = [pair.similarity - embedding @ usual for embedding in embeddings]
    assert_allclose(pair.sums, expected, atol=1e-5)
    assert max(expected) < pair.similarity
    by_vector = visualize_pair(*EXAMPLE_PAIR, rooms, special=usual, stride=stride)
    assert_allclose(by_vector.similarity1, pair.similarity1, atol=1e-6)


@pytest.mark.parametrize("stride", [None, 16])
def test_any_vector_may_be_asked_for(stride, rooms):
    target = np.random.default_rng(0).standard_normal(128)
    pair = visualize_pair(*EXAMPLE_PAIR, rooms, target=target, stride=stride)
    embeddings = rooms.embed(rooms.preprocess(pair.images))
    assert_allclose(pair.sums, [unit(each) @ unit(target) for each in embeddings], atol=1e-5)
    partner = visualize_pair(*EXAMPLE_PAIR, rooms, target=embeddings[1], stride=stride)
    own = visualize_pair(*EXAMPLE_PAIR, rooms, stride=stride)
    assert_allclose(partner.similarity1, own.similarity1, atol=1e-6)


def test_the_stride_of_the_last_layer_is_the_closed_form(imagenet):
    pair, blunt = (visualize_pair(*EXAMPLE_PAIR, imagenet, stride=each) for each in (32, None))
    assert_allclose(pair.similarity1, blunt.similarity1, atol=0)


def test_matches_are_of_the_fine_grid(imagenet):
    pair = visualize_pair(EXAMPLE_PAIR[0], EXAMPLE_PAIR[0], imagenet, stride=8, matches=30)
    assert_allclose(pair.matches[:, :2], pair.matches[:, 2:])  # an image against itself
    assert pair.matches.max() > 7 and len(pair.matches) == 30
    assert_allclose(pair.match_cosines, 1, atol=1e-6)
    assert (np.diff(pair.match_contributions) <= 0).all()
    part = visualize_pair(*EXAMPLE_PAIR, imagenet, stride=8, matches=30, region1=REGION)
    x, y = (part.match_places()[:, :2] * (720, 480)).T
    reach = 720 / 7, 480 / 7  # cells of the last layer that the region touches
    assert (x > REGION[0] - reach[0]).all() and (x < REGION[2] + reach[0]).all()
    assert (y > REGION[1] - reach[1]).all() and (y < REGION[3] + reach[1]).all()


# --- where what they show is known ----------------------------------------------------------------


def patchwise():
    """A network that looks at each 8 x 8 patch by itself, twice, and then at 4 x 4 of them."""
    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(12, 8, strides=8, activation="relu", name="patches")(inputs)
    x = layers.Conv2D(12, 1, activation="gelu")(x)
    x = layers.AveragePooling2D(4)(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def test_a_patch_adds_what_it_alone_has():
    """Of a network that adds up patches, a fine map is its closed form at the finer layer."""
    keras.utils.set_random_seed(1)
    model = patchwise()
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    network = load_network(model, preprocess="-1..1")
    pair = visualize_pair(*images, network, stride=8)
    assert visualize_pair(*images, network).similarity1.shape == (2, 2)
    inner = keras.Model(model.input, model.layers[2].output)
    batch = network.preprocess(list(images))
    found, own = np.asarray(inner(batch), np.float64), np.asarray(model(batch), np.float64)
    grey = np.asarray(inner(network.preprocess([np.full((64, 64, 3), 128, np.uint8)])), np.float64)
    for i, similarity in enumerate((pair.similarity1, pair.similarity2)):
        expected = (found[i] - grey[0]) @ unit(own[1 - i]) / 64 / np.linalg.norm(own[i])
        expected += grey[0].mean((0, 1)) @ unit(own[1 - i]) / 64 / np.linalg.norm(own[i])
        assert_allclose(similarity, expected, atol=1e-6)


HEADS = {
    "max pooling": lambda x: layers.GlobalMaxPooling2D()(x),
    "a dense head": lambda x: layers.Dense(5)(layers.GlobalAveragePooling2D()(x)),
    "two poolings": lambda x: layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    ),
    "an MLP": lambda x: layers.Dense(5)(
        layers.Dense(9, activation="relu")(layers.GlobalAveragePooling2D()(x))
    ),
    "layer norm and softmax": lambda x: layers.Dense(5, activation="softmax")(
        layers.LayerNormalization()(layers.GlobalAveragePooling2D()(x))
    ),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "stride", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)]
)
def test_keras_models_of_every_kind(head, stride):
    keras.utils.set_random_seed(2)
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(inputs)
    y = layers.Conv2D(6, 3, padding="same")(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Activation("silu")(y)])
    x = layers.MaxPooling2D(2)(x)
    x = layers.SeparableConv2D(8, 3, padding="same", activation="gelu")(x)
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Conv2D(10, 3, strides=2, padding="same", activation="relu")(x * gate)
    x = layers.Conv2D(10, 3, strides=2, padding="same")(x)
    network = load_network(keras.Model(inputs, HEADS[head](x)), preprocess="-1..1")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pair = visualize_pair(*images, network, stride=stride)
    assert pair.similarity1.shape == (32 // stride, 32 // stride)
    assert_allclose(pair.sums, pair.network_similarity, atol=1e-5)


def test_a_padded_layer_is_not_taken_for_one_of_its_grid():
    """What a padding puts out lies elsewhere in the image than its cells would say."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 4, strides=4, activation="relu")(inputs)
    x = layers.Conv2D(6, 3, strides=2, activation="gelu")(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pair = visualize_pair(*images, load_network(model, preprocess="-1..1"), stride=4)
    assert pair.similarity1.shape == (8, 8)
    assert_allclose(pair.sums, pair.network_similarity, atol=1e-5)


def test_matches_that_add_nothing(imagenet):
    """A grey image, of which the classifier says next to nothing, is drawn as others are."""
    grey = np.full((60, 60, 3), 127, np.uint8)
    other = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    pair = visualize_pair(grey, other, imagenet, stride=8, matches=3)
    assert pair.picture().shape == (60, 120, 3)


def test_many_pairs_say_at_once_which_strides_there_are(tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("a.jpg,b.jpg\n")
    options = ["--pairs", str(tmp_path / "pairs.csv"), "--output", str(tmp_path / "out")]
    assert main([*options, "--stride", "7"]) == 2
    assert "4, 8, 16 or none, got 7" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_network_without_such_a_layer_says_which_it_has(imagenet):
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, strides=4, padding="same")(inputs)
    far = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(each) for each in (x, far)])
    network = load_network(keras.Model(inputs, both), preprocess="-1..1")
    images = [np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 200, np.uint8)]
    with pytest.raises(ValueError, match=r"no layer of 8 pixels.*there are 1, 4"):
        visualize_pair(*images, network, stride=8)
    with pytest.raises(ValueError, match=r"stride: expected 1, 2, 4, 8, 16 or none, got 5"):
        visualize_pair(*EXAMPLE_PAIR, imagenet, stride=5)


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"stride": 0}, "stride: expected a whole number of pixels"),
        ({"stride": 8.0}, "stride: expected a whole number of pixels"),
        ({"reference": "blur"}, "reference: is for fine maps"),
        ({"stride": 8, "reference": "black"}, "reference: expected grey or mean or blur"),
        ({"stride": 8, "reference": np.full((5, 5, 3), 300.0)}, "reference: "),
        ({"stride": 8, "reference": np.full((5, 5, 3), np.nan)}, "reference: "),
        ({"stride": 32, "reference": "blur"}, "reference: is for finer maps"),
        ({"stride": True}, "stride: expected a whole number of pixels"),
        ({"special": 0.5}, "special: expected 128 numbers"),
        ({"special": ""}, "special: expected a folder of images, got nothing"),
        ({"target": np.zeros(128)}, "target: expected 128 finite numbers, not all zero"),
        ({"target": np.ones(5)}, "target: expected 128 finite numbers"),
        ({"special": np.ones(5)}, "special: expected 128 numbers"),
        ({"special": np.ones(128), "target": np.ones(128)}, "give one of them"),
    ],
)
def test_what_cannot_be_is_refused(asked, words, rooms):
    with pytest.raises(ValueError, match=words):
        visualize_pair(*EXAMPLE_PAIR, rooms, **asked)


def test_the_program(tmp_path, capsys):
    out = tmp_path / "pair.png"
    options = ["--network", "rooms", "--fine", "--reference", "mean", "--output", str(out)]
    assert main([*options, "--special", str(EXAMPLES), "--save-maps", str(tmp_path / "m.npz")]) == 0
    told = capsys.readouterr().out
    assert "maps        28 x 28" in told and "more than usual" in told and "reference   " in told
    with np.load(tmp_path / "m.npz") as arrays:
        assert arrays["similarity1"].shape == (28, 28) and '"stride": 8' in str(arrays["settings"])
    assert main(["--help"]) == 0
    assert "  --fine  " in capsys.readouterr().out
    assert main(["--special", str(tmp_path / "nowhere"), "--output", str(out)]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert main(["--stride", "8", "--save-maps", "a.npz", "--save-pairwise"]) == 2
    assert "--save-pairwise: is of the last layer's cells" in capsys.readouterr().err
