"""Networks of functions: what was said of them is held against what they put out."""

import numpy as np
import pytest
from own_contract import SIZE, assert_explains, channels_last, pictures

from simvis import from_functions
from simvis.gallery.gallery import Gallery
from simvis.image_ops import save_image
from simvis.models.network import EmbeddingNetwork
from simvis.pair import visualize_pair

COLOURS = np.random.default_rng(1).standard_normal((3, 16))
KERNEL, BIAS = (np.random.default_rng(2).standard_normal(shape) for shape in ((16, 6), 6))


def activations(batch):
    return np.maximum(batch.reshape(-1, 8, 8, 8, 8, 3).mean((2, 4)) @ COLOURS, 0)


def average(batch):
    return activations(batch).mean((1, 2))


def gem(batch, power=2.5):
    return (activations(batch) ** power).mean((1, 2)) ** (1 / power)


def make(embed, **options):
    given = {"input_size": SIZE, "preprocess": channels_last, "activations": activations}
    return from_functions(embed=embed, **{**given, **options})


@pytest.fixture
def images(rng):
    return pictures(rng)


@pytest.mark.parametrize(
    "embed, way",
    [
        (average, "average pooling, of"),
        (lambda batch: activations(batch).max((1, 2)), "max pooling, of"),
        (gem, "GeM pooling of power 2.5, of"),
        (lambda batch: gem(batch, 7.0), "GeM pooling of power 7, of"),
    ],
)
def test_the_pooling_is_found(embed, way, images):
    assert_explains(make(embed), images, embed(channels_last(images)), 1e-6, way)


def test_a_linear_head_is_explained_by_default(images):
    def embed(batch):
        return average(batch) @ KERNEL + BIAS

    network = make(embed, projection=(KERNEL, BIAS))
    assert network.explain == "head"
    assert_explains(network, images, embed(channels_last(images)), 1e-6, "and a linear head")


def test_channels_first_and_tokens(images):
    expected = average(channels_last(images))
    first = make(
        average,
        activations=lambda batch: activations(batch).transpose(0, 3, 1, 2),
        data_format="channels_first",
    )
    assert_explains(first, images, expected, 1e-6)

    def tokens(batch):
        cells = activations(batch).reshape(len(batch), 64, 16)
        return np.concatenate([np.ones((len(batch), 2, 16)), cells], 1)

    assert_explains(make(average, activations=tokens, prefix=2), images, expected, 1e-6)


noise = np.random.default_rng(3)
LIES = {
    "noise": (lambda batch: noise.standard_normal((len(batch), 16)), {}, "embed: .*at best"),
    "another pooling": (average, {"pooling": "max"}, "embed: .*max pooling"),
    "another power": (gem, {"pooling": "gem", "power": 3.0}, "the power 3 of"),
    "another head": (
        lambda batch: average(batch) @ KERNEL,
        {"projection": (KERNEL, BIAS)},
        "and the projection of",
    ),
    "no head": (lambda batch: average(batch) @ KERNEL, {}, "there is no projection"),
    "a head the wrong way round": (average, {"projection": (KERNEL, BIAS[:3])}, "transpose it"),
    "channels first": (
        average,
        {"activations": lambda batch: activations(batch).transpose(0, 3, 1, 2)},
        'say data_format="channels_first"',
    ),
    "no batch": (average, {"preprocess": lambda images: channels_last(images)[0]}, "preprocess: "),
    "text": (lambda batch: "words", {}, "embed: expected an array"),
    "no vectors": (lambda batch: average(batch)[:1], {}, "embed: expected .N, D. of 4"),
    "no maps": (average, {"activations": average}, "activations: expected"),
    "half a pixel": (average, {"input_size": (7.5, 7)}, "input_size: "),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(lie):
    embed, options, words = LIES[lie]
    with pytest.raises(ValueError, match=words):
        make(embed, **options)


def by_hand(embed, pooling="gem", bias=BIAS, **options):
    given = pooling, (KERNEL, bias), channels_last, activations, embed
    return EmbeddingNetwork("mine", SIZE, *given, **options)


def test_a_network_made_by_hand_is_held_to_what_it_puts_out(images, tmp_path):
    def honest(batch):
        return gem(batch, 3.0) @ KERNEL + BIAS

    assert visualize_pair(*images, by_hand(honest)).network_similarity is not None
    for explain in (None, "pooled"):
        assert visualize_pair(*images, by_hand(honest, explain=explain)).similarity < 1
        for lie in (lambda batch: gem(batch, 5.0) @ KERNEL + BIAS, LIES["noise"][0]):
            with pytest.raises(ValueError, match="network: .* not what was"):
                visualize_pair(*images, by_hand(lie, explain=explain))
    (tmp_path / "photos").mkdir()
    save_image(tmp_path / "photos" / "a.png", images[0])
    lie = by_hand(lambda batch: average(batch) @ KERNEL + BIAS, explain="pooled")
    with pytest.raises(ValueError, match="not what was said"):
        Gallery(tmp_path / "gallery", lie).index(tmp_path / "photos")


@pytest.mark.parametrize("collapse", [30, 3000])
def test_where_all_cosines_are_near_one_a_wrong_pooling_is_told(collapse, images):
    bias = collapse * BIAS

    def embed(batch):
        return activations(batch).max((1, 2)) @ KERNEL + bias

    right = visualize_pair(*images, by_hand(embed, "max", bias))
    assert right.similarity > 0.999
    for pair in (images, images[:1] * 2):
        with pytest.raises(ValueError, match="not what was assumed"):
            visualize_pair(*pair, by_hand(embed, "average", bias))


def test_without_an_embedding_all_say_that_nothing_is_checked(images, tmp_path):
    pair = visualize_pair(*images, make(None))
    assert pair.network_similarity is None and "not checked" in pair.network.description
    pair.save_page(tmp_path / "page.html")
    assert "not checked against" in (tmp_path / "page.html").read_text("utf-8")
    from simvis.maps import network_words

    assert network_words(pair.network, pair.method).endswith("average pooling, not checked")
    assert "not checked" not in network_words(make(average), pair.method)


def test_an_image_that_cannot_be_read_does_not_break_a_batch(images, tmp_path):
    (tmp_path / "photos").mkdir()
    for name, image in zip("ab", images, strict=True):
        save_image(tmp_path / "photos" / f"{name}.png", image)
    (tmp_path / "photos" / "c.png").write_bytes(b"no image")
    network = make(
        lambda batch: average(np.moveaxis(batch, 1, -1)),
        activations=lambda batch: activations(np.moveaxis(batch, 1, -1)),
        preprocess=lambda given: np.moveaxis(channels_last(given), -1, 1),
    )
    gallery = Gallery(tmp_path / "gallery", network)
    indexed = gallery.index(tmp_path / "photos", batch_size=3)
    assert indexed.images == 2 and list(indexed.failed) == ["c.png"]
    found = gallery.find(images[0])
    assert found.hits[0].path == "a.png" and found.hits[0].maps is not None
