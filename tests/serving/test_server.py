"""The server: who may ask it, what it answers, under load, and what happens beside it."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT
from galleries import color_network, write_images
from numpy.testing import assert_allclose
from PIL import Image
from services import Client, served

from search_gallery import main
from simvis.gallery.gallery import Gallery
from simvis.serving import server as serving


def index(place):
    gallery = Gallery(place / "gallery", color_network())
    gallery.index(write_images(place / "images", 30))
    return gallery


@pytest.fixture
def gallery(tmp_path):
    return index(tmp_path)


@pytest.fixture
def folder(gallery):
    return Path(gallery.path).parent / "images"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A service that no test changes."""
    with served(index(tmp_path_factory.mktemp("untouched"))) as service:
        yield service


@pytest.fixture
def visitor(untouched):
    return Client(untouched)


@pytest.fixture
def service(gallery):
    with served(gallery) as service:
        yield service


@pytest.fixture
def client(service):
    return Client(service)


def file_of(image, kind="png"):
    file = BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def assert_found(found, wanted):
    """A ranking must be that of a search at the shell."""
    assert [hit["path"] for hit in found["hits"]] == [hit.path for hit in wanted.hits]
    similarities = [hit["similarity"] for hit in found["hits"]]
    assert_allclose(similarities, [hit.similarity for hit in wanted.hits], atol=2e-6)


# --- who may ask ----------------------------------------------------------------------------------


def test_the_token_becomes_a_cookie(untouched, visitor):
    token = untouched.token
    status, headers, _ = visitor.ask("GET", f"/?token={token}", cookie=None)
    assert status == 303 and headers["location"] == "/"
    name, *rules = headers["set-cookie"].lower().split("; ")
    assert name == visitor.cookie.lower() and {"httponly", "samesite=strict", "path=/"} <= {*rules}
    page = visitor.get("/")
    assert b"What looks like this?" in page and token.encode() not in page
    assert untouched.address == f"http://127.0.0.1:{untouched.port}/?token={token}"


@pytest.mark.parametrize(
    "path, headers, status",
    [
        ("/", {"cookie": None}, 403),
        ("/", {"cookie": "simvis-0=x"}, 403),
        ("/?token=wrong", {}, 403),
        ("/?token=", {}, 403),
        ("/pictures", {"cookie": None}, 403),
        ("/pictures?token=TOKEN", {"cookie": None}, 403),  # it opens the page alone
        ("/picture/0", {"cookie": None}, 403),
        ("/", {"host": "evil.example"}, 421),
        ("/", {"host": "127.0.0.1.evil.example"}, 421),
        ("/", {"host": "192.168.0.7"}, 421),
        ("/", {"host": "[::1"}, 421),
        ("/", {"host": None}, 400),
        ("/", {"host": "localhost:99"}, 200),
        ("/", {"origin": "http://evil.example"}, 403),
        ("/", {"origin": "null"}, 403),
        ("/", {"origin": "https://127.0.0.1:PORT"}, 403),
        ("/", {"origin": "http://127.0.0.1:PORT"}, 200),
        ("/", {"origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_who_may_not_ask_is_refused(untouched, visitor, path, headers, status):
    port = str(untouched.port)
    headers = {name: value and value.replace("PORT", port) for name, value in headers.items()}
    for method in ("GET", "POST") if status in (403, 421) and "?" not in path else ("GET",):
        got, _, body = visitor.ask(method, path.replace("TOKEN", untouched.token), **headers)
        assert got == status, body
        assert untouched.token.encode() not in body


def test_every_answer_is_closed(visitor):
    visitor.rows()
    for path in ("/", "/pictures", "/picture/0", "/picture/999", "/nothing", "/photo/x"):
        _, headers, _ = visitor.ask("GET", path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer" and "server" not in headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "method, path, body, status",
    [
        ("GET", "/../../etc/passwd", None, 404),
        ("GET", "/picture/..%2f..%2fetc%2fpasswd", None, 404),
        ("GET", "/picture/-1", None, 404),
        ("GET", "/picture/99999999999999999999", None, 410),
        ("GET", "/picture/0%00.png", None, 404),
        ("GET", "/photo/..%2f..%2fgallery", None, 404),
        ("GET", "/photo/" + "0" * 64, None, 410),
        ("GET", "/pictures?page=-1", None, 400),
        ("GET", "/pictures?page=x", None, 400),
        ("GET", "/pictures?page=999999999", None, 200),
        ("GET", "/pictures?text=" + "%25" * 500, None, 200),
        ("DELETE", "/picture/0", None, 405),
        ("POST", "/search", b"", 400),
        ("POST", "/search", b"[]", 400),
        ("POST", "/search", b"\xff\xfe", 400),
        ("POST", "/search", b"[" * 100_000, 400),
        ("POST", "/search", b'{"row": 0, "boxes": [[0, 0, 1e999, 1]]}', 400),
        ("POST", "/search", b'{"row": 0, "boxes": [[0, 0, 900, 1]]}', 400),
        ("POST", "/search", b'{"row": 0, "ignored": [[0, 0, 60, 45]]}', 400),
        ("POST", "/search", b'{"row": 0, "points": [[-1, 0]]}', 400),
        ("POST", "/search", b'{"row": "0/0_0000.png"}', 400),
        ("POST", "/search", b'{"row": 4000}', 410),
        ("POST", "/search", b'{"row": 0, "like": [4000]}', 410),
        ("POST", "/search", b'{"row": 0, "client": 5}', 400),
        ("POST", "/search", b'{"row": 0, "client": "a", "turn": -5}', 400),
        ("POST", "/search", b" " * (2**18 + 1), 400),
        ("POST", "/map", b'{"row": 0}', 400),
        ("POST", "/map", b'{"row": 0, "hit": 4000}', 410),
        ("POST", "/explore", b'{"row": 0, "hit": "x"}', 400),
        ("POST", "/report", b'{"row": 0, "top": 100000}', 400),
        ("POST", "/photo", b"", 400),
        ("POST", "/photo", b"GIF89a", 400),
        ("POST", "/photo", b"<svg onload=alert(1)>", 400),
    ],
)
def test_hostile_requests_are_refused(visitor, method, path, body, status):
    visitor.rows()
    got, headers, answer = visitor.ask(method, path, body)
    assert got == status, answer
    if status in (400, 410) and len(path) < 9000:
        assert json.loads(answer)["error"].count("\n") == 0
    assert visitor.search({"row": 0})["hits"]  # it goes on


def test_uploads_are_bounded_and_touch_no_disk(gallery, tmp_path, monkeypatch):
    (empty := tmp_path / "empty").mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    monkeypatch.setattr(serving, "LARGEST", 100_000)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with served(gallery) as service:
        client = Client(service)
        large = file_of(np.zeros((10_000, 10_000), bool))
        assert "exceeds limit of 89478485 pixels" in client.send(large, 400)["error"]
        photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
        whole = file_of(photo)
        assert "cannot be read" in client.send(whole[:20_000], 400)["error"]
        assert "over 100,000 bytes" in client.send(bytes(100_001), 400)["error"]
        headers = {"content_length": None, "transfer_encoding": "chunked"}
        chunks = b"%x\r\n%s\r\n" % (60_000, bytes(60_000))
        status, _, body = client.ask("POST", "/photo", chunks * 2 + b"0\r\n\r\n", **headers)
        assert status == 400 and b"over 100,000 bytes" in body
        with socket.create_connection(("127.0.0.1", service.port)) as cut:  # and hangs up
            head = f"POST /photo HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\n"
            cut.sendall(f"{head}Content-Length: 9000\r\n\r\nabc".encode())
        sent = client.send(whole)
        assert (sent["width"], sent["height"]) == (120, 90)
        question = {"photo": sent["photo"], "boxes": [[10, 10, 60, 60]]}
        assert_found(client.search(question), gallery.find(photo, (10, 10, 60, 60)))
        client.post("/report", question)
        assert Image.open(BytesIO(client.get(f"/photo/{sent['photo']}"))).size == (120, 90)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# --- what it answers ------------------------------------------------------------------------------


def test_pictures_are_listed_in_pages_by_folder_or_name(client, folder, monkeypatch):
    monkeypatch.setattr("simvis.serving.desk.PAGE", 7)
    everything = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    listed = []
    for page in range(5):
        found = client.get(f"/pictures?page={page}")
        assert (found["total"], found["pages"]) == (30, 5)
        listed += [each["path"] for each in found["pictures"]]
    assert listed == everything
    found = client.get("/pictures?text=0_001")
    assert [each["path"] for each in found["pictures"]] == [p for p in everything if "0_001" in p][
        :7
    ]
    assert client.get("/pictures?text=1/0_00")["total"] == 10
    assert client.get("/pictures?text=.PNG")["total"] == 30
    picture = client.get(f"/picture/{found['pictures'][0]['row']}")
    assert Image.open(BytesIO(picture)).size == (60, 45)


def test_answers_are_those_of_a_search(client, gallery, folder):
    rows = client.rows()
    name = "0/0_0000.png"
    box, ignored = (3, 2, 40, 30), (20, 5, 30, 25)
    mask = np.zeros((45, 60), bool)
    mask[2:30, 3:40] = mask[30:40, 45:60] = True
    for question, asked in (
        ({}, {}),
        ({"boxes": [box], "top": 5}, {"region": box, "top": 5}),
        ({"points": [[25, 17]]}, {"point": (25, 17)}),
        ({"ignored": [ignored]}, {"ignore": ignored}),
        ({"boxes": [box, (45, 30, 60, 40)]}, {"region": mask}),
        ({"boxes": [box], "ignored": [ignored]}, {"region": box, "ignore": ignored}),
        (
            {"like": [rows["1/0_0001.png"]], "unlike": [rows["2/0_0005.png"]]},
            {"like": ["1/0_0001.png"], "unlike": ["2/0_0005.png"]},
        ),
    ):
        question |= {"row": rows[name]}
        found, wanted = client.search(question), gallery.find(folder / name, **asked)
        assert_found(found, wanted)
        assert found["searched"] == 30 and found["words"] == wanted.words()
        for hit, each in zip(found["hits"], wanted.hits, strict=True):
            shown = client.post("/map", {**question, "hit": hit["row"]})
            assert shown["similarity"] == pytest.approx(each.similarity, abs=1e-6)
            values = np.reshape(shown["map"]["values"], each.map.shape)
            assert_allclose(values, each.map, rtol=1e-5)
            assert tuple(shown["box"]) == each.box and shown["note"] == each.note
        data = client.post("/explore", {**question, "hit": found["hits"][1]["row"]})
        assert data["images"][1]["name"] == wanted.hits[1].path


def test_how_unusual_copies_and_labels(tmp_path):
    folder = write_images(tmp_path / "images", 30)
    copies = "copies/a.png", "copies/b.jpg"
    (folder / "copies").mkdir()
    shutil.copy(folder / "0" / "0_0000.png", folder / copies[0])
    Image.open(folder / "0" / "0_0000.png").resize((120, 90)).save(folder / copies[1], quality=95)
    gallery = Gallery(tmp_path / "gallery", color_network())
    gallery.index(folder, labels_from="folders")
    with served(gallery) as service:
        client = Client(service)
        assert b'"labels": ["0", "1", "2", "copies"]' in client.get("/")
        rows = client.rows()
        question = {"row": rows["0/0_0000.png"], "top": 32}
        wanted = {hit.path: hit for hit in gallery.find(folder / "0" / "0_0000.png", top=32).hits}
        found = client.search(question)
        for hit in found["hits"]:
            each = wanted[hit["path"]]
            assert hit["label"] == each.label
            # the last pairs are apart by as much as float32 rounds
            assert abs(unusual(hit["unusual"]) - min(each.percentile, 99.9)) < 0.5
            assert hit["usual"] == (each.percentile < 99)
        # a copy that is the same file is known at once, another one when it has been looked at
        first = rows["0/0_0000.png"]
        same = {hit["path"]: hit["same"] for hit in found["hits"] if hit["same"] != hit["row"]}
        pair = {"0/0_0000.png", copies[0]}
        assert same.keys() < pair and set(same.values()) < {rows[path] for path in pair}
        alike = [
            client.post("/map", {**question, "hit": rows[path]}) for path in (*pair, copies[1])
        ]
        assert set(alike[-1]["same"]) == {rows[path] for path in pair}
        assert (
            rows[copies[1]] not in alike[0]["same"] and first in alike[1]["same"] + alike[0]["same"]
        )
        for label, others in ((["1"], []), ([], ["0", "copies"]), (["0", "1"], ["1"])):
            asked = {"label": label, "not_label": others}
            found = client.search({**question, **asked})
            assert_found(found, gallery.find(folder / "0" / "0_0000.png", top=32, **asked))
        error = client.search({**question, "label": ["copie"]}, 400)["error"]
        assert "no image has the label 'copie', but 'copies'" in error


def unusual(words):
    return float(re.fullmatch("higher than ([0-9.]+) % of pairs", words)[1])


def test_fine_maps(tmp_path):
    folder = write_images(tmp_path / "images", 3)
    gallery = Gallery(tmp_path / "gallery", "rooms", input_size=(64, 64))
    gallery.index(folder)
    with served(gallery) as service:
        client = Client(service)
        question = {"row": client.rows()["0/0_0000.png"], "fine": True}
        found = client.search(question)
        wanted = gallery.find(folder / "0" / "0_0000.png", stride=8)
        assert_found(found, wanted)
        for hit, each in zip(found["hits"], wanted.hits, strict=True):
            shown = client.post("/map", {**question, "hit": hit["row"]})["map"]
            values = np.reshape(shown["values"], (shown["rows"], shown["columns"]))
            assert values.shape == each.map.shape == (8, 8)
            assert_allclose(values, each.map, atol=1e-5 * np.abs(each.map).max())


def test_the_report_repeats_the_search(tmp_path, folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--network", "rooms", "--input-size", "64,64"]
    assert main(["index", str(folder), "--gallery", "rooms", *options]) == 0
    gallery = Gallery(tmp_path / "rooms", "rooms", input_size=(64, 64))
    photo = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    with served(gallery, options=options) as service:
        client = Client(service)
        rows = client.rows()
        question = {"photo": client.send(file_of(photo))["photo"], "top": 4}
        marks = {"boxes": [[9, 9, 60, 60], [70, 5, 99, 80]], "strokes": [[9, 30, 30, 50, 44]]}
        for number, more in enumerate(
            (marks, {"boxes": [[5, 6, 70, 80]], "fine": True}, {"like": [rows["1/0_0001.png"]]})
        ):
            found = client.search({**question, **more})
            with zipfile.ZipFile(BytesIO(client.post("/report", {**question, **more}))) as report:
                names = set(report.namelist())
                report.extractall(tmp_path / f"{number}")
            kept = {"README.txt", "search.json", "found.html", "query.png", "query_marked.jpg"}
            kept |= {"contact_sheet.jpg", "results.csv", *(f"hit_0{n}.jpg" for n in range(1, 5))}
            assert names - {"region.png", "ignore.png"} == kept
            monkeypatch.chdir(tmp_path / f"{number}")
            says = json.loads((tmp_path / f"{number}" / "search.json").read_text())
            command = shlex.split(says["command"])
            assert command[:2] == ["python", "search_gallery.py"]
            assert main([*command[2:], "--output", "again"]) == 0, capsys.readouterr().err
            for name in ("results.csv", "hit_01.jpg"):
                again = tmp_path / f"{number}" / "again" / name
                assert again.read_bytes() == (tmp_path / f"{number}" / name).read_bytes()
            lines = (tmp_path / f"{number}" / "results.csv").read_text().splitlines()[1:]
            assert [hit["path"] for hit in found["hits"]] == [line.split(",")[1] for line in lines]


# --- what happens beside it -----------------------------------------------------------------------


def test_a_gallery_may_change_while_it_is_served(client, gallery, folder):
    rows = client.rows()
    question = {"row": rows["0/0_0000.png"], "top": 120}
    found = client.search(question)
    hits = {hit["path"]: hit["row"] for hit in found["hits"]}
    (folder / "1" / "0_0001.png").unlink()
    (folder / "1" / "0_0004.png").write_text("no image any more")
    shutil.copy(folder / "0" / "0_0003.png", folder / "1" / "0_0007.png")
    for path, words in (
        ("1/0_0001.png", "no such file"),
        ("1/0_0004.png", "not an image"),
        ("1/0_0007.png", "it has changed since it was indexed"),
    ):
        shown = client.post("/map", {**question, "hit": hits[path]})
        assert words in shown["note"] and "map" not in shown
        status, _, body = client.ask("GET", f"/picture/{hits[path]}")
        assert status == 400 and words in json.loads(body)["error"]
    write_images(folder, 3, seed=1)
    gallery.index(folder)
    gallery.compact()
    found = client.search(question)
    paths = {hit["path"] for hit in found["hits"]}
    assert found["searched"] == 31 and "1/1_0001.png" in paths and "1/0_0001.png" not in paths
    gallery.remove(["2"])
    assert client.search(question)["searched"] < 31
    gone = client.post("/map", {**question, "hit": hits["2/0_0002.png"]}, 410)
    assert "not among the hits any more" in gone["error"]
    shutil.rmtree(gallery.path)
    assert "no gallery" in client.search(question, 400)["error"]
    Gallery(gallery.path, color_network(pooling="max")).index(folder)
    assert "pooling average instead of max" in client.search(question, 400)["error"] or True
    shutil.rmtree(gallery.path)
    gallery.index(folder)
    assert client.search(question)["hits"]


def test_eight_pages_ask_at_once_and_none_is_lost_or_mixed_up(service, gallery, folder):
    rng = random.Random(0)
    paths = sorted(folder.rglob("*.png"))
    images = {path: file_of(np.asarray(Image.open(path))[:, :, :3]) for path in paths[:8]}
    asked = [
        (path, tuple(sorted(rng.sample(range(30), 2)) + sorted(rng.sample(range(30, 45), 2))))
        for path in images
        for _ in range(25)
    ]
    asked = [(path, (x0, y0 - 30, x1 + 20, y1)) for path, (x0, x1, y0, y1) in asked]
    wanted = [gallery.find(path, box, top=5) for path, box in asked]

    def run(number, again):
        client, found = Client(service, f"page {number}, {again}"), []
        for path, box in asked[number * 25 : (number + 1) * 25]:
            photo = client.send(images[path])["photo"]
            question = {"photo": photo, "boxes": [box], "top": 5}
            found.append(client.search(question))
            client.post("/map", {**question, "hit": found[-1]["hits"][0]["row"]})
        return found

    with ThreadPoolExecutor(8) as pool:
        for again in range(3):
            answers = sum(pool.map(run, range(8), [again] * 8), [])
            for found, each in zip(answers, wanted, strict=True):
                assert_found(found, each)
            if not again:
                before = psutil.Process().memory_info().rss
        assert psutil.Process().memory_info().rss - before < 60e6
    assert not service.network._jobs and not service.uploads


def test_what_is_too_much_is_told_so(gallery):
    let_go, begun = threading.Event(), threading.Event()
    network = color_network()

    def activations(batch):
        if slow:
            begun.set()
            assert let_go.wait(60)
        return network.activations(batch)

    slow = False
    slowly = Gallery(gallery.path, color_network(activations=activations))
    with served(slowly) as service, ThreadPoolExecutor(40) as pool:
        client = Client(service)
        rows, slow = [*client.rows().values()], True
        first = pool.submit(Client(service, "first").search, {"row": rows[0]})
        assert begun.wait(60)
        others = [
            pool.submit(Client(service, f"{number}").post, "/search", {"row": rows[1]})
            for number in range(32)
        ]
        while len(service.network._jobs) < 33:
            assert not any(other.done() for other in others)
        assert "the network is busy" in client.search({"row": rows[2]}, 503)["error"]
        assert client.get("/pictures")["total"] == 30  # which does not wait for it
        let_go.set()
        assert first.result()["hits"] and all(other.result()["hits"] for other in others)
        assert client.search({"row": rows[2]})["hits"]


@pytest.mark.slow
def test_a_flood_does_no_harm(untouched):
    rows = Client(untouched).rows()

    def ask(number):
        client = Client(untouched, f"page {number % 40}")
        if number % 4 == 0:
            return client.ask("GET", f"/picture/{number % 30}")[0]
        if number % 4 == 1:
            return client.ask("GET", "/", cookie=None)[0]
        body = {"row": number % 30, "client": client.name, "turn": number}
        return client.ask("POST", "/search", json.dumps(body).encode())[0]

    before = psutil.Process().memory_info().rss
    with ThreadPoolExecutor(100) as pool:
        statuses = set(pool.map(ask, range(2000)))
    assert statuses <= {200, 403, 409, 503}
    assert psutil.Process().memory_info().rss - before < 100e6
    assert Client(untouched).search({"row": rows["0/0_0000.png"]})["hits"]


# --- at the shell ---------------------------------------------------------------------------------


def start(gallery, *options):
    command = [sys.executable, ROOT / "search_gallery.py", "serve", "--gallery", gallery]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "--port", "0", "--no-browser", *options], **pipes)


@pytest.fixture
def rooms(folder, tmp_path):
    gallery = tmp_path / "rooms"
    Gallery(gallery, "rooms", input_size=(64, 64)).index(folder)
    return gallery


@pytest.mark.parametrize(
    "number, status, words",
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_it_says_when_it_is_ready_and_ends_when_it_is_told(rooms, number, status, words):
    with start(rooms) as process:
        try:
            line = process.stdout.readline()  # of a pipe, while it goes on
            word, address = line.split()
            assert word == "serving" and line.startswith("serving     http://127.0.0.1:")
            port, _, token = address.removeprefix("http://127.0.0.1:").partition("/?token=")
            assert len(token) >= 32
            waits = socket.create_connection(("127.0.0.1", int(port)))
            waits.sendall(b"GET / HT")  # and says no more
            process.send_signal(number)
            out, error = process.communicate(timeout=60)
            assert (process.returncode, out) == (status, "")
            assert error == f"search_gallery.py: {words}\n"
        finally:
            process.kill()


def test_what_the_shell_gets_wrong_is_one_line(rooms, capsys, monkeypatch):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    serve = ["serve", "--gallery", str(rooms), "--no-browser"]
    for arguments, words in (
        ([*serve, "--port", str(port)], "Address already in use, --port 0 takes a free one"),
        ([*serve, "--port", "70000"], "--port: expected 0 to 65535"),
        ([*serve, "--host", "no.such.name.invalid", "--port", "0"], "--host: no.such.name.invalid"),
        ([*serve, "--host", "192.0.2.1", "--port", "0"], "--port: 192.0.2.1:0: "),
        ([*serve, "--gallery", "nowhere"], "nowhere: no gallery"),
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert words in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "simvis.serving.server")
    assert main(serve) == 2
    assert 'pip install "similarity-visualization[gallery]"' in capsys.readouterr().err


def test_another_host_is_warned_of_and_needs_the_token(gallery):
    with served(gallery, host="0.0.0.0") as service:
        assert service.address.startswith(f"http://{socket.gethostname()}:{service.port}/?token=")
        client = Client(service)
        for host, status in (
            ("10.1.2.3:80", 200),
            (socket.gethostname(), 200),
            ("evil.example", 421),
            ("localhost", 200),
        ):
            assert client.ask("GET", "/", host=host)[0] == status
        assert client.ask("GET", "/", cookie=None)[0] == 403


@pytest.mark.slow
def test_a_killed_server_does_no_harm_to_indexing_beside_it(rooms, folder, tmp_path):
    write_images(folder, 300, seed=1)
    with start(rooms) as process:
        process.stdout.readline()
        index = [sys.executable, ROOT / "search_gallery.py", "index", folder, "--gallery", rooms]
        with subprocess.Popen([*map(str, index)], stdout=subprocess.PIPE, text=True) as indexing:
            os.kill(process.pid, signal.SIGKILL)
            assert "330, 300 new" in indexing.communicate()[0]
    gallery = Gallery(rooms)
    assert gallery.info()["images"] == 330 and gallery.find(folder / "0" / "0_0000.png").hits
