"""tf-slim's own resnet_v2_50 in a TensorFlow 1 graph, as a program: the outside judge.

    python slim_judge.py FOLDER DIMENSIONS

writes, for a network with random values in every variable, a checkpoint FOLDER/slim, the inputs
and what slim makes of them: FOLDER/judged.npz.
"""

import importlib
import os
import sys

import numpy as np

SIZES = ((2, 224, 224), (2, 160, 256))


def import_slim():
    import tensorflow as tf
    import tf_keras

    # tf-slim looks for these under the name that tf_keras once gave them
    package = importlib.import_module("tf_keras.src.legacy_tf_layers")
    sys.modules["tf_keras.legacy_tf_layers"] = tf_keras.legacy_tf_layers = package
    for name in ("normalization", "convolutional", "core", "pooling", "base"):
        module = importlib.import_module(f"tf_keras.src.legacy_tf_layers.{name}")
        sys.modules[f"tf_keras.legacy_tf_layers.{name}"] = module
    import tf_slim
    from tf_slim.nets import resnet_v2

    return tf.compat.v1, tf_slim, resnet_v2


def random_values(variables, rng):
    """Return values for every variable, such that a swap of any two would be seen."""
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        if name.endswith("weights"):
            yield rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
        elif name.endswith(("gamma", "moving_variance")):
            yield rng.uniform(0.5, 1.5, shape)
        else:
            yield rng.standard_normal(shape) * 0.3


def judge(folder, dimensions):
    tf, slim, resnet_v2 = import_slim()
    tf.disable_eager_execution()
    rng = np.random.default_rng(0)
    inputs = tf.placeholder(tf.float32, (None, None, None, 3))
    ends = {}
    for mode, training in (("batch", True), ("moving", False)):
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            logits, _ = resnet_v2.resnet_v2_50(
                inputs, num_classes=dimensions, is_training=training, reuse=mode == "moving"
            )
        scope = "resnet_v2_50" if training else "resnet_v2_50_1"
        relu = tf.get_default_graph().get_tensor_by_name(f"{scope}/postnorm/Relu:0")
        ends[mode] = relu, logits
    variables = tf.global_variables()
    tf.Variable(7, name="global_step", dtype=tf.int64)
    judged = {}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable, value in zip(variables, random_values(variables, rng), strict=True):
            variable.load(value.astype(np.float32), session)
        tf.train.Saver().save(session, os.path.join(folder, "slim"), write_meta_graph=False)
        for number, size in enumerate(SIZES):
            judged[f"input{number}"] = (rng.standard_normal((*size, 3)) * 60).astype(np.float32)
            for mode, (activations, logits) in ends.items():
                feed = {inputs: judged[f"input{number}"]}
                outputs = session.run((activations, logits), feed)
                judged[f"{mode}{number}"] = outputs[0]
                judged[f"{mode}{number}_logits"] = np.reshape(outputs[1], (size[0], -1))
    judged["names"] = [variable.op.name for variable in variables]
    np.savez(os.path.join(folder, "judged.npz"), **judged)


if __name__ == "__main__":
    judge(sys.argv[1], int(sys.argv[2]))
