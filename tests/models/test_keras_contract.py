"""The contract: whatever a Keras network does, its maps sum to the cosine of its own output.

Every kind gets random weights *and* random statistics, gammas and betas of its normalisations: what
is zero or one in a new layer hides what is left out.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import layers
from keras_contract import assert_contract, cosine_of, randomize
from numpy.testing import assert_allclose
from PIL import Image

from models import load_network
from simvis.batch.pairs import visualize_pairs
from simvis.models.keras_models.graph import layers as layers_of
from simvis.pair import visualize_pair

EXACT, MEASURED, HALF = 1e-5, 1e-4, 1e-2


@pytest.fixture
def images(rng):
    noise = rng.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    noise[0, :, 20:], noise[1, :25, :, 0] = 240, 0  # or else all that is pooled would be alike
    return list(noise)


@pytest.fixture(autouse=True)
def fixed_weights():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session(free_memory=False)  # layers get their first names again


# --- convolutional networks and their heads ------------------------------------------------------


def convolutional(head, channels=8, size=32):
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(channels, 3, strides=4, padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, 3, strides=2, padding="same")(x)
    x = layers.ReLU(name="last_map")(layers.BatchNormalization()(x))
    return randomize(keras.Model(inputs, head(x)))


def average(x):
    return layers.GlobalAveragePooling2D()(x)


def maximum(x):
    return layers.GlobalMaxPooling2D()(x)


class Gem(layers.Layer):
    """GeM whose power is a weight."""

    def __init__(self, power, **options):
        super().__init__(**options)
        self.power = power

    def build(self, shape):
        start = keras.initializers.Constant(self.power)
        self.p = self.add_weight(shape=(1,), initializer=start, name="power")

    def call(self, x):
        powers = keras.ops.maximum(x, 1e-6) ** self.p
        return keras.ops.mean(powers, axis=(1, 2)) ** (1 / self.p)


PLAIN = {
    "average": average,
    "average and a linear head": lambda x: layers.Dense(5)(average(x)),
    "nested": lambda x: keras.Sequential(
        [keras.Input((8,)), layers.Dense(6), layers.Dropout(0.5), layers.Dense(5)]
    )(average(x)),
    "reshaped": lambda x: layers.Flatten()(layers.Reshape((1, 1, -1))(average(x))),
    "a 1x1 convolution": lambda x: layers.Conv2D(5, 1)(layers.Reshape((1, 1, 8))(average(x))),
    "scaled": lambda x: layers.Rescaling(3.0, 0.5)(layers.Dense(5)(average(x))),
    "a normalisation at the end": lambda x: keras.ops.normalize(layers.Dense(5)(average(x)), -1),
    "a normalisation in the middle": lambda x: layers.Dense(5, use_bias=False)(
        layers.UnitNormalization()(average(x))
    ),
    "layer norm without an offset": lambda x: layers.LayerNormalization(center=False)(average(x)),
    "batch norm after a dense": lambda x: layers.BatchNormalization()(layers.Dense(5)(average(x))),
    "a residual head": lambda x: (lambda v: layers.Add()([v, layers.Dense(8)(v)]))(average(x)),
    "a normalisation of two steps": lambda x: (
        lambda v: v / keras.ops.norm(v, axis=-1, keepdims=True)
    )(layers.Dense(5)(average(x))),
}
PROPORTIONAL = {
    "average plus maximum": lambda x: layers.Dense(5)(layers.Add()([average(x), maximum(x)])),
    "GeM in steps of its own": lambda x: layers.Dense(5)(
        keras.ops.mean(keras.ops.maximum(x, 1e-6) ** 2.5, axis=(1, 2)) ** (1 / 2.5)
    ),
    "flatten, dense": lambda x: layers.BatchNormalization()(
        layers.Dense(6)(layers.Flatten()(layers.Dropout(0.4)(layers.BatchNormalization()(x))))
    ),
    "layer norm at the end": lambda x: layers.LayerNormalization()(layers.Dense(5)(average(x))),
    "layer norm before a dense": lambda x: layers.Dense(5)(layers.LayerNormalization()(average(x))),
    "rms norm": lambda x: layers.Dense(5)(layers.RMSNormalization()(average(x))),
    "L2, then a dense": lambda x: layers.Dense(5)(layers.UnitNormalization()(average(x))),
    "L2 of two steps, then a dense": lambda x: layers.Dense(5)(
        (lambda v: v / keras.ops.norm(v, axis=-1, keepdims=True))(maximum(x))
    ),
    "L2 of each of two poolings": lambda x: layers.Dense(5)(
        layers.Concatenate()([layers.UnitNormalization()(each(x)) for each in (average, maximum)])
    ),
}
INTEGRATED = {
    "two layers with ReLU": lambda x: layers.Dense(5)(
        layers.Dense(16, activation="relu")(average(x))
    ),
    "two layers with GELU": lambda x: layers.Dense(5)(
        layers.Dense(16, activation="gelu")(average(x))
    ),
    "softmax": lambda x: layers.Dense(5, activation="softmax")(average(x)),
}


@pytest.mark.parametrize("head", PLAIN)
def test_one_pooling_and_a_linear_head(head, images):
    network = assert_contract(convolutional(PLAIN[head]), images, EXACT, way=" pooling after")
    assert not network.derived


@pytest.mark.parametrize("power", [1, 2.3, 8])
def test_gem_of_any_power(power, images):
    model = convolutional(lambda x: layers.Dense(5)(Gem(power)(x)))
    network = assert_contract(model, images, EXACT, way=" pooling after")
    assert power == 1 or abs(network.power - power) < 1e-3


@pytest.mark.parametrize("head", PROPORTIONAL)
def test_what_grows_in_proportion_is_exact(head, images):
    assert_contract(convolutional(PROPORTIONAL[head]), images, EXACT, way="in proportion")


@pytest.mark.parametrize("head", INTEGRATED)
def test_heads_that_are_not_linear(head, images):
    assert_contract(convolutional(INTEGRATED[head]), images, MEASURED, way="by secants")


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", ["plain", "proportional", "integrated"])
def test_mixed_precision(policy, kind, images):
    head = {
        "plain": PLAIN["batch norm after a dense"],
        "proportional": PROPORTIONAL["layer norm before a dense"],
        "integrated": INTEGRATED["two layers with GELU"],
    }[kind]
    keras.config.set_dtype_policy(policy)
    try:
        network = assert_contract(convolutional(head), images, HALF)
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.tolerance == HALF


# --- transformers --------------------------------------------------------------------------------


class Tokens(layers.Layer):
    """Patches as tokens, after a few that are learned, with positions added."""

    def __init__(self, prefix=1, **options):
        super().__init__(**options)
        self.prefix = prefix

    def build(self, shape):
        count = shape[1] * shape[2]
        self.first = self.add_weight(shape=(1, self.prefix, shape[-1]), name="first")
        self.places = self.add_weight(shape=(1, self.prefix + count, shape[-1]), name="places")

    def call(self, x):
        x = keras.ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        first = keras.ops.broadcast_to(self.first, (keras.ops.shape(x)[0], *self.first.shape[1:]))
        return keras.ops.concatenate([first, x], 1) + self.places


class Query(layers.Layer):
    """Attention pooling: what a learned query makes of all tokens."""

    def build(self, shape):
        self.query = self.add_weight(shape=(1, 1, shape[-1]), name="query")
        self.attention = layers.MultiHeadAttention(2, 8)
        self.attention.build((None, 1, shape[-1]), shape)

    def call(self, x):
        query = keras.ops.broadcast_to(self.query, (keras.ops.shape(x)[0], 1, x.shape[-1]))
        return self.attention(query, x)[:, 0]


def transformer(pool, prefix=1):
    inputs = keras.Input((32, 32, 3))
    x = Tokens(prefix, name="tokens")(layers.Conv2D(16, 8, strides=8, name="patches")(inputs))
    for i in range(2):
        normed = layers.LayerNormalization()(x)
        x = layers.Add(name=f"attended{i}")([x, layers.MultiHeadAttention(2, 8)(normed, normed)])
        mlp = layers.Dense(32, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add(name=f"block{i}")([x, layers.Dense(16)(mlp)])
    x = layers.LayerNormalization(name="last_norm")(x)
    return randomize(keras.Model(inputs, pool(x)))


def cls(x):
    return x[:, 0]


POOLINGS = {
    "CLS": (cls, 1),
    "CLS and registers": (cls, 5),
    "attention pooling": (lambda x: Query()(x), 0),
    "CLS beside the mean of patches": (
        lambda x: layers.Concatenate()([x[:, 0], keras.ops.mean(x[:, 1:], axis=1)]),
        1,
    ),
}


@pytest.mark.parametrize(
    "pool",
    [
        each if each in ("CLS", "attention pooling") else pytest.param(each, marks=pytest.mark.slow)
        for each in POOLINGS
    ],
)
def test_transformers_by_secants_from_their_tokens(pool, images):
    network = assert_contract(transformer(*POOLINGS[pool]), images, MEASURED)
    assert "4 x 4" in network.description
    assert network.activations(network.preprocess(images)).shape[1:3] == (4, 4)


@pytest.mark.parametrize("prefix, way", [(0, " pooling after"), (1, "in proportion")])
def test_the_mean_of_tokens_is_exact(prefix, way, images):
    def pool(x):
        return layers.Dense(6)(layers.GlobalAveragePooling1D()(x))

    network = assert_contract(transformer(pool, prefix), images, EXACT, way=way)
    assert network.activations(network.preprocess(images)).shape[1:3] == (4, 4)


# --- the maps are where what was learned is -------------------------------------------------------


def patches(count, seed):
    """Return noise with one of six colours in one of 4 x 4 patches, the colours and the places."""
    rng = np.random.default_rng(seed)
    images = rng.integers(80, 176, (count, 32, 32, 3), dtype=np.uint8)
    colours, places = rng.integers(0, 6, count), rng.integers(0, 16, count)
    for image, colour, place in zip(images, colours, places, strict=True):
        y, x = 8 * (place // 4), 8 * (place % 4)
        image[y : y + 8, x : x + 8] = 255 * np.array(
            [colour + 1 & 1, colour + 1 & 2, colour + 1 & 4]
        ).astype(bool)
    return images, colours, places


def small_cnn():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(24, 8, strides=8, activation="relu")(inputs)
    x = layers.Dense(32, activation="gelu")(average(layers.Conv2D(24, 1, activation="relu")(x)))
    return keras.Model(inputs, layers.Dense(8)(x))


def share_of_labels_found(model, seed=1):
    """Teach a model six colours; return how often a map's peak is the patch that has one."""
    images, colours, _ = patches(1024, seed=10 * seed)
    classifier = keras.Sequential([model, layers.Activation("gelu"), layers.Dense(6)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    history = classifier.fit(images / 127.5 - 1, colours, 32, 5, verbose=0)
    assert history.history["accuracy"][-1] > 0.95
    images, colours, places = patches(60, seed=10 * seed + 1)
    alike = [np.flatnonzero(colours == colour) for colour in range(6)]
    pairs = [pair for each in alike for pair in zip(each[::2], each[1::2], strict=False)]
    network, first = load_network(model, preprocess="-1..1"), []
    for pair in pairs:
        shown = visualize_pair(*images[list(pair)], network)
        maps = shown.similarity1, shown.similarity2
        first += [np.argmax(each) == places[i] for each, i in zip(maps, pair, strict=True)]
    assert len(first) >= 40
    return np.mean(first)  # of maps at random, one in sixteen


def test_the_patch_that_tells_the_label_comes_first():
    assert share_of_labels_found(small_cnn()) > 0.9


@pytest.mark.slow
def test_the_patch_that_tells_the_label_comes_first_in_transformers():
    shares = []
    for seed in range(1, 6):
        for pool, prefix in ((cls, 1), (lambda x: Query()(x), 0)):
            keras.utils.set_random_seed(seed)
            model = transformer(lambda x, pool=pool: layers.Dense(8)(pool(x)), prefix)
            shares.append(share_of_labels_found(model, seed))
    assert np.mean(shares) >= 0.9


# --- all that is shown of a network ---------------------------------------------------------------


def test_every_view_of_a_transformer(images, tmp_path):
    network = load_network(transformer(cls), preprocess="-1..1")
    pair = visualize_pair(*images, network)
    assert pair.conv1 is None  # its maps need no local features along each of 16 directions
    assert_allclose(pair.similarity, pair.network_similarity, atol=MEASURED)
    full = visualize_pair(*images, network, pairwise=True, point1=(25, 20))
    assert full.conv1.shape == (4, 4, 16)
    assert_allclose(full.similarity1, pair.similarity1, atol=1e-3)
    assert_allclose(full.pairwise.sum((0, 1)), full.similarity2, atol=1e-6)
    matched = visualize_pair(*images, network, stride=8, matches=3)  # whose grid is its own
    assert matched.similarity1.shape == (4, 4) and matched.matches.max() < 4
    part = visualize_pair(*images, network, region1=(0, 0, 24, 39))
    assert part.similarity != part.whole_similarity
    assert_allclose(part.whole_similarity, full.similarity, atol=1e-6)
    pair.save_page(tmp_path / "page.html")
    assert f"{pair.network_similarity:.4f} of the whole images" in (
        (tmp_path / "page.html").read_text("utf-8")
    )


@pytest.mark.parametrize("build", [lambda: transformer(cls), lambda: convolutional(average)])
def test_many_pairs(build, images, tmp_path):
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    for path, image in zip(paths, [*images, images[0][::-1]], strict=True):
        Image.fromarray(image).save(path)
    network = load_network(build(), preprocess="-1..1", graph=True)
    pairs = list(itertools.combinations(paths, 2))
    rows, _ = visualize_pairs(pairs, network, tmp_path / "many", pictures=False)
    for row, pair in zip(rows, pairs, strict=True):
        expected = visualize_pair(*pair, network)
        for name in ("similarity", "network_similarity"):
            assert_allclose(float(row[name]), getattr(expected, name), atol=2e-5)


# --- layers by name, at any depth -----------------------------------------------------------------


class Subclassed(keras.Model):
    """A model whose graph Keras does not know, with a convolution and an MLP head."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.conv = layers.Conv2D(8, 3, strides=4, activation="relu", name="conv")
        self.hidden, self.out = layers.Dense(16, activation="gelu"), layers.Dense(5)

    def call(self, x):
        return self.out(self.hidden(keras.ops.mean(self.conv(x), axis=(1, 2))))


def test_inside_of_a_subclassed_model(images):
    model = Subclassed()
    with pytest.raises(ValueError, match=r"subclassed model.*layer=; it has conv"):
        load_network(model)
    model(np.zeros((1, 32, 32, 3), np.float32))
    options = {"layer": "conv", "input_size": (32, 32)}
    way = "follows conv, by secants"
    assert_contract(randomize(model), images, MEASURED, way=way, pooling="network", **options)

    def pooled(batch, training):
        return average(model.conv(batch))

    assert_contract(model, images, EXACT, pooled, way="average pooling after conv", **options)


@pytest.mark.slow
def test_inside_of_a_layer(images):
    encoder = hub_encoder("ViTBackbone")
    inputs = keras.Input((32, 32, 3))
    model = randomize(keras.Model(inputs, layers.Dense(6)(encoder(inputs)[:, 0]), name="hub"))
    inside = next(path for path, _ in layers_of(model) if path.endswith("block_1"))
    assert_contract(model, images, MEASURED, way="tokens as 4 x 4 after 1", layer=inside)


def test_a_map_in_the_middle_of_a_network(images):
    model = convolutional(PLAIN["average and a linear head"])
    options = {"layer": "re_lu", "pooling": "network"}
    network = assert_contract(model, images, MEASURED, way="by secants", **options)
    assert network.activations(network.preprocess(images)).shape[1:3] == (8, 8)


# --- what is said of a network is checked ---------------------------------------------------------


def smallest(x):
    positive = layers.Activation("softplus")(x)
    return layers.Lambda(lambda values: -keras.ops.max(-values, axis=(1, 2)))(positive)


@pytest.mark.parametrize(
    "pool, options, look",
    [
        (smallest, {"pooling": "gem"}, {}),
        (average, {"pooling": "max"}, {}),
        (lambda x: Gem(8.0)(x), {}, {"power": 1}),
    ],
)
def test_what_is_said_of_a_network_is_checked(images, pool, options, look):
    model = convolutional(pool)
    options["preprocess"] = "-1..1"
    true = visualize_pair(*images, load_network(model, preprocess="-1..1"))
    assert_allclose(true.network_similarity, true.similarity, atol=EXACT)
    message = (
        r"maps sum to -?0\.\d+, but the network itself says -?0\.\d+.*(gem|average|max) pooling"
    )
    with pytest.raises(ValueError, match=message):
        visualize_pair(*images, load_network(model, **options), **look)


def test_a_grid_that_is_none_is_refused():
    model = transformer(cls, 1)
    for options in ({"grid": (5, 5)}, {"grid": (4, 4), "prefix": 2}, {"prefix": 3}):
        with pytest.raises(ValueError, match=r"grid: .*17 tokens"):
            load_network(model, **options)
    assert "2 x 8" in load_network(model, grid=(2, 8)).description


# --- what keras-hub has ---------------------------------------------------------------------------

SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "image_shape": (32, 32, 3)}


def hub_encoder(name):
    """Return a small encoder with random weights."""
    hub = pytest.importorskip("keras_hub.models")
    if name == "SwinTransformerBackbone":
        windows = {"depths": (1, 1), "num_heads": (2, 2), "window_size": 2, "patch_size": 4}
        return hub.SwinTransformerBackbone(image_shape=(32, 32, 3), embed_dim=8, **windows)
    options = {"mlp_dim" if name == "ViTBackbone" else "intermediate_dim": 32, **SMALL}
    if name == "DINOV2Backbone":
        options |= {"position_embedding_shape": (32, 32, 3), "num_register_tokens": 4}
    return getattr(hub, name)(patch_size=8, **options)


@pytest.mark.parametrize(
    "name, pool",
    [
        ("ViTBackbone", "first"),
        *(
            pytest.param(name, pool, marks=pytest.mark.slow)
            for name, pool in [
                ("ViTBackbone", "mean"),
                *itertools.product(("DINOV2Backbone", "CLIPVisionEncoder"), ("first", "mean")),
                ("SigLIPVisionEncoder", "its own"),
                ("SwinTransformerBackbone", "mean"),
            ]
        ),
    ],
)
def test_encoders_of_keras_hub(name, pool, images):
    encoder = hub_encoder(name)
    inputs = keras.Input((32, 32, 3))
    tokens = encoder(inputs)
    if isinstance(tokens, dict):
        tokens = next(iter(tokens.values()))
    pools = {"first": cls, "mean": layers.GlobalAveragePooling1D(), "its own": layers.Identity()}
    x = pools[pool](tokens)
    model = randomize(keras.Model(inputs, layers.Dense(6)(x), name=f"{name}-{pool}"))
    network = assert_contract(model, images, MEASURED)
    assert network.activations(network.preprocess(images)).shape[1:3] == (4, 4)


# --- what a layer does is measured ----------------------------------------------------------------


class TanhDense(layers.Dense):
    def call(self, x, training=None):
        return keras.ops.tanh(super().call(x))


class HalfMean(layers.GlobalAveragePooling2D):
    def call(self, x):
        return keras.ops.mean(x[:, : x.shape[1] // 2], axis=(1, 2))


class ShiftedNorm(layers.LayerNormalization):
    def call(self, x):
        return keras.ops.tanh(super().call(x))


MEASURED_LAYERS = {
    "channels first": lambda x: layers.Dense(5)(
        layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    ),
    "channels first, maximum": layers.GlobalMaxPooling2D(data_format="channels_first"),
    "channels first, as many rows as channels": lambda x: layers.GlobalAveragePooling2D(
        data_format="channels_first"
    )(layers.Conv2D(4, 1)(x)),
    "a dense that bends": lambda x: TanhDense(5)(average(x)),
    "half of a mean": lambda x: HalfMean()(x),
    "a layer norm that bends": lambda x: layers.Dense(5)(ShiftedNorm(center=False)(average(x))),
}


@pytest.mark.parametrize("head", MEASURED_LAYERS)
def test_no_layer_is_known_by_its_class(head, images):
    network = assert_contract(convolutional(MEASURED_LAYERS[head]), images, MEASURED)
    assert network.derived
    visualize_pair(*images, network)


def test_a_quantized_head_is_explained(images):
    model = convolutional(PLAIN["nested"])
    model.quantize("int8")
    network = load_network(model, preprocess="-1..1")
    pair = visualize_pair(*images, network)
    assert network.tolerance == HALF
    expected = cosine_of(model(network.preprocess(images)))
    assert_allclose([pair.similarity, pair.network_similarity], expected, atol=HALF)
