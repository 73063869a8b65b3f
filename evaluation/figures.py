"""The two figures: one pair under networks taught different things, and maps beside rivals."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import image_ops
from evaluation.rivals import cosines
from evaluation.tables import Figure

WIDTH, GAP, BAND = 440, 12, 92  # of each picture, between pictures, above them, in pixels
CAPTIONS = {
    "imagenet": "Classifier",
    "rooms": "Taught rooms",
    "rooms-headboard": "Taught headboards",
    "rooms-carpet": "Taught carpets",
}


def pair_picture(views, subjects):
    """Draw two views above each other, plain and under each network.

    Parameters
    ----------
    views : two Views
    subjects : list of Subject

    Returns
    -------
    picture : uint8 (H, W, 3) array
        A column for the photographs and one for each network, with its cosine.
    """
    images = [image_ops.resize(view.image(), _size(view)) for view in views]
    columns = [("Two views of a room", "", images)]
    for subject in subjects:
        similarity = cosines(*(subject.embeddings([view]) for view in views))[0, 0]
        overlays = [
            image_ops.combine_image_and_heatmap(image, one, method="bicubic")
            for image, one in zip(images, subject.maps(*views), strict=True)
        ]
        columns.append((CAPTIONS[subject.name], f"similarity {similarity:.2f}", overlays))
    return np.hstack([_column(*column) for column in columns])[:, GAP // 2 : -GAP // 2]


def _size(view):
    height, width = view.image().shape[:2]
    return round(WIDTH * height / width), WIDTH


def _column(caption, line, images):
    parts = [np.full((BAND, WIDTH, 3), 255, np.uint8)]
    for image in images:
        parts += [image, np.full((GAP, WIDTH, 3), 255, np.uint8)]
    column = Image.fromarray(
        np.pad(np.vstack(parts[:-1]), [(0, 0), [GAP // 2] * 2, (0, 0)], constant_values=255)
    )
    draw = ImageDraw.Draw(column)
    for text, top, size in ((caption, 6, 36), (line, 50, 30)):
        draw.text((column.width / 2, top), text, "black", _font(size), anchor="ma")
    return np.array(column)


def _font(size):
    from matplotlib import font_manager  # it brings a font of its own

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def correlation_figure(path, cells, title):
    """Draw rank correlations with their intervals, explanations beside each other.

    Parameters
    ----------
    path : str or Path
    cells : dict of (explanation, network) to Figure
    title : str
    """
    from matplotlib.figure import Figure as Drawing

    names = list(dict.fromkeys(name for name, _ in cells))
    networks = list(dict.fromkeys(network for _, network in cells))
    drawing = Drawing((9, 3.6), layout="constrained")
    axes = drawing.add_subplot()
    for index, network in enumerate(networks):
        values = [cells.get((name, network), Figure(np.nan)) for name in names]
        place = np.arange(len(names)) + (index - (len(networks) - 1) / 2) * 0.18
        heights = np.array([value.value for value in values])
        ends = np.array([(value.low, value.high) for value in values]).T
        axes.errorbar(place, heights, abs(ends - heights), fmt="o", capsize=3, label=network)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xticks(range(len(names)), names, rotation=15)
    axes.set_ylabel("rank correlation")
    axes.set_title(title)
    axes.legend(ncols=len(networks), fontsize="small")
    drawing.savefig(path, dpi=150)
