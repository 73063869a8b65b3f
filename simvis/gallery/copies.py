"""Copies of one picture: the same file again, or the picture saved once more or made smaller."""

from dataclasses import replace

import numpy as np
from PIL import Image

SIDE = 16  # pixels of the small pictures that are compared
# How far two small pictures may be apart, squared and on average: grey levels, and a share of how
# much they vary.  Saved again or at half the size, the rendered rooms of evaluation/held_out are up
# to 0.0015 apart, and from 0.0045 on with one object in another's place.
ROUNDING, SHARE = 1.0, 0.003


def fold(hits):
    """Return hits without those that are copies of an earlier one, which names them.

    A copy has the same contents, or is the same picture to the eye, see `are_copies`.

    Parameters
    ----------
    hits : list of `results.Hit`, best first

    Returns
    -------
    folded : list of Hit, with the paths of their copies in ``copies``
    """
    kept, copies, small = [], [], np.zeros((0, 3 * SIDE**2))
    for hit in hits:
        own = np.full(3 * SIDE**2, np.nan) if hit.image is None else thumbnail(hit.image)
        same = [hit.contents != "" and hit.contents == other.contents for other in kept]
        first = np.flatnonzero(np.array(same, bool) | are_copies(small, own))
        if len(first):
            copies[first[0]].append(hit.path)
            continue
        kept.append(hit)
        copies.append([])
        small = np.vstack([small, own])
    return [replace(hit, copies=tuple(paths)) for hit, paths in zip(kept, copies, strict=True)]


def thumbnail(image):
    """Return what `are_copies` compares of an image, uint8 (H, W, 3): float64 (768,)."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float64).ravel()


def are_copies(small, other):
    """Return whether small pictures, (..., 768) arrays, show the same as another one, (768,).

    They do if their mean squared difference is at most 1 + 0.003 s t, of the standard deviations s
    and t of their values: a correlation of some 0.998.  One that is NaN is a copy of none.

    Examples
    --------
    >>> image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    >>> bool(are_copies(thumbnail(image), thumbnail(image.repeat(2, 0).repeat(2, 1))))
    True
    """
    apart = np.mean((small - other) ** 2, axis=-1)
    return apart <= ROUNDING + SHARE * np.std(small, axis=-1) * np.std(other, axis=-1)
