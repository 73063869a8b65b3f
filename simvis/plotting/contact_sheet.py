"""What a search found, as one picture: the query, and the hits in rows."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simvis.plotting.legend import cut
from simvis.plotting.letters import letters

WIDTH, HEIGHT = 240, 180  # pixels of a hit's picture, at the most
GAP, LINE = 16, 18
SIZE = 14  # of the letters
MUTED = (92, 91, 96)
PAPER = (251, 250, 248)


def contact_sheet(query, name, words, cells, columns=4):
    """Return a picture of a query and of what was found for it.

    Parameters
    ----------
    query : uint8 (H, W, 3) array
    name, words : str, what stands under the query
    cells : list of (uint8 (H, W, 3) array or None, and the title, name and note under it)
    columns : int, how many of them in a row, at the most

    Returns
    -------
    sheet : uint8 (H, W, 3) array

    Examples
    --------
    >>> picture = np.zeros((90, 120, 3), np.uint8)
    >>> contact_sheet(picture, "room.jpg", "", [(picture, "1  0.9", "a.jpg", "")] * 5).shape
    (532, 1296, 3)
    """
    columns = min(columns, max(1, len(cells)))
    rows = max(1, -(-len(cells) // columns))
    tall = HEIGHT + 3 * LINE + GAP
    left = WIDTH + 2 * GAP
    size = left + columns * (WIDTH + GAP), max(rows * tall, HEIGHT + 12 * LINE) + 2 * GAP
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
    below = GAP + _paste(sheet, query, (GAP, GAP)) + LINE // 2
    _write(draw, (GAP, below), name, "black")
    for number, line in enumerate(_wrapped(words)[:9], 1):
        _write(draw, (GAP, below + number * LINE), line)
    for number, (picture, title, file, note) in enumerate(cells):
        x = left + number % columns * (WIDTH + GAP)
        y = GAP + number // columns * tall
        if picture is None:
            draw.rectangle((x, y, x + WIDTH - 1, y + HEIGHT - 1), (241, 239, 235))
        else:
            _paste(sheet, picture, (x, y))
        draw.text((x, y + HEIGHT + 4), title, "black", font, stroke_width=0.3)
        _write(draw, (x, y + HEIGHT + 4 + LINE), file)
        _write(draw, (x, y + HEIGHT + 4 + 2 * LINE), note, keep="beginning")
    return np.array(sheet)


def _write(draw, place, text, color=MUTED, keep="end"):
    """Draw a text in its own letters, cut to the width of a picture."""
    text, font = letters(text, SIZE)
    draw.text(place, cut(text, font, WIDTH, keep), color, font)


def _paste(sheet, picture, corner):
    """Put a picture into a box at a corner, not enlarged; return how high it is."""
    image = Image.fromarray(picture)
    image.thumbnail((WIDTH, HEIGHT))
    sheet.paste(image, corner)
    return image.height


def _wrapped(text):
    """Return the lines of a text."""
    lines = [""]
    for word in text.split():
        longer, font = letters(f"{lines[-1]} {word}", SIZE)
        if font.getlength(longer) > WIDTH and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
