"""A gallery: a folder of images, indexed once, and searched with an image or a part of one."""

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from simvis import image_ops, models
from simvis.batch.pipeline import BATCH_SIZE
from simvis.files import LOCK, left_out_words, locked, no_image
from simvis.gallery.audit import audit_images
from simvis.gallery.findings import Labelled
from simvis.gallery.folder import ImageFolder
from simvis.gallery.indexing import (
    commit,
    embed_rows,
    note_engine,
    plan_changes,
    put_moved,
    quickest,
)
from simvis.gallery.labels import find_labels, label_words
from simvis.gallery.results import SearchResult, look_at, run_query
from simvis.gallery.table import NAME, ImageTable, import_lance
from simvis.gallery.unusual import SAMPLE, are_quantiles, pair_quantiles
from simvis.maps import Embedding, check_place
from simvis.models import python_files
from simvis.models.network import ENGINES

DAMAGED = "the gallery is damaged, or of another version of this program"
FORMAT = 1  # of what a gallery says of itself
MOST = 1000  # hits of a search
SAME = 1e-4  # the length, at the least, of the difference of embeddings of two images
# Options of load_network that name files, which are not opened because a gallery names them.
FILE_OPTIONS = ("checkpoint", "mean_image", "weights", "import_file", "allow_unsafe")
LONGEST = 8192  # letters of a folder
NUMBER, SIZE, NOTHING = (int, float), "two whole numbers", type(None)
# What kinds of values a gallery's metadata hold: all that it says, of its network, and the options
# of load_network and of Gallery that it may name.
IDENTITY = {"format": int, "folder": str, "network": dict, "load": list}
NETWORK = {"network": str, "pooling": str, "power": (*NUMBER, NOTHING), "explain": str}
NETWORK |= {"input_size": SIZE}
LOAD = dict.fromkeys(("pooling", "explain", "layer", "preprocess", "batch_norm"), str)
LOAD |= {"power": NUMBER, "prefix": int, "input_size": SIZE, "grid": SIZE}


@dataclass(frozen=True)
class Indexed:
    """What indexing a folder changed."""

    images: int  # how many the gallery holds now
    new: int
    changed: int  # and embedded anew, but for those that cannot be read
    gone: int  # and removed, but for those that were found at another place
    failed: dict  # of path to the reason why it has no embedding
    left_out: str = field(default="", compare=False)  # what of the folder is no image, in words
    moved: int = 0  # known by their contents at another place, and not embedded anew
    labels: str = field(default="", compare=False)  # what was said of labels came to, in words


class Gallery:
    """A folder of images with their embeddings, which is searched with images and parts of them.

    Parameters
    ----------
    path : str or Path
        A folder that `index` makes, or a URI that Lance knows, as ``s3://bucket/gallery``.
    network : None, str, keras.Model or EmbeddingNetwork
        None for the network that the gallery was indexed with, or imagenet for a new one; a name
        or a model for `models.load_network`.
    images : None, str or Path
        Where the images are now, if they are not where they were indexed, or are at a URI.
    options : of `models.load_network`, and ``power=`` and ``explain=`` of `visualize_pair`

    Examples
    --------
    >>> import tempfile
    >>> from simvis.pair import EXAMPLES
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gallery = Gallery(folder, "rooms")
    ...     indexed = gallery.index(EXAMPLES)
    ...     found = gallery.find(EXAMPLES / "room_a_view1.jpg", region=(196, 90, 334, 170), top=2)
    >>> indexed.images, [hit.path for hit in found.hits]
    (6, ['room_a_view1.jpg', 'room_a_view2.jpg'])
    """

    def __init__(self, path, network=None, *, images=None, **options):
        self.path, self._images = str(path), images
        self._given, self._options, self._known = network, options, None
        self._network = network if isinstance(network, models.EmbeddingNetwork) else None

    def index(
        self,
        folder,
        *,
        batch_size=None,
        engine=None,
        workers=None,
        force=False,
        labels=None,
        labels_from=None,
        images_from=None,
        exclude=(),
    ):
        """Take the new and the changed images of a folder in, and drop those that are gone.

        What is done is committed every few seconds: killed at any time, it goes on where it was.
        Returns what changed, `Indexed`.

        Parameters
        ----------
        folder : str or Path, or a URI, see `folder.ImageFolder`
        batch_size : None for one, or int, how many images go through the network at once
            LiteRT, which runs networks faster where it can, takes one; see `models.litert`.
        engine : None for this process, or "ray" for a Ray cluster, see `on_ray`
        workers : None or int, of Ray
        force : bool, also if more than half of the gallery's images would change or go
        labels, labels_from : what the images show, see `labels.find_labels`; without, they keep
            the labels that they have
        images_from, exclude : the only ones of its images, and those that are left out, see
            `folder.ImageFolder`

        Raises a ValueError or an OSError if the gallery is of another network or folder, or is
        being written to by another run, if there is no image, or if more than half of what the
        gallery holds would change or go, before it does.  A folder has moved if half of its images
        have the same contents at another place, where they are no longer.
        """
        at_once = batch_size or BATCH_SIZE
        images = ImageFolder(folder, images_from, exclude)
        listed, left_out, unread = images.listing()
        given, words_of_labels = {}, ""
        if labels is not None or labels_from is not None:
            given, strange = find_labels(listed, labels, labels_from, images.here)
            words_of_labels = label_words(given, strange)
            for mask in {mask for _, mask in given.values() if mask in listed}:
                left_out["mask{}"] += 1
                del listed[mask]
        words = left_out_words(left_out, unread)
        if not listed:
            raise ValueError(no_image(images.place, words))
        network = self._load(graph=True)
        with self._owned():
            table = self._open_or_create(images, network)
            table.upgrade()
            plan, known = plan_changes(table, images, listed, unread), table.labels()
            if 2 * (plan.changes + plan.losses) > plan.held and not force:
                losses = f"{plan.changes:,} would change and {plan.losses:,} would go"
                raise ValueError(
                    f"{self.path}: holds the images of {table.identity['folder']}: of its "
                    f"{plan.held:,} images {losses}; name another gallery, or say --force "
                    "(force=True) if that is right"
                )
            if table.identity["folder"] != images.place:
                table.set_identity({**table.identity, "folder": images.place})
            known |= put_moved(table, plan.moved)
            table.drop(plan.gone)
            total, done = len(listed), len(listed) - len(plan.left)
            progress = partial(tqdm, total=total, initial=done, unit=" images", disable=None)
            work = table, images, listed, plan.left
            if engine == "ray":
                from simvis.gallery.on_ray import index_on_ray

                with progress() as bar:
                    index_on_ray(*work, self._loader(), workers, bar.update, at_once)
            elif plan.left:
                quick = quickest(network, len(plan.left), at_once)
                note_engine(table, quick.engine)
                commit(table, progress(embed_rows(*work[1:], quick, at_once)))
            table.set_labels(known | given)
            if plan.gone or plan.left:
                table.maintain()
            if plan.gone or plan.left or "pairs" not in table.identity:
                pairs = pair_quantiles(table.sample(SAMPLE))
                table.set_identity({**table.identity, "pairs": pairs})
        failed, moved = table.failed(), {row.path for row in plan.moved.values()}
        counts = len(plan.new), len(plan.changed - failed.keys())
        gone = len(plan.gone - moved)
        return Indexed(len(table), *counts, gone, failed, words, len(plan.moved), words_of_labels)

    def find(
        self,
        image,
        region=None,
        point=None,
        top=12,
        *,
        ignore=None,
        like=(),
        unlike=(),
        exact=False,
        rerank=0,
        stride=None,
        reference=None,
        look=None,
        label=None,
        not_label=None,
    ):
        """Search for an image, or a part of it, and see why each hit is one: a `SearchResult`.

        Parameters
        ----------
        image : path, PIL image or RGB uint8 (H, W, 3) array
        region : None, a box (x0, y0, x1, y1) in pixels, or a mask of the image's size
        point : None or (x, y) in pixels: the part of the image that one cell shows there
        top : int, how many hits
        ignore : None, a box or a mask, likewise, that is left out of the region or the image
        like, unlike : sequences of paths in the gallery, hits that were right and wrong
            With any of them, the question is the mean embedding of the right ones, of unit length
            each, minus that of the wrong ones; the query stands in if none is right.
        exact : bool, look at all images, however many there are
        rerank : int
            So many images, the first by their whole, are ordered by their best part instead.
        stride, reference : of the hits' maps and boxes, as for `visualize_pair`
        look : None or Look, of the hits' overlays
        label, not_label : None, str or sequence of str
            Only images with one of these labels; only those with none of these.

        Raises a ValueError or an OSError that names the argument at fault, or says what is wrong
        with the gallery.
        """
        pixels = image_ops.as_image(image)
        check_search(pixels.shape[:2], region, point, top, rerank, ignore)
        now, by_part = self.open(), bool(rerank)
        given, fine = (region, point, ignore, by_part), {"stride": stride, "reference": reference}
        query = run_query(now.network, pixels, *given, **fine)
        query = now.marked(query, like, unlike)
        found = now.nearest(query, max(top, rerank), exact, label, not_label)
        named, given = isinstance(image, (str, os.PathLike)), (found, now.images, query)
        return SearchResult(
            hits=look_at(*given, now.network, look, by_part=by_part, pairs=now.pairs)[:top],
            query=pixels,
            name=str(image) if named else "the query",
            network=now.network,
            images=len(now.table),
            method=query.method,
            like=tuple(like),
            unlike=tuple(unlike),
        )

    def open(self, graph=False):
        """Return the gallery as it is now, `Opened`, with its network, which fits it.

        With ``graph``, the network is compiled, which pays for many searches.

        Raises a ValueError or an OSError that says what is wrong with it.
        """
        table, identity = self._open()
        images, network = self._folder(identity), self._load(graph)
        _check_same_network(self.path, identity["network"], self._identity(network))
        return Opened(self.path, table, images, network, identity.get("pairs", []))

    def audit(self, *, labels=None, labels_from=None, top=12, maps=200, stride=None):
        """Ask with each image that has a label for all of the others; return an `Audit`.

        Parameters
        ----------
        labels, labels_from : as of `index`, instead of the labels that the gallery holds
        top : int, findings of each kind, at the most, which are shown with their maps
        maps : int, images of whose maps it is measured where they lie, at the most
        stride : None or int, of the findings' maps, see `visualize_pair`

        Raises a ValueError or an OSError that names the argument at fault, or says what is wrong
        with the gallery.
        """
        for name, count in (("top", top), ("maps", maps)):
            if not (isinstance(count, int) and 0 <= count <= MOST):
                raise ValueError(f"{name}: expected 0 to {MOST}, got {count!r}")
        _, table, images, network, _ = self.open(graph=True)
        paths, contents, embeddings = table.embedded()
        known = table.labels()
        if labels is not None or labels_from is not None:
            known, _ = find_labels(paths, labels, labels_from, images.here)
        given = [known.get(path, (None, None)) for path in paths]
        chosen = np.array([label is not None for label, _ in given], bool)
        if not chosen.any():
            raise ValueError("labels: no image has one, index with labels=FILE.csv, or name them")
        if not chosen.all():
            embeddings = embeddings[chosen]
        names, masks = (np.array(each, object)[chosen] for each in zip(*given, strict=True))
        data = Labelled(paths[chosen], names, contents[chosen], masks, embeddings)
        unlabelled = len(paths) - len(names)
        how = {"top": top, "maps": maps, "stride": stride, "unlabelled": unlabelled}
        return audit_images(data, images, network, **how)

    def mean_embedding(self):
        """Return the mean of all images' unit embeddings, float64 (D,).

        It is what `visualize_pair` takes as ``special=``, to show what is more than usual.
        """
        table, identity = self._open()
        _check_same_network(self.path, identity["network"], identity_of(self._load()))
        return table.embedded()[2].mean(0, dtype=np.float64)

    def info(self):
        """Return what the gallery says of itself, a dict of plain values."""
        table, identity = self._open()
        labels = [label for label, _ in table.labels().values() if label is not None]
        return {
            "folder": identity["folder"],
            **identity["network"],
            "engines": identity.get("engines", []),
            "dimension": table.dimension,
            "images": len(table),
            "labelled": len(labels),
            "labels": len(set(labels)),
            "failed": table.failed(),
            **table.storage(),
        }

    def remove(self, paths):
        """Remove images, or all in a folder, by their paths in the folder; return how many.

        They come back when the folder is indexed again, if they are still there.
        """
        table = ImageTable(self.path)
        with self._owned():
            known, gone = table.files(), set()
            for path in paths:
                inside = str(path).rstrip("/")
                found = {each for each in known if each == inside or each.startswith(f"{inside}/")}
                if not found:
                    raise ValueError(f"{path}: the gallery holds no such image, and none in it")
                gone |= found
            table.drop(gone)
        return len(gone)

    def compact(self):
        """Merge small files, bring the index up to date, and delete versions over an hour old."""
        table = ImageTable(self.path)
        with self._owned():
            table.maintain()

    @contextmanager
    def _owned(self):
        """Own the gallery's folder, which is made if need be, until the end of the block."""
        import_lance()  # raises before anything is made
        if "://" in self.path:  # Lance sees to it that no commit is lost
            yield
            return
        folder = Path(self.path)
        if folder.is_dir() and not {path.name for path in folder.iterdir()} <= {LOCK, NAME}:
            raise ValueError(f"{folder}: holds other files, name another gallery")
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            yield

    def _open(self):
        """Return the table, and what it says of itself, which has the form that it should have."""
        table = ImageTable(self.path)
        identity = table.identity
        _check_kinds(self.path, identity, IDENTITY)
        _check_kinds(self.path, identity["network"], NETWORK)
        if identity["format"] != FORMAT or len(identity["folder"]) > LONGEST:
            raise ValueError(f"{self.path}: {DAMAGED}")
        if not are_quantiles(identity.get("pairs", [])):
            raise ValueError(f"{self.path}: {DAMAGED}: its pairs")
        engines = identity.get("engines", [])
        known = isinstance(engines, list) and all(each in ENGINES for each in engines)
        if not known or len(set(engines)) < len(engines):
            raise ValueError(f"{self.path}: {DAMAGED}: its engines")
        return table, identity

    def _open_or_create(self, images, network):
        """Return the table for a folder and a network."""
        wanted = identity_of(network)
        if not ImageTable.exists(self.path):
            black = network.preprocess([np.zeros((*network.input_size, 3), np.uint8)])
            dimension = network.run(black, need="embeddings")[1].shape[1]
            identity = {"format": FORMAT, "folder": images.place, "network": wanted}
            identity |= {"load": list(self._spec()), "engines": []}
            return ImageTable.create(self.path, identity, dimension)
        table, identity = self._open()
        _check_same_network(self.path, identity["network"], wanted)
        before = identity["folder"]
        if before != images.place and table.files() and ("://" in before or os.path.isdir(before)):
            raise ValueError(f"{self.path}: holds the images of {before}, name another gallery")
        return table

    def _folder(self, identity):
        """Return the folder of images; one at a URI must have been named by the user."""
        place = identity["folder"]
        if self._images is None and "://" in place:
            words = f"they are at {place}, which is not asked on a gallery's word, name it"
            raise ValueError(f"images: {words}")
        try:
            return ImageFolder(self._images or place)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"images: {error}, name where they are now") from None

    # --- the network -----------------------------------------------------------------------------

    def _load(self, graph=False):
        """Return the network that was asked for, or that of the gallery."""
        if self._network is None:
            load = self._loader() if _is_name(self._given) else self._of_model
            self._network = load(graph=graph)
        if not self._network.batch_independent:
            words = 'has no embedding of its own, say batch_norm="moving"'
            raise ValueError(f"network: with batch statistics an image {words}")
        return self._network

    def _identity(self, network):
        if not _is_name(self._given):  # whose weights may change from one search to the next
            return identity_of(network)
        if self._known is None:
            self._known = identity_of(network)
        return self._known

    def _of_model(self, graph):
        return load_explained(self._given, **self._options, graph=graph)

    def _loader(self):
        """Return a function that loads the network, here or in another process."""
        name, options = self._spec()
        if name is None:
            raise ValueError("network: Ray's workers load it themselves, give its name")
        return partial(load_explained, name, **options)

    def _spec(self):
        """Return the network's name and options, plain values; no name if it was given itself."""
        name, options = self._given, self._options
        if not _is_name(name):
            return None, {}
        if name is None and ImageTable.exists(self.path):
            name, known = _named_by(self.path, self._open()[1])
            options = known | options
        name = "imagenet" if name is None else name
        given = {option: value for option, value in options.items() if value}
        for option, value in given.items():
            if option in FILE_OPTIONS and isinstance(value, (str, os.PathLike)):
                given[option] = os.path.abspath(value) if os.path.exists(value) else value
            elif isinstance(value, tuple):
                given[option] = list(value)
        if models.is_python(name):
            name = python_files.absolute(name)
        elif not _is_known(str(name)) and os.path.exists(name):
            name = os.path.abspath(name)
        return str(name), given


class Opened(NamedTuple):
    """A gallery as it was at one time: all that a search needs of it."""

    path: str
    table: ImageTable
    images: ImageFolder
    network: models.EmbeddingNetwork
    pairs: list  # `unusual.pair_quantiles`

    def nearest(self, query, count, exact=False, label=(), not_label=()):
        """Return the images that are most similar to a `results.Query`, as for `look_at`.

        They have one of the labels, and none of the others, None, str or sequences of str.
        """
        asked = ("label", label), ("not_label", not_label)
        chosen = [_labels_of(self.table, *each) for each in asked]
        if len(query.vector) != self.table.dimension:
            raise ValueError(f"{self.path}: the gallery is damaged: its embeddings do not fit")
        nearest = self.table.nearest(query.vector, count, exact, *chosen)
        rows = self.table.rows(path for path, _ in nearest)
        return [(rows[path], similarity) for path, similarity in nearest]

    def marked(self, query, like=(), unlike=()):
        """Return a query for more like these images and not like those, itself for none.

        Its vector is the mean of the former's embeddings, or the query's own if there are none,
        minus the mean of the latter's, all of unit length.
        """
        like, unlike = list(like), list(unlike)
        if not (like or unlike):
            return query
        rows = self.table.rows({*like, *unlike})
        for name, paths in (("like", like), ("unlike", unlike)):
            for path in paths:
                if path not in rows or rows[path].embedding is None:
                    raise ValueError(f"{name}: the gallery holds no embedding of {path}")
        own = np.asarray(query.vector, np.float64)
        right = [rows[path].embedding for path in like] or [own / np.linalg.norm(own)]
        vector = np.mean(right, axis=0, dtype=np.float64)
        if unlike:
            vector -= np.mean([rows[path].embedding for path in unlike], axis=0, dtype=np.float64)
        if not np.linalg.norm(vector) > SAME:
            raise ValueError("like, unlike: they are the same, nothing tells one from the other")
        return query._replace(vector=vector, method=replace(query.method, target=vector))


def load_explained(name, power=None, explain=None, **options):
    """Return `models.load_network` of a name, with what of it is explained."""
    Embedding(power=power, explain=explain)  # raises for what they cannot be
    if not models.is_python(name):
        models.start_tensorflow()
    network = models.load_network(name, **options)
    if explain == "head" and network.projection is None:
        raise ValueError(f"explain: the {network.name} network has no linear head, use pooled")
    return replace(network, power=power or network.power, explain=explain or network.explain)


def identity_of(network):
    """Return what an image's embedding depends on besides the image, a dict of plain values."""
    return {
        "network": network.name,
        "pooling": network.pooling,
        "power": network.power if network.pooling == "gem" else None,
        "explain": network.explain,
        "input_size": list(network.input_size),
        "weights": network.fingerprint(),
    }


def check_search(size, region=None, point=None, top=12, rerank=0, ignore=None):
    """Raise a ValueError unless an image of this (height, width) can be searched with so."""
    if region is not None and point is not None:
        raise ValueError("region, point: give one of them")
    check_place("region", "", region, size)
    check_place("ignore", "", ignore, size)
    check_place("point", "", point, size)
    for name, count, least in (("top", top, 1), ("rerank", rerank, 0)):
        if not (isinstance(count, int) and least <= count <= MOST):
            raise ValueError(f"{name}: expected {least} to {MOST} images, got {count!r}")


def _labels_of(table, option, asked):
    """Return a list of the labels that are asked for; raise a ValueError if no image has one."""
    asked = [asked] if isinstance(asked, str) else list(asked or ())
    known = {label for label, _ in table.labels().values() if label} if asked else set()
    for label in asked:
        if not known:
            raise ValueError(f"{option}: the gallery has no labels, index with labels=FILE.csv")
        if label not in known:
            near = "".join(f", but {each!r}" for each in get_close_matches(str(label), known, 1))
            raise ValueError(f"{option}: no image has the label {label!r}{near}")
    return asked


def _named_by(path, identity):
    """Return the name and the options of a gallery's network, if they name no file."""
    name, options = (*identity["load"], None, None)[:2]
    if not isinstance(options, dict) or not isinstance(name, (str, NOTHING)):
        raise ValueError(f"{path}: {DAMAGED}")
    if name is None:
        raise ValueError("network: the gallery is of one of your own, pass it")
    files = [option for option in FILE_OPTIONS if options.get(option)]
    if files or not _is_known(name):
        its = f", and its {', '.join(files)}" if files else ""
        words = f"name it{its}, since no file is opened on a gallery's word"
        raise ValueError(f"network: the gallery is of {name[:200]}: {words}")
    for option in options.keys() - LOAD.keys():
        raise ValueError(f"{path}: {DAMAGED}: there is no option {option[:40]!r}")
    _check_kinds(path, options, {option: LOAD[option] for option in options})
    return name, options


def _check_kinds(path, values, kinds):
    """Raise a ValueError unless a gallery's values, a dict by names, are of these kinds."""
    for name, kind in kinds.items():
        value = values.get(name)
        if kind == SIZE:
            fits = isinstance(value, list) and [type(side) for side in value] == [int, int]
        else:
            fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits:
            raise ValueError(f"{path}: {DAMAGED}: its {name} is {str(value)[:40]}")


def _check_same_network(path, before, now):
    """Raise a ValueError that says how a network is not that of a gallery."""
    differences = [
        name if name == "weights" else f"{name} {before.get(name)} instead of {now[name]}"
        for name in now
        if now[name] != before.get(name)
    ]
    if differences:
        words = f"with another one, with {', '.join(differences)[:300]}"
        raise ValueError(
            f"network: the gallery {path} was indexed {words}; name that one, or another gallery"
        )


def _is_name(network):
    """Return whether a network is given by its name, or not at all, and not itself."""
    return network is None or isinstance(network, (str, os.PathLike))


def _is_known(name):
    """Return whether a network's name is one that this project knows, and not a file's."""
    return name in models.NETWORKS or name.startswith("keras:")
