"""What a search found: hits with the maps that say why, a contact sheet, a table and a page."""

import csv
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simvis import image_ops
from simvis.batch.pipeline import prefetch
from simvis.gallery.folder import RESULTS
from simvis.image_ops import write_whole
from simvis.maps import PairMaps, compute_maps, is_quicker_by_pairs, network_words, run_network
from simvis.overlay import Look, mark, overlay
from simvis.plotting.contact_sheet import contact_sheet
from simvis.similarity_ops import best_box, local_features, strongest_part

FIELDS = ("rank", "path", "similarity", "whole_similarity", "x0", "y0", "x1", "y1", "note")
SHEET, TABLE = sorted(RESULTS)
OVERLAY = "hit_{:02d}.jpg"
ALIKE = 0.99999  # the cosine, at the least, of two whole images that are one picture
READ = 8  # images that are read ahead of the network


@dataclass(frozen=True, eq=False, repr=False)
class Hit:
    """An image that a search found, and why.

    rank : int, 1 being the best
    path : str, in the folder of images
    similarity : float, the cosine of the query, or of its part, with the whole image
    part_similarity : None or float, that with the image's best box, where hits are ordered by it
    whole_similarity : None or float, that of both whole images
    box : None or (x0, y0, x1, y1) in pixels
        Around the strongest part of the map, see `similarity_ops.strongest_part`, or, where hits
        are ordered by it, the best box, see `similarity_ops.best_box`.
    note : str, what else there is to say, as why there is no map
    image, overlay : None or uint8 (H, W, 3) arrays
    maps : None or PairMaps, of the query and the hit
    """

    rank: int
    path: str
    similarity: float
    part_similarity: float | None = None
    whole_similarity: float | None = None
    box: tuple | None = None
    note: str = ""
    image: np.ndarray | None = None
    overlay: np.ndarray | None = None
    maps: PairMaps | None = None

    @property
    def score(self):
        """What hits are ordered by."""
        return self.similarity if self.part_similarity is None else self.part_similarity

    def marked(self):
        """Return the overlay with the box drawn on it, uint8 (H, W, 3), or None."""
        if self.overlay is None:
            return None
        return mark(self.overlay, self.box, None, self.image.shape[:2])

    def __repr__(self):
        note = f", {self.note}" if self.note else ""
        return f"Hit({self.rank}, {self.path!r}, {self.similarity:.4f}{note})"


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """What a search found.

    hits : list of Hit, best first
    query : uint8 (H, W, 3) array
    name : str, of the query
    region : None, a box or a mask: the part that was searched with
    network : EmbeddingNetwork
    images : int, how many images were searched
    method : Method, that the maps were made with
    """

    hits: list
    query: np.ndarray
    name: str
    network: object
    images: int
    method: object

    @property
    def region(self):
        return self.method.region1

    def __repr__(self):
        return (
            f"SearchResult({len(self.hits)} of {self.images:,} images, {self.network.name} network)"
        )

    def picture(self):
        """Return the contact sheet, uint8 (H, W, 3): the query and the hits' overlays."""
        cells = [
            (hit.marked(), f"{hit.rank}   {hit.score:.4f}", hit.path, hit.note) for hit in self.hits
        ]
        return contact_sheet(self._marked_query(), Path(self.name).name, self.words(), cells)

    def words(self):
        part = "" if self.region is None else "its marked part "
        return f"{part}against {self.images:,} images; {network_words(self.network, self.method)}"

    def save(self, folder):
        """Write the contact sheet, the hits' overlays and results.csv into a folder.

        Raises
        ------
        ValueError, OSError
            If the folder holds other things than what an earlier search left there.
        """
        folder = Path(folder)
        check_results_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if _is_ours(old.name):
                old.unlink()
        # the table first: what is with it is ours
        content = self._table().encode("utf-8")
        write_whole(folder / TABLE, lambda file: file.write(content))
        for hit in self.hits:
            if hit.overlay is not None:
                image_ops.save_image(folder / OVERLAY.format(hit.rank), hit.marked())
        image_ops.save_image(folder / SHEET, self.picture())

    def save_page(self, path):
        """Write a page of the query and its hits, to look at in any browser."""
        from simvis.pages.cards import Card, write_cards

        cards = [
            Card(
                name=hit.path,
                similarity=hit.score,
                image=hit.image,
                overlay=hit.overlay,
                box=hit.box,
                notes=(hit.note,) if hit.note else (),
                pair=hit.maps and self._explorer(hit),
            )
            for hit in self.hits
        ]
        query = Card(Path(self.name).name, None, self._marked_query())
        write_cards(path, cards, title="What looks like this?", words=self.words(), query=query)

    def _explorer(self, hit):
        """Return what the explorer of the query and a hit is made from."""
        network, convs = self.network, (hit.maps.conv1, hit.maps.conv2)
        if network.pair_forward:  # the page needs more of them than the maps did
            convs = network.activations(network.preprocess([self.query, hit.image]))
        return {
            "image1": self.query,
            "image2": hit.image,
            "conv1": convs[0],
            "conv2": convs[1],
            "pooling": network.pooling,
            "projection": network.projection,
            "power": network.power,
            "explain": network.explain,
            "regions": (self.region, None),
            "names": (Path(self.name).name, hit.path),
            "network": f"{network.name}: {network.description}",
        }

    def _marked_query(self):
        return mark(self.query, self.region, None, self.query.shape[:2])

    def _table(self):
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(FIELDS)
        for hit in self.hits:
            whole = "" if hit.whole_similarity is None else f"{hit.whole_similarity:.6f}"
            box = [""] * 4 if hit.box is None else [f"{edge:.1f}" for edge in hit.box]
            writer.writerow((hit.rank, hit.path, f"{hit.score:.6f}", whole, *box, hit.note))
        return text.getvalue()

    def _repr_html_(self):
        from simvis.pair import notebook_view

        return notebook_view(self.picture(), self.words())


def look_at(rows, images, query, vector, network, method, look=None, by_part=False):
    """Look at the images that a search found, and see why each is one.

    Parameters
    ----------
    rows : list of (Row, similarity), of a gallery's table
    images : ImageFolder
    query : uint8 (H, W, 3) array
    vector : (D,) array, the embedding that was searched with
    network : EmbeddingNetwork
    method : Method, its region1 being the part of the query that was searched with
    look : None or Look, of the overlays
    by_part : bool, order the hits by their best box instead of by their whole

    Returns
    -------
    hits : list of Hit, best first
    """
    # boxes need all of the local features
    by_pairs = not by_part and is_quicker_by_pairs(network, method)
    look = look or Look()

    def load(found):
        row, _ = found
        try:
            image, contents = images.load(row.path)
        except (ValueError, OSError, MemoryError) as error:
            return None, " ".join(str(error).split()) or "there is not enough memory for it"
        if contents != row.contents:
            return None, "it has changed since it was indexed, index the folder again"
        return image, ""

    def activations(*pixels):
        batch = network.preprocess(list(pixels))
        convs, embeddings = run_network(network, batch, method, by_pairs)
        return list(
            zip(convs, [None] * len(convs) if embeddings is None else embeddings, strict=True)
        )

    first = activations(query) if network.batch_independent and not by_pairs else None
    hits = []
    for (row, similarity), (image, note) in zip(rows, prefetch(load, rows, READ), strict=True):
        hit = Hit(0, row.path, float(similarity), note=note)
        if image is not None:
            pair = [*first, *activations(image)] if first else activations(query, image)
            hit = _explained(hit, pair, (query, image), network, method, look)
            if not abs(hit.similarity - similarity) <= network.tolerance:
                hit = replace(hit, note="the gallery holds another embedding than the network's")
            if by_part:
                hit = _with_best_box(hit, vector, network)
        hits.append(hit)
    hits.sort(key=lambda hit: -hit.score)
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]


def _explained(hit, pair, pixels, network, method, look):
    """Return a hit with its map, overlay and box."""
    (convs, embeddings), sizes = zip(*pair, strict=True), [image.shape[:2] for image in pixels]
    names = ("the query", hit.path)
    try:
        maps = compute_maps(convs, sizes, network, method, names, embeddings=embeddings)
    except ValueError as error:
        return replace(hit, note=" ".join(str(error).split()), image=pixels[1])
    shown, share = maps.similarity2, 1 / maps.similarity2.size
    _, (laid,), _ = overlay(pixels[1:], [shown], look, [share])
    box = image_ops.box_of_cells(strongest_part(shown), sizes[1])
    return replace(
        hit,
        similarity=maps.similarity,
        whole_similarity=maps.whole_similarity,
        box=box,
        note="the query itself" if maps.whole_similarity >= ALIKE else "",
        image=pixels[1],
        overlay=laid,
        maps=maps,
    )


def _with_best_box(hit, vector, network):
    """Return a hit with the box of it that looks most like what was searched with."""
    if hit.maps is None:
        return hit
    local = local_features(
        hit.maps.conv2,
        network.pooling,
        projection=network.projection if network.explain == "head" else None,
        power=network.power,
        data_format="channels_last",
    )
    similarity, (y0, x0, y1, x1) = best_box(local, vector)
    cells = np.zeros(local.shape[:2], bool)
    cells[y0:y1, x0:x1] = True
    return replace(
        hit, part_similarity=similarity, box=image_ops.box_of_cells(cells, hit.image.shape[:2])
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
