"""The report card: networks of known truth, each measure by itself, the page, and the shell."""

import csv
import re
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import EYES, HOSTILE, ROOT, assert_accessible, expect, texts
from numpy.testing import assert_allclose

from benchmarks.program import write_random_hotels
from evaluation import __main__ as evaluation
from evaluation import rivals, unmasked
from evaluation.verdict import judge, write_card
from evaluation.views import load_views
from simvis import image_ops
from simvis.models import load_network
from simvis.models.network import of_function
from simvis.pair import visualize_pair

DOCS = ROOT / "docs" / "report_card.md"
SIDE, PATTERNS = 64, 4


def photographs(count=16, seed=0, corner=False):
    """Return images and labels: grey noise with stripes of four kinds, somewhere or in a corner."""
    rng = np.random.default_rng(seed)
    stripes, images, labels = bank(), [], np.arange(count) % PATTERNS
    for label in labels:
        image = 128 + rng.normal(0, 12, (SIDE, SIDE, 1))
        y, x = (0, 0) if corner else 8 * rng.integers(0, 6, 2)
        image[y : y + 24, x : x + 24] += 70 * np.tile(stripes[..., label], (6, 6))[..., None]
        images.append(image.repeat(3, 2).clip(0, 255).astype(np.uint8))
    return images, [f"stripes {label}" for label in labels]


def bank():
    """Return four stripes, (4, 4, 4): across, down, and both, all of them of mean zero."""
    wave, fast = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
    flat = np.ones(4)
    waves = [(wave, flat), (flat, wave), (fast, fast), (wave, wave)]
    return np.stack([np.outer(*both) for both in waves], -1).astype(np.float32)


def network(kernels, bias, mask=1.0, name="by hand"):
    """Return a network of one layer at stride 4 and a pooling to stride 8, seen through a mask."""

    def front(batch):
        return tf.nn.relu(tf.nn.conv2d(batch, kernels, 4, "SAME") - bias)

    def tail(points):
        return tf.nn.avg_pool2d(points, 2, 2, "SAME") * mask

    def parts_at(stride):
        if stride not in (1, 4):
            raise ValueError("stride: expected 1 or 4")
        return (front, tail) if stride == 4 else (tf.identity, lambda batch: tail(front(batch)))

    channels = kernels.shape[-1]
    return of_function(
        lambda batch: tail(front(batch)),
        (np.eye(channels, dtype=np.float32), np.zeros(channels, np.float32)),
        False,
        own="pooled",
        parts_at=parts_at,
        name=name,
        input_size=(SIDE, SIDE),
        preprocess=lambda images: np.stack(images).astype(np.float32) / 128 - 1,
    )


def knowing(corner=False):
    """Return the network that knows the stripes, anywhere or in the first corner alone."""
    mask = np.ones((8, 8, 1), np.float32)
    if corner:
        mask[3:], mask[:, 3:] = 0, 0
    return network(bank()[:, :, None].repeat(3, 2) / 48, 0.05, mask)


def random_network(seed=0):
    kernels = np.random.default_rng(seed).normal(0, 0.1, (4, 4, 3, 16)).astype(np.float32)
    return network(kernels, -2.0)


@pytest.fixture(scope="module")
def examined():
    """What was measured of networks of which the truth is known, on photographs that suit them."""

    def redrawn(share):
        return random_network(seed=1)

    return {
        "things": unmasked.examine(knowing(), *photographs(), 8, redrawn),
        "corner": unmasked.examine(knowing(True), *photographs(corner=True), 8, redrawn),
        "random": unmasked.examine(random_network(), *photographs(), 8, redrawn),
    }


def test_the_words_are_those_of_the_truth(examined):
    verdicts = {name: judge(found.tables) for name, found in examined.items()}
    assert verdicts["things"].headline.startswith("Trust the maps, best at stride 4: they pass")
    assert "looks at one place" in verdicts["corner"].headline
    assert "Do not trust" in verdicts["random"].headline
    marks = {name: [marks[-1] for marks, _ in found.checks] for name, found in verdicts.items()}
    #                          knows, covers, partner, place, paste, learned, grains, sums
    assert marks["things"] == ["good"] * 8
    assert marks["corner"][:4] == ["good", "good", "good", "poor"]
    assert marks["random"][1:5] == ["poor", "poor", "good", "poor"]


def test_the_figures_are_those_of_the_truth(examined):
    tables = examined["things"].tables
    about, covering, checks = (tables[title] for title in ("The network", "Covering", "Checks"))
    assert about["recall@1", "own grid"].value == 1 and about["by chance", "own grid"].value < 0.25
    # 9 of 64 cells are the stripes, which are gone, but for their rims, after two of ten steps
    assert covering["maps, stride 4", "deletion"].value < 0.3
    assert covering["random", "deletion"].value > 0.9
    assert max(gap.value for gap in tables["Maps and the network's cosine"].values()) < 1e-6
    corner = examined["corner"].tables["Checks"]
    for grain in ("own grid", "stride 4"):
        assert corner["same in other photographs", grain].value > 0.95
        assert abs(checks["same in other photographs", grain].value) < 0.2
        # a third of the corners is what it looks at, all of which hold a ninth of the pixels
        assert corner["lift on a corner", grain].value > 1.5
    assert tables["Not measured"]["stride 16", "why"] == "the own grid has 8 pixels a cell"


def test_grad_cam_and_integrated_gradients_are_what_they_are_called(rng):
    network = random_network()
    (image, other), _ = photographs(2)
    batch = network.preprocess([image, other])
    convs, embeddings = network.run(batch)
    measured = unmasked.Measured(network, [])
    found = measured.grad_cam(None, batch[:1], embeddings[1])
    assert_allclose(found, rivals.grad_cam(*convs), atol=1e-7)
    found = measured.integrated_gradients(batch[:1], embeddings[1], steps=256)
    grey = network.embed(network.preprocess([np.full((SIDE, SIDE, 3), 128, np.uint8)]))
    whole, nothing = rivals.cosines(np.concatenate([embeddings[:1], grey]), embeddings[1:])[:, 0]
    assert_allclose(found.sum(), whole - nothing, atol=1e-5)


def test_a_map_is_brought_to_patches_as_by_a_loop(rng):
    similarity = rng.standard_normal((5, 7))
    pixels = image_ops.upsample_map(similarity, (33, 45))
    down, across = np.arange(33) * 14 // 33, np.arange(45) * 14 // 45
    expected = [[pixels[down == y][:, across == x].mean() for x in range(14)] for y in range(14)]
    assert_allclose(unmasked.regrid(similarity, (33, 45), (14, 14)), expected, atol=1e-12)


def test_pairs_are_of_one_label_and_of_others(rng):
    similarities, labels = rng.standard_normal((9, 9)), np.array(list("aaabbbccd"))
    for pair in unmasked.choose(similarities, labels, 99, rng):
        assert pair.image != pair.alike and labels[pair.image] == labels[pair.alike]
        assert labels[pair.image] not in labels[[pair.other, pair.pasted]]
        assert pair.other != pair.pasted
    for pair in unmasked.choose(similarities, None, 99, rng):
        rest = [number for number in range(9) if number != pair.image]
        assert pair.alike == max(rest, key=lambda number: similarities[pair.image, number])
        assert len(set(pair)) == 4
    with pytest.raises(ValueError, match="two images of one label"):
        unmasked.choose(similarities, np.array(list("abcdefghi")), 9, rng)


def test_what_is_impossible_says_why():
    network = replace(knowing(), contributions=None)
    images, _ = photographs(6)
    found = unmasked.examine(network, images, None, 2)
    why = {what: reason for (what, _), reason in found.tables["Not measured"].items()}
    assert why["integrated gradients"] == "its gradients are not known"
    assert "earlier layers are not known" in why["stride 4"]
    assert why["all layers redrawn"] == "its weights are not known"
    assert found.tables["The network"]["recall@1", "own grid"] == "no labels were given"
    verdict = judge(found.tables)
    assert verdict.grains == ["own grid"] and verdict.checks[0][0] == [""]


@pytest.mark.parametrize("share, kept", [(0.5, 2), (1.0, 0)])
def test_layers_are_drawn_anew_from_the_last_on(rng, share, kept):
    arrays = [rng.normal(3, 2, (40, 50)), np.arange(9.0), rng.normal(-1, 1, (90, 9)), np.arange(4)]
    drawn = unmasked.redraw(share, arrays)
    assert [np.array_equal(*both) for both in zip(arrays, drawn, strict=True)][:kept] == [
        True
    ] * kept
    for before, after in zip(arrays[kept:], drawn[kept:], strict=True):
        assert before.shape == after.shape and before.dtype == after.dtype
        assert_allclose([after.mean(), after.std()], [before.mean(), before.std()], rtol=0.2)
    assert not np.array_equal(arrays[2], drawn[2]) and np.array_equal(arrays[3], drawn[3])


@pytest.mark.parametrize("width, scheme", EYES)
def test_the_page_is_whole_and_harmless(go, tmp_path, examined, width, scheme):
    found, path = examined["corner"], tmp_path / "card.html"
    write_card(path, HOSTILE, judge(found.tables), found)
    page = go(path.as_uri(), color_scheme=scheme, viewport={"width": width, "height": 900})
    expect(page.locator("#headline")).to_contain_text("looks at one place")
    assert texts(page, "#words") == [HOSTILE.replace("\udcff", "\ufffd")]
    assert "0.20 would by chance" in page.locator("#verdicts").inner_text()
    if width > 1000:
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert_accessible(page)
    assert go.asked_for() == [path.as_uri()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of labelled photographs, in which one is, and a model."""
    monkeypatch.chdir(tmp_path)
    for number, (image, label) in enumerate(zip(*photographs(8), strict=True)):
        image_ops.save_image(make(tmp_path / "photos" / label / f"{number}.png"), image)
    inputs = keras.Input((SIDE, SIDE, 3))
    padded = keras.layers.ZeroPadding2D(4)(inputs)
    conv = keras.layers.Conv2D(4, 8, strides=8, activation="relu")(padded)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(conv)).save("model.keras")
    return tmp_path


def make(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_program_writes_what_it_says(folder, capsys):
    (folder / "photos" / "broken.png").write_bytes(b"no image")
    options = ["--network", "model.keras", "--preprocess", "0..1", "--images", "photos"]
    assert evaluation.main([*options, "--labels-from", "folders", "--pairs", "3"]) == 0
    said = capsys.readouterr().out
    assert "model.keras, 3 pairs of 8 images" in said and "unseen      1 " in said
    with open("report_card/card.csv", encoding="utf-8", newline="") as file:
        rows = {(row["table"], row["row"], row["column"]): row for row in csv.DictReader(file)}
    assert rows["What to trust", "in short", "words"]["value"] in said
    page = (folder / "report_card" / "card.html").read_text("utf-8")
    for (table, _row, _column), row in rows.items():
        if table == "Covering":
            figures = [float(row[name]) for name in ("value", "low", "high")]
            assert "{:.2f} ({:.2f} to {:.2f})".format(*figures) in page
    assert "no layer of" in rows["Not measured", "stride 4", "why"]["value"]
    assert ("Covering", "integrated gradients", "deletion") in rows


@pytest.mark.parametrize(
    "options, words",
    [
        ("--images nowhere", "images: nowhere: no such folder"),
        ("--images report", "holds no image"),
        ("--network nowhere --images photos", "network: expected one of"),
        ("--network rooms", "name the folder of photographs"),
        ("--images photos --labels nowhere.csv", "--labels: nowhere.csv: no such file"),
        ("--images photos --labels bad.csv", "bad.csv: line 2: no such image in the folder: ../x"),
        ("--images photos --labels words.csv", "expected columns named image and label"),
        ("--images photos --labels model.keras", "--labels: model.keras: "),
        ("--images photos --labels bad.csv --labels-from folders", "give one of them"),
        ("--images photos --labels-from names", "--labels-from"),
        ("--images photos/one --labels-from folders", "no two images have the same one"),
        ("--images photos --pairs 0", "--pairs: expected 1 to 1000 of them, got 0"),
        ("--images photos --output model.keras", "model.keras is a file"),
        ("--network hotels --batch-norm batch --images photos", "say moving"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, options, words):
    (folder / "report").mkdir()
    make(folder / "photos" / "one" / "a" / "0.png").symlink_to("/dev/null")
    image_ops.save_image(make(folder / "photos" / "one" / "b" / "1.png"), photographs(1)[0][0])
    (folder / "bad.csv").write_text("image,label\n../x,a\n")
    (folder / "words.csv").write_text("no,columns\n")
    assert evaluation.main(options.split()) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not (folder / "report_card").exists()


@pytest.mark.slow
def test_the_documented_command_says_of_rooms_that_they_can_be_trusted(tmp_path, monkeypatch):
    (command,) = re.findall(r"python -m evaluation (.*rooms\.csv.*)", DOCS.read_text("utf-8"))
    monkeypatch.chdir(ROOT)
    assert evaluation.main([*command.split(), "--pairs", "8", "--output", str(tmp_path)]) == 0
    text = (tmp_path / "card.csv").read_text("utf-8")
    assert "Trust the maps, best at stride 8" in text


@pytest.mark.slow
def test_random_weights_are_found_out():
    views = load_views(evaluation.HELD_OUT / "held_all")[:40]
    network = load_network("rooms", redraw=partial(unmasked.redraw, 1.0))
    images, labels = zip(*[(view.image(), view.room) for view in views], strict=True)
    found = judge(unmasked.examine(network, images, labels, 6).tables)
    assert "does not tell these photographs apart" in found.headline or "Do not" in found.headline


@pytest.mark.slow
def test_a_large_network_is_measured_with_moving_statistics(folder, monkeypatch, capsys):
    write_random_hotels(folder)
    files = ["--checkpoint", "hotels", "--mean-image", "mean.npy", "--pairs", "1"]
    assert evaluation.main(["--network", "hotels", "--images", "photos", *files]) == 0
    assert "hotels, 1 pair of 8 images" in capsys.readouterr().out


@pytest.mark.parametrize("name, side", [("rooms", SIDE), ("model.keras", 8)])  # or as cells
def test_maps_of_pixels_add_up_too(folder, name, side):
    network = load_network(name, input_size=(SIDE, SIDE))
    pair = visualize_pair(*photographs(2)[0], network, stride=1)
    assert pair.similarity1.shape == (side, side)
    assert_allclose(pair.similarity1.sum(), pair.similarity, atol=1e-4)


def test_weights_drawn_anew_are_those_of_the_network(folder):
    for name in ("rooms", "model.keras"):
        drawn = load_network(name, redraw=partial(unmasked.redraw, 1.0))
        same = load_network(name, redraw=partial(unmasked.redraw, 0.0))
        batch = same.preprocess([photographs(1)[0][0]])
        embeddings = [each.embed(batch) for each in (load_network(name), same, drawn)]
        assert np.array_equal(*embeddings[:2]) and not np.allclose(embeddings[0], embeddings[2])
    with pytest.raises(ValueError, match="redraw: the weights are known of networks by name"):
        load_network(keras.saving.load_model("model.keras"), redraw=list)
