"""Index a folder of images, and search it with an image, an object in one or a point.

python search_gallery.py index FOLDER
python search_gallery.py find IMAGE --region X0,Y0,X1,Y1
python search_gallery.py serve
"""

import os
import sys

from simvis import interruption

if __name__ == "__main__":  # during the imports below, which take a second
    interruption.end_in_one_line("search_gallery.py")

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simvis import cli
from simvis.files import plain
from simvis.gallery.audit import AUDIT, BY_LABEL, check_audit_folder
from simvis.gallery.findings import WORDS
from simvis.gallery.gallery import MOST, Gallery
from simvis.gallery.labels import SOURCES
from simvis.gallery.results import SHEET, TABLE, check_results_folder
from simvis.gallery.table import needs
from simvis.gallery.unusual import LINE, count_unusual
from simvis.image_ops import IMAGE_ENDINGS
from simvis.maps import (
    BOX,
    FINE,
    POINT,
    REFERENCE,
    REFERENCE_FORM,
    STRIDE,
    Embedding,
    Region,
    check_number,
    option,
)
from simvis.overlay import Look

PROGRAM = "search_gallery.py"
PART = "order the first N by their best box of cells instead, which finds small objects"
LIKE = "more like these images of the gallery, which were right hits, and not like --unlike"
PORT = 8765
HOST = "listen to this address, which other machines may reach (default: 127.0.0.1)"
LABELS = "of images: a CSV file with the columns path, label and, if there are any, mask"
FORCE = "also if more than half of the gallery's images would change or go"
EXCLUDE = "leave out what is named so, as '*.gif' or drafts; may be said again"
AGAIN = {"action": "append"}
SHOWN = 5  # of each kind of what an audit has found, at the shell
OUTPUT = "of the contact sheet, the overlays and results.csv (default: STEM_found)"


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
    return cli.run_program(PROGRAM, COMMANDS.values(), parse, lambda task: task.run(), argv)


def parse(argv):
    """Return the command that the arguments ask for, one of COMMANDS, checked."""
    words = "Search a folder of images with an image or a part of one, and see why."
    parser = cli.OneLineParser(PROGRAM, description=words)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, kind in COMMANDS.items():
        words = kind.__doc__.rstrip(".")
        cli.add_options(commands.add_parser(name, help=words, description=words), kind)
    typed = vars(parser.parse_args(argv))
    task = cli.fill(COMMANDS[typed["command"]], typed)
    if not isinstance(task, (Find, Audit)):
        return task
    output = task.output and Path(plain(task.output))
    if isinstance(task, Find):
        task = replace(task, image=Path(plain(task.image)))
        output = output or Path(f"{task.image.stem}_found")
        check_results_folder(output)
    elif output:
        check_audit_folder(output)
    if output:
        cli.check_folder("output", output)
    files = {"html": Path(plain(task.html))} if task.html else {}
    read = [value for name, value in typed.items() if name not in files and type(value) is str]
    cli.check_files(files, {"html": (".html", ".htm")}, read)
    return replace(task, output=output, **files)


@dataclass(frozen=True, kw_only=True, eq=False)
class Command:
    gallery: str = option(
        "a folder of its own, or a URI that Lance knows (default: gallery)", "GALLERY", "gallery"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkCommand(Command):
    network: cli.NetworkOptions
    method: Embedding

    def open(self, images=None):
        """Return the gallery, with the network and the options that are given."""
        options = self.network.options
        options |= {"power": self.method.power, "explain": self.method.explain}
        given = {name: value for name, value in options.items() if value}
        return Gallery(self.gallery, self.network.network, images=images, **given)


@dataclass(frozen=True, kw_only=True, eq=False)
class Index(NetworkCommand):
    """Take in what is new in a folder, drop what is gone."""

    folder: str = option(
        f"of images ({', '.join(IMAGE_ENDINGS)}); or a URI, as s3://bucket/photos",
        "FOLDER",
        flags=(),
    )
    batch_size: int | None = option("images at once in the network (default: 1)", "N")
    engine: str | None = option("run on a Ray cluster, or a local one", choices=("ray",))
    workers: int | None = option("of Ray (default: one for each core)", "N")
    force: bool = option(FORCE, default=False)
    labels: str | None = option(LABELS, "FILE.csv")
    labels_from: str | None = option("the names of folders instead", choices=SOURCES)
    images_from: str | None = option("a list of paths, one a line: of these images alone", "FILE")
    exclude: list = option(EXCLUDE, "PATTERN", (), **AGAIN)

    def __post_init__(self):
        cli.check_batch_size(self.batch_size)
        if self.workers is not None and self.engine != "ray":
            raise ValueError("workers: are Ray's, give --engine ray")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers: expected 1 or more, got {self.workers}")

    @cli.resumable()
    def run(self):
        gallery = self.open()
        how = {"batch_size": self.batch_size, "engine": self.engine, "workers": self.workers}
        how |= {"force": self.force, "labels": self.labels, "labels_from": self.labels_from}
        how |= {"images_from": self.images_from, "exclude": self.exclude}
        indexed = gallery.index(self.folder, **how)
        counts = {word: getattr(indexed, word) for word in ("new", "changed", "moved", "gone")}
        counts = [f"{count:,} {word}" for word, count in counts.items() if count]
        print(f"network     {gallery.info()['network']}")
        print(f"images      {indexed.images:,}, {', '.join(counts) or 'none of them new'}")
        cli.report_left_out(indexed.left_out)
        if indexed.labels:
            print(f"labels      {indexed.labels}")
        report_failed(indexed.failed)
        print(f"written     {gallery.path}")
        return 1 if indexed.failed else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Find(NetworkCommand):
    """Find what looks like an image, or like a part of it."""

    image: str = option("what to search with", "IMAGE", flags=())
    region: Region = option("only this part of it, in pixels", BOX)
    point: tuple | None = option("only what a cell of the network sees at this pixel", POINT)
    ignore: Region = option("leave this part of it out", BOX)
    like: list = option(LIKE, "PATH", (), nargs="+")
    unlike: list = option("images of the gallery that were wrong", "PATH", (), nargs="+")
    top: int = option(f"hits, 1 to {MOST} (default: 12)", "N", default=12)
    exact: bool = option("look at all images, without the index", default=False)
    rerank: int = option(PART, "N", default=0)
    stride: int | None = option(STRIDE, "N", also=FINE)
    reference: str | np.ndarray | None = option(REFERENCE, REFERENCE_FORM)
    label: list = option("only images with this label; may be said again", "LABEL", (), **AGAIN)
    not_label: list = option("none of those with this label", "LABEL", (), **AGAIN)
    images: str | None = option("where the images are now, or the URI that they are at", "FOLDER")
    output: Path | None = option(OUTPUT, "FOLDER")
    html: Path | None = option("a page to look at the hits in a browser", "FILE.html")
    look: Look

    def run(self):
        how = {"exact": self.exact, "rerank": self.rerank, "look": self.look}
        how |= {"ignore": self.ignore, "like": self.like, "unlike": self.unlike}
        how |= {"stride": self.stride, "reference": self.reference}
        how |= {"label": self.label, "not_label": self.not_label}
        gallery = self.open(self.images)
        found = gallery.find(self.image, self.region, self.point, self.top, **how)
        cli.write_all(
            {self.output: found.save} | ({self.html: found.save_page} if self.html else {})
        )
        print(f"network     {found.network.name}: {found.network.description}")
        print(f"searched    {found.images:,} images")
        cli.report_masks(region=self.region, ignore=self.ignore)
        folded = found.folded()
        unusual = count_unusual(folded)
        for number, hit in enumerate(folded):
            if number == unusual:
                print(f"{'-----':<11} {LINE}")
            words = ", ".join((hit.path, *hit.notes())).replace("\n", "\\n")
            print(f"{hit.rank:<11} {hit.score:.4f}  {words}")
        for name in (SHEET, TABLE):
            print(f"written     {self.output / name}")
        if self.html:
            print(f"written     {self.html}")
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Serve(NetworkCommand):
    """Search by hand in a browser, on this machine."""

    images: str | None = option("where the images are now, or the URI that they are at", "FOLDER")
    port: int = option(f"of its address, 0 for a free one (default: {PORT})", "N", PORT)
    host: str = option(HOST, "H", "127.0.0.1")
    no_browser: bool = option("do not open the page", default=False)

    def __post_init__(self):
        check_number("port", self.port, 0, 65535, "0 to 65535")

    def run(self):
        try:
            from simvis.serving.server import make_server, open_browser
        except ImportError as error:
            raise ValueError(needs(error.name)) from None

        def tell():
            cli.tell_at_once(PROGRAM, f"serving     {address}\n")
            if not self.no_browser:
                open_browser(address)

        options = cli.typed_again(self.network) + cli.typed_again(self.method)
        options += ["--images", self.images] if self.images else []
        service, address = make_server(
            self.open(self.images), self.host, self.port, options=options, tell=tell
        )
        if self.host not in ("127.0.0.1", "localhost", "::1"):
            words = "whoever reaches it and has the token sees the gallery, over plain http"
            cli.complain(PROGRAM, f"warning: {self.host} is open to other machines: {words}")
        try:
            service.run()
        except (KeyboardInterrupt, SystemExit) as error:
            # Python would wait for its threads, which cannot be stopped, and take TensorFlow apart
            interrupted = isinstance(error, KeyboardInterrupt)
            cli.complain(PROGRAM, "interrupted" if interrupted else "terminated")
            os._exit(130 if interrupted else 143)
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit(NetworkCommand):
    """Say how well a network finds what has one label, why it errs, and which labels look wrong."""

    labels: str | None = option(LABELS, "FILE.csv")
    labels_from: str | None = option("the names of folders instead", choices=SOURCES)
    top: int = option("findings of each kind (default: 12)", "N", default=12)
    maps: int = option("images whose maps are measured (default: 200)", "N", default=200)
    stride: int | None = option(STRIDE, "N", also=FINE)
    images: str | None = option("where the images are now, or the URI that they are at", "FOLDER")
    output: Path | None = option(f"of {AUDIT} and {BY_LABEL} (default: nothing)", "FOLDER")
    html: Path | None = option("a page of the findings, to look at in a browser", "FILE.html")

    def run(self):
        how = {"labels": self.labels, "labels_from": self.labels_from, "stride": self.stride}
        found = self.open(self.images).audit(**how, top=self.top, maps=self.maps)
        writers = {self.output: found.save, self.html: found.save_page}
        cli.write_all({path: write for path, write in writers.items() if path})
        print(f"network     {found.network.name}: {found.network.description}")
        without = f", {found.unlabelled:,} without a label" * bool(found.unlabelled)
        print(f"audited     {len(found.paths):,} of {len(set(found.labels)):,} labels{without}")
        for name, (mean, low, high) in found.figures.items():
            print(f"{name:<11} {mean:.4f}  ({low:.4f} to {high:.4f})")
        imperfect = [each for each in found.by_label if each[2][-1] < 1]
        for label, count, values in imperfect[:SHOWN]:
            print(f"worst       {values[-1]:.4f}  MAP@R of {label}, {count:,} images")
        place, looks = found.attention.place, found.attention.by_label(found.labels)
        for label, count, share, area in looks[:SHOWN]:
            words = (
                f"{share:.0%} of the maps, {area:.0%} of the images, of {label}, {count:,} images"
            )
            print(f"on {place:<8} {words}")
        report_failed(found.attention.skipped)
        for kind, words in WORDS.items():
            these = [each for each in found.findings if each.kind == kind]
            if these:
                print(f"{kind}, {len(these)}: {words}")
            for each in these[:SHOWN]:
                line = ", ".join((f"{each.query} ({each.labels[0]})", *each.notes()))
                print(f"            {line}".replace("\n", "\\n"))
        for path in filter(None, (self.output, self.html)):
            print(f"written     {path}")
        return 0


class Info(Command):
    """Say what a gallery holds."""

    def run(self):
        info = Gallery(self.gallery).info()
        size = "{} x {}".format(*info["input_size"])
        words = f"{info['network']}, {info['pooling']} pooling, {info['explain']}, {size}"
        print(f"images      {info['images']:,}, of {info['folder']}")
        print(f"network     {words}")
        words = f"{info['dimension']} numbers each, {info['indexed']:,} of them in an index"
        words += ", made by " + " and ".join(info["engines"]) if info["engines"] else ""
        print(f"embeddings  {words}")
        if info["labels"]:
            print(f"labels      {info['labels']:,}, of {info['labelled']:,} images")
        print(f"on disk     {info['bytes'] / 1e6:,.1f} MB, {info['versions']:,} versions")
        report_failed(info["failed"], most=None)
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Remove(Command):
    """Take images out of a gallery, not off the disk."""

    paths: list = option("in the folder of images", "PATH", flags=(), nargs="+")

    def run(self):
        print(f"removed     {Gallery(self.gallery).remove(self.paths):,}")
        return 0


class Compact(Command):
    """Merge small files and delete old versions."""

    def run(self):
        gallery = Gallery(self.gallery)
        before = gallery.info()["bytes"]
        gallery.compact()
        after = gallery.info()["bytes"]
        print(f"on disk     {after / 1e6:,.1f} MB, before {before / 1e6:,.1f} MB")
        return 0


COMMANDS = {"index": Index, "find": Find, "serve": Serve, "audit": Audit, "info": Info}
COMMANDS |= {"remove": Remove, "compact": Compact}


def report_failed(failed, most=5):
    """Print which images have no embedding, and why."""
    if failed:
        print(f"failed      {len(failed):,}")
        for path, reason in sorted(failed.items())[:most]:
            print(f"            {reason if path in reason else f'{path}: {reason}'}")
        if most and len(failed) > most:
            print("            ... info lists them all")


if __name__ == "__main__":
    interruption.raise_again()
    sys.exit(main())
