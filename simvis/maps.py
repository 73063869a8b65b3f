"""The maps of one pair of images: what is asked of them, and how much each position adds."""

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from hashlib import sha256
from numbers import Real
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from simvis import __version__, image_ops
from simvis.image_ops import write_whole
from simvis.matches import fine_matches, finer_layers
from simvis.models import EmbeddingNetwork, stride_of
from simvis.similarity_ops import (
    POOLINGS,
    compute_direction_similarity,
    compute_pairwise_similarity,
    compute_spatial_similarity,
    local_features,
    mutual_matches,
    point_similarity,
    pool_features,
)

EXPLAINED = ("pooled", "head")
PARTS = "region1", "region2", "ignore1", "ignore2"  # of two images, which a Method asks about
BOX, POINT = "X0,Y0,X1,Y1|MASK.png", "X,Y"  # how the shell gives a region and a point
GEM = "of GeM, >= 1 (default: the network's own, or 3)"
HEAD = "the pooled feature, or the network's output through its linear head"
REFERENCES = ("grey", "mean", "blur")
FINE = {"--fine": (8, "--stride 8")}
REFERENCE_FORM = f"{'|'.join(REFERENCES)}|FILE"  # how the shell gives one
STRIDE = "pixels of the network's input to a cell of the maps, as 16, 8 or 4 (default: 32 or so)"
REFERENCE = "what fine maps tell an image from: grey, its mean colour, its blur, or another image"
SPECIAL = "what makes the two more alike than images are to those in this folder"
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
    matches: int = option("draw the N pairs of cells that match and add most", "N", default=0)
    stride: int | None = option(STRIDE, "N", group="fine maps, and other questions", also=FINE)
    reference: str | np.ndarray | None = option(REFERENCE, REFERENCE_FORM)
    special: str | np.ndarray | None = option(SPECIAL, "FOLDER")
    target: np.ndarray | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.stride is not None:
            check_whole("stride", self.stride, 1, 2048, "a whole number of pixels, 1 to 2048")
        if not (self.reference is None or str(self.reference) in REFERENCES):
            object.__setattr__(self, "reference", _reference_image(self.reference))
        if isinstance(self.special, str) and not self.special:
            raise ValueError("special: expected a folder of images, got nothing")
        if self.special is not None and self.target is not None:
            raise ValueError("target: there is special, too, give one of them")
        check_whole("matches", self.matches, 0, 99, "0 to 99 of them")

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
    matches : int (n, 4) array of (y1, x1, y2, x2) in cells, those that were asked for of the pairs
        that are each other's nearest, see `similarity_ops.mutual_matches`
    match_contributions, match_cosines : float64 (n,) arrays, what each adds, and how alike it is
    reference1, reference2 : None or float, what the reference of fine maps has of what they sum to,
        of which each cell carries an equal share
    conv1, conv2 : float32 (h, w, C) arrays, the activations; None if they are derived, which takes
        long, and the maps alone were asked for
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
    match_contributions: np.ndarray
    match_cosines: np.ndarray
    reference1: float | None
    reference2: float | None
    conv1: np.ndarray | None
    conv2: np.ndarray | None
    names: tuple
    network: EmbeddingNetwork
    method: Method

    def __repr__(self):
        shapes = "{} x {} and {} x {}".format(*self.similarity1.shape, *self.similarity2.shape)
        words = f"similarity {self.similarity:.4f}, maps {shapes}, {self.network.name} network"
        return f"{type(self).__name__}({words})"

    @property
    def sums(self):
        """What the two maps sum to: the similarity, but for special or target."""
        return float(self.similarity1.sum()), float(self.similarity2.sum())

    def save_maps(self, path, settings=None):
        """Write the maps, the images' names and the settings as a .npz file without pickles.

        The settings are those of the maps, or a dict instead of them; an OSError is raised if the
        file cannot be written.
        """
        names = [each.name for each in fields(PairMaps)]
        arrays = {name: getattr(self, name) for name in names[: names.index("conv1")]}
        if not self.method.matches:
            arrays |= dict.fromkeys(("matches", "match_contributions", "match_cosines"))
        arrays |= {"image1": self.names[0], "image2": self.names[1]}
        settings = settings or settings_of(self.network, self.method)
        arrays["settings"] = json.dumps(settings, default=str)
        arrays = {name: array for name, array in arrays.items() if array is not None}
        write_whole(path, lambda file: np.savez(file, **arrays))


def find_maps(images, network, method, names, pairwise=False, seen=None):
    """Return the `PairMaps` of two uint8 (H, W, 3) arrays, and of what `see` returns for them."""
    sizes = [image.shape[:2] for image in images]
    method, along = method.of(network).on(sizes), None
    if seen is None:
        seen = see(network.preprocess(list(images)), network, method, pairwise)
    convs, embeddings = seen
    if is_along(network, method, pairwise):
        along = partial(_contributions, images, network, method)
    elif method.reference is not None:
        raise ValueError("reference: is for fine maps, give a stride= too")
    if not network.derived and method.stride == stride_of(network.input_size, convs[0].shape):
        if method.reference is not None:
            raise ValueError("reference: is for finer maps than the last layer's, leave it out")
        along = None  # which the closed form gives
    maps = compute_maps(convs, sizes, network, method, names, pairwise, embeddings, along)
    if not (along and method.matches):
        return maps
    weights = [
        None if region is None else image_ops.region_weights(region, size, conv.shape[:2])
        for region, size, conv in zip(method.regions, sizes, convs, strict=True)
    ]
    batch = network.preprocess(list(images))
    layers = finer_layers(network.contributions, batch, method.stride, convs[0].shape[:2])
    if not layers:  # the maps are of the last layer's own grid
        return maps
    found = fine_matches(convs, layers, method.matches, weights, **_options(network, method))
    names = "matches", "match_contributions", "match_cosines"
    return replace(maps, **dict(zip(names, found, strict=True)))


def _options(network, method):
    """Return the options of `similarity_ops` that a network's `Method` comes to."""
    return {
        "pooling": method.pooling,
        "power": method.power,
        "projection": network.projection if method.explain == "head" else None,
        "data_format": "channels_last",
    }


def see(batch, network, method, pairwise=False):
    """Run a network on a batch of images; return what their maps need of it.

    That is their activations, or None if they are derived and not needed, and the network's own
    embeddings, or None if the maps explain something that it does not put out, as with another
    pooling than its own.
    """
    if network.derived and not _needs_activations(network, method, pairwise):
        return network.run(batch, method.explain, "embeddings")
    convs, embeddings = network.run(batch, method.explain)
    return convs, embeddings if method.of(network).pooling == network.pooling else None


def is_along(network, method, pairwise=False):
    """Return whether maps are made by contributions, each along a direction, from the images."""
    return method.stride is not None or (
        network.derived and not _needs_activations(network, method, pairwise)
    )


def _needs_activations(network, method, pairwise):
    places = *method.regions, *method.ignored, *method.points
    other = method.of(network).pooling != network.pooling
    return pairwise or method.matches or other or any(place is not None for place in places)


def _contributions(images, network, method, directions, weights):
    """Return (maps, constants) of two images, see `models.contributions.Contributions`."""
    if network.contributions is None:
        words = "the activations of earlier layers are not known"
        if not network.batch_independent:
            words = 'with batch statistics no image is one of its own, say batch_norm="moving"'
        raise ValueError(f"stride: of the {network.name} network {words}")
    pooling, references = {}, None
    if not network.derived:
        pooling = {"pooling": method.pooling, "power": method.power}
        pooling["projection"] = network.projection if method.explain == "head" else None
    elif method.pooling != network.pooling or any(np.size(each) > 1 for each in method.regions):
        words = "has no pooled layer, of which a region or another pooling could be taken"
        raise ValueError(f"stride: the {network.name} network {words}; leave out one of them")
    if not (method.reference is None or str(method.reference) == REFERENCES[0]):
        references = [
            featureless(image, method.reference)
            if isinstance(method.reference, str)
            else method.reference
            for image in images
        ]
        references = network.preprocess([np.rint(each).astype(np.uint8) for each in references])
    batch = network.preprocess(list(images))
    return network.contributions(batch, directions, method.stride, references, weights, **pooling)


def featureless(image, how):
    """Return what is left of a uint8 (H, W, 3) array without its features, float64 (H, W, 3).

    It is of the image's "mean" colour, or its "blur", by a Gaussian of a tenth of the longer side.
    """
    if how == "mean":
        return np.broadcast_to(image.mean(axis=(0, 1)), image.shape)
    blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(max(image.shape) / 10))
    return np.asarray(blurred, np.float64)


def compute_maps(convs, sizes, network, method, names, pairwise=False, embeddings=None, along=None):
    """Return the `PairMaps` of two images.

    Parameters
    ----------
    convs : two float (h, w, C) arrays, their activations; None if `along` makes the maps of a
        network whose activations would take long
    sizes : the images' (height, width)
    network, method, names : see PairMaps
    pairwise : bool, keep the pairwise tensor
    embeddings : None, or two float (D,) arrays, the network's own, or two None
    along : None, or a function of each image's directions, (K, D), and region, (h, w), that returns
        for each image (maps (K, h', w'), constants (K,)), what positions add to its embedding

    Raises
    ------
    ValueError
        If the maps do not sum to what the network itself says, among others.
    """
    method = method.of(network).on(sizes)
    options = _options(network, method)
    weights = [None, None]
    for i, region in enumerate(method.regions):
        if region is not None:
            weights[i] = image_ops.region_weights(region, sizes[i], convs[i].shape[:2])
    if convs is None:
        features = [np.asarray(embedding, np.float64) for embedding in embeddings]
        similarity = whole_similarity = network_similarity = _cosine(features, names)
    else:
        regions = {"region1": weights[0], "region2": weights[1]}
        own = compute_spatial_similarity(*convs, **options, **regions)
        similarity = whole_similarity = float(own[0].sum())
        if any(region is not None for region in weights):
            whole_similarity = float(compute_spatial_similarity(*convs, **options)[0].sum())
        network_similarity = check_sum(whole_similarity, convs, embeddings, network, options, names)
        features = [
            pool_features(conv, **options, region=region)
            for conv, region in zip(convs, weights, strict=True)
        ]
    asked = [[direction] for direction in _directions(features, method)]
    for i, point in enumerate(method.points):
        if point is not None:
            asked[1 - i].append(_direction_of_point(convs[i], point, sizes[i], weights[i], options))
    constants = [None, None]
    if along is None:
        maps = [
            [compute_direction_similarity(conv, each, **options, region=region) for each in some]
            for conv, some, region in zip(convs, asked, weights, strict=True)
        ]
    else:
        maps, constants = _maps_along(along, asked, features, weights, convs, network)
    tensor, matches = None, (np.zeros((0, 4), int), np.zeros(0), np.zeros(0))
    if pairwise:
        tensor = compute_pairwise_similarity(*convs, **options, **regions)
    if method.matches:
        matches = mutual_matches(*convs, method.matches, **options, **regions)
    one, two = maps
    return PairMaps(
        similarity=similarity,
        whole_similarity=whole_similarity,
        network_similarity=network_similarity,
        similarity1=one[0],
        similarity2=two[0],
        match1=one[1] if len(one) > 1 else None,
        match2=two[1] if len(two) > 1 else None,
        pairwise=tensor if pairwise else None,
        matches=matches[0],
        match_contributions=matches[1],
        match_cosines=matches[2],
        reference1=constants[0],
        reference2=constants[1],
        conv1=None if convs is None else convs[0],
        conv2=None if convs is None else convs[1],
        names=tuple(names),
        network=network,
        method=method,
    )


def _directions(features, method):
    """Return what is asked of each of two images, of their features (D,): a direction (D,)."""
    if method.target is not None:
        target = np.asarray(method.target, np.float64)
        if target.shape != features[0].shape or not np.isfinite(target).all() or not target.any():
            words = f"expected {len(features[0])} finite numbers, not all zero, got {target.shape}"
            raise ValueError(f"target: {words}")
        return [_unit(target)] * 2
    usual = 0 if method.special is None else np.asarray(method.special, np.float64)
    if method.special is not None and np.shape(usual) != features[0].shape:
        raise ValueError(f"special: expected {len(features[0])} numbers, got {np.shape(usual)}")
    return [_unit(features[1]) - usual, _unit(features[0]) - usual]


def _direction_of_point(conv, point, size, region, options):
    """Return the local feature at a point of an image over the length of its embedding, (D,)."""
    local = local_features(conv, **options, region=region)
    cell = image_ops.cell_of(point, size, conv.shape[:2])
    feature = point_similarity(local[..., None], *cell)[:, 0]
    return feature / np.linalg.norm(local.sum((0, 1)))


def _maps_along(along, asked, features, weights, convs, network):
    """Return each image's maps along directions, and what of the first one the reference has."""
    maps, constants = [], []
    if convs is not None:
        weights = [
            np.ones(conv.shape[:2]) if region is None else region
            for conv, region in zip(convs, weights, strict=True)
        ]
    found = along([np.stack(each) for each in asked], weights)
    for (parts, constant), directions, feature in zip(found, asked, features, strict=True):
        size = np.linalg.norm(feature)
        whole = (parts + constant[:, None, None] / parts[0].size) / size
        for each, direction in zip(whole, directions, strict=True):
            expected = feature @ direction / size
            if not abs(each.sum() - expected) <= network.tolerance:
                raise ValueError(
                    f"network: a fine map sums to {each.sum():.4f}, but the network itself says "
                    f"{expected:.4f}; leave out stride, or say another one"
                )
        maps.append(list(whole))
        constants.append(float(constant[0] / size))
    return maps, constants


def _cosine(features, names):
    """Return the cosine of two embeddings; raise a ValueError that names one without direction."""
    for name, feature in zip(names, features, strict=True):
        if not (np.isfinite(feature).all() and feature.any()):
            raise ValueError(f"{name}: its embedding is zero or not finite, it has no cosine")
    return float(_unit(features[0]) @ _unit(features[1]))


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
    distances = [
        np.linalg.norm(one - other) if one.shape == other.shape else np.inf
        for one, other in zip(sums, units, strict=True)
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
    for name in ("stride", "reference", "special", "target"):
        value = getattr(method, name)
        if np.ndim(value):
            value = f"numbers, SHA-256 {sha256(np.asarray(value).tobytes()).hexdigest()}"
        settings[name] = value
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
    if maps.method.special is not None:
        words += ", {:.4f} and {:.4f} more than usual".format(*maps.sums)
    if maps.method.target is not None:
        words = "similarity {:.4f} and {:.4f} to the target".format(*maps.sums)
    return words + (f", {maps.whole_similarity:.4f} of the whole images" if one or two else "")


def network_words(network, method):
    """Return in words which network was asked, and what of it the maps explain."""
    method = method.of(network)
    if network.derived and method.pooling == network.pooling:
        return f"{network.name}, its own output"
    pooling = f"{'GeM' if method.pooling == 'gem' else method.pooling} pooling"
    power = f" of power {method.power:g}" if method.pooling == "gem" else ""
    head = " and linear head" * (method.explain == "head")
    return f"{network.name}, {pooling}{power}{head}{', not checked' * (network.embed is None)}"


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


def _reference_image(reference):
    """Return an image that is given as a reference, uint8 (H, W, 3)."""
    if isinstance(reference, str) and not Path(reference).exists():
        check_choice("reference", reference, (*REFERENCES, "an image's file"))
    try:
        return image_ops.as_image(reference)
    except (ValueError, OSError) as error:
        raise type(error)(f"reference: {error}") from None


def check_choice(name, value, choices):
    if value not in choices:
        words = " or ".join(str(choice) for choice in choices if choice is not None)
        raise ValueError(f"{name}: expected {words}, got {value!r}")


def check_number(name, value, low, high, words):
    """Raise a ValueError unless a value is a finite real number in low..high."""
    if not (isinstance(value, Real) and low <= value <= high and value < np.inf):
        raise ValueError(f"{name}: expected {words}, got {value!r}")


def check_whole(name, value, low, high, words):
    """Raise a ValueError unless a value is an int in low..high."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and low <= value <= high):
        raise ValueError(f"{name}: expected {words}, got {value!r}")
