"""Why is an image closer to one image than to another?  A triplet with its maps laid over it."""

from dataclasses import dataclass

import numpy as np

from simvis import image_ops, models
from simvis.image_ops import write_whole
from simvis.maps import Method, PairMaps, check_places, find_maps, network_words
from simvis.overlay import Look, mark, overlay
from simvis.pair import EXAMPLE_PAIR, EXAMPLES, notebook_view, take_images
from simvis.plotting.legend import add_legend

EXAMPLE_TRIPLET = *EXAMPLE_PAIR, EXAMPLES / "room_b_view1.jpg"


def visualize_triplet(
    anchor,
    positive,
    negative,
    network="imagenet",
    *,
    pooling=None,
    power=None,
    explain=None,
    region=None,
    ignore=None,
    stride=None,
    reference=None,
    colormap=None,
    alpha=0.5,
    upsample="bilinear",
    size=None,
):
    """Show which regions make an image, the anchor, more similar to one image than to another.

    The difference of the two cosines is a sum over the places of any of the three images:

        difference = sum_u (map of anchor with positive - map of anchor with negative)[u]
                   = sum_v (map of positive)[v] - sum_w (map of negative)[w]

    and all three are drawn in colours with zero in the middle, the latter two over one range.

    Parameters
    ----------
    anchor, positive, negative : paths, PIL images or RGB uint8 (H, W, 3) arrays
    network, pooling, power, explain, stride, reference, alpha, upsample, size : as for
        `visualize_pair`
    region : None, a box (x0, y0, x1, y1) in pixels of the anchor, or a mask of its size
    ignore : None, a box or a mask, likewise, which is left out of the region or the anchor
    colormap : None for coolwarm, or any of matplotlib's that has a middle

    Returns
    -------
    triplet : TripletVisualization

    Raises
    ------
    ValueError, OSError
        As `visualize_pair` does.

    Examples
    --------
    >>> triplet = visualize_triplet(*EXAMPLE_TRIPLET)
    >>> triplet
    TripletVisualization(similarity 0.8195 - 0.8860 = -0.0665, imagenet network)
    >>> bool(np.isclose(triplet.difference_map.sum(), triplet.difference))
    True
    """
    fine = {"stride": stride, "reference": reference}
    method = Method(pooling, power, explain, region1=region, ignore1=ignore, **fine)
    look = Look(colormap, alpha, upsample, "zero", size)
    images, names = take_images((anchor, positive, negative))
    check_places(method, [image.shape[:2] for image in images[:2]])
    if not isinstance(network, models.EmbeddingNetwork):
        network = models.load_network(network)
    return compare(images, network, method, look, names)


@dataclass(frozen=True, eq=False, repr=False)
class TripletVisualization:
    """What `visualize_triplet` found.

    difference : float, similarity to the positive minus similarity to the negative
    difference_map : float64 (h, w) array, what each place of the anchor adds to the difference
    closer, farther : the PairMaps of the anchor with the positive, and with the negative
    shown : three float64 (h, w) arrays, what the places of anchor, positive and negative add to the
        difference: the difference_map, the positive's map, and the negative's with its sign turned
    overlays : three uint8 (H, W, 3) arrays, these over their images
    value_ranges : three (-m, m), the values that got the colormap's ends
    look : the Look that they were drawn with
    """

    difference: float
    difference_map: np.ndarray
    closer: PairMaps
    farther: PairMaps
    shown: tuple
    overlays: tuple
    value_ranges: tuple
    look: Look

    def __repr__(self):
        return f"{type(self).__name__}({self._words()}, {self.closer.network.name} network)"

    def picture(self, legend=False):
        """Return the overlays of anchor, positive and negative side by side, uint8 (H, W, 3)."""
        overlays = image_ops.bring_to_one_height(self.overlays)
        picture = np.hstack(overlays)
        if not legend:
            return picture
        widths = [each.shape[1] for each in overlays]
        network = network_words(self.closer.network, self.closer.method)
        bars = zip(self.shown, [self.look.colormap] * 3, self.value_ranges, strict=True)
        return add_legend(picture, widths, self._words(), network, bars)

    def save_maps(self, path):
        """Write the three maps, similarities and names as a .npz file without pickles."""
        arrays = {
            "difference": self.difference,
            "difference_map": self.difference_map,
            "similarity_closer": self.closer.similarity,
            "similarity_farther": self.farther.similarity,
            "map_positive": self.closer.similarity2,
            "map_negative": self.farther.similarity2,
            **dict(zip(("anchor", "positive"), self.closer.names, strict=True)),
            "negative": self.farther.names[1],
        }
        write_whole(path, lambda file: np.savez(file, **arrays))

    def _repr_html_(self):
        """Show the triplet in a notebook."""
        return notebook_view(self.picture(), f"{self._words()}, {self.closer.network.name}")

    def _words(self):
        one, other = self.closer.similarity, self.farther.similarity
        return f"similarity {one:.4f} - {other:.4f} = {self.difference:.4f}"


def compare(images, network, method, look, names):
    """Return the `TripletVisualization` of three uint8 (H, W, 3) arrays; look is of "zero"."""
    closer, farther = (
        find_maps([images[0], images[i]], network, method, [names[0], names[i]]) for i in (1, 2)
    )
    shown = closer.similarity1 - farther.similarity1, closer.similarity2, -farther.similarity2
    # the difference is far smaller than what it is a difference of, and has a range of its own
    _, (first,), own = overlay(images[:1], shown[:1], look, [1])
    _, others, both = overlay(images[1:], shown[1:], look, [1, 1])
    return TripletVisualization(
        difference=closer.similarity - farther.similarity,
        difference_map=shown[0],
        closer=closer,
        farther=farther,
        shown=shown,
        overlays=(mark(first, closer.method.region1, None, images[0].shape[:2]), *others),
        value_ranges=(*own, *both),
        look=look,
    )
