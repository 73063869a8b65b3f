"""What is left of a similarity without a part of an image: the method's estimate, and the truth."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from simvis import image_ops
from simvis.maps import check_choice, explained_head, find_maps
from simvis.similarity_ops import compute_spatial_similarity

FILLINGS = ("mean", "blur")


@dataclass(frozen=True)
class CoverUp:
    """A similarity with a region of an image covered.

    image : 1 or 2, the one with the region
    estimate : float or None, the cosine of what the maps leave, the network not being run again;
        None if they leave nothing
    truth : float, the cosine that the network finds in the covered image
    whole : float, the cosine without a cover
    covered : uint8 (H, W, 3) array, what the network saw
    """

    image: int
    estimate: float | None
    truth: float
    whole: float
    covered: np.ndarray


def cover_up(images, maps, region, number=1, filling="mean"):
    """Cover a region of one of two images, and let the network see what is left.

    Parameters
    ----------
    images : two RGB uint8 (H, W, 3) arrays
    maps : their PairMaps, of whole images
    region : box (x0, y0, x1, y1) in pixels, or a mask of the image's size
    number : 1 or 2, the image that is covered
    filling : "mean" or "blur", see `cover`

    Returns
    -------
    result : CoverUp

    Raises
    ------
    ValueError
        For a region that does not fit.

    Examples
    --------
    >>> from simvis.pair import EXAMPLE_PAIR, visualize_pair
    >>> pair = visualize_pair(*EXAMPLE_PAIR)
    >>> result = cover_up(pair.images, pair, (152, 186, 506, 410))  # the bed
    >>> bool(result.estimate < pair.similarity), bool(result.truth < pair.similarity)
    (True, True)
    """
    i, size = number - 1, images[number - 1].shape[:2]
    covered = cover(images[i], region, filling)
    given = list(images)
    given[i] = covered
    network, method = maps.network, maps.method
    truth = find_maps(given, network, method, maps.names).similarity
    convs = maps.conv1, maps.conv2
    if network.pair_forward:  # a region needs more of them than whole images did
        convs = network.activations(network.preprocess(images))
    left = 1 - image_ops.region_weights(region, size, convs[i].shape[:2]).round(12).clip(0, 1)
    estimate = None
    if left.any():
        similarity, _ = compute_spatial_similarity(
            *convs,
            method.pooling or network.pooling,
            power=method.power or network.power,
            projection=explained_head(network, method),
            data_format="channels_last",
            **{f"region{number}": left},
        )
        estimate = float(similarity.sum())
    return CoverUp(number, estimate, truth, maps.similarity, covered)


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
    weights = image_ops.region_weights(region, size, size).clip(0, 1)[..., None]
    if filling == "mean":
        fill = image.mean(axis=(0, 1))
    else:
        blur = ImageFilter.GaussianBlur(max(size) / 10)
        fill = np.asarray(Image.fromarray(image).filter(blur), np.float64)
    return np.rint((1 - weights) * image + weights * fill).astype(np.uint8)
