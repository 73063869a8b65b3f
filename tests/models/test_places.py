"""A network that sees red, images with a red patch: the map's centre lies on the patch."""

import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_allclose

from models import load_network
from simvis.pair import visualize_pair


class Around(layers.Layer):
    """Patches as tokens, in some order, with learned ones before and after."""

    def __init__(self, before, after, columns=False):
        super().__init__()
        self.before, self.after, self.columns = before, after, columns

    def call(self, x):
        if self.columns:
            x = keras.ops.transpose(x, (0, 2, 1, 3))
        x = keras.ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        one = keras.ops.ones_like(x[:, :1]) / 50
        return keras.ops.concatenate([one] * self.before + [x] + [one] * self.after, 1)


def red(size, before=0, after=0, columns=False, geometry=None, tokens=True):
    """Return a model with cells of 16 pixels that see how much redder than green they are."""
    inputs = keras.Input((*size, 3))
    x = geometry(inputs) if geometry else inputs
    conv = layers.Conv2D(2, 16, strides=16, activation="relu", use_bias=False)
    x = conv(x)
    kernel = np.zeros((16, 16, 3, 2), np.float32)
    kernel[:, :, 0, 0], kernel[:, :, 1, 0] = 1 / 256, -1 / 256  # silent where there is no red
    conv.set_weights([kernel])
    if tokens:
        x = Around(before, after, columns)(x)
        return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def centre_of_red(network, size, y, x):
    image = np.full((*size, 3), 60, np.uint8)
    image[y : y + 16, x : x + 16] = 255, 0, 0
    conv = network.activations(network.preprocess([image]))[0, ..., 0].astype(np.float64)
    conv -= np.median(conv)
    cells = np.indices(conv.shape) + 0.5
    centre = (cells * conv).sum((1, 2)) / conv.sum()
    return centre / conv.shape * size


@pytest.mark.parametrize(
    "size, before, after",
    [
        ((224, 256), 1, 0),
        ((192, 256), 5, 0),
        ((224, 224), 1, 0),
        ((96, 160), 0, 4),
        ((96, 160), 1, 4),
        ((64, 256), 0, 0),
    ],
)
def test_a_red_patch_is_where_it_is(size, before, after):
    network = load_network(red(size, before, after))
    for y, x in ((16, 32), (size[0] - 16, size[1] - 32), (0, size[1] - 16)):
        assert_allclose(centre_of_red(network, size, y, x), (y + 8, x + 8), atol=2)
    rng = np.random.default_rng(0)
    batch = network.preprocess(list(rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)))
    convs, own = network.run(batch)
    assert_allclose(convs.mean((1, 2)), own, rtol=1e-3)


def test_tokens_that_are_not_row_by_row_are_looked_at_from_the_image():
    model = red((96, 160), columns=True)
    network = load_network(model)
    for y, x in ((16, 32), (80, 128), (0, 144)):
        assert_allclose(centre_of_red(network, (96, 160), y, x), (y + 8, x + 8), atol=8)
    with pytest.raises(ValueError, match="grid: .*do not lie row by row.*preprocess="):
        load_network(model, pooling="average")


GEOMETRY = {
    "a crop": layers.CenterCrop(64, 64),
    "another crop": layers.Cropping2D(((32, 0), (0, 0))),
    "a pad": layers.ZeroPadding2D(64),
    "a resizing that crops": layers.Resizing(64, 128, crop_to_aspect_ratio=True),
    "a resizing that pads": layers.Resizing(96, 256, pad_to_aspect_ratio=True),
    "a permutation": layers.Permute((2, 1, 3)),
    "a mirror": lambda x: x[:, :, ::-1],
    "both sides": lambda x: layers.Add()([x, x[:, :, ::-1]]),
}


@pytest.mark.parametrize("kind", GEOMETRY)
@pytest.mark.parametrize("tokens", [True, False])
def test_geometry_inside_of_a_model_is_followed(kind, tokens):
    model = red((128, 128), geometry=GEOMETRY[kind], tokens=tokens)
    network = load_network(model)
    for y, x in ((48, 40), (72, 64)):  # where none of them crops
        assert_allclose(centre_of_red(network, (128, 128), y, x), (y + 8, x + 8), atol=9)
    rng = np.random.default_rng(0)
    batch = network.preprocess(list(rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)))
    convs, own = network.run(batch)
    assert_allclose(convs.mean((1, 2)), own, rtol=1e-3)


def test_a_region_and_a_point_are_where_the_model_looks():
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 60, (2, 128, 128, 3), dtype=np.uint8))
    for image, (y, x) in zip(images, ((40, 40), (64, 72)), strict=True):
        image[y : y + 16, x : x + 16] = 255, 0, 0
    network = load_network(red((128, 128), geometry=layers.CenterCrop(64, 64), tokens=False))
    pair = visualize_pair(*images, network, region1=(36, 36, 60, 60), point1=(48, 48))
    assert abs(pair.similarity) > 0.9  # all that it sees of image 1 lies there
    y, x = (np.array(np.unravel_index(pair.match2.argmax(), pair.match2.shape)) + 0.5) * 128 / 8
    assert abs(y - 72) < 20 and abs(x - 80) < 20
