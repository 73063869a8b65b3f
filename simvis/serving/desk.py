"""What answers the pages: photographs kept in memory, rankings, maps and explorers."""

import hashlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import NamedTuple

import numpy as np

from simvis.gallery.copies import are_copies, thumbnail
from simvis.gallery.gallery import check_search
from simvis.gallery.results import Query, SearchResult, look_at, run_query
from simvis.gallery.table import EXACT
from simvis.gallery.unusual import LINE, UNUSUAL, percentile, percentile_words
from simvis.image_ops import decode_image
from simvis.maps import Method, see
from simvis.pages.explorer import explorer_data
from simvis.pages.page import small_jpeg
from simvis.serving.questions import places

# bytes of what is kept in memory; embeddings take up to those of photographs
ROOM = {"photos": 2**28, "answers": 2**28, "pictures": 2**25, "pixels": 2**27, "thumbnails": 2**23}
FINE = 8  # pixels of the network's input to a cell of a fine map
LABELS = 2000  # that a page offers
SMALL, LARGE = 480, 1280  # pixels of the longer side of a picture
PAGE = 48  # pictures of the gallery at once


class Gone(Exception):
    """A photograph, or a row, that is not kept any more."""


@dataclass(frozen=True, eq=False)
class Photo:
    """What is searched with, and what the network has made of it."""

    name: str
    pixels: np.ndarray  # uint8 (H, W, 3)
    known: dict = field(default_factory=dict)  # see `results.run_query`

    @property
    def cost(self):
        return self.pixels.nbytes + 2**21


class Answer(NamedTuple):
    """What was found for a `questions.Question`."""

    photo: Photo
    query: Query
    found: dict  # of path to (table.Row, similarity), best first
    searched: int
    region: object  # None, a box or a mask, as is
    ignore: object
    like: tuple  # paths
    unlike: tuple
    pairs: list  # `unusual.pair_quantiles`


class Desk:
    """Answers questions about a gallery with its network, one at a time but for `picture`.

    Parameters
    ----------
    gallery : Gallery
        It may change while it is searched; with another network, it is refused.
    """

    def __init__(self, gallery):
        self.gallery, now = gallery, gallery.open(graph=True)
        self.network, self.images = now.network, now.images
        self.photos, self.answers, self.pictures, self.pixels, self.thumbnails = map(
            Kept, ROOM.values()
        )
        self._embedded = None, None, None  # the state of the table, paths, embeddings
        self._rows, self._numbers, self._lock = [], {}, Lock()
        black = np.zeros((*self.network.input_size, 3), np.uint8)
        for region in (None, (0, 0, 9, 9)):  # what is compiled is compiled now
            see(self.network.preprocess([black]), self.network, Method(region1=region))

    def about(self):
        """Return what the page says of the gallery, a dict of plain values."""
        now = self.gallery.open()
        labels = {label for label, _ in now.table.labels().values() if label is not None}
        return {
            "gallery": self.gallery.path,
            "images": len(now.table),
            "labels": sorted(labels)[:LABELS],
            "network": f"{self.network.name}: {self.network.description}",
            "fine": self.network.contributions is not None,
        }

    def take(self, data, name):
        """Decode a photograph's file, keep it, and return what the page is to call it."""
        key = hashlib.sha256(data).hexdigest()
        if (photo := self.photos.get(key)) is None:
            photo = Photo(name, decode_image(data, "the photograph"))
        photo = replace(photo, name=name)  # which another page may have called otherwise
        self.photos.put(key, photo, photo.cost)
        height, width, _ = photo.pixels.shape
        return {"photo": key, "width": width, "height": height}

    def list(self, text, page):
        """Return a page of the gallery's pictures whose paths hold a text."""
        now = self.gallery.open()
        paths = now.table.paths(text)
        chosen = paths[page * PAGE : (page + 1) * PAGE].to_pylist()
        rows = now.table.rows(chosen)
        shown = [self._shown(rows[path]) for path in chosen if path in rows]
        return {"total": len(paths), "pages": -(-len(paths) // PAGE), "pictures": shown}

    def rank(self, question):
        """Return the hits for a question, without maps, a dict of plain values."""
        answer, rows = self._answer(question), {}
        plain = answer.query.method.target is None  # of a direction there are no pairs
        pairs = answer.pairs if plain else ()
        hits = []
        for row, similarity in answer.found.values():
            hit = self._shown(row) | {"similarity": round(similarity, 6), "label": row.label}
            percent = percentile(similarity, pairs)
            usual = percent is not None and percent < UNUSUAL
            hit |= {"unusual": percentile_words(percent), "usual": usual}
            hits.append(hit | {"same": rows.setdefault(row.contents, hit["row"])})
        words = self.result(answer, []).words()
        return {"hits": hits, "searched": answer.searched, "words": words, "line": LINE}

    def fetch(self, row):
        """Decode a hit's image, for `explain`, which says what is wrong with it."""
        with suppress(ValueError, OSError, MemoryError):
            path, contents = self._row(row)
            self._thumbnail(path, contents, self._load(path, contents))

    def explain(self, question, row):
        """Return one of the hits with its map, or why it has none, a dict of plain values."""
        answer, hit = self.hit(question, row)
        found = {"row": row, "similarity": hit.similarity, "note": hit.note, "box": hit.box}
        if hit.image is not None:
            found["same"] = self._same(answer, hit)
        if hit.map is not None:
            height, width, _ = hit.image.shape
            rows, columns = hit.map.shape
            values = [float(f"{value:.6g}") for value in hit.map.ravel()]
            found |= {"width": width, "height": height}
            found["map"] = {"rows": rows, "columns": columns, "values": values}
        return found

    def explore(self, question, row):
        """Return what the explorer's page needs of the query and a hit."""
        answer, hit = self.hit(question, row)
        if hit.map is None:
            raise ValueError(f"{hit.path}: {hit.note}")
        return explorer_data(**self.result(answer, [hit]).explorer(hit))

    def hit(self, question, row):
        """Return the answer to a question, and one of its hits with its map."""
        answer = self.answers.get(question) or self._answer(question)
        path, _ = self._row(row)
        if path not in answer.found:
            raise Gone(f"{path}: it is not among the hits any more, search again")
        images = _Loaded(self._load, answer.found[path][0].contents)
        given = [answer.found[path]], images, answer.query, self.network
        (hit,) = look_at(*given, pairs=answer.pairs)
        return answer, replace(hit, rank=[*answer.found].index(path) + 1)

    def result(self, answer, hits):
        """Return the `SearchResult` of an answer with these hits."""
        return SearchResult(
            hits=hits,
            query=answer.photo.pixels,
            name=answer.photo.name,
            network=self.network,
            images=answer.searched,
            method=answer.query.method,
            like=answer.like,
            unlike=answer.unlike,
        )

    def picture(self, row, longest):
        """Return a picture of the gallery, small, as the bytes of a JPEG file."""
        key = row, longest
        if (found := self.pictures.get(key)) is None:
            path, contents = self._row(row)
            found = small_jpeg(self._load(path, contents), longest)
            self.pictures.put(key, found, len(found))
        return found

    def photo(self, key):
        """Return a photograph that was sent, small, as the bytes of a JPEG file."""
        return small_jpeg(self._kept(key).pixels, LARGE)

    # ---------------------------------------------------------------------------------------------

    def _answer(self, question):
        """Search the gallery as it is now."""
        now = self.gallery.open()
        self.images = now.images
        photo = self._asked(question)
        given, size, cells = (self.network, photo.pixels), photo.pixels.shape[:2], None
        if question.points:  # whose boxes are those of cells
            query = run_query(*given, region=(0, 0, *size[::-1]), known=photo.known)
            cells = query.seen[0].shape[:2]
        region, ignore = places(question, size, cells)
        check_search(size, region, None, question.top, ignore=ignore)
        fine = {"stride": FINE if question.fine else None}
        query = run_query(*given, region, ignore=ignore, known=photo.known, **fine)
        like, unlike = (
            tuple(self._row(row)[0] for row in rows) for rows in (question.like, question.unlike)
        )
        query = now.marked(query, like, unlike)
        if question.label or question.not_label:
            nearest = now.nearest(query, question.top, False, question.label, question.not_label)
        else:
            nearest = self._nearest(now, query.vector, question.top)
        found = {row.path: (row, each) for row, each in nearest}
        answer = Answer(
            photo, query, found, len(now.table), region, ignore, like, unlike, now.pairs
        )
        held = photo.pixels, region, ignore, query.method.region1
        cost = sum(getattr(each, "nbytes", 0) for each in held)
        self.answers.put(question, answer, cost + 2**20)
        return answer

    def _asked(self, question):
        """Return the photograph that is searched with."""
        if question.photo is not None:
            return self._kept(question.photo)
        path, contents = self._row(question.row)
        photo = self.photos.get((path, contents))
        if photo is None:
            photo = Photo(path, self._load(path, contents))
            self.photos.put((path, contents), photo, photo.cost)
        return photo

    def _kept(self, key):
        photo = self.photos.get(key)
        if photo is None:
            raise Gone("the photograph is not kept any more, choose it again")
        return photo

    def _load(self, path, contents):
        """Return the pixels of an image, if it is still the one that was indexed."""
        pixels = self.pixels.get((path, contents))
        if pixels is None:
            pixels, found = self.images.load(path)
            if found != contents:
                words = "it has changed since it was indexed, index the folder again"
                raise ValueError(f"{path}: {words}")
            self.pixels.put((path, contents), pixels, pixels.nbytes)
        return pixels

    def _nearest(self, now, vector, count):
        """Return what `Opened.nearest` does, of embeddings in memory if they are few."""
        size = len(now.table) * now.table.dimension * 4
        if len(now.table) > EXACT or size > ROOM["photos"] or len(vector) != now.table.dimension:
            return now.nearest(Query(None, vector, None, ()), count)
        if self._embedded[0] != now.table.state:
            paths, _, embeddings = now.table.embedded()
            self._embedded = now.table.state, paths, embeddings
        _, paths, embeddings = self._embedded
        similarities = embeddings @ (vector / np.linalg.norm(vector)).astype(np.float32)
        order = np.argsort(-similarities, kind="stable")[:count]
        rows = now.table.rows(paths[order].tolist())
        return [(rows[paths[i]], float(similarities[i])) for i in order]

    def _same(self, answer, hit):
        """Return the rows of other hits, of those that were looked at, that are copies of a hit."""
        small = self._thumbnail(hit.path, hit.contents, hit.image)
        others = [row for row, _ in answer.found.values() if row.path != hit.path]
        known = [(row, self.thumbnails.get((row.path, row.contents))) for row in others]
        return [
            self._shown(row)["row"]
            for row, other in known
            if row.contents == hit.contents or (other is not None and are_copies(small, other))
        ]

    def _thumbnail(self, path, contents, pixels):
        small = self.thumbnails.get((path, contents))
        if small is None:
            small = thumbnail(pixels)
            self.thumbnails.put((path, contents), small, small.nbytes)
        return small

    def _shown(self, row):
        """Return what a page knows of an image, by a number that means it and nothing else."""
        key = row.path, row.contents
        with self._lock:
            if key not in self._numbers:
                self._numbers[key] = len(self._rows)
                self._rows.append(key)
            number = self._numbers[key]
        return {"row": number, "path": row.path, "width": row.width, "height": row.height}

    def _row(self, number):
        """Return the path and the contents of an image that was shown."""
        if not 0 <= number < len(self._rows):
            raise Gone(f"row: there is none of the number {number}")
        return self._rows[number]


class _Loaded(NamedTuple):
    """Stands for the folder of images in `look_at`, for one that may be in memory."""

    function: object  # of a path and its contents
    contents: str

    def load(self, path):
        return self.function(path, self.contents), self.contents


class Kept:
    """The latest of what may be made again, in so many bytes.

    Examples
    --------
    >>> kept = Kept(10)
    >>> kept.put("a", 1, 6), kept.put("b", 2, 6), kept.get("a"), kept.get("b")
    (None, None, None, 2)
    """

    def __init__(self, room):
        self._room, self._kept, self._lock = room, OrderedDict(), Lock()

    def get(self, key):
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key, value, cost):
        with self._lock:
            self._kept[key] = value, cost
            self._kept.move_to_end(key)
            total = sum(cost for _, cost in self._kept.values())
            while total > self._room and len(self._kept) > 1:
                total -= self._kept.popitem(last=False)[1][1]
