"""A pair of images with its maps laid over it: picture, figure, page, and notebook view."""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import image_ops
import models
from files import write_whole
from pair_maps import (
    Method,
    PairMaps,
    check_choice,
    check_number,
    check_places,
    compute_maps,
    network_for,
    run_network,
)

EXAMPLES = Path(__file__).resolve().parent / "example_images"
EXAMPLE_PAIR = EXAMPLES / "room_a_view1.jpg", EXAMPLES / "room_a_view2.jpg"
NORMALIZATIONS = ("each", "pair")
FIGURE_FORMATS = (".png", ".pdf", ".svg")


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
    point1=None,
    point2=None,
    pairwise=False,
    colormap="jet",
    alpha=0.5,
    upsample="bilinear",
    normalize="each",
    size=None,
):
    """Compute the similarity maps of two images and lay them over the images.

    Parameters
    ----------
    image1, image2 : paths, PIL images or RGB uint8 (H, W, 3) arrays
    network : EmbeddingNetwork, or a name for `models.load_network`
    pooling : None for the network's own, or "average", "max" or "gem"
    power : None for the network's own, or a real number >= 1, the exponent of GeM
    explain : None for the network's default, "pooled" or "head"
        The pooled feature, or the network's output through its linear head.
    region1, region2 : None, a box (x0, y0, x1, y1) in pixels, or a mask of the image's size
    point1, point2 : None or (x, y) in pixels, (0, 0) being the top left one
        The other image shows what the point matches.
    pairwise : bool, keep the pairwise tensor
    colormap : str, any of matplotlib's
    alpha : 0..1, how opaque the colours are
    upsample : "bilinear" or "bicubic"
    normalize : "each" colours each map over its own range, "pair" both over one range
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
    method = Method(pooling, power, explain, region1, region2, point1, point2)
    look = Look(colormap, alpha, upsample, normalize, size)
    images = [image_ops.as_image(image) for image in (image1, image2)]
    check_places(method, [image.shape[:2] for image in images])
    if isinstance(network, str):
        network = models.load_network(network)
    names = [
        str(image) if isinstance(image, (str, Path)) else f"image {number}"
        for number, image in enumerate((image1, image2), 1)
    ]
    return visualize(images, network, method, look, names, pairwise)


@dataclass(frozen=True)
class Look:
    """How maps are laid over images; its fields are keywords of `visualize_pair`."""

    colormap: str = "jet"
    alpha: float = 0.5
    upsample: str = "bilinear"
    normalize: str = "each"
    size: int | None = None

    def __post_init__(self):
        check_choice("upsample", self.upsample, tuple(image_ops.UPSAMPLINGS))
        check_choice("normalize", self.normalize, NORMALIZATIONS)
        check_number("alpha", self.alpha, 0, 1, "a number in 0..1")
        if self.size is not None:
            check_number("size", self.size, 1, 10_000, "1 to 10000 pixels")
        image_ops.colorize_map([[0.0]], self.colormap)  # raises for an unknown one


@dataclass(frozen=True, eq=False, repr=False)
class PairVisualization(PairMaps):
    """What `visualize_pair` found: its `PairMaps`, laid over the images.

    images : two uint8 (H, W, 3) arrays, as they were given
    image1, image2 : uint8 (H, W, 3) arrays, the images that the overlays were made of
    overlay1, overlay2 : uint8 (H, W, 3) arrays: the match if there is one, else the map, or, for
        the image that the only point lies in, the image; with regions and points drawn
    value_range1, value_range2 : (low, high), the values that got the colormap's ends
    look : the Look that they were drawn with
    """

    images: tuple
    image1: np.ndarray
    image2: np.ndarray
    overlay1: np.ndarray
    overlay2: np.ndarray
    value_range1: tuple
    value_range2: tuple
    look: Look

    def picture(self):
        """Return the two overlays side by side, uint8 (H, W, 3)."""
        return image_ops.combine_horizontal([self.overlay1, self.overlay2])

    def figure(self):
        """Return a matplotlib figure of both images and both overlays, with bars of true values."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 6), layout="constrained")
        figure.suptitle(f"similarity {self.similarity:.3f}")
        columns = (
            (self.names[0], self.image1, self.overlay1, self.value_range1),
            (self.names[1], self.image2, self.overlay2, self.value_range2),
        )
        for (above, below), (name, image, overlay, value_range) in zip(
            figure.subplots(2, 2).T, columns, strict=True
        ):
            above.imshow(image)
            # a name may hold bytes that are no text, and dollars that are no formula
            title = Path(name).name.encode(errors="replace").decode()
            above.set_title(title, parse_math=False)
            below.imshow(overlay)
            bar = figure.colorbar(
                ScalarMappable(Normalize(*value_range), self.look.colormap),
                ax=below,
                orientation="horizontal",
                alpha=self.look.alpha,
                shrink=0.9,
            )
            bar.set_label("contribution to the similarity, per cell")
            for ax in (above, below):
                ax.set_axis_off()
        return figure

    def save_figure(self, path):
        """Write the `figure` as a .png, .pdf or .svg file."""
        kind = Path(path).suffix[1:].lower()
        figure = self.figure()
        write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=200))

    def save_page(self, path):
        """Write a page to explore the pair in any browser, see `explorer.write_explorer`."""
        from explorer import write_explorer

        network, convs = self.network, (self.conv1, self.conv2)
        if network.for_pairs:  # the page needs more of them than the maps did
            convs = network.activations(network.preprocess(self.images))
        words = f"{network.name}: {network.description}"
        if self.network_similarity is not None:
            words += f"; it says {self.network_similarity:.4f} of the whole images itself"
        write_explorer(
            path,
            *self.images,
            *convs,
            pooling=self.method.pooling or self.network.pooling,
            projection=self.network.projection,
            power=self.method.power or self.network.power,
            explain=self.method.explain or self.network.explain,
            colormap=self.look.colormap,
            alpha=self.look.alpha,
            normalize=self.look.normalize,
            # a mask is no box: the page begins with the whole image then
            regions=[region if np.ndim(region) == 1 else None for region in self.method.regions],
            names=[Path(name).name for name in self.names],
            network=words,
        )

    def _repr_html_(self):
        """Show the pair in a notebook."""
        file = io.BytesIO()
        Image.fromarray(self.picture()).save(file, "JPEG", quality=88)
        uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
        ranges = " and ".join(
            f"{low:.2g} to {high:.2g}" for low, high in (self.value_range1, self.value_range2)
        )
        words = f"similarity {self.similarity:.4f}, colours from {ranges}, {self.network.name}"
        return f'<figure><img src="{uri}"><figcaption>{html.escape(words)}</figcaption></figure>'


def visualize(images, network, method, look, names, pairwise=False):
    """Return the `PairVisualization` of two uint8 (H, W, 3) arrays."""
    runner = network_for(network, method, pairwise)
    convs, embeddings = run_network(runner, network.preprocess(images), method)
    embeddings = (None, None) if embeddings is None else embeddings
    sizes = [image.shape[:2] for image in images]
    maps = compute_maps(convs, sizes, network, method, names, pairwise, embeddings)
    return draw(images, maps, look)


def draw(images, maps, look):
    """Lay `PairMaps` over their images; return a `PairVisualization`."""
    method, matches = maps.method, (maps.match1, maps.match2)
    values = [
        similarity if match is None else match
        for match, similarity in zip(matches, (maps.similarity1, maps.similarity2), strict=True)
    ]
    shown = images
    if look.size is not None:
        shown = [image_ops.resize(image, (look.size, look.size)) for image in images]
    upsampled = [
        image_ops.upsample_map(each, image.shape[:2], look.upsample)
        for each, image in zip(values, shown, strict=True)
    ]
    ranges = [(float(each.min()), float(each.max())) for each in upsampled]
    if look.normalize == "pair":
        ranges = [(min(low for low, _ in ranges), max(high for _, high in ranges))] * 2
    overlays = []
    for i, overlay in enumerate(shown):
        if method.points[i] is None or matches[i] is not None:
            heatmap = image_ops.colorize_map(upsampled[i], look.colormap, ranges[i])
            overlay = image_ops.blend(overlay, heatmap, look.alpha)
        size = images[i].shape[:2]
        overlays.append(_mark(overlay, method.regions[i], method.points[i], size))
    return PairVisualization(
        **vars(maps),
        images=tuple(images),
        image1=shown[0],
        image2=shown[1],
        overlay1=overlays[0],
        overlay2=overlays[1],
        value_range1=ranges[0],
        value_range2=ranges[1],
        look=look,
    )


def _mark(picture, region, point, image_size):
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
        x, y = (
            (position + 0.5) * scale - 0.5
            for position, scale in zip(point, (across, down), strict=True)
        )
        picture = image_ops.draw_point(picture, x, y)
    return picture
