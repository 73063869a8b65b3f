"""Other explanations of a pair's cosine, to compare the maps with.

Each gives a map of image 1 at the network's own grid of cells, higher where it says that a cell
makes the two images more alike; exchange the images for the map of image 2.  ``embed`` is a
TensorFlow function from a batch (N, H, W, 3) of preprocessed images to embeddings (N, D), ``other``
the (D,) embedding of image 2, ``grid`` the (h, w) cells of the map, which divide (H, W).
"""

from importlib.util import find_spec

import numpy as np

# In runs of the network for an image's map, once both embeddings are there; a gradient counts as
# two runs more.  Occlusion's are shared by all partners.
COSTS = {
    **dict.fromkeys(("maps", "maps, signed", "Grad-CAM", "blob", "random"), "0"),
    "area": "0, with masks",
    "gradient x input": "3",
    "integrated gradients": "3 a step",
    "occlusion": "1 a cell",
}


def grad_cam(conv1, conv2, projection=None):
    """Return Grad-CAM on the cosine of two average-pooled embeddings, float64 (h, w), >= 0.

        map[u] = max(0, sum_c alpha_c conv1[u, c])      alpha_c = mean over u of dcos / dconv1[u, c]

    (Selvaraju et al., "Grad-CAM", ICCV 2017).  With f = mean_u conv[u] @ kernel + bias the gradient
    is the same at every cell, so it needs no run of the network:

        dcos / dconv1[u] = kernel @ (f2 / |f2| - cos f1 / |f1|) / (N |f1|)

    conv1 and conv2 are the last convolutional activations, real (h, w, C) arrays; projection is
    None or (kernel (C, D), bias (D,) or None).

    >>> conv1, conv2 = np.eye(2).reshape(1, 2, 2), np.array([[[1.0, 0.0]]])
    >>> grad_cam(conv1, conv2).round(3)
    array([[0.354, 0.   ]])
    """
    conv1, conv2 = (np.asarray(conv, np.float64) for conv in (conv1, conv2))
    f1, f2 = conv1.mean((0, 1)), conv2.mean((0, 1))
    if projection is not None:
        kernel, bias = projection
        f1, f2 = (f @ kernel + (0 if bias is None else bias) for f in (f1, f2))
    f1, f2, norm = f1 / np.linalg.norm(f1), f2 / np.linalg.norm(f2), np.linalg.norm(f1)
    gradient = (f2 - (f1 @ f2) * f1) / norm
    if projection is not None:
        gradient = kernel @ gradient
    return (conv1 @ gradient / (conv1.shape[0] * conv1.shape[1])).clip(0)


def grad_cam_at(rest, activations, other):
    """Return Grad-CAM at any layer, float64 (h, w), >= 0, by one run from there on and back.

    activations are those of image 1 at the layer, float32 (h, w, C), and rest a TensorFlow function
    of a batch of them to embeddings (N, D).  At the last layer it is `grad_cam`.
    """
    weights = _gradients(rest, activations[None], other)[0].mean((0, 1), dtype=np.float64)
    return (activations @ weights).clip(0)


def gradient_times_input(embed, image, other, grid):
    """Return the cosine's gradient times the input, from grey, summed over each cell's pixels.

    (Shrikumar et al., "Not just a black box", 2016.)  Grey is 0 after preprocessing.  image is
    float32 (H, W, 3), preprocessed; the result is float64 (h, w), signed.
    """
    return cell_sums(_gradients(embed, image[None], other)[0] * image, grid)


def integrated_gradients(embed, image, other, grid, steps=16):
    """Return the integrated gradients of the cosine from a grey image, summed over cells.

        map = x * integral over t in 0..1 of dcos(t x) / dx

    (Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017), by the
    midpoint rule.  It sums to the cosine minus the grey image's, to the rule's precision.
    Parameters and result are those of `gradient_times_input`, and the number of steps.
    """
    along = ((np.arange(steps) + 0.5) / steps).astype(np.float32)[:, None, None, None]
    parts = np.array_split(along * image, -(-steps // 16))
    gradients = np.concatenate([_gradients(embed, part, other) for part in parts])
    return cell_sums(gradients.mean(axis=0) * image, grid)


def occlusion(embed, image, others, grid, fill=0.0):
    """Return how far the cosine drops if each cell is covered, float64 (P, h, w), signed.

        map[u] = cos(f1, f2) - cos(f1 with the cell u covered, f2)

    (Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.)  The
    covered images are run once for all partners, of which others (P, D) are the embeddings.  fill
    is what a covered cell shows, preprocessed: a number, of which 0 is grey, (3,) or (H, W, 3).
    """
    each = np.eye(grid[0] * grid[1], dtype=bool)
    covered = cosines(run_covered(embed, image, each, grid, fill), others)  # (cells, P)
    whole = cosines(np.asarray(embed(image[None])), others)
    return (whole - covered).T.reshape(-1, *grid)


def has_sbsm():
    """Return whether XAITK, which `sbsm` runs, is installed: pip install xaitk-saliency."""
    return find_spec("xaitk_saliency") is not None


def sbsm(embed, image, others, grid, window=2):
    """Return the saliency of XAITK's SBSM, float64 (P, 2 h, 2 w) in 0..1.

    Windows of so many cells a side slide over the image by one cell, which is grey there; a place
    has the mean of how much farther from the other image the windows over it take this one.
    (Dong et al., "Explainability for content-based image retrieval", CVPR workshops 2019.)  Windows
    go beyond the borders by half a cell, hence the result's cells.
    """
    from xaitk_saliency.impls.gen_descriptor_sim_sal.similarity_scoring import SimilarityScoring
    from xaitk_saliency.impls.perturb_image.sliding_window import SlidingWindow

    cells = (2 * grid[0], 2 * grid[1])
    masks = SlidingWindow((2 * window,) * 2, (2, 2)).perturb(np.zeros(cells))
    covered = run_covered(embed, image, ~masks.reshape(len(masks), -1), cells)
    whole = np.asarray(embed(image[None]))[0]
    return SimilarityScoring("cosine").generate(whole, np.asarray(others), covered, masks)


def blob(grid):
    """Return a centred Gaussian, a quarter of the image wide: where photographers put things.

    >>> blob((3, 3)).round(2)
    array([[0.17, 0.41, 0.17],
           [0.41, 1.  , 0.41],
           [0.17, 0.41, 0.17]])
    """
    down, across = ((np.arange(cells) + 0.5) / cells - 0.5 for cells in grid)
    return np.exp(-(down[:, None] ** 2 + across**2) / (2 * 0.25**2))


def run_covered(embed, image, covered, grid, fill=0.0, batch=32):
    """Return the embeddings (n, D) of an image with sets of its cells covered.

    covered, bool (n, h * w), says which cells each of n copies has covered; so many copies as batch
    says are run at once.
    """
    height, width = np.array(image.shape[:2]) // grid
    fill, embeddings = np.float32(fill), []
    for part in np.array_split(covered, -(-len(covered) // batch)):
        pixels = part.reshape(-1, *grid).repeat(height, axis=1).repeat(width, axis=2)
        embeddings.append(np.asarray(embed(np.where(pixels[..., None], fill, image))))
    return np.concatenate(embeddings)


def cosines(embeddings, others):
    """Return the cosines of (n, D) and (P, D) embeddings, float64 (n, P); 0 beside a zero one.

    >>> cosines([[3.0, 4.0], [0.0, 0.0]], [[1.0, 0.0]])
    array([[0.6],
           [0. ]])
    """
    embeddings, others = (np.asarray(f, np.float64) for f in (embeddings, others))
    norms = np.linalg.norm(embeddings, axis=1)[:, None] * np.linalg.norm(others, axis=1)
    products = embeddings @ others.T
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def cell_sums(values, grid):
    """Sum an (H, W, 3) array over its channels and the pixels of each cell of a grid.

    >>> cell_sums(np.ones((4, 6, 3)), (2, 2))
    array([[18., 18.],
           [18., 18.]])
    """
    height, width = np.array(values.shape[:2]) // grid
    blocks = np.asarray(values, np.float64).reshape(grid[0], height, grid[1], width, -1)
    return blocks.sum(axis=(1, 3, 4))


def _gradients(embed, batch, other):
    """Return the gradients, by the images of a batch, of their cosines with another embedding."""
    import tensorflow as tf

    batch = tf.constant(batch, tf.float32)
    other = tf.constant(np.asarray(other) / np.linalg.norm(other), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(batch)
        embeddings = embed(batch)
        similarity = embeddings @ other[:, None] / tf.norm(embeddings, axis=1, keepdims=True)
    return tape.gradient(similarity, batch).numpy()
