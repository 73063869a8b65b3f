"""Labels: where they come from, that they stay, and searching with them."""

import csv
import shutil

import numpy as np
import pytest
from galleries import color_network, write_images
from PIL import Image

from search_gallery import main
from simvis.gallery import labels
from simvis.gallery.folder import ImageFolder
from simvis.gallery.gallery import Gallery, Indexed
from simvis.gallery.labels import find_labels, read_labels
from simvis.gallery.table import LATER, ImageTable


def labels_of(gallery):
    return {path: label for path, (label, _) in ImageTable(gallery.path).labels().items()}


def write_csv(path, *rows, header="path,label", encoding="utf-8", end="\n"):
    path.write_bytes(end.join([header, *rows, ""]).encode(encoding))
    return path


# --- where they come from ------------------------------------------------------------------------


def test_a_file_names_images_from_the_folder_from_beside_it_or_absolutely(
    gallery, folder, tmp_path
):
    rows = "0/0_0000.png,x", f"images/1/0_0001.png,{'=y'}", f"{folder}/2/0_0002.png,", "no.png,z"
    indexed = gallery.index(folder, labels=write_csv(tmp_path / "labels.csv", *rows))
    assert labels_of(gallery) == {"0/0_0000.png": "x", "1/0_0001.png": "=y"}
    assert indexed.labels == "2 labels of 2 images; 1 row of no image of the folder"


@pytest.mark.parametrize("delimiter", ",;\t")
def test_files_of_all_kinds(tmp_path, delimiter):
    rows = [["label", " Path", "mask"], ["a b", "x,1.png", "m.png"], ["Zoë", "ÿ.png", ""]]
    with open(tmp_path / "labels.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    expected = {"x,1.png": ("a b", "m.png"), "ÿ.png": ("Zoë", None)}
    assert read_labels(tmp_path / "labels.csv") == expected


@pytest.mark.parametrize(
    "options, words",
    [
        ({"header": "a.png,x"}, "expected a first row that names the columns path,label"),
        ({"rows": ["a.png,x", "a.png,y"]}, r"line 3: 'a.png' has two labels"),
        ({"rows": ["a.png"]}, "line 2: expected 2 columns, got 1"),
        ({"rows": [",x"]}, "line 2: no path"),
        ({"rows": ["a.png," + "x" * 1001]}, "line 2: a label has over 1,000 letters"),
        ({"rows": ["a.png,x"], "encoding": "utf-16"}, "is no text in UTF-8"),
        ({"rows": ["a.png,x" * 999]}, "is over the limit of 5,000 bytes"),
        ({"rows": ['"a.png,x']}, "line 2: unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, monkeypatch, options, words):
    monkeypatch.setattr(labels, "LARGEST", 5000)
    path = write_csv(tmp_path / "labels.csv", *options.pop("rows", []), **options)
    with pytest.raises(ValueError, match=words):
        read_labels(path)


def test_folders_and_dicts(gallery, folder):
    Image.new("RGB", (9, 9), "red").save(folder / "root.png")
    gallery.index(folder, labels_from="folders")
    files = ImageTable(gallery.path).files()
    assert labels_of(gallery) == {path: path[0] for path in files if "/" in path}
    gallery.index(folder, labels={"root.png": 7})
    assert labels_of(gallery)["root.png"] == "7" and len(labels_of(gallery)) == 10
    assert find_labels(["a/b/1.jpg"], labels_from="folders")[0] == {"a/b/1.jpg": ("a/b", None)}
    for options, words in (
        ({"labels": {"root.png": 1}, "labels_from": "folders"}, "labels, labels_from: give one"),
        ({"labels_from": "names"}, "labels_from: expected folders, got 'names'"),
        ({"labels": {"none.png": 1}}, "labels: none of its 1 rows, as 'none.png', is of an image"),
    ):
        with pytest.raises(ValueError, match=words):
            gallery.index(folder, **options)


# --- they stay -----------------------------------------------------------------------------------


def test_labels_outlive_changes_moves_and_later_runs(gallery, folder):
    gallery.index(folder, labels_from="folders")
    Image.new("RGB", (8, 8), "red").save(folder / "0" / "0_0000.png")  # changed
    (folder / "0" / "0_0003.png").rename(folder / "1" / "moved.png")
    (folder / "2" / "0_0002.png").unlink()
    write_images(folder, 1, seed=1)
    before = labels_of(gallery)
    indexed = gallery.index(folder)
    assert indexed == Indexed(images=9, new=1, changed=1, gone=1, failed={}, moved=1)
    del before["2/0_0002.png"]
    before["1/moved.png"] = before.pop("0/0_0003.png")
    assert labels_of(gallery) == before
    version = ImageTable(gallery.path).dataset.version
    assert gallery.index(folder, labels_from="folders").labels == "3 labels of 9 images"
    assert labels_of(gallery)["1/moved.png"] == "1" and labels_of(gallery)["0/1_0000.png"] == "0"
    gallery.index(folder, labels_from="folders")  # which has nothing to write
    assert ImageTable(gallery.path).dataset.version == version + 1


def test_what_moved_keeps_its_label_if_the_run_is_interrupted(gallery, folder):
    gallery.index(folder, labels_from="folders")
    (folder / "0" / "0_0003.png").rename(folder / "1" / "moved.png")
    write_images(folder, 1, seed=1)

    def interrupt(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Gallery(gallery.path, color_network(preprocess=interrupt)).index(folder)
    assert labels_of(gallery)["1/moved.png"] == "0"
    assert gallery.index(folder) == Indexed(images=10, new=1, changed=0, gone=0, failed={})


def test_a_gallery_of_an_earlier_version_gets_labels_when_it_is_indexed(gallery, folder):
    gallery.index(folder)
    table = ImageTable(gallery.path)
    vectors = {path: row.embedding for path, row in table.rows(table.files()).items()}
    table.dataset.drop_columns(list(LATER))
    identity = {name: value for name, value in table.identity.items() if name != "pairs"}
    ImageTable(gallery.path).set_identity(identity)
    found = gallery.find(folder / "0" / "0_0000.png")
    assert len(found.hits) == 9 and {hit.label for hit in found.hits} == {None}
    assert {hit.percentile for hit in found.hits} == {None}
    with pytest.raises(ValueError, match="label: the gallery has no labels, index with labels="):
        gallery.find(folder / "0" / "0_0000.png", label="0")
    assert gallery.info()["labels"] == 0
    assert gallery.index(folder, labels_from="folders") == Indexed(9, 0, 0, 0, {})
    assert len(labels_of(gallery)) == 9
    assert gallery.find(folder / "0" / "0_0000.png").hits[0].percentile == 100
    rows = ImageTable(gallery.path).rows(vectors)
    assert all((rows[path].embedding == vector).all() for path, vector in vectors.items())


# --- searching with them -------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
def test_a_search_among_labels_is_the_whole_one_filtered(gallery, folder, exact):
    shutil.copy(folder / "0" / "0_0000.png", folder / "none.png")
    gallery.index(folder, labels_from="folders")
    query = folder / "0" / "0_0000.png"
    everything = [(hit.path, hit.label) for hit in gallery.find(query, top=10, exact=exact).hits]
    assert {path: label or "" for path, label in everything} == {
        path: path[0] if "/" in path else "" for path in ImageTable(gallery.path).files()
    }
    for label, not_label in ((["1", "2"], None), ("1", ()), (None, "0"), (["0", "1"], ["1"])):
        wanted, unwanted = (set([*(each or ())]) for each in (label, not_label))
        expected = [
            (path, own)
            for path, own in everything
            if (not wanted or own in wanted) and own not in unwanted
        ]
        found = gallery.find(query, top=10, exact=exact, label=label, not_label=not_label)
        assert [(hit.path, hit.label) for hit in found.hits] == expected
    with pytest.raises(ValueError, match="not_label: no image has the label '00', but '0'"):
        gallery.find(query, not_label="00")


def test_a_hostile_label_is_text(gallery, folder, tmp_path, monkeypatch, capsys):
    label = "'; DROP TABLE images; -- \x1b[2J<script>=1"
    gallery.index(folder, labels={"0/0_0000.png": label, "1/0_0001.png": "=1+1"})
    found = gallery.find(folder / "0" / "0_0000.png", label=[label, "=1+1"])
    assert [hit.label for hit in found.hits] == [label, "=1+1"]
    found.save(tmp_path / "found")
    found.save_page(tmp_path / "found.html")
    with open(tmp_path / "found" / "results.csv", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [label, "'=1+1"]
    assert "<script>=1" not in (tmp_path / "found.html").read_text()


def test_masks_are_no_images(gallery, folder, tmp_path):
    shutil.copy(folder / "0" / "0_0000.png", folder / "0" / "0_0000_mask.png")
    shutil.copy(folder / "0" / "0_0000.png", folder / "0" / "0_0003.png_mask.png")
    shutil.copy(folder / "0" / "0_0000.png", folder / "0" / "alone_mask.png")
    path = write_csv(tmp_path / "l.csv", "1/0_0001.png,x,2/0_0002.png", header="path,label,mask")
    indexed = gallery.index(folder, labels=path)
    assert indexed.images == 9 and "3 masks" in indexed.left_out
    assert "0/alone_mask.png" in ImageTable(gallery.path).files()
    assert ImageTable(gallery.path).labels() == {"1/0_0001.png": ("x", "2/0_0002.png")}


# --- which images there are, and what became of them ---------------------------------------------


def test_lists_and_patterns_choose(gallery, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "@eaDir").mkdir()
    shutil.copy(folder / "0" / "0_0000.png", folder / "@eaDir")
    (folder / "{b}.heic").write_bytes(b"")
    everything = set(ImageFolder(folder).files())
    assert len(everything) == 9
    rows = "0/0_0000.png", "images/1/0_0001.png\r", f"{folder}/2/0_0002.png", "", "{b}.heic"
    (tmp_path / "list.txt").write_text("\n".join(rows))
    chosen = ImageFolder(folder, "list.txt").listing()
    assert sorted(chosen.files) == ["0/0_0000.png", "1/0_0001.png", "2/0_0002.png"]
    assert chosen.left_out["not in the list"] == 6
    indexed = gallery.index(folder, images_from="list.txt", exclude="2")
    assert indexed.images == 2
    for words in ("4 not in the list", "1 folder of thumbnails", "3 excluded", "(.heic 1)"):
        assert words in indexed.left_out
    assert "1 path of the list with no image ({b}.heic)" in indexed.left_out
    for pattern, left in (("0_0000.png", 8), ("0", 6), ("[01]/*4.png", 8), ("*.png", 0), ("0/", 6)):
        assert len(ImageFolder(folder, exclude=[pattern]).files()) == left
    for name, words in (("none.txt", "none.txt: no such file"), ("empty.txt", "expected a path")):
        (tmp_path / "empty.txt").write_text("\n")
        with pytest.raises((ValueError, FileNotFoundError), match=f"images_from: .*{words}"):
            ImageFolder(folder, name)


def test_what_is_moved_is_not_embedded_again(gallery, folder):
    gallery.index(folder)
    for path in sorted(folder.rglob("*.png")):
        path.rename(folder / f"{path.parent.name}_{path.name}")
    calls = []
    counted = color_network(preprocess=lambda images: calls.append(len(images)))
    table = ImageTable(gallery.path)
    before = {row.contents: row.embedding for row in table.rows(table.files()).values()}
    again = Gallery(gallery.path, counted).index(folder)
    assert again == Indexed(images=9, new=0, changed=0, gone=0, failed={}, moved=9) and not calls
    rows = ImageTable(gallery.path).rows([path.name for path in folder.glob("*.png")])
    assert len(rows) == 9
    assert all((before[row.contents] == row.embedding).all() for row in rows.values())
    assert gallery.index(folder) == Indexed(images=9, new=0, changed=0, gone=0, failed={})
    assert gallery.find(folder / "0_0_0000.png").hits[0].overlay is not None


def test_what_only_looks_moved_is_embedded(gallery, folder):
    Image.new("RGB", (8, 8), "red").save(folder / "a.bmp")
    gallery.index(folder)
    (folder / "a.bmp").unlink()
    Image.new("RGB", (8, 8), "blue").save(folder / "b.bmp")  # of the same size
    assert gallery.index(folder) == Indexed(images=10, new=1, changed=0, gone=1, failed={})
    (hit,) = gallery.find(np.full((8, 8, 3), (0, 0, 255), np.uint8), top=1).hits
    assert hit.path == "b.bmp" and hit.similarity == pytest.approx(1)


def test_what_cannot_be_read_is_no_change(gallery, folder):
    (folder / "text.png").write_text("no image")
    (folder / "0" / "0_0000.png").write_text("no image")
    first = gallery.index(folder)
    assert (first.images, first.new, len(first.failed)) == (8, 10, 2)
    assert gallery.index(folder) == Indexed(8, 0, 0, 0, first.failed)
    (folder / "1" / "0_0001.png").write_text("no image any more")
    again = gallery.index(folder)
    assert (again.images, again.changed, len(again.failed)) == (7, 0, 3)


def test_at_the_shell(tmp_path, monkeypatch, capsys):
    write_images(tmp_path / "images", 6)
    monkeypatch.chdir(tmp_path)
    options = ["--network", "rooms", "--input-size", "64,64", "--labels-from", "folders"]
    assert main(["index", "images", *options, "--exclude", "2", "--exclude", "x"]) == 0
    assert "labels      2 labels of 4 images" in capsys.readouterr().out
    assert main(["info"]) == 0
    assert "labels      2, of 4 images" in capsys.readouterr().out
    find = ["find", "images/0/0_0000.png"]
    assert main([*find, "--not-label", "0", "--not-label", "1"]) == 0
    assert main([*find, "--label", "1"]) == 0
    out = capsys.readouterr().out
    assert "1/0_0001.png, label 1, higher than " in out and "label 0" not in out
    assert main([*find, "--label", "3"]) == 2
    assert "--label: no image has the label '3'" in capsys.readouterr().err
    assert main(["index", "images", "--labels", "nowhere.csv"]) == 2
    assert "--labels: nowhere.csv: no such file" in capsys.readouterr().err
