"""Where in the image the tokens of a Keras model lie, and whether its layers move anything."""

import keras
import numpy as np

from simvis.models.steps import leading_to, run

# Layers that leave everything where it was in the image, and small paddings.
IN_PLACE = (
    *("InputLayer", "Rescaling", "Normalization", "Conv2D", "DepthwiseConv2D", "SeparableConv2D"),
    *("BatchNormalization", "LayerNormalization", "GroupNormalization", "Activation", "ReLU"),
    *("LeakyReLU", "PReLU", "Add", "Multiply", "Concatenate", "Dropout", "MaxPooling2D"),
    *("AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Dense"),
)
SMALL_PADDING = 8  # pixels


def token_places(found, front, count, to_batch, size):
    """Return the (y, x), in 0..1, that each of a sequence's tokens looks at, NaN for nothing.

    It is measured where there are so many tokens for the first time, before attention mixes them.
    With noise n, and J the derivative, J n and J (x n) of a token that looks at x are in proportion
    1 : x.  Blocks of strong colours wake what a rectifier would leave silent.  Returns None if the
    tokens do not differ in what they look at.
    """
    steps = leading_to(found.steps, [found.conv]) if found.inside is None else found.steps
    made = (each for step in steps for each in step.outputs)
    first = next((e for e in made if e.shape[1:2] == (count,) and len(e.shape) == 3), None)

    def look(values):
        if first is None:
            return front(np.float32(values))[0].astype(np.float64)
        there = run(leading_to(steps, [first]), {found.image: np.float32(values)})[first]
        return np.asarray(there, np.float64)

    rng, (height, width) = np.random.default_rng(0), size
    images = []
    for number in range(8 if first is None else 32):  # the whole network takes longer
        side = 4 << number % 4
        blocks = 255 * rng.integers(0, 2, (-(-height // side), -(-width // side), 3), np.uint8)
        images.append(np.kron(blocks, np.ones((side, side, 1), np.uint8))[:height, :width])
    batch = to_batch(images)
    y, x = np.mgrid[:height, :width] + 0.5
    noise = rng.standard_normal(batch.shape) * batch.std() / 20
    start = look(batch)
    whole, down, across = (
        look(batch + noise * share) - start
        for share in (1, (y / height)[..., None], (x / width)[..., None])
    )
    sums = np.stack([(whole * part).sum((0, -1)) for part in (whole, down, across)], -1)
    moved = sums[:, 0] > 1e-6 * sums[:, 0].max()
    places = np.where(moved[:, None], sums[:, 1:] / np.where(moved, sums[:, 0], 1)[:, None], np.nan)
    return places if np.nanmax(np.ptp(places[moved], axis=0), initial=0) > 0.4 else None


def may_move(steps):
    """Return whether some of a network's steps may crop, pad, turn or mirror the image.

    A layer is known by its very class, since a subclass may do anything.
    """

    def stays(layer):
        if type(layer) is keras.layers.ZeroPadding2D:
            return np.max(layer.padding) <= SMALL_PADDING
        return type(layer) in {getattr(keras.layers, name) for name in IN_PLACE}

    return not all(stays(step.operation) for step in steps)
