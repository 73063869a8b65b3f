"""See which regions of two images make an embedding network call them similar.

python visualize_similarity.py IMAGE1 IMAGE2
"""

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # The imports below take a second, in which an interruption would end in a traceback.
    import os

    def stop(*_):
        os.write(2, b"visualize_similarity.py: interrupted\n")
        os._exit(130)

    signal.signal(signal.SIGINT, stop)

from pathlib import Path

from simvis import image_ops, models
from simvis.batch import pairs as image_pairs
from simvis.cli import (
    NETWORK_OPTIONS,
    OneLineParser,
    add_look_options,
    add_method_options,
    add_network_options,
    check_files,
    check_folder,
    look_of,
    method_of,
    network_options,
    place_of,
    run_program,
)
from simvis.cover_up import FILLINGS, cover_up
from simvis.files import plain
from simvis.maps import check_place, check_places, mask_hash
from simvis.pair import (
    EXAMPLE_PAIR,
    FIGURE_FORMATS,
    FIGURE_STYLES,
    PairVisualization,
    visualize,
    visualize_pair,
)
from simvis.triplet import TripletVisualization, compare, visualize_triplet

__all__ = [
    "EXAMPLE_PAIR",
    "PairVisualization",
    "TripletVisualization",
    "main",
    "visualize_pair",
    "visualize_triplet",
]

ENDINGS = {  # of the files that are written for a pair
    "output": tuple(image_ops.WRITE_FORMATS),
    "save_maps": (".npz",),
    "figure": FIGURE_FORMATS,
    "html": (".html", ".htm"),
}
NOT_OF_TRIPLETS = (
    *("region2", "point1", "point2", "matches", "normalize"),
    *("save_pairwise", "figure", "html", "cover1", "cover2"),
)


def main(argv=None):
    """Run the program; return its exit status.

    It is 0, or 1 if some of many pairs failed, or 2 if the input is at fault.

    Parameters
    ----------
    argv : list of str or None
        The arguments after the program's name; None for those of the shell.

    Examples
    --------
    >>> main(["only_one_image.jpg"])
    2
    """

    def run(arguments):
        check_images(arguments)
        if is_many(arguments):
            return run_pairs(arguments)
        return run_triplet(arguments) if arguments.than else run_pair(arguments)

    def interrupted(arguments):
        return "; the same command goes on where it was" if is_many(arguments) else ""

    return run_program(parser(), run, argv, interrupted)


def run_pair(arguments):
    """Show one pair."""
    options, look = network_options(arguments), look_of(arguments)
    paths = arguments.images or models.example_pair(arguments.network) or EXAMPLE_PAIR
    files = files_of(arguments, paths)
    images = [image_ops.load_image(path) for path in paths]
    method = method_of(arguments)
    check_places(method, [image.shape[:2] for image in images])
    covers = covers_of(arguments, images)

    models.start_tensorflow()
    network = models.load_network(arguments.network, **options)
    names = [str(path) for path in paths]
    pair = visualize(images, network, method, look, names, arguments.save_pairwise)

    make_folders(files)
    image_ops.save_image(files["output"], pair.picture(legend=not arguments.plain))
    if "save_maps" in files:
        pair.save_maps(files["save_maps"], settings_of(arguments, options, method, look, network))
    if "figure" in files:
        pair.save_figure(files["figure"], arguments.figure_style or "screen")
    if "html" in files:
        pair.save_page(files["html"])
    covered = [
        cover_up(images, pair, region, number, arguments.cover_with or "mean")
        for number, region in covers.items()
    ]
    report_pair(pair, files, covered)
    return 0


def run_triplet(arguments):
    """Show why the first image is closer to the second one than to --than."""
    options, method = network_options(arguments), method_of(arguments)
    look = look_of(arguments, normalize="zero")
    paths = [*(arguments.images or EXAMPLE_PAIR), arguments.than]
    files = files_of(arguments, paths)
    images = [image_ops.load_image(path) for path in paths]
    check_places(method, [image.shape[:2] for image in images[:2]])

    models.start_tensorflow()
    network = models.load_network(arguments.network, **options)
    triplet = compare(images, network, method, look, [str(path) for path in paths])

    make_folders(files)
    image_ops.save_image(files["output"], triplet.picture(legend=not arguments.plain))
    if "save_maps" in files:
        triplet.save_maps(files["save_maps"])
    print(f"network     {network.name}: {network.description}")
    print("maps        {} x {}".format(*triplet.difference_map.shape))
    for name, maps in (("similarity", triplet.closer), ("than", triplet.farther)):
        print(f"{name:11} {maps.similarity:.4f} to {maps.names[1]}")
    print(f"difference  {triplet.difference:.4f}")
    for path in files.values():
        print(f"written     {path}")
    return 0


def run_pairs(arguments):
    """Show many pairs; return 1 if some of them failed, else 0."""
    options, look, method = network_options(arguments), look_of(arguments), method_of(arguments)
    folder = folder_of(arguments)
    if arguments.pairs:
        pairs = image_pairs.read_pairs(arguments.pairs)
    else:
        pairs = image_pairs.pairs_against(arguments.images[0], arguments.against)

    models.start_tensorflow()
    network = models.load_network(arguments.network, **options, graph=True)
    rows, resumed = image_pairs.visualize_pairs(
        pairs,
        network,
        folder,
        method,
        look,
        pictures=not arguments.no_pictures,
        save_maps=bool(arguments.save_maps),
        pairwise=arguments.save_pairwise,
        batch_size=arguments.batch_size,
        settings=settings_of(arguments, options, method, look, network),
    )
    return report_pairs(network, rows, resumed, folder, best=5 if arguments.against else 0)


def report_pair(pair, files, covered=()):
    """Print what was found, and where it is."""
    method = pair.method
    print(f"network     {pair.network.name}: {pair.network.description}")
    print("maps        {} x {}".format(*pair.similarity1.shape))
    whole = ""
    if any(region is not None for region in method.regions):
        whole = f" of the region, {pair.whole_similarity:.4f} of the whole images"
    print(f"similarity  {pair.similarity:.4f}{whole}")
    if pair.network_similarity is not None:
        whole = " of the whole images" if whole else ""
        print(f"network's   {pair.network_similarity:.4f}{whole}, of what it puts out itself")
    for point, match in ((method.point1, pair.match2), (method.point2, pair.match1)):
        if match is not None:
            print("point       {:g},{:g} adds {:.4f} of it".format(*point, match.sum()))
    for cover in covered:
        estimate = "nothing left" if cover.estimate is None else f"{cover.estimate:.4f}"
        print(
            f"covered     image {cover.image}'s region: {estimate} by estimate from the maps, "
            f"{cover.truth:.4f} by the network"
        )
    for path in files.values():
        print(f"written     {path}")


def report_pairs(network, rows, resumed, folder, best=0):
    """Print what became of many pairs, and the best of image 1; return the exit status."""
    scored = [row for row in rows if not row["error"]]
    failed = len(rows) - len(scored)
    print(f"network     {network.name}: {network.description}")
    before = f", {resumed} of them by an earlier run" if resumed else ""
    print(f"pairs       {len(scored)} of {len(rows)}{before}")
    if scored:
        scored.sort(key=lambda row: -float(row["similarity"]))
        print("highest     {similarity}, of {image1} and {image2}".format(**scored[0]))
    for row in scored[:best]:
        print(f"best        {float(row['similarity']):.4f}  {Path(row['image2']).name}")
    if failed:
        print(f"failed      {failed}, scores.csv says why")
    for name in ("scores.csv", "index.html"):
        print(f"written     {folder / name}")
    return 1 if failed else 0


def settings_of(arguments, options, method, look, network):
    """Return what the maps and pictures depend on besides the images, as a dict of plain values."""
    return {
        **{name: options[name] for name in NETWORK_OPTIONS},
        "pooling": network.pooling,
        "power": method.power or network.power,
        "embedding": method.explain or network.explain,
        "region1": arguments.region1,
        "region2": arguments.region2,
        "mask1": mask_hash(method.region1),
        "mask2": mask_hash(method.region2),
        "point1": method.point1,
        "point2": method.point2,
        "matches": method.matches,
        **vars(look),
        "network": network.name,
        "pairwise": arguments.save_pairwise,
    }


# --- arguments -----------------------------------------------------------------------------------


def parser():
    parser = OneLineParser(
        prog="visualize_similarity.py",
        description="Show which regions of two images make a network call them similar.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="two image files; none for an example pair")
    add_network_options(parser)
    add_method_options(parser)
    add = parser.add_argument_group("cover-up test").add_argument
    for number in (1, 2):
        cover = f"what the similarity is without this part of image {number}: estimated, and true"
        add(f"--cover{number}", metavar="X0,Y0,X1,Y1|MASK.png", help=cover)
    filling = "what is put there for the network: the image's mean colour, or a blur"
    add("--cover-with", choices=FILLINGS, help=filling)
    than = "why IMAGE 1 is closer to IMAGE 2 than to this one, or why it is not"
    parser.add_argument("--than", metavar="IMAGE3", help=than)

    add = parser.add_argument_group("many pairs").add_argument
    add("--pairs", type=Path, metavar="FILE.csv", help="two columns of paths, relative to the file")
    add("--against", type=Path, metavar="FOLDER", help="IMAGE against all images in a folder")
    add("--batch-size", type=int, metavar="N", help="images at once in the network (default: 1)")
    add("--no-pictures", action="store_true", help="write scores.csv and index.html alone")

    add = parser.add_argument_group("files").add_argument
    picture = "the picture (default: STEM1_STEM2_similarity.png), or the folder of many pairs"
    add("--output", type=Path, metavar="PATH", help=picture)
    maps = "the raw maps and the settings; of many pairs, without a FILE, into the folder"
    add("--save-maps", type=Path, nargs="?", const=True, metavar="FILE.npz", help=maps)
    add("--save-pairwise", action="store_true", help="with --save-maps: the pairwise tensor too")
    figure = f"a figure for a paper, {', '.join(FIGURE_FORMATS)}"
    add("--figure", type=Path, metavar="FILE", help=figure)
    styles = "for a screen (the default), or of a column's width"
    add("--figure-style", choices=FIGURE_STYLES, help=styles)
    add("--html", type=Path, metavar="FILE.html", help="a page to explore the pair in a browser")
    add_look_options(parser)
    legend = "leave the legend off the picture, as it is off those of many pairs"
    add("--plain", action="store_true", help=legend)
    return parser


def is_many(arguments):
    return bool(getattr(arguments, "pairs", None) or getattr(arguments, "against", None))


def check_images(arguments):
    """Raise unless the images are given in one way, with the options of that way."""
    images, many = arguments.images, is_many(arguments)
    if arguments.pairs and arguments.against:
        raise ValueError("--pairs, --against: give one of them")
    if arguments.pairs and images:
        raise ValueError(f"pairs: the file names all images, but got {images} too")
    if arguments.against and len(images) != 1:
        raise ValueError(f"against: expected one image, got {images}")
    if not many and len(images) not in (0, 2):
        raise ValueError(f"expected two images, or none for the example, got {images}")
    singles = "figure", "html", "than", "cover1", "cover2"
    for name in singles if many else ("batch_size", "no_pictures"):
        if getattr(arguments, name):
            kind = "a single pair" if many else "many pairs, with --pairs or --against"
            raise ValueError(f"{name}: is for {kind}")
    for name in NOT_OF_TRIPLETS if arguments.than else ():
        if getattr(arguments, name):
            raise ValueError(f"{name}: is for a pair, without --than")
    if many and isinstance(arguments.save_maps, Path):
        raise ValueError("save_maps: with many pairs it takes no name, the maps lie in --output")
    if not many and arguments.save_maps is True:
        raise ValueError("save_maps: expected the name of a file, FILE.npz")
    if arguments.save_pairwise and not arguments.save_maps:
        raise ValueError("save_pairwise: needs --save-maps to be written to")
    covers = arguments.cover1 or arguments.cover2
    if covers and (arguments.region1 or arguments.region2):
        raise ValueError("--cover1, --cover2: are for whole images, without --region1, --region2")
    if arguments.cover_with and not covers:
        raise ValueError("cover_with: needs --cover1 or --cover2")
    if arguments.figure_style and not arguments.figure:
        raise ValueError("figure_style: needs --figure to be written to")
    if arguments.batch_size is not None and not 1 <= arguments.batch_size <= 256:
        raise ValueError(f"batch_size: expected 1 to 256 images, got {arguments.batch_size}")


def covers_of(arguments, images):
    """Return {number of an image: the region to cover}, which fits."""
    covers = {}
    for number, image in enumerate(images, 1):
        region = place_of(arguments, f"cover{number}")
        if region is not None:
            check_place("cover", number, region, image.shape[:2])
            covers[number] = region
    return covers


def files_of(arguments, images):
    """Return the {option: path} of the files to write, which can be written."""
    files = {name: getattr(arguments, name) for name in ENDINGS}
    if files["output"] is None:
        files["output"] = Path(
            "_".join([*(Path(image).stem for image in images), "similarity.png"])
        )
    files = {name: Path(plain(path)) for name, path in files.items() if path is not None}
    check_files(files, ENDINGS, [*images, *inputs_of(arguments)])
    return files


def make_folders(files):
    """Make the folders of the files to write, once there is something to write."""
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)


def inputs_of(arguments):
    """Return the arguments that may be files to read, besides the images."""
    names = "network", "checkpoint", "mean_image", "weights"
    names += "region1", "region2", "cover1", "cover2"
    return [getattr(arguments, name) for name in names]


def folder_of(arguments):
    """Return the folder of many pairs' results, which can be written to."""
    folder = arguments.output
    if folder is None and arguments.pairs:
        folder = Path(f"{arguments.pairs.stem}_similarity")
    elif folder is None:
        stem, name = Path(arguments.images[0]).stem, arguments.against.resolve().name
        folder = Path(f"{stem}_against_{name}_similarity")
    folder = Path(plain(folder))
    check_folder("output", folder)
    return folder


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
