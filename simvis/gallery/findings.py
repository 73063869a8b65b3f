"""What is wrong with images and their labels: where the network errs, and faults of the data."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from simvis.batch.pipeline import prefetch
from simvis.files import one_line
from simvis.gallery.copies import are_copies, thumbnail
from simvis.overlay import Look
from simvis.triplet import TripletVisualization, compare

FALSE, MISSED, FAR = "false match", "missed match", "far from its label"
EQUAL, NEAR = "equal files", "near copies"
BACKGROUND, BORDER = "background", "border"
WORDS = {  # of each kind of finding
    FALSE: "another label is nearer than any image of its own",
    MISSED: "another label is nearer than this image of its own",
    EQUAL: "one file under two labels",
    NEAR: "one picture under two labels",
    FAR: "its nearest own is as far away as the nearest of other labels: is the label right?",
    BACKGROUND: "most of its label's maps lies off the masks",
    BORDER: "more of its label's maps lies on the border than the border has of the images",
}
KINDS = tuple(WORDS)
CANDIDATES = 200  # pairs of two labels, the most similar ones, that may be near copies
READ = 8  # images that are read ahead


class Labelled(NamedTuple):
    """Images that have labels."""

    paths: np.ndarray  # (N,) of str, in the folder of images
    labels: np.ndarray  # (N,) of str
    contents: np.ndarray  # (N,) of str, SHA-256
    masks: np.ndarray  # (N,) of str or None, paths of masks that were named
    embeddings: np.ndarray  # float32 (N, D), of unit length

    def load(self, images, i):
        """Return an image, uint8 (H, W, 3), that must be the one that was indexed."""
        image, contents = images.load(self.paths[i])
        if contents != self.contents[i]:
            raise ValueError(f"{self.paths[i]}: it has changed, index the folder again")
        return image


@dataclass(frozen=True, eq=False, repr=False)
class Finding:
    """What an audit has found of up to three images."""

    kind: str  # one of KINDS
    query: str  # path of the image in question
    wrong: str | None = None  # path of one of another label
    right: str | None = None  # path of one of the query's label
    labels: tuple = ()  # of query, wrong and right
    similarities: tuple = (None, None)  # of the query with wrong and right
    share: float | None = None  # of its label's maps that lies on the masks, or on the border
    note: str = ""  # why there is no map, if there could be one
    images: tuple = ()  # uint8 (H, W, 3), of these paths
    overlay: np.ndarray | None = None  # uint8 (H, W, 3), of the images side by side
    triplet: TripletVisualization | None = None  # why wrong is nearer to query than right is
    numbers: tuple = ()  # of query, wrong and right among the images

    @property
    def paths(self):
        return tuple(path for path in (self.query, self.wrong, self.right) if path is not None)

    def notes(self):
        """Return what there is to say of its images but the query, a list of str."""
        named = zip((self.wrong, self.right), self.labels[1:], self.similarities, strict=True)
        parts = [
            path if similarity is None else f"{similarity:.4f} with {path} ({label})"
            for path, label, similarity in named
            if path is not None
        ]
        return [*parts, self.note] if self.note else parts

    def __repr__(self):
        return f"Finding({', '.join((f'{self.kind}: {self.query}', *self.notes()))})"


def find_findings(data, near, images, top):
    """Return the findings of up to top images of each kind, without pictures.

    Parameters
    ----------
    data : Labelled
    near : `figures.Neighbours` of them
    images : ImageFolder
    top : int
    """
    if not top:
        return []
    copies = [*_equal_files(data), *_near_copies(data, near, images)]
    same = {frozenset(each.numbers[:2]) for each in copies}
    equal = [each for each in copies if each.kind == EQUAL][:top]
    alike = [each for each in copies if each.kind == NEAR][:top]
    both = (near.own >= 0) & (near.stranger >= 0)
    # that a copy is near is no error of the network's
    both &= [frozenset(pair) not in same for pair in enumerate(near.stranger)]
    false, missed, far = (
        _worst(kind, data, near, np.flatnonzero(both & chosen), right, to_right, top, once)
        for kind, chosen, right, to_right, once in (
            (FALSE, near.to_stranger > near.to_own, near.own, near.to_own, "wrong"),
            (MISSED, near.to_stranger > near.to_farthest, near.farthest, near.to_farthest, "right"),
            (FAR, near.to_own < np.median(near.to_stranger), near.own, near.to_own, "query"),
        )
    )
    return [*false, *missed, *equal, *alike, *far]


def explain(finding, data, images, network, method):
    """Return a finding with its images, and, if there are three, with the maps of a Method."""
    numbers = [i for i in finding.numbers if i is not None]
    names = [str(data.paths[i]) for i in numbers]
    try:
        pictures = tuple(data.load(images, i) for i in numbers)
        if len(pictures) < 3:
            return replace(finding, images=pictures)
        triplet = compare(pictures, network, method, Look(normalize="zero"), names)
    except (ValueError, OSError, MemoryError) as error:
        if str(error).startswith("stride: "):  # which is not the fault of these images
            raise
        return replace(finding, note=one_line(error))
    return replace(finding, images=pictures, overlay=triplet.picture(), triplet=triplet)


def made(kind, data, query, wrong=None, right=None, **fields):
    """Return a Finding of images by their numbers."""
    numbers = query, wrong, right
    paths, labels = (
        [None if i is None else str(of[i]) for i in numbers] for of in (data.paths, data.labels)
    )
    similarities = tuple(
        None if i is None else float(data.embeddings[query] @ data.embeddings[i])
        for i in numbers[1:]
    )
    return Finding(kind, *paths, tuple(labels), similarities, numbers=numbers, **fields)


def _worst(kind, data, near, queries, right, to_right, top, once):
    """Return findings of queries, first those whose nearest stranger is nearest before right.

    No image is twice what ``once`` says: the query, or wrong or right.
    """
    margins, found, seen = near.to_stranger - to_right, [], set()
    for query in queries[np.argsort(-margins[queries], kind="stable")]:
        numbers = {"query": query, "wrong": near.stranger[query], "right": right[query]}
        pair = frozenset((query, numbers["right" if once == "right" else "wrong"]))
        if len(found) == top:
            break
        if numbers[once] not in seen and pair not in seen:
            seen |= {numbers[once], pair}
            found.append(made(kind, data, *map(int, numbers.values())))
    return found


def _equal_files(data):
    """Return findings of files that are equal but for their labels."""
    order, found = np.argsort(data.contents, kind="stable"), []
    for i, j in zip(order, order[1:], strict=False):
        if data.contents[i] == data.contents[j] != "" and data.labels[i] != data.labels[j]:
            found.append(made(EQUAL, data, int(i), int(j)))
    return found


def _near_copies(data, near, images):
    """Return findings of pictures that are the same but for their labels."""
    queries = np.argsort(-near.to_stranger, kind="stable")
    pairs = dict.fromkeys(tuple(sorted((int(i), int(near.stranger[i])))) for i in queries)
    pairs = [(i, j) for i, j in pairs if data.contents[i] != data.contents[j]][:CANDIDATES]
    numbers = sorted({i for pair in pairs for i in pair})

    def small(i):
        try:
            return thumbnail(data.load(images, i))
        except (ValueError, OSError, MemoryError):
            return np.full(1, np.nan)  # which is a copy of none

    small = dict(zip(numbers, prefetch(small, numbers, READ, images.readers), strict=True))
    return [made(NEAR, data, *pair) for pair in pairs if are_copies(small[pair[0]], small[pair[1]])]
