"""Downloads from a real server on the loopback address, and archives made to do harm."""

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROOT

from simvis.models import downloads
from simvis.models.downloads import (
    example_pair,
    fetch_authors_files,
    fetch_mean_image,
    find_checkpoint,
)

DATA = os.urandom(300_000)  # does not compress, so that a cut falls into it
CHECKPOINT = {
    "hotels/checkpoint": b"model_checkpoint_path: elsewhere",
    "hotels/hotels.index": b"the index",
    "hotels/hotels.data-00000-of-00001": DATA,
    "hotels/hotels.meta": b"the graph",
}
SMALL = {"hotels_meanIm.npy": b"mean", "hotels1.jpg": b"first", "hotels2.jpg": b"second"}
ARCHIVE, MEAN = "/archives/hotels.tar.gz", "/raw/hotels_meanIm.npy"


def archive_of(*members):
    """Return a .tar.gz of (TarInfo or name, content) pairs."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers with server.answers[path]: bytes, or a function of the handler; else with 404."""

    def do_GET(self):
        self.server.paths.append(self.path)
        answer = self.server.answers.get(self.path)
        if callable(answer):
            answer(self)
        elif answer is None:
            self.send_error(404)
        else:
            self.start(len(answer))
            self.wfile.write(answer)

    def start(self, length=None):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths, server.url = [], f"http://127.0.0.1:{server.server_port}"
        server.answers = {f"/raw/{name}": content for name, content in SMALL.items()}
        server.answers[ARCHIVE] = archive_of(*CHECKPOINT.items())
        server.handle_error = lambda *_: None  # of clients that hang up
        server.done = threading.Event()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(downloads, "ARCHIVES", f"{server.url}/archives/")
        monkeypatch.setattr(downloads, "REPOSITORY", f"{server.url}/raw/")
        for name, content in SMALL.items():
            monkeypatch.setitem(downloads.SHA256, name, hashlib.sha256(content).hexdigest())
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models" / "hotels"


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def place(folder, *files):
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).write_bytes(b"by hand")


def fails(kind, folder, *words):
    """Fetching fails with one line that holds the words and both ways out, and leaves nothing."""
    with pytest.raises(kind) as caught:
        fetch_authors_files("hotels", folder)
    message = str(caught.value)
    for word in *words, "--checkpoint PREFIX --mean-image FILE.npy", f"under {folder}/":
        assert word in message
    assert "\n" not in message
    assert not [name for name in names(folder) if name not in SMALL]  # nothing to mistake


# --- what is fetched, and what is there already --------------------------------------------------


def test_everything_is_fetched_once(server, folder, capsys):
    prefix, mean_image = fetch_authors_files("hotels", folder)
    assert (prefix, mean_image) == (folder / "unpacked" / "hotels", folder / "hotels_meanIm.npy")
    assert Path(f"{prefix}.index").read_bytes() == b"the index"
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == DATA
    assert mean_image.read_bytes() == b"mean"
    assert [path.read_bytes() for path in example_pair("hotels", folder)] == [b"first", b"second"]
    assert sorted(server.paths) == sorted(server.answers)
    assert names(folder) == [*sorted(SMALL), "unpacked"]
    output = capsys.readouterr()
    digest = hashlib.sha256(server.answers[ARCHIVE]).hexdigest()
    assert output.out == ""
    assert output.err == f"{server.url}{ARCHIVE}: SHA-256 {digest}\n"  # and no progress bar

    server.paths.clear()
    assert fetch_authors_files("hotels", folder) == (prefix, mean_image)
    assert fetch_mean_image("hotels", folder) == mean_image
    example_pair("hotels", folder)
    assert server.paths == [] and capsys.readouterr().err == ""


def test_the_progress_bar_is_on_a_terminals_stderr(server, folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch_authors_files("hotels", folder)
    output = capsys.readouterr()
    assert output.out == "" and "100%" in output.err


def test_files_beside_the_code_are_found_and_others_go_to_the_users_cache(
    server, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "__file__", str(tmp_path / "models" / "downloads.py"))
    place(tmp_path / "models" / "hotels", "hotels_meanIm.npy")
    checkpoint, mean_image = fetch_authors_files("hotels")
    assert mean_image.read_bytes() == b"by hand" and server.paths == [ARCHIVE]
    cache = tmp_path / "cache" / "similarity-visualization" / "hotels"
    assert checkpoint == cache / "unpacked" / "hotels"
    assert names(tmp_path / "models" / "hotels") == ["hotels_meanIm.npy"]
    place(tmp_path / "models" / "hotels", "hotels.index", "hotels.data-00000-of-00001")
    assert fetch_authors_files("hotels")[0] == tmp_path / "models" / "hotels" / "hotels"


def test_several_at_once_do_not_disturb_each_other(server, folder):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch_authors_files("hotels", folder), range(4)))
    assert set(found) == {(folder / "unpacked" / "hotels", folder / "hotels_meanIm.npy")}
    assert Path(f"{found[0][0]}.data-00000-of-00001").read_bytes() == DATA
    assert names(folder) == ["hotels_meanIm.npy", "unpacked"]


def test_files_placed_by_hand_need_no_request(server, folder):
    place(folder, *SMALL)
    (folder / "hotels.tar.gz").write_bytes(server.answers[ARCHIVE])
    assert fetch_authors_files("hotels", folder)[0] == folder / "unpacked" / "hotels"
    place(folder / "unpacked", "other.index", "other.data-00000-of-00001")
    with pytest.raises(ValueError, match="2 checkpoints .*; instead, give"):
        fetch_authors_files("hotels", folder)
    place(folder, "hotels.index")  # which comes before what lies one level below
    with pytest.raises(OSError, match=r"without hotels\.data-00000-of-00001; instead, give"):
        fetch_authors_files("hotels", folder)
    place(folder, "hotels.data-00000-of-00001")
    assert fetch_authors_files("hotels", folder)[0] == folder / "hotels"
    assert server.paths == []


# --- servers that fail ---------------------------------------------------------------------------


def test_errors_name_what_can_be_done_instead(server, folder):
    server.answers.clear()
    fails(OSError, folder, server.url + MEAN, "404 Client Error: Not Found;")
    with pytest.raises(OSError, match="404.*; instead, give two images, or place hotels1.jpg and"):
        example_pair("hotels", folder)
    with pytest.raises(OSError, match="404.*; instead, give --mean-image FILE.npy, or place"):
        fetch_mean_image("hotels", folder)
    with pytest.raises(ValueError, match="expected hotels or faces, got 'cars'"):
        fetch_authors_files("cars", folder)


@pytest.mark.parametrize(
    "address, reason", [("http://127.0.0.1:9", "refused"), ("http://name.invalid", "resolve")]
)
def test_no_server(server, folder, monkeypatch, address, reason):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(downloads, "ARCHIVES", f"{address}/")
    fails(OSError, folder, f"{address}/hotels.tar.gz: ", reason)


def test_no_place_to_write(server, tmp_path):
    (tmp_path / "models").write_text("a file")
    fails(OSError, tmp_path / "models" / "hotels", "models")


def test_a_wrong_hash(server, folder):
    server.answers[MEAN] = b"<html>Please log in</html>"
    fails(ValueError, folder, MEAN, "SHA256", downloads.SHA256["hotels_meanIm.npy"])
    assert names(folder) == []


def cut(handler):
    handler.start(len(DATA))
    handler.wfile.write(DATA[:1000])


def silent(handler):
    cut(handler)
    handler.server.done.wait(20)


def drip(handler):
    handler.start(10**6)
    while not handler.server.done.wait(0.02):
        handler.wfile.write(b"x")


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.done.wait(0.02):
        handler.wfile.write(b"A: x\r\n")


def endless(handler):
    handler.start()
    while not handler.server.done.is_set():
        handler.wfile.write(bytes(2**16))


@pytest.mark.parametrize(
    "path, answer, name, limit, message",
    [
        (ARCHIVE, cut, "PATIENCE", 60, "Connection broken"),
        (ARCHIVE, silent, "TIMEOUT", (0.2, 0.2), "timed out"),
        (ARCHIVE, drip, "PATIENCE", 0.3, "bytes so far, too slow to wait for"),
        (ARCHIVE, drip_headers, "PATIENCE", 0.3, "0 bytes so far, too slow to wait for"),
        (ARCHIVE, endless, "MAX_DOWNLOAD", 2**20, f"over {2**20} bytes, too large to be right"),
        (MEAN, endless, "MAX_KNOWN", 2**18, f"over {2**18} bytes, too large to be right"),
    ],
)
def test_bad_servers_are_not_waited_for(
    server, folder, monkeypatch, path, answer, name, limit, message
):
    server.answers[path] = answer
    monkeypatch.setattr(downloads, name, limit)
    fails((OSError, ValueError), folder, server.url + path, message)


FETCH = """
import signal, sys
from simvis.models import downloads
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
downloads.ARCHIVES = sys.argv[1] + "/archives/"
downloads.fetch_authors_files("hotels", sys.argv[2])
"""


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_download_is_not_taken_for_whole(server, folder, kill):
    whole, half_sent = server.answers[ARCHIVE], threading.Event()

    def stall(handler):
        handler.start(len(whole))
        handler.wfile.write(whole[: len(whole) // 2])
        half_sent.set()
        handler.server.done.wait(20)

    server.answers[ARCHIVE] = stall
    place(folder, "hotels_meanIm.npy")
    command = [sys.executable, "-c", FETCH, server.url, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    assert half_sent.wait(60)
    process.send_signal(kill)
    assert process.wait(60) != 0
    if kill == signal.SIGINT:
        assert names(folder) == ["hotels_meanIm.npy"]
    server.answers[ARCHIVE] = whole
    prefix, _ = fetch_authors_files("hotels", folder)
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == DATA


# --- archives that do harm -----------------------------------------------------------------------


def special(kind, target="hotels", **fields):
    info = tarfile.TarInfo("evil")
    info.type, info.linkname = kind, target
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def header(kind, size):
    """Return an archive of a header that tells of so many bytes, of which a million are there."""
    return gzip.compress(special(kind, size=size).tobuf(tarfile.GNU_FORMAT) + bytes(2**20))


def with_member(*members):
    return archive_of(*CHECKPOINT.items(), *members)


WHOLE = with_member()
FLIPPED = WHOLE[:-6] + bytes([WHOLE[-6] ^ 1]) + WHOLE[-5:]  # in gzip's checksum
SPARSE = special(tarfile.REGTYPE, pax_headers={"GNU.sparse.size": "9", "GNU.sparse.offset": "0"})
LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
NESTED = special(tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT) * 5000
LARGE = f"over {2**22} bytes unpacked"
OUTSIDE = "evil' leads outside of it"
BAD_ARCHIVES = [
    *((with_member((name, b"x")), OUTSIDE) for name in ("../evil", "hotels/../../evil", "/evil")),
    *((with_member((special(kind), b"")), "'evil' is no plain file") for kind in LINKS),
    (with_member((SPARSE, b"x")), "'evil' is no plain file"),
    (header(tarfile.REGTYPE, -512), "'evil' is no plain file"),
    (header(tarfile.REGTYPE, 2**40), LARGE),
    (with_member(("evil", bytes(2**23))), LARGE),
    (with_member(*((f"evil{i}", bytes(2**20)) for i in range(5))), LARGE),
    (WHOLE + gzip.compress(bytes(2**23)), LARGE),  # behind its end
    (with_member(*((f"evil{i}", b"") for i in range(100))), "over 100 members"),
    (header(tarfile.GNUTYPE_LONGNAME, 2**30), "it has a header of"),
    (header(tarfile.XHDTYPE, 2**30), "it has a header of"),
    (header(tarfile.XHDTYPE, -1024), "it has a header of"),
    (gzip.compress(NESTED), "recursion"),
    *((damaged, "") for damaged in (b"", b"<html>", b"\x1f\x8b", WHOLE[:-1000], FLIPPED)),
    (gzip.compress(gzip.decompress(WHOLE)[:200_000]), "unexpected end of data"),
]


@pytest.mark.parametrize("archive, message", BAD_ARCHIVES, ids=range(len(BAD_ARCHIVES)))
def test_a_bad_archive_leaves_nothing(server, folder, tmp_path, archive, message, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_UNPACKED", 2**22)
    monkeypatch.setattr(downloads, "MAX_MEMBERS", 100)
    if message == OUTSIDE:  # which is seen before anything is unpacked
        monkeypatch.setattr(tarfile.TarFile, "extractall", None)
    server.answers[ARCHIVE] = archive
    expected = f"{server.url}{ARCHIVE}: not unpacked as a .tar or .tar.gz archive: "
    fails(ValueError, folder, expected, message)
    assert not list(tmp_path.rglob("*evil*"))


def test_an_archive_without_a_whole_checkpoint(server, folder):
    server.answers[ARCHIVE] = archive_of(("hotels/hotels.index", b""))
    message = "half a checkpoint, without hotels.data-00000-of-00001"
    fails(OSError, folder, server.url + ARCHIVE, message)


# --- checkpoints wherever they lie ---------------------------------------------------------------


def test_find_checkpoint_by_prefix_and_by_its_files(tmp_path):
    parts = [f"m.data-0000{i}-of-00003" for i in range(3)]
    place(tmp_path, "m.index", *parts, "m.meta", "other.index")
    prefix = tmp_path / "m"
    place(prefix, "other.index", "other.data-00000-of-00001")  # a folder of its name comes last
    for path in prefix, str(prefix), f"{prefix}.index", f"{prefix}.data-00001-of-00003":
        assert find_checkpoint(path) == prefix


def test_find_checkpoint_in_a_folder(tmp_path):
    place(tmp_path / "hotels", "we[i]rd.index", "we[i]rd.data-00000-of-00001", "._weird.index")
    place(tmp_path / ".fetch-1", "stale.index", "stale.data-00000-of-00001")
    place(tmp_path / "a" / "b", "deep.index", "deep.data-00000-of-00001")
    assert find_checkpoint(tmp_path) == tmp_path / "hotels" / "we[i]rd"
    assert find_checkpoint(tmp_path / "hotels") == tmp_path / "hotels" / "we[i]rd"


@pytest.mark.parametrize("name", ["hotels.tgz", "hotels.tar"])
def test_an_archive_is_unpacked_until_python_ends(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.decompress(WHOLE) if name.endswith("tar") else WHOLE)
    code = "import sys; from simvis.models.downloads import find_checkpoint as find; "
    code += "prefix = find(sys.argv[1]); print(prefix, open(f'{prefix}.index').read())"
    command, env = [sys.executable, "-c", code, tmp_path / name], {**os.environ, "TMPDIR": tmp_path}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    prefix, content = run.stdout.split(maxsplit=1)
    assert Path(prefix).is_relative_to(tmp_path) and Path(prefix).name == "hotels", run.stderr
    assert content == "the index\n" and names(tmp_path) == [name]


def test_a_checkpoint_of_the_first_format_is_one_file(tmp_path):
    table = b"entries" + bytes.fromhex("57fb808b247547db")
    (tmp_path / "resnet_v2_50.ckpt").write_bytes(table)
    (tmp_path / "readme").write_bytes(b"short")
    assert find_checkpoint(tmp_path / "resnet_v2_50.ckpt") == tmp_path / "resnet_v2_50.ckpt"
    assert find_checkpoint(tmp_path) == tmp_path / "resnet_v2_50.ckpt"


@pytest.mark.parametrize(
    ("there", "path", "kind", "message"),
    [
        ([], "m", FileNotFoundError, "m: no checkpoint, folder or archive"),
        ([], "", FileNotFoundError, "no checkpoint"),
        (["m.index"], "m", FileNotFoundError, "m: half a checkpoint, without m.data-00000-of"),
        (["m.data-00000-of-00001"], "m", FileNotFoundError, "m: half a checkpoint, without m.i"),
        (["m.data-00000-of-00001"], "", FileNotFoundError, "m: half a checkpoint, without m.i"),
        (["m.index", "m.data-00001-of-00002"], "", FileNotFoundError, "m.data-00000-of-00002"),
        (["m.index", "n.index"], "", ValueError, "2 checkpoints (m, n), expected one"),
        (["m.npy"], "m.npy", ValueError, "m.npy: not unpacked as a .tar"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, there, path, kind, message):
    place(tmp_path, *there)
    with pytest.raises(kind) as caught:
        find_checkpoint(tmp_path / path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
