"""Maps laid over their images: in which colours, over which values, with what is marked."""

from dataclasses import dataclass

import numpy as np

from simvis import image_ops
from simvis.maps import check_choice, check_number, option

NORMALIZATIONS = ("each", "pair", "zero", "absolute")
# What gets the highest colour of "absolute", in shares of a map that is even over its image: an
# image against itself adds 1 / N in each of N cells, if all its cells are alike.
UNIFORM_SHARES = 3
COLORMAPS = "any of matplotlib's (default: jet; of zero, coolwarm)"
RANGES = """over each map's range of values (the default), over one of the pair, with zero in the
middle, or over an absolute one that compares pictures of different pairs"""
UPSAMPLINGS = tuple(image_ops.UPSAMPLINGS)


@dataclass(frozen=True)
class Look:
    """How maps are laid over images; its fields are keywords of `visualize_pair`."""

    colormap: str | None = option(COLORMAPS, "NAME")
    alpha: float = option("opacity, 0..1 (default: 0.5)", "A", default=0.5)
    upsample: str = option("none shows the cells", default="bilinear", choices=UPSAMPLINGS)
    normalize: str = option(RANGES, default="each", choices=NORMALIZATIONS)
    size: int | None = option("N x N pixels instead of the images' own sizes", "N")

    def __post_init__(self):
        check_choice("upsample", self.upsample, UPSAMPLINGS)
        check_choice("normalize", self.normalize, NORMALIZATIONS)
        check_number("alpha", self.alpha, 0, 1, "a number in 0..1")
        if self.size is not None:
            check_number("size", self.size, 1, 10_000, "1 to 10000 pixels")
        if self.colormap is None:
            colormap = "coolwarm" if self.normalize == "zero" else "jet"
            object.__setattr__(self, "colormap", colormap)
        image_ops.colorize_map([[0.0]], self.colormap)  # raises for an unknown one


def overlay(images, shown, look, shares):
    """Lay maps over images.

    Parameters
    ----------
    images : sequence of uint8 (H, W, 3) arrays
    shown : sequence of float64 (h, w) arrays, or None for no map
    look : Look
    shares : sequence of float
        What a cell of each map adds to a similarity of 1 if all cells add the same.

    Returns
    -------
    images, overlays : lists of uint8 (H, W, 3) arrays, of the size that look asks for
    ranges : list of (low, high), the values that got the colormap's ends, or None for no map

    Examples
    --------
    >>> images, maps = [np.zeros((40, 60, 3), np.uint8)] * 2, [np.array([[-1.0, 3.0]]), None]
    >>> overlay(images, maps, Look(normalize="zero"), [1 / 2, 1 / 2])[2]
    [(-3.0, 3.0), None]
    """
    if look.size is not None:
        images = [image_ops.resize(image, (look.size, look.size)) for image in images]
    images, overlays, ranges = list(images), list(images), [None] * len(shown)
    upsampled = {
        i: image_ops.upsample_map(each, images[i].shape[:2], look.upsample)
        for i, each in enumerate(shown)
        if each is not None
    }
    low = min(float(each.min()) for each in upsampled.values())
    high = max(float(each.max()) for each in upsampled.values())
    for i, each in upsampled.items():
        ranges[i] = {
            "each": (float(each.min()), float(each.max())),
            "pair": (low, high),
            "zero": (-max(-low, high), max(-low, high)),
            "absolute": (0.0, float(UNIFORM_SHARES * shares[i])),
        }[look.normalize]
        heatmap = image_ops.colorize_map(each, look.colormap, ranges[i])
        overlays[i] = image_ops.blend(images[i], heatmap, look.alpha)
    return images, overlays, ranges


def mark(picture, region, point, image_size):
    """Draw a region and a point, given in pixels of the image, on a picture of any size."""
    height, width = image_size
    down, across = picture.shape[0] / height, picture.shape[1] / width
    if region is not None:
        if np.ndim(region) == 1:
            region = np.array(region) * (across, down, across, down)
        else:
            region = image_ops.region_weights(region, image_size, picture.shape[:2])
        picture = image_ops.draw_region(picture, region)
    if point is not None:
        x, y = ((np.array(point) + 0.5) * (across, down) - 0.5).tolist()
        picture = image_ops.draw_point(picture, x, y)
    return picture
