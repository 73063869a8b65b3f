"""A page of cards, one for each image or pair, to look through and to open."""

import math
import os
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from simvis import image_ops
from simvis.pages.explorer import explorer_data
from simvis.pages.page import fill_page, policy, shrunk, template

LONGEST_SIDE, QUERYS_LONGEST_SIDE = 360, 640  # pixels of the images in the page


class Card(NamedTuple):
    """What the page shows of an image, or of a pair.

    name : str, for the eye; it may be anybody's text
    similarity : None or float
    image : None or uint8 (H, W, 3) array
    overlay : None or uint8 (H, W, 3) array, shown in the image's place under the pointer
    box : None or (x0, y0, x1, y1) in pixels of the image, outlined on it
    notes : tuple of str
    picture : None or str, instead of an image the name of a file beside the page
    pair : None or dict, the arguments of `explorer.explorer_data` for the pair that it opens
    rank : None or int, if it is not the card's number
    group : str, of cards that can be shown alone
    """

    name: str
    similarity: float | None
    image: np.ndarray | None = None
    overlay: np.ndarray | None = None
    box: tuple | None = None
    notes: tuple = ()
    picture: str | None = None
    pair: dict | None = None
    rank: int | None = None
    group: str = ""


def write_cards(path, cards, *, title, words="", query=None, line=None, tables=()):
    """Write one HTML file of cards, each of which opens its explorer or its picture.

    It holds all that it shows but the pictures beside it.

    Parameters
    ----------
    path : str or Path, of the .html file
    cards : sequence of Card, best first; a card's number is its rank
    title, words : str, for the eye
    query : None or Card, what the cards were found for
    line : None or (int, str), after so many cards a line with these words, best first
    tables : sequence of (title, names of the columns, rows), of str, which stand over the cards

    Raises
    ------
    ValueError
        Names what is wrong with an image, a box or a pair.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> cards = [Card("a.png", 0.9, np.zeros((20, 30, 3), np.uint8)), Card("b.png", 0.8)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_cards(Path(folder) / "cards.html", cards, title="Two cards")
    ...     (Path(folder) / "cards.html").read_text()[:15]
    '<!doctype html>'
    """
    content = cards_page(cards, title=title, words=words, query=query, line=line, tables=tables)
    image_ops.write_whole(path, lambda file: file.write(content))


def cards_page(cards, *, title, words="", query=None, line=None, tables=()):
    """Return the file that `write_cards` writes, as bytes."""
    cards = list(cards)
    templates = [template("cards.html")]
    data = {
        "title": str(title),
        "words": str(words),
        "query": query and _card(query, QUERYS_LONGEST_SIDE),
        "cards": [_card(card, LONGEST_SIDE) for card in cards],
        "explorer": None,
        "line": line,
        "tables": tables,
    }
    if any(card.pair is not None for card in cards):
        templates.append(explorer := template("explorer.html"))
        # the page makes an explorer in a frame of what stands before and after a pair's data
        data["explorer"] = explorer.replace("{{policy}}", policy(explorer)).split("{{data}}")
        first, packed = {}, {}
        for card, shown in zip(cards, data["cards"], strict=True):
            shown["pair"] = None
            if card.pair is not None:
                pair = explorer_data(**card.pair, packed=packed)
                pair["image1"], pair["image2"] = pair.pop("images")
                # the page needs all of the first pair, and what differs of the others
                shown["pair"] = {n: v for n, v in pair.items() if not first or v != first[n]}
                first = first or pair
    images = "data: 'self'" if any(card.picture is not None for card in cards) else "data:"
    return fill_page(templates[0], policy(*templates, images=images), data)


def _card(card, longest):
    """Return what the page knows of a card, but for its pair."""
    data = {"name": str(card.name), "notes": [str(note) for note in card.notes]}
    data |= {name: value for name in ("rank", "group") if (value := getattr(card, name))}
    if card.similarity is not None and math.isfinite(card.similarity):
        data["similarity"] = float(card.similarity)
    if card.picture is not None:
        data["picture"] = quote(os.fsencode(card.picture), safe="")  # so that it lies in no folder
    if card.image is not None:
        image = image_ops.as_image(card.image)
        wide = min(3, max(1, image.shape[1] / image.shape[0] / 1.5))  # as images side by side
        data["image"] = shrunk(image, round(longest * wide))
        if card.box is not None:
            data["box"] = image_ops.check_box(card.box, image.shape[:2])
        if card.overlay is not None:
            data["overlay"] = shrunk(image_ops.as_image(card.overlay), round(longest * wide))["uri"]
    return data
