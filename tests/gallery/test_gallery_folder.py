"""What lies in a folder of images, and that nothing leads out of it."""

import os
import re
from contextlib import nullcontext

import pytest
from galleries import write_images
from pyarrow import fs

from simvis.files import File, left_out_words
from simvis.gallery import folder as image_folder
from simvis.gallery.folder import ImageFolder


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images", 5)


def test_files_are_those_of_images_in_all_folders(folder):
    (folder / "notes.txt").write_text("no image")
    (folder / "UPPER.JPG").write_bytes(b"whatever it holds")
    status = (folder / "0" / "0_0000.png").stat()
    files = ImageFolder(folder).files()
    assert sorted(files) == [
        *("0/0_0000.png", "0/0_0003.png", "1/0_0001.png", "1/0_0004.png", "2/0_0002.png"),
        "UPPER.JPG",
    ]
    changed = f"{status.st_ino} {status.st_ctime_ns}"
    assert files["0/0_0000.png"] == File(status.st_size, status.st_mtime_ns, changed)


def test_hidden_ones_ways_out_and_what_a_search_wrote_are_left_out(folder, tmp_path):
    elsewhere = write_images(tmp_path / "elsewhere", 1)
    before = ImageFolder(folder).files()
    write_images(folder / ".thumbnails", 1)
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "out.png").symlink_to(elsewhere / "0" / "0_0000.png")
    (folder / "out").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (folder / "broken.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "a_found").mkdir()
    for name in ("contact_sheet.jpg", "results.csv", "hit_01.jpg"):
        (folder / "a_found" / name).write_bytes(b"")
    assert ImageFolder(folder).files() == before


def test_a_link_inside_is_an_image(folder):
    (folder / "link.png").symlink_to(folder / "0" / "0_0000.png")
    images = ImageFolder(folder)
    assert "link.png" in images.files()
    assert images.read("link.png") == images.read("0/0_0000.png")


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "0/../../secret.png", "a\0b"])
def test_no_path_and_no_link_leads_out(folder, path):
    (folder.parent / "secret.png").write_bytes(b"secret")
    (folder / "out.png").symlink_to("../secret.png")
    for each in (path, "out.png"):
        with pytest.raises(ValueError, match="leads out of"):
            ImageFolder(folder).read(each)


def test_what_is_no_file_is_not_read(folder):
    os.mkfifo(folder / "pipe.png")
    for path in ("pipe.png", "0", "missing.png"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            ImageFolder(folder).read(path)


def test_a_file_over_the_limit_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(image_folder, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="over the limit"):
        ImageFolder(folder).load("0/0_0000.png")


def test_a_uri_gives_what_the_folder_gives(folder):
    here, there = ImageFolder(folder), ImageFolder(folder.as_uri())
    assert there.files() == here.files()
    for path in here.files():
        assert there.read(path) == here.read(path)
    with pytest.raises(ValueError, match="leads out of"):
        there.read("../secret.png")
    assert there.place == here.place


@pytest.mark.slow
def test_s3_gives_what_the_folder_gives(folder, bucket):
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    given = bucket("summer")
    missing = r"^s3://photos/summer\?endpoint.*: no such folder$"
    with pytest.raises(FileNotFoundError, match=missing):
        ImageFolder(given)
    filesystem, root = fs.FileSystem.from_uri(given)
    fs.copy_files(str(folder), root, destination_filesystem=filesystem)
    here, there = ImageFolder(folder), ImageFolder(given)
    assert {path: file.size for path, file in there.files().items()} == {
        path: file.size for path, file in here.files().items()
    }
    for path in here.files():
        assert there.read(path) == here.read(path)
    for path in ("../winter/a.png", "missing.png"):
        with pytest.raises((ValueError, FileNotFoundError)):
            there.read(path)
    host = re.search("[0-9.]+:[0-9]+", given)[0]
    assert there.place == f"s3://photos/summer?endpoint_override={host}"


@pytest.mark.parametrize(
    "uri", ["s3://key:hush@photos/a b", "s3://key:hu/sh@photos", "s3://key:hush@photos?secret=hush"]
)
def test_no_error_tells_a_password(uri):
    with pytest.raises(ValueError, match="^s3://photos") as caught:
        ImageFolder(uri)
    assert "hush" not in str(caught.value) and "hu/sh" not in str(caught.value)


def test_what_is_left_out_is_counted_by_reason(folder, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(b"")
    for name in ("a.HEIC", "b.heic", "c.mov", "README", ".hidden"):
        (folder / name).write_bytes(b"")
    (folder / "out.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "results").mkdir()
    for name in ("scores.csv", "settings.json", "00001_a_b.jpg"):
        (folder / "results" / name).write_bytes(b"")
    for path in sorted(folder.rglob("*.png"))[:2]:
        path.rename(path.with_suffix(".jfif"))
    files, left_out, unread = ImageFolder(folder).listing()
    assert len(files) == 5 and sum(path.endswith(".jfif") for path in files) == 2
    words = left_out_words(left_out, unread)
    assert words.startswith("4 of kinds that are not read (.heic 2, ")
    for part in (".mov 1", "others 1", ", 1 link out of the folder", ", 1 link to no file"):
        assert part in words
    assert ", 1 folder of results" in words and ", 1 hidden" in words


def test_what_cannot_be_looked_at_ends_nothing(folder, monkeypatch):
    """A folder that may not be read, a link to itself, and a file that vanishes meanwhile."""
    before = ImageFolder(folder).files()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "lost+found").mkdir()
    os.utime(folder / "0" / "0_0000.png", (2**34, 2**34))  # in the year 2514
    real = os.scandir

    class Vanishes(os.PathLike):  # an entry of a folder
        name, path = "upload.png", str(folder / "upload.png")

        def __fspath__(self):
            return self.path

        def is_dir(self, **_):
            return False

        is_symlink = is_dir

        def is_file(self):
            return True

        def stat(self):
            raise FileNotFoundError(self.path)

    def scandir(path):
        if str(path).endswith("lost+found/"):
            raise PermissionError(13, "Permission denied", str(path))
        with real(path) as entries:
            return nullcontext([*entries, Vanishes()])

    monkeypatch.setattr(os, "scandir", scandir)
    files, left_out, unread = ImageFolder(folder).listing()
    assert files.keys() == before.keys()
    assert files["0/0_0000.png"].modified == 2**63 - 1
    assert unread.keys() == {"lost+found/", "loop.png"}
    words = left_out_words(left_out, unread)
    assert "2 that cannot be read (" in words
