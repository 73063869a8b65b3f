"""The maps of one pair of images: what is asked of them, and how much each position adds."""

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from numbers import Real

import numpy as np

from simvis import __version__, image_ops
from simvis.image_ops import write_whole
from simvis.models import EmbeddingNetwork
from simvis.similarity_ops import (
    POOLINGS,
    compute_pairwise_similarity,
    compute_spatial_similarity,
    point_similarity,
    pool_features,
    strongest_matches,
)

EXPLAINED = ("pooled", "head")
PARTS = "region1", "region2", "ignore1", "ignore2"  # of two images, which a Method asks about
BOX, POINT = "X0,Y0,X1,Y1|MASK.png", "X,Y"  # how the shell gives a region and a point
GEM = "of GeM, >= 1 (default: the network's own, or 3)"
HEAD = "the pooled feature, or the network's output through its linear head"
Region = tuple | np.ndarray | None


def option(words, metavar=None, default=None, **how):
    """Return a field of a dataclass that is an option of the programs, too, see `cli.add_options`.

    The words and the form of its value, metavar, are what ``--help`` says of it.
    """
    return field(default=default, metadata={"help": words, "metavar": metavar, **how})


@dataclass(frozen=True, eq=False)
class Embedding:
    """What is taken for an image's embedding; None is the network's own."""

    pooling: str | None = None
    power: float | None = option(GEM, "P", flags=("--gem-power", "--power"))
    explain: str | None = option(HEAD, flags=("--explain", "--embedding"), choices=EXPLAINED)

    def __post_init__(self):
        check_choice("pooling", self.pooling, (None, *POOLINGS))
        check_choice("explain", self.explain, (None, *EXPLAINED))
        if self.power is not None:
            check_number("power", self.power, 1, np.inf, "a number >= 1")

    def of(self, network):
        """Return this with the network's own for each None.

        Raises a ValueError if a linear head is to be explained that the network does not have.
        """
        explain = self.explain or network.explain
        if explain == "head" and network.projection is None:
            raise ValueError(f"explain: the {network.name} network has no linear head, use pooled")
        pooling, power = self.pooling or network.pooling, self.power or network.power
        return replace(self, pooling=pooling, power=power, explain=explain)


@dataclass(frozen=True, eq=False)
class Method(Embedding):
    """What is asked of two images; its fields are keywords of `visualize_pair`."""

    region1: Region = option("only this part of image 1, in pixels", BOX)
    region2: Region = option("only this part of image 2, in pixels", BOX)
    ignore1: Region = option("leave this part of image 1 out", BOX)
    ignore2: Region = option("leave this part of image 2 out", BOX)
    point1: tuple | None = option("what this pixel of image 1 matches", POINT)
    point2: tuple | None = option("what this pixel of image 2 matches", POINT)
    matches: int = option("draw the N strongest pairs of cells", "N", default=0)

    def __post_init__(self):
        super().__post_init__()
        if not (isinstance(self.matches, int) and 0 <= self.matches <= 99):
            raise ValueError(f"matches: expected 0 to 99 of them, got {self.matches!r}")

    @property
    def parts(self):
        return {name: getattr(self, name) for name in PARTS}

    @property
    def regions(self):
        return self.region1, self.region2

    @property
    def points(self):
        return self.point1, self.point2

    @property
    def ignored(self):
        return self.ignore1, self.ignore2

    def on(self, sizes):
        """Return this for images of these (height, width): what is ignored is out of the regions.

        Raises a ValueError if nothing of a region is left.
        """
        found = {}
        for i, (region, ignored) in enumerate(zip(self.regions, self.ignored, strict=True)):
            if ignored is not None:
                with _numbered("ignore", i + 1):
                    left = image_ops.region_without(region, ignored, sizes[i])
                found |= {f"region{i + 1}": left, f"ignore{i + 1}": None}
        return replace(self, **found)


@dataclass(frozen=True, eq=False, repr=False)
class PairMaps:
    """How much each position of two images adds to their similarity.

    similarity : float, the cosine in -1..1 that the maps sum to, of the regions if there are any
    whole_similarity : float, the cosine of the whole images
    network_similarity : None or float, the cosine of what the network itself puts out for the whole
        images, which whole_similarity agrees with; None if that is not what is explained
    similarity1, similarity2 : float64 (h, w) arrays, the maps
    match1, match2 : None or float64 (h, w) arrays, what point2 matches in image1, point1 in image2
    pairwise : None or float64 (h1, w1, h2, w2) array
    matches : int (n, 4) array of (y1, x1, y2, x2) in cells, the strongest pairs that were asked for
    conv1, conv2 : float32 (h, w, C) arrays, the activations
    names : two str, the images' paths
    network, method : the EmbeddingNetwork and the Method that the maps were made with, in which
        what was to be ignored is left out of the regions
    """

    similarity: float
    whole_similarity: float
    network_similarity: float | None
    similarity1: np.ndarray
    similarity2: np.ndarray
    match1: np.ndarray | None
    match2: np.ndarray | None
    pairwise: np.ndarray | None
    matches: np.ndarray
    conv1: np.ndarray
    conv2: np.ndarray
    names: tuple
    network: EmbeddingNetwork
    method: Method

    def __repr__(self):
        shapes = "{} x {} and {} x {}".format(*self.similarity1.shape, *self.similarity2.shape)
        words = f"similarity {self.similarity:.4f}, maps {shapes}, {self.network.name} network"
        return f"{type(self).__name__}({words})"

    def save_maps(self, path, settings=None):
        """Write the maps, the images' names and the settings as a .npz file without pickles.

        The settings are those of the maps, or a dict instead of them; an OSError is raised if the
        file cannot be written.
        """
        names = [each.name for each in fields(PairMaps)]
        arrays = {name: getattr(self, name) for name in names[: names.index("conv1")]}
        arrays["matches"] = self.matches if len(self.matches) else None
        arrays |= {"image1": self.names[0], "image2": self.names[1]}
        settings = settings or settings_of(self.network, self.method)
        arrays["settings"] = json.dumps(settings, default=str)
        arrays = {name: array for name, array in arrays.items() if array is not None}
        write_whole(path, lambda file: np.savez(file, **arrays))


def find_maps(images, network, method, names, pairwise=False):
    """Run a network on two uint8 (H, W, 3) arrays; return their `PairMaps`."""
    pair = is_quicker_by_pairs(network, method, pairwise)
    convs, embeddings = run_network(network, network.preprocess(images), method, pair)
    sizes = [image.shape[:2] for image in images]
    return compute_maps(convs, sizes, network, method, names, pairwise, embeddings)


def run_network(network, batch, method, pair=False):
    """Return a batch's activations, and the network's own embeddings if the maps explain them.

    The embeddings are None if the maps explain something that the network does not put out, as
    with another pooling than its own.  With ``pair``, the batch is two images whose two maps are
    all that is needed.
    """
    convs, embeddings = network.run(batch, method.explain, "pair" if pair else "maps")
    return convs, embeddings if method.of(network).pooling == network.pooling else None


def is_quicker_by_pairs(network, method, pairwise=False):
    """Return whether only two maps are asked for, which cost less without all activations."""
    places = *method.regions, *method.points, *method.ignored
    asked = pairwise or method.matches or any(place is not None for place in places)
    return network.pair_forward is not None and not asked


def compute_maps(convs, sizes, network, method, names, pairwise=False, embeddings=None):
    """Return the `PairMaps` of two images.

    Parameters
    ----------
    convs : two float (h, w, C) arrays, their activations
    sizes : the images' (height, width)
    network, method, names : see PairMaps
    pairwise : bool, keep the pairwise tensor
    embeddings : None, or two float (D,) arrays, the network's own, or two None

    Raises
    ------
    ValueError
        If the maps do not sum to what the network itself says, among others.
    """
    method = method.of(network).on(sizes)
    options = {
        "pooling": method.pooling,
        "power": method.power,
        "projection": network.projection if method.explain == "head" else None,
        "data_format": "channels_last",
    }
    shapes, regions = [conv.shape[:2] for conv in convs], {}
    for i, region in enumerate(method.regions):
        if region is not None:
            regions[f"region{i + 1}"] = image_ops.region_weights(region, sizes[i], shapes[i])
    similarities = compute_spatial_similarity(*convs, **options, **regions)
    whole = compute_spatial_similarity(*convs, **options) if regions else similarities
    network_similarity = check_sum(
        float(whole[0].sum()), convs, embeddings, network, options, names
    )
    tensor, found, matches = None, [None, None], np.zeros((0, 4), int)
    if pairwise or method.matches or method.points != (None, None):
        tensor = compute_pairwise_similarity(*convs, **options, **regions)
    for i, point in enumerate(method.points):
        if point is not None:
            cell = image_ops.cell_of(point, sizes[i], shapes[i])
            found[1 - i] = point_similarity(tensor, *cell, i + 1)
    if method.matches:
        matches = strongest_matches(tensor, method.matches)
    return PairMaps(
        similarity=float(similarities[0].sum()),
        whole_similarity=float(whole[0].sum()),
        network_similarity=network_similarity,
        similarity1=similarities[0],
        similarity2=similarities[1],
        match1=found[0],
        match2=found[1],
        pairwise=tensor if pairwise else None,
        matches=matches,
        conv1=convs[0],
        conv2=convs[1],
        names=tuple(names),
        network=network,
        method=method,
    )


def check_sum(similarity, convs, embeddings, network, options, names):
    """Return the cosine of the network's own embeddings, None if it has none.

    Raises a ValueError that names the image if its local features do not sum to its own embedding,
    but for a positive factor.  Two cosines may agree by chance, two directions do not.
    """
    if embeddings is None or any(embedding is None for embedding in embeddings):
        return None
    sums = [_unit(pool_features(conv, **options)) for conv in convs]
    units = [_unit(embedding) for embedding in embeddings]
    own = float(units[0] @ units[1])
    expected = units
    if len(sums[0]) != len(units[0]):  # as of `pair_forward`, along the two embeddings alone
        expected = np.linalg.qr(np.stack(units, 1)).R.T
    distances = [
        np.linalg.norm(one - other) if one.shape == other.shape else np.inf
        for one, other in zip(sums, expected, strict=True)
    ]
    if not (max(distances) <= network.tolerance and abs(similarity - own) <= network.tolerance):
        worst = int(np.argmax(distances))
        power = f" with the power {options['power']:g}" if options["pooling"] == "gem" else ""
        head = "" if options["projection"] is None else " and a linear head"
        raise ValueError(
            f"network: the maps sum to {similarity:.4f}, but the network itself says {own:.4f}, "
            f"and of {names[worst]} the sum of the local features is {distances[worst]:.2g} away "
            "from its own embedding, both of length 1, so it is not what was assumed of it: "
            f"{options['pooling']} pooling{power}{head} ({network.description}); leave out what "
            "was said of its pooling, or explain the pooled feature of a layer"
        )
    return own


def _unit(vector):
    vector = np.asarray(vector, np.float64)
    return vector / np.linalg.norm(vector)


def settings_of(network, method, look=None, options=None, pairwise=False):
    """Return what maps and pictures depend on besides the images, as a dict of plain values.

    Parameters
    ----------
    network, method : see PairMaps
    look : None or Look, of the pictures
    options : None or dict, with which `models.load_network` loaded the network
    pairwise : bool, whether the maps come with their pairwise tensor
    """
    method, settings = method.of(network), {"version": __version__, **(options or {})}
    settings |= {"network": network.name, "pooling": method.pooling, "power": method.power}
    settings |= {"embedding": method.explain, "matches": method.matches, "pairwise": pairwise}
    for i, (region, point) in enumerate(zip(method.regions, method.points, strict=True), 1):
        box, mask = _plain_region(region)
        settings |= {f"region{i}": box, f"mask{i}": mask, f"point{i}": point}
    for i, ignored in enumerate(method.ignored, 1):
        if ignored is not None:  # which results of earlier versions do not say of themselves
            settings[f"ignore{i}"] = next(filter(None, _plain_region(ignored)))
    return settings | ({} if look is None else vars(look))


def _plain_region(region):
    """Return a region as a list of four floats and as words for a mask; what it is not is None."""
    if np.ndim(region) == 2:
        return None, f"a mask, SHA-256 {sha256(np.asarray(region).tobytes()).hexdigest()}"
    return None if region is None else list(map(float, region)), None


def similarity_words(maps):
    """Return in words what the similarity of `PairMaps` is, and of what."""
    one, two = (region is not None for region in maps.method.regions)
    words = f"similarity {maps.similarity:.4f}"
    if one and two:
        words += " of the two regions"
    elif one or two:
        words += f" of image {1 if one else 2}'s region to image {2 if one else 1}"
    return words + (f", {maps.whole_similarity:.4f} of the whole images" if one or two else "")


def network_words(network, method):
    """Return in words which network was asked, and what of it the maps explain."""
    method = method.of(network)
    if network.pair_forward and method.pooling == network.pooling:
        return f"{network.name}, its output by derivatives"
    pooling = f"{'GeM' if method.pooling == 'gem' else method.pooling} pooling"
    power = f" of power {method.power:g}" if method.pooling == "gem" else ""
    return f"{network.name}, {pooling}{power}{' and linear head' * (method.explain == 'head')}"


def check_places(method, sizes):
    """Raise a ValueError unless regions and points fit images of these (height, width)."""
    for number, size in enumerate(sizes, 1):
        for name in ("region", "ignore", "point"):
            check_place(name, number, getattr(method, f"{name}{number}"), size)
    method.on(sizes)


def check_place(name, number, value, size):
    """Raise a ValueError that names what is wrong with a region or point of an image, if it is."""
    fit = image_ops.cell_of if name == "point" else image_ops.region_weights
    if value is not None:
        with _numbered(name, number):
            fit(value, size, (1, 1))


@contextmanager
def _numbered(name, number):
    """Name in a ValueError the argument of so many images that is at fault."""
    try:
        yield
    except ValueError as error:
        _, _, reason = str(error).partition(": ")
        raise ValueError(f"{name}{number}: {reason}") from None


def check_choice(name, value, choices):
    if value not in choices:
        words = " or ".join(str(choice) for choice in choices if choice is not None)
        raise ValueError(f"{name}: expected {words}, got {value!r}")


def check_number(name, value, low, high, words):
    """Raise a ValueError unless a value is a finite real number in low..high."""
    if not (isinstance(value, Real) and low <= value <= high and value < np.inf):
        raise ValueError(f"{name}: expected {words}, got {value!r}")
