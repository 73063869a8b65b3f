"""Random looks of a view, and what a network's frozen blocks make of them.

A look is what may change while the room stays the same: the crop, the exposure, the colour cast,
the sharpness and the noise.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from simvis.image_ops import write_whole
from simvis.models.efficientnet_lite0 import preprocess

LOOKS = {224: 6, 448: 2}  # input size -> looks of each view, every other one mirrored
CROPPED = 0.3, 1.0  # the part of the area that a crop keeps
SQUEEZE = 0.2  # standard deviation of the logarithm of how a crop's aspect changes
SATURATION, GAMMA, EXPOSURE, CAST = 0.2, 0.15, 0.2, 0.08  # likewise, of factors and the exponent
SELDOM = 0.3  # how often a look is softened, gets noise, is compressed
SOFTEST, NOISIEST = 0.4, 6.0  # smallest scale that it has passed; deviation in grey levels


def random_look(image, size, rng, mirrored=False):
    """Return a random look of an image.

    The crop is resized to what a network takes, as whole images are: one of another aspect is
    squeezed.

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    size : (height, width)
    rng : numpy.random.Generator
    mirrored : bool

    Returns
    -------
    look : uint8 (height, width, 3) array

    Examples
    --------
    >>> image = np.zeros((240, 360, 3), np.uint8)
    >>> random_look(image, (224, 224), np.random.default_rng(0)).shape
    (224, 224, 3)
    """
    picture, box = Image.fromarray(image), _random_crop(image.shape[:2], rng)
    if rng.random() < SELDOM:
        scale = rng.uniform(SOFTEST, 1)
        small = [max(8, round(side * scale)) for side in size[::-1]]
        picture, box = picture.resize(small, Image.Resampling.BILINEAR, box), None
    picture = picture.resize(size[::-1], Image.Resampling.BILINEAR, box)
    if mirrored:
        picture = ImageOps.mirror(picture)
    pixels = _recolored(np.asarray(picture, np.float32), rng)
    if rng.random() < SELDOM:
        pixels += rng.normal(0, rng.uniform(0, NOISIEST), pixels.shape)
    look = pixels.clip(0, 255).astype(np.uint8)
    if rng.random() < SELDOM:
        file = io.BytesIO()
        Image.fromarray(look).save(file, "JPEG", quality=int(rng.integers(30, 90)))
        look = np.array(Image.open(file))
    return look


def _random_crop(image_size, rng):
    """Return a box (x0, y0, x1, y1) inside of an image, in fractions of pixels."""
    height, width = image_size
    area, squeeze = rng.uniform(*CROPPED), np.exp(rng.normal(0, SQUEEZE))
    h, w = height * min(1, np.sqrt(area / squeeze)), width * min(1, np.sqrt(area * squeeze))
    y, x = rng.uniform(0, height - h), rng.uniform(0, width - w)
    return x, y, min(x + w, width), min(y + h, height)


def _recolored(pixels, rng):
    """Return float32 pixels of another saturation, gamma, exposure and colour cast."""
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(np.exp(rng.normal(0, SATURATION)))
    pixels = (pixels / 255).clip(0, 1) ** np.float32(np.exp(rng.normal(0, GAMMA)))
    gain = np.exp(rng.normal(0, EXPOSURE) + rng.normal(0, CAST, 3))
    return pixels * np.float32(255 * gain)


class LookFeatures:
    """What the frozen blocks make of looks of each view, computed once and kept in a folder.

    Parameters
    ----------
    views : list of View
    folder : Path
        A file for each view and size goes there, named by what it is made from.
    frozen : function of a batch (N, h, w, 3) -> features (N, h', w', C)
    """

    def __init__(self, views, folder, frozen):
        self.views, self.folder, self.frozen = views, folder, frozen
        self.recipe = Path(__file__).read_bytes()
        self.loaded = {}

    def draw(self, batch, size, rng):
        """Return features of one look of each view, a float32 (rooms * views, h', w', C) array.

        The views of a room are all mirrored or none, so none meets its own mirror image: to a
        network that is neither the same room nor another.

        Parameters
        ----------
        batch : int (rooms, views) array of numbers of views
        size : int, a key of LOOKS
        rng : numpy.random.Generator
        """
        mirrored = rng.integers(0, 2, (len(batch), 1))
        looks = mirrored + 2 * rng.integers(0, LOOKS[size] // 2, batch.shape)
        chosen = zip(batch.ravel(), looks.ravel(), strict=True)
        return np.stack([self.of_view(view, size)[look] for view, look in chosen], dtype=np.float32)

    def of_view(self, number, size):
        """Return the features of all looks of a view, a float16 (looks, h', w', C) array."""
        if (number, size) not in self.loaded:
            view = self.views[number]
            made_from = self.made_from(view)
            path = self.folder / f"{made_from}_{size}.npy"
            if not path.exists():
                image, rng = view.image(), np.random.default_rng(int(made_from, 16))
                looks = [
                    random_look(image, (size, size), rng, mirrored=bool(look % 2))
                    for look in range(LOOKS[size])
                ]
                features = self.frozen(preprocess(looks, (size, size))).numpy()
                write_whole(path, lambda file: np.save(file, features.astype(np.float16)))
            self.loaded[number, size] = np.load(path, allow_pickle=False)
        return self.loaded[number, size]

    def made_from(self, view):
        """Return a text that stands for a view's image and for how its looks are drawn."""
        return hashlib.sha256(self.recipe + view.image_path.read_bytes()).hexdigest()[:24]
