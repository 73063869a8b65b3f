"""What is drawn on a finished picture: the legend under it, and numbered lines across it.

With Pillow alone, and the font that Pillow brings, so that it costs no more than it shows.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simvis import image_ops

READABLE = 480  # pixels across, at which text is 10 pixels high
NARROWEST = 400  # pixels across that the words of a legend need


def add_legend(picture, widths, left, right, bars):
    """Put a legend under images that stand side by side.

    Each image gets a bar of colours from its map's lowest to its highest value, or to the ends of
    the colours where they reach further, and always as far as zero.  The bracket under the bar
    spans the values that the map holds.

    Parameters
    ----------
    picture : uint8 (H, W, 3) array
    widths : sequence of int, of the images in the picture
    left, right : str, the words over the bars
    bars : sequence of (map, colormap, (low, high)), or str to be written instead, one for a width
        A float (h, w) array, and the values that get the colormap's ends.

    Returns
    -------
    picture : uint8 (H + h, max(W, 400), 3) array, with text 10 pixels high for each 480 of width

    Examples
    --------
    >>> bar = np.array([[0.01, 0.05]]), "jet", (0.01, 0.05)
    >>> add_legend(np.zeros((160, 480, 3), np.uint8), [240, 240], "0.82", "net", [bar, bar]).shape
    (205, 480, 3)
    """
    height, width = picture.shape[:2]
    room = max(width, NARROWEST)
    size = max(10, round(10 * room / READABLE))
    font, margin = ImageFont.load_default(size), size // 2
    left, right = (fitted(words, font, room - 2 * margin) for words in (left, right))
    lines = 1 if font.getlength(left + right) + 4 * margin <= room else 2
    top = lines * size * 3 // 2 + margin
    strip = Image.new("RGB", (room, top + size * 5 // 2), "white")
    draw = ImageDraw.Draw(strip)
    draw.text((margin, margin), left, "black", font)
    at = (room - margin - int(font.getlength(right)), margin) if lines == 1 else (margin, 2 * size)
    draw.text(at, right, "black", font)
    for (start, end), bar in zip(_columns(widths, room), bars, strict=True):
        box = start + margin, top, end - margin, top + size
        if isinstance(bar, str):
            draw.text(box[:2], fitted(bar, font, box[2] - box[0]), "black", font)
        else:
            _draw_bar(strip, draw, box, *bar, font, size)
    wide = np.full((height, room, 3), 255, np.uint8)
    wide[:, :width] = picture
    return np.vstack([wide, np.asarray(strip)])


def add_matches(picture, lines, strengths=None):
    """Draw numbered lines across a picture, bent so that none hides another.

    Parameters
    ----------
    picture : uint8 (H, W, 3) array
    lines : sequence of (x1, y1, x2, y2) in pixels, the first one being number 1
    strengths : None, or a number > 0 for each line, which its width follows

    Returns
    -------
    drawn : uint8 (H, W, 3) array

    Examples
    --------
    >>> drawn = add_matches(np.full((160, 480, 3), 99, np.uint8), [(40, 80, 440, 80)])
    >>> drawn[80, 240].tolist(), drawn[10, 240].tolist()
    ([255, 255, 255], [99, 99, 99])
    """
    drawn = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawn)
    fewer = min(1, (12 / max(len(lines), 1)) ** 0.5)  # of many, the discs would hide the picture
    size = max(10, round(10 * drawn.width / READABLE * fewer))
    font, width = ImageFont.load_default(size), max(1, size // 6)
    strengths = np.ones(len(lines)) if strengths is None else np.array(strengths)
    share = np.linspace(0, 1, 50)[:, None]
    for k in np.argsort(strengths, kind="stable"):  # the strongest over all others
        start, end = np.array(lines[k][:2]), np.array(lines[k][2:])
        reach = (k / max(len(lines) - 1, 1) - 0.5) * (len(lines) > 1) * (end - start)[0]
        curve = start + share * (end - start) + share * (1 - share) * reach * (0, 1)
        curve = list(map(tuple, curve.clip(0, (drawn.width - 1, drawn.height - 1))))
        wide = max(1, round(2 * width * strengths[k] / (strengths.max() or 1)))
        for color, extra in (("black", 2 * max(1, width // 2)), ("white", 0)):
            draw.line(curve, color, wide + extra, "curve")
    # the discs over all lines, and the first number over all discs
    for number, line in reversed(list(enumerate(lines, 1))):
        for x, y in (line[:2], line[2:]):
            radius = 0.8 * size
            disc = x - radius, y - radius, x + radius, y + radius
            draw.ellipse(disc, "black", "white", max(1, width // 2))
            draw.text((x, y), str(number), "white", font, anchor="mm")
    return np.array(drawn)


def value_text(value, peak):
    """Return a value with the digits that make three of the largest magnitude beside it.

    Examples
    --------
    >>> value_text(0.00412, 0.0453), value_text(0, 0.0453), value_text(3.21e-7, 3.21e-7)
    ('0.0041', '0', '3.2e-07')
    """
    if 0 < peak < 1e-4:
        text = f"{value:.1e}"
    else:
        text = f"{value:.{max(0, 2 - int(np.floor(np.log10(peak)))) if peak else 2}f}"
    return "0" if float(text) == 0 else text


def fitted(text, font, room, keep="beginning"):
    """Return a text in one line of letters that Pillow's font has, cut to the room in pixels.

    Dots stand for what is cut off: its end, or, with keep="end", its beginning.
    """
    return cut(" ".join(text.split()).encode("ascii", "replace").decode(), font, room, keep)


def cut(text, font, room, keep="beginning"):
    """Return a line cut to the room in pixels, see `fitted`."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1] if keep == "beginning" else text[1:]
    return text + "..." if keep == "beginning" else "..." + text


def _columns(widths, room):
    """Return where the columns start and end: under the images, but none too narrow for numbers."""
    shares = np.maximum(np.array(widths) / sum(widths), 0.6 / len(widths))
    if sum(widths) == room and shares.sum() == 1:
        edges = np.cumsum([0, *widths])
    else:
        edges = np.cumsum([0, *(shares / shares.sum() * room)]).round()
    return list(zip(map(int, edges[:-1]), map(int, edges[1:]), strict=True))


def _draw_bar(strip, draw, box, shown, colormap, ends, font, size):
    """Draw a bar of colours into (left, top, right, bottom), and its numbers below."""
    (left, top, right, _), held = box, (float(shown.min()), float(shown.max()))
    low, high = min(0, *held, *ends), max(0, *held, *ends)
    width, reach = right - left, (high - low) or 1.0

    def at(value):
        return left + round((value - low) / reach * (width - 1))

    values = np.linspace(low, high, width)[None]
    colors = image_ops.colorize_map(values, colormap, ends)
    thick = max(4, size // 2)
    strip.paste(Image.fromarray(np.repeat(colors, thick, axis=0)), (left, top))
    line = max(1, size // 12)
    # where zero is: a line through the bar, black within white
    draw.rectangle((at(0) - 2 * line, top, at(0) + 2 * line, top + thick - 1), "white")
    draw.rectangle((at(0) - line // 2, top - line, at(0) + (line - 1) // 2, top + thick), "black")
    bracket, foot = top + thick + 2 * line, max(2, size // 4)
    draw.rectangle((at(held[0]), bracket, at(held[1]), bracket + line - 1), "black")
    for value in held:
        draw.rectangle((at(value), bracket, at(value) + line - 1, bracket + foot), "black")

    # the numbers, the more important ones first to fit, without an end that says nearly the same
    own, peak, texts = (0.0, *held), max(abs(low), abs(high)), {}
    for value in (*own, *(end for end in ends if min(abs(end - v) for v in own) > peak / 50)):
        text = value_text(value, peak)
        if font.getlength("  ".join([*texts, text])) <= width:
            texts.setdefault(text, value)
    texts = sorted(texts, key=texts.get), sorted(texts.values())
    lefts = _spread(list(map(at, texts[1])), texts[0], font, (left, right))
    for text, x in zip(texts[0], lefts, strict=True):
        draw.text((x, bracket + foot), text, "black", font)


def _spread(centres, texts, font, room):
    """Return the left edges of texts near their centres, none over another, all in the room."""
    widths, gap = [int(np.ceil(font.getlength(text))) for text in texts], font.getlength("  ")
    lefts, edge = [], room[0]
    for centre, width in zip(centres, widths, strict=True):
        lefts.append(max(centre - width // 2, int(edge)))
        edge = lefts[-1] + width + gap
    edge = room[1]
    for i in reversed(range(len(texts))):
        lefts[i] = min(lefts[i], int(edge - widths[i]))
        edge = lefts[i] - gap
    return lefts
