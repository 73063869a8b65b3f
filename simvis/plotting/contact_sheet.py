"""What a search found, as one picture: the query, and the hits in rows.

With Pillow alone, as the legend.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simvis.plotting.legend import fitted

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
    draw.text((GAP, below), fitted(name, font, WIDTH, "end"), "black", font)
    for number, line in enumerate(_wrapped(words, font)[:9], 1):
        draw.text((GAP, below + number * LINE), line, MUTED, font)
    for number, (picture, title, file, note) in enumerate(cells):
        x = left + number % columns * (WIDTH + GAP)
        y = GAP + number // columns * tall
        if picture is None:
            draw.rectangle((x, y, x + WIDTH - 1, y + HEIGHT - 1), (241, 239, 235))
        else:
            _paste(sheet, picture, (x, y))
        draw.text((x, y + HEIGHT + 4), title, "black", font, stroke_width=0.3)
        for line, text in enumerate((file, note), 1):
            text = fitted(text, font, WIDTH, "end")
            draw.text((x, y + HEIGHT + 4 + line * LINE), text, MUTED, font)
    return np.array(sheet)


def _paste(sheet, picture, corner):
    """Put a picture into a box at a corner, not enlarged; return how high it is."""
    image = Image.fromarray(picture)
    image.thumbnail((WIDTH, HEIGHT))
    sheet.paste(image, corner)
    return image.height


def _wrapped(text, font):
    """Return the lines of a text."""
    lines = [""]
    for word in fitted(text, font, np.inf).split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > WIDTH and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return [fitted(line, font, WIDTH, "end") for line in lines]
