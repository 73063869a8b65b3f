"""Cells of fine maps that match: each other's nearest by the layers of all grids."""

import numpy as np

from simvis import image_ops
from simvis.similarity_ops import local_features, mutual_neighbours, pool_features


def fine_matches(convs, layers, count, weights, **options):
    """Return pairs of cells of the finest layer's grid, as `similarity_ops.mutual_matches` does.

    The feature of a cell is made of those of all layers there, each of length 1 and interpolated.
    What a pair adds is what the last layer's local features add between its cells, interpolated.

    Parameters
    ----------
    convs : two float (h, w, C) arrays, the last layer's activations
    layers : list of two float (h, w, C) arrays each, those of finer layers, the finest one last
    count : int, how many at most
    weights : two float (h, w) regions or None
    options : of `local_features`
    """
    grids = [finest.shape[:2] for finest in layers[-1]]
    features, local = [], []
    for i, (conv, grid, region) in enumerate(zip(convs, grids, weights, strict=True)):
        units = [_units(_fitted(each[i], grid)) for each in (convs, *layers)]
        seen = np.concatenate(units, -1)
        share = conv[..., 0].size / np.prod(grid)
        each = _fitted(local_features(conv, region=region, **options), grid) * share
        if region is not None:
            seen = seen * (_fitted(region[..., None], grid) > 0)
        features.append(seen)
        local.append(each / np.linalg.norm(pool_features(conv, region=region, **options)))
    cells, cosines = mutual_neighbours(*features)
    y1, x1, y2, x2 = cells.T
    adds = (local[0][y1, x1] * local[1][y2, x2]).sum(-1)
    best = np.argsort(-adds, kind="stable")[:count]
    return cells[best], adds[best], cosines[best]


def finer_layers(contributions, batch, stride, last):
    """Return the activations (N, h, w, C) at a stride and at those that double it, finest last.

    Those that the network does not have are left out, and those of the last layer's own grid.
    """
    found = [contributions.look(batch, stride)]
    while stride < 64:
        stride *= 2
        try:
            found.insert(0, contributions.look(batch, stride))
        except ValueError:
            continue
    return [each for each in found if each.ndim == 4 and each.shape[1:3] != tuple(last)]


def _fitted(features, grid):
    """Return features (h, w, C) interpolated to another grid."""
    if features.shape[:2] == tuple(grid):
        return np.asarray(features, np.float64)
    channels = np.moveaxis(features, -1, 0)
    return np.stack([image_ops.upsample_map(each, grid) for each in channels], -1)


def _units(features):
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(norms > 0, norms, 1)
