"""The program for galleries: what it prints and writes, and one line for what is wrong."""

import csv
import os
import random
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from galleries import write_images
from PIL import Image

from search_gallery import main
from simvis.gallery import results as image_hits
from simvis.gallery.table import ImageTable


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """A folder of images with a gallery beside it, of which one image is broken."""
    place = tmp_path_factory.mktemp("indexed")
    write_images(place / "images", 7)
    (place / "images" / "it's <b>broken.png").write_text("no image")
    options = ["--network", "rooms", "--input-size", "64,64"]
    arguments = ["index", str(place / "images"), "--gallery", str(place / "gallery"), *options]
    assert main(arguments) == 1
    return place


@pytest.fixture
def place(indexed, tmp_path, monkeypatch):
    """A copy of them that is the current folder."""
    shutil.copytree(indexed, tmp_path / "place", symlinks=True)
    monkeypatch.chdir(tmp_path / "place")
    table = ImageTable("gallery")
    table.set_identity({**table.identity, "folder": str(tmp_path / "place" / "images")})
    return tmp_path / "place"


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_index_says_what_it_did(place, capsys):
    write_images(place / "images", 2, seed=1)
    assert main(["index", "images"]) == 1
    network, images, failed, reason, written = lines(capsys)
    assert network == "network     rooms"
    assert images == "images      9, 2 new"  # the broken one was tried again, but has not changed
    assert failed == "failed      1"
    assert reason.startswith("            it's <b>broken.png: not an image")
    assert written == "written     gallery"
    (place / "images" / "it's <b>broken.png").unlink()
    (place / "images" / "phone.HEIC").write_bytes(b"")
    assert main(["index", "images"]) == 0
    _, images, left_out, _ = lines(capsys)
    assert images == "images      9, 1 gone"
    assert left_out == "left out    1 of kinds that are not read (.heic 1)"
    (place / "images" / "phone.HEIC").unlink()
    assert main(["index", "images"]) == 0
    assert lines(capsys)[1] == "images      9, none of them new"


def test_find_writes_a_sheet_a_table_and_overlays(place, capsys):
    options = ["--region", "5,5,40,30", "--top", "3", "--output", "out/found"]
    assert main(["find", "images/0/0_0000.png", *options]) == 0
    printed = lines(capsys)
    assert printed[1] == "searched    7 images"
    with open("out/found/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == image_hits.FIELDS
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    hits = [line for line in printed[2:] if line[0].isdigit()]
    for row, line in zip(rows, hits, strict=True):
        assert line.startswith(f"{row['rank']:<11} {float(row['similarity']):.4f}  {row['path']}")
        box = [float(row[edge]) for edge in ("x0", "y0", "x1", "y1")]
        assert 0 <= box[0] < box[2] <= 60 and 0 <= box[1] < box[3] <= 45
    assert "0/0_0000.png, the query itself, higher than " in " ".join(hits)
    names = sorted(path.name for path in (place / "out" / "found").iterdir())
    assert names == ["contact_sheet.jpg", "hit_01.jpg", "hit_02.jpg", "hit_03.jpg", "results.csv"]
    assert Image.open("out/found/hit_01.jpg").size == (60, 45)


def test_what_an_earlier_search_left_is_replaced_and_nothing_else(place, capsys):
    find = ["find", "images/0/0_0000.png", "--output", "found"]
    assert main([*find, "--top", "4"]) == 0
    assert main([*find, "--top", "2"]) == 0
    assert len(list((place / "found").glob("hit_*.jpg"))) == 2
    (place / "found" / "mine.txt").write_text("mine")
    before = {path: path.read_bytes() for path in (place / "found").iterdir()}
    assert main(find) == 2
    assert "--output: found holds other files (mine.txt)" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (place / "found").iterdir()}
    (place / "photos").mkdir()
    shutil.copy("images/0/0_0000.png", "photos/hit_01.jpg")
    assert main([*find[:2], "--output", "photos"]) == 2


def test_the_page_opens_and_its_pairs_too(place, chromium):
    arguments = ["find", "images/0/0_0000.png", "--region", "5,5,40,30", "--top", "4"]
    assert main([*arguments, "--html", "pages/found.html"]) == 0
    with open("0_0000_found/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    page = chromium.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((place / "pages" / "found.html").as_uri())
    text = page.inner_text("main")
    for row in rows:
        assert row["path"] in text and f"{float(row['similarity']):.4f}" in text
    page.locator("#cards button").nth(1).click()
    cosine = page.frame_locator("iframe").locator("#cosine", has_text=re.compile("[0-9]"))
    expected = pytest.approx(float(rows[1]["similarity"]), abs=6e-5)
    assert float(cosine.inner_text().replace("−", "-")) == expected
    assert not [url for url in requests if url.startswith("http")]


def test_info_remove_and_compact(place, capsys):
    assert main(["info"]) == 0
    printed = lines(capsys)
    assert printed[0] == f"images      7, of {place / 'images'}"
    assert printed[1] == "network     rooms, average pooling, head, 64 x 64"
    assert printed[4] == "failed      1"
    assert main(["remove", "1", "0/0_0000.png"]) == 0
    assert lines(capsys) == ["removed     3"]
    assert main(["compact"]) == 0
    assert lines(capsys)[0].startswith("on disk")
    assert main(["info"]) == 0
    assert lines(capsys)[0].startswith("images      4")


def test_a_spreadsheet_runs_nothing_in_results_csv(place):
    shutil.copy("images/0/0_0000.png", "images/=HYPERLINK(1).png")
    assert main(["index", "images"]) == 1
    assert main(["find", "images/0/0_0000.png"]) == 0
    with open("0_0000_found/results.csv", newline="") as file:
        assert "'=HYPERLINK(1).png" in {row["path"] for row in csv.DictReader(file)}


def test_a_name_that_is_odd_does_no_harm(place, capsys):
    hostile = "\x1b[2J\n\x07evil.png"
    shutil.copy("images/0/0_0000.png", f"images/{hostile}")
    shutil.copy("images/0/0_0000.png", b"images/\xff\xfe.png")
    assert main(["index", "images"]) == 1
    assert "\\udcff\\udcfe.png: its name is not valid UTF-8" in capsys.readouterr().out
    assert main(["find", "images/0/0_0000.png"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out
    assert "\\x1b[2J\\n\\x07evil.png" in out
    with open("0_0000_found/results.csv", newline="") as file:
        assert hostile in {row["path"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("", "the following arguments are required: COMMAND"),
        ("find", "the following arguments are required: IMAGE"),
        ("index nowhere", "nowhere: no such folder"),
        ("index images/0/0_0000.png", "no such folder"),
        ("index images --network imagenet", "--network: the gallery gallery was"),
        ("index images --batch-size 0", "--batch-size: expected 1 to 256"),
        ("index images --workers 2", "--workers: are Ray's"),
        ("index images --network none", "--network: expected one of"),
        ("index images --gallery images/0/0_0000.png", "is a file, a gallery is a f"),
        ("index http://example.org/x", "http://example.org/x"),
        ("find -", "-: is a pipe or a device, write it to a file"),
        ("find https://example.org/a.png", "https://example.org/a.png: is an address, download"),
        ("find nowhere.png", "nowhere.png: no such image file"),
        ("find IMAGE --gallery none", "none: no gallery, make one"),
        ("find IMAGE --region 1,2", "--region: expected X0,Y0,X1,Y1"),
        ("find IMAGE --region no.png", "--region: no.png: no such file"),
        ("find IMAGE --point 90,1", "--point: 90,1 is outside"),
        ("find IMAGE --top 0", "--top: expected 1 to 1000"),
        ("find IMAGE --html x.png", "--html: expected a name ending in"),
        ("find IMAGE --output gallery", "--output: gallery holds other"),
        ("find IMAGE --output IMAGE", "--output: "),
        ("find IMAGE --colormap none", "--colormap: "),
        ("find IMAGE --images none", "none: no such folder, name where"),
        ("find IMAGE --layer x", "--layer: the rooms network has no"),
        ("remove none.png", "none.png: the gallery holds no such image"),
        ("compact --gallery images", "images: no gallery"),
    ],
)
def test_bad_input_is_one_line(place, capsys, arguments, words):
    before = sorted(place.rglob("*"))
    assert main(arguments.replace("IMAGE", "images/0/0_0000.png").split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("search_gallery.py: error: ")
    assert words in captured.err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    "network",
    [
        {"input_size": []},
        {"input_size": "64"},
        {"input_size": [64, None]},
        {"input_size": 10**30},
        {"input_size": None},
        {"pooling": {}},
        {"network": 7},
        {"power": "x"},
        {"explain": None},
    ],
)
def test_damaged_metadata_are_one_line(place, capsys, network):
    table = ImageTable("gallery")
    table.set_identity({**table.identity, "network": {**table.identity["network"], **network}})
    for command in (["info"], ["find", "images/0/0_0000.png"], ["index", "images"]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "gallery: the gallery is damaged, or of another version" in error
        assert f": its {next(iter(network))} is " in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options, words",
    [
        ({"colour": "red"}, "there is no option 'colour'"),
        ({"graph": True}, "there is no option 'graph'"),
        ({"name": "rooms"}, "there is no option 'name'"),
        ({"layer": 5}, "its layer is 5"),
        ({"grid": "77"}, "its grid is 77"),
        ({"prefix": [1]}, "its prefix is [1]"),
        ({"pooling": ["max"]}, "its pooling is ['max']"),
        ({"power": True}, "its power is True"),
        ({"power": 0.5}, "--gem-power: expected a number >= 1"),
        ({"explain": "all"}, "--explain: expected"),
    ],
)
def test_options_of_a_strangers_gallery_are_one_line(place, capsys, options, words):
    table = ImageTable("gallery")
    table.set_identity({**table.identity, "load": ["rooms", options]})
    assert main(["find", "images/0/0_0000.png"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_without_lance_one_line_says_what_to_install(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    assert main(["info"]) == 2
    assert 'pip install "similarity-visualization[gallery]"' in capsys.readouterr().err


def test_only_what_runs_a_network_imports_tensorflow(place):
    script = """if True:
        import sys
        import search_gallery
        slow = {"tensorflow", "lance", "pyarrow", "matplotlib", "scipy"}
        print(sorted(slow & set(sys.modules)))
        search_gallery.main(["info"])
        print("tensorflow" in sys.modules)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    first, *_, last = done.stdout.splitlines()
    assert (first, last, done.stderr) == ("[]", "False", "")


@pytest.mark.slow
def test_damage_of_all_kinds_is_one_line(place):
    """In processes of their own, since Lance may abort one."""
    rng = random.Random(0)
    files = sorted(path for path in (place / "gallery").rglob("*.*") if path.is_file())
    whole = {path: path.read_bytes() for path in files}
    for number in range(6):
        path = rng.choice(files)
        data = bytearray(whole[path])
        for _ in range(max(1, len(data) // 50)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data if number % 2 else data[: rng.randrange(len(data))])
        command = [sys.executable, ROOT / "search_gallery.py", "info"]
        done = subprocess.run(command, capture_output=True, text=True)
        path.write_bytes(whole[path])
        assert done.returncode in (0, 2), done
        assert done.stderr.count("\n") == (done.returncode == 2), done


@pytest.mark.slow
def test_kills_lose_nothing():
    kills = ["gallery", "--kills", "6", "--seed", str(np.random.default_rng().integers(10**6))]
    subprocess.run([sys.executable, "-m", "tests.kills", *kills], cwd=ROOT, check=True)
