"""Teach a network which rendered rooms are the same.

python -m evaluation.train rooms --data FOLDER --output FOLDER

EfficientNet-Lite0's last blocks and a linear head are trained so that views of one room lie close
together.  The blocks before stay as they are, so what they make of every view is computed once, in
several looks of it, and kept on disk.  Batch norms are folded into the convolutions: what is trained
are the folded kernels, by statistics that no longer change.  A run that was cut is continued by the
same command, to the same weights.
"""

import argparse
import hashlib
import io
import sys
import time
from pathlib import Path

import numpy as np

import image_ops
from evaluation.augmentation import look
from evaluation.views import load_views

LABELS = {"rooms": "room", "rooms-headboard": "headboard", "rooms-carpet": "carpet"}
LOOKS = {224: 8, 448: 4}  # input size -> looks of each view; every other one is mirrored
LARGE_EVERY = 5  # every so many steps see 448 pixels, so that maps of 14 x 14 cells are native
ROOMS, VIEWS, CHAINED = 12, 3, 4  # in a batch; rooms of one chain in it at most
TEMPERATURE, RATE, WARM_UP = 0.1, 3e-4, 0.1  # of the loss; of Adam, and the part of it that rises
STEPS, SAVE_EVERY = 400, 50


def contrastive_loss(embeddings, labels, temperature=TEMPERATURE):
    """Return NT-Xent with several positives: supervised contrastive loss (Khosla et al. 2020).

        loss = mean_i mean_{p: label p = label i, p != i}
               -log( exp(cos(i, p) / t) / sum_{a != i} exp(cos(i, a) / t) )

    Keras 3 has no such loss, and tensorflow-similarity, which has, does not run on Keras 3.

    Parameters
    ----------
    embeddings : float32 (N, D) tensor
    labels : int (N,) tensor
        Each label must come twice or more.
    temperature : real number > 0

    Returns
    -------
    loss : float32 scalar tensor
    """
    import tensorflow as tf

    embeddings = tf.math.l2_normalize(embeddings, axis=1)
    itself = tf.eye(len(embeddings))
    cosines = tf.matmul(embeddings, embeddings, transpose_b=True) / temperature - 1e9 * itself
    log_shares = cosines - tf.reduce_logsumexp(cosines, axis=1, keepdims=True)  # (N, N)
    positive = tf.cast(labels[:, None] == labels, tf.float32) - itself
    mean_log_share = tf.reduce_sum(positive * log_shares, axis=1) / tf.reduce_sum(positive, axis=1)
    return -tf.reduce_mean(mean_log_share)


def group_views(views, label):
    """Return the views to train on as lists of their numbers in views: one list for each label.

    Views that show a change of another view take no part, nor do labels with less than three views.
    """
    groups = {}
    for number, view in enumerate(views):
        if not view.change:
            groups.setdefault(view.labels[label], []).append(number)
    return [group for group in groups.values() if len(group) >= VIEWS]


def draw_batch(groups, chains, rng, chained=CHAINED):
    """Return the views of a batch: of up to 12 groups, three each.

    Parameters
    ----------
    groups : list of lists of int
        From `group_views`.
    chains : list of str
        Of each group; groups of one chain share an object.  ``""`` is no chain.
    rng : numpy.random.Generator
    chained : int
        How many groups of one chain there are, if it has so many: only with several of them must
        the network tell rooms apart by what they do not share.

    Returns
    -------
    numbers : int (n, 3) array

    Examples
    --------
    >>> groups = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    >>> draw_batch(groups, ["carpet", "carpet", ""], np.random.default_rng(0), chained=1).shape
    (2, 3)
    """
    order = rng.permutation(len(groups))
    by_chain = {}
    for group in order:
        by_chain.setdefault(chains[group] or group, []).append(group)
    drawn = [group for members in by_chain.values() for group in members[:chained]][:ROOMS]
    return np.array([rng.choice(groups[group], VIEWS, replace=False) for group in drawn])


class Features:
    """What the frozen blocks make of looks of each view, computed once and kept in a folder.

    Parameters
    ----------
    views : list of View
    folder : Path
        A file for each view, size and set of looks goes to it, named by what it was made from.
    run : function of a batch (N, h, w, 3), the frozen blocks
    """

    def __init__(self, views, folder, run):
        self.views, self.folder, self.run = views, folder, run
        self.kept = {}

    def of_views(self, numbers, size, looks):
        """Return float32 (N, h, w, C) features of one look of each of these views."""
        return np.stack(
            [
                self._of_view(number, size)[chosen].astype(np.float32)
                for number, chosen in zip(numbers, looks, strict=True)
            ]
        )

    def _of_view(self, number, size):
        if (number, size) not in self.kept:
            view = self.views[number]
            made_from = hashlib.sha256(view.image_path.read_bytes()).hexdigest()[:16]
            path = self.folder / f"{made_from}_{size}x{LOOKS[size]}.npy"
            if not path.exists():
                image, rng = view.image(), np.random.default_rng(int(made_from, 16))
                looks = [
                    look(image, (size, size), rng, flip=bool(i % 2)) for i in range(LOOKS[size])
                ]
                features = self.run(_pixels(looks)).numpy().astype(np.float16)
                image_ops.write_whole(path, lambda file: np.save(file, features))
            self.kept[number, size] = np.load(path, allow_pickle=False)
        return self.kept[number, size]
