"""Any torch.nn.Module from images to embeddings, as an EmbeddingNetwork, checked like all others.

A forward hook looks at what a layer puts out, and puts another in its place: so what follows the
layer is a function of its activations, whatever the module is.  That function is traced; where it
pools and is linear then, which calling its pieces shows, `similarity_ops` knows all of it, and
everything else is split up by secants, see `torch_secants`.
"""

from collections import Counter
from contextlib import contextmanager
from functools import cache, partial
from threading import RLock

import numpy as np
import torch

from simvis.models import torch_secants
from simvis.models.functions import (
    TOLERANCE,
    as_array,
    as_batch,
    checked_size,
    derived_functions,
    of_pooling,
    sample_images,
    tolerance_of,
)
from simvis.models.network import EmbeddingNetwork, grey_batch, stride_of
from simvis.models.places import ORDERS, Layout, NotInPlace, Pixels, axes_of, check_places
from simvis.models.probes import NotLinear, Piece, pooling_and_head, rescales
from simvis.models.steps import bottlenecks, leading_to

STEPS = {2: 8, 3: 1}  # of the way from a grey image: of tokens, and of feature maps
ONE_AT_A_TIME = RLock()  # of threads that look inside of a module, which they share


def from_torch(
    module,
    layer=None,
    *,
    input_size,
    preprocess,
    pooling=None,
    grid=None,
    prefix=None,
    data_format=None,
    tolerance=None,
    name=None,
):
    """Make an `EmbeddingNetwork` of a torch.nn.Module.

    It runs in evaluation mode, where its parameters lie and in their precision, and is afterwards
    as it was before.

    Parameters
    ----------
    module : torch.nn.Module that returns a tensor (N, D) of embeddings
    layer : None, or a submodule or its dotted name
        What is looked at: a feature map (N, C, h, w) or (N, h, w, C), or tokens (N, T, C).  None
        finds the last one of which most positions count.
    input_size : (height, width) in pixels, of the images that the module takes
    preprocess : function of a list of RGB uint8 (H, W, 3) arrays -> what the module takes, a tensor
        or an array (N, 3, H, W)
    pooling : None, or "average", "max" or "gem", as what follows the layer, which is checked
    grid, prefix : None, or the (height, width) of the image in tokens, and how many tokens, as CLS
        and registers, stand before those, if their number does not tell
    data_format : None, or "channels_first" or "channels_last", of a feature map, if its shape does
        not tell
    tolerance : None or float, how far the directions of the network's own embedding and of the sum
        of the local features may be apart; None for 2e-5, or more in half precision
    name : None or str; None for the name of the module's class

    Returns
    -------
    network : EmbeddingNetwork

    Raises
    ------
    ValueError
        Names the argument at fault, or says what to do instead.

    Examples
    --------
    >>> from torch import nn
    >>> _ = torch.manual_seed(0)
    >>> pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> module = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.ReLU(), *pool)
    >>> def preprocess(images):
    ...     return np.stack(images).transpose(0, 3, 1, 2) / 255
    >>> network = from_torch(module, input_size=(32, 32), preprocess=preprocess)
    >>> network.description
    'average pooling and a linear head after 1 (ReLU)'
    """
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    size, to_batch = checked_size(input_size), partial(as_batch, preprocess)
    samples = to_batch(sample_images(size))
    inside = _Inside(module, size, data_format)
    if layer is None:
        traced = _find_layer(inside, samples)
    else:
        inside.choose(layer, samples)
        traced = inside.trace(samples[:1])
    shape = inside.look(samples[:1])[0].shape
    layout = Layout(shape, grid, prefix, size, inside.maps)
    place = inside.words + layout.words
    if tolerance is None:
        said = inside.output_of(samples[:1]), next(module.parameters(), None)
        tolerance = max(map(tolerance_of, said))

    def look(batch):
        conv, output = inside.look(batch)
        return layout.lay(conv), output

    fields = {
        "name": name or type(module).__name__,
        "input_size": size,
        "preprocess": to_batch,
        "engine": "PyTorch",
        "tolerance": tolerance,
        "weights": lambda: [
            *(as_array("module", each) for each in module.state_dict().values()),
            to_batch(sample_images(size)),
        ],
    }
    along = _Contributions(inside, layout, samples, grey_batch(to_batch, size))
    try:
        check_places(lambda batch: look(batch)[0], to_batch, size)
    except NotInPlace:  # which the image itself is, whatever becomes of it
        if pooling is not None or not inside.choose_image(samples):
            raise
        along.layout = Pixels()
        return _derived(inside, along, fields)
    line = bottlenecks(traced.steps, traced.source, traced.output)
    line = [each for each in line if each.dtype]  # the others are tuples of tensors
    between = partial(_piece, traced, half=tolerance > TOLERANCE)
    try:
        found = pooling_and_head(line, between, layout.grid, layout.prefix)
    except NotLinear as problem:
        if pooling is not None:
            raise ValueError(f"pooling: {pooling} is not what follows {place}: {problem}") from None
        return _derived(inside, along, fields)
    if pooling not in (None, found[0]):
        raise ValueError(f"pooling: {found[0]} follows {place}, not {pooling}")
    return of_pooling(look, *found, place, **fields, contributions=along)


# --- what follows the layer -----------------------------------------------------------------------


def _piece(traced, source, target, *, half):
    """Return what lies between two tensors as a `Piece`."""
    steps = leading_to(traced.steps, [target], [source])

    def function(values):
        found = []
        for each in values:
            given = torch.tensor(each, dtype=traced.dtype, device=traced.device)
            values = torch_secants.run(traced, steps, {source: given.reshape(source.shape)})
            found.append(values[target].flatten().cpu().numpy())
        return np.stack(found)

    return Piece(function, source.shape[1:], target.name, half)


def _derived(inside, along, fields):
    """Make the EmbeddingNetwork whose activations are local features, times their number."""
    place = inside.words + along.layout.words
    return EmbeddingNetwork(
        **fields,
        pooling="average",
        projection=None,
        **derived_functions(lambda batch: inside.look(batch)[1], along),
        contributions=along,
        derived=True,
        description=f"all that follows {place}, by secants from a grey image",
    )


class _Contributions:
    """What each position of a layer adds to an embedding seen along directions.

    It is called as `models.contributions.Contributions` are.
    """

    def __init__(self, inside, layout, samples, grey):
        self.inside, self.layout, self.samples, self.traced = inside, layout, samples, {}
        self.layer = cache(self._layer)
        self.reference = cache(lambda stride: self.look(grey, stride))

    def __call__(self, batch, directions, stride=None, references=None, regions=(), **pooling):
        """Return (maps (K, h, w), constants (K,)) for each image of a batch."""
        inside, layout, alone = self.layer(stride)
        upper, outputs = inside.look(batch)
        if references is None:
            lower = np.repeat(self.reference(stride), len(batch), 0)
        else:
            lower = inside.look(references)[0]
        found = []
        for i, along in enumerate(directions):
            if not np.isfinite(outputs[i]).all():
                raise ValueError("network: its own output is not finite")
            weights = np.float32(regions[i]) if pooling else np.zeros(0, np.float32)
            key = stride, weights.tobytes(), *(id(each) for each in pooling.values())
            if key not in self.traced or not alone:  # what else an image leads to is constant then
                self.traced = {} if len(self.traced) > 8 else self.traced
                self.traced[key] = self._trace(inside, batch[i : i + 1], weights, pooling), pooling
            parts, constant, output = torch_secants.contributions(
                self.traced[key][0], upper[i], lower[i], along, STEPS[upper[i].ndim]
            )
            if not pooling:  # as it is without its last normalisation, or in half precision
                scale = np.linalg.norm(outputs[i]) / np.linalg.norm(output)
                parts, constant = parts * scale, constant * scale
            maps, others = layout.sums(parts)
            found.append((maps, constant + others))
        return found

    def look(self, batch, stride):
        """Return the activations (N, *positions, C) of the layer of a stride."""
        return self.layer(stride)[0].look(batch)[0]

    def _layer(self, stride):
        """Return the last layer of a stride that all goes through, its layout, and that it is."""
        image = self.inside.layer is None
        own = None if image else stride_of(self.inside.size, self.layout.sides)
        if image or stride in (None, own):
            return self.inside, self.layout, self.inside.is_all(self.samples[:2])
        known = set()
        for layer, axes, maps in reversed(self.inside.calls(self.samples)):
            if len(axes) != 4:
                continue
            pixels = stride_of(self.inside.size, maps.shape[1:3])
            if pixels == stride:
                found = _Inside(self.inside.module, self.inside.size, self.inside.data_format)
                found.choose(layer, self.samples, axes)
                if found.is_all(self.samples[:2], maps):
                    return found, Layout(maps.shape, None, None, self.inside.size, ()), True
            elif pixels < own:
                known.add(pixels)
        words = f"there are {', '.join(map(str, sorted(known)))}" if known else "it has one grid"
        raise ValueError(
            f"stride: the module has no layer of {stride} pixels to a cell that all of it leads "
            f"through; {words}"
        )

    def _trace(self, inside, image, weights, pooling):
        """Return what follows a layer, without a last normalisation, or with a pooling instead."""
        if pooling:
            weights = torch.tensor(weights, device=self.inside.like.device)

            def follow(values):
                conv = inside.replaced(image, values, self.inside)
                rows = self.layout.rows(conv).flatten(1, -2)
                return _pooled(rows, weights.flatten(), **pooling)

            return inside.trace(image, follow)
        traced = inside.trace(image)
        line = [t for t in bottlenecks(traced.steps, traced.source, traced.output) if t.dtype]
        while len(line) > 2 and line[-2].shape == line[-1].shape:
            if not rescales(_piece(traced, *line[-2:], half=False)):
                break
            line.pop()  # a last normalisation, which a cosine does not see
        return traced.until(line[-1])


def _pooled(rows, weights, pooling, power=3.0, projection=None):
    """Return what `similarity_ops.pool_features` makes of activations (1, N, C), a tensor."""
    weights = weights.to(rows)
    if pooling == "max":
        feature = rows[:, weights > 0].amax(1)
    else:
        rows = rows.clamp(min=0) ** power if pooling == "gem" else rows
        feature = (rows * weights[:, None]).sum(1) / weights.sum()
        feature = feature ** (1 / power) if pooling == "gem" else feature
    if projection is None:
        return feature
    kernel, bias = (torch.tensor(np.asarray(each)).to(rows) for each in projection)
    return feature @ kernel + bias


# --- inside of a module ---------------------------------------------------------------------------


class _Inside:
    """A module in evaluation mode, and a layer whose output is looked at, or replaced."""

    def __init__(self, module, size, data_format):
        self.module, self.size, self.data_format = module, size, data_format
        first = next((each for each in module.parameters() if each.is_floating_point()), None)
        self.like = torch.zeros(()) if first is None else first.detach()
        self.layer = self.axes = self.words = None
        self.maps = ()  # the (h, w) of the feature maps that were seen, the last one first

    def output_of(self, batch):
        with self._running():
            return self._call(batch)

    def look(self, batch):
        """Return the layer's output (N, *positions, C) and the module's (N, D), float32 arrays."""
        if self.layer is None:
            vectors = as_array("module", self.output_of(batch))
            return np.float32(np.transpose(batch, self.axes)), np.float32(vectors)
        seen = []
        with self._running(lambda output: seen.append(output.clone())):  # or it may be overwritten
            vectors = self._call(batch)
        if len(seen) != 1:
            raise ValueError(
                f"layer: {self.words} is called {len(seen)} times in one run, so that its output "
                "is not one feature map"
            )
        maps = seen[0].permute(self.axes)
        return tuple(np.float32(as_array("module", each)) for each in (maps, vectors))

    def replaced(self, batch, values, other=None):
        """Return the module's output for a batch with other values (N, *positions, C) put in.

        Or the output of another layer, (N, *positions, C), that of another `_Inside` of the module.
        """
        back, seen = tuple(np.argsort(self.axes)), []
        if self.layer is None:
            with self._running():
                return self._call(values.permute(back))

        def put(output):
            return values.permute(back).to(output.dtype)

        with self._running(put):
            if other is None:
                return self._call(batch)
            with other._running(lambda output: seen.append(output)):
                self._call(batch)
            return seen[0].permute(other.axes)

    def trace(self, batch, follow=None):
        """Return what follows the layer, of one image, or a function of it, traced."""
        values = torch.tensor(self.look(batch)[0], device=self.like.device)
        follow = follow or (lambda values: self.replaced(batch, values))
        with ONE_AT_A_TIME:
            return torch_secants.trace(follow, values)

    def is_all(self, two, maps=None):
        """Return whether the output depends on the image through the layer alone, of two images.

        One by one, since in a batch the last digits differ; maps are what is known of the first.
        """
        maps = self.look(two[:1])[0] if maps is None else maps
        values = torch.tensor(maps, device=self.like.device)
        one, other, swapped = (
            np.float64(as_array("module", each)[0])
            for each in (*map(self.output_of, (two[:1], two[1:])), self.replaced(two[1:], values))
        )
        least = 1e-6 * np.linalg.norm(one)
        return np.linalg.norm(swapped - one) <= max(1e-3 * np.linalg.norm(other - one), least)

    def choose(self, layer, samples, axes=None):
        """Look at a layer, a submodule or its dotted name, whose axes are known or found."""
        names = {each: name for name, each in self.module.named_modules()}
        if isinstance(layer, str):
            known = dict(self.module.named_modules())
            if layer not in known or not layer:
                near = ", ".join(list(known)[-12:])
                raise ValueError(f"layer: the module has no {layer!r}; among its own: {near}")
            layer = known[layer]
        if layer not in names or layer is self.module:
            raise ValueError(
                f"layer: expected a submodule or its dotted name, got {type(layer).__name__}"
            )
        self.layer, self.words = layer, f"{names[layer]} ({type(layer).__name__})"
        self.axes, seen = axes, []
        if axes is not None:
            return
        with self._running(lambda output: seen.append(output)):
            self._call(samples[:3])
        if not seen:
            raise ValueError(f"layer: {self.words} is not called, or puts out no tensor")
        self.axes = self._axes(seen[0].shape)
        if self.axes is None:
            raise ValueError(
                f"layer: the output of {self.words} has shape {tuple(seen[0].shape)}, expected a "
                "feature map (N, C, h, w) or (N, h, w, C), or tokens (N, T, C)"
            )

    def choose_image(self, samples):
        """Look at the image itself; return whether a batch is (N, C, H, W) or (N, H, W, C)."""
        self.layer, self.words = None, "the image"
        orders = ORDERS.values() if samples.ndim == 4 else ()
        fits = (a for a in orders if np.transpose(samples, a).shape[1:3] == self.size)
        self.axes = next(fits, None)
        return self.axes is not None

    def calls(self, samples):
        """Return (layer, axes, maps) of the layers called once that put out maps or tokens.

        They are in the order in which they end; maps (1, *positions, C) are those of one image.
        """
        shapes, seen, handles = [], [], []

        def hook(layer, _inputs, output):
            tensor = _tensor_of(output)
            if tensor is not None and len(images) == 3:
                shapes.append((layer, self._axes(tensor.shape)))
            elif tensor is not None and axes.get(layer):
                maps = tensor.permute(axes[layer]).clone()
                seen.append((layer, axes[layer], np.float32(as_array("module", maps))))

        for each in self.module.modules():
            if each is not self.module:
                handles.append(each.register_forward_hook(hook))
        axes = {}
        try:
            for images in (samples[:3], samples[:1]):
                self.output_of(images)
                axes.update(shapes)
        finally:
            for handle in handles:
                handle.remove()
        self.maps = tuple(maps.shape[1:3] for _, axes, maps in seen[::-1] if len(axes) == 4)
        counts = Counter(layer for layer, *_ in seen)
        return [each for each in seen if counts[each[0]] == 1]

    def _axes(self, shape):
        return axes_of(tuple(shape), 3, self.size, self.data_format)

    def _call(self, batch):
        batch = batch if isinstance(batch, torch.Tensor) else torch.as_tensor(np.asarray(batch))
        batch = batch.to(self.like.device, self.like.dtype)
        try:
            output = self.module(batch)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ValueError(
                f"network: it failed on a batch {tuple(batch.shape)}: {reason}"
            ) from error
        if not isinstance(output, torch.Tensor) or output.ndim < 2 or len(output) != len(batch):
            got = tuple(output.shape) if hasattr(output, "shape") else type(output).__name__
            raise ValueError(
                f"module: expected embeddings (N, D) of {len(batch)} images, got {got}; wrap it in "
                "a module that returns them"
            )
        return output.reshape(len(output), -1)

    @contextmanager
    def _running(self, intercept=None):
        """Put the module into evaluation mode, with no gradients, and give its layer's output away.

        What the function that it is given to returns, but None, takes its place.
        """

        def hook(_layer, _inputs, output):
            tensor = _tensor_of(output)
            other = None if tensor is None else intercept(tensor)
            if other is None:
                return None
            if isinstance(output, torch.Tensor):
                return other
            return type(output)([other if each is tensor else each for each in output])

        with ONE_AT_A_TIME:
            training = {each: each.training for each in self.module.modules()}
            handle = intercept and self.layer.register_forward_hook(hook)
            try:
                for each in training:
                    each.training = False
                with torch.no_grad():
                    yield
            finally:
                if handle:
                    handle.remove()
                for each, flag in training.items():
                    each.training = flag


def _tensor_of(output):
    """Return the first tensor of a layer's output, as of a block that returns weights as well."""
    if isinstance(output, (tuple, list)):
        output = next((each for each in output if isinstance(each, torch.Tensor)), None)
    return output if isinstance(output, torch.Tensor) and output.is_floating_point() else None


def _find_layer(inside, samples):
    """Choose the last layer that all of the image goes through, and of which most positions count.

    Returns what follows it, traced.
    """
    for layer, axes, maps in reversed(inside.calls(samples)):
        inside.choose(layer, samples, axes)
        if inside.is_all(samples[:2], maps):
            traced = inside.trace(samples[:1])
            if _tells_positions_apart(traced):
                return traced
    raise ValueError(
        "layer: from the output back to the input, no layer was found that all of the image goes "
        "through as a feature map or tokens; name one, whose output is looked at"
    )


def _tells_positions_apart(traced):
    """Return whether the output depends on most positions of a layer, or on a few alone."""
    rng, moved = np.random.default_rng(0), 0
    count = int(np.prod(traced.output.shape))
    for _ in range(8):  # of which maxima lie in many places
        ends = rng.standard_normal((2, *traced.source.shape[1:]))
        ((part,), _, _) = torch_secants.contributions(
            traced, *ends, rng.standard_normal((1, count))
        )
        moved = moved + (np.abs(part) > 1e-9 * np.abs(part).max())
    return np.mean(moved > 0) > 0.5
