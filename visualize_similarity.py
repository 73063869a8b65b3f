"""See which regions of two images make an embedding network call them similar.

python visualize_similarity.py IMAGE1 IMAGE2
"""

import argparse
import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import image_ops
import image_pairs
import models
from similarity_ops import (
    POOLINGS,
    compute_pairwise_similarity,
    compute_spatial_similarity,
    point_similarity,
)

EXAMPLES = Path(__file__).resolve().parent / "example_images"
EXAMPLE_PAIR = EXAMPLES / "room_a_view1.jpg", EXAMPLES / "room_a_view2.jpg"
FIGURE_FORMATS = (".png", ".pdf", ".svg")

# The arguments that are options of models.load_network, and those of visualize_pair.
NETWORK_OPTIONS = (
    *("checkpoint", "mean_image", "batch_norm", "pooling"),
    *("layer", "preprocess", "weights", "input_size", "allow_unsafe"),
)
PLACE_OPTIONS = ("region1", "region2", "point1", "point2")
METHOD_OPTIONS = ("power", "embedding", *PLACE_OPTIONS)
LOOK_OPTIONS = ("colormap", "alpha", "upsample", "normalize", "size")


@dataclass(frozen=True)
class PairVisualization:
    """What `visualize_pair` found.

    similarity : float, the cosine in -1..1 that the maps sum to, of the regions where there are any
    whole_similarity : float, the cosine of the whole images
    similarity1, similarity2 : float64 (h, w) arrays, the maps
    match1, match2 : None or float64 (h, w) arrays, what point2 matches in image1, point1 in image2
    pairwise : None or float64 (h1, w1, h2, w2) array
    image1, image2 : uint8 (H, W, 3) arrays, the images that the overlays were made of
    overlay1, overlay2 : uint8 (H, W, 3) arrays: the match where there is one, else the map, or, for
        the image that the only point lies in, the image; with regions and points drawn
    value_range1, value_range2 : (low, high), the values that got the colormap's ends
    conv1, conv2 : float32 (h, w, C) arrays, the activations
    """

    similarity: float
    whole_similarity: float
    similarity1: np.ndarray
    similarity2: np.ndarray
    match1: np.ndarray | None
    match2: np.ndarray | None
    pairwise: np.ndarray | None
    image1: np.ndarray
    image2: np.ndarray
    overlay1: np.ndarray
    overlay2: np.ndarray
    value_range1: tuple
    value_range2: tuple
    conv1: np.ndarray
    conv2: np.ndarray


def visualize_pair(
    image1,
    image2,
    network="imagenet",
    *,
    pooling=None,
    power=3.0,
    embedding=None,
    region1=None,
    region2=None,
    point1=None,
    point2=None,
    pairwise=False,
    colormap="jet",
    alpha=0.5,
    upsample="bilinear",
    normalize="each",
    size=None,
):
    """Compute the similarity maps of two images and lay them over the images.

    Parameters
    ----------
    image1, image2 : RGB uint8 (H, W, 3) arrays, or paths
    network : EmbeddingNetwork, or a name for `models.load_network`
    pooling : None for the network's own, or "average", "max" or "gem"
    power : real number >= 1, the exponent of GeM
    embedding : None for the network's default, "pooled" or "head"
        Explain the pooled feature, or the network's output through its linear head.
    region1, region2 : None, a box (x0, y0, x1, y1) in pixels, or a mask of the image's size
    point1, point2 : None or (x, y) in pixels, (0, 0) being the top left one
        The other image shows what the point matches.
    pairwise : bool, keep the pairwise tensor
    colormap : str, any of matplotlib's
    alpha : 0..1, how opaque the colours are
    upsample : "bilinear" or "bicubic"
    normalize : "each" colours each map over its own range, "pair" both over one range
    size : None for overlays of the images' own sizes, or N for N x N pixels

    Returns
    -------
    pair : PairVisualization

    Raises
    ------
    ValueError, OSError
        Name the argument or the file at fault.

    Examples
    --------
    >>> pair = visualize_pair(*EXAMPLE_PAIR)
    >>> pair.similarity1.shape, bool(np.isclose(pair.similarity1.sum(), pair.similarity))
    ((7, 7), True)
    """
    places = {"region1": region1, "region2": region2, "point1": point1, "point2": point2}
    if normalize not in ("each", "pair"):
        raise ValueError(f"normalize: expected each or pair, got {normalize!r}")
    images = [
        image if isinstance(image, np.ndarray) else image_ops.load_image(image)
        for image in (image1, image2)
    ]
    if isinstance(network, str):
        network = models.load_network(network)
    convs = network.activations(network.preprocess(images))
    maps = compute_maps(
        convs,
        [image.shape[:2] for image in images],
        network,
        pooling=pooling,
        power=power,
        embedding=embedding,
        pairwise=pairwise,
        **places,
    )
    look = {"colormap": colormap, "alpha": alpha, "upsample": upsample, "normalize": normalize}
    drawn = draw_overlays(images, maps, **places, **look, size=size)
    return PairVisualization(*maps, *drawn, *convs)


class Maps(NamedTuple):
    """The first fields of a `PairVisualization`."""

    similarity: float
    whole_similarity: float
    similarity1: np.ndarray
    similarity2: np.ndarray
    match1: np.ndarray | None
    match2: np.ndarray | None
    pairwise: np.ndarray | None


def compute_maps(
    convs,
    sizes,
    network,
    *,
    pooling=None,
    power=3.0,
    embedding=None,
    region1=None,
    region2=None,
    point1=None,
    point2=None,
    pairwise=False,
):
    """Return the `Maps` of two images' activations; sizes are the images' (height, width)."""
    method = {
        "pooling": pooling or network.pooling,
        "power": power,
        "projection": _head(network, embedding),
    }
    shapes = [conv.shape[:2] for conv in convs]
    weights = {
        f"region{number}": image_ops.region_weights(region, size, shape)
        for number, (region, size, shape) in enumerate(
            zip((region1, region2), sizes, shapes, strict=True), 1
        )
        if region is not None
    }
    maps = compute_spatial_similarity(*convs, **method, **weights)
    whole = compute_spatial_similarity(*convs, **method) if weights else maps
    tensor, matches, points = None, [None, None], (point1, point2)
    if pairwise or points != (None, None):
        tensor = compute_pairwise_similarity(*convs, **method, **weights)
    for number, point in enumerate(points, 1):
        if point is not None:
            y, x = cell_of(point, sizes[number - 1], shapes[number - 1])
            matches[2 - number] = point_similarity(tensor, y, x, number)
    scores = float(maps[0].sum()), float(whole[0].sum())
    return Maps(*scores, *maps, *matches, tensor if pairwise else None)


def draw_overlays(
    images, maps, *, region1, region2, point1, point2, colormap, alpha, upsample, normalize, size
):
    """Return the images as they are shown, their overlays, and the maps' ranges of values."""
    regions, points = (region1, region2), (point1, point2)
    matches = maps.match1, maps.match2
    shown = [
        similarity if match is None else match
        for match, similarity in zip(matches, (maps.similarity1, maps.similarity2), strict=True)
    ]
    sizes = [image.shape[:2] for image in images]
    if size is not None:
        images = [image_ops.resize(image, (size, size)) for image in images]
    upsampled = [
        image_ops.upsample_map(values, image.shape[:2], upsample)
        for values, image in zip(shown, images, strict=True)
    ]
    ranges = [(float(values.min()), float(values.max())) for values in upsampled]
    if normalize == "pair":
        ranges = [(min(low for low, _ in ranges), max(high for _, high in ranges))] * 2
    overlays = []
    for i, (image, values) in enumerate(zip(images, upsampled, strict=True)):
        overlay = image
        if points[i] is None or matches[i] is not None:
            overlay = image_ops.colorize_map(values, colormap, ranges[i])
            overlay = image_ops.blend(image, overlay, alpha)
        overlays.append(mark(overlay, regions[i], points[i], sizes[i]))
    return *images, *overlays, *ranges


def _head(network, embedding):
    """Return the projection that the embedding asked for goes through."""
    embedding = embedding or network.embedding
    if embedding not in ("pooled", "head"):
        raise ValueError(f"embedding: expected pooled or head, got {embedding!r}")
    if embedding == "head" and network.projection is None:
        raise ValueError(f"embedding: the {network.name} network has no linear head, use pooled")
    return network.projection if embedding == "head" else None


def cell_of(point, image_size, map_shape):
    """Return the position (y, x) in map cells of a point (x, y) in pixels."""
    (x, y), (height, width), (rows, columns) = point, image_size, map_shape
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
        raise ValueError(
            f"point: {x:g},{y:g} is outside of the image, which is {width} x {height} pixels"
        )
    return (y + 0.5) * rows / height - 0.5, (x + 0.5) * columns / width - 0.5


def mark(picture, region, point, image_size):
    """Draw a region and a point, given in pixels of the image, on a picture of any size."""
    height, width = image_size
    down, across = picture.shape[0] / height, picture.shape[1] / width
    if region is not None:
        if np.ndim(region) == 1:
            region = np.array(region) * (across, down, across, down)
        else:
            region = image_ops.region_weights(region, image_size, picture.shape[:2])
        picture = image_ops.draw_region(picture, region)
    if point is not None:
        x, y = (
            (position + 0.5) * scale - 0.5
            for position, scale in zip(point, (across, down), strict=True)
        )
        picture = image_ops.draw_point(picture, x, y)
    return picture


def main(argv=None):
    """Run the program; return its exit status.

    It is 0, or 1 where some of many pairs failed, or 2 where the input is at fault.

    Parameters
    ----------
    argv : list of str or None
        The arguments after the program's name; None for those of the shell.

    Examples
    --------
    >>> main(["only_one_image.jpg"])
    2
    """
    try:
        arguments = parse_arguments(argv)
        check_arguments(arguments)
        return run_pairs(arguments) if arguments.many else run(arguments)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        print(f"visualize_similarity.py: error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        rest = "; the same command goes on where it was" if "--pairs" in sys.argv else ""
        print(f"visualize_similarity.py: interrupted{rest}", file=sys.stderr)
        return 130


def run(arguments):
    """Compute, write and print what the arguments ask for."""
    images = [image_ops.load_image(path) for path in arguments.images]
    check_places(arguments, [image.shape[:2] for image in images])
    models.start_tensorflow()
    network = models.load_network(arguments.network, **picked(arguments, NETWORK_OPTIONS))
    options = picked(arguments, METHOD_OPTIONS + LOOK_OPTIONS)
    pair = visualize_pair(*images, network, pairwise=arguments.save_pairwise, **options)

    picture = image_ops.combine_horizontal([pair.overlay1, pair.overlay2])
    image_ops.save_image(arguments.output, picture)
    if arguments.save_maps:
        save_maps(arguments.save_maps, arguments.images, pair, settings_of(arguments, network))
    if arguments.figure:
        save_figure(arguments, pair)
    if arguments.html:
        save_explorer(arguments, network, images, pair)
    print(f"network     {network.name}: {network.description}")
    print("maps        {} x {}".format(*pair.similarity1.shape))
    whole = ""
    if arguments.region1_text or arguments.region2_text:
        whole = f" of the region, {pair.whole_similarity:.4f} of the whole images"
    print(f"similarity  {pair.similarity:.4f}{whole}")
    for point, match in ((arguments.point1, pair.match2), (arguments.point2, pair.match1)):
        if match is not None:
            print("point       {:g},{:g} adds {:.4f} of it".format(*point, match.sum()))
    for path in arguments.outputs:
        print(f"written     {path}")
    return 0


def run_pairs(arguments):
    """Compute and write the maps of many pairs; return 1 where some of them failed, else 0."""
    if arguments.pairs:
        pairs = image_pairs.read_pairs(arguments.pairs)
    else:
        pairs = image_pairs.pairs_against(arguments.images[0], arguments.against)
    pairs, folder = dict(enumerate(pairs, 1)), arguments.output
    check_places(arguments, (None, None))
    models.start_tensorflow()
    options = picked(arguments, NETWORK_OPTIONS)
    network = models.load_network(arguments.network, **options, graph=True)
    _head(network, arguments.embedding)
    if arguments.batch_size and not network.independent:
        raise ValueError(
            "--batch-size: with batch statistics each pair is a batch, say --batch-norm moving"
        )
    settings = settings_of(arguments, network)
    endings = [".jpg"] * (not arguments.no_pictures) + [".npz"] * bool(arguments.save_maps)
    finished = image_pairs.resume(folder, {**settings, "files": endings}, pairs, endings)
    rows = image_pairs.score(
        {number: pair for number, pair in pairs.items() if number not in finished},
        network,
        pair_finisher(arguments, network, pairs),
        folder,
        batch_size=arguments.batch_size,
        keep_images=not arguments.no_pictures,
    )
    with image_pairs.progress_bar(len(pairs), len(finished)) as advance:
        for _ in image_pairs.recorded(rows, folder):
            advance()
    return report_pairs(arguments, network, image_pairs.read_scores(folder), len(finished))


def pair_finisher(arguments, network, pairs):
    """Return a function that writes the files of one of many pairs and returns its scores."""
    method = picked(arguments, METHOD_OPTIONS)
    look = picked(arguments, PLACE_OPTIONS + LOOK_OPTIONS)

    def finish(number, convs, sizes, load_images):
        maps = compute_maps(convs, sizes, network, pairwise=arguments.save_pairwise, **method)
        path = arguments.output / image_pairs.file_stem(number, pairs[number])
        if not arguments.no_pictures:
            overlays = draw_overlays(load_images(), maps, **look)[2:4]
            image_ops.save_image(f"{path}.jpg", image_ops.combine_horizontal(overlays))
        if arguments.save_maps:
            save_maps(f"{path}.npz", pairs[number], maps, settings_of(arguments, network))
        return maps.similarity, maps.whole_similarity

    return finish


def report_pairs(arguments, network, rows, resumed):
    """Print what became of many pairs; return the exit status."""
    scored = [row for row in rows if not row["error"]]
    failed = len(rows) - len(scored)
    print(f"network     {network.name}: {network.description}")
    before = f", {resumed} of them by an earlier run" if resumed else ""
    print(f"pairs       {len(scored)} of {len(rows)}{before}")
    if scored:
        scored.sort(key=lambda row: -float(row["similarity"]))
        print("highest     {similarity}, of {image1} and {image2}".format(**scored[0]))
    if failed:
        print(f"failed      {failed}, scores.csv says why")
    print(f"written     {arguments.output / 'scores.csv'}")
    return 1 if failed else 0


def picked(arguments, names):
    return {name: getattr(arguments, name) for name in names}


def settings_of(arguments, network):
    """Return what the maps and pictures depend on, besides the images."""
    settings = picked(arguments, NETWORK_OPTIONS + METHOD_OPTIONS + LOOK_OPTIONS)
    return settings | {
        "network": network.name,
        "pooling": network.pooling,
        "embedding": arguments.embedding or network.embedding,
        "region1": arguments.region1_text,
        "region2": arguments.region2_text,
        "pairwise": arguments.save_pairwise,
    }


def save_maps(path, paths, maps, settings):
    """Write maps, the images' paths and the settings as a .npz file without pickles."""
    arrays = {
        "similarity": maps.similarity,
        "whole_similarity": maps.whole_similarity,
        "similarity1": maps.similarity1,
        "similarity2": maps.similarity2,
        "match1": maps.match1,
        "match2": maps.match2,
        "pairwise": maps.pairwise,
        "image1": str(paths[0]),
        "image2": str(paths[1]),
        "settings": json.dumps(settings, default=str),
    }
    arrays = {name: array for name, array in arrays.items() if array is not None}
    image_ops.write_whole(path, lambda file: np.savez(file, **arrays))


def save_figure(arguments, pair):
    """Write a figure of both images and both overlays, with a bar of true values for each map."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    figure.suptitle(f"similarity {pair.similarity:.3f}")
    axes = figure.subplots(2, 2)
    columns = (
        (pair.image1, pair.overlay1, pair.value_range1),
        (pair.image2, pair.overlay2, pair.value_range2),
    )
    for path, (above, below), (image, overlay, value_range) in zip(
        arguments.images, axes.T, columns, strict=True
    ):
        above.imshow(image)
        # a name may hold bytes that are no text, and dollars that are no formula
        name = Path(path).name.encode(errors="replace").decode()
        above.set_title(name, parse_math=False)
        below.imshow(overlay)
        colors = ScalarMappable(Normalize(*value_range), arguments.colormap)
        bar = figure.colorbar(
            colors, ax=below, orientation="horizontal", alpha=arguments.alpha, shrink=0.9
        )
        bar.set_label("contribution to the similarity, per cell")
    for ax in axes.flat:
        ax.set_axis_off()
    kind = arguments.figure.suffix[1:].lower()
    image_ops.write_whole(arguments.figure, lambda file: figure.savefig(file, format=kind, dpi=200))


def save_explorer(arguments, network, images, pair):
    """Write a page to explore the pair in a browser."""
    from explorer import write_explorer

    regions = arguments.region1, arguments.region2
    write_explorer(
        arguments.html,
        *images,
        pair.conv1,
        pair.conv2,
        pooling=network.pooling,
        projection=network.projection,
        power=arguments.power,
        embedding=arguments.embedding or network.embedding,
        colormap=arguments.colormap,
        alpha=arguments.alpha,
        normalize=arguments.normalize,
        # a mask is no box: the page begins with the whole image then
        regions=[region if np.ndim(region) == 1 else None for region in regions],
        names=[Path(image).name for image in arguments.images],
        network=f"{network.name}: {network.description}",
    )


# --- arguments -----------------------------------------------------------------------------------


def parse_arguments(argv=None):
    """Return the program's arguments, or raise a ValueError for what argparse rejects."""
    parser = OneLineParser(
        prog="visualize_similarity.py",
        description="Show which regions of two images make a network call them similar.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="two image files; none for an example pair")

    add = parser.add_argument_group("network").add_argument
    networks = f"{', '.join(models.NETWORKS)}, keras:NAME or a .keras or .h5 file"
    add("--network", default="imagenet", help=f"{networks} (default: imagenet)")
    add("--checkpoint", metavar="PREFIX", help="a resnet_v2_50 checkpoint, its folder or archive")
    add("--mean-image", metavar="FILE.npy", help="what is subtracted from hotels' and faces' input")
    add("--batch-norm", choices=("batch", "moving"), help="statistics of the pair, or of training")
    add("--layer", metavar="NAME", help="of a Keras model: explain what comes out of this layer")
    add("--preprocess", metavar="HOW", help="of a Keras model: none, 0..1, -1..1, caffe or torch")
    add("--weights", metavar="FILE", help="of keras:NAME: a weights file, or none for random ones")
    add("--input-size", metavar="H,W", help="of a Keras model that takes any size")
    add("--allow-unsafe", action="store_true", help="run the Python code in a model file")

    add = parser.add_argument_group("method").add_argument
    add("--pooling", choices=POOLINGS, help="instead of the network's own")
    add("--gem-power", dest="power", type=float, default=3.0, metavar="P", help="of GeM, >= 1")
    add("--embedding", choices=("pooled", "head"), help="explain what is pooled, or the output")
    for number in (1, 2):
        box = "X0,Y0,X1,Y1|MASK.png"
        add(f"--region{number}", metavar=box, help=f"only this part of image {number}, in pixels")
        add(f"--point{number}", metavar="X,Y", help=f"what this pixel of image {number} matches")

    add = parser.add_argument_group("many pairs").add_argument
    add("--pairs", type=Path, metavar="FILE.csv", help="two columns of paths, relative to the file")
    add("--against", type=Path, metavar="FOLDER", help="IMAGE against all images in a folder")
    add("--batch-size", type=int, metavar="N", help="images at once in the network (default: 8)")
    add("--no-pictures", action="store_true", help="write scores.csv alone")

    add = parser.add_argument_group("files").add_argument
    picture = "the picture (default: STEM1_STEM2_similarity.png), or the folder of many pairs"
    add("--output", type=Path, metavar="PATH", help=picture)
    maps = "the raw maps and the settings; of many pairs, without a FILE, into the folder"
    add("--save-maps", type=Path, nargs="?", const=True, metavar="FILE.npz", help=maps)
    add("--save-pairwise", action="store_true", help="with --save-maps: the pairwise tensor too")
    add("--figure", type=Path, metavar="FILE", help="a figure for a paper, .png, .pdf or .svg")
    add("--html", type=Path, metavar="FILE.html", help="a page to explore the pair in a browser")

    add = parser.add_argument_group("looks").add_argument
    add("--colormap", default="jet", metavar="NAME", help="any of matplotlib's (default: jet)")
    add("--alpha", type=float, default=0.5, metavar="A", help="opacity, 0..1 (default: 0.5)")
    add("--upsample", default="bilinear", choices=tuple(image_ops.UPSAMPLINGS))
    add("--normalize", default="each", choices=("each", "pair"), help="over which range of values")
    add("--size", type=int, metavar="N", help="N x N pixels instead of the images' own sizes")
    return parser.parse_args(argv)


class OneLineParser(argparse.ArgumentParser):
    def error(self, message):
        """Leave it to main to say what is wrong, in the one line that every error gets."""
        raise ValueError(f"{message} (--help lists the options)")


def check_arguments(arguments):
    """Raise for what would only fail after the network has run, and fill in the defaults."""
    arguments.many = arguments.pairs is not None or arguments.against is not None
    check_inputs(arguments)
    if arguments.input_size is not None:
        size = parse_numbers(arguments.input_size, 2, "--input-size H,W")
        if not all(side == int(side) and 1 <= side <= 2048 for side in size):
            raise ValueError(f"--input-size: expected 1 to 2048 whole pixels, got {size}")
        arguments.input_size = tuple(map(int, size))
    try:
        models.check_options(arguments.network, **picked(arguments, NETWORK_OPTIONS))
    except ValueError as error:
        name, _, message = str(error).partition(":")
        raise ValueError(f"--{name.replace('_', '-')}:{message}") from None
    if not 1 <= arguments.power < float("inf"):
        raise ValueError(f"--gem-power: expected a number >= 1, got {arguments.power}")
    if not 0 <= arguments.alpha <= 1:
        raise ValueError(f"--alpha: expected a number in 0..1, got {arguments.alpha}")
    if arguments.size is not None and not 1 <= arguments.size <= 10_000:
        raise ValueError(f"--size: expected 1 to 10000 pixels, got {arguments.size}")
    if arguments.batch_size is not None and not 1 <= arguments.batch_size <= 256:
        raise ValueError(f"--batch-size: expected 1 to 256 images, got {arguments.batch_size}")
    if arguments.save_pairwise and not arguments.save_maps:
        raise ValueError("--save-pairwise: needs --save-maps to be written to")
    image_ops.colorize_map([[0.0]], arguments.colormap)
    if arguments.many:
        check_folder(arguments)
        return
    if not arguments.images:
        arguments.images = models.example_pair(arguments.network) or EXAMPLE_PAIR
    check_outputs(arguments)


def check_inputs(arguments):
    """Raise unless the images are given in one way, with the options of that way."""
    images, many = arguments.images, arguments.many
    if arguments.pairs and arguments.against:
        raise ValueError("--pairs, --against: give one of them")
    if arguments.pairs and images:
        raise ValueError(f"--pairs: the file names all images, but got {images} too")
    if arguments.against and len(images) != 1:
        raise ValueError(f"--against: expected one image, got {images}")
    if not many and len(images) not in (0, 2):
        raise ValueError(f"expected two images, or none for the example, got {images}")
    for name in ("figure", "html") if many else ("batch_size", "no_pictures"):
        if getattr(arguments, name):
            kind = "a single pair" if many else "many pairs, with --pairs or --against"
            raise ValueError(f"--{name.replace('_', '-')}: is for {kind}")
    if many and isinstance(arguments.save_maps, Path):
        raise ValueError("--save-maps: with many pairs it takes no name, the maps lie in --output")
    if not many and arguments.save_maps is True:
        raise ValueError("--save-maps: expected the name of a file, FILE.npz")


def check_folder(arguments):
    """Fill in the folder of many pairs' results, and raise unless it can be made."""
    if arguments.output is None and arguments.pairs:
        arguments.output = Path(f"{arguments.pairs.stem}_similarity")
    elif arguments.output is None:
        stem, folder = Path(arguments.images[0]).stem, arguments.against.resolve().name
        arguments.output = Path(f"{stem}_against_{folder}_similarity")
    path = arguments.output
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output: {path} is a file, with many pairs name a folder")
    if not path.parent.is_dir():
        raise ValueError(f"--output: there is no folder {path.parent}, make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"--output: {path} is not writable")


def check_outputs(arguments):
    if arguments.output is None:
        stem1, stem2 = (Path(image).stem for image in arguments.images)
        arguments.output = Path(f"{stem1}_{stem2}_similarity.png")
    endings = {
        "output": tuple(image_ops.WRITE_FORMATS),
        "save_maps": (".npz",),
        "figure": FIGURE_FORMATS,
        "html": (".html", ".htm"),
    }
    arguments.outputs = []
    for name, allowed in endings.items():
        path = getattr(arguments, name)
        if path is not None:
            check_output(f"--{name.replace('_', '-')}", path, allowed, arguments.images)
            if path in arguments.outputs:
                raise ValueError(f"{path}: two outputs would be written to one file")
            arguments.outputs.append(path)


def check_output(option, path, endings, inputs):
    """Raise unless a file of this name can be written without harm."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{option}: expected a name ending in {', '.join(endings)}, got {path}")
    if path.is_dir():
        raise ValueError(f"{option}: {path} is a folder, name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"{option}: there is no folder {path.parent}, make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{option}: the folder {path.parent} is not writable")
    if any(os.path.exists(image) and path.exists() and path.samefile(image) for image in inputs):
        raise ValueError(f"{option}: {path} is one of the images, name another file")


def check_places(arguments, sizes):
    """Turn the texts of regions and points into numbers and masks, and check that they fit."""
    for number, size in enumerate(sizes, 1):
        for name, parse, check in (
            (f"region{number}", parse_region, image_ops.region_weights),
            (f"point{number}", parse_point, cell_of),
        ):
            text = getattr(arguments, name)
            setattr(arguments, f"{name}_text", text)
            if text is not None:
                try:
                    value = parse(text)
                    if size is not None:
                        check(value, size, (1, 1))
                except ValueError as error:
                    reason = str(error).removeprefix(f"{name[:-1]}: ")
                    raise ValueError(f"--{name}: {reason}") from None
                setattr(arguments, name, value)


def parse_region(text):
    """Return a box of four numbers, or the mask in an image file, white being the region."""
    if Path(text).is_file():
        return image_ops.load_image(text).max(axis=2)
    return parse_numbers(text, 4, "X0,Y0,X1,Y1 in pixels or a mask's file")


def parse_point(text):
    return parse_numbers(text, 2, "X,Y in pixels")


def parse_numbers(text, count, form):
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"expected {form}, got {text!r}")
    return values


if __name__ == "__main__":
    # Any file name can be printed, and Pillow's own warning of large images adds nothing to ours.
    sys.stdout.reconfigure(errors="backslashreplace")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    sys.exit(main())
