"""The two figures: one pair under networks taught different things, and maps beside rivals."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.rivals import cosines
from simvis import image_ops
from simvis.image_ops import write_whole

WIDTH, GAP, BAND = 440, 12, 92  # of each picture, between pictures, above them, in pixels
CAPTIONS = {
    "imagenet": "Classifier",
    "rooms": "Taught rooms",
    "rooms-headboard": "Taught headboards",
    "rooms-carpet": "Taught carpets",
}


def pair_picture(views, subjects):
    """Draw two views above each other, plain and under each network, uint8 (H, W, 3).

    There is a column for the photographs and one for each of the subjects, with its cosine.
    """
    images = [view.image() for view in views]
    images = [
        image_ops.resize(image, (round(WIDTH * image.shape[0] / image.shape[1]), WIDTH))
        for image in images
    ]
    columns = [("Two views of a room", "", images)]
    for subject in subjects:
        similarity = cosines(*(subject.embeddings([view]) for view in views))[0, 0]
        overlays = [
            image_ops.combine_image_and_heatmap(image, one, method="bicubic")
            for image, one in zip(images, subject.maps(*views), strict=True)
        ]
        columns.append((CAPTIONS[subject.name], f"similarity {similarity:.2f}", overlays))
    return np.hstack([_column(*column) for column in columns])[:, GAP // 2 : -GAP // 2]


def _column(caption, line, images):
    from matplotlib import font_manager  # it brings a font of its own

    parts = [np.full((BAND, WIDTH, 3), 255, np.uint8)]
    for image in images:
        parts += [image, np.full((GAP, WIDTH, 3), 255, np.uint8)]
    sides = [(0, 0), [GAP // 2] * 2, (0, 0)]
    column = Image.fromarray(np.pad(np.vstack(parts[:-1]), sides, constant_values=255))
    draw, path = ImageDraw.Draw(column), font_manager.findfont("DejaVu Sans")
    for text, top, size in ((caption, 6, 36), (line, 50, 30)):
        font = ImageFont.truetype(path, size)
        draw.text((column.width / 2, top), text, "black", font, anchor="ma")
    return np.array(column)


def correlation_figure(path, cells):
    """Draw the rank correlations of explanations with what swaps do, with their intervals.

    cells is a dict of (explanation, network) to Figure, path where the picture goes.
    """
    from matplotlib.figure import Figure as Drawing

    names, networks = (list(dict.fromkeys(keys)) for keys in zip(*cells, strict=True))
    drawing = Drawing((9, 3.6), layout="constrained")
    axes = drawing.add_subplot()
    for index, network in enumerate(networks):
        values = np.array([cells[name, network][:3] for name in names])
        place = np.arange(len(names)) + (index - (len(networks) - 1) / 2) * 0.15
        reach = abs(values[:, 1:] - values[:, :1]).T
        axes.errorbar(place, values[:, 0], reach, fmt="o", capsize=3, label=network)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xticks(range(len(names)), names, rotation=15)
    axes.set_ylabel("rank correlation")
    axes.set_title("What a map puts on an object, and what swapping it does to the cosine")
    drawing.legend(loc="outside lower center", ncols=len(networks), fontsize="small")
    file = io.BytesIO()
    drawing.savefig(file, dpi=150, format="png")
    write_whole(path, lambda whole: whole.write(file.getvalue()))
