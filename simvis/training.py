"""Watch what a network learns to look at: similarity maps of fixed pairs while it trains."""

import io
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from simvis import image_ops, models
from simvis.batch.pairs import file_stem
from simvis.files import one_line
from simvis.maps import Method
from simvis.pair import visualize_pair

SINGULAR = {"epochs": "epoch", "batches": "batch"}
# What ends no training: a network that breaks, a disk that is full, a folder that is gone.
FAILURES = ValueError, OSError, MemoryError, tf.errors.OpError
COLLAPSED = 0.999  # the similarity from which on images may as well be one


class SimilarityMaps(keras.callbacks.Callback):
    """A Keras callback that draws the similarity maps of image pairs before and during training.

    Parameters
    ----------
    pairs : sequence of (image1, image2)
        Paths, PIL images or RGB uint8 (H, W, 3) arrays.
    log_dir : None, str or Path
        Where TensorBoard looks: a picture of each pair, and its similarity as a scalar.
    folder : None, str or Path
        Where the pictures go as STEP_PAIR_NAMES.png.
    epochs : int >= 1
        Draw after every so many epochs; a step is an epoch then, counted as the training counts
        them: from its initial_epoch on, and a second training of the same callback goes on.
    batches : None or int >= 1
        Draw after every so many batches instead; a step is a batch then.
    stride : None or int
        Pixels of the network's input to a cell of the maps, as for `visualize_pair`.
    look : None or dict
        Options of `visualize_pair`: its colormap, normalize, region1, ...
    options
        Of `models.load_network`, for the model that is trained: layer, pooling, preprocess, ...

    Raises
    ------
    ValueError, OSError
        For images that cannot be read and, where training begins, for a model without exact maps,
        or without maps of that stride.
        Once it has begun, a pair whose maps are not defined, of a network that put out NaN for
        one, is a warning, as are a folder that is gone, a disk that is full, and a network that has
        collapsed: to which all pairs of different images are alike.

    Examples
    --------
    >>> import numpy as np
    >>> room = np.zeros((32, 32, 3), np.uint8)
    >>> maps = SimilarityMaps([(room, room)], log_dir="logs", layer="last_conv")

    and then ``model.fit(..., callbacks=[maps])``.
    """

    def __init__(
        self,
        pairs,
        log_dir=None,
        folder=None,
        *,
        epochs=1,
        batches=None,
        stride=None,
        look=None,
        **options,
    ):
        super().__init__()
        if log_dir is None and folder is None:
            raise ValueError("log_dir, folder: give one of them, or both")
        self.unit, self.every = ("epochs", epochs) if batches is None else ("batches", batches)
        if not (isinstance(self.every, int) and self.every >= 1):
            raise ValueError(f"{self.unit}: expected an integer >= 1, got {self.every!r}")
        self.images, self.names = [], []
        for number, pair in enumerate(pairs, 1):
            images = [image_ops.as_image(image) for image in pair]
            paths = [
                image if isinstance(image, (str, Path)) else f"image{position}"
                for position, image in enumerate(pair, 1)
            ]
            self.images.append(images)
            self.names.append(file_stem(number, paths)[3:])
        self.folder = None if folder is None else Path(folder)
        Method(stride=stride)  # raises for what it cannot be
        self.look = ({} if stride is None else {"stride": stride}) | (look or {})
        self.log_dir, self.options = log_dir, options
        self.writer, self.step, self.first, self.drawn = None, 0, None, None
        self.batch = 0

    def on_train_begin(self, logs=None):
        models.load_network(self.model, **self.options)  # raises for what has no exact maps
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        if self.log_dir is not None:
            self.writer = tf.summary.create_file_writer(str(self.log_dir))
        self.first, self.told = None, False

    def on_epoch_begin(self, epoch, logs=None):
        self.batch = 0  # of this epoch
        if self.first is None:  # of this training, which may go on with another one
            begun = epoch if self.unit == "epochs" else epoch * (self.params.get("steps") or 0)
            self.step = max(self.step, begun)
            self.first = self.step
            self._draw()

    def on_train_batch_end(self, batch, logs=None):
        # with steps_per_execution, it is told of the last one of several
        self._count("batches", batch + 1 - self.batch)
        self.batch = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        self._count("epochs")

    def on_train_end(self, logs=None):
        if self.writer is not None:
            try:
                self.writer.close()
            except FAILURES as error:
                warnings.warn(f"SimilarityMaps, {self.log_dir}: {one_line(error)}", stacklevel=2)

    def _count(self, unit, count=1):
        if unit == self.unit:
            self.step += count
            if self.step // self.every > (self.step - count) // self.every:
                self._draw()

    def _draw(self):
        """Write a picture and the similarity of each pair, unless the training before did."""
        if self.drawn == self.step:
            return
        self.drawn, words = self.step, f"{SINGULAR[self.unit]} {self.step}"
        similarities, network = [], None
        for name, images in zip(self.names, self.images, strict=True):
            try:
                # anew at each step: a linear head is folded from weights that training changes
                network = network or models.load_network(self.model, **self.options)
                pair = visualize_pair(*images, network, **self.look)
                if not np.array_equal(*images):
                    similarities.append(pair.similarity)
                picture = pair.picture(legend=True, note=words)
                if self.folder is not None:
                    image_ops.save_image(self.folder / f"{self.step:06d}_{name}.png", picture)
                if self.writer is not None:
                    self._write_summary(name, pair.similarity, picture)
            except FAILURES as error:
                if str(error).startswith("stride: "):  # which the network lacks from the first on
                    raise
                warnings.warn(
                    f"SimilarityMaps, step {self.step}, {name}: {one_line(error)}", stacklevel=2
                )
        # before training all is alike to many networks
        alike = self.step > self.first and similarities and min(similarities) > COLLAPSED
        if alike and not self.told:
            self.told = True
            warnings.warn(
                f"SimilarityMaps, step {self.step}: all pairs are {min(similarities):.4f} similar "
                "or more, so the network may have collapsed to one output for all images; a pair "
                "that should differ would tell",
                stacklevel=2,
            )

    def _write_summary(self, name, similarity, picture):
        # one event, in the form that TensorFlow itself reads and writes, without TensorBoard
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "PNG", compress_level=1)
        height, width, _ = picture.shape
        image = tf.compat.v1.Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=content.getvalue()
        )
        values = (
            tf.compat.v1.Summary.Value(tag=f"similarity/{name}", simple_value=similarity),
            tf.compat.v1.Summary.Value(tag=f"similarity_maps/{name}", image=image),
        )
        summary = tf.compat.v1.Summary(value=values).SerializeToString()
        with self.writer.as_default():
            tf.summary.experimental.write_raw_pb(summary, step=self.step)
        self.writer.flush()
