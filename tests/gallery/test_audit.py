"""Audits: that they find what was put wrong by hand, and say why, as plain loops do."""

import csv
import json
import shutil
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from conftest import EYES, HOSTILE, ROOT, assert_accessible, expect, texts
from galleries import color_network
from numpy.testing import assert_allclose
from PIL import Image

from search_gallery import main
from simvis.gallery import figures
from simvis.gallery.figures import find_neighbours, with_intervals
from simvis.gallery.findings import (
    BACKGROUND,
    BORDER,
    EQUAL,
    FALSE,
    FAR,
    KINDS,
    MISSED,
    NEAR,
    Labelled,
    find_findings,
)
from simvis.gallery.folder import ImageFolder
from simvis.gallery.gallery import Gallery
from simvis.gallery.table import ImageTable
from simvis.image_ops import load_image
from simvis.maps import Method
from simvis.models import load_network
from simvis.overlay import Look
from simvis.pair import visualize_pair
from simvis.triplet import compare, visualize_triplet

COLORS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "olive": (1, 1, 0)}
COLORS |= {"teal": (0, 1, 1), "plum": (1, 0, 1)}  # labels, and the colours of their images
VIEWS = 5


def picture(color, rng, size=(24, 32)):
    """Return an image of coarse spots, all about in one colour."""
    spots = rng.integers(60, 200, (6, 8, 1)) * np.array(color) + rng.integers(0, 40, (6, 8, 3))
    image = Image.fromarray(spots.astype(np.uint8))
    return image.resize(size[::-1], Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path, rng):
    for label, color in COLORS.items():
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(VIEWS):
            picture(color, rng).save(tmp_path / "images" / label / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def indexed(gallery, folder):
    gallery.index(folder, labels_from="folders")
    return gallery


def of_kind(audit, kind):
    return [each for each in audit.findings if each.kind == kind]


def labels_of(gallery):
    return {path: label for path, (label, _) in ImageTable(gallery.path).labels().items()}


# --- what was put wrong by hand ------------------------------------------------------------------


def test_nothing_is_wrong_with_what_is_right(indexed):
    audit = indexed.audit()
    assert {name: mean for name, (mean, _, _) in audit.figures.items()} == dict.fromkeys(
        figures.FIGURES, 1.0
    )
    assert {each.kind for each in audit.findings} <= {BORDER}
    assert audit.values.shape == (30, 5) and audit.unlabelled == 0


def test_swapped_labels_and_copies_are_found(gallery, folder):
    swapped = {"red/0.png": "blue", "olive/3.png": "green", "teal/1.png": "plum"}
    shutil.copy(folder / "green" / "2.png", folder / "plum" / "copy.png")
    Image.open(folder / "blue" / "4.png").resize((96, 72)).save(folder / "olive" / "large.jpg")
    shutil.copy(folder / "teal" / "2.png", folder / "teal" / "its own copy.png")
    gallery.index(folder, labels_from="folders")
    gallery.index(folder, labels=swapped)
    audit = gallery.audit()
    assert {each.query for each in of_kind(audit, FAR)} >= set(swapped)
    assert [set(each.paths) for each in of_kind(audit, EQUAL)] == [{"green/2.png", "plum/copy.png"}]
    assert [set(each.paths) for each in of_kind(audit, NEAR)] == [{"blue/4.png", "olive/large.jpg"}]
    # what is copied is far from the label that it has been given, but this is no error of the
    # network's, as the others seem to be
    assert {each.query for each in of_kind(audit, FALSE)} == set(swapped)
    for each in of_kind(audit, FALSE):
        assert each.labels[0] == each.labels[2] == swapped[each.query]
        assert each.labels[1] == each.query.split("/")[0]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Views of six held-out rooms, with three labels swapped and two copies, and what is wrong."""
    source, place = ROOT / "evaluation" / "held_out" / "held_all", tmp_path_factory.mktemp("rooms")
    views = [each for each in json.loads((source / "views.json").read_text())][:24]
    labels = {f"{view['name']}.webp": view["room"] for view in views}
    for name in labels:
        shutil.copy(source / name, place)
    names = sorted(labels)
    swapped = {
        names[0]: labels[names[20]],
        names[17]: labels[names[4]],
        names[21]: labels[names[8]],
    }
    shutil.copy(source / names[10], place / "copy.webp")
    small = Image.open(source / names[18]).convert("RGB")
    small.reduce(2).save(place / "small.jpg")
    given = labels | swapped | {"copy.webp": labels[names[2]], "small.jpg": labels[names[13]]}
    rows = "".join(f"{name},{label}\n" for name, label in given.items())
    (place / "labels.csv").write_text(f"path,label\n{rows}")
    return place, swapped, {names[10], "copy.webp"}, {names[18], "small.jpg"}


def test_an_audit_of_held_out_rooms_finds_what_was_put_wrong(rooms, tmp_path, capsys):
    place, swapped, equal, near = rooms
    there = ["--gallery", str(tmp_path / "gallery"), "--labels", str(place / "labels.csv")]
    assert main(["index", str(place), *there, "--network", "rooms"]) == 0
    options = ["--top", "3", "--maps", "0", "--output", str(tmp_path / "out")]
    assert main(["audit", *there, *options, "--html", str(tmp_path / "audit.html")]) == 0
    with open(tmp_path / "out" / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    assert {row["query"] for row in found[FAR]} == set(swapped)
    assert {row["query"] for row in found[FALSE]} == set(swapped)
    assert [{row["query"], row["wrong"]} for row in found[EQUAL]] == [equal]
    assert [{row["query"], row["wrong"]} for row in found[NEAR]] == [near]
    out = capsys.readouterr().out.splitlines()
    assert "audited     26 of 6 labels" in out
    assert sum(line.startswith("recall@1    0.") for line in out) == 1
    assert (
        "far from its label, 3: its nearest own is as far away as the nearest of other labels"
        in str(out)
    )
    with open(tmp_path / "out" / "labels.csv", newline="") as file:
        worst = [float(row["MAP@R"]) for row in csv.DictReader(file)]
    assert len(worst) == 6 and worst == sorted(worst) and worst[0] < 0.7


# --- figures -------------------------------------------------------------------------------------


def test_figures_are_those_of_the_images_that_have_labels(indexed, folder, rng):
    paths = sorted(labels_of(indexed))
    given = {path: f"label {rng.integers(4)}" for path in paths[:20]} | {paths[20]: "alone"}
    audit = indexed.audit(labels=given)
    assert labels_of(indexed)[paths[0]] == "blue"  # the gallery keeps its own
    assert dict(zip(audit.paths, audit.labels, strict=True)) == given and audit.unlabelled == 9
    rows = ImageTable(indexed.path).rows(audit.paths)
    embeddings = np.array([rows[path].embedding for path in audit.paths])
    _, numbers = np.unique(audit.labels.astype(str), return_inverse=True)
    values = find_neighbours(embeddings, numbers).values
    assert_allclose(audit.values, values)
    assert np.isnan(values).all(1).tolist() == [path == paths[20] for path in audit.paths]
    assert_allclose(list(audit.figures.values()), with_intervals(values, numbers))
    counts = Counter(given.values())
    for label, count, means in audit.by_label:
        own = values[audit.labels == label]
        assert count == counts[label] and label != "alone"
        assert_allclose(means, own.mean(0))
    worst = [means[4] for _, _, means in audit.by_label]
    assert worst == sorted(worst) and len(worst) == 4


def test_memory_is_that_of_a_block(rng, monkeypatch):
    monkeypatch.setattr(figures, "BLOCK", 2**16)
    vectors = rng.standard_normal((2000, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = rng.integers(0, 200, 2000)
    tracemalloc.start()
    find_neighbours(vectors, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6  # of all pairs, 16 MB


# --- why -----------------------------------------------------------------------------------------


def test_errors_are_those_of_a_loop_and_come_with_their_maps(indexed, folder, rng):
    paths = sorted(labels_of(indexed))
    given = {path: f"label {rng.integers(5)}" for path in paths}
    audit = indexed.audit(labels=given, top=4)
    rows, margins = ImageTable(indexed.path).rows(paths), {FALSE: {}, MISSED: {}}
    for query in paths:
        cosines = {p: rows[p].embedding @ rows[query].embedding for p in paths if p != query}
        own = {p: cosines[p] for p in cosines if given[p] == given[query]}
        wrong = max((p for p in cosines if given[p] != given[query]), key=cosines.get)
        for kind, right in ((FALSE, max(own, key=own.get)), (MISSED, min(own, key=own.get))):
            margins[kind][query] = cosines[wrong] - own[right], wrong, right
    for kind, of in margins.items():
        expected, seen = [], set()
        for query in sorted(of, key=lambda query: -of[query][0]):
            margin, wrong, right = of[query]
            once = wrong if kind == FALSE else right
            pair = frozenset((query, once))
            if margin > 0 and once not in seen and pair not in seen:
                expected.append((query, wrong, right))
                seen |= {once, pair}
        found = of_kind(audit, kind)
        assert [each.paths for each in found] == expected[:4]
        for each in found:
            pictures = [folder / path for path in each.paths]
            triplet = visualize_triplet(*pictures, color_network())
            assert each.triplet.difference == pytest.approx(triplet.difference)
            assert each.similarities[0] - each.similarities[1] == pytest.approx(triplet.difference)
            assert_allclose(each.triplet.difference_map, triplet.difference_map, atol=1e-9)
            assert (each.overlay == triplet.picture()).all()
            assert [given[path] for path in each.paths] == list(each.labels)


@pytest.mark.slow
def test_maps_may_be_fine(rooms, tmp_path):
    place, swapped, _, _ = rooms
    gallery = Gallery(tmp_path / "gallery", "rooms", input_size=(64, 64))
    gallery.index(place, labels=place / "labels.csv")
    (finding, *_) = of_kind(gallery.audit(top=1, maps=0, stride=8), FALSE)
    pictures = [place / path for path in finding.paths]
    network = load_network("rooms", input_size=(64, 64))
    images = [load_image(path) for path in pictures]
    method = Method(stride=8)
    expected = compare(images, network, method, Look(normalize="zero"), finding.paths)
    assert finding.triplet.difference_map.shape == (8, 8)
    assert_allclose(finding.triplet.difference_map, expected.difference_map, atol=1e-4)
    assert finding.triplet.difference_map.sum() == pytest.approx(finding.triplet.difference)


def test_a_network_that_has_no_fine_maps_says_so(indexed):
    labels = {"red/0.png": "a", "red/1.png": "b", "blue/0.png": "a"}
    with pytest.raises(ValueError, match="stride: of the colors network the activations"):
        indexed.audit(labels=labels, stride=8)


def test_what_is_far_from_everything_is_far_from_its_label(folder, rng):
    """Also if its own label is nearer than any other, so that the network does not err."""
    centres = np.linalg.qr(rng.standard_normal((40, 40)))[0][:8]
    vectors = centres.repeat(5, 0) + 0.3 / 40**0.5 * rng.standard_normal((40, 40))
    vectors[2] = 0.4 * centres[0] + rng.standard_normal(40) @ (np.eye(40) - centres.T @ centres)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = [np.array([f"{each}{i}" for i in range(40)], object) for each in ("path", "")]
    labels = np.arange(8).repeat(5)
    data = Labelled(names[0], labels.astype(str).astype(object), names[1], [None] * 40, vectors)
    near = find_neighbours(vectors, labels)
    assert (near.to_own > near.to_stranger).all() and near.to_own[2] < 0.3
    found = find_findings(data, near, ImageFolder(folder), top=3)
    found = [(each.kind, each.query) for each in found if each.kind != MISSED]
    assert found == [(FAR, "path2")]
    assert find_findings(data, near, ImageFolder(folder), top=0) == []


def test_what_cannot_be_shown_is_said(indexed, folder, tmp_path):
    swapped = {"red/0.png": "blue", "teal/1.png": "plum"}
    indexed.index(folder, labels=swapped)
    (folder / "red" / "0.png").unlink()
    shutil.copy(folder / "red" / "1.png", folder / "teal" / "1.png")
    audit = indexed.audit()
    notes = {each.query: each.note for each in of_kind(audit, FALSE)}
    assert "no such file" in notes["red/0.png"] and "it has changed" in notes["teal/1.png"]
    assert {"red/0.png", "teal/1.png"} <= audit.attention.skipped.keys()
    audit.save(tmp_path / "out")
    audit.save_page(tmp_path / "audit.html")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_a_gallery_of_embeddings_that_are_none_is_refused(indexed, value):
    table = ImageTable(indexed.path)
    (row,) = table.rows(["red/0.png"]).values()
    table.put([row._replace(embedding=np.full(3, value, np.float32))])
    with pytest.raises(ValueError, match="damaged: an embedding has not the length 1"):
        indexed.audit()


# --- where the maps lie --------------------------------------------------------------------------


def share_of_map(folder, query, other, weights):
    similarity = visualize_pair(folder / query, folder / other, color_network()).similarity1
    positive = np.maximum(similarity, 0)
    return (positive * weights).sum() / positive.sum()


def nearest_own(audit, gallery, query):
    rows = ImageTable(gallery.path).rows(audit.paths)
    label = audit.labels[list(audit.paths).index(query)]
    own = [p for p, other in zip(audit.paths, audit.labels, strict=True) if other == label]
    own.remove(query)
    return max(own, key=lambda path: rows[path].embedding @ rows[query].embedding)


def test_shares_on_the_border_are_those_of_the_maps(indexed, folder):
    audit = indexed.audit()
    assert audit.attention.place == "border"
    edge = np.array([0.7, 0, 0, 0, 0, 0, 0.7])  # a tenth is seven tenths of a seventh
    weights = 1 - np.outer(1 - edge, 1 - edge)
    for query, share, area in zip(
        audit.paths[::7], audit.attention.shares[::7], audit.attention.areas[::7], strict=True
    ):
        other = nearest_own(audit, indexed, query)
        assert share == pytest.approx(share_of_map(folder, query, other, weights), abs=1e-6)
        assert area == pytest.approx(0.36)


def test_labels_that_live_from_their_background_come_first(gallery, folder, tmp_path, rng):
    for label, dark in (("red", slice(16, 32)), ("green", slice(16))):
        for number in range(VIEWS):
            image = np.array(Image.open(folder / label / f"{number}.png"))
            image[:, dark] //= 8
            Image.fromarray(image).save(folder / label / f"{number}.png")
            mask = np.zeros((24, 32), np.uint8)
            mask[:, 16:] = 255
            Image.fromarray(mask).save(folder / label / f"{number}_mask.png")
    gallery.index(folder, labels_from="folders")
    audit = gallery.audit()
    (first, second) = audit.attention.by_label(audit.labels)
    assert audit.attention.place == "mask" and (first[0], second[0]) == ("red", "green")
    assert first[2] < 0.25 and second[2] > 0.75
    assert first[1] == VIEWS and first[3] == pytest.approx(0.5)
    ((finding,),) = [of_kind(audit, BACKGROUND)]
    assert finding.labels[0] == "red" and finding.share == first[2]
    assert finding.overlay.shape[1] == 64
    weights = np.array([0, 0, 0, 0.5, 1, 1, 1])[None].repeat(7, 0)
    for i in np.flatnonzero(~np.isnan(audit.attention.shares)):
        other = nearest_own(audit, gallery, audit.paths[i])
        expected = share_of_map(folder, audit.paths[i], other, weights)
        assert audit.attention.shares[i] == pytest.approx(expected, abs=1e-6)


def test_masks_are_named_in_a_column_and_lead_nowhere_else(gallery, folder, tmp_path):
    (folder / "masks").mkdir()
    mask = Image.fromarray(np.uint8([[0, 255]] * 2).repeat(12, 0).repeat(16, 1))
    for name in ("a.png", "small.png"):
        mask.reduce(1 + (name == "small.png")).save(folder / "masks" / name)
    mask.save(tmp_path / "secret.png")
    Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 9).save(folder / "c.png")
    masks = ["masks/a.png", "masks/small.png", "../secret.png", "none.png", "c.png"]
    rows = [f"red/{i}.png,red,{mask}" for i, mask in enumerate(masks)]
    rows += [f"blue/{i}.png,blue," for i in range(VIEWS)]
    (tmp_path / "l.csv").write_text("\n".join(["path,label,mask", *rows]))
    gallery.index(folder, labels=tmp_path / "l.csv")
    audit = gallery.audit(top=0)
    assert audit.findings == [] and audit.unlabelled == 20
    skipped = audit.attention.skipped
    assert [path for path in audit.paths if path.startswith("red") and path not in skipped] == [
        "red/0.png"
    ]
    for number, words in enumerate(("mask of the image's size", "leads out of", "no such file"), 1):
        assert words in skipped[f"red/{number}.png"]
    assert "classes" in skipped["red/4.png"]
    assert gallery.audit(maps=0).attention.place is None


def test_a_few_images_of_each_label_are_looked_at(indexed):
    audit = indexed.audit(maps=14)
    looked = Counter(audit.labels[~np.isnan(audit.attention.shares)])
    assert looked.total() == 14 and set(looked.values()) == {2, 3} and len(looked) == 6


# --- what is written -----------------------------------------------------------------------------


def test_files_are_replaced_whole_and_nothing_else_is(indexed, tmp_path, monkeypatch):
    audit = indexed.audit(labels={"red/0.png": "=1+1", "red/1.png": "=1+1", "blue/0.png": "b"})
    audit.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.csv", "labels.csv"]
    before = (tmp_path / "out" / "labels.csv").read_bytes()
    assert b"'=1+1" in before
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
        indexed.audit().save(tmp_path / "out")
    assert (tmp_path / "out" / "labels.csv").read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 2
    indexed.audit().save(tmp_path / "out")
    assert (tmp_path / "out" / "labels.csv").read_bytes() != before
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"output: .* holds other files \(mine.txt\)"):
        audit.save(tmp_path / "out")


@pytest.mark.parametrize("width, scheme", EYES)
def test_the_page_shows_figures_and_kinds(indexed, folder, tmp_path, go, width, scheme):
    hostile = " ".join(HOSTILE.encode("utf-8", "backslashreplace").decode().split())
    labels = {"red/0.png": "blue", "teal/1.png": hostile, "olive/3.png": hostile}
    indexed.index(folder, labels=labels)
    audit = indexed.audit()
    audit.save_page(tmp_path / "audit.html")
    viewport = {"width": width, "height": 900}
    page = go((tmp_path / "audit.html").as_uri(), viewport=viewport, color_scheme=scheme)
    assert f"{audit.figures['recall@1'][0]:.4f}" in page.locator("details").first.inner_text()
    counts = Counter(each.kind for each in audit.findings)
    shown = page.locator("#groups label").all_inner_texts()
    assert shown == [
        f"all {len(audit.findings)}",
        *(f"{k} {counts[k]}" for k in KINDS if counts[k]),
    ]
    for kind in (FALSE, FAR):
        page.locator("#groups").get_by_text(f"{kind} ").click()
        expect(page.locator(".card:visible")).to_have_count(counts[kind])
    for details in page.locator("summary").all()[1:]:
        details.click()
    assert hostile in "".join(texts(page, "td"))
    assert_accessible(page)
    page.locator(".card:visible button").first.click()
    cosine = page.frame_locator("iframe").locator("#cosine", has_text=".")
    first = of_kind(audit, FAR)[0]
    assert float(cosine.inner_text()) == pytest.approx(first.similarities[0], abs=6e-5)


def test_what_is_wrong_is_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    index = ["index", "images", "--network", "rooms", "--input-size", "64,64"]
    assert main(index) == 0
    (tmp_path / "one.csv").write_text("path,label\nred/0.png,x\nred/1.png,x\n")
    (tmp_path / "two.csv").write_text("path,label\nred/0.png,x\nred/1.png,y\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    for arguments, words in (
        ("", "--labels: no image has one, index with labels=FILE.csv"),
        ("--labels one.csv", "--labels: expected two different ones or more, the 2 images"),
        ("--labels two.csv", "--labels: no two images have the same one"),
        ("--labels one.csv --labels-from folders", "error: labels, labels_from: give one of them"),
        ("--labels-from folders --top -1", "--top: expected 0 to 1000, got -1"),
        ("--labels-from folders --maps 9999", "--maps: expected 0 to 1000, got 9999"),
        ("--labels-from folders --stride 0", "--stride: expected a whole number of pixels"),
        ("--labels-from folders --output other", "--output: other holds other files (mine.txt)"),
        ("--labels-from folders --html page.txt", "--html: expected a name ending in .html"),
        ("--labels-from names", "--labels-from"),
        ("--network imagenet --labels-from folders", "--network: the gallery gallery was indexed"),
        ("--gallery none", "none: no gallery, make one"),
    ):
        capsys.readouterr()
        assert main(["audit", *arguments.split()]) == 2, arguments
        told = capsys.readouterr()
        assert words in told.err and told.err.count("\n") == 1 and not told.out, told.err
    assert main(["audit", "--labels-from", "folders", "--top", "2", "--maps", "3"]) == 0
    given = {"images", "gallery", "one.csv", "two.csv", "other"}
    assert {path.name for path in tmp_path.iterdir()} <= given


def test_images_may_be_elsewhere_by_now(indexed, folder, tmp_path):
    moved = folder.rename(tmp_path / "moved")
    audit = Gallery(indexed.path, color_network(), images=moved).audit(maps=2)
    assert not audit.attention.skipped
    assert load_image(moved / "red" / "0.png").shape == (24, 32, 3)
