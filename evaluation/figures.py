"""The two figures: one pair under networks taught different things, and maps beside rivals."""

import numpy as np

from evaluation.rivals import cosines
from simvis.image_ops import combine_image_and_heatmap, write_whole

CAPTIONS = {
    "imagenet": "Classifier",
    "rooms-headboard": "Taught headboards",
    "rooms-carpet": "Taught carpets",
}


def pair_figure(path, views, subjects):
    """Draw two views above each other, plain and under each of the subjects, with its cosine."""
    from matplotlib.figure import Figure as Drawing

    images = [view.image() for view in views]
    columns = [("Two views of a room\n", images)]
    for subject in subjects:
        similarity = cosines(*(subject.embeddings([view]) for view in views))[0, 0]
        overlays = [
            combine_image_and_heatmap(image, one, method="bicubic")
            for image, one in zip(images, subject.maps(*views), strict=True)
        ]
        fine = subject.stride is not None
        what = f"The same, stride {subject.stride}" if fine else CAPTIONS[subject.name]
        columns.append((f"{what}\nsimilarity {similarity:.2f}", overlays))
    drawing = Drawing((4.5 * len(columns), 7), layout="constrained")
    axes = drawing.subplots(2, len(columns), squeeze=False)
    for column, (title, pictures) in zip(axes.T, columns, strict=True):
        column[0].set_title(title, fontsize=24)
        for place, picture in zip(column, pictures, strict=True):
            place.imshow(picture, interpolation="bicubic")
            place.set_axis_off()
    quality = {"quality": 90}
    write_whole(path, lambda f: drawing.savefig(f, format="jpg", dpi=100, pil_kwargs=quality))


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
    write_whole(path, lambda file: drawing.savefig(file, format="png", dpi=150))
