"""An embedding network, reduced to what the maps are made of, and how TensorFlow runs it."""

import gc
import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from simvis.decoding import stderr_dropped
from simvis.similarity_ops import pool_features

MODEL_FILES = (".keras", ".h5", ".hdf5")
NOT_CHECKED = "not checked against an output of its own"
FUNCTIONS, TENSORFLOW, LITERT = "functions", "TensorFlow", "LiteRT"
ENGINES = FUNCTIONS, TENSORFLOW, LITERT, "PyTorch", "ONNX Runtime"
KERAS = "keras.src.optimizers"  # of Keras, what TensorFlow imports
ADDRESS_SPACE = 2**31  # bytes; with less, TensorFlow ends the process, without a word


@dataclass(frozen=True)
class EmbeddingNetwork:
    """A network, reduced to what the maps are made of.

    name : str
    input_size : (height, width) in pixels that `preprocess` resizes to
    pooling : "average", "max" or "gem", which turns activations into the pooled feature
    projection : None or (kernel (C, D), bias (D,)), the linear head after the pooling
    preprocess : function of a list of RGB uint8 (H, W, 3) arrays -> float32 (N, H, W, 3) batch
    activations : function of a batch -> float32 (N, h, w, C), the last convolutional layer's output
    embed : None or a function of a batch -> float32 (N, D), what the network itself puts out,
        before a last normalisation, which a cosine does not see; without it nothing is checked
    power : the exponent of "gem"
    explain : "pooled" or "head", what is explained by default: the pooled feature, or the
        network's output through the linear head; by default the output, so "head" if there is one
    batch_independent : whether an image's activations are the same whatever the rest of its batch
    description : one line for people
    tolerance : how far the direction of the sum of the local features may be from that of
        `embed`; the default is for float32
    weights : None or a function that returns the arrays that the network is made of
    forward : None, or a function of a batch -> its activations, pooled feature and output, or None
        for those of the last two that it does not have: all of it in one pass
    contributions : None or a `contributions.Contributions`: what each position of a layer adds to
        an embedding seen along a direction; of a stride, pixels of the input to a cell of the map,
        it is the last layer of that grid that all passes through
    functions_by : None or a function that makes ``activations``, ``embed`` and ``forward``, as a
        dict, of a function like `to_numpy`, by which the network's own TensorFlow function runs
    engine : one of ENGINES, what runs it
    derived : whether the activations are local features along every direction, which take long, so
        that the maps of a pair are quicker made by `contributions`
    own : the pooling and the projection that the functions above compute; by default those given.
        With others put in instead, what is explained is nothing that the network puts out itself.
    """

    name: str
    input_size: tuple[int, int]
    pooling: str
    projection: tuple | None
    preprocess: Callable[[list], np.ndarray]
    activations: Callable[[np.ndarray], np.ndarray]
    embed: Callable[[np.ndarray], np.ndarray] | None = None
    power: float = 3.0
    explain: str | None = None
    batch_independent: bool = True
    description: str = ""
    tolerance: float = 2e-5
    weights: Callable | None = None
    forward: Callable | None = None
    contributions: Callable | None = None
    functions_by: Callable | None = None
    engine: str = FUNCTIONS
    derived: bool = False
    own: tuple | None = None

    def __post_init__(self):
        if self.engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.own is None:
            object.__setattr__(self, "own", (self.pooling, self.projection))
        if self.explain is None:
            object.__setattr__(self, "explain", "pooled" if self.projection is None else "head")
        if self.embed is None and NOT_CHECKED not in self.description:
            words = ", ".join(filter(None, (self.description, NOT_CHECKED)))
            object.__setattr__(self, "description", words)

    def run(self, batch, explain=None, need="maps"):
        """Run the network on a batch; return what the maps are made of.

        The batch is float32 (N, H, W, 3); explain "pooled", "head", or None for the network's
        default; need "maps" or "embeddings".

        Returns
        -------
        activations : float32 (N, h, w, C) array, or None if embeddings alone are needed
        embeddings : float32 (N, D) array, the network's own, that the activations explain; None if
            it puts out no such thing, but those that are needed are pooled from the activations

        Raises a ValueError if its own pooling and head of the activations are not what it puts out.
        """
        explain = explain or self.explain
        # of a pooling or a head that someone put in instead, the network knows nothing
        is_own = self.pooling == self.own[0] and (
            explain == "pooled" or self.projection is self.own[1]
        )
        embeds = is_own and explain == ("pooled" if self.own[1] is None else "head")
        quick = self.derived or not self.forward
        if need == "embeddings" and embeds and self.embed and quick:
            return None, np.asarray(self.embed(batch), np.float32)
        if self.forward:
            convs, pooled, output = self.forward(batch)
            own = (pooled if explain == "pooled" else output) if is_own else None
        else:
            convs = self.activations(batch)
            output = self.embed(batch) if self.embed else None
            if output is not None and not embeds:  # it is asked whatever is explained
                self._check(convs, output)
            own = output if embeds else None
        convs = np.asarray(convs, np.float32)
        if own is not None:
            own = np.asarray(own, np.float32)
        elif need == "embeddings":
            own = np.stack([self.pooled(conv, explain=explain) for conv in convs])
        return convs, own

    def pooled(self, conv, region=None, explain=None):
        """Return the embedding (D,) that is explained, of activations (h, w, C).

        With a region, weights (h, w), it is that of the region, see `similarity_ops`.
        """
        return pool_features(
            conv,
            self.pooling,
            projection=self.projection if (explain or self.explain) == "head" else None,
            region=region,
            power=self.power,
            data_format="channels_last",
        )

    def _check(self, convs, outputs):
        """Raise a ValueError unless what it puts out is its own pooling and head of activations."""
        (pooling, projection), worst = self.own, 0.0
        for conv, output in zip(convs, outputs, strict=True):
            summed = pool_features(
                conv, pooling, projection=projection, power=self.power, data_format="channels_last"
            )
            worst = max(worst, directions_apart(summed, output))
        if not worst <= self.tolerance:
            head = "" if projection is None else " and the linear head"
            raise ValueError(
                f"network: {pooling} pooling{head} of its activations is {worst:.2g} away from "
                "what it puts out itself, both of length 1, so it is not what was said of it"
            )

    def fingerprint(self):
        """Return a text that differs if the weights do, or, if they are not known, what it does.

        That is its embeddings of three fixed images, rounded, one image at a time.
        """
        digest = hashlib.sha256()
        for part in self._behaviour() if self.weights is None else self.weights():
            array = np.ascontiguousarray(part)
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.view(np.uint8))
        return digest.hexdigest()

    def _behaviour(self):
        """Yield eight numbers, of some thousandths, of the unit embedding of each fixed image."""
        rng = np.random.default_rng(0)
        for cells in (2, 4, 8):
            coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            image = coarse.repeat(64 // cells, 0).repeat(64 // cells, 1)
            _, (embedding,) = self.run(self.preprocess([image]), need="embeddings")
            embedding = embedding.astype(np.float64)
            unit = embedding / (np.linalg.norm(embedding) or 1)
            mixed = unit @ rng.standard_normal((len(unit), 8))
            yield np.nan_to_num(np.round(mixed * 1000)).astype(np.int64)


def directions_apart(one, other):
    """Return how far two vectors are from each other, each over its length: 0 to 2.

    It is infinite if one of them has another length, is all zero, or is not finite.

    Examples
    --------
    >>> directions_apart([3.0, 0.0], [0.0, 4.0]) ** 2
    2.0000000000000004
    """
    one, other = (np.asarray(vector, np.float64).ravel() for vector in (one, other))
    sizes = [np.linalg.norm(vector) for vector in (one, other)]
    if one.shape != other.shape or not all(0 < size < np.inf for size in sizes):
        return np.inf
    return float(np.linalg.norm(one / sizes[0] - other / sizes[1]))


def of_function(run, projection, graph, own="head", parts_at=None, **fields):
    """Return the EmbeddingNetwork of a TensorFlow function, an average pooling and a linear head.

    The function makes activations (N, h, w, C) of a float32 batch (N, H, W, 3), and runs as a
    compiled graph if graph is true; own is "pooled" or "head", what the network itself puts out.
    ``parts_at`` takes a stride and returns two functions, which make the function one after the
    other, the first of them what comes out of the last layer of that stride.
    """
    import tensorflow as tf

    kernel, bias = (tf.constant(values, tf.float32) for values in projection)

    def run_with_head(batch):
        conv = run(batch)
        pooled = tf.reduce_mean(conv, (1, 2))
        return conv, pooled, pooled @ kernel + bias

    place = 1 if own == "pooled" else 2

    def functions_by(compiled):
        forward = compiled(run_with_head)
        return {
            "activations": lambda batch: forward(batch)[0],
            "embed": lambda batch: forward(batch)[place],
            "forward": forward,
        }

    if parts_at is not None:
        fields["contributions"] = _contributions_of(parts_at, fields, graph)
    return EmbeddingNetwork(
        **fields,
        pooling="average",
        projection=projection,
        engine=TENSORFLOW,
        functions_by=functions_by,
        **functions_by(lambda function: to_numpy(function, (*fields["input_size"], 3), graph)),
    )


def _contributions_of(parts_at, fields, graph):
    from simvis.models.contributions import Contributions, Layer

    shape = *fields["input_size"], 3

    def layer_at(stride):
        front, tail = parts_at(stride)
        return Layer(to_numpy(lambda batch: [front(batch)], shape, graph), tail)

    return Contributions(layer_at, lambda: grey_batch(fields["preprocess"], fields["input_size"]))


def grey_batch(preprocess, size):
    """Return the batch (1, H, W, 3) of a grey image."""
    return preprocess([np.full((*size, 3), 128, np.uint8)])


def stride_of(size, grid):
    """Return how many pixels of an image there are to a cell, a power of two if it is nearly one.

    Examples
    --------
    >>> stride_of((299, 299), (35, 35)), stride_of((96, 96), (8, 8))
    (8, 12)
    """
    pixels = size[0] / grid[0]
    power = 2 ** round(np.log2(pixels))
    return int(power if abs(np.log2(pixels / power)) < 0.25 else round(pixels))


def to_numpy(run, shape, graph):
    """Return a function of batches (N, *shape), float32, that returns numpy arrays, or None."""
    import tensorflow as tf

    if graph:
        batches = tf.TensorSpec((None, *shape), tf.float32)
        run = tf.function(run, input_signature=[batches])

    def run_to_numpy(batch):
        with failures_in_words(f"a batch {batch.shape}"):
            return [None if value is None else value.numpy() for value in run(batch)]

    return run_to_numpy


def count_cores():
    """Return how many CPU cores this process may use."""
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")  # what TensorFlow itself obeys
    if given.isdecimal() and int(given) > 0:
        return min(int(given), os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def failures_in_words(what):
    """Raise a ValueError, in one line, for what TensorFlow fails at."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"network: it failed on {what}: {reason}") from error


def start_tensorflow():
    """Import TensorFlow and let it find its devices, with all that it says about that held back.

    It is meant for programs.  Raises a ValueError, in one line, for whatever it fails at.
    """
    _check_address_space()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with stderr_dropped(), _imported_quickly():
            import tensorflow as tf

            tf.config.list_logical_devices()
    except Exception as error:  # but not if the user interrupts it
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if isinstance(error, MemoryError) or "failed to map" in reason:
            reason = "there is not enough memory for it"
        raise ValueError(f"TensorFlow does not start: {reason}") from error


@contextmanager
def _imported_quickly():
    """Let TensorFlow be imported in the block in half of its time.

    It imports Keras last, without which it does, too, and Keras much of matplotlib; that comes when
    somebody imports Keras.  And what is imported stays, so that nobody need look for garbage in it,
    but in a session, whose own objects come and go.
    """
    if "tensorflow" in sys.modules or KERAS in sys.modules:
        yield
        return
    collects = gc.isenabled()
    gc.disable()
    sys.modules[KERAS] = None
    try:
        yield
        if not (hasattr(sys, "ps1") or "ipykernel" in sys.modules):
            gc.freeze()
    finally:
        sys.modules.pop(KERAS, None)
        if collects:
            gc.enable()


def _check_address_space():
    """Raise a ValueError if a limit (ulimit -v) would end the process inside of TensorFlow."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE:
        words = f"needs {ADDRESS_SPACE:,} bytes of memory, the limit is {limit:,} (ulimit -v)"
        raise ValueError(f"TensorFlow does not start: it {words}")
