"""Many pairs: what they are read from, what is written, and what happens when things go wrong."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.testing import assert_allclose
from PIL import Image

from models import EmbeddingNetwork, load_network
from similarity_ops import compute_spatial_similarity
from simvis import image_ops
from simvis.batch import pairs as image_pairs
from simvis.maps import Method
from visualize_similarity import main, visualize_pair

PROGRAM = [sys.executable, str(ROOT / "visualize_similarity.py")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_images(folder, count, size=(60, 45), seed=0):
    """Write distinct smooth images; return their names."""
    rng = np.random.default_rng(seed)
    names = [f"{i:03d}.{('jpg', 'png')[i % 2]}" for i in range(count)]
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / name)
    return names


def write_pairs(path, pairs):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("image1", "image2"), *pairs])


def read_scores(folder):
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def tiny_network(independent=True):
    """A network without TensorFlow: 2 x 2 means of 4 x 4 pixels, which may depend on the batch."""
    seen = []

    def activations(batch):
        batch = np.asarray(batch)
        seen.append(len(batch))
        shift = 0 if independent else batch.mean(axis=(0, 1, 2)) / 2
        return batch.reshape(-1, 2, 2, 2, 2, 3).mean(axis=(2, 4)) - shift

    def preprocess(images):
        return np.stack([image_ops.resize(image, (4, 4)) for image in images]).astype(np.float32)

    network = EmbeddingNetwork(
        name="tiny",
        input_size=(4, 4),
        pooling="average",
        projection=None,
        preprocess=preprocess,
        activations=activations,
        batch_independent=independent,
    )
    return network, seen


# --- which pairs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.png,b.png\n", [("a.png", "b.png")]),
        ("image1,image2\na.png,b.png\n", [("a.png", "b.png")]),
        ("\ufeffleft,right\r\n\r\n a.png , sub/b.JPG\r\n", [("a.png", "sub/b.JPG")]),
        ('"a,1.png","b ""x"".png"', [("a,1.png", 'b "x".png')]),
        ("missing.png,gone.png\na.png,b.png", [("missing.png", "gone.png"), ("a.png", "b.png")]),
        ("/elsewhere/a.png,b.png", [("/elsewhere/a.png", "b.png")]),
        ("a.png;b.png\nc,1.png;d.png", [("a.png", "b.png"), ("c,1.png", "d.png")]),
        ("a,1.png;b.png;0.5", [("a,1.png", "b.png")]),
        ("image1\timage2\tscore\na.png\tb.png\t0.5", [("a.png", "b.png")]),
        ("left;right\na.png;b.png", [("a.png", "b.png")]),
        ("a.png,b.png,0.5,a;b;c", [("a.png", "b.png")]),
    ],
)
def test_pairs_are_read_relative_to_their_file(folder, text, expected):
    (folder / "lists").mkdir()
    (folder / "lists" / "pairs.csv").write_text(text, encoding="utf-8", newline="")
    found = image_pairs.read_pairs("lists/pairs.csv")
    assert found == [tuple(os.path.join("lists", path) for path in pair) for pair in expected]


def test_paths_are_told_without_detours(folder):
    (folder / "lists").mkdir()
    (folder / "elsewhere" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to("elsewhere/deep")
    (folder / "lists" / "p.csv").write_text("../a.png,../link/../b.png\n")
    # what a link leads to is not where the link is
    real = os.path.realpath(folder / "elsewhere" / "b.png")
    assert image_pairs.read_pairs("lists/p.csv") == [("a.png", real)]


def test_against_a_folder_takes_its_other_images(folder):
    names = write_images(folder, 3)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_text("no image either, but called one")
    expected = [(names[1], other) for other in (names[0], names[2], "broken.png")]
    assert image_pairs.pairs_against(names[1], ".") == expected


# --- activations ---------------------------------------------------------------------------------


def collect(pairs, network, folder, **options):
    """Return (similarity1, similarity2) of each pair, as score() computes them, and the rows."""
    maps = {}

    def finish(number, convs, embeddings, sizes, load_images):
        assert [image.shape[:2] for image in load_images()] == list(sizes)
        maps[number] = compute_spatial_similarity(*convs)
        return maps[number][0].sum(), 1.0, None

    rows = list(image_pairs.score(pairs, network, finish, folder, **options))
    return maps, rows


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("keep_images", [True, False])
def test_maps_of_many_are_the_maps_of_each(folder, rng, independent, keep_images):
    names = write_images(folder, 9)
    pairs = dict(enumerate([tuple(rng.choice(names, 2)) for _ in range(40)], 1))
    pairs[41] = (names[0], names[0])
    network, seen = tiny_network(independent)
    options = {} if not independent else {"batch_size": 2}
    maps, rows = collect(pairs, network, folder, keep_images=keep_images, **options)
    distinct = {path for pair in pairs.values() for path in pair}
    assert sum(seen) == (len(distinct) if independent else 82) and max(seen) == 2
    assert [row["pair"] for row in rows] == list(pairs)
    for number, pair in pairs.items():
        convs = network.activations(network.preprocess([image_ops.load_image(p) for p in pair]))
        for found, expected in zip(maps[number], compute_spatial_similarity(*convs), strict=True):
            assert_allclose(found, expected, atol=1e-6)
    assert sorted(os.listdir(folder)) == names  # the temporary file is gone


def test_pairs_that_fail_leave_the_others(folder):
    names = write_images(folder, 4)
    (folder / "broken.png").write_text("no image")
    pairs = [(names[0], names[1]), ("broken.png", names[1]), (names[2], "gone.png")]
    pairs = dict(enumerate([*pairs, (names[2], names[3])], 1))
    for independent in (True, False):
        maps, rows = collect(pairs, tiny_network(independent)[0], folder)
        assert sorted(maps) == [1, 4]
        assert [bool(row["error"]) for row in rows] == [False, True, True, False]
        assert "broken.png: not an image" in rows[1]["error"] and rows[1]["similarity"] == ""
        assert "gone.png: no such image file" in rows[2]["error"]

    def finish(number, *_):
        if number == 4:
            raise ValueError("region: too\nsmall")
        return 0.5, 0.5, 0.25

    rows = list(image_pairs.score(pairs, tiny_network()[0], finish, folder))
    assert rows[3]["error"] == "region: too small" and rows[0]["similarity"] == "0.500000"


# --- the program ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_hundred(tmp_path_factory):
    """A folder with 200 pairs over 40 images, three of which are broken, and their results."""
    folder = tmp_path_factory.mktemp("two_hundred")
    names = write_images(folder, 40)
    (folder / names[7]).write_text("no image")
    (folder / names[20]).write_bytes((folder / names[20]).read_bytes()[:90])
    (folder / names[33]).unlink()
    rng = np.random.default_rng(1)
    pairs = [tuple(names[i] for i in rng.choice(40, 2, replace=False)) for _ in range(200)]
    write_pairs(folder / "pairs.csv", pairs)
    process = start(folder)
    out, err = process.communicate()
    assert process.returncode == 1 and err == ""
    return folder, pairs, {names[7], names[20], names[33]}, out


def start(folder, *options):
    command = [*PROGRAM, "--pairs", "pairs.csv", "--save-maps", *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def test_two_hundred_pairs(two_hundred, imagenet, tmp_path):
    folder, pairs, broken, out = two_hundred
    output = folder / "pairs_similarity"
    rows = read_scores(output)
    assert [(row["image1"], row["image2"]) for row in rows] == pairs
    assert [int(row["pair"]) for row in rows] == list(range(1, 201))
    failed = [bool(row["error"]) for row in rows]
    assert failed == [bool(broken & set(pair)) for pair in pairs]
    assert f"pairs       {200 - sum(failed)} of 200\n" in out
    assert f"failed      {sum(failed)}," in out
    for ending in ("jpg", "npz"):
        assert len(list(output.glob(f"*.{ending}"))) == 200 - sum(failed)
    for row in rows[:12]:
        if not row["error"]:
            paths = folder / row["image1"], folder / row["image2"]
            pair = visualize_pair(*paths, imagenet)
            assert_allclose(float(row["similarity"]), pair.similarity, atol=2e-6)
            (path,) = output.glob(f"{int(row['pair']):05d}_*.jpg")
            drawn = image_ops.combine_horizontal([pair.overlay1, pair.overlay2])
            image_ops.save_image(tmp_path / "drawn.jpg", drawn)
            expected = image_ops.load_image(tmp_path / "drawn.jpg").astype(int)
            assert np.abs(image_ops.load_image(path) - expected).mean() < 0.2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_where_it_was(two_hundred, number):
    # a shell in the background ignores it, which its children would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = two_hundred[0]
    output = folder / str(number)
    process = start(folder, "--output", output)
    while not (output / "scores.csv").is_file() or len(read_scores(output)) < 30:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode != 0 and "Traceback" not in err
    before = read_scores(output)
    assert 30 <= len(before) < 200, "it was interrupted too late to tell"
    finished = {path: path.stat().st_mtime_ns for path in output.glob("0*")}
    done = {f"{int(row['pair']):05d}" for row in before if not row["error"]}
    process = start(folder, "--output", output)
    out, err = process.communicate()
    assert process.returncode == 1 and err == ""
    assert f"{len(done)} of them by an earlier run" in out
    again = [path for path, at in finished.items() if path.stat().st_mtime_ns != at]
    assert not {path.name[:5] for path in again} & done
    assert [path.name for path in output.iterdir() if path.name.startswith(".")] == [".lock"]
    # to the bit, pictures and maps too
    whole = folder / "pairs_similarity"
    for path in sorted(whole.iterdir()):
        if path.name != ".lock":
            assert (output / path.name).read_bytes() == path.read_bytes(), path


def test_memory_is_flat(folder):
    """Four times as many pairs, of as many more distinct images, take the same memory."""
    (name,) = write_images(folder, 1, size=(480, 320))
    names = [f"{i}.jpg" for i in range(800)]
    for other in names:
        (folder / other).symlink_to(name)
    peaks = []
    for count in (100, 400):
        write_pairs(folder / "pairs.csv", zip(names[:count], names[400 : 400 + count], strict=True))
        command = [*PROGRAM, "--pairs", "pairs.csv", "--output", str(count)]
        # by a small process, since a child's peak begins with its parent's size
        measure = (
            "import resource, subprocess, sys;"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        launch = [sys.executable, "-c", measure, *command]
        peaks.append(int(subprocess.run(launch, check=True, capture_output=True).stdout))
    assert peaks[1] < 1.1 * peaks[0], peaks


def test_against_a_folder_with_a_region_and_maps(folder, imagenet, capsys):
    names = write_images(folder, 4)
    command = [names[0], "--against", ".", "--region1", "10,10,50,30", "--save-maps"]
    assert main([*command, "--save-pairwise", "--pooling", "max", "--no-pictures"]) == 0
    out = capsys.readouterr().out
    output = folder / f"000_against_{folder.name}_similarity"
    rows = read_scores(output)
    assert [row["image2"] for row in rows] == names[1:]
    best = max(rows, key=lambda row: float(row["similarity"]))
    assert f"highest     {best['similarity']}, of {names[0]} and {best['image2']}" in out
    rows_in_order = sorted(rows, key=lambda row: -float(row["similarity"]))
    told = [line.split() for line in out.splitlines() if line.startswith("best ")]
    assert told == [
        ["best", f"{float(row['similarity']):.4f}", row["image2"]] for row in rows_in_order
    ]
    assert not list(output.glob("*.jpg"))
    for row in rows:
        (path,) = output.glob(f"{int(row['pair']):05d}_*.npz")
        options = {"region1": (10, 10, 50, 30), "pooling": "max", "pairwise": True}
        expected = visualize_pair(names[0], row["image2"], imagenet, **options)
        with np.load(path) as maps:
            assert_allclose(maps["similarity1"], expected.similarity1, atol=1e-6)
            assert_allclose(maps["pairwise"], expected.pairwise, atol=1e-6)
        assert_allclose(float(row["whole_similarity"]), expected.whole_similarity, atol=2e-6)


def test_a_folder_of_results_is_not_mixed_with_other_things(folder, capsys):
    names = write_images(folder, 3)
    pairs = [(names[0], names[1]), (names[1], names[2])]
    write_pairs("pairs.csv", pairs[:1])
    command = ["--pairs", "pairs.csv", "--no-pictures"]
    assert main(command) == 0
    before = (folder / "pairs_similarity" / "scores.csv").read_bytes()
    capsys.readouterr()
    assert main([*command, "--pooling", "max"]) == 2
    assert "holds results of other arguments" in capsys.readouterr().err
    write_pairs("pairs.csv", pairs[::-1])
    assert main(command) == 2
    assert "holds results of other pairs" in capsys.readouterr().err
    assert main([*command, "--output", "."]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert (folder / "pairs_similarity" / "scores.csv").read_bytes() == before
    # pairs that were added are computed on top, and half a row is forgotten
    write_pairs("pairs.csv", pairs)
    with open(folder / "pairs_similarity" / "scores.csv", "ab") as file:
        file.write(b"2,001.png,002")
    assert main(command) == 0
    assert "pairs       2 of 2, 1 of them by an earlier run" in capsys.readouterr().out
    rows = read_scores(folder / "pairs_similarity")
    assert [(row["image1"], row["image2"]) for row in rows] == pairs
    # a picture that was deleted is made again
    assert main([*command[:2], "--output", "pictures"]) == 0
    next((folder / "pictures").glob("00001*")).unlink()
    assert main([*command[:2], "--output", "pictures"]) == 0
    assert next((folder / "pictures").glob("00001*")).is_file()


# --- results depend on contents, and a folder has one owner --------------------------------------


def run_tiny(folder, pairs, network=None, **options):
    """Run visualize_pairs, without TensorFlow; return the rows and how many were old."""
    network = network or tiny_network()[0]
    options = {"pictures": False, **options}
    return image_pairs.visualize_pairs(pairs, network, folder / "results", **options)


def test_a_changed_image_redoes_its_own_pairs(folder):
    names = write_images(folder, 4)
    pairs = [(names[0], names[1]), (names[1], names[2]), (names[2], names[3])]
    before, resumed = run_tiny(folder, pairs)
    assert resumed == 0
    assert run_tiny(folder, pairs) == (before, 3)
    # the same contents under another time are the same
    os.utime(folder / names[0], ns=(1, 1))
    assert run_tiny(folder, pairs) == (before, 3)
    # others of the same size are not, if the time is another
    image = Image.open(folder / names[1])
    image.point(lambda value: 255 - value // 2).save(folder / names[1])
    after, resumed = run_tiny(folder, pairs)
    assert resumed == 1 and after[2] == before[2]
    assert all(after[i]["similarity"] != before[i]["similarity"] for i in (0, 1))
    (folder / "again").mkdir()
    fresh, _ = image_pairs.visualize_pairs(
        pairs, tiny_network()[0], folder / "again", pictures=False
    )
    assert fresh == after


def test_changed_weights_and_masks_are_refused(folder, capsys):
    names = write_images(folder, 2)
    network = tiny_network()[0]
    weights = [np.zeros(3), np.ones((2, 2))]
    network = replace(network, weights=lambda: weights)
    run_tiny(folder, [names], network)
    weights[1][0, 0] = 2
    with pytest.raises(ValueError, match="results of other arguments .settings.json, weights"):
        run_tiny(folder, [names], network)
    # a mask, in the program
    write_pairs(folder / "p.csv", [names])
    command = ["--pairs", "p.csv", "--region1", "mask.png", "--no-pictures"]
    mask = np.zeros((45, 60), np.uint8)
    for x, status in ((10, 0), (10, 0), (30, 2)):
        mask[:, x:] = 255
        mask[:, :x] = 0
        Image.fromarray(mask).save(folder / "mask.png")
        assert main(command) == status
    assert "results of other arguments (settings.json, mask1)" in capsys.readouterr().err


def test_a_network_is_known_by_its_contents(imagenet, tmp_path):
    import keras

    assert imagenet.fingerprint() == load_network("imagenet").fingerprint()
    inputs = keras.Input((32, 32, 3))
    conv = keras.layers.Conv2D(4, 3, strides=8)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(conv))
    before = load_network(model).fingerprint()
    assert before == load_network(model).fingerprint() is not None
    model.save(tmp_path / "m.keras")
    of_file = load_network(tmp_path / "m.keras").fingerprint()
    model.set_weights([weight + 1 for weight in model.get_weights()])
    assert load_network(model).fingerprint() != before
    model.save(tmp_path / "m.keras")
    assert load_network(tmp_path / "m.keras").fingerprint() != of_file


def test_a_second_run_is_refused_while_the_first_lives(folder):
    names = write_images(folder, 3)
    pairs, network = [(names[0], names[1]), (names[1], names[2])], tiny_network()[0]
    (folder / "results").mkdir()
    owner = (
        "import sys, time; from pathlib import Path; from files import locked\n"
        "with locked(Path(sys.argv[1])): print('owned', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", owner, folder / "results"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "owned\n"
        with pytest.raises(ValueError, match="results: another run writes to this folder"):
            run_tiny(folder, pairs, network)
        assert os.listdir(folder / "results") == [".lock"]
        process.kill()
    rows, _ = run_tiny(folder, pairs, network)  # what it leaves stops nobody
    assert [row["error"] for row in rows] == ["", ""]

    def nested(batch):
        with pytest.raises(ValueError, match="another run writes to this folder"):
            run_tiny(folder, pairs, tiny_network()[0])
        return network.activations(batch)

    os.utime(folder / names[0], ns=(1, 1))
    Image.new("RGB", (9, 9), "red").save(folder / names[0])
    rows, resumed = run_tiny(folder, pairs, replace(network, activations=nested))
    assert (len(rows), resumed) == (2, 1)


def test_killed_at_any_time_a_run_comes_to_the_same_end(tmp_path):
    command = [sys.executable, "-m", "tests.kills", "--kills", "3", "--folder", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_only_what_a_run_itself_left_behind_is_swept(folder):
    names = write_images(folder, 2)
    run_tiny(folder, [names])
    results = folder / "results"
    own = [".scores.csv.0123456789ab.tmp", ".00001_000_001.jpg.0123456789ab.tmp"]
    own.append(".index.html.0123456789ab.tmp")
    others = [".o.png.0123456789ab.tmp", ".hidden"]
    for name in own + others:
        (results / name).touch()
    run_tiny(folder, [names])
    assert not [name for name in own if (results / name).exists()]
    assert not [name for name in others if not (results / name).exists()]


def test_a_pair_that_takes_more_memory_than_there_is_leaves_the_others(folder):
    names = write_images(folder, 3)

    def finish(number, *_):
        if number == 1:
            raise MemoryError
        return 0.5, 0.5, None

    pairs = {1: (names[0], names[1]), 2: (names[1], names[2])}
    rows = list(image_pairs.score(pairs, tiny_network()[0], finish, folder))
    assert [row["error"] for row in rows] == ["there is not enough memory for it", ""]


def cards_in(results):
    """Return the cards of a folder's index.html."""
    text = (results / "index.html").read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["cards"]


def test_an_index_shows_the_most_similar_first_and_what_failed_last(folder):
    names = write_images(folder, 5)
    (folder / "sub").mkdir()
    (folder / "sub" / "x<\udcff>.png").write_text("no image")
    others = ["sub/x<\udcff>.png", *names[1:]]
    pairs = [(str(folder / names[0]), str(folder / other)) for other in others]
    rows, _ = run_tiny(folder, pairs, pictures=True, method=Method(region1=(0, 0, 30, 30)))
    scored = sorted(rows[1:], key=lambda row: -float(row["similarity"]))
    assert scored != rows[1:]
    cards, results = cards_in(folder / "results"), folder / "results"
    expected = [f"{names[0]} and {os.path.basename(row['image2'])}" for row in scored]
    assert [card["name"] for card in cards] == [*expected, f"{names[0]} and {others[0]}"]
    for card, row in zip(cards, scored, strict=False):
        assert card["similarity"] == float(row["similarity"])
        assert card["notes"] == [f"{float(row['whole_similarity']):.4f} of the whole images"]
        assert card["picture"].startswith(f"{int(row['pair']):05d}_")
        assert (results / card["picture"]).is_file()
    assert "not an image" in cards[-1]["notes"][0] and "picture" not in cards[-1]
    # it is left behind, and written anew whatever it was
    before = (results / "index.html").read_bytes()
    for change in (Path.unlink, lambda path: path.write_text("1,a,b")):
        change(results / "index.html")
        assert run_tiny(folder, pairs, pictures=True, method=Method(region1=(0, 0, 30, 30))) == (
            rows,
            4,
        )
        assert (results / "index.html").read_bytes() == before


def test_an_index_without_pictures_asks_for_none(folder):
    names = write_images(folder, 3)
    run_tiny(folder, [names[:2], names[1:]])
    assert all("picture" not in card for card in cards_in(folder / "results"))


@pytest.mark.parametrize(
    "name, damage",
    [
        ("settings.json", lambda text: text[:-9]),
        ("settings.json", lambda text: b"[1]"),
        ("settings.json", lambda text: b"[" * 100_000),
        ("settings.json", lambda text: b"\xff\xfe"),
        ("scores.csv", lambda text: text.replace(b"0.", b"x.")),
        ("scores.csv", lambda text: text.replace(b"\n1,", "\n²,".encode())),
        ("scores.csv", lambda text: text.replace(b"\n1,", b"\n1,2,")),
        ("scores.csv", lambda text: text.replace(b",", b";")),
        ("scores.csv", lambda text: text.replace(b"001.png", b"1" * 140_000)),
    ],
)
def test_damaged_results_are_named(folder, name, damage):
    names = write_images(folder, 2)
    run_tiny(folder, [names])
    path = folder / "results" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{name}: damaged, delete its folder or name a new one"):
        run_tiny(folder, [names])


def test_odd_names_are_no_trouble(folder):
    names = write_images(folder, 2)
    odd = "a,\n\"'$x \udcff" + "語" * 70 + ".png"
    (folder / names[1]).rename(folder / odd)
    command = [*PROGRAM, names[0], "--against", ".", "--output", "o"]
    subprocess.run(command, check=True)
    (picture,) = (folder / "o").glob("*.jpg")
    assert re.fullmatch(r"[\w.-]+", picture.name)
    (row,) = image_pairs.read_scores(folder / "o")
    assert row["image2"] == odd
    settings = json.loads((folder / "o" / "settings.json").read_text())
    pairs = {1: (names[0], odd)}
    assert image_pairs.resume(folder / "o", settings, pairs, [".jpg"]) == {1: row}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--pairs gone.csv", "gone.csv: no such file of pairs"),
        ("--pairs empty.csv", "empty.csv: holds no pair"),
        ("--pairs header.csv", "header.csv: holds no pair"),
        ("--pairs one.csv", "one.csv, line 2: expected two paths, got"),
        ("--pairs nul.csv", "nul.csv"),
        ("--pairs long.csv", "long.csv, line 1: a path has over 4096 letters"),
        ("--pairs huge.csv", "huge.csv, line 1: field larger than field limit"),
        ("--pairs p.csv 000.jpg", "--pairs: the file names all images"),
        ("--pairs p.csv --against .", "give one of them"),
        ("--pairs p.csv --figure f.png", "--figure: is for a single pair"),
        ("--pairs p.csv --save-maps m.npz", "--save-maps: with many pairs it takes no name"),
        ("--pairs p.csv --batch-size 0", "--batch-size: expected 1 to 256"),
        ("--pairs p.csv --output 000.jpg", "--output: 000.jpg is a file"),
        ("--pairs p.csv --output 000.jpg/where", "000.jpg is no folder"),
        ("--network keras:resnet50 --pairs p.csv", "did you mean keras:ResNet50?"),
        ("--pairs p.csv --embedding all", "--explain/--embedding: invalid choice"),
        ("--pairs p.csv --region1 1,2", "--region1: expected X0"),
        ("--against .", "--against: expected one image"),
        ("000.jpg 001.png --against .", "--against: expected one image"),
        ("000.jpg --against gone", "gone: no such folder"),
        ("000.jpg --against none", "none: holds no image to compare with"),
        ("gone.jpg --against .", "gone.jpg: no such image file"),
        ("000.jpg 001.png --no-pictures", "--no-pictures: is for many pairs"),
        ("000.jpg 001.png --batch-size 4", "--batch-size: is for many pairs"),
        ("000.jpg 001.png --save-maps", "--save-maps: expected the name of a file"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, message):
    names = write_images(folder, 2)
    (folder / "none").mkdir()
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("image1,image2\n")
    (folder / "one.csv").write_text("a.png,b.png\na.png\n")
    (folder / "long.csv").write_text(f"a.png,{'b' * 131_000}.png\n")
    (folder / "huge.csv").write_text(f"a.png,{'b' * 140_000}.png\n")
    (folder / "nul.csv").write_bytes(b"\x00\xff,\n\x00" * 9)
    write_pairs(folder / "p.csv", [names])
    before = sorted(folder.rglob("*"))
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert sorted(folder.rglob("*")) == before


def test_a_progress_bar_stands_on_a_terminal(folder):
    names = write_images(folder, 2)
    write_pairs(folder / "p.csv", [names])
    controller, terminal = os.openpty()
    process = subprocess.Popen([*PROGRAM, "--pairs", "p.csv"], stderr=terminal, stdout=terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(controller, 1000)
        except OSError:
            break
    assert process.wait() == 0
    assert b"1/1" in shown and b"pairs/s" in shown and b"scores.csv" in shown
