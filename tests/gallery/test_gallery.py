"""Galleries: what indexing keeps and drops, and what a search finds, against plain loops."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import ROOT
from galleries import color_network, write_images
from numpy.testing import assert_allclose
from PIL import Image

from models import load_network
from similarity_ops import best_box, local_features, pool_features, strongest_part
from simvis import image_ops
from simvis.gallery import indexing
from simvis.gallery.gallery import Gallery, Indexed
from simvis.gallery.table import ImageTable
from simvis.pair import visualize_pair


@pytest.fixture
def indexed(gallery, folder):
    gallery.index(folder)
    return gallery


@pytest.fixture
def query(folder):
    return folder / "0" / "0_0000.png"


@pytest.fixture
def network():
    return color_network()


def unit_embedding(network, image, region=None):
    (conv,) = network.activations(network.preprocess([image]))
    weights = None
    if region is not None:
        weights = image_ops.region_weights(region, image.shape[:2], conv.shape[:2])
    feature = pool_features(conv, region=weights, data_format="channels_last")
    return feature / np.linalg.norm(feature)


def ranked(network, folder, query):
    """Return (path, similarity) of all images in a folder, best first, by a plain loop."""
    found = [
        (
            path.relative_to(folder).as_posix(),
            unit_embedding(network, image_ops.load_image(path)) @ query,
        )
        for path in folder.rglob("*.png")
    ]
    return sorted(found, key=lambda each: -each[1])


def checked(found, expected):
    assert [hit.path for hit in found.hits] == [path for path, _ in expected]
    similarities = [similarity for _, similarity in expected]
    assert_allclose([hit.similarity for hit in found.hits], similarities, atol=1e-6)
    assert [hit.rank for hit in found.hits] == list(range(1, len(expected) + 1))


# --- indexing ------------------------------------------------------------------------------------


def test_a_folder_is_taken_in_once(gallery, folder, network):
    assert gallery.index(folder) == Indexed(images=9, new=9, changed=0, gone=0, failed={})
    table = ImageTable(gallery.path)
    assert gallery.index(folder) == Indexed(images=9, new=0, changed=0, gone=0, failed={})
    assert ImageTable(gallery.path).dataset.version == table.dataset.version
    rows = table.rows(table.files())
    assert len(rows) == 9
    for path, row in rows.items():
        status = (folder / path).stat()
        assert (row.size, row.modified) == (status.st_size, status.st_mtime_ns)
        assert (row.width, row.height, row.error) == (60, 45, None)
        expected = unit_embedding(network, image_ops.load_image(folder / path))
        assert_allclose(row.embedding, expected, atol=1e-6)
        assert_allclose(np.linalg.norm(row.embedding.astype(np.float64)), 1, atol=1e-6)


def test_new_changed_gone_and_touched(indexed, folder, network, query):
    write_images(folder, 2, seed=1)
    Image.new("RGB", (8, 8), "red").save(query)
    (folder / "1" / "0_0001.png").unlink()
    os.utime(folder / "2" / "0_0002.png", ns=(1, 1))
    runs = []

    def preprocess(images):
        runs.extend(images)
        return network.preprocess(images)

    counted = Gallery(indexed.path, replace(network, preprocess=preprocess))
    assert counted.index(folder) == Indexed(images=10, new=2, changed=1, gone=1, failed={})
    assert len(runs) == 3  # the touched one was not run again
    assert ImageTable(indexed.path).files()["2/0_0002.png"][1] == 1
    red = unit_embedding(network, np.full((8, 8, 3), (255, 0, 0), np.uint8))
    checked(counted.find(query, top=10), ranked(network, folder, red))


def test_a_changed_image_of_the_same_size_is_noticed(gallery, folder):
    path, red, blue = folder / "plain.bmp", (255, 0, 0), (0, 0, 255)
    Image.new("RGB", (8, 8), red).save(path)
    gallery.index(folder)
    status = path.stat()
    Image.new("RGB", (8, 8), blue).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (hit,) = gallery.find(np.full((8, 8, 3), red, np.uint8), top=1).hits  # when it is shown
    assert hit.path == "plain.bmp"
    assert hit.overlay is None and "changed since it was indexed" in hit.note
    assert gallery.index(folder).changed == 1  # and though its time is the same
    (hit,) = gallery.find(np.full((8, 8, 3), blue, np.uint8), top=1).hits
    assert hit.path == "plain.bmp" and hit.similarity == pytest.approx(1)


def test_bad_images_are_recorded_and_tried_again(gallery, folder):
    (folder / "text.png").write_text("no image")
    Image.new("RGB", (9, 9)).save(folder / "black.png")  # of which this network sees nothing
    indexed = gallery.index(folder)
    assert indexed.images == 9
    assert indexed.failed.keys() == {"text.png", "black.png"}
    assert "not an image" in indexed.failed["text.png"]
    assert "sees nothing" in indexed.failed["black.png"]
    assert gallery.info()["failed"] == indexed.failed
    Image.new("RGB", (9, 9), "red").save(folder / "text.png")
    indexed = gallery.index(folder)
    assert (indexed.images, indexed.changed) == (10, 1)  # and not what is as black as it was
    assert indexed.failed.keys() == {"black.png"}


def test_what_cannot_be_looked_at_is_not_gone(indexed, folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/0/"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        again = indexed.index(folder)
    assert again == Indexed(images=9, new=0, changed=0, gone=0, failed={})
    assert again.left_out == "1 that cannot be read (0/: Permission denied)"
    os.utime(folder / "0" / "0_0000.png", (2**34, 2**34))  # in the year 2514
    assert indexed.index(folder).failed == {}


def test_a_gallery_is_of_one_folder_that_holds_images(indexed, folder, tmp_path):
    other = write_images(tmp_path / "other", 3, seed=2)
    with pytest.raises(ValueError, match="holds the images of"):
        indexed.index(other)
    shutil.rmtree(folder)  # as if its disk were gone
    with pytest.raises(ValueError, match="holds the images of"):
        indexed.index(other)
    folder.mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        indexed.index(folder)
    assert indexed.info()["images"] == 9


def test_a_folder_may_move(indexed, folder, tmp_path):
    moved = folder.rename(tmp_path / "moved")
    query = moved / "0" / "0_0000.png"
    with pytest.raises(FileNotFoundError, match="name where they are now"):
        indexed.find(query)
    found = Gallery(indexed.path, color_network(), images=moved).find(query, top=1)
    assert found.hits[0].note == "the query itself"
    assert indexed.index(moved) == Indexed(images=9, new=0, changed=0, gone=0, failed={})
    assert indexed.find(query, top=1).hits[0].overlay is not None


@pytest.mark.parametrize("mounted", ["elsewhere", "at the same place"])
def test_other_images_of_the_same_names_replace_nothing(indexed, folder, tmp_path, mounted):
    away = folder.rename(tmp_path / "away")  # unmounted
    other = write_images(tmp_path / "other", 9)
    for number, path in enumerate(sorted(other.rglob("*.png"))):
        Image.new("RGB", (60, 45), (9 * number, 99, 99)).save(path)
    if mounted == "at the same place":
        other = other.rename(folder)
    before = ImageTable(indexed.path).files()
    with pytest.raises(ValueError, match="of its 9 images 9 would change and 0 would go; name"):
        indexed.index(other)
    assert ImageTable(indexed.path).files() == before
    assert indexed.index(other, force=True).changed == 9
    if mounted == "at the same place":
        other.rename(tmp_path / "other")
    else:
        shutil.rmtree(other)
    with pytest.raises(ValueError, match="9 would change"):
        indexed.index(away)


def test_losing_more_than_half_is_asked_about(indexed, folder):
    shutil.rmtree(folder / "0")
    assert indexed.index(folder).gone == 3
    for path in list((folder / "1").iterdir()) + list((folder / "2").iterdir())[:1]:
        path.unlink()
    with pytest.raises(ValueError, match="of its 6 images 0 would change and 4 would go; name"):
        indexed.index(folder)
    assert indexed.info()["images"] == 6
    assert indexed.index(folder, force=True).gone == 4


def test_remove_takes_out_and_index_brings_back(gallery, folder):
    (folder / "0" / "0_0003.png").rename(folder / "10.png")
    gallery.index(folder)
    assert gallery.remove(["0/0_0000.png", "1/"]) == 4
    assert gallery.info()["images"] == 5 and "10.png" in ImageTable(gallery.path).files()
    with pytest.raises(ValueError, match="no such image"):
        gallery.remove(["2/0_0002.png", "2/0_00%"])
    assert gallery.info()["images"] == 5
    assert gallery.index(folder).new == 4


def test_small_files_are_merged_and_the_same_is_found(gallery, folder, monkeypatch, query):
    monkeypatch.setattr(indexing, "SECONDS", 0)  # a commit for each image
    monkeypatch.setattr(indexing, "COMMITS", 4)
    fragments, before, kept = [], [], ImageTable.maintain

    def found():
        hits = gallery.find(query, top=9).hits
        return [(hit.path, hit.similarity) for hit in hits]

    def maintain(table):
        fragments.append(len(table.dataset.get_fragments()))
        before.append(found())
        kept(table)
        assert found() == before[-1]

    monkeypatch.setattr(ImageTable, "maintain", maintain)
    gallery.index(folder)
    gallery.compact()
    assert fragments == [4, 5, 2, 1]  # before each time
    assert [len(each) for each in before] == [4, 8, 9, 9]


def test_one_run_at_a_time(gallery, folder, network):
    def preprocess(images):
        with pytest.raises(ValueError, match="another run writes"):
            Gallery(gallery.path, network).index(folder)
        return network.preprocess(images)

    assert Gallery(gallery.path, replace(network, preprocess=preprocess)).index(folder).new == 9


def test_other_peoples_folders_are_left_alone(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        Gallery(tmp_path / "mine", color_network()).index(folder)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("ask", ["find", "info", "remove", "compact"])
def test_asking_makes_no_gallery(tmp_path, ask):
    gallery = Gallery(tmp_path / "nothing", color_network())
    arguments = {"find": [np.ones((9, 9, 3), np.uint8)], "remove": [["a.png"]]}.get(ask, [])
    with pytest.raises(FileNotFoundError, match="no gallery"):
        getattr(gallery, ask)(*arguments)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"weights": lambda: [np.ones(1)]}, "weights"),
        ({"pooling": "max"}, "pooling average instead of max"),
        ({"name": "shapes"}, "network colors instead of shapes"),
        ({"batch_independent": False}, 'batch_norm="moving"'),
    ],
)
def test_another_network_is_refused(indexed, folder, fields, named, query):
    other = Gallery(indexed.path, color_network(**fields))
    for ask in (lambda: other.index(folder), lambda: other.find(query)):
        with pytest.raises(ValueError, match=named):
            ask()


def test_networks_that_show_no_weights_are_told_apart_by_what_they_do(tmp_path, folder, query):
    kernel = np.random.default_rng(0).standard_normal((3, 3)).astype("f4")

    def without_weights(scale=1, change=0):
        conv = color_network().activations
        fields = {"activations": lambda batch: scale * (conv(batch) @ (kernel + change))}
        return color_network(weights=None, **fields)

    Gallery(tmp_path / "gallery", without_weights()).index(folder)
    Gallery(tmp_path / "gallery", without_weights(scale=2)).find(query)  # has the same cosines
    other = Gallery(tmp_path / "gallery", without_weights(change=0.1 * kernel[::-1]))
    for ask in (other.index, other.find):
        with pytest.raises(ValueError, match="with another one, with weights"):
            ask(folder if ask == other.index else query)


# --- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
def test_hits_are_those_of_a_plain_loop(indexed, folder, network, exact):
    image = image_ops.load_image(folder / "2" / "0_0005.png")
    for region in (None, (10, 5, 30, 40)):
        expected = ranked(network, folder, unit_embedding(network, image, region))
        checked(indexed.find(image, region, top=5, exact=exact), expected[:5])
    mask = np.zeros(image.shape[:2], bool)
    mask[5:40, 10:30] = True
    checked(indexed.find(image, mask, top=5), expected[:5])


def test_a_point_is_what_interpolates_between_cells(indexed, folder, network):
    image = image_ops.load_image(folder / "2" / "0_0005.png")
    (conv,) = network.activations(network.preprocess([image]))
    y, x = image_ops.cell_of((25, 17), image.shape[:2], conv.shape[:2])
    (i, dy), (j, dx) = (divmod(position, 1) for position in (y, x))
    i, j = int(i), int(j)
    feature = (1 - dy) * ((1 - dx) * conv[i, j] + dx * conv[i, j + 1])
    feature += dy * ((1 - dx) * conv[i + 1, j] + dx * conv[i + 1, j + 1])
    expected = ranked(network, folder, feature / np.linalg.norm(feature))
    checked(indexed.find(image, point=(25, 17), top=4), expected[:4])


@pytest.mark.parametrize("place", [{}, {"region": (10, 5, 30, 40)}, {"point": (25, 17)}])
def test_maps_are_those_of_the_pair(indexed, folder, network, place):
    runs, query = [], folder / "0" / "0_0000.png"

    def activations(batch):
        runs.append(batch)
        return network.activations(batch)

    found = Gallery(indexed.path, replace(network, activations=activations)).find(query, **place)
    assert len(runs) == 10  # each hit once, and the query once
    for hit in found.hits:
        pair = visualize_pair(query, folder / hit.path, network, region1=found.region)
        assert_allclose(hit.maps.similarity2, pair.similarity2, rtol=1e-12)
        assert hit.similarity == pair.similarity
        assert (hit.overlay == pair.overlay2).all()


@pytest.fixture
def deep():
    """A network with earlier layers, of 2, 4 and 8 pixels to a cell."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((32, 32, 3))
    for _ in range(3):
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    return load_network(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("place", [{}, {"region": (10, 5, 30, 40)}])
def test_hits_may_have_fine_maps(folder, query, deep, place, tmp_path):
    gallery, runs = Gallery(tmp_path / "gallery", deep), []
    gallery.index(folder)

    def contributions(batch, *others, **options):
        runs.append(len(batch))
        return deep.contributions(batch, *others, **options)

    counted = Gallery(tmp_path / "gallery", replace(deep, contributions=contributions))
    found = counted.find(query, **place, stride=2, reference="mean")
    assert runs == [2] * 10  # once with each hit, and with itself before that
    coarse = gallery.find(query, **place)
    assert [hit.path for hit in found.hits] == [hit.path for hit in coarse.hits]
    for hit in found.hits:
        how = {"region1": found.region, "stride": 2, "reference": "mean"}
        pair = visualize_pair(query, folder / hit.path, deep, **how)
        assert_allclose(hit.maps.similarity2, pair.similarity2, atol=1e-6)
        assert hit.maps.similarity2.shape == (16, 16) and hit.similarity == pair.similarity
        difference = np.abs(hit.overlay.astype(int) - pair.overlay2)
        assert difference.max() < 5
        # the box is of the map evened out over 12 pixels to each side, by a plain loop
        evened = [
            [
                np.mean(
                    [
                        pair.similarity2[min(max(y + i, 0), 15), min(max(x + j, 0), 15)]
                        for i in range(-6, 7)
                        for j in range(-6, 7)
                    ]
                )
                for x in range(16)
            ]
            for y in range(16)
        ]
        expected = image_ops.box_of_cells(strongest_part(evened), hit.image.shape[:2])
        assert_allclose(hit.box, expected)
    found.save_page(tmp_path / "found.html")
    data = (tmp_path / "found.html").read_text().split('id="data">')[1].split("</script>")[0]
    cards = json.loads(data)["cards"]
    assert [each["rows"] for each in cards[0]["pair"]["fine"]] == [16, 16]
    assert all("image1" not in card["pair"] for card in cards[1:])  # which is there once


def test_fine_maps_that_there_are_not_are_named(indexed, query, folder, deep, tmp_path):
    gallery = Gallery(tmp_path / "deep", deep)
    gallery.index(folder)
    for options, words in (
        ({"stride": 16}, "stride: .*has no layer of 16 pixels to a cell"),
        ({"stride": 0}, "stride: expected a whole number of pixels"),
        ({"reference": "grey"}, "reference: is for fine maps, give a stride= too"),
        ({"stride": 2, "reference": "sepia"}, "reference: expected grey or mean or blur"),
    ):
        with pytest.raises(ValueError, match=words):
            gallery.find(query, **options)
    with pytest.raises(ValueError, match="stride: of the .* network the activations of earlier"):
        indexed.find(query, stride=2)


def test_the_query_itself_is_marked_not_hidden(gallery, folder, query):
    shutil.copy(query, folder / "copy.png")
    Image.open(query).save(folder / "again.bmp")
    gallery.index(folder)
    for region in (None, (10, 5, 30, 40)):
        found = gallery.find(query, region)
        marked = {hit.path for hit in found.hits if hit.note == "the query itself"}
        assert marked == {"0/0_0000.png", "copy.png", "again.bmp"}
        assert len(found.hits) == 11


def test_reranking_orders_by_the_best_box(indexed, folder, network):
    image, region = image_ops.load_image(folder / "0" / "0_0000.png"), (0, 0, 10, 10)
    query = unit_embedding(network, image, region)
    expected = {}
    for path in folder.rglob("*.png"):
        (conv,) = network.activations(network.preprocess([image_ops.load_image(path)]))
        local = local_features(conv, data_format="channels_last")
        expected[path.relative_to(folder).as_posix()] = best_box(local, query)
    found = indexed.find(image, region, top=3, rerank=9)
    order = sorted(expected, key=lambda path: -expected[path][0])
    assert [hit.path for hit in found.hits] == order[:3]
    for hit in found.hits:
        similarity, (y0, x0, y1, x1) = expected[hit.path]
        assert_allclose(hit.part_similarity, similarity, atol=1e-6)
        cells = np.array([x0 * 60 / 7, y0 * 45 / 7, x1 * 60 / 7, y1 * 45 / 7])
        assert_allclose(hit.box, cells, rtol=1e-12)


def test_what_does_not_fit_is_named(indexed, query):
    for options, named in (
        ({"region": (0, 0, 10, 10), "point": (1, 1)}, "region, point: give one"),
        ({"region": (0, 0, 999, 10)}, "region: .* leaves the image"),
        ({"point": (60, 1)}, "point: .* outside"),
        ({"top": 0}, "top: expected 1 to 1000"),
        ({"rerank": 2.5}, "rerank: expected 0 to 1000"),
    ):
        with pytest.raises(ValueError, match=named):
            indexed.find(query, **options)
    with pytest.raises(ValueError, match="sees nothing there"):
        indexed.find(np.zeros((9, 9, 3), np.uint8))


# --- what a stranger's gallery may do ------------------------------------------------------------


def test_nothing_is_opened_on_a_gallerys_word(indexed, query, tmp_path):
    table = ImageTable(indexed.path)
    identity = table.identity
    for load, named in (
        ([None, {}], "one of your own"),
        ([str(tmp_path / "model.keras"), {}], "no file is opened"),
        (["imagenet", {"import_file": "/tmp/evil.py"}], "import_file, since no file is opened"),
        (["hotels", {"checkpoint": "/dev/zero"}], "checkpoint, since no file is opened"),
        ([["x"], {}], "damaged"),
        (["imagenet"], "damaged"),
        (["imagenet", {"batch_norm": "moving"}], "no such option"),
    ):
        table.set_identity({**identity, "load": load})
        with pytest.raises(ValueError, match=named):
            Gallery(indexed.path).find(query)
    table.set_identity({**identity, "folder": "s3://bucket/photos?endpoint_override=example.org"})
    with pytest.raises(ValueError, match="images: .* not asked on a gallery's word"):
        indexed.find(query)


@pytest.mark.parametrize("identity", [{}, {"format": 1}, {"format": 2}, {"format": 1, "load": 3}])
def test_what_a_gallery_says_is_checked(indexed, identity, query):
    ImageTable(indexed.path).set_identity(identity)
    with pytest.raises(ValueError, match="damaged, or of another version"):
        Gallery(indexed.path).find(query)


def test_what_a_gallery_gets_wrong_is_a_note(indexed, folder, query):
    table, path = ImageTable(indexed.path), "0/0_0000.png"
    (folder.parent / "secret.png").write_bytes(query.read_bytes())
    row = table.rows([path])[path]
    table.put([row._replace(path="../secret.png")])
    table.put([row._replace(embedding=np.float32([0.6, 0.8, 0]))])
    hits = {hit.path: hit for hit in indexed.find(query).hits}
    assert hits["../secret.png"].image is None
    assert "leads out of" in hits["../secret.png"].note
    assert hits[path].similarity == pytest.approx(1)  # what the map sums to
    assert [each for each, hit in hits.items() if "another embedding" in hit.note] == [path]


def test_a_full_disk_is_one_line_and_loses_nothing(indexed, folder):
    write_images(folder, 300, seed=1)
    script = f"""if True:
        import resource, signal, sys
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from galleries import color_network
        from simvis.gallery.gallery import Gallery
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            Gallery({indexed.path!r}, color_network()).index({str(folder)!r})
        except ValueError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "the gallery cannot be written: " in done.stdout and "too large" in done.stdout
    assert done.stdout.count("\n") == 1 and not done.stderr
    assert indexed.info()["images"] == 9
    assert indexed.index(folder) == Indexed(images=309, new=300, changed=0, gone=0, failed={})


# --- with networks that are known by name --------------------------------------------------------


def test_a_gallery_remembers_its_network(folder, tmp_path, monkeypatch, query):
    path = tmp_path / "gallery"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rooms").mkdir()  # is not the network
    Gallery(path, "rooms", input_size=(96, 96), explain="pooled").index(folder)
    identity = ImageTable(path).identity
    assert identity["load"] == ["rooms", {"input_size": [96, 96], "explain": "pooled"}]
    found = Gallery(path).find(query, top=2)
    assert found.network.input_size == (96, 96)
    assert found.hits[0].maps.conv1.shape == (3, 3, 1280)
    with pytest.raises(ValueError, match=r"input_size \[96, 96\] instead of \[224, 224\]"):
        Gallery(path, "rooms", explain="pooled").find(query)
    json.dumps(Gallery(path).info())


def test_a_transformers_gallery(folder, tmp_path, query):
    """Of a network that is explained by derivatives, whose embeddings come without them."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 8, strides=8)(inputs))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    x = layers.Dense(6, activation="gelu")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, layers.Dense(5)(x))
    network = load_network(model, preprocess="0..1")
    gallery = Gallery(tmp_path / "gallery", network)
    assert gallery.index(folder).images == 9
    for region in (None, (10, 5, 30, 40)):
        found = gallery.find(query, region, top=3)
        for hit in found.hits:
            pair = visualize_pair(query, folder / hit.path, network, region1=region)
            assert_allclose(hit.similarity, pair.similarity, atol=1e-6)
    output = keras.ops.convert_to_numpy(model(network.preprocess([image_ops.load_image(query)])))
    (row,) = ImageTable(gallery.path).rows(["0/0_0000.png"]).values()
    assert_allclose(row.embedding, output[0] / np.linalg.norm(output[0]), atol=1e-6)


def test_many_images_go_through_litert_and_few_through_tensorflow(tmp_path, monkeypatch):
    folder, few = write_images(tmp_path / "images", 6), 3
    monkeypatch.setattr(indexing, "MANY", few + 1)
    gallery, network = Gallery(tmp_path / "gallery", "rooms"), load_network("rooms")
    gallery.index(folder)
    assert gallery.info()["engines"] == ["LiteRT"]
    write_images(folder, few, seed=1)
    gallery.index(folder)
    assert gallery.info()["engines"] == ["LiteRT", "TensorFlow"]
    for path, _, embedding in zip(*ImageTable(gallery.path).embedded(), strict=True):
        exact = unit_embedding_of(network, image_ops.load_image(folder / path))
        assert_allclose(embedding, exact, rtol=0, atol=1e-6)
    hits = gallery.find(folder / "0" / "0_0000.png", top=9).hits
    assert [hit.note for hit in hits] == ["the query itself"] + [""] * 8
    with pytest.raises(ValueError, match="they are the same"):  # whichever engine made them
        gallery.find(folder / "0" / "0_0000.png", unlike=["0/0_0000.png"])


def unit_embedding_of(network, image):
    _, (embedding,) = network.run(network.preprocess([image]), need="embeddings")
    return (embedding / np.linalg.norm(embedding.astype(np.float64))).astype(np.float32)


def test_a_batch_goes_through_the_network_as_it_is(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(indexing, "MANY", 1)
    gallery = Gallery(tmp_path / "gallery", "rooms")
    gallery.index(folder, batch_size=2)
    assert gallery.info()["engines"] == ["TensorFlow"]


@pytest.mark.parametrize(
    "engines", ["LiteRT", ["\x1b[2J"], [["LiteRT"]], {"LiteRT": 1}, [None], ["LiteRT"] * 2]
)
def test_engines_that_are_none_are_damage(indexed, engines):
    table = ImageTable(indexed.path)
    table.set_identity({**table.identity, "engines": engines})
    with pytest.raises(ValueError, match="damaged.*: its engines"):
        indexed.info()


def test_a_gallery_of_an_earlier_version_knows_no_engines(indexed, folder):
    table = ImageTable(indexed.path)
    assert table.identity.pop("engines") == ["functions"]
    table.set_identity(table.identity)
    assert indexed.info()["engines"] == []
    write_images(folder, 1, seed=2)
    indexed.index(folder)
    assert indexed.info()["engines"] == []
