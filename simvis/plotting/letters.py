"""Fonts that have the letters of a text."""

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont


def letters(text, size):
    """Return a text as it can be drawn in one line, and a font of this size that has its letters.

    For ASCII it is Pillow's own font, for all else matplotlib's DejaVu Sans; a letter that this
    lacks, too, is spelled by its number.

    Examples
    --------
    >>> letters("a  b", 14)[0], letters("\u00dcn\u00efc\u00f6d\u00e9 \u65e5", 14)[0]
    ('a b', '\u00dcn\u00efc\u00f6d\u00e9 \\\\u65e5')
    """
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    if text.isascii() and text.isprintable():
        return text, ImageFont.load_default(size)
    path, known = _dejavu()
    spelled = (
        each if ord(each) in known else each.encode("unicode_escape").decode() for each in text
    )
    return "".join(spelled), ImageFont.truetype(path, size)


@cache
def _dejavu():
    """Return where the font lies, found without an import of matplotlib, and its letters."""
    from fontTools.ttLib import TTFont  # which matplotlib brings

    (place,) = find_spec("matplotlib").submodule_search_locations
    path = Path(place, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
    with TTFont(path, lazy=True) as font:
        return str(path), frozenset(font.getBestCmap())
