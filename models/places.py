"""Where in the image the positions of a network lie: measured by changing parts of the image."""

import numpy as np

from simvis.similarity_ops import tokens_to_map

MOST_PREFIX_TOKENS = 16


class NotInPlace(ValueError):
    """Says where the cells of a map do not lie over the whole image, row by row."""


CORNERS = 255 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(8, 3)  # of RGB


def token_grid(count, grid, prefix, size, maps, places):
    """Return the (h, w) that tokens come from, and how many tokens stand before these.

    Said, or measured, see `token_places`, or that of a feature map that they are made of, or that
    of square patches of the image, or a square.
    """
    seen = None if places is None else np.flatnonzero(np.isfinite(places[:, 0]))
    if grid is not None:
        before = left = count - grid[0] * grid[1]
        if seen is not None and len(seen) == grid[0] * grid[1] and np.ptp(seen) == len(seen) - 1:
            before = int(seen[0])
        if left < 0 or prefix not in (None, before):
            raise ValueError(
                f"grid: {grid[0]} x {grid[1]} and prefix {prefix or 0} do not make {count} tokens"
            )
        return tuple(grid), before
    say = "say grid=(h, w), and prefix= for how many tokens stand before it"
    if seen is not None:
        if prefix is not None and prefix != seen[0]:
            raise ValueError(
                f"grid: of {count} tokens {seen[0]} stand before those that are places, not "
                f"prefix {prefix}; {say}"
            )
        fits = {}
        for height in range(1, len(seen) + 1):
            shape = np.array([height, len(seen) // height])
            if shape.prod() == len(seen) == np.ptp(seen) + 1:
                centres = np.indices(shape).reshape(2, -1).T + 0.5
                off = np.abs(places[seen] * shape - centres).max(1)
                fits[tuple(map(int, shape))] = np.mean(off < 1)  # a few are measured badly
        best = max(fits, key=fits.get, default=None)
        if best and fits[best] > 0.8:
            return best, int(seen[0])
        raise NotInPlace(
            f"grid: the {len(seen)} of {count} tokens that look at places do not lie row by row "
            f"over the whole image; crop, pad or turn it in preprocess= instead, or {say}"
        )
    sides = range(2, min(size) + 1)
    patches = {(size[0] // s, size[1] // s) for s in sides if not (size[0] % s or size[1] % s)}
    known = {(h, w) for h, w in maps if h and w and h * w > 1}
    few = range(MOST_PREFIX_TOKENS + 1) if prefix is None else [prefix]
    roots = {(root, root) for root in {int(np.sqrt(max(count - each, 0))) for each in few}}
    for grids in (known, patches, roots):
        fit = {(each, count - each[0] * each[1]) for each in grids}
        fit = sorted(each for each in fit if each[1] in few and each[0] != (1, 1))
        if len(fit) == 1:
            return fit[0]
        if fit:
            (one, other), words = [each[0] for each in fit[:2]], "{} x {} and {} x {}"
            raise ValueError(f"grid: {count} tokens fit {words.format(*one, *other)}; {say}")
    raise ValueError(f"grid: {count} tokens are no grid that could be told; {say}")


def check_places(look, to_batch, size):
    """Raise a ValueError if a map does not lie over the whole image, as it is shown.

    A band along each edge of the image is changed: something must move, and no other edge of the
    map more than that one.  Nothing is said of a network whose cells all see all of the image.

    look : function of a batch that returns activations (1, h, w, C)
    """
    rng = np.random.default_rng(0)
    base = np.kron(
        rng.integers(0, 256, (8, 8, 3)), np.ones((-(-size[0] // 8), -(-size[1] // 8), 1))
    )
    base = base[: size[0], : size[1]].astype(np.uint8)
    start = np.asarray(look(to_batch([base])), np.float64)[0]
    names, unseen = (("top", "bottom"), ("left", "right")), []
    for axis, end in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cells = start.shape[axis]
        if cells < 4 or size[axis] < 2 * cells:
            continue
        # pixels that are left over at the end are usual, up to a cell
        band = max(size[axis] // cells // (1 if end else 2), 1)
        there = np.s_[size[axis] - band :] if end else np.s_[:band]
        there = (slice(None),) * axis + (there,)
        moved = 0
        for fill in ("noise", *CORNERS):
            image = base.copy()
            shape = image[there].shape
            image[there] = rng.integers(0, 2, shape) * 255 if isinstance(fill, str) else fill
            moved = np.square(np.asarray(look(to_batch([image])), np.float64)[0] - start).sum(-1)
            if moved.any():
                break
        else:
            unseen.append(f"{band} pixels at the {names[axis][end]}")
            continue
        along, across = (np.sqrt(moved.mean(each)) for each in (1 - axis, axis))
        along = along[::-1] if end else along
        near, far = along[:2].max(), along[2:].max()
        mirrored = along[-1] > 3 * along.min() and along[-1] > along[0] / 2
        turned = across.max() > 4 * across.min() and along.max() < 1.5 * along.min()
        if not np.isfinite(along).all():
            return
        if far > 3 * near or mirrored or turned:
            raise NotInPlace(
                f"model: what changes at the {names[axis][end]} of the image changes the map "
                "elsewhere: the model pads, turns or mirrors the image inside; do that in "
                "preprocess= instead, or say layer= for a map before that, with pooling='network'"
            )
    if unseen:
        raise NotInPlace(
            f"model: the map does not depend on {' and '.join(unseen)} of {size[0]} x {size[1]}: "
            "the model crops the image inside; do that in preprocess= instead"
        )


# --- how activations lie in an array --------------------------------------------------------------

ORDERS = {"channels_first": (0, 2, 3, 1), "channels_last": (0, 1, 2, 3)}


def axes_of(shape, count, size, data_format=None):
    """Return the order of axes that makes (N, *positions, C) of a shape, or None if nothing does.

    Parameters
    ----------
    shape : of a tensor of so many images: a feature map, or tokens (N, T, C) or (T, N, C)
    size : (height, width) of the images, to which a feature map's sides are in proportion
    data_format : None, "channels_first" or "channels_last", if it is said

    Examples
    --------
    >>> axes_of((3, 512, 7, 7), 3, (224, 224))
    (0, 2, 3, 1)
    """
    if len(shape) == 3 and count in shape[:2]:
        axes = (0, 1, 2) if shape[0] == count else (1, 0, 2)
        return axes if shape[axes[1]] > 1 else None
    if len(shape) != 4 or shape[0] != count:
        return None
    for order, axes in ORDERS.items():
        height, width = (shape[axis] for axis in axes[1:3])
        apart = abs(height * size[1] - width * size[0])
        fits = height * width > 1 and apart <= max(size)
        if order == data_format or (data_format is None and fits):
            return axes
    return None


class Layout:
    """How a layer's activations (N, *positions, C) lie in the image; `words` says so.

    The arguments are those of `token_grid`, and the shape of the activations.
    """

    def __init__(self, shape, grid, prefix, size, maps, places=None):
        self.grid, self.prefix, self.words, self.sides = None, 0, "", shape[1:3]
        if len(shape) == 3:
            self.grid, self.prefix = token_grid(shape[1], grid, prefix, size, maps, places)
            self.sides = self.grid
            self.words = f", tokens as {self.grid[0]} x {self.grid[1]}"
            self.words += f" after {self.prefix} others" if self.prefix else ""

    def lay(self, conv):
        """Return activations (N, *positions, C) as maps (N, h, w, C)."""
        return conv if self.grid is None else tokens_to_map(self.rows(conv), self.grid)

    def rows(self, tokens):
        """Return those of tokens (N, T, ...) that are places, (N, h * w, ...), and all of a map."""
        if self.grid is None:
            return tokens
        return tokens[:, self.prefix : self.prefix + self.grid[0] * self.grid[1]]

    def sums(self, parts):
        """Return what positions (K, *positions) add as maps (K, h, w), and what is no place."""
        if self.grid is None:
            return parts, 0.0
        maps = self.rows(parts).reshape(-1, *self.grid)
        return maps, parts.sum(1) - maps.sum((1, 2))


CELLS = 7  # of a map that is made of the image itself, along its shorter side


class Pixels:
    """As a `Layout`, of the image itself, whose pixels are summed up by cells."""

    words = ""

    def sums(self, parts):
        """Return what pixels (K, H, W) add as maps (K, h, w), and what is no place.

        The last cells along a side may be smaller.

        Examples
        --------
        >>> Pixels().sums(np.ones((1, 15, 30)))[0][0, :2, :2]
        array([[4., 4.],
               [4., 4.]])
        """
        side = max(1, min(parts.shape[1:]) // CELLS)
        for axis in (1, 2):
            parts = np.add.reduceat(parts, np.arange(0, parts.shape[axis], side), axis)
        return parts, 0.0
