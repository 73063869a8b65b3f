"""What images usually have in common: the mean of the embeddings of a folder or a gallery."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from simvis import image_ops
from simvis.files import left_out_words, list_images, no_image


def with_usual(method, network):
    """Return a `Method` with the mean embedding of the folder that its ``special`` names, (D,).

    A Method that names none is returned as it is.
    """
    if not isinstance(method.special, (str, Path)):
        return method
    return replace(method, special=usual_embedding(method.special, network, method))


def usual_embedding(folder, network, method):
    """Return the mean of the unit embeddings of a folder's images, float64 (D,).

    Images that cannot be read, or in which the network sees nothing, are left out.  Raises a
    ValueError or an OSError if there is no folder, or no image in it.

    Examples
    --------
    >>> from simvis import maps, models, pair
    >>> network = models.load_network("rooms")
    >>> usual_embedding(pair.EXAMPLES, network, maps.Method()).shape
    (128,)
    """
    image_ops.check_no_stream(folder)
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"special: {folder}: no such folder")
    files, left_out, unread = list_images(folder)

    method, units = method.of(network), []
    for path in tqdm(sorted(files), unit=" images", disable=None):
        try:
            batch = network.preprocess([image_ops.load_image(Path(folder) / path)])
        except (ValueError, OSError, MemoryError):
            continue
        if method.pooling == network.pooling:
            embedding = network.run(batch, method.explain, "embeddings")[1][0]
        else:
            embedding = replace(network, pooling=method.pooling, power=method.power).pooled(
                network.activations(batch)[0], explain=method.explain
            )
        embedding = np.asarray(embedding, np.float64)
        if np.isfinite(embedding).all() and embedding.any():
            units.append(embedding / np.linalg.norm(embedding))
    if not units:
        raise ValueError(f"special: {no_image(folder, left_out_words(left_out, unread))}")
    return np.mean(units, 0)
