"""Index a folder of images, and search it with an image, an object in one or a point.

python search_gallery.py index FOLDER
python search_gallery.py find IMAGE --region X0,Y0,X1,Y1
"""

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # The imports below take a second, in which an interruption would end in a traceback.
    import os

    def stop(*_):
        os.write(2, b"search_gallery.py: interrupted\n")
        os._exit(130)

    signal.signal(signal.SIGINT, stop)

from pathlib import Path

from simvis.cli import (
    OneLineParser,
    add_embedding_options,
    add_look_options,
    add_network_options,
    check_file,
    check_files,
    check_folder,
    look_of,
    network_options,
    parse_point,
    parse_region,
    run_program,
)
from simvis.files import plain
from simvis.gallery.gallery import MOST, Gallery
from simvis.gallery.results import SHEET, TABLE, check_results_folder

PAGES = (".html", ".htm")


def main(argv=None):
    """Run the program; return its exit status.

    It is 0, or 1 if some images of a folder failed, or 2 if the input is at fault.

    Parameters
    ----------
    argv : list of str or None
        The arguments after the program's name; None for those of the shell.

    Examples
    --------
    >>> main(["find", "image.jpg", "--gallery", "nowhere"])
    2
    """

    def interrupted(arguments):
        return "; the same command goes on where it was" if arguments.run is run_index else ""

    return run_program(parser(), lambda arguments: arguments.run(arguments), argv, interrupted)


def run_index(arguments):
    if arguments.batch_size is not None and not 1 <= arguments.batch_size <= 256:
        raise ValueError(f"batch_size: expected 1 to 256 images, got {arguments.batch_size}")
    if arguments.workers is not None and arguments.engine != "ray":
        raise ValueError("workers: are Ray's, give --engine ray")
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"workers: expected 1 or more, got {arguments.workers}")
    gallery = gallery_of(arguments)
    indexed = gallery.index(
        arguments.folder,
        batch_size=arguments.batch_size,
        engine=arguments.engine,
        workers=arguments.workers,
    )
    counts = [
        f"{count:,} {word}"
        for word in ("new", "changed", "gone")
        if (count := getattr(indexed, word))
    ]
    print(f"network     {gallery.info()['network']}")
    print(f"images      {indexed.images:,}, {', '.join(counts) or 'none of them new'}")
    report_failed(indexed.failed)
    print(f"written     {gallery.path}")
    return 1 if indexed.failed else 0


def run_find(arguments):
    image = Path(plain(arguments.image))
    region = arguments.region and place(parse_region, "region", arguments.region)
    point = arguments.point and place(parse_point, "point", arguments.point)
    folder = Path(plain(arguments.output or f"{image.stem}_found"))
    check_folder("output", folder)
    check_results_folder(folder)
    files = {} if arguments.html is None else {"html": Path(plain(arguments.html))}
    for name, path in files.items():
        check_file(name, path, PAGES)
    check_files(files, {"html": PAGES}, [image, arguments.region, arguments.network])

    gallery = gallery_of(arguments)
    found = gallery.find(
        image,
        region,
        point,
        arguments.top,
        exact=arguments.exact,
        rerank=arguments.rerank,
        look=look_of(arguments),
    )
    found.save(folder)
    print(f"network     {found.network.name}: {found.network.description}")
    print(f"searched    {found.images:,} images")
    for hit in found.hits:
        note = f", {hit.note}" if hit.note else ""
        path = hit.path.replace("\n", "\\n")
        print(f"{hit.rank:<11} {hit.score:.4f}  {path}{note}")
    for name in (SHEET, TABLE):
        print(f"written     {folder / name}")
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save_page(path)
        print(f"written     {path}")
    return 0


def run_info(arguments):
    info = Gallery(arguments.gallery).info()
    print(f"images      {info['images']:,}, of {info['folder']}")
    size = "{} x {}".format(*info["input_size"])
    print(f"network     {info['network']}, {info['pooling']} pooling, {info['explain']}, {size}")
    print(f"embeddings  {info['dimension']} numbers each, {info['indexed']:,} of them in an index")
    print(f"on disk     {info['bytes'] / 1e6:,.1f} MB, {info['versions']:,} versions")
    report_failed(info["failed"], most=None)
    return 0


def run_remove(arguments):
    print(f"removed     {Gallery(arguments.gallery).remove(arguments.paths):,}")
    return 0


def run_compact(arguments):
    gallery = Gallery(arguments.gallery)
    before = gallery.info()["bytes"]
    gallery.compact()
    after = gallery.info()["bytes"]
    print(f"on disk     {after / 1e6:,.1f} MB, before {before / 1e6:,.1f} MB")
    return 0


def report_failed(failed, most=5):
    """Print which images have no embedding, and why."""
    if failed:
        print(f"failed      {len(failed):,}")
        for path, reason in sorted(failed.items())[:most]:
            print(f"            {reason if path in reason else f'{path}: {reason}'}")
        if most and len(failed) > most:
            print("            ... info lists them all")


def gallery_of(arguments):
    """Return the gallery that the arguments name, with the network that they name."""
    options = network_options(arguments)
    options |= {"power": arguments.power, "explain": arguments.explain}
    given = {name: value for name, value in options.items() if value}
    images = getattr(arguments, "images", None)
    return Gallery(arguments.gallery, arguments.network, images=images, **given)


def place(parse, name, text):
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


# --- arguments -----------------------------------------------------------------------------------


def parser():
    parser = OneLineParser(
        prog="search_gallery.py",
        description="Search a folder of images with an image or a part of one, and see why.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, words):
        added = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
        added.set_defaults(run=run)
        gallery = "a folder of its own, or a URI that Lance knows (default: gallery)"
        added.add_argument("--gallery", default="gallery", metavar="GALLERY", help=gallery)
        return added

    index = command("index", run_index, "take in what is new in a folder, drop what is gone")
    index.add_argument(
        "folder", metavar="FOLDER", help="of images; or a URI, as s3://bucket/photos"
    )
    add = index.add_argument
    add("--batch-size", type=int, metavar="N", help="images at once in the network (default: 1)")
    add("--engine", choices=("ray",), help="run on a Ray cluster, or a local one")
    add("--workers", type=int, metavar="N", help="of Ray (default: one for each core)")

    find = command("find", run_find, "find what looks like an image, or like a part of it")
    add = find.add_argument
    add("image", metavar="IMAGE", help="what to search with")
    add("--region", metavar="X0,Y0,X1,Y1|MASK.png", help="only this part of it, in pixels")
    add("--point", metavar="X,Y", help="only what a cell of the network sees at this pixel")
    add("--top", type=int, default=12, metavar="N", help=f"hits, 1 to {MOST} (default: 12)")
    add("--exact", action="store_true", help="look at all images, without the index")
    rerank = "order the first N by their best box of cells instead, which finds small objects"
    add("--rerank", type=int, default=0, metavar="N", help=rerank)
    add("--images", metavar="FOLDER", help="where the images are now, or the URI that they are at")
    output = "of the contact sheet, the overlays and results.csv (default: STEM_found)"
    add("--output", metavar="FOLDER", help=output)
    add("--html", metavar="FILE.html", help="a page to look at the hits in a browser")
    for each in (index, find):
        add_network_options(each, default=None)
        add_embedding_options(each)
    add_look_options(find)

    command("info", run_info, "say what a gallery holds")
    remove = command("remove", run_remove, "take images out of a gallery, not off the disk")
    remove.add_argument("paths", nargs="+", metavar="PATH", help="in the folder of images")
    command("compact", run_compact, "merge small files and delete old versions")
    return parser


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
