"""A pair of images with its maps laid over it: picture, figure, page, and notebook view."""

import html
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simvis import image_ops, models
from simvis.files import one_line
from simvis.image_ops import write_whole
from simvis.maps import (
    Method,
    PairMaps,
    check_choice,
    check_places,
    featureless,
    find_maps,
    network_words,
    similarity_words,
)
from simvis.overlay import Look, mark, overlay
from simvis.pages.page import data_uri
from simvis.plotting.legend import add_legend, add_matches, value_text
from simvis.usual import with_usual

EXAMPLES = Path(image_ops.__file__).resolve().parent / "example_images"
EXAMPLE_PAIR = EXAMPLES / "room_a_view1.jpg", EXAMPLES / "room_a_view2.jpg"
FIGURE_FORMATS = (".png", ".pdf", ".svg", ".eps", ".ps")
FIGURE_STYLES = ("screen", "paper")
FILLINGS = ("mean", "blur")


def visualize_pair(
    image1,
    image2,
    network="imagenet",
    *,
    pooling=None,
    power=None,
    explain=None,
    region1=None,
    region2=None,
    ignore1=None,
    ignore2=None,
    point1=None,
    point2=None,
    matches=0,
    pairwise=False,
    stride=None,
    reference=None,
    special=None,
    target=None,
    colormap=None,
    alpha=0.5,
    upsample="bilinear",
    normalize="each",
    size=None,
):
    """Compute the similarity maps of two images and lay them over the images.

    Parameters
    ----------
    image1, image2 : paths, PIL images or RGB uint8 (H, W, 3) arrays
    network : EmbeddingNetwork, or a name or a keras.Model for `models.load_network`
    pooling : None for the network's own, or "average", "max" or "gem"
    power : None for the network's own, or a real number >= 1, the exponent of GeM
    explain : None for the network's default, "pooled" or "head"
        The pooled feature, or the network's output through its linear head.
    region1, region2 : None, a box (x0, y0, x1, y1) in pixels, or a mask of the image's size
    ignore1, ignore2 : None, a box or a mask, likewise, which is left out of the region or the image
    point1, point2 : None or (x, y) in pixels, (0, 0) being the top left one
        The other image shows what the point matches.
    matches : 0..99, how many pairs of cells to find and draw that are each other's nearest, those
        that add the most first
    pairwise : bool, keep the pairwise tensor
    stride : None or int
        Pixels of the network's input to a cell of the maps, as 16, 8 or 4; None is the last layer's
        own.  Finer maps are exact, too: the last layer of that grid is taken that everything passes
        through, and what follows it passes on secants, see `models.secants`.
    reference : None, "grey", "mean", "blur" or an image
        What a fine map tells the image from: its positions add what the image has and the reference
        has not, and carry equal shares of the rest.  None is grey.
    special : None, a folder of images, or a (D,) array
        What makes the two more alike than images usually are: the mean of the unit embeddings of a
        folder's images is taken off the partner's, so that map 1 sums to the similarity less what
        image 1 has to that mean.
    target : None or (D,) array
        Any embedding, as a class centroid: what of each image points to it, instead of the other.
    colormap : None for jet, or coolwarm if normalize is "zero"; or any of matplotlib's
    alpha : 0..1, how opaque the colours are
    upsample : "bilinear", "bicubic" or "none", which shows the cells
    normalize : "each", "pair", "zero" or "absolute"
        Colours each map over its own range of values, both over one, both over one with zero in the
        middle, or over 0 to 3 / N for N cells, which is the same for all pairs.
    size : None for overlays of the images' own sizes, or N for N x N pixels

    Returns
    -------
    pair : PairVisualization

    Raises
    ------
    ValueError, OSError
        Name the argument or the file at fault, or say that the maps do not sum to what the network
        itself puts out, by more than its tolerance.

    Examples
    --------
    >>> pair = visualize_pair(*EXAMPLE_PAIR)
    >>> pair
    PairVisualization(similarity 0.8195, maps 7 x 7 and 7 x 7, imagenet network)
    >>> bool(np.isclose(pair.similarity1.sum(), pair.similarity))
    True
    """
    places = region1, region2, ignore1, ignore2, point1, point2
    fine = stride, reference, special, target
    method = Method(pooling, power, explain, *places, matches, *fine)
    look = Look(colormap, alpha, upsample, normalize, size)
    images, names = take_images((image1, image2))
    check_places(method, [image.shape[:2] for image in images])
    if not isinstance(network, models.EmbeddingNetwork):
        network = models.load_network(network)
    method = with_usual(method, network)
    return draw(images, find_maps(images, network, method, names, pairwise), look)


@dataclass(frozen=True, eq=False, repr=False)
class PairVisualization(PairMaps):
    """What `visualize_pair` found: its `PairMaps`, laid over the images.

    images : two uint8 (H, W, 3) arrays, as they were given
    image1, image2 : uint8 (H, W, 3) arrays, the images that the overlays were made of
    overlay1, overlay2 : uint8 (H, W, 3) arrays: the match if there is one, else the map, or, for
        the image that the only point lies in, the image; with regions and points drawn
    shown1, shown2 : the float64 (h, w) map in each overlay, None in the image of the only point
    value_range1, value_range2 : (low, high), the values that got the colormap's ends, or None
    look : the Look that they were drawn with
    """

    images: tuple
    image1: np.ndarray
    image2: np.ndarray
    overlay1: np.ndarray
    overlay2: np.ndarray
    shown1: np.ndarray | None
    shown2: np.ndarray | None
    value_range1: tuple | None
    value_range2: tuple | None
    look: Look

    def picture(self, legend=False, note=""):
        """Return the two overlays side by side, uint8 (H, W, 3), with matches if there are any.

        A legend under them says how similar the images are, after a note of yours, and what the
        colours stand for.
        """
        overlays = image_ops.bring_to_one_height([self.overlay1, self.overlay2])
        picture, widths = np.hstack(overlays), [overlay.shape[1] for overlay in overlays]
        if len(self.matches):
            lines = self.match_places() * (widths[0], len(picture), widths[1], len(picture))
            lines = (lines + (0, 0, widths[0], 0) - 0.5).tolist()
            picture = add_matches(picture, lines, self.match_contributions)
        if not legend:
            return picture
        left = ", ".join(filter(None, (note, similarity_words(self))))
        right = network_words(self.network, self.method)
        return add_legend(picture, widths, left, right, self._bars())

    def match_places(self):
        """Return the matches' centres, float (n, 4), (x1, y1, x2, y2) in widths and heights."""
        shape = *self.similarity1.shape, *self.similarity2.shape
        return ((self.matches + 0.5) / shape)[:, [1, 0, 3, 2]]

    def _bars(self):
        """Return the legend's bar of each overlay, or what is said where there is no map."""
        bars = []
        for shown, value_range, match, own in (
            (self.shown1, self.value_range1, self.match2, self.similarity1),
            (self.shown2, self.value_range2, self.match1, self.similarity2),
        ):
            if shown is None:
                adds = value_text(match.sum(), np.abs(own).max())
                bars.append(f"the point adds {adds} per cell")
            else:
                bars.append((shown, self.look.colormap, value_range))
        return bars

    def figure(self, style="screen"):
        """Return a matplotlib figure of both images and both overlays, with bars of true values.

        Its style is "screen", or "paper" for the width of a column and small print.  It saves
        itself as publishers want it, see `plotting.figure.PairFigure`.
        """
        check_choice("style", style, FIGURE_STYLES)
        from simvis.plotting.figure import make_figure  # which imports much of matplotlib

        return make_figure(self, style)

    def save_figure(self, path, style="screen"):
        """Write the `figure` as a .png, .pdf, .svg, .eps or .ps file.

        Raises a ValueError, in one line, for whatever matplotlib cannot do.
        """
        kind = Path(path).suffix[1:].lower()
        try:
            figure = self.figure(style)
            write_whole(path, lambda file: figure.savefig(file, format=kind))
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as error:
            raise ValueError(f"figure: matplotlib cannot draw it: {one_line(error)}") from error

    def save_page(self, path):
        """Write a page to explore the pair in any browser, see `pages.explorer.write_explorer`."""
        from simvis.pages.explorer import write_explorer

        network, convs, fine = self.network, (self.conv1, self.conv2), None
        if self.conv1 is None:  # the page needs more than the maps did
            convs = network.activations(network.preprocess(self.images))
        if self.similarity1.shape != convs[0].shape[:2]:
            maps, method = self, self.method
            if method.special is not None or method.target is not None:  # the page asks of the two
                method = replace(method, special=None, target=None)
                maps = find_maps(self.images, network, method, self.names)
            fine = maps.similarity1, maps.similarity2
        words = f"{network.name}: {network.description}"
        if self.network_similarity is not None:
            words += f"; it says {self.network_similarity:.4f} of the whole images itself"
        write_explorer(
            path,
            *self.images,
            *convs,
            pooling=self.method.pooling,
            projection=self.network.projection,
            power=self.method.power,
            explain=self.method.explain,
            colormap=self.look.colormap,
            alpha=self.look.alpha,
            normalize=self.look.normalize,
            upsample=self.look.upsample,
            regions=self.method.regions,
            points=self.method.points,
            names=[Path(name).name for name in self.names],
            network=words,
            fine=fine,
        )

    def _repr_html_(self):
        """Show the pair in a notebook."""
        known = filter(None, (self.value_range1, self.value_range2))
        ranges = " and ".join(f"{low:.2g} to {high:.2g}" for low, high in known)
        words = f"similarity {self.similarity:.4f}, colours from {ranges}, {self.network.name}"
        return notebook_view(self.picture(), words)


def notebook_view(picture, words):
    """Return HTML of a uint8 (H, W, 3) picture with words under it."""
    uri = data_uri(picture, "jpeg", quality=88)
    return f'<figure><img src="{uri}"><figcaption>{html.escape(words)}</figcaption></figure>'


def take_images(given):
    """Return paths, PIL images or arrays as uint8 (H, W, 3) arrays, and a name for each."""
    names = [
        str(image) if isinstance(image, (str, Path)) else f"image {number}"
        for number, image in enumerate(given, 1)
    ]
    return [image_ops.as_image(image) for image in given], names


def draw(images, maps, look):
    """Lay `PairMaps` over their images, uint8 (H, W, 3); return a `PairVisualization`."""
    method, matches = maps.method, (maps.match1, maps.match2)
    places = list(zip(images, method.regions, method.points, strict=True))
    shown, shares, convs = list(matches), [], (maps.conv1, maps.conv2)

    def cells(i, grid):
        image, region, _ = places[i]
        if region is None:
            return np.prod(grid)
        return image_ops.region_weights(region, image.shape[:2], grid).sum()

    for i, own in enumerate((maps.similarity1, maps.similarity2)):
        if matches[i] is None and method.points[i] is None:
            shown[i] = own
        pairs = cells(i, own.shape)
        if matches[i] is not None:  # of a point, which is one of the last layer's cells
            pairs *= cells(1 - i, convs[1 - i].shape[:2])
        shares.append(1 / pairs)
    small, overlays, ranges = overlay(images, shown, look, shares)
    overlays = [
        mark(each, region, point, image.shape[:2])
        for each, (image, region, point) in zip(overlays, places, strict=True)
    ]
    found = {"image": small, "overlay": overlays, "shown": shown, "value_range": ranges}
    found = {f"{name}{i + 1}": both[i] for name, both in found.items() for i in (0, 1)}
    return PairVisualization(**vars(maps), images=tuple(images), look=look, **found)


def cover_up(pair, region, number=1, filling="mean"):
    """Return what is left of the similarity of a `PairVisualization` without a region of an image.

    Parameters
    ----------
    pair : PairVisualization, of whole images
    region, filling : as for `cover`
    number : 1 or 2, the image that is covered

    Returns
    -------
    estimate : float, the cosine if the region takes no part in the pooling; None if nothing is left
    similarity : float, the cosine that the network finds in the covered image

    Examples
    --------
    >>> pair = visualize_pair(*EXAMPLE_PAIR)
    >>> max(cover_up(pair, (152, 186, 506, 410))) < pair.similarity  # without the bed
    True
    """

    def similarity(images, method):
        return find_maps(images, pair.network, method, pair.names).similarity

    images, size = list(pair.images), pair.images[number - 1].shape[:2]
    # rounded, since of max pooling even the dust of floating point would take part
    left = 1 - image_ops.region_weights(region, size, size).round(12).clip(0, 1)
    method = replace(pair.method, **{f"region{number}": left})
    estimate = similarity(images, method) if left.any() else None
    images[number - 1] = cover(images[number - 1], region, filling)
    return estimate, similarity(images, pair.method)


def cover(image, region, filling="mean"):
    """Return a uint8 (H, W, 3) image with a region, a box or a mask, that shows nothing any more.

    It is in the image's "mean" colour, or "blur", by a Gaussian of a tenth of the longer side.

    Examples
    --------
    >>> image = np.array([[[10] * 3, [30] * 3]], np.uint8)
    >>> cover(image, (0, 0, 1, 1))[0, :, 0]
    array([20, 30], dtype=uint8)
    """
    check_choice("filling", filling, FILLINGS)
    size, fill = image.shape[:2], featureless(image, filling)
    weights = image_ops.region_weights(region, size, size).clip(0, 1)[..., None]
    return np.rint((1 - weights) * image + weights * fill).astype(np.uint8)
