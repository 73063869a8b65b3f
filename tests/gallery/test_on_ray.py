"""Indexing on Ray: the gallery is that of one process, whoever dies, and nothing stays behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, skip_or_fail
from galleries import color_network, load_colors, write_images
from numpy.testing import assert_allclose
from pyarrow import fs

from simvis.gallery import on_ray
from simvis.gallery.gallery import Gallery
from simvis.gallery.table import ImageTable
from simvis.pair import EXAMPLES

RUN = """
import sys
from functools import partial
from galleries import color_network, load_colors
from simvis.gallery.gallery import Gallery
from simvis.gallery import indexing, on_ray

indexing.SECONDS = 0
gallery = Gallery(sys.argv[2], color_network())
gallery._loader = lambda: partial(load_colors, seconds=0.1)
gallery.index(sys.argv[1], engine="ray", workers=2)
"""


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    """Spare each of Ray's processes two seconds, of which jsonschema makes a grammar of IRIs."""
    if find_spec("ray") is None:
        skip_or_fail("ray is not installed, see requirements-dev.txt")
    folder = tmp_path_factory.mktemp("quick")
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT), str(ROOT / "tests")]))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(quick):
    with on_ray._cluster() as ray:
        yield ray


@pytest.fixture
def folder(tmp_path):
    """A folder of 60 images, of which two are broken."""
    folder = write_images(tmp_path / "images", 60)
    (folder / "1" / "0_0004.png").write_text("no image")
    cut = folder / "2" / "0_0005.png"
    cut.write_bytes(cut.read_bytes()[:90])
    return folder


@pytest.fixture
def local(folder, tmp_path):
    """What one process makes of the folder."""
    Gallery(tmp_path / "local", color_network()).index(folder)
    return rows(tmp_path / "local")


def gallery_on_ray(path, **options):
    gallery = Gallery(path, color_network())
    gallery._loader = lambda: partial(load_colors, **options)
    return gallery


def rows(path):
    """Return the rows of a gallery by their paths, each of which it may hold once."""
    table = ImageTable(path).dataset.to_table().to_pylist()
    found = {row.pop("path"): row for row in table}
    assert len(found) == len(table)
    return found


def check_alike(gallery, local, folder):
    """Index on Ray and in one process; both must do the same, to the bit."""
    indexed = gallery.index(folder, engine="ray", workers=2)
    assert indexed == local.index(folder)
    assert rows(gallery.path) == rows(local.path)
    assert gallery.info()["engines"] == local.info()["engines"] == ["functions"]
    return indexed


@pytest.mark.slow
def test_the_gallery_is_that_of_one_process(cluster, folder, tmp_path):
    galleries = gallery_on_ray(tmp_path / "ray"), Gallery(tmp_path / "local", color_network())
    indexed = check_alike(*galleries, folder)
    assert (indexed.images, indexed.new) == (58, 60)
    assert sorted(indexed.failed) == ["1/0_0004.png", "2/0_0005.png"]
    shutil.copy(folder / "0" / "0_0000.png", folder / "1" / "0_0001.png")  # changed
    shutil.copy(folder / "0" / "0_0000.png", folder / "1" / "0_0004.png")  # mended
    (folder / "0" / "0_0003.png").unlink()
    shutil.copy(folder / "0" / "0_0000.png", folder / "new.png")
    indexed = check_alike(*galleries, folder)
    assert (indexed.new, indexed.changed, indexed.gone) == (1, 2, 1)  # one is as broken as it was
    for gallery in galleries:
        gallery.index(folder, labels_from="folders")
    shutil.copy(folder / "2" / "0_0002.png", folder / "1" / "0_0001.png")
    (folder / "0" / "0_0006.png").rename(folder / "moved.png")
    assert check_alike(*galleries, folder).moved == 1
    labels = ImageTable(galleries[0].path).labels()
    assert labels["1/0_0001.png"] == ("1", None) and labels["moved.png"] == ("0", None)


@pytest.mark.slow
def test_workers_read_from_s3(cluster, folder, bucket, tmp_path):
    uri = bucket("ray")
    filesystem, root = fs.FileSystem.from_uri(uri)
    fs.copy_files(str(folder), root, destination_filesystem=filesystem)
    gallery = gallery_on_ray(tmp_path / "ray")
    check_alike(gallery, Gallery(tmp_path / "local", color_network()), uri)
    for file in (tmp_path / "ray").rglob("*"):
        assert file.is_dir() or b"hush" not in file.read_bytes()
    with pytest.raises(ValueError, match="images: they are at s3://photos/ray.*, name it"):
        gallery.find(folder / "0" / "0_0000.png")
    found = Gallery(gallery.path, color_network(), images=uri).find(folder / "0" / "0_0000.png")
    assert found.hits[0].path == "0/0_0000.png"


@pytest.mark.slow
def test_deaths_cost_their_block_again_and_at_last_name_it(cluster, folder, local, tmp_path):
    (died := tmp_path / "died").mkdir()
    gallery = gallery_on_ray(tmp_path / "ray", deaths=on_ray.DEATHS, folder=died)
    with pytest.raises(ValueError, match=r"died at the images 0/0_0000.png to .*png: "):
        gallery.index(folder, engine="ray", workers=1)
    (again := tmp_path / "again").mkdir()
    gallery = gallery_on_ray(tmp_path / "ray", deaths=1, folder=again)
    gallery.index(folder, engine="ray", workers=2)
    assert [len(list(each.iterdir())) for each in (died, again)] == [on_ray.DEATHS, 1]
    assert rows(tmp_path / "ray") == local


@pytest.mark.slow
def test_what_is_wrong_is_said(cluster, folder, tmp_path):
    other = {"weights": partial(lambda: [np.ones(1)])}
    with pytest.raises(ValueError, match="network: it has other weights on a worker"):
        gallery_on_ray(tmp_path / "ray", **other).index(folder, engine="ray", workers=2)
    with pytest.raises(ValueError, match=r"workers: expected at most \d+, Ray's cores, got 1000"):
        gallery_on_ray(tmp_path / "ray").index(folder, engine="ray", workers=1000)
    assert rows(tmp_path / "ray") == {}


def test_a_network_without_a_name_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="network: Ray's workers load it themselves"):
        Gallery(tmp_path / "ray", color_network()).index(folder, engine="ray")


def test_ray_may_be_missing(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match='pip install "similarity-visualization.ray."'):
        gallery_on_ray(tmp_path / "ray").index(folder, engine="ray")


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense"])
def test_a_cluster_may_be_missing(address):
    command = [sys.executable, "-c", "from simvis.gallery import on_ray\nwith on_ray._cluster(): 0"]
    environment = {**os.environ, "RAY_ADDRESS": address}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert f"ValueError: RAY_ADDRESS: no cluster at {address}: " in run.stderr


# --- what else a run leaves, and does -------------------------------------------------------------


@pytest.fixture
def start(tmp_path):
    """Return a function that starts Python in a home of its own, and what it leaves there."""
    home, started = tmp_path / "home", []
    home.mkdir()

    def start(*command):
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, "HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    # what TensorFlow's Keras and Matplotlib keep there is theirs
    assert {path.name for path in home.iterdir()} <= {".keras", ".cache", ".config"}


def wait_for(condition, seconds=90):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)
    return found


def is_begun(gallery):
    return ImageTable.exists(gallery) and rows(gallery)


def processes_of(run):
    """Return the processes that a run of Ray has started, and the folder that they write to."""
    processes = psutil.Process(run.pid).children(recursive=True)
    words = " ".join(word for process in processes for word in process.cmdline())
    return processes, Path(re.search(r"(/[^\s=]+)/session_", words)[1])


@pytest.mark.slow
def test_a_killed_run_goes_on_and_its_processes_end(start, request, folder, local, tmp_path):
    run = start("-c", RUN, folder, tmp_path / "ray")
    wait_for(lambda: is_begun(tmp_path / "ray"))
    processes, kept = processes_of(run)
    addresses = {
        connection.laddr.ip
        for process in (psutil.Process(run.pid), *processes)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses and addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    run.kill()
    assert not psutil.wait_procs(processes, 120)[1]  # some look for the others for a minute
    shutil.rmtree(kept)
    before = rows(tmp_path / "ray")
    assert 0 < len(before) < 60
    assert all(row == local[path] for path, row in before.items())
    request.getfixturevalue("cluster")
    gallery_on_ray(tmp_path / "ray").index(folder, engine="ray", workers=2)
    assert rows(tmp_path / "ray") == local


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(start, folder, tmp_path, number):
    run = start("-c", RUN, folder, tmp_path / "ray")
    wait_for(lambda: is_begun(tmp_path / "ray"))
    processes, kept = processes_of(run)
    os.kill(run.pid, number) if number == signal.SIGTERM else os.killpg(run.pid, number)
    _, err = run.communicate(timeout=60)
    assert run.returncode != 0
    if number == signal.SIGINT:
        assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert not psutil.wait_procs(processes, 20)[1]
    assert not kept.exists()


@pytest.mark.slow
def test_the_program_and_a_real_network(start, tmp_path):
    options = ("--gallery", tmp_path / "ray", "--engine", "ray", "--workers", 1)
    run = start(ROOT / "search_gallery.py", "index", EXAMPLES, *options)
    assert run.wait(120) == 0
    assert run.stderr.read() == ""
    assert "6, 6 new" in run.stdout.read()
    Gallery(tmp_path / "local").index(EXAMPLES)
    found, expected = rows(tmp_path / "ray"), rows(tmp_path / "local")
    assert found.keys() == expected.keys()
    for path, row in expected.items():
        # the last digit depends on how many threads TensorFlow has
        assert_allclose(found[path].pop("embedding"), row.pop("embedding"), rtol=0, atol=1e-6)
        assert found[path] == row
