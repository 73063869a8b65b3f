"""What is written in a picture, pixel by pixel."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def holds(picture, text, size=10):
    """Return the (x, y) of each place where a picture has a text."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = map(int, font.getbbox(text))
    image = Image.new("L", (right - left, bottom - top), 255)
    ImageDraw.Draw(image).text((-left, -top), text, 0, font)
    wanted, found = np.asarray(image), np.asarray(Image.fromarray(picture).convert("L"))
    # where its first dark row is, before all of it is compared
    windows = np.lib.stride_tricks.sliding_window_view(found, wanted.shape)
    row = int((wanted < 255).any(axis=1).argmax())
    places = np.argwhere((windows[:, :, row] == wanted[row]).all(axis=2))
    return [(int(x), int(y)) for y, x in places if (windows[y, x] == wanted).all()]
