"""A pair as a matplotlib figure, for a paper or a screen."""

from contextlib import contextmanager
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from simvis import image_ops
from simvis.maps import network_words, similarity_words

# (width, height) in inches, of text in points, and characters in a line
STYLES = {"screen": ((8, 6), 10, 90), "paper": ((3.35, 2.75), 6, 62)}
# Text that stays text: IEEE and ACM refuse the Type 3 fonts of matplotlib's default.
SAVING = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
VECTORS = ("pdf", "ps", "eps", "svg")


class PairFigure(Figure):
    """A matplotlib figure that keeps its images' own pixels, and its text as text, when saved."""

    def savefig(self, fname, *, format=None, dpi=None, **options):
        kind = format or (Path(fname).suffix[1:] if isinstance(fname, (str, Path)) else "png")
        images = [image for ax in self.axes for image in ax.images]
        if kind.lower() in VECTORS:
            for image in images:
                image.set_interpolation("none")  # embeds it as it is
        with own_style(SAVING):
            super().savefig(fname, format=format, dpi=dpi or self._dpi_of_images(images), **options)

    def _dpi_of_images(self, images):
        """Return the dots per inch, 200 or more, at which no image has more pixels than dots."""
        self.draw_without_rendering()  # settles the layout
        shown = [(image.get_size()[1], image.get_window_extent().width) for image in images]
        return max(200, *(pixels / width * self.dpi + 1 for pixels, width in shown))


@contextmanager
def own_style(changes):
    """Draw in matplotlib's own style with some changes, whatever a matplotlibrc says."""
    with matplotlib.rc_context():  # matplotlib.style would read the user's style files, too
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(changes)
        yield


def make_figure(pair, style="screen"):
    """Return a `PairFigure` of a PairVisualization: its images, its overlays and their values."""
    size, points, letters = STYLES[style]
    with own_style({"font.size": points, "axes.titlesize": points}):
        figure = PairFigure(figsize=size, layout="constrained")
        words = similarity_words(pair), network_words(pair.network, pair.method)
        title = "\n".join(fill(_drawable(line), letters) for line in words)
        figure.suptitle(title, fontsize=points + (2 if style == "screen" else 1), parse_math=False)
        columns = (
            (pair.names[0], pair.image1, pair.overlay1, pair.shown1, pair.value_range1),
            (pair.names[1], pair.image2, pair.overlay2, pair.shown2, pair.value_range2),
        )
        for (above, below), (name, image, overlay, shown, value_range) in zip(
            figure.subplots(2, 2).T, columns, strict=True
        ):
            above.imshow(image)
            above.set_title(_drawable(Path(name).name), parse_math=False)
            below.imshow(overlay)
            if shown is not None:
                painted = image_ops.upsample_map(shown, overlay.shape[:2], pair.look.upsample)
                _add_bar(figure, below, pair.look, painted, value_range)
            for ax in (above, below):
                ax.set_axis_off()
    return figure


def _add_bar(figure, ax, look, painted, value_range):
    """Add a bar in the colours of the overlay over white, with a tip if values leave it."""
    white = [[[255] * 3] * 256]
    colors = image_ops.colorize_map([list(range(256))], look.colormap)
    blended = image_ops.blend(np.array(white, np.uint8), colors, look.alpha)[0] / 255
    low, high = value_range
    slack = 0.01 * (high - low)
    tips = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    bar = figure.colorbar(
        ScalarMappable(Normalize(low, high), ListedColormap(blended)),
        ax=ax,
        orientation="horizontal",
        shrink=0.9,
        ticks=MaxNLocator(4),
        extend=tips.get((painted.min() < low - slack, painted.max() > high + slack), "both"),
    )
    bar.set_label("contribution to the similarity, per cell")


def _drawable(text):
    """Return a text with a question mark for each letter that the figure's font does not have."""
    font = get_font(findfont(FontProperties()))
    text = " ".join(text.split())
    return "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in text)
