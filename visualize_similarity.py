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

import numpy as np
from PIL import Image

import image_ops
import models
from similarity_ops import compute_spatial_similarity

EXAMPLES = Path(__file__).resolve().parent / "example_images"
EXAMPLE_PAIR = EXAMPLES / "room_a_view1.jpg", EXAMPLES / "room_a_view2.jpg"
FIGURE_FORMATS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class PairVisualization:
    """What `visualize_pair` found.

    similarity : float, the cosine in -1..1 that each map sums to
    similarity1, similarity2 : float64 (h, w) arrays, the maps
    image1, image2 : uint8 (H, W, 3) arrays, the images that the maps lie over
    overlay1, overlay2 : uint8 (H, W, 3) arrays, the maps over the images
    value_range1, value_range2 : (low, high), the values that got the colormap's ends
    """

    similarity: float
    similarity1: np.ndarray
    similarity2: np.ndarray
    image1: np.ndarray
    image2: np.ndarray
    overlay1: np.ndarray
    overlay2: np.ndarray
    value_range1: tuple
    value_range2: tuple


def visualize_pair(
    image1,
    image2,
    network="imagenet",
    *,
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
    ValueError, FileNotFoundError
        Name the argument or the file at fault.

    Examples
    --------
    >>> pair = visualize_pair(*EXAMPLE_PAIR)
    >>> pair.similarity1.shape, bool(np.isclose(pair.similarity1.sum(), pair.similarity))
    ((7, 7), True)
    """
    if normalize not in ("each", "pair"):
        raise ValueError(f"normalize: expected each or pair, got {normalize!r}")
    images = [
        image if isinstance(image, np.ndarray) else image_ops.load_image(image)
        for image in (image1, image2)
    ]
    if isinstance(network, str):
        network = models.load_network(network)
    conv1, conv2 = network.activations(network.preprocess(images))
    maps = compute_spatial_similarity(conv1, conv2, network.pooling, projection=network.projection)
    if size is not None:
        images = [image_ops.resize(image, (size, size)) for image in images]
    upsampled = [
        image_ops.upsample_map(similarity, image.shape[:2], upsample)
        for similarity, image in zip(maps, images, strict=True)
    ]
    ranges = [(float(values.min()), float(values.max())) for values in upsampled]
    if normalize == "pair":
        ranges = [(min(low for low, _ in ranges), max(high for _, high in ranges))] * 2
    overlays = [
        image_ops.blend(image, image_ops.colorize_map(values, colormap, value_range), alpha)
        for image, values, value_range in zip(images, upsampled, ranges, strict=True)
    ]
    return PairVisualization(float(maps[0].sum()), *maps, *images, *overlays, *ranges)


def main(argv=None):
    """Run the program; return its exit status: 0, or 2 where the input is at fault.

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
        run(parse_arguments(argv))
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        print(f"visualize_similarity.py: error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def run(arguments):
    """Compute, write and print what the arguments ask for."""
    check_arguments(arguments)
    images = [image_ops.load_image(path) for path in arguments.images]
    models.start_tensorflow()
    network = models.load_network(arguments.network)
    pair = visualize_pair(*images, network, **{name: getattr(arguments, name) for name in LOOKS})

    picture = image_ops.combine_horizontal([pair.overlay1, pair.overlay2])
    image_ops.save_image(arguments.output, picture)
    if arguments.save_maps:
        save_maps(arguments, network, pair)
    if arguments.figure:
        save_figure(arguments, pair)
    height, width = pair.similarity1.shape
    print(f"network     {network.name}")
    print(f"maps        {height} x {width}")
    print(f"similarity  {pair.similarity:.4f}")
    for path in arguments.outputs:
        print(f"written     {path}")


LOOKS = ("colormap", "alpha", "upsample", "normalize", "size")


def parse_arguments(argv=None):
    """Return the program's arguments, or raise a ValueError for what argparse rejects."""
    parser = OneLineParser(
        prog="visualize_similarity.py",
        description="Show which regions of two images make a network call them similar.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="two image files")
    parser.add_argument("--network", default="imagenet", help=" or ".join(models.NETWORKS))
    files = parser.add_argument_group("files")
    files.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the picture, .png, .jpg or .webp; by default STEM1_STEM2_similarity.png",
    )
    files.add_argument(
        "--save-maps", type=Path, metavar="FILE.npz", help="the raw maps and the settings"
    )
    files.add_argument(
        "--figure", type=Path, metavar="FILE", help="a figure for a paper, .png, .pdf or .svg"
    )
    looks = parser.add_argument_group("looks")
    looks.add_argument("--colormap", default="jet", metavar="NAME", help="any of matplotlib's")
    looks.add_argument(
        "--alpha", type=float, default=0.5, metavar="A", help="how opaque the colours are, 0..1"
    )
    looks.add_argument("--upsample", default="bilinear", choices=tuple(image_ops.UPSAMPLINGS))
    looks.add_argument(
        "--normalize",
        default="each",
        choices=("each", "pair"),
        help="colour each map over its own range, or both over one",
    )
    looks.add_argument(
        "--size", type=int, metavar="N", help="N x N pixels instead of the images' own sizes"
    )
    arguments = parser.parse_args(argv)
    if len(arguments.images) not in (0, 2):
        parser.error(f"expected two images, or none for the example, got {len(arguments.images)}")
    arguments.images = arguments.images or [str(path) for path in EXAMPLE_PAIR]
    return arguments


class OneLineParser(argparse.ArgumentParser):
    def error(self, message):
        """Leave it to main to say what is wrong, in the one line that every error gets."""
        raise ValueError(f"{message} (--help lists the options)")


def check_arguments(arguments):
    """Raise for what would only fail after the network has run; set the default output."""
    if arguments.network not in models.NETWORKS:
        raise ValueError(
            f"--network: expected one of {', '.join(models.NETWORKS)}, got {arguments.network!r}"
        )
    if not 0 <= arguments.alpha <= 1:
        raise ValueError(f"--alpha: expected a number in 0..1, got {arguments.alpha}")
    if arguments.size is not None and not 1 <= arguments.size <= 10_000:
        raise ValueError(f"--size: expected 1 to 10000 pixels, got {arguments.size}")
    image_ops.colorize_map([[0.0]], arguments.colormap)

    if arguments.output is None:
        stem1, stem2 = (Path(image).stem for image in arguments.images)
        arguments.output = Path(f"{stem1}_{stem2}_similarity.png")
    endings = {
        "output": tuple(image_ops.WRITE_FORMATS),
        "save_maps": (".npz",),
        "figure": FIGURE_FORMATS,
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


def save_maps(arguments, network, pair):
    """Write the maps, the images' paths and the settings as a .npz file without pickles."""
    settings = {"network": network.name, "pooling": network.pooling}
    settings |= {name: getattr(arguments, name) for name in LOOKS}
    arrays = {
        "similarity": pair.similarity,
        "similarity1": pair.similarity1,
        "similarity2": pair.similarity2,
        "image1": str(arguments.images[0]),
        "image2": str(arguments.images[1]),
        "settings": json.dumps(settings),
    }
    image_ops.write_whole(arguments.save_maps, lambda file: np.savez(file, **arrays))


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
        bar = figure.colorbar(colors, ax=below, orientation="horizontal", alpha=arguments.alpha)
        bar.set_label("contribution to the similarity, per cell")
    for ax in axes.flat:
        ax.set_axis_off()
    kind = arguments.figure.suffix[1:].lower()
    image_ops.write_whole(arguments.figure, lambda file: figure.savefig(file, format=kind, dpi=200))


if __name__ == "__main__":
    # Any file name can be printed, and Pillow's own warning of large images adds nothing to ours.
    sys.stdout.reconfigure(errors="backslashreplace")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    sys.exit(main())
