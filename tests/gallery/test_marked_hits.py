"""More like these, and not like those: what that ranks, and what its maps sum to."""

import numpy as np
import pytest
from galleries import color_network
from numpy.testing import assert_allclose

from search_gallery import main
from simvis import image_ops
from simvis.gallery.table import ImageTable

RIGHT, WRONG = ["0/0_0003.png", "1/0_0001.png"], ["2/0_0005.png"]


@pytest.fixture
def gallery(gallery, folder):
    gallery.index(folder)
    return gallery


def unit(network, image, box=None):
    """Return the mean colour of an image's cells, or of those in a box of whole cells."""
    (conv,) = network.activations(network.preprocess([image]))
    if box is not None:
        height, width, _ = image.shape
        x0, y0, x1, y1 = np.rint(7 * np.array(box) / (width, height, width, height)).astype(int)
        conv = conv[y0:y1, x0:x1]
    mean = conv.reshape(-1, 3).astype(np.float64).mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("like, unlike", [(RIGHT, WRONG), (RIGHT, []), ([], WRONG)])
@pytest.mark.parametrize("rerank", [0, 9])
def test_the_rule(gallery, folder, like, unlike, rerank):
    network, query = color_network(), image_ops.load_image(folder / "0" / "0_0000.png")
    known = {
        path: unit(network, image_ops.load_image(folder / path))
        for path in gallery.open().table.files()
    }
    box = 0, 0, 60 / 7 * 3, 45 / 7 * 4
    right = [known[path] for path in like] or [unit(network, query, box)]
    direction = np.mean(right, axis=0)
    if unlike:
        direction = direction - np.mean([known[path] for path in unlike], axis=0)
    direction /= np.linalg.norm(direction)
    found = gallery.find(query, region=box, like=like, unlike=unlike, rerank=rerank)
    expected = {path: vector @ direction for path, vector in known.items()}
    if not rerank:
        # two that are as far from their mean may stand in either order
        best = sorted(expected.values(), reverse=True)
        assert_allclose([expected[hit.path] for hit in found.hits], best, atol=1e-6)
    for hit in found.hits:
        assert_allclose(hit.similarity, expected[hit.path], atol=1e-6)
        assert_allclose(hit.map.sum(), hit.similarity, atol=1e-12)
        (conv,) = network.activations(network.preprocess([hit.image]))
        length = np.linalg.norm(conv.astype(np.float64).mean(axis=(0, 1))) * 49
        assert_allclose(hit.map, conv @ direction / length, atol=1e-6)
        assert hit.note == "the query itself" * (hit.path == "0/0_0000.png")
        assert hit.overlay.shape == hit.image.shape
    assert f"more like {len(like)} and less like {len(unlike)} marked" in found.words()


def test_what_cannot_be_marked_is_named(gallery, folder):
    query = folder / "0" / "0_0000.png"
    for marks, words in (
        ({"like": ["none.png"]}, "like: the gallery holds no embedding of none.png"),
        ({"unlike": ["none.png"]}, "unlike: the gallery holds no"),
        ({"like": WRONG, "unlike": WRONG}, "they are the same"),
    ):
        with pytest.raises(ValueError, match=words):
            gallery.find(query, **marks)


def test_the_program_and_the_page(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--network", "rooms", "--input-size", "64,64"]
    assert main(["index", str(folder), "--gallery", "rooms", *options]) == 0
    find = ["find", str(folder / "0" / "0_0000.png"), "--gallery", "rooms"]
    marks = ["--like", *RIGHT, "--unlike", *WRONG]
    assert main([*find, *marks, "--html", "found.html", "--output", "found"]) == 0
    printed = capsys.readouterr().out.splitlines()[-12:-3]
    rows = ImageTable("rooms").rows(RIGHT + WRONG)
    vectors = [rows[path].embedding.astype(np.float64) for path in RIGHT + WRONG]
    direction = (vectors[0] + vectors[1]) / 2 - vectors[2]
    every = ImageTable("rooms").nearest(direction, 9)
    assert [line.split("  ")[-1].split(",")[0] for line in printed] == [path for path, _ in every]
    assert "more like 2 and less like 1" in (tmp_path / "found.html").read_text()
    assert main([*find, "--like", "none.png"]) == 2
    assert "--like: the gallery holds no embedding of none.png" in capsys.readouterr().err
