"""Downloads against a real server on the loopback address, and archives made to do harm."""

import gzip
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models import downloads
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
FETCHED = ["hotels.data-00000-of-00001", "hotels.index", *sorted(SMALL)]
ARCHIVE = "/archives/hotels.tar.gz"


def make_archive(members):
    """A .tar.gz of (TarInfo or name, content) pairs."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            if info.isfile():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Handler(BaseHTTPRequestHandler):
    """Answers with server.answers[path]: bytes, or a function of the handler; else with 404."""

    def do_GET(self):
        self.server.paths.append(self.path)
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.send_error(404)
        elif callable(answer):
            answer(self)
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
        server.answers[ARCHIVE] = make_archive(CHECKPOINT.items())
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(downloads, "ARCHIVES", f"{server.url}/archives/")
        monkeypatch.setattr(downloads, "REPOSITORY", f"{server.url}/raw/")
        for name, content in SMALL.items():
            monkeypatch.setitem(downloads.SHA256, name, hashlib.sha256(content).hexdigest())
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models" / "hotels"


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def fails(kind, folder, *words):
    """fetch_authors_files fails with one line that holds the words and both ways out."""
    with pytest.raises(kind) as caught:
        fetch_authors_files("hotels", folder)
    message = str(caught.value)
    assert type(caught.value) is kind
    for word in *words, "--checkpoint PREFIX --mean-image FILE.npy", "under " + str(folder) + "/":
        assert word in message
    assert "\n" not in message
    assert not [name for name in names(folder) if name not in SMALL]  # nothing to mistake
    return message


def place(folder, *files):
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).write_bytes(b"by hand")


def test_everything_is_fetched_once(server, folder, capsys):
    prefix, mean_image = fetch_authors_files("hotels", folder)
    assert (prefix, mean_image) == (folder / "hotels", folder / "hotels_meanIm.npy")
    assert names(folder) == FETCHED
    assert Path(f"{prefix}.index").read_bytes() == b"the index"
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == DATA
    assert mean_image.read_bytes() == b"mean"
    assert [path.read_bytes() for path in example_pair("hotels", folder)] == [b"first", b"second"]
    assert sorted(server.paths) == sorted(server.answers)
    output = capsys.readouterr()
    digest = hashlib.sha256(server.answers[ARCHIVE]).hexdigest()
    assert output.out == ""
    assert output.err == f"{server.url}{ARCHIVE}: SHA-256 {digest}\n"  # and no progress bar

    server.paths.clear()
    assert fetch_authors_files("hotels", folder) == (prefix, mean_image)
    example_pair("hotels", folder)
    assert server.paths == []
    assert capsys.readouterr().err == ""


def test_the_progress_bar_is_on_a_terminals_stderr(server, folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch_authors_files("hotels", folder)
    output = capsys.readouterr()
    assert output.out == ""
    assert "hotels.tar.gz" in output.err
    assert "100%" in output.err


def test_two_at_once_do_not_disturb_each_other(server, folder):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch_authors_files("hotels", folder), range(4)))
    assert set(found) == {(folder / "hotels", folder / "hotels_meanIm.npy")}
    assert names(folder) == FETCHED
    assert (folder / "hotels.data-00000-of-00001").read_bytes() == DATA


def test_another_name_is_refused(folder):
    with pytest.raises(ValueError, match="hotels, faces, got 'cars'"):
        fetch_authors_files("cars", folder)


def test_the_default_folder_lies_beside_the_module():
    assert downloads._folder("faces", None) == Path(downloads.__file__).parent / "faces"


def cut(answer, times, announced=True):
    """Serve half of the answer and close the connection, the given number of times."""
    left = [times]

    def serve(handler):
        left[0] -= 1
        handler.start(len(answer) if announced else None)
        handler.wfile.write(answer if left[0] < 0 else answer[: len(answer) // 2])

    return serve


def test_a_cut_connection_is_started_again(server, folder):
    server.answers[ARCHIVE] = cut(server.answers[ARCHIVE], 2)
    prefix, _ = fetch_authors_files("hotels", folder)
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == DATA
    assert server.paths.count(ARCHIVE) == 3
    assert names(folder) == FETCHED


def test_a_connection_cut_every_time_leaves_nothing_and_the_next_call_works(server, folder):
    whole = server.answers[ARCHIVE]
    server.answers[ARCHIVE] = cut(whole, 99)
    fails(ConnectionError, folder, server.url + ARCHIVE, "cut off after")
    assert server.paths.count(ARCHIVE) == downloads.ATTEMPTS
    server.answers[ARCHIVE] = whole
    fetch_authors_files("hotels", folder)
    assert names(folder) == FETCHED
    assert server.paths.count("/raw/hotels1.jpg") == 1


def test_a_cut_that_the_server_did_not_let_see_is_seen_at_unpacking(server, folder):
    server.answers[ARCHIVE] = cut(server.answers[ARCHIVE], 99, announced=False)
    fails(ValueError, folder, server.url + ARCHIVE, "not a good .tar or .tar.gz archive")


def test_a_server_that_falls_silent_is_a_cut(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", (0.2, 0.2))
    done = threading.Event()

    def stall(handler):
        handler.start(1000)
        handler.wfile.write(b"some")
        done.wait(5)

    server.answers[ARCHIVE] = stall
    fails(ConnectionError, folder, "timed out")
    done.set()


def test_404(server, folder):
    del server.answers[ARCHIVE]
    fails(OSError, folder, server.url + ARCHIVE, "HTTP 404")
    assert server.paths.count(ARCHIVE) == 1


def test_no_server(server, folder, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, but nobody listens
        monkeypatch.setattr(downloads, "ARCHIVES", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        fails(ConnectionError, folder, "/hotels.tar.gz", "refused")


def test_no_such_host(folder, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    fails(ConnectionError, folder, downloads.REPOSITORY + "hotels_meanIm.npy", "not known")


def test_no_place_to_write(server, tmp_path):
    (tmp_path / "models").write_text("a file")
    fails(OSError, tmp_path / "models" / "hotels", "Not a directory")


@pytest.mark.parametrize("file", sorted(SMALL))
def test_a_wrong_hash(server, folder, file):
    server.answers[f"/raw/{file}"] = b"<html>Please log in</html>"
    fails(ValueError, folder, file, "SHA-256", downloads.SHA256[file])
    assert file not in names(folder)


def test_a_server_that_drips_is_not_waited_for(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", 0.3)
    server.handle_error = lambda *_: None

    def drip(handler):
        handler.start(10**6)
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    server.answers[ARCHIVE] = drip
    fails(ConnectionError, folder, "bytes in 0 seconds, too slow to wait for")
    assert server.paths.count(ARCHIVE) == 1  # nor is it tried again

    def drip_headers(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100):
            handler.wfile.write(b"A%d: x\r\n" % number)
            time.sleep(0.05)

    server.answers[ARCHIVE] = drip_headers
    fails(ConnectionError, folder, "no answer in 0.3 seconds")


def test_a_slow_but_honest_line_is_waited_for(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", 0.3)
    whole = server.answers[ARCHIVE]

    def slow(handler):
        handler.start(len(whole))
        for i in range(10):
            handler.wfile.write(whole[i * len(whole) // 10 : (i + 1) * len(whole) // 10])
            time.sleep(0.1)

    server.answers[ARCHIVE] = slow
    assert fetch_authors_files("hotels", folder)[0] == folder / "hotels"


def test_a_small_file_without_end_is_cut_off(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_KNOWN", 2**18)
    server.handle_error = lambda *_: None

    def endless(handler):
        handler.start()
        while True:
            handler.wfile.write(bytes(2**16))

    server.answers["/raw/hotels_meanIm.npy"] = endless
    fails(ValueError, folder, f"hotels_meanIm.npy: over {2**18} bytes")


def test_an_endless_stream_is_cut_off(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_DOWNLOAD", 2**20)
    sent = []

    def endless(handler):
        handler.start()
        while True:  # until the other side closes
            handler.wfile.write(bytes(2**16))
            sent.append(2**16)

    server.handle_error = lambda *_: None
    server.answers[ARCHIVE] = endless
    fails(ValueError, folder, f"over {2**20} bytes")
    assert sum(sent) < 2**25
    assert server.paths.count(ARCHIVE) == 1


def test_a_length_beyond_the_bound_is_refused_before_it_comes(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_DOWNLOAD", 2**20)
    server.answers[ARCHIVE] = lambda handler: (handler.start(2**40), handler.wfile.write(b"x"))
    fails(ValueError, folder, f"over {2**20} bytes")


FETCH = """
import signal, sys
from models import downloads
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
downloads.ARCHIVES, downloads.REPOSITORY = sys.argv[1] + "/archives/", sys.argv[1] + "/raw/"
downloads.SHA256 = dict(pair.split("=") for pair in sys.argv[3:])
downloads.fetch_authors_files("hotels", sys.argv[2])
"""


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_download_is_not_taken_for_whole(server, folder, kill):
    whole, half_sent, killed = server.answers[ARCHIVE], threading.Event(), threading.Event()

    def stall(handler):
        handler.start(len(whole))
        handler.wfile.write(whole[: len(whole) // 2])
        half_sent.set()
        killed.wait(10)

    server.answers[ARCHIVE] = stall
    hashes = [f"{file}={downloads.SHA256[file]}" for file in SMALL]
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, server.url, str(folder), *hashes],
        cwd=Path(downloads.__file__).parents[1],
        stderr=subprocess.DEVNULL,
    )
    assert half_sent.wait(10)
    process.send_signal(kill)
    assert process.wait(10) != 0
    killed.set()
    if kill == signal.SIGINT:
        assert names(folder) == sorted(SMALL)
    server.answers[ARCHIVE] = whole
    prefix, _ = fetch_authors_files("hotels", folder)
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == DATA
    assert names(folder) == FETCHED  # and what the killed one left is gone


def test_data_without_index_is_fetched_again(server, folder):
    place(folder, "hotels.data-00000-of-00001")  # killed between the two moves
    prefix, _ = fetch_authors_files("hotels", folder)
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == DATA


def test_files_placed_by_hand_need_no_request(server, folder):
    place(folder, "hotels.index", "hotels.data-00000-of-00001", "hotels_meanIm.npy")
    assert fetch_authors_files("hotels", folder)[0] == folder / "hotels"
    assert fetch_mean_image("hotels", folder) == folder / "hotels_meanIm.npy"
    assert server.paths == []


def test_another_checkpoint_placed_by_hand_is_found(server, folder):
    place(folder, "hotels_meanIm.npy")
    place(folder / "mine", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001")
    assert fetch_authors_files("hotels", folder)[0] == folder / "mine" / "model.ckpt-7"
    assert server.paths == []


def test_an_archive_placed_by_hand_is_unpacked(server, folder):
    place(folder, *SMALL)
    (folder / "hotels.tar.gz").write_bytes(server.answers[ARCHIVE])
    assert fetch_authors_files("hotels", folder)[0] == folder / "hotels"
    assert (folder / "hotels.index").read_bytes() == b"the index"
    assert server.paths == []


def test_what_is_missing_beside_files_placed_by_hand_is_fetched(server, folder):
    place(folder, "hotels.index", "hotels.data-00000-of-00001", "hotels1.jpg")
    fetch_authors_files("hotels", folder)
    assert names(folder) == FETCHED
    assert (folder / "hotels.index").read_bytes() == b"by hand"
    assert server.paths == ["/raw/hotels_meanIm.npy", "/raw/hotels2.jpg"]


def test_an_index_placed_by_hand_without_its_data(server, folder):
    place(folder, "hotels.index")
    with pytest.raises(FileNotFoundError, match=r"without hotels\.data-00000-of-00001; instead,"):
        fetch_authors_files("hotels", folder)
    assert server.paths == []


def test_example_pair_and_mean_image_name_their_own_ways_out(folder, server):
    server.answers.clear()
    with pytest.raises(OSError, match="404; instead, give two images, or place hotels1.jpg and"):
        example_pair("hotels", folder)
    with pytest.raises(OSError, match="404; instead, give --mean-image FILE.npy, or place"):
        fetch_mean_image("hotels", folder)


def sparse(name):
    info = special(name, tarfile.REGTYPE)
    info.pax_headers = {"GNU.sparse.size": "9", "GNU.sparse.offset": "0"}
    return info


HARMFUL = {
    "parent": [("../evil", b"x")],
    "parent inside": [("hotels/../../evil", b"x")],
    "parent of Windows": [("hotels\\..\\..\\evil", b"x")],
    "absolute": [("/tmp/evil-of-the-download-tests", b"x")],
    "absolute of Windows": [("C:\\evil", b"x")],
    "symbolic link": [(special("hotels/evil", tarfile.SYMTYPE, "hotels.index"), b"")],
    "symbolic link out": [
        (special("evil", tarfile.SYMTYPE, "/tmp"), b""),
        ("evil/evil-of-the-download-tests", b"x"),
    ],
    "hard link": [(special("hotels/evil", tarfile.LNKTYPE, "hotels/hotels.index"), b"")],
    "character device": [(special("evil", tarfile.CHRTYPE), b"")],
    "block device": [(special("evil", tarfile.BLKTYPE), b"")],
    "FIFO": [(special("evil", tarfile.FIFOTYPE), b"")],
    "sparse": [(sparse("evil"), b"x")],
}


@pytest.mark.parametrize("what", HARMFUL)
def test_a_harmful_archive_is_refused_as_a_whole(server, folder, what, monkeypatch):
    def never(*_, **__):
        raise AssertionError("something was unpacked")

    monkeypatch.setattr(tarfile.TarFile, "extractall", never)
    server.answers[ARCHIVE] = make_archive([*CHECKPOINT.items(), *HARMFUL[what]])
    fails(ValueError, folder, "not a good .tar or .tar.gz archive: its member '")


def test_the_unpacking_keeps_inside_its_folder_without_the_look_through(
    server, folder, tmp_path, monkeypatch
):
    if not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no tarfile filters")
    monkeypatch.setattr(downloads, "_safe_members", lambda tar: list(tar))
    server.answers[ARCHIVE] = make_archive([*CHECKPOINT.items(), ("../../../evil", b"x")])
    fails(ValueError, folder, "outside the destination")
    assert not list(tmp_path.rglob("evil"))


def header(kind, size):
    info = special("evil", kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def test_a_bomb_is_refused_before_it_is_unpacked(server, folder, monkeypatch):
    bomb = header(tarfile.REGTYPE, 2**40)  # a terabyte, and an archive that ends early
    server.answers[ARCHIVE] = gzip.compress(bomb + bytes(2**20))
    fails(ValueError, folder, f"over {2**31} bytes unpacked")

    monkeypatch.setattr(downloads, "MAX_UNPACKED", 2**22)
    for members in [("evil", bytes(2**23))], [(f"evil{i}", bytes(2**20)) for i in range(5)]:
        server.answers[ARCHIVE] = make_archive([*CHECKPOINT.items(), *members])
        assert len(server.answers[ARCHIVE]) < 2**20
        fails(ValueError, folder, f"over {2**22} bytes unpacked")


def test_a_bomb_behind_the_end_of_the_archive(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_UNPACKED", 2**22)
    server.answers[ARCHIVE] += gzip.compress(bytes(2**23))
    fails(ValueError, folder, f"over {2**22} bytes unpacked")


@pytest.mark.parametrize("size", [2**30, -1024])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_would_fill_the_memory(server, folder, kind, size):
    server.answers[ARCHIVE] = gzip.compress(header(kind, size) + bytes(2**20))
    fails(ValueError, folder, "it has a header of")


def test_too_many_members(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_MEMBERS", len(CHECKPOINT))
    fetch_authors_files("hotels", folder)
    monkeypatch.setattr(downloads, "MAX_MEMBERS", len(CHECKPOINT) - 1)
    (folder / "hotels.index").unlink()
    (folder / "hotels.data-00000-of-00001").unlink()
    fails(ValueError, folder, "members")


def test_a_member_of_negative_size(server, folder):
    archive = header(tarfile.REGTYPE, -512) + bytes(2**20)
    server.answers[ARCHIVE] = gzip.compress(archive)
    fails(ValueError, folder, "'evil' is no plain file")


def test_headers_nested_without_end(server, folder):
    server.answers[ARCHIVE] = gzip.compress(header(tarfile.GNUTYPE_LONGNAME, 0) * 5000)
    fails(ValueError, folder, "recursion")


def damaged():
    whole = make_archive(CHECKPOINT.items())
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # in gzip's checksum
    short = gzip.compress(gzip.decompress(whole)[:200_000])
    return [b"", b"<html>Moved</html>", b"\x1f\x8b", whole[:-1000], bytes(flipped), short]


@pytest.mark.parametrize("archive", damaged(), ids=range(6))
def test_a_damaged_archive_leaves_nothing(server, folder, archive):
    server.answers[ARCHIVE] = archive
    fails(ValueError, folder, server.url + ARCHIVE, "not a good .tar or .tar.gz archive")


@pytest.mark.parametrize("missing", ["index", "data-00000-of-00001"])
def test_an_archive_with_half_a_checkpoint(server, folder, missing):
    members = {name: content for name, content in CHECKPOINT.items() if missing not in name}
    server.answers[ARCHIVE] = make_archive(members.items())
    fails(FileNotFoundError, folder, "half a checkpoint, without hotels." + missing)


def test_an_archive_without_a_checkpoint(server, folder):
    server.answers[ARCHIVE] = make_archive([("readme", b"moved")])
    fails(FileNotFoundError, folder, server.url + ARCHIVE, "no checkpoint")


def test_find_checkpoint_by_prefix_and_by_its_files(tmp_path):
    parts = [f"m.data-0000{i}-of-00003" for i in range(3)]
    place(tmp_path, "m.index", *parts, "m.meta", "other.index")
    prefix = tmp_path / "m"
    for path in prefix, str(prefix), f"{prefix}.index", f"{prefix}.data-00001-of-00003":
        assert find_checkpoint(path) == prefix


def test_find_checkpoint_in_a_folder(tmp_path):
    place(tmp_path / "hotels", "we[i]rd.index", "we[i]rd.data-00000-of-00001", "._weird.index")
    place(tmp_path / ".fetch-1", "stale.index", "stale.data-00000-of-00001")
    place(tmp_path / "a" / "b", "deep.index", "deep.data-00000-of-00001")
    assert find_checkpoint(tmp_path) == tmp_path / "hotels" / "we[i]rd"
    assert find_checkpoint(tmp_path / "hotels") == tmp_path / "hotels" / "we[i]rd"


def test_a_prefix_wins_over_a_folder_of_the_same_name(tmp_path):
    place(tmp_path, "m.index", "m.data-00000-of-00001")
    place(tmp_path / "m", "other.index", "other.data-00000-of-00001")
    assert find_checkpoint(tmp_path / "m") == tmp_path / "m"


@pytest.mark.parametrize("name", ["hotels.tar.gz", "hotels.tgz", "hotels.tar"])
def test_find_checkpoint_in_an_archive(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    archive = make_archive(CHECKPOINT.items())
    (tmp_path / name).write_bytes(gzip.decompress(archive) if name.endswith("tar") else archive)
    prefix = find_checkpoint(tmp_path / name)
    assert prefix.name == "hotels"
    assert prefix.is_relative_to(tmp_path / "temporary")
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == DATA


def test_an_unpacked_archive_is_removed_when_python_ends(tmp_path):
    (tmp_path / "hotels.tgz").write_bytes(make_archive(CHECKPOINT.items()))
    code = "import sys; from models import downloads; print(downloads.find_checkpoint(sys.argv[1]))"
    prefix = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "hotels.tgz")],
        cwd=Path(downloads.__file__).parents[1],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert Path(prefix).is_relative_to(tmp_path)
    assert names(tmp_path) == ["hotels.tgz"]


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
        (["m.npy"], "m.npy", ValueError, "m.npy: not a good .tar or .tar.gz archive"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, there, path, kind, message):
    place(tmp_path, *there)
    with pytest.raises(kind) as caught:
        find_checkpoint(tmp_path / path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
