"""What the maps of a pair cost, by kind of network: python -m benchmarks.networks"""

from functools import partial

import numpy as np

from benchmarks import medians, table


def report(repeats=5):
    import keras

    from simvis.maps import Method, find_maps
    from simvis.models import load_network

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8))
    rows, dense = [], keras.layers.Dense
    for name, model in {
        "CNN, average pooling, linear head": cnn(dense(128)),
        "CNN, average pooling, MLP head": cnn(dense(256, activation="gelu"), dense(128)),
        "transformer of 6 blocks, first token": transformer(),
    }.items():
        network = load_network(model, preprocess="-1..1")
        bare = partial(model, network.preprocess(images), training=False)
        whole = partial(find_maps, images, network, Method(), ("", ""))
        once, found = medians(bare, whole, repeats=repeats)
        rows.append((name, f"{found / once:.1f}", network.description))
    table("Maps of a pair, in runs of the bare network", ("network", "runs", "how"), rows)


def cnn(*head):
    """Return a MobileNetV2 of random weights with a head."""
    import keras

    inputs = keras.Input((224, 224, 3))
    x = keras.applications.MobileNetV2(include_top=False, weights=None)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    for layer in head:
        x = layer(x)
    return keras.Model(inputs, x)


def transformer(blocks=6, width=192):
    """Return a transformer of random weights whose embedding is its first token."""
    import keras
    from keras import layers

    inputs = keras.Input((224, 224, 3))
    x = layers.Reshape((196, width))(layers.Conv2D(width, 16, strides=16)(inputs))
    first = layers.GlobalAveragePooling1D(keepdims=True)(x)
    x = layers.Concatenate(axis=1)([first, x])
    for _ in range(blocks):
        normed = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(3, width // 3)(normed, normed)])
        normed = layers.LayerNormalization()(x)
        hidden = layers.Dense(4 * width, activation="gelu")(normed)
        x = layers.Add()([x, layers.Dense(width)(hidden)])
    return keras.Model(inputs, layers.Dense(128)(layers.LayerNormalization()(x)[:, 0]))


if __name__ == "__main__":
    report()
