"""What is left of a similarity without a part of an image: by the maps, and by the network."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from simvis.image_ops import region_weights
from simvis.maps import check_choice, find_maps

FILLINGS = ("mean", "blur")


class CoverUp(NamedTuple):
    """A similarity without a region of an image; estimate is None if nothing of it is left."""

    estimate: float | None  # the cosine of what is left if the region takes no part in the pooling
    covered_similarity: float  # the cosine that the network finds in the covered image


def cover_up(images, maps, region, number=1, filling="mean"):
    """Cover a region of one of two images, and let the network see what is left.

    Parameters
    ----------
    images : two RGB uint8 (H, W, 3) arrays
    maps : their PairMaps, of whole images
    region : box (x0, y0, x1, y1) in pixels, or a mask of the image's size, which fits
    number : 1 or 2, the image that is covered
    filling : "mean" or "blur", see `cover`

    Returns
    -------
    result : CoverUp

    Examples
    --------
    >>> from simvis.pair import EXAMPLE_PAIR, visualize_pair
    >>> pair = visualize_pair(*EXAMPLE_PAIR)
    >>> result = cover_up(pair.images, pair, (152, 186, 506, 410))  # the bed
    >>> max(result) < pair.similarity
    True
    """

    def similarity(images, method):
        return find_maps(images, maps.network, method, maps.names).similarity

    images, size = list(images), images[number - 1].shape[:2]
    # rounded, since of max pooling even the dust of floating point would take part
    left = 1 - region_weights(region, size, size).round(12).clip(0, 1)
    method = replace(maps.method, **{f"region{number}": left})
    estimate = similarity(images, method) if left.any() else None
    images[number - 1] = cover(images[number - 1], region, filling)
    return CoverUp(estimate, similarity(images, maps.method))


def cover(image, region, filling="mean"):
    """Return an image with a region in the image's mean colour, or blurred beyond recognition.

    Parameters
    ----------
    image : RGB uint8 (H, W, 3) array
    region : box (x0, y0, x1, y1) in pixels, or a mask of the image's size
    filling : "mean" or "blur", by a Gaussian of a tenth of the image's longer side

    Returns
    -------
    covered : uint8 (H, W, 3) array

    Examples
    --------
    >>> image = np.array([[[10] * 3, [30] * 3]], np.uint8)
    >>> cover(image, (0, 0, 1, 1))[0, :, 0]
    array([20, 30], dtype=uint8)
    """
    check_choice("filling", filling, FILLINGS)
    size = image.shape[:2]
    weights = region_weights(region, size, size).clip(0, 1)[..., None]
    if filling == "mean":
        fill = image.mean(axis=(0, 1))
    else:
        blur = ImageFilter.GaussianBlur(max(size) / 10)
        fill = np.asarray(Image.fromarray(image).filter(blur), np.float64)
    return np.rint((1 - weights) * image + weights * fill).astype(np.uint8)
