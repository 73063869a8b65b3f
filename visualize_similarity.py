"""See which regions of two images make an embedding network call them similar.

python visualize_similarity.py IMAGE1 IMAGE2
"""

import sys

from simvis import interruption

if __name__ == "__main__":  # during the imports below, which take a second
    interruption.end_in_one_line("visualize_similarity.py")

from dataclasses import dataclass, replace
from pathlib import Path

from simvis import cli, image_ops, models
from simvis.batch import pairs as image_pairs
from simvis.files import left_out_words, list_images, plain
from simvis.maps import (
    BOX,
    PARTS,
    Method,
    Region,
    check_place,
    check_places,
    find_maps,
    option,
    settings_of,
)
from simvis.overlay import Look
from simvis.pair import (
    EXAMPLE_PAIR,
    FIGURE_FORMATS,
    FIGURE_STYLES,
    FILLINGS,
    PairVisualization,
    cover_up,
    draw,
    visualize_pair,
)
from simvis.plotting.legend import value_text
from simvis.triplet import TripletVisualization, compare, visualize_triplet
from simvis.usual import with_usual

__all__ = [
    "EXAMPLE_PAIR",
    "PairVisualization",
    "TripletVisualization",
    "main",
    "visualize_pair",
    "visualize_triplet",
]

PROGRAM = "visualize_similarity.py"


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
    return cli.run_program(PROGRAM, [Task], parse, run, argv)


def run(task):
    """Do what the program is asked for; return the exit status."""
    if task.is_many:
        return run_pairs(task)
    return run_triplet(task) if task.than else run_pair(task)


def run_pair(task):
    """Show one pair."""
    images = [image_ops.load_image(path) for path in task.images]
    sizes = [image.shape[:2] for image in images]
    check_places(task.method, sizes)
    covers = [(1, task.cover1), (2, task.cover2)]
    for number, region in covers:
        check_place("cover", number, region, sizes[number - 1])

    network = task.network.load()
    method = usual_of(task.method, network)
    maps = find_maps(images, network, method, task.images, task.save_pairwise)
    pair = draw(images, maps, task.look)
    covered = {
        number: cover_up(pair, region, number, task.cover_with)
        for number, region in covers
        if region is not None
    }
    writers = {task.output: picture_writer(task, pair)}
    if task.save_maps:
        writers[task.save_maps] = lambda path: pair.save_maps(path, task.settings(network))
    if task.figure:
        writers[task.figure] = lambda path: pair.save_figure(path, task.figure_style)
    if task.html:
        writers[task.html] = pair.save_page
    cli.write_all(writers)
    cli.report_masks(**task.method.parts, cover1=task.cover1, cover2=task.cover2)
    report_pair(pair, task.written, covered)
    return 0


def usual_of(method, network):
    """Return a Method with the mean embedding of the folder, or the gallery, of --special."""
    if method.special and (Path(method.special) / "images.lance").is_dir():
        from simvis.gallery import Gallery

        return replace(method, special=Gallery(method.special, network).mean_embedding())
    return with_usual(method, network)


def run_triplet(task):
    """Show why the first image is closer to the second one than to --than."""
    images = [image_ops.load_image(path) for path in task.images]
    check_places(task.method, [image.shape[:2] for image in images[:2]])
    network = task.network.load()
    triplet = compare(images, network, task.method, task.look, task.images)

    writers = {task.output: picture_writer(task, triplet)}
    if task.save_maps:
        writers[task.save_maps] = triplet.save_maps
    cli.write_all(writers)
    print(f"network     {network.name}: {network.description}")
    print("maps        {} x {}".format(*triplet.difference_map.shape))
    cli.report_masks(**task.method.parts)
    print(f"similarity  {triplet.closer.similarity:.4f} to {task.images[1]}")
    print(f"than        {triplet.farther.similarity:.4f} to {task.images[2]}")
    print(f"difference  {triplet.difference:.4f}")
    for path in task.written:
        print(f"written     {path}")
    return 0


def picture_writer(task, shown):
    """Return a function of a path that writes the picture."""
    return lambda path: image_ops.save_image(path, shown.picture(legend=not task.plain))


@cli.resumable()
def run_pairs(task):
    """Show many pairs; return 1 if some of them failed, else 0."""
    left_out = ""
    if task.pairs:
        pairs = image_pairs.read_pairs(task.pairs)
    else:
        pairs = image_pairs.pairs_against(task.images[0], task.against)
        left_out = left_out_words(*list_images(task.against)[1:])
    network = task.network.load(graph=True)
    rows, resumed = image_pairs.visualize_pairs(
        pairs,
        network,
        task.output,
        usual_of(task.method, network),
        task.look,
        pictures=not task.no_pictures,
        save_maps=bool(task.save_maps),
        pairwise=task.save_pairwise,
        batch_size=task.batch_size,
        settings=task.settings(network),
    )
    cli.report_masks(**task.method.parts)
    cli.report_left_out(left_out)
    best = {"best": 5, "against": task.against} if task.against else {}
    return report_pairs(network, rows, resumed, task.output, **best)


def report_pair(pair, written, covered):
    """Print what was found, and where it is; covered has an image's `cover_up` by its number."""
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
    if pair.reference1:
        words = "{:.4f} and {:.4f} of it, shared evenly by all cells"
        print(f"reference   {words.format(pair.reference1, pair.reference2)}")
    if method.special is not None:
        print("special     {:.4f} and {:.4f} of it, more than usual".format(*pair.sums))
    for point, match in ((method.point1, pair.match2), (method.point2, pair.match1)):
        if match is not None:
            print("point       {:g},{:g} adds {:.4f} of it".format(*point, match.sum()))
    if method.matches:
        report_matches(pair)
    for number, (estimate, similarity) in covered.items():
        words = "nothing left" if estimate is None else f"{estimate:.4f}"
        words = f"{words} by estimate from the maps, {similarity:.4f} by the network"
        print(f"covered     image {number}'s region: {words}")
    for path in written:
        print(f"written     {path}")


def report_matches(pair):
    """Print the matches as pairs of pixels, with what they add and how alike they are."""
    found, adds = len(pair.matches), pair.match_contributions
    fewer = "" if found == pair.method.matches else "; no more cells are each other's nearest"
    print(f"matches     {found} add {adds.sum():.4f} of it{fewer}")
    (height1, width1), (height2, width2) = (image.shape[:2] for image in pair.images)
    pixels = pair.match_places() * (width1, height1, width2, height2) - 0.5
    rows = zip(pixels.round().astype(int), adds, pair.match_cosines, strict=True)
    for number, (pixel, add, cosine) in enumerate(rows, 1):
        words = "match {:<5} {},{} and {},{} add {} of it, cosine {:.4f}"
        print(words.format(number, *pixel, value_text(add, adds[0]), cosine))


def report_pairs(network, rows, resumed, folder, best=0, against=None):
    """Print what became of many pairs, and the best against a folder; return the exit status."""
    scored = [row for row in rows if not row["error"]]
    failed = len(rows) - len(scored)
    print(f"network     {network.name}: {network.description}")
    before = f", {resumed} of them by an earlier run" if resumed else ""
    print(f"pairs       {len(scored)} of {len(rows)}{before}")
    if scored:
        scored.sort(key=lambda row: -float(row["similarity"]))
        print("highest     {similarity}, of {image1} and {image2}".format(**scored[0]))
    for row in scored[:best]:
        path = Path(row["image2"])
        name = path.relative_to(against) if against else path.name
        print(f"best        {float(row['similarity']):.4f}  {name}")
    if failed:
        print(f"failed      {failed}, scores.csv says why")
    for name in ("scores.csv", "index.html"):
        print(f"written     {folder / name}")
    return 1 if failed else 0


# --- arguments -----------------------------------------------------------------------------------

COVERED = "what the similarity is without this part of image {}: estimated, and true"
FILLED = "what is put there for the network: the image's mean colour, or a blur"
THAN = "why IMAGE 1 is closer to IMAGE 2 than to this one, or why it is not"
AGAINST = f"IMAGE against all images in a folder ({', '.join(image_ops.IMAGE_ENDINGS)})"
PICTURE = "the picture (default: STEM1_STEM2_similarity.png), or the folder of many pairs"
MAPS = "the raw maps and the settings; of many pairs, without a FILE, into the folder"
STYLE = "for a screen (the default), or of a column's width"
ENDINGS = {  # of the files that are written for a pair
    "output": tuple(image_ops.WRITE_FORMATS),
    "save_maps": (".npz",),
    "figure": FIGURE_FORMATS,
    "html": (".html", ".htm"),
}
OF_TWO = "region2", "ignore2", "point1", "point2", "matches", "normalize", "save_pairwise"
OF_TWO = *OF_TWO, "figure", "html"
MANY, COVERS = ("pairs", "against"), ("cover1", "cover2")
RULES = (  # options, whether they go together with others, these, and what is said else
    (("batch_size", "no_pictures"), True, MANY, "is for many pairs, with --pairs or --against"),
    (("figure", "html", "than", *COVERS), False, MANY, "is for a single pair"),
    ((*OF_TWO, *COVERS), False, ("than",), "is for a pair, without --than"),
    (COVERS, False, PARTS, "is for whole images, without a --region or --ignore"),
    (("save_pairwise",), False, ("stride",), "is of the last layer's cells, without --stride"),
    (("special",), False, ("than",), "is for a pair, without --than"),
    (("cover_with",), True, COVERS, "needs --cover1 or --cover2"),
    (("save_pairwise",), True, ("save_maps",), "needs --save-maps to be written to"),
    (("figure_style",), True, ("figure",), "needs --figure to be written to"),
    (("pairs",), False, ("against",), "there is --against too, give one of them"),
    (("pairs",), False, ("images",), "the file names all images, but there are others too"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What the program is asked for."""

    images: tuple = option(
        "two image files; none for an example pair", "IMAGE", default=(), flags=(), nargs="*"
    )
    than: str | None = option(THAN, "IMAGE3")
    cover1: Region = option(COVERED.format(1), BOX, group="cover-up test")
    cover2: Region = option(COVERED.format(2), BOX)
    cover_with: str = option(FILLED, default="mean", choices=FILLINGS)
    pairs: str | None = option("two columns of paths in a file", "FILE.csv", group="many pairs")
    against: str | None = option(AGAINST, "FOLDER")
    batch_size: int | None = option("images at once in the network (default: 1)", "N")
    no_pictures: bool = option("write scores.csv and index.html alone", default=False)
    output: Path | None = option(PICTURE, "PATH", group="files")
    save_maps: Path | bool | None = option(MAPS, "FILE.npz", nargs="?", const=True)
    save_pairwise: bool = option("with --save-maps: the pairwise tensor too", default=False)
    figure: Path | None = option(f"a figure for a paper, {', '.join(FIGURE_FORMATS)}", "FILE")
    figure_style: str = option(STYLE, default="screen", choices=FIGURE_STYLES)
    html: Path | None = option("a page to explore the pair in a browser", "FILE.html")
    plain: bool = option("leave the legend off, as it is off many pairs' pictures", default=False)
    network: cli.NetworkOptions
    method: Method
    look: Look

    def __post_init__(self):
        cli.check_batch_size(self.batch_size)

    @property
    def is_many(self):
        return self.pairs is not None or self.against is not None

    @property
    def written(self):
        """The paths of the files that are written for a pair."""
        return [each for each in (self.output, self.save_maps, self.figure, self.html) if each]

    def settings(self, network):
        """Return what is written beside the maps, see `maps.settings_of`."""
        options = self.network.options
        return settings_of(network, self.method, self.look, options, self.save_pairwise)


def parse(argv):
    """Return the `Task` that the arguments ask for, checked but for what the images decide."""
    words = "Show which regions of two images make a network call them similar."
    parser = cli.OneLineParser(PROGRAM, description=words)
    cli.add_options(parser, Task)
    typed = vars(parser.parse_args(argv))
    check_together(typed)
    if "than" in typed:
        typed["normalize"] = "zero"  # a difference is drawn with zero in the middle
    task = cli.fill(Task, {"network": "imagenet", **typed})
    if task.is_many:
        if task.pairs:
            folder = f"{Path(task.pairs).stem}_similarity"
        else:
            name = Path(task.against).resolve().name
            folder = f"{Path(task.images[0]).stem}_against_{name}_similarity"
        output = Path(plain(task.output or folder))
        cli.check_folder("output", output)
        return replace(task, output=output)
    images = task.images or models.example_pair(task.network.network) or EXAMPLE_PAIR
    images = [*map(str, images), *([task.than] if task.than else [])]
    files = {"output": "_".join([*(Path(image).stem for image in images), "similarity.png"])}
    files |= {name: typed[name] for name in ENDINGS if name in typed}
    files = {name: Path(plain(path)) for name, path in files.items()}
    read = [value for name, value in typed.items() if name not in files and type(value) is str]
    cli.check_files(files, ENDINGS, [*images, *read])
    return replace(task, images=tuple(images), **files)


def check_together(typed):
    """Raise a ValueError if options that were typed, a dict by names, do not go together."""
    for names, together, others, words in RULES:
        for name in names:
            if name in typed and together != any(other in typed for other in others):
                raise ValueError(f"{name}: {words}")
    images, many = typed.get("images", []), "pairs" in typed or "against" in typed
    if "against" in typed and len(images) != 1:
        raise ValueError(f"against: expected one image, got {images}")
    if not many and len(images) not in (0, 2):
        raise ValueError(f"expected two images, or none for the example, got {images}")
    if many and typed.get("save_maps", True) is not True:
        raise ValueError("save_maps: with many pairs it takes no name, the maps lie in --output")
    if not many and typed.get("save_maps") is True:
        raise ValueError("save_maps: expected the name of a file, FILE.npz")


if __name__ == "__main__":
    interruption.raise_again()
    sys.exit(main())
