"""An audit of a gallery with labels: how well a network finds them, and why it errs."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simvis import image_ops
from simvis.batch.records import as_text
from simvis.files import one_line
from simvis.gallery.attention import Attention, measure
from simvis.gallery.figures import FIGURES, find_neighbours, with_intervals
from simvis.gallery.findings import BACKGROUND, BORDER, WORDS, explain, find_findings, made
from simvis.gallery.results import explorer_of
from simvis.image_ops import write_whole
from simvis.maps import Method, network_words
from simvis.overlay import Look, overlay

AUDIT, BY_LABEL = "audit.csv", "labels.csv"  # what an audit leaves in a folder
ROLES = "query", "wrong", "right"
COLUMNS = ("kind", *ROLES, *(f"{role}_label" for role in ROLES))
COLUMNS += ("wrong_similarity", "right_similarity", "share", "note")


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What an audit has found, of N images with labels.

    paths, labels : arrays of N str
    values : float64 (N, 5) array, the `figures.FIGURES` of each image as a query; NaN where no
        other image has its label
    figures : dict of the name of a figure to its mean, and the ends of its interval of 95 %, see
        `figures.with_intervals`
    by_label : list of (label, images, float64 (5,) array of means), by MAP@R, worst first
    findings : list of `findings.Finding`, in the order of KINDS, and of each kind worst first
    attention : `attention.Attention`, where the maps lie
    unlabelled : int, how many images without a label take no part
    network : EmbeddingNetwork
    """

    paths: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    figures: dict
    by_label: list
    findings: list
    attention: Attention
    unlabelled: int
    network: object

    def __repr__(self):
        counts = f"{len(self.paths):,} images of {len(set(self.labels)):,} labels"
        name, (mean, _, _) = next(iter(self.figures.items()))
        return f"Audit({counts}, {name} {mean:.4f}, {len(self.findings):,} findings)"

    def words(self):
        images = f"{len(self.paths):,} images of {len(set(self.labels)):,} labels"
        return f"{images}; {network_words(self.network, Method())}"

    def save(self, folder):
        """Write audit.csv, of the findings, and labels.csv into a folder.

        Raises a ValueError if it holds other things than what an earlier audit left there.
        """
        folder = Path(folder)
        check_audit_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        seen = {label: means for label, _, *means in self.attention.by_label(self.labels)}
        rows = [
            (label, count, *map(_digits, [*values, *seen.get(label, (None, None))]))
            for label, count, values in self.by_label
        ]
        _write_table(folder / BY_LABEL, ("label", "images", *FIGURES, "share", "area"), rows)
        rows = [
            (
                *(each.kind, each.query, each.wrong, each.right, *each.labels),
                *(*map(_digits, (*each.similarities, each.share)), each.note),
            )
            for each in self.findings
        ]
        _write_table(folder / AUDIT, COLUMNS, rows)

    def save_page(self, path):
        """Write a page of the figures, and of cards of the findings, which open their pairs."""
        from simvis.pages.cards import write_cards

        figures = [
            (name, f"{mean:.4f}", f"{low:.4f} to {high:.4f}")
            for name, (mean, low, high) in self.figures.items()
        ]
        labels = [
            (label, f"{count:,}", *(f"{value:.4f}" for value in values))
            for label, count, values in self.by_label
        ]
        looks = [
            (label, f"{count:,}", f"{share:.0%}", f"{area:.0%}")
            for label, count, share, area in self.attention.by_label(self.labels)
        ]
        place = self.attention.place
        on = f"of the maps on the {place}"
        tables = [
            ("Figures", ("figure", "mean", "95 % of samples of labels"), figures),
            ("By label, worst first", ("label", "images", *FIGURES), labels),
            ("Where the maps lie", ("label", "images", on, f"of the images is {place}"), looks),
        ]
        tables = [table for table in tables if table[2]]
        words = f"{self.words()}; from left to right: the image, the wrong one, the right one"
        cards = map(self._card, self.findings)
        write_cards(path, cards, title="Where does the network err?", words=words, tables=tables)

    def _card(self, each):
        from simvis.pages.cards import Card

        image, pair = None, None
        if each.images:
            image = np.hstack(image_ops.bring_to_one_height(list(each.images)))
        if each.triplet:
            maps, names = each.triplet.closer, (each.query, each.wrong)
            pair = explorer_of(self.network, each.images[:2], maps, names)
        notes = [*each.notes(), WORDS[each.kind]]
        if each.share is not None:
            notes = [f"{each.share:.0%} of the maps on the {self.attention.place}", *notes]
        card = Card(f"{each.query} ({each.labels[0]})", None, image, each.overlay)
        return card._replace(notes=notes, pair=pair, group=each.kind)


def audit_images(data, images, network, *, top=12, maps=200, stride=None, unlabelled=0):
    """Return the `Audit` of images with labels.

    Parameters
    ----------
    data : findings.Labelled
    images : ImageFolder, in which they lie
    network : EmbeddingNetwork, with which they were embedded
    top : int, findings of each kind, at the most
    maps : int, images of whose maps it is measured where they lie, at the most
    stride : None or int, of the maps that say why, see `visualize_pair`
    unlabelled : int, how many other images there are

    Raises a ValueError if there are not two labels.
    """
    method = Method(stride=stride)
    names, numbers = np.unique(data.labels, return_inverse=True)
    if len(names) < 2:
        words = f"the {len(numbers):,} images that have one have {len(names)}"
        raise ValueError(f"labels: expected two different ones or more, {words}")
    if len(names) == len(numbers):
        raise ValueError(
            "labels: no two images have the same one, so that there is nothing to find"
        )
    near = find_neighbours(data.embeddings, numbers)
    attention = measure(data, near, images, network, maps)
    findings = [
        explain(each, data, images, network, method)
        for each in find_findings(data, near, images, top)
    ]
    findings += _inattentive(attention, data, near, images, top)
    counts, means = np.bincount(numbers), []
    for column in near.values.T:
        asked = ~np.isnan(column)
        with np.errstate(invalid="ignore"):
            sums = np.bincount(numbers[asked], column[asked], len(names))
            means.append(sums / np.bincount(numbers[asked], minlength=len(names)))
    by_label = [
        (str(names[i]), int(counts[i]), values)
        for i, values in enumerate(np.transpose(means))
        if counts[i] > 1
    ]
    intervals = with_intervals(near.values, numbers)
    return Audit(
        paths=data.paths,
        labels=data.labels,
        values=near.values,
        figures=dict(zip(FIGURES, map(tuple, intervals.tolist()), strict=True)),
        by_label=sorted(by_label, key=lambda each: (each[2][-1], each[0])),
        findings=findings,
        attention=attention,
        unlabelled=unlabelled,
        network=network,
    )


def _inattentive(attention, data, near, images, top):
    """Return findings of labels whose maps lie elsewhere than they should, with the worst image."""
    found = []
    for label, _, share, area in attention.by_label(data.labels):
        on_mask = attention.place == "mask"
        if len(found) == top or (share >= 0.5 if on_mask else share <= area):
            break
        worst = np.where(data.labels == label, attention.shares, np.nan)
        i = int(np.nanargmin(worst) if on_mask else np.nanargmax(worst))
        kind = BACKGROUND if on_mask else BORDER
        finding = made(kind, data, i, right=int(near.own[i]), share=share)
        try:
            pictures = tuple(data.load(images, n) for n in (i, near.own[i]))
            _, laid, _ = overlay(pictures, [attention.maps[i], None], Look(), [1, 1])
            laid = np.hstack(image_ops.bring_to_one_height(laid))
            finding = replace(finding, images=pictures, overlay=laid)
        except (ValueError, OSError, MemoryError) as error:
            finding = replace(finding, note=one_line(error))
        found.append(finding)
    return found


def check_audit_folder(folder):
    """Raise a ValueError unless a folder is new, empty, or holds what an earlier audit left."""
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - {AUDIT, BY_LABEL})
        if others:
            words = f"holds other files ({', '.join(others)[:100]}), name a new folder"
            raise ValueError(f"output: {folder} {words}")


def _digits(value):
    return None if value is None or np.isnan(value) else round(float(value), 6)


def _write_table(path, columns, rows):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([as_text(cell) if type(cell) is str else cell for cell in row] for row in rows)
    content = text.getvalue().encode("utf-8", "backslashreplace")
    write_whole(path, lambda file: file.write(content))
