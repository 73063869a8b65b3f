"""The table of a gallery, against plain numpy and a dict."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from simvis.gallery import table as image_table
from simvis.gallery.table import ImageTable, Row


def unit_vectors(rng, count, dimension):
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows_of(vectors, start=0):
    return [
        Row(f"it's {i}.png", i, 7, f"{i:x}", 4, 3, None, vector)
        for i, vector in enumerate(vectors, start)
    ]


@pytest.fixture
def table(tmp_path):
    return ImageTable.create(tmp_path / "gallery", {"format": 1}, dimension=8)


@pytest.mark.parametrize("exact", [True, False])
def test_nearest_is_what_numpy_says(rng, table, exact):
    vectors = unit_vectors(rng, 50, 8)
    table.put(rows_of(vectors))
    table.put([Row("broken.png", 1, 1, "", 0, 0, "it is broken", None)])
    query = 3 * rng.standard_normal(8)
    cosines = vectors.astype(np.float64) @ query / np.linalg.norm(query)
    found = table.nearest(query, 60, exact)
    expected = [f"it's {i}.png" for i in np.argsort(-cosines)]
    assert [path for path, _ in found] == expected
    assert_allclose([similarity for _, similarity in found], np.sort(cosines)[::-1], atol=1e-6)
    assert len(table) == 50
    assert table.failed() == {"broken.png": "it is broken"}
    assert table.rows(["broken.png"])["broken.png"].embedding is None


def test_a_path_has_one_row(rng, table):
    vectors = unit_vectors(rng, 4, 8)
    table.put(rows_of(vectors))
    table.set_labels({"it's 2.png": ("a label", "a mask"), "none.png": ("b", None)})
    table.put([Row("it's 2.png", 99, 8, "new", 4, 3, None, vectors[0])])
    assert table.labels() == {"it's 2.png": ("a label", "a mask")}  # which stay
    assert len(table) == 4
    assert table.files()["it's 2.png"] == (99, 8, None)
    (row,) = table.rows(["it's 2.png", "none.png"]).values()
    assert row[:7] == ("it's 2.png", 99, 8, "new", 4, 3, None)
    assert (row.embedding == vectors[0]).all()
    assert table.failed() == {}


def test_what_is_dropped_is_not_found(rng, table):
    vectors = unit_vectors(rng, 4, 8)
    table.put(rows_of(vectors))
    table.drop(["it's 2.png", "' OR path IS NOT NULL OR path = '", "%"])
    table.drop([])
    assert sorted(table.files()) == ["it's 0.png", "it's 1.png", "it's 3.png"]
    assert "it's 2.png" not in dict(table.nearest(vectors[2], 9))


def test_an_index_is_built_and_kept_up(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(image_table, "EXACT", 500)
    monkeypatch.setattr(image_table, "PARTITION", 300)
    table = ImageTable.create(tmp_path / "gallery", {"format": 1}, dimension=16)
    vectors = unit_vectors(rng, 3000, 16)

    def check(count, indexed):
        found = table.nearest(vectors[7], 10)
        expected = np.argsort(-(vectors[:count] @ vectors[7]))[:10]
        assert [path for path, _ in found] == [f"it's {i}.png" for i in expected]
        assert table.storage()["indexed"] == indexed

    table.put(rows_of(vectors[:400]))
    table.maintain()
    check(400, indexed=0)
    table.put(rows_of(vectors[400:700], start=400))
    table.maintain()
    check(700, indexed=700)
    table.put(rows_of(vectors[700:900], start=700))
    check(900, indexed=700)  # found without the index
    table.maintain()
    check(900, indexed=900)
    table.put(rows_of(vectors[900:], start=900))
    table.maintain()
    check(3000, indexed=3000)
    assert len(table.dataset.get_ivf_model("embedding_idx").centroids) == 10  # built anew
    # labels neither harm the index nor are they missed by it
    table.set_labels({f"it's {i}.png": (f"label {i % 3}", None) for i in range(0, 3000, 2)})
    check(3000, indexed=3000)
    for options, chosen in (
        ({"label": ["label 1"]}, [i for i in range(0, 3000, 2) if i % 3 == 1]),
        ({"not_label": ["label 1"]}, [i for i in range(3000) if i % 2 or i % 3 != 1]),
    ):
        found = table.nearest(vectors[7], 10, **options)
        expected = np.array(chosen)[np.argsort(-(vectors[chosen] @ vectors[7]))[:10]]
        assert [path for path, _ in found] == [f"it's {i}.png" for i in expected]


def test_what_is_no_gallery_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no gallery, make one with index FOLDER"):
        ImageTable(tmp_path)
    assert not ImageTable.exists(tmp_path)


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "noise": lambda data: np.random.default_rng(0).bytes(len(data)),
    "missing": None,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("part", ["_versions", "data"])
def test_a_damaged_gallery_is_one_line(rng, table, tmp_path, capfd, part, how):
    table.put(rows_of(unit_vectors(rng, 9, 8)))
    for path in (tmp_path / "gallery" / "images.lance" / part).rglob("*"):
        path.write_bytes(DAMAGE[how](path.read_bytes())) if DAMAGE[how] else path.unlink()
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        again = ImageTable(tmp_path / "gallery")
        again.files()
        again.nearest(np.ones(8), 3)
    assert "\n" not in str(raised.value)
    assert "gallery" in str(raised.value)
    assert not capfd.readouterr().err


@pytest.mark.parametrize("place", ["s3://bucket/table", "elsewhere"])
def test_files_elsewhere_are_not_opened_on_a_tables_word(rng, table, tmp_path, place):
    from lance import DatasetBasePath

    table.put(rows_of(unit_vectors(rng, 9, 8)))
    place = place if "://" in place else str(tmp_path / place)
    table.dataset.add_bases([DatasetBasePath(place, name="other")])
    with pytest.raises(ValueError, match="names files outside of its folder"):
        ImageTable(tmp_path / "gallery")


def test_a_gallery_of_an_earlier_version_is_read_and_goes_on(rng, table, tmp_path):
    vectors = unit_vectors(rng, 9, 8)
    table.put(rows_of(vectors))
    table.dataset.drop_columns(["changed"])
    table = ImageTable(tmp_path / "gallery")
    assert len(table.files()) == len(table.rows(table.files())) == 9
    assert table.nearest(vectors[3], 1)[0][0] == "it's 3.png"
    table.upgrade()
    table.put([row._replace(changed="now") for row in rows_of(vectors[:2])])
    found = ImageTable(tmp_path / "gallery").files()
    assert [found[f"it's {i}.png"].changed for i in range(3)] == ["now", "now", None]


def test_another_table_is_no_gallery(tmp_path):
    import lance
    import pyarrow as pa

    lance.write_dataset(pa.table({"path": ["a.png"]}), str(tmp_path / image_table.NAME))
    with pytest.raises(ValueError, match="damaged"):
        ImageTable(tmp_path)
