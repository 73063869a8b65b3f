"""How unusual a similarity is, and copies, which are folded into one hit."""

import csv
import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from galleries import write_images
from numpy.testing import assert_allclose
from PIL import Image

from simvis.gallery.copies import are_copies, fold, thumbnail
from simvis.gallery.gallery import Gallery
from simvis.gallery.results import Hit
from simvis.gallery.table import ImageTable
from simvis.gallery.unusual import count_unusual, pair_quantiles, percentile, percentile_words
from simvis.image_ops import load_image
from simvis.pair import EXAMPLE_PAIR, EXAMPLES
from visualize_similarity import main


def unit_vectors(rng, count, dimension):
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# --- how unusual ---------------------------------------------------------------------------------


def test_a_percentile_is_the_share_of_pairs_that_are_less_similar(rng):
    vectors = unit_vectors(rng, 60, 4)
    cosines = [vectors[i] @ vectors[j] for i in range(60) for j in range(i)]
    quantiles = pair_quantiles(vectors)
    for similarity in np.linspace(-0.99, 0.99, 50):
        expected = 100 * np.mean(np.array(cosines) < similarity)
        assert percentile(similarity, quantiles) == pytest.approx(expected, abs=0.2)
    assert (percentile(-1, quantiles), percentile(1, quantiles)) == (0, 100)
    assert percentile(0.5, pair_quantiles(vectors[:1])) is None
    assert percentile(0.5, pair_quantiles(np.repeat(vectors[:1], 3, 0))) == 0


def test_a_sample_stands_for_all_pairs(rng, tmp_path):
    from test_gallery_table import rows_of

    vectors = unit_vectors(rng, 3000, 8)
    table = ImageTable.create(tmp_path / "gallery", {"format": 1}, dimension=8)
    table.put(rows_of(vectors))
    sample = table.sample(2000)
    assert sample.shape == (2000, 8) and len(np.unique(sample, axis=0)) == 2000
    assert {row.tobytes() for row in sample} <= {row.tobytes() for row in vectors}
    cosines = (vectors @ vectors.T)[np.triu_indices(3000, 1)]
    at = [10, 500, 900, 990, 999]
    found = np.array(pair_quantiles(sample))[at]
    assert_allclose(found, np.quantile(cosines, np.array(at) / 1000), atol=0.02)


def test_the_sample_is_taken_when_a_gallery_changes(gallery, folder):
    (folder / "text.png").write_text("no image")  # which has no embedding
    gallery.index(folder)
    table = ImageTable(gallery.path)
    vectors = [row.embedding for row in table.rows(table.files()).values() if not row.error]
    assert table.identity["pairs"] == pytest.approx(pair_quantiles(np.array(vectors)), abs=1e-6)
    write_images(folder, 3, seed=1)
    gallery.index(folder)
    assert ImageTable(gallery.path).identity["pairs"] != table.identity["pairs"]


def test_hits_say_how_unusual_they_are(gallery, folder, tmp_path):
    gallery.index(folder)
    query, pairs = folder / "0" / "0_0000.png", ImageTable(gallery.path).identity["pairs"]
    found = gallery.find(query, region=(5, 5, 40, 30))
    for hit in found.hits:
        assert hit.percentile == percentile(hit.similarity, pairs)
        assert percentile_words(hit.percentile) in hit.notes()
    found.save(tmp_path / "found")
    with open(tmp_path / "found" / "results.csv", newline="") as file:
        written = [float(row["percentile"]) for row in csv.DictReader(file)]
    assert_allclose(written, [hit.percentile for hit in found.hits], atol=0.051)
    # a best part of many is no random one
    assert {hit.percentile for hit in gallery.find(query, rerank=9).hits} == {None}


def test_a_ranking_stops_being_unusual():
    def hits(*percents):
        return [Hit(0, "", 0, percentile=percent) for percent in percents]

    assert count_unusual(hits(100, 99, 98.9, 99.5)) == 2
    assert count_unusual(hits(100, 99)) == 2 and count_unusual(hits(3)) == 0
    assert count_unusual(hits(None, None)) is None
    words = [percentile_words(percent) for percent in (100, 99.79, 0.04)]
    assert words == [f"higher than {percent} % of pairs" for percent in (99.9, 99.7, "0.0")]


@pytest.mark.parametrize(
    "pairs", [None, 3, "1", [1, 0], [0.5] * 1000 + [0.4], [[0]] * 1001, ["0"], [np.inf] * 1001]
)
def test_what_a_gallery_says_of_its_pairs_is_checked(gallery, folder, pairs):
    gallery.index(folder)
    table = ImageTable(gallery.path)
    table.set_identity({**table.identity, "pairs": pairs})
    with pytest.raises(ValueError, match="damaged.*: its pairs"):
        gallery.find(folder / "0" / "0_0000.png")


# --- copies --------------------------------------------------------------------------------------


def saved_as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def room():
    return Image.open(EXAMPLES / "room_a_view1.jpg").convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        lambda image: saved_as_jpeg(image, 30),
        lambda image: image.resize((image.width // 2, image.height // 2)),
        lambda image: image.resize((2 * image.width, 2 * image.height)),
        lambda image: image.quantize(64).convert("RGB"),
    ],
)
def test_a_picture_saved_again_is_a_copy(change):
    assert are_copies(thumbnail(np.array(room())), thumbnail(np.array(change(room()))))


def test_other_pictures_are_none(rng):
    image = np.array(room())
    with_box = image.copy()
    with_box[190:300, 200:330] = image[190:300, 200:330][:, ::-1]  # a piece of the bed, mirrored
    others = [load_image(EXAMPLES / f"room_{name}.jpg") for name in ("a_view2", "b_view1")]
    for other in (with_box, image[:, ::-1], image // 2, *others):
        assert not are_copies(thumbnail(image), thumbnail(other))
    # two small things before a white wall
    walls = np.full((2, 100, 100, 3), 255, np.uint8)
    walls[0, 40:60, 20:40] = walls[1, 40:60, 50:70] = 0
    assert not are_copies(thumbnail(walls[0]), thumbnail(walls[1]))
    assert are_copies(thumbnail(walls[0]), thumbnail(walls[0]))


def test_copies_are_folded_into_the_best_of_them():
    image, other = np.array(room()), load_image(EXAMPLES / "room_b_view1.jpg")
    hits = [
        Hit(1, "a.png", 0.9, image=image, contents="1"),
        Hit(2, "b.png", 0.8, image=other, contents="2"),
        Hit(3, "a2.png", 0.7, image=image[::2, ::2], contents="3"),
        Hit(4, "gone b.png", 0.6, contents="2"),
        Hit(5, "gone.png", 0.5, contents="4"),
        Hit(6, "gone, too.png", 0.4, contents="5"),
        Hit(7, "unknown.png", 0.3),
        Hit(8, "unknown, too.png", 0.2),
    ]
    folded = fold(hits)
    assert [(hit.rank, hit.copies) for hit in folded] == [
        *((1, ("a2.png",)), (2, ("gone b.png",))),
        *((rank, ()) for rank in (5, 6, 7, 8)),
    ]
    assert [replace(hit, copies=()).path for hit in folded[:2]] == ["a.png", "b.png"]
    assert folded[0].notes() == ("1 copy: a2.png",)
    assert fold([]) == []


def test_a_search_shows_copies_once(gallery, folder, tmp_path):
    query = folder / "0" / "0_0000.png"
    shutil.copy(query, folder / "copy.png")
    Image.open(query).resize((240, 180)).save(folder / "large.jpg")
    gallery.index(folder)
    found = gallery.find(query, top=5)
    assert len(found.hits) == 5 and len(found.folded()) == 3
    (first, *others) = found.folded()
    assert len(first.copies) == 2 and not any(hit.copies for hit in others)
    family = {first.path, *first.copies}
    assert family == {"0/0_0000.png", "copy.png", "large.jpg"}
    found.save(tmp_path / "found")
    with open(tmp_path / "found" / "results.csv", newline="") as file:
        copies = {row["path"]: row["copy_of"] for row in csv.DictReader(file)}
    assert {path for path, copy in copies.items() if copy == first.path} == set(first.copies)
    assert len(copies) == 5 and copies[first.path] == ""
    found.save_page(tmp_path / "found.html")
    assert (tmp_path / "found.html").read_text().count('"similarity":') == 3


def test_the_mean_of_a_gallery_is_that_of_its_folder(tmp_path, capsys):
    told = []
    gallery = Gallery(tmp_path / "gallery", "rooms")
    gallery.index(EXAMPLES)
    for folder in (EXAMPLES, gallery.path):
        pair = [*map(str, EXAMPLE_PAIR), "--network", "rooms", "--output", str(tmp_path / "p.png")]
        assert main([*pair, "--special", str(folder)]) == 0
        told.append(next(line for line in capsys.readouterr().out.split("\n") if "usual" in line))
    assert told[0] == told[1]
    assert main(["--special", str(gallery.path), "--output", str(tmp_path / "p.png")]) == 2
    assert "was indexed with another one, with network rooms" in capsys.readouterr().err
