"""What a search found: hits with the maps that say why, a contact sheet, a table and a page."""

import csv
import io
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simvis import image_ops
from simvis.batch.pipeline import prefetch
from simvis.batch.records import as_text
from simvis.files import RESULTS, one_line
from simvis.gallery.copies import fold
from simvis.gallery.unusual import LINE, count_unusual, percentile, percentile_words
from simvis.image_ops import write_whole
from simvis.maps import Method, PairMaps, find_maps, network_words, see
from simvis.overlay import Look, mark, overlay
from simvis.plotting.contact_sheet import contact_sheet
from simvis.similarity_ops import best_box, local_features, strongest_part

FIELDS = ("rank", "path", "similarity", "whole_similarity", "x0", "y0", "x1", "y1", "note")
FIELDS += ("label", "percentile", "copy_of")
SHEET, TABLE = sorted(RESULTS[0])
OVERLAY = "hit_{:02d}.jpg"
ALIKE = 0.99999  # the cosine, at the least, of two whole images that are one picture
EXPLAINED = ("pooling", "projection", "power", "explain")  # of a network, for the explorer
REACH = 12  # pixels of the network's input, over which fine maps are evened out for a box
READ = 8  # images that are read ahead of the network


@dataclass(frozen=True, eq=False, repr=False)
class Hit:
    """An image that a search found, and why."""

    rank: int  # 1 being the best
    path: str  # in the folder of images
    similarity: float  # the cosine of the query, or of its part, with the whole image
    part_similarity: float | None = None  # that with the best box, if hits are ordered by it
    whole_similarity: float | None = None  # that of both whole images
    # (x0, y0, x1, y1) in pixels, around the map's `strongest_part`, or the `best_box`
    box: tuple | None = None
    note: str = ""  # what else there is to say, as why there is no map
    image: np.ndarray | None = None  # uint8 (H, W, 3)
    map: np.ndarray | None = None  # float64 (h, w), which sums to the similarity
    look: Look | None = None  # of the overlay
    maps: PairMaps | None = None  # of the query and the hit
    label: str | None = None
    # how many in 100 random pairs of the gallery's images are less similar than the query's whole
    # or part and the whole hit; None if nobody knows, and if hits are ordered by their best part
    percentile: float | None = None
    contents: str = ""  # SHA-256 of the file, when it was indexed
    copies: tuple = ()  # paths of other hits that are the same picture, if these are folded into it

    @property
    def score(self):
        """What hits are ordered by."""
        return self.similarity if self.part_similarity is None else self.part_similarity

    @cached_property
    def overlay(self):
        """The map over the image, uint8 (H, W, 3), or None."""
        if self.map is None:
            return None
        _, (laid,), _ = overlay([self.image], [self.map], self.look, [1 / self.map.size])
        return laid

    def marked(self):
        """Return the overlay with the box drawn on it, uint8 (H, W, 3), or None."""
        if self.overlay is None:
            return None
        return mark(self.overlay, self.box, None, self.image.shape[:2])

    def notes(self):
        """Return what there is to say of it, a tuple of str."""
        notes = [self.note, f"label {self.label}" if self.label else ""]
        if count := len(self.copies):
            notes.append(f"{count} cop{'ies' if count > 1 else 'y'}: {', '.join(self.copies)}")
        return tuple(filter(None, (*notes, percentile_words(self.percentile))))

    def __repr__(self):
        note = f", {self.note}" if self.note else ""
        return f"Hit({self.rank}, {self.path!r}, {self.similarity:.4f}{note})"


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """What a search found."""

    hits: list  # of Hit, best first
    query: np.ndarray  # uint8 (H, W, 3)
    name: str  # of the query
    network: object  # EmbeddingNetwork
    images: int  # how many were searched
    method: Method  # that the maps were made with
    like: tuple = ()  # paths of hits that were right, and of those that were wrong
    unlike: tuple = ()

    def folded(self):
        """Return the hits without copies of each other, which are named in ``copies``."""
        return fold(self.hits)

    @property
    def region(self):
        """None, a box or a mask: the part that was searched with."""
        return self.method.region1

    def __repr__(self):
        found = f"{len(self.hits)} of {self.images:,} images"
        return f"SearchResult({found}, {self.network.name} network)"

    def picture(self):
        """Return the contact sheet, uint8 (H, W, 3): the query and the hits' overlays."""
        cells = [
            (hit.marked(), f"{hit.rank}   {hit.score:.4f}", hit.path, ", ".join(hit.notes()))
            for hit in self.folded()
        ]
        return contact_sheet(self.marked_query(), Path(self.name).name, self.words(), cells)

    def words(self):
        part = "" if self.region is None else "its marked part "
        if self.like or self.unlike:
            part = f"more like {len(self.like)} and less like {len(self.unlike)} marked images, "
        return f"{part}against {self.images:,} images; {network_words(self.network, self.method)}"

    def save(self, folder):
        """Write the contact sheet, the hits' overlays and results.csv into a folder.

        Raises a ValueError if it holds other things than what an earlier search left there.
        """
        folder = Path(folder)
        check_results_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if _is_ours(old.name):
                old.unlink()
        # the table first: what is with it is ours
        write_whole(folder / TABLE, lambda file: file.write(self.table()))
        for name, picture in self.pictures():
            image_ops.save_image(folder / name, picture)

    def pictures(self):
        """Yield the name and the uint8 (H, W, 3) pixels of each hit's overlay, and of the sheet."""
        for hit in self.hits:
            if hit.overlay is not None:
                yield OVERLAY.format(hit.rank), hit.marked()
        yield SHEET, self.picture()

    def save_page(self, path):
        """Write a page of the query and its hits, to look at in any browser."""
        content = self.page()
        write_whole(path, lambda file: file.write(content))

    def page(self):
        """Return the file that `save_page` writes, as bytes."""
        from simvis.pages.cards import Card, cards_page

        folded = self.folded()
        cards = [
            Card(
                hit.path,
                hit.score,
                *(hit.image, hit.overlay, hit.box),
                notes=hit.notes(),
                pair=hit.maps and self.explorer(hit),
                rank=hit.rank,
            )
            for hit in folded
        ]
        query = Card(Path(self.name).name, None, self.marked_query())
        title, count = "What looks like this?", count_unusual(folded)
        line = None if count is None else (count, LINE)
        return cards_page(cards, title=title, words=self.words(), query=query, line=line)

    def explorer(self, hit):
        """Return what the explorer of the query and a hit is made from."""
        images, names = (self.query, hit.image), (Path(self.name).name, hit.path)
        return explorer_of(self.network, images, hit.maps, names, self.region)

    def marked_query(self):
        """Return the query with its region outlined, uint8 (H, W, 3)."""
        return mark(self.query, self.region, None, self.query.shape[:2])

    def table(self):
        """Return results.csv, as bytes."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(FIELDS)
        copies = {path: hit.path for hit in self.folded() for path in hit.copies}
        for hit in self.hits:
            whole = "" if hit.whole_similarity is None else f"{hit.whole_similarity:.6f}"
            box = [""] * 4 if hit.box is None else [f"{edge:.1f}" for edge in hit.box]
            path, note = as_text(hit.path), as_text(hit.note)
            percent = "" if hit.percentile is None else f"{hit.percentile:.1f}"
            label, copy = as_text(hit.label or ""), as_text(copies.get(hit.path, ""))
            score = f"{hit.score:.6f}"
            writer.writerow((hit.rank, path, score, whole, *box, note, label, percent, copy))
        return text.getvalue().encode("utf-8")

    def _repr_html_(self):
        from simvis.pair import notebook_view

        return notebook_view(self.picture(), self.words())


def explorer_of(network, images, maps, names, region=None):
    """Return what the explorer of two images is made from, see `pages.explorer.explorer_data`."""
    convs, fine = (maps.conv1, maps.conv2), (maps.similarity1, maps.similarity2)
    if maps.conv1 is None:  # the page needs more than the maps did
        convs = network.activations(network.preprocess(images))
    return {
        **{"image1": images[0], "image2": images[1], "conv1": convs[0], "conv2": convs[1]},
        **{name: getattr(network, name) for name in EXPLAINED},
        "regions": (region, None),
        "names": names,
        "network": f"{network.name}: {network.description}",
        "fine": None if fine[0].shape == convs[0].shape[:2] else fine,
    }


class Query(NamedTuple):
    """What is searched with, and what the network made of it."""

    pixels: np.ndarray  # uint8 (H, W, 3)
    vector: np.ndarray  # (D,), the embedding
    method: Method  # its region1 is the part of the image that is searched with
    seen: tuple  # float32 (h, w, C) and the network's own embedding, or None, see `maps.see`


def run_query(
    network, pixels, region=None, point=None, ignore=None, by_part=False, known=None, **fine
):
    """Run an image, uint8 (H, W, 3), through the network, once; return the `Query` that it makes.

    With ``by_part``, hits will be ordered by their best box.  ``known``, a dict, keeps what the
    network made of the image for other queries with it, and ``fine`` are the stride and the
    reference of a `Method`.  Raises a ValueError if the network sees nothing in the image, its
    region or its point, if nothing is left of it, or if it has no fine maps of this kind.
    """
    # boxes need all of the local features, and so does a part of the image
    whole = region is point is ignore is None and not by_part
    known, needed = {} if known is None else known, not (network.derived and whole)
    if needed not in known:
        method = Method(region1=region, point1=point, ignore1=ignore)
        known[needed] = see(network.preprocess([pixels]), network, method, by_part)
    convs, embeddings = known[needed]
    weights, size = None, pixels.shape[:2]
    if point is not None:
        region = image_ops.box_of_point(point, size, convs[0].shape[:2])
    if ignore is not None:
        region = image_ops.region_without(region, ignore, size)
    if region is not None:
        weights = image_ops.region_weights(region, size, convs[0].shape[:2])
    own = None if embeddings is None else embeddings[0]
    vector = own if weights is None and own is not None else network.pooled(convs[0], weights)
    if not np.any(vector) or not np.isfinite(vector).all():
        raise ValueError("the network sees nothing there: the embedding is zero, or not finite")
    conv = None if convs is None else convs[0]
    query = Query(pixels, vector, Method(region1=region, **fine), (conv, own))
    if any(value is not None for value in fine.values()):  # else each hit would say what is wrong
        seen = [None if conv is None else (conv, conv), (own, own)]
        find_maps((pixels, pixels), network, query.method, ("the query", "itself"), seen=seen)
    return query


def look_at(rows, images, query, network, look=None, by_part=False, pairs=()):
    """Return what a search found, a list of (table.Row, similarity), as `Hit` objects, best first.

    ``images`` is the ImageFolder that they lie in, ``look`` None or the Look of their overlays.
    With ``by_part``, they are ordered by their best box instead of by their whole.  ``pairs`` are
    the gallery's `unusual.pair_quantiles`.
    """

    def load(found):
        row, _ = found
        try:
            image, contents = images.load(row.path)
        except (ValueError, OSError, MemoryError) as error:
            return None, one_line(error)
        if contents != row.contents:
            return None, "it has changed since it was indexed, index the folder again"
        return image, ""

    hits = []
    for (row, similarity), (image, note) in zip(rows, prefetch(load, rows, READ), strict=True):
        hit = Hit(0, row.path, float(similarity), note=note, label=row.label, contents=row.contents)
        if image is not None:
            hit = replace(hit, image=image, look=look or Look())
            convs, embeddings = see(network.preprocess([image]), network, query.method, by_part)
            conv, own = (None if each is None else each[0] for each in (convs, embeddings))
            seen = [None if conv is None else (query.seen[0], conv), (query.seen[1], own)]
            hit = _explained(hit, query, seen, network)
            own = network.pooled(conv) if own is None else own
            own = np.asarray(own, np.float64)
            away = np.linalg.norm(own / np.linalg.norm(own) - row.embedding)
            if not max(away, abs(hit.similarity - similarity)) <= network.tolerance:
                hit = replace(hit, note="the gallery holds another embedding than the network's")
            if by_part and hit.map is not None:
                hit = _with_best_box(hit, conv, query.vector, network)
        if not by_part and query.method.target is None:
            hit = replace(hit, percentile=percentile(hit.similarity, pairs))
        hits.append(hit)
    hits.sort(key=lambda hit: -hit.score)
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]


def _explained(hit, query, seen, network):
    """Return a hit with its map and box, given what the network made of the query and of it."""
    images, names = (query.pixels, hit.image), ("the query", hit.path)
    try:
        maps = find_maps(images, network, query.method, names, seen=seen)
    except ValueError as error:
        return replace(hit, note=one_line(error))
    evened = _evened(maps.similarity2, REACH // (query.method.stride or REACH + 1))
    return replace(
        hit,
        similarity=maps.similarity if query.method.target is None else maps.sums[1],
        whole_similarity=maps.whole_similarity,
        box=image_ops.box_of_cells(strongest_part(evened), hit.image.shape[:2]),
        note="the query itself" if maps.whole_similarity >= ALIKE else "",
        map=maps.similarity2,
        maps=maps,
    )


def _evened(similarity, reach):
    """Return the mean of each cell of a map and those within reach, so that no single one leads."""
    windows = np.pad(similarity, reach, mode="edge")
    sides = 2 * reach + 1, 2 * reach + 1
    return np.lib.stride_tricks.sliding_window_view(windows, sides).mean(axis=(2, 3))


def _with_best_box(hit, conv, vector, network):
    """Return a hit with the box of it that looks most like what was searched with."""
    local = local_of(conv, network)
    similarity, (y0, x0, y1, x1) = best_box(local, vector)
    cells = np.zeros(local.shape[:2], bool)
    cells[y0:y1, x0:x1] = True
    box = image_ops.box_of_cells(cells, hit.image.shape[:2])
    return replace(hit, part_similarity=similarity, box=box)


def local_of(conv, network):
    """Return the local features (h, w, D) of activations, as the network explains them."""
    return local_features(
        conv,
        network.pooling,
        projection=network.projection if network.explain == "head" else None,
        power=network.power,
        data_format="channels_last",
    )


def check_results_folder(folder):
    """Raise a ValueError unless a folder is new, empty, or holds what an earlier search left."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        others = sorted(name for name in names if not _is_ours(name))
        if others or (names and TABLE not in names):
            raise ValueError(
                f"output: {folder} holds other files ({', '.join(others or sorted(names))[:100]}), "
                "name a new folder"
            )


def _is_ours(name):
    return name in (TABLE, SHEET) or bool(re.fullmatch(r"hit_\d{2,}\.jpg", name))
