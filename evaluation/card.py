"""A report card: what the maps of your network are worth on your photographs, without any masks.

python -m evaluation --network NAME|FILE --images FOLDER [--labels CSV | --labels-from folders]
"""

import csv
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from simvis import cli, image_ops
from simvis.files import left_out_words, list_images, no_image, plain
from simvis.image_ops import write_whole
from simvis.maps import check_whole, option
from simvis.models import load_network, start_tensorflow
from simvis.models.loading import AUTHORS

PROGRAM, PAGE, TABLE = "python -m evaluation", "card.html", "card.csv"
MOST = 200  # images that are looked at, drawn at random if there are more
OUTPUT = f"where {PAGE} and {TABLE} go (default: report_card)"
LABELS = "a table with columns image, a path in the folder, and label; others are left out"


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What a report card is asked for."""

    network: cli.NetworkOptions
    images: str = option("the photographs", "FOLDER")
    labels: str | None = option(LABELS, "CSV")
    labels_from: str | None = option("an image's label is its folder", choices=("folders",))
    pairs: int | None = option("at the most (default: up to 24, for some minutes)", "N")
    output: str = option(OUTPUT, "FOLDER", default="report_card")

    def __post_init__(self):
        if self.images is None:
            raise ValueError("images: name the folder of photographs")
        if self.labels and self.labels_from:
            raise ValueError("labels: there is labels-from, too, give one of them")
        if self.pairs is not None:
            check_whole("pairs", self.pairs, 1, 1000, "1 to 1000 of them")


def main(argv=None):
    """Run the program; return its exit status, 2 if the input is at fault.

    >>> main(["--images", "nowhere"])
    2
    """
    return cli.run_program(PROGRAM, [Request], parse, report, argv)


def parse(argv):
    """Return the `Request` that the arguments stand for, checked."""
    parser = cli.OneLineParser(PROGRAM, description=__doc__.partition("\n")[0])
    cli.add_options(parser, Request)
    request = cli.fill(Request, vars(parser.parse_args(argv)))
    network = replace(request.network, network=request.network.network or "imagenet")
    if network.network in AUTHORS:
        if network.batch_norm == "batch":
            raise ValueError("batch_norm: an image has no embedding of its own then, say moving")
        network = replace(network, batch_norm="moving")
    cli.check_folder("output", Path(plain(request.output)))
    return replace(request, network=network)


def report(request):
    """Measure, and write the page and the table; return the exit status."""
    folder, output = Path(request.images), Path(plain(request.output))
    files, labels, words = find_images(folder, request)
    start_tensorflow()
    network = request.network.load(graph=True)
    from evaluation import unmasked
    from evaluation.tables import csv_text
    from evaluation.verdict import judge, write_card

    def redrawn(share):
        redraw = partial(unmasked.redraw, share)
        return load_network(request.network.network, redraw=redraw, **request.network.options)

    paths = [folder / file for file in files]
    examined = unmasked.examine(network, paths, labels, request.pairs, redrawn)
    verdict = judge(examined.tables)
    pairs = f"{examined.pairs} pair{'s' * (examined.pairs > 1)}"
    about = f"{network.name}, {pairs} of {examined.images} images"
    output.mkdir(parents=True, exist_ok=True)
    text = csv_text(verdict.tables() | examined.tables).encode()
    files = {
        output / TABLE: lambda path: write_whole(path, lambda file: file.write(text)),
        output / PAGE: lambda path: write_card(path, about, verdict, examined),
    }
    cli.write_all(files)
    print(about, verdict, sep="\n")
    cli.report_left_out(words)
    if unseen := len(paths) - examined.images:
        print(f"unseen      {unseen} that cannot be read, or in which the network sees nothing")
    print(f"written     {', '.join(map(str, files))}")
    return 0


def find_images(folder, request):
    """Return the images of a folder, sorted, their labels or None, and what is left out, in words.

    Of more than MOST, whole labels are drawn at random until there are as many.
    """
    image_ops.check_no_stream(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"images: {folder}: no such folder")
    listed, left_out, unread = list_images(folder)
    files, words = sorted(listed), left_out_words(left_out, unread)
    if not files:
        raise ValueError(f"images: {no_image(folder, words)}")
    labels = None
    if request.labels:
        labels = read_labels(Path(request.labels), listed)
        files = [file for file in files if file in labels]
    elif request.labels_from:
        labels = {file: str(Path(file).parent) for file in files}
    if labels and max(Counter(labels.values()).values()) == 1:
        raise ValueError("labels: no two images have the same one")
    if len(files) > MOST:
        label_of = labels or {file: file for file in files}
        drawn = np.random.default_rng(0).permutation(sorted(set(label_of.values())))
        order = {label: number for number, label in enumerate(drawn)}
        files = sorted(sorted(files, key=lambda file: order[label_of[file]])[:MOST])
    return files, labels and [labels[file] for file in files], words


def read_labels(path, files):
    """Return a dict of images' paths to labels, of a CSV file with these two columns."""
    image_ops.check_no_stream(path)
    if not path.is_file():
        raise FileNotFoundError(f"labels: {path}: no such file")
    labels = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"image", "label"} <= set(reader.fieldnames or ()):
                raise ValueError("expected columns named image and label")
            for row in reader:
                image, label = plain(row["image"] or ""), (row["label"] or "").strip()
                if image not in files or not label:
                    what = "no label" if image in files else f"no such image in the folder: {image}"
                    raise ValueError(f"line {reader.line_num}: {what[:200]}")
                labels[image] = label
    except (ValueError, csv.Error) as error:
        raise ValueError(f"labels: {path}: {error}") from None
    if not labels:
        raise ValueError(f"labels: {path}: holds no image")
    return labels
