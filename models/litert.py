"""A network in LiteRT, which TensorFlow brings for phones, and which is fast on any CPU.

LiteRT runs an image on one thread, so several images at once do not wait for each other, and an
embedding depends on its image alone, whatever else there is to do.
"""

import warnings
from dataclasses import replace
from queue import LifoQueue

import numpy as np
import tensorflow as tf

from simvis.decoding import stderr_dropped
from simvis.models.functions import sample_images
from simvis.models.network import LITERT, count_cores, directions_apart

TOLERANCE = 5e-6  # how far an embedding's direction may be from TensorFlow's
ROOM = 2**29  # bytes of all interpreters' weights, each of which has its own
HEAVIEST = 2**29  # bytes of weights


def in_litert(network):
    """Return a network as LiteRT runs it; or itself, if that cannot be or puts out something else.

    It cannot be if an operation is none of LiteRT's, or if its weights are too large to be
    converted in little memory; and where there is a GPU, TensorFlow runs there.

    network : EmbeddingNetwork that has ``functions_by``
    """
    if tf.config.list_physical_devices("GPU") or _weight(network) > HEAVIEST:
        return network
    try:
        quick = replace(network, **network.functions_by(to_litert), engine=LITERT)
        apart = _apart(network, quick)
    except Exception:  # converters raise all kinds of them
        return network
    return quick if apart <= TOLERANCE else network


def to_litert(function):
    """Return a TensorFlow function of batches (N, H, W, 3) as `network.to_numpy` does, in LiteRT.

    It is converted when it is called first; then so many threads as the process has cores may call
    it at once.
    """
    idle, kept = LifoQueue(), []

    def convert(shape):
        spec = tf.TensorSpec((1, *shape), tf.float32)
        concrete = tf.function(function, input_signature=[spec]).get_concrete_function()
        with stderr_dropped(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function).convert()
            cores = count_cores()
            count = max(1, min(cores, ROOM // len(model)))
            for _ in range(count):
                interpreter = tf.lite.Interpreter(model_content=model, num_threads=cores // count)
                interpreter.allocate_tensors()
                details = interpreter.get_input_details(), interpreter.get_output_details()
                idle.put((interpreter, *([each["index"] for each in of] for of in details)))
        kept[:] = [value is not None for value in concrete.structured_outputs]

    def run_image(image):
        interpreter, (place,), outputs = taken = idle.get()
        try:
            interpreter.set_tensor(place, image[None])
            interpreter.invoke()
            found = iter([interpreter.get_tensor(output) for output in outputs])
        finally:
            idle.put(taken)
        return [next(found) if is_there else None for is_there in kept]

    def run(batch):
        if not kept:
            convert(batch.shape[1:])
        outputs = zip(*map(run_image, batch), strict=True)
        return [None if parts[0] is None else np.concatenate(parts) for parts in outputs]

    return run


def _weight(network):
    return sum(np.asarray(part).nbytes for part in network.weights()) if network.weights else 0


def _apart(network, other):
    """Return how far the directions of two networks' embeddings of a few images are apart."""
    batch = network.preprocess(sample_images(network.input_size))
    pairs = zip(*(each.run(batch, need="embeddings")[1] for each in (network, other)), strict=True)
    return max(directions_apart(*pair) for pair in pairs)
