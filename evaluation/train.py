"""Teach a network which rendered rooms are the same.

python -m evaluation.train rooms --data ALL PARTS --output FOLDER
python -m evaluation.train rooms-headboard --data PARTS --output FOLDER
python -m evaluation.train rooms-carpet --data PARTS --output FOLDER

where ``python -m evaluation.rooms`` rendered the folder ALL with ``--teach all`` and PARTS with
``--teach parts``.

EfficientNet-Lite0's last blocks and a linear head are trained until views of one room lie close
together and views of others apart.  What the blocks before make of every view is computed once, in
several looks.  Batch norms are folded into the convolutions, so their statistics are frozen.  A run
that was cut goes on by the same command, and ends in the same weights.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from evaluation.focus import retrieval
from evaluation.looks import LookFeatures
from evaluation.subjects import load_subject
from evaluation.views import load_views
from simvis.image_ops import write_whole
from simvis.models import efficientnet_lite0, rooms
from simvis.models.checkpoints import read_npz

LABELS = {  # what is the same in the views that a network is taught to bring together
    "rooms": ("room", "headboard"),
    "rooms-headboard": ("headboard",),
    "rooms-carpet": ("carpet",),
}
ROOMS = {224: 12, 448: 4}  # input size -> rooms of a batch, which so cost the same
VIEWS, CHAINED = 3, 3  # of each room; rooms of one chain in a batch at most
RATE, WARM_UP = 3e-4, 0.1  # Adam's learning rate; the part of the steps in which it rises
LARGE_EVERY = 5  # every fifth step sees 448 pixels: maps of 14 x 14 cells become native
STEPS, SAVE_EVERY = 300, 50


def contrastive_loss(embeddings, labels, temperature=0.1):
    """Return NT-Xent for several positives, the supervised contrastive loss (Khosla et al. 2020).

        mean_i mean_{p != i, label p = label i}
            -log( exp(cos(i, p) / temperature) / sum_{a != i} exp(cos(i, a) / temperature) )

    Keras 3 has none like it, and tensorflow-similarity, which has, does not run on Keras 3.
    embeddings is a float32 (N, D) tensor, labels an int (N,) array with each value twice or more.

    >>> embeddings = tf.constant([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> bool(contrastive_loss(embeddings, tf.constant([5, 5, 7, 7])) < 1e-3)
    True
    """
    embeddings = tf.math.l2_normalize(embeddings, axis=1)
    itself = tf.eye(len(labels))
    cosines = embeddings @ tf.transpose(embeddings) / temperature - 1e9 * itself
    log_shares = cosines - tf.reduce_logsumexp(cosines, axis=1, keepdims=True)  # (N, N)
    positive = tf.cast(labels[:, None] == labels, tf.float32) - itself
    shares = tf.reduce_sum(positive * log_shares, axis=1) / tf.reduce_sum(positive, axis=1)
    return -tf.reduce_mean(shares)


def group_views(views, labels):
    """Return lists of the numbers of views that share a label, three or more in each.

    Views are grouped by the first of the labels, keys of View.labels, then those that found no
    group by the next one: views that share all of a room, and then views of other rooms that share
    headboard and pictures alone.  Views in which one thing was changed take no part.
    """
    left, groups = [number for number, view in enumerate(views) if not view.change], []
    for label in labels:
        found = {}
        for number in left:
            found.setdefault(views[number].labels[label], []).append(number)
        groups += [group for group in found.values() if len(group) >= VIEWS]
        left = [number for group in found.values() if len(group) < VIEWS for number in group]
    return groups


def draw_batch(groups, chains, rng, count=12, chained=CHAINED):
    """Return an int (rooms, 3) array of numbers of views, three each of several groups.

    chains has a str for each of the groups, lists of numbers: groups of one chain share an object,
    those of "" share none.  At most `count` groups are drawn, and at most `chained` of one chain:
    only if more than one of them come together is a network asked to tell rooms apart by what they
    do not share.

    >>> groups = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    >>> draw_batch(groups, ["carpet", "carpet", ""], np.random.default_rng(0), chained=1).shape
    (2, 3)
    """
    by_chain = {}
    for group in rng.permutation(len(groups)):
        by_chain.setdefault(chains[group] or group, []).append(group)
    drawn = [group for together in by_chain.values() for group in together[:chained]]
    return np.array([rng.choice(groups[group], VIEWS, replace=False) for group in drawn[:count]])


class Learner:
    """The last blocks, the head and their optimiser.

    convolutions, a dict of str to (kernel, bias), are the last blocks as they are to begin with;
    steps is the length of the whole training, seed is of the head that it begins with.
    """

    def __init__(self, convolutions, steps, seed):
        rng = np.random.default_rng(seed)
        shape = efficientnet_lite0.HEAD, rooms.EMBEDDING
        self.head = tf.Variable(rng.normal(0, shape[0] ** -0.5, shape), dtype=tf.float32)
        self.convolutions = {
            name: tuple(tf.Variable(part) for part in parts) for name, parts in convolutions.items()
        }
        self.activations = efficientnet_lite0.build_folded(self.convolutions)
        self.variables = [v for parts in self.convolutions.values() for v in parts] + [self.head]
        warm_up = round(WARM_UP * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm_up), warmup_target=RATE, warmup_steps=warm_up
        )
        self.optimizer = keras.optimizers.Adam(rate)
        self.optimizer.build(self.variables)
        changed = [*self.variables, *self.optimizer.variables]
        self.state = {f"{number:03d}": variable for number, variable in enumerate(changed)}

    @tf.function(reduce_retracing=True)
    def step(self, features, labels):
        """Improve on a batch of features (N, h, w, C); return its loss."""
        with tf.GradientTape() as tape:
            pooled = tf.reduce_mean(self.activations(features), (1, 2))
            loss = contrastive_loss(pooled @ self.head, labels)
        gradients = tape.gradient(loss, self.variables)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))
        return loss

    def weights(self):
        """Return what `models.rooms` reads: float16 arrays by their names."""
        arrays = {"projection": self.head}
        for name, (kernel, bias) in self.convolutions.items():
            arrays |= {f"{name}.kernel": kernel, f"{name}.bias": bias}
        return {name: variable.numpy().astype(np.float16) for name, variable in arrays.items()}

    def arrays(self, made_from):
        """Return the whole state, and what it was made from, bytes: arrays by their names."""
        arrays = {name: variable.numpy() for name, variable in self.state.items()}
        return arrays | {"made_from": np.frombuffer(made_from, np.uint8)}

    def restore(self, path, made_from):
        """Read `arrays` back from a file; a ValueError if another command wrote it."""
        arrays = self.arrays(made_from).items()
        found = read_npz(path, {name: (array.shape, array.dtype) for name, array in arrays})
        if bytes(found["made_from"]) != made_from:
            raise ValueError(f"{path}: left by a training with other settings or views; delete it")
        for name, variable in self.state.items():
            variable.assign(found[name])


def train(network, data, output, *, seed=0, steps=STEPS, chained=CHAINED, report=print):
    """Train a network and return the path of its weights.

    network is a key of LABELS, data a sequence of folders of the views to train on, see
    `evaluation.views`, output a folder for all that is written.  seed is of the head and the
    batches; for chained see `draw_batch`; report, a function of a str, gets a line every 50 steps.
    Raises a ValueError or an OSError for too few views, or a state in output that belongs to
    another training.
    """
    views, output = [view for folder in data for view in load_views(folder)], Path(output)
    groups = group_views(views, LABELS[network])
    chains = [views[group[0]].chain for group in groups]
    if len(draw_batch(groups, chains, np.random.default_rng(), chained=chained)) < 2:
        raise ValueError(f"data: expected {VIEWS} views or more of each of two rooms or more")
    folder = output / f"features_before_{rooms.FIRST_TRAINED.strip('_')}"
    folder.mkdir(parents=True, exist_ok=True)
    convolutions = efficientnet_lite0.fold_batch_norms(efficientnet_lite0.read_weights())
    parts, first = list(convolutions.items()), list(convolutions).index(rooms.FIRST_TRAINED)
    before, after = (dict(part) for part in (parts[:first], parts[first:]))
    frozen = tf.function(efficientnet_lite0.build_folded(before), reduce_retracing=True)
    features, learner = LookFeatures(views, folder, frozen), Learner(after, steps, seed)
    name = f"{network}_seed{seed}" + ("" if chained > 1 else "_no_chains")
    settings = network, seed, steps, chained, [features.made_from(view) for view in views]
    made_from = hashlib.sha256(repr(settings).encode()).digest()
    state = output / f"{name}_state.npz"
    if state.exists():
        learner.restore(state, made_from)

    losses, started = [], time.monotonic()
    for step in range(int(learner.optimizer.iterations), steps):
        rng = np.random.default_rng([seed, step])  # so a cut run draws what a whole one does
        size = 448 if step % LARGE_EVERY == LARGE_EVERY - 1 else 224
        batch = draw_batch(groups, chains, rng, ROOMS[size], chained)
        labels = np.repeat(np.arange(len(batch)), VIEWS)
        losses.append(float(learner.step(features.draw(batch, size, rng), labels)))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            _save(state, learner.arrays(made_from))
            loss, seconds = np.mean(losses), time.monotonic() - started
            report(f"{name}: {step + 1} of {steps} steps, loss {loss:.3f}, {seconds:.0f} s")
            losses = []
    path = output / f"{name}.npz"
    _save(path, learner.weights())
    return path


def _save(path, arrays):
    write_whole(path, lambda file: np.savez(file, **arrays))


def recall(weights, network, data):
    """Return how often a view's nearest other view shares its label, in 0..1.

    weights is a Path from `train`, network a key of LABELS, data a folder of views that were not
    trained on.
    """
    views = [view for view in load_views(data) if not view.change]
    subject = load_subject(network, weights=weights)
    return retrieval(subject, views, LABELS[network][0])["recall@1", network].value


def main(argv=None):
    """Run the program; return its exit status."""
    summary = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m evaluation.train", description=summary)
    add = parser.add_argument
    add("network", choices=LABELS)
    add("--data", required=True, nargs="+", metavar="FOLDER", help="views to train on")
    add("--output", required=True, metavar="FOLDER", help="for the weights and what they need")
    add("--choose", metavar="FOLDER", help="other rooms, on which the recall is reported")
    add("--seed", type=int, default=0)
    add("--steps", type=int, default=STEPS)
    add("--no-chains", action="store_true", help="rooms that share an object never meet")
    arguments = parser.parse_args(argv)
    try:
        if arguments.seed < 0 or arguments.steps < 1:
            raise ValueError("--seed, --steps: expected numbers from 0 and from 1")
        what, chained = (arguments.network, arguments.data), 1 if arguments.no_chains else CHAINED
        options = {"seed": arguments.seed, "steps": arguments.steps, "chained": chained}
        path = train(*what, arguments.output, **options)
        print(path)
        if arguments.choose:
            found = recall(path, arguments.network, arguments.choose)
            print(f"{path.stem}: recall@1 {found:.3f} on {arguments.choose}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    tf.config.experimental.enable_op_determinism()
    sys.exit(main())
