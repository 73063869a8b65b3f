"""PyTorch modules of every kind: the contract, what is left as it was, and what is refused."""

import copy

import numpy as np
import pytest
from own_contract import SIZE, assert_explains, channels_first, pictures

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from simvis import from_torch, load_network  # noqa: E402
from simvis.models import torch_secants  # noqa: E402
from simvis.pair import visualize_pair  # noqa: E402

EXACT, MEASURED = 1e-5, 1e-5


@pytest.fixture
def images(rng):
    torch.manual_seed(0)
    return pictures(rng)


def randomize(module):
    """Give every weight and statistic a random value: zeros and ones hide what is left out."""
    for each in module.modules():
        for name, tensor in [*each.named_parameters(recurse=False), *each.named_buffers()]:
            if "var" in name or (name == "weight" and tensor.ndim == 1):
                tensor.data.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim == 1 and name != "p":
                tensor.data.normal_(0, 0.3)
    return module


class Gem(nn.Module):
    def __init__(self, power):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([power]))

    def forward(self, x):
        powers = x.clamp(min=1e-6) ** self.p.reshape(1, 1, 1, -1)
        return functional.adaptive_avg_pool2d(powers, 1) ** (1 / self.p.item())


class Normalize(nn.Module):
    def forward(self, x):
        return functional.normalize(x, dim=1)


class Last(nn.Module):
    """NCHW to NHWC, as Swin and MaxViT have it."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class MeanOfLast(nn.Module):
    def forward(self, x):
        return x.mean((1, 2))


def convolutional(pool, *head):
    layers = [nn.Conv2d(3, 12, 5, 4, 2), nn.BatchNorm2d(12), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(12, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    return randomize(nn.Sequential(*layers, pool, nn.Flatten(), *head))


AVERAGE, MAXIMUM = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
PLAIN = {
    "average": lambda: convolutional(AVERAGE),
    "average and a linear head": lambda: convolutional(AVERAGE, nn.Linear(16, 6)),
    "maximum": lambda: convolutional(MAXIMUM, nn.Linear(16, 6)),
    "GeM": lambda: convolutional(Gem(2.3), nn.Linear(16, 6)),
    "normalized at the end": lambda: convolutional(AVERAGE, nn.Linear(16, 6), Normalize()),
    "normalized in the middle": lambda: convolutional(
        AVERAGE, Normalize(), nn.Linear(16, 6, bias=False)
    ),
    "batch norms": lambda: convolutional(
        AVERAGE, nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 6), nn.BatchNorm1d(6)
    ),
    "layer norm without an offset": lambda: convolutional(AVERAGE, nn.LayerNorm(16, bias=False)),
    "channels last": lambda: nn.Sequential(
        nn.Conv2d(3, 12, 8, 8), nn.GELU(), Last(), MeanOfLast(), nn.Linear(12, 6)
    ),
}
BENT = {
    "two layers with ReLU": lambda: convolutional(
        AVERAGE, nn.Linear(16, 20), nn.ReLU(), nn.Linear(20, 6)
    ),
    "two layers with GELU after a maximum": lambda: convolutional(
        MAXIMUM, nn.Linear(16, 20), nn.GELU(), nn.Linear(20, 6), Normalize()
    ),
    "layer norm": lambda: convolutional(AVERAGE, nn.LayerNorm(16), nn.Linear(16, 6)),
    "normalized, then an offset": lambda: convolutional(AVERAGE, Normalize(), nn.Linear(16, 6)),
    "flattened": lambda: convolutional(nn.Identity(), nn.Linear(16 * 64, 6)),
}


class Transformer(nn.Module):
    def __init__(self, pool, prefix=1, norm_first=True):
        super().__init__()
        self.pool, self.prefix = pool, prefix
        self.patches = nn.Conv2d(3, 16, 16, 16)
        self.first = nn.Parameter(torch.randn(1, prefix, 16))
        self.places = nn.Parameter(torch.randn(1, 16 + prefix, 16))
        block = nn.TransformerEncoderLayer(
            16, 2, 32, batch_first=True, activation="gelu", norm_first=norm_first
        )
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 6)
        self.query = nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        randomize(self)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.places
        x = self.norm(self.blocks(x))
        if self.pool == "cls":
            x = x[:, 0]
        elif self.pool == "attention":
            x = self.attention(self.query.expand(len(x), -1, -1), x, x)[0][:, 0]
        else:
            x = x[:, self.prefix if self.pool == "patches" else 0 :].mean(1)
        return self.head(x)


TRANSFORMERS = {
    "CLS": (lambda: Transformer("cls"), "all that follows blocks.layers.0 (Tr"),
    "CLS and registers": (lambda: Transformer("cls", 4), "tokens as 4 x 4 after 4 others"),
    "CLS, norms after": (lambda: Transformer("cls", norm_first=False), "by secants"),
    "attention": (lambda: Transformer("attention"), "all that follows norm (LayerNorm)"),
    "mean of all": (lambda: Transformer("all"), "by secants"),
    "mean of patches": (lambda: Transformer("patches"), "average pooling and a linear head after"),
}


def make(module, **options):
    return from_torch(module, input_size=SIZE, preprocess=channels_first, **options)


def outputs_of(module, images):
    module = copy.deepcopy(module).eval()
    first = next(module.parameters())
    with torch.no_grad():
        found = module(torch.tensor(channels_first(images)).to(first.dtype))
    return found.float().numpy()


def assert_torch(module, images, tolerance, way):
    """Assert the contract, and that the module is as it was."""
    module.train()
    state = {name: each.clone() for name, each in module.state_dict().items()}
    network = assert_explains(make(module), images, outputs_of(module, images), tolerance, way)
    assert all(each.training for each in module.modules())
    assert all(torch.equal(each, module.state_dict()[name]) for name, each in state.items())
    assert not any(each._forward_hooks for each in module.modules())
    return network


@pytest.mark.parametrize("kind", PLAIN)
def test_poolings_and_linear_heads_are_found(kind, images):
    assert_torch(PLAIN[kind](), images, EXACT, " pooling")


@pytest.mark.parametrize("kind", BENT)
def test_other_heads_are_split_by_secants(kind, images):
    assert_torch(BENT[kind](), images, MEASURED, "by secants")


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_transformers(kind, images):
    build, way = TRANSFORMERS[kind]
    network = assert_torch(build(), images, MEASURED, way)
    assert network.activations(network.preprocess(images)).shape[1:3] == (4, 4)


def test_training_flags_come_back(images):
    module = PLAIN["batch norms"]()
    module[1].eval()
    flags = [each.training for each in module.modules()]
    make(module).run(channels_first(images))
    assert [each.training for each in module.modules()] == flags


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 5e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("kind", ["plain", "bent"])
def test_half_precision(kind, dtype, tolerance, images):
    build = PLAIN["batch norms"] if kind == "plain" else BENT["two layers with ReLU"]
    module = build().to(dtype)
    network = make(module)
    assert network.tolerance == tolerance
    pair = visualize_pair(*images, network)
    one, other = outputs_of(module, images).astype(np.float64)
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert abs(pair.similarity1.sum() - cosine) < tolerance


@pytest.mark.parametrize("build", [PLAIN["GeM"], BENT["two layers with ReLU"]])
def test_fine_maps_sum_to_the_same_cosine(build, images):
    module = build()
    network = make(module)
    whole = visualize_pair(*images, network)
    fine = visualize_pair(*images, network, stride=4, matches=5)
    assert fine.similarity1.shape == (16, 16)
    assert len(fine.matches) == 5 and fine.matches.max() < 16
    for each in fine.sums:
        assert abs(each - whole.network_similarity) < EXACT
    with pytest.raises(ValueError, match="stride: the module has no layer of 2 pixels.* are 4"):
        visualize_pair(*images, network, stride=2)


def test_a_named_layer_and_what_leads_past_it(images):
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.beside = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(3, 8, 8, 8)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            both = torch.relu(self.conv(x)) * torch.sigmoid(self.beside(x))
            return self.head(both.mean((2, 3)))

    module = randomize(Skip())
    expected = outputs_of(module, images)
    for layer in ("conv", module.beside):
        assert_explains(make(module, layer=layer), images, expected, EXACT, "by secants")


def test_the_layer_is_found_behind_heads_that_do_not_tell_places(images):
    network = make(Transformer("cls"))
    assert "blocks.layers.0" in network.description  # the last one sees the first token alone


REFUSED = {
    "no module": (lambda: "resnet", {}, "module: expected a torch.nn.Module"),
    "no such layer": (PLAIN["average"], {"layer": "layer4"}, "layer: the module has no 'layer4'"),
    "another pooling": (PLAIN["average"], {"pooling": "max"}, "pooling: average follows"),
    "a pooling of a bent head": (BENT["layer norm"], {"pooling": "max"}, "pooling: max is not"),
    "maps": (lambda: nn.Conv2d(3, 4, 3), {}, "layer: from the output back"),
    "a dict": (
        lambda: type("D", (nn.Module,), {"forward": lambda self, x: {"x": x}})(),
        {},
        "module: expected embeddings .*got dict; wrap it",
    ),
    "channels last": (
        PLAIN["average"],
        {"preprocess": lambda images: channels_first(images).transpose(0, 2, 3, 1)},
        "network: it failed on a batch",
    ),
    "a vector": (PLAIN["batch norms"], {"layer": "8"}, "layer: the output of 8 .* has shape"),
    "values that Python looks at": (
        lambda: type(
            "V",
            (nn.Module,),
            {
                "__init__": lambda self: (nn.Module.__init__(self), setattr(self, "c", CONV))[0],
                "forward": lambda self, x: (lambda y: y.mean((2, 3)) * (2 if y.sum() > 0 else 1))(
                    self.c(x)
                ),
            },
        )(),
        {"layer": "c"},
        "layer: what follows it cannot be traced",
    ),
}
CONV = nn.Conv2d(3, 4, 8, 8)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind):
    build, options, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        from_torch(build(), **{"input_size": SIZE, "preprocess": channels_first, **options})


class Red(nn.Module):
    """A network with cells of 8 pixels that see how much redder than green they are."""

    def __init__(self, geometry):
        super().__init__()
        self.geometry, self.conv = geometry, nn.Conv2d(3, 2, 8, 8, bias=False)
        self.conv.weight.data = torch.zeros(2, 3, 8, 8)
        self.conv.weight.data[0, 0], self.conv.weight.data[0, 1] = 1 / 64, -1 / 64

    def forward(self, x):
        return torch.relu(self.conv(self.geometry(x))).mean((2, 3)) + 0.01


GEOMETRY = {
    "a crop": lambda x: x[:, :, 8:56, 16:64],
    "a pad": lambda x: functional.pad(x, (32, 32, 32, 32)),
    "resized": lambda x: functional.interpolate(x[:, :, 8:56, 8:56], size=(64, 64)),
    "mirrored": lambda x: x.flip(-1),
    "turned": lambda x: x.transpose(2, 3),
}


@pytest.mark.parametrize("kind", GEOMETRY)
def test_geometry_inside_of_a_module_is_followed(kind):
    network = make(Red(GEOMETRY[kind]), layer="conv")
    assert "the image" in network.description
    for y, x in ((16, 40), (40, 24)):
        image = np.full((*SIZE, 3), 60, np.uint8)
        image[y : y + 8, x : x + 8] = 255, 0, 0
        conv = network.activations(network.preprocess([image]))[0, ..., 0]
        peak = (np.array(np.unravel_index(conv.argmax(), conv.shape)) + 0.5) * 9
        assert abs(peak - (y + 4, x + 4)).max() < 8


def test_load_network_names_the_way():
    with pytest.raises(ValueError, match="from_torch"):
        load_network(PLAIN["average"]())


def test_a_gallery_tells_other_weights_and_other_preprocessing():
    module = PLAIN["average"]()
    known = make(module).fingerprint()
    assert make(module).fingerprint() == known
    other = from_torch(
        module, input_size=SIZE, preprocess=lambda images: channels_first(images) / 2
    )
    assert other.fingerprint() != known
    module[3].weight.data += 1e-3
    assert make(module).fingerprint() != known


# --- the rules of secants, each against the difference that it must conserve ----------------------

x2, x3, x4 = (4, 6), (5, 8), (8, 6, 6)
OPERATIONS = {
    "ReLU, GELU, SiLU, ELU": (nn.Sequential(nn.ReLU(), nn.GELU(), nn.SiLU(), nn.ELU()), x2),
    "hard ones": (nn.Sequential(nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(), nn.ReLU6()), x2),
    "PReLU, GLU, mish": (nn.Sequential(nn.PReLU(), nn.Mish(), nn.GLU(), nn.LogSigmoid()), x2),
    "max pooling": (nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AdaptiveMaxPool2d(2)), x4),
    "global maxima": (lambda z: z.amax((2, 3)) + z.max(2)[0].sum(2) + z.flatten(1).max(), x4),
    "group and instance norm": (nn.Sequential(nn.GroupNorm(2, 8), nn.InstanceNorm2d(8)), x4),
    "layer and RMS norm": (nn.Sequential(nn.LayerNorm(6), nn.RMSNorm(6)), x2),
    "normalize, std, log softmax": (
        lambda z: functional.normalize(z, dim=-1) + z.std(1, True) + z.log_softmax(-1),
        x2,
    ),
    "quotients": (lambda z: z[:, 0] / (1 + z[:, 1] ** 2) + 1 / (2 + z[:, 2].abs()), x2),
    "maximum of two": (lambda z: torch.maximum(z[:, 0], z[:, 1] * z[:, 2]), x2),
    "cosine": (lambda z: functional.cosine_similarity(z[:, :1], z[:, 1:], dim=-1), x2),
    "attention": (
        lambda z: functional.scaled_dot_product_attention(*[z[:, None]] * 3)[:, 0, 0],
        x3,
    ),
    "in place": (lambda z: (z * 2).add_(z.clone().relu_()), x2),
    "sequence first": (
        lambda z: nn.TransformerEncoderLayer(8, 2, 16).eval()(z.transpose(0, 1))[0],
        x3,
    ),
    "resized": (lambda z: functional.interpolate(functional.pad(z, (1, 1, 2, 2)), size=4), x4),
}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_conserves_the_difference(name, steps):
    function, shape = OPERATIONS[name]
    torch.manual_seed(0)
    weights = torch.get_rng_state()

    def follow(z):
        torch.set_rng_state(weights)
        return function(z)

    x, r = torch.randn(2, *shape, dtype=torch.float64)
    module = function.double() if isinstance(function, nn.Module) else None
    traced = torch_secants.trace(module or follow, x[None].float() if module is None else x[None])
    with torch.no_grad():
        ends = [
            torch_secants.run(traced, traced.steps, {traced.source: e[None]})[traced.output]
            for e in (x, r)
        ]
    ends = [end.flatten().numpy() for end in ends]
    parts, constant, output = torch_secants.contributions(
        traced, x.numpy(), r.numpy(), np.eye(ends[0].size), steps
    )
    size = np.linalg.norm(ends[0])
    assert np.linalg.norm(output - ends[0]) < 1e-12 * size
    assert np.linalg.norm(constant - ends[1]) < 1e-12 * size
    total = parts.reshape(len(parts), -1).sum(1)
    # in the first attempt, since more steps follow by themselves otherwise
    assert np.linalg.norm(total + constant - output) < 1e-10 * size


def test_relu_has_the_slope_between_its_ends():
    traced = torch_secants.trace(torch.relu, torch.zeros(1, 1, 2))
    parts, constant, _ = torch_secants.contributions(
        traced, [[3.0, -1.0]], [[-1.0, 1.0]], np.eye(2)
    )
    assert parts.tolist() == [[3.0], [-1.0]] and constant.tolist() == [0.0, 1.0]


# --- the maps are where what was learned is -------------------------------------------------------


def patches(count, seed):
    """Return noise with one of six colours in one of 4 x 4 patches, the colours and the places."""
    rng = np.random.default_rng(seed)
    images = rng.integers(80, 176, (count, *SIZE, 3), dtype=np.uint8)
    colours, places = rng.integers(0, 6, count), rng.integers(0, 16, count)
    for image, colour, place in zip(images, colours, places, strict=True):
        y, x = 16 * (place // 4), 16 * (place % 4)
        parts = [colour + 1 & 1, colour + 1 & 2, colour + 1 & 4]
        image[y : y + 16, x : x + 16] = 255 * np.array(parts).astype(bool)
    return images, colours, places


def small_network():
    conv = [nn.Conv2d(3, 24, 16, 16), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU(), AVERAGE]
    return nn.Sequential(*conv, nn.Flatten(), nn.Linear(24, 32), nn.GELU(), nn.Linear(32, 8))


@pytest.mark.parametrize(
    "build, layer, share",
    [
        (small_network, None, 0.9),
        pytest.param(lambda: Transformer("cls"), "patches", 0.7, marks=pytest.mark.slow),
    ],
)
def test_the_patch_that_tells_the_label_comes_first(build, layer, share):
    torch.manual_seed(1)
    module = build()
    classify = nn.Sequential(module, nn.GELU(), nn.LazyLinear(6))
    images, colours, _ = patches(1024, seed=1)
    batch, labels = torch.tensor(channels_first(list(images))), torch.tensor(colours)
    classify(batch[:2])
    optimizer = torch.optim.Adam(classify.parameters(), 3e-3)
    for _ in range(12):
        for start in range(0, 1024, 32):
            some = slice(start, start + 32)
            loss = functional.cross_entropy(classify(batch[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert (classify(batch).argmax(1) == labels).double().mean() > 0.95
    images, colours, places = patches(30, seed=2)
    alike = [np.flatnonzero(colours == colour) for colour in range(6)]
    pairs = [pair for each in alike for pair in zip(each[::2], each[1::2], strict=False)]
    network, first = make(module, layer=layer), []
    for pair in pairs:
        shown = visualize_pair(*images[list(pair)], network)
        maps = shown.similarity1, shown.similarity2
        first += [np.argmax(each) == places[i] for each, i in zip(maps, pair, strict=True)]
    assert len(first) >= 20 and np.mean(first) > share  # of maps at random, one in sixteen
