"""Many pairs: what they are read from, what is written, and what happens when things go wrong."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from galleries import color_network
from numpy.testing import assert_allclose
from PIL import Image

from models import load_network
from similarity_ops import compute_spatial_similarity
from simvis import image_ops
from simvis.batch import pairs as image_pairs
from simvis.batch.pairs import pairs_against, read_pairs, visualize_pairs
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
    """Return a network that may depend on the batch, and a list of the sizes of its batches."""
    seen = []

    def activations(batch):
        seen.append(len(batch))
        shift = 0 if independent else batch.mean(axis=(0, 1, 2)) / 2
        return batch.reshape(-1, 7, 4, 7, 4, 3).mean(axis=(2, 4)) - shift

    return color_network(activations=activations, batch_independent=independent), seen


# --- which pairs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.png,b.png\n", [("a.png", "b.png")]),
        ("\ufeffleft,right\r\n\r\n a.png , sub/b.JPG\r\n", [("a.png", "sub/b.JPG")]),
        ('"a,1.png","b ""x"".png"', [("a,1.png", 'b "x".png')]),
        ("missing.png,gone.png\na.png,b.png", [("missing.png", "gone.png"), ("a.png", "b.png")]),
        ("/elsewhere/a.png,b.png", [("/elsewhere/a.png", "b.png")]),
        ("a.png;b.png\nc,1.png;d.png", [("a.png", "b.png"), ("c,1.png", "d.png")]),
        ("a,1.png;b.png;0.5", [("a,1.png", "b.png")]),
        ("image1\timage2\tscore\na.png\tb.png\t0.5", [("a.png", "b.png")]),
        ("a.png,b.png,0.5,a;b;c", [("a.png", "b.png")]),
    ],
)
def test_pairs_are_read_relative_to_their_file(folder, text, expected):
    (folder / "lists").mkdir()
    (folder / "lists" / "pairs.csv").write_text(text, encoding="utf-8", newline="")
    expected = [tuple(os.path.join("lists", path) for path in pair) for pair in expected]
    assert read_pairs("lists/pairs.csv") == expected


def test_paths_are_told_without_detours(folder):
    (folder / "lists").mkdir()
    (folder / "elsewhere" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to("elsewhere/deep")
    (folder / "lists" / "p.csv").write_text("../a.png,../link/../b.png\n")
    # what a link leads to is not where the link is
    real = os.path.realpath(folder / "elsewhere" / "b.png")
    assert read_pairs("lists/p.csv") == [("a.png", real)]


@pytest.mark.parametrize(
    "first", ["a.heic,b.jfif", "a.cr2,b.cr2", "IMG_1,IMG_2", "sub/a,sub/b", "17,18", "x.a,x.b"]
)
def test_a_first_pair_is_no_header(folder, first):
    for name in ("IMG_1", "IMG_2"):
        (folder / name).write_bytes(b"")
    (folder / "p.csv").write_text(f"{first}\nc.tga,d.tga\n")
    assert read_pairs("p.csv") == [tuple(first.split(",")), ("c.tga", "d.tga")]
    (folder / "p.csv").write_text(f"first image,Image No. 2\n{first}\n")
    assert read_pairs("p.csv") == [tuple(first.split(","))]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_lists_in_other_encodings_are_read_or_refused(folder, encoding):
    content = "image1;image2\nä.png;b.png\n".encode(encoding)
    (folder / "p.csv").write_bytes(content)
    if encoding in ("utf-16", "utf-8-sig"):
        assert read_pairs("p.csv") == [("ä.png", "b.png")]
        (folder / "p.csv").write_bytes(content[:-1])
    if encoding != "utf-8-sig":
        with pytest.raises(ValueError, match="^p.csv.*save (it|the list) as UTF-8"):
            read_pairs("p.csv")


def test_against_and_index_agree_on_what_is_in_a_folder(folder, tmp_path_factory):
    from simvis.gallery.folder import ImageFolder

    names = write_images(folder, 2)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(names[0], elsewhere / "out.png")
    (folder / "out.png").symlink_to(elsewhere / "out.png")
    (folder / "in.png").symlink_to(names[1])
    (folder / "deeper").mkdir()
    for name in ("a.jfif", "b.JPE", ".c.png", "d.heic", "deeper/e.png"):
        shutil.copy(names[0], folder / name)
    listed = sorted(ImageFolder(folder).files())
    assert {"a.jfif", "b.JPE", "deeper/e.png", "in.png"} < set(listed)
    assert [names[0], *(other for _, other in pairs_against(names[0], "."))] == listed


def test_against_a_folder_takes_its_other_images(folder):
    names = write_images(folder, 3)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_text("no image either, but called one")
    expected = [(names[1], other) for other in (names[0], names[2], "broken.png")]
    assert pairs_against(names[1], ".") == expected


# --- maps and scores -----------------------------------------------------------------------------


def run_tiny(pairs, network=None, **options):
    """Run visualize_pairs, without TensorFlow; return the rows and how many were old."""
    options = {"pictures": False, **options}
    return visualize_pairs(pairs, network or tiny_network()[0], "results", **options)


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("pictures", [True, False])
def test_maps_of_many_are_the_maps_of_each(folder, rng, independent, pictures):
    names = write_images(folder, 9)
    pairs = [tuple(map(str, rng.choice(names, 2))) for _ in range(40)] + [(names[0], names[0])]
    network, seen = tiny_network(independent)
    options = {"pictures": pictures, "save_maps": True, "batch_size": 2 if independent else None}
    rows, _ = run_tiny(pairs, network, **options)
    assert sum(seen) == (9 if independent else 82) and max(seen) == 2
    assert [(row["image1"], row["image2"]) for row in rows] == pairs
    for number, pair in enumerate(pairs, 1):
        convs = network.activations(network.preprocess([image_ops.load_image(p) for p in pair]))
        expected = compute_spatial_similarity(*convs, data_format="channels_last")
        (path,) = Path("results").glob(f"{number:05d}_*.npz")
        with np.load(path) as maps:
            for name, each in zip(("similarity1", "similarity2"), expected, strict=True):
                assert_allclose(maps[name], each, atol=1e-6)
        assert_allclose(float(rows[number - 1]["similarity"]), expected[0].sum(), atol=2e-6)
    others = {"scores.csv", "settings.json", "index.html", ".lock"}
    left = {path.name for path in Path("results").iterdir() if path.name[0] != "0"}
    assert left == others  # the temporary file is gone
    assert len(list(Path("results").glob("*.jpg"))) == 41 * pictures


@pytest.mark.parametrize("independent", [True, False])
def test_pairs_that_fail_leave_the_others(folder, monkeypatch, independent):
    names = write_images(folder, 4)
    (folder / "broken.png").write_text("no image")
    pairs = [(names[0], names[1]), ("broken.png", names[1]), (names[2], "gone.png")]
    pairs += [(names[2], names[3]), (names[1], names[3]), (names[0], names[3])]
    failures = {pairs[3]: ValueError("region: too\nsmall"), pairs[4]: MemoryError()}
    compute = image_pairs.compute_maps

    def compute_maps(convs, sizes, network, method, names, *rest):
        if tuple(names) in failures:
            raise failures[tuple(names)]
        return compute(convs, sizes, network, method, names, *rest)

    monkeypatch.setattr(image_pairs, "compute_maps", compute_maps)
    rows, _ = run_tiny(pairs, tiny_network(independent)[0])
    errors = [row["error"] for row in rows]
    assert "broken.png: not an image" in errors[1] and "gone.png: no such image file" in errors[2]
    assert errors[3:5] == ["region: too small", "there is not enough memory for it"]
    assert [bool(row["similarity"]) for row in rows] == [not error for error in errors]
    assert not errors[0] and not errors[5]


# --- the program ---------------------------------------------------------------------------------


def test_the_program_on_many_pairs(folder, imagenet, capsys):
    names, rng = write_images(folder, 12), np.random.default_rng(1)
    (folder / names[7]).write_text("no image")
    (folder / names[10]).write_bytes((folder / names[10]).read_bytes()[:90])
    pairs = [tuple(names[i] for i in rng.choice(12, 2, replace=False)) for _ in range(30)]
    write_pairs(folder / "pairs.csv", pairs)
    assert main(["--pairs", "pairs.csv", "--save-maps"]) == 1
    out, output = capsys.readouterr().out, folder / "pairs_similarity"
    rows = read_scores(output)
    assert [(row["image1"], row["image2"]) for row in rows] == pairs
    failed = [bool(row["error"]) for row in rows]
    assert failed == [bool({names[7], names[10]} & set(pair)) for pair in pairs]
    assert f"pairs       {30 - sum(failed)} of 30\n" in out
    assert f"failed      {sum(failed)}," in out
    for ending in ("jpg", "npz"):
        assert len(list(output.glob(f"*.{ending}"))) == 30 - sum(failed)
    for row in [row for row in rows if not row["error"]][:3]:
        pair = visualize_pair(row["image1"], row["image2"], imagenet)
        assert_allclose(float(row["similarity"]), pair.similarity, atol=2e-6)
        (path,) = output.glob(f"{int(row['pair']):05d}_*.jpg")
        drawn = image_ops.combine_horizontal([pair.overlay1, pair.overlay2])
        image_ops.save_image("drawn.jpg", drawn)
        expected = image_ops.load_image("drawn.jpg").astype(int)
        assert np.abs(image_ops.load_image(path) - expected).mean() < 0.2


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_was(folder):
    # a shell in the background ignores it, which its children would inherit
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    names, output = write_images(folder, 40), folder / "pairs_similarity"
    write_pairs("pairs.csv", [(a, b) for a in names for b in names[::4]])
    process = subprocess.Popen([*PROGRAM, "--pairs", "pairs.csv"], stderr=subprocess.PIPE)
    while not (output / "scores.csv").is_file() or len(read_scores(output)) < 30:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    _, err = process.communicate()
    assert process.returncode == 130 and err.count(b"\n") == 1 and b"interrupted" in err
    done = len(read_scores(output))
    assert 30 <= done < 400, "it was interrupted too late to tell"
    run = subprocess.run([*PROGRAM, "--pairs", "pairs.csv"], capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""
    assert f"pairs       400 of 400, {done} of them by an earlier run" in run.stdout


@pytest.mark.slow
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
    (folder / "film.MOV").write_bytes(b"")
    command = [names[0], "--against", ".", "--region1", "10,10,50,30", "--save-maps"]
    assert main([*command, "--save-pairwise", "--pooling", "max", "--no-pictures"]) == 0
    out = capsys.readouterr().out
    assert "left out    1 of kinds that are not read (.mov 1)\n" in out
    output = folder / f"000_against_{folder.name}_similarity"
    rows = read_scores(output)
    assert [row["image2"] for row in rows] == names[1:]
    best, *_ = in_order = sorted(rows, key=lambda row: -float(row["similarity"]))
    assert f"highest     {best['similarity']}, of {names[0]} and {best['image2']}" in out
    told = [line.split()[1:] for line in out.splitlines() if line.startswith("best ")]
    assert told == [[f"{float(row['similarity']):.4f}", row["image2"]] for row in in_order]
    assert not list(output.glob("*.jpg"))
    for row in rows:
        (path,) = output.glob(f"{int(row['pair']):05d}_*.npz")
        options = {"region1": (10, 10, 50, 30), "pooling": "max", "pairwise": True}
        expected = visualize_pair(names[0], row["image2"], imagenet, **options)
        with np.load(path) as maps:
            assert_allclose(maps["similarity1"], expected.similarity1, atol=1e-6)
            assert_allclose(maps["pairwise"], expected.pairwise, atol=1e-6)
        assert_allclose(float(row["whole_similarity"]), expected.whole_similarity, atol=2e-6)


# --- what a folder of results may hold ------------------------------------------------------------


def test_a_folder_of_results_is_not_mixed_with_other_things(folder):
    names = write_images(folder, 3)
    pairs = [(names[0], names[1]), (names[1], names[2])]
    run_tiny(pairs[:1])
    before = Path("results/scores.csv").read_bytes()
    with pytest.raises(ValueError, match="holds results of other arguments"):
        run_tiny(pairs[:1], method=Method(pooling="max"))
    with pytest.raises(ValueError, match="holds results of other pairs"):
        run_tiny(pairs[::-1])
    with pytest.raises(ValueError, match="holds other files"):
        visualize_pairs(pairs, tiny_network()[0], ".")
    assert Path("results/scores.csv").read_bytes() == before
    # pairs that were added are computed on top, and half a row is forgotten
    with open("results/scores.csv", "ab") as file:
        file.write(b"2,001.png,002")
    rows, resumed = run_tiny(pairs)
    assert resumed == 1 and rows == read_scores(Path("results"))
    assert [(row["image1"], row["image2"]) for row in rows] == pairs
    # a picture that was deleted is made again
    for _ in range(2):
        visualize_pairs(pairs, tiny_network()[0], "pictures")
        (picture,) = Path("pictures").glob("00001*.jpg")
        picture.unlink()


def test_a_changed_image_redoes_its_own_pairs(folder):
    names = write_images(folder, 4)
    pairs = [(names[0], names[1]), (names[1], names[2]), (names[2], names[3])]
    before, resumed = run_tiny(pairs)
    assert resumed == 0
    assert run_tiny(pairs) == (before, 3)
    # the same contents under another time are the same
    os.utime(folder / names[0], ns=(1, 1))
    assert run_tiny(pairs) == (before, 3)
    # others of the same size are not
    image = Image.open(folder / names[1])
    image.point(lambda value: 255 - value // 2).save(folder / names[1])
    after, resumed = run_tiny(pairs)
    assert resumed == 1 and after[2] == before[2]
    assert all(after[i]["similarity"] != before[i]["similarity"] for i in (0, 1))
    assert visualize_pairs(pairs, tiny_network()[0], "again", pictures=False) == (after, 0)


@pytest.mark.parametrize("replace", ["written over", "moved there"])
def test_an_image_of_the_same_size_and_time_is_another(folder, replace):
    paths = [folder / name for name in ("a.bmp", "b.bmp", "new.bmp")]
    for path, color in zip(paths, ("red", "green", "blue"), strict=True):
        Image.new("RGB", (40, 30), color).save(path)
        os.utime(path, ns=(1, 1))
    pairs = [tuple(map(str, paths[:2]))]
    assert run_tiny(pairs)[1] == 0 and run_tiny(pairs)[1] == 1
    if replace == "moved there":
        paths[2].replace(paths[0])
    else:  # as cp -p does
        paths[0].write_bytes(paths[2].read_bytes())
        os.utime(paths[0], ns=(1, 1))
    assert run_tiny(pairs)[1] == 0


def test_changed_weights_and_masks_are_refused(folder):
    names = write_images(folder, 2)
    weights, mask = [np.zeros(3), np.ones((2, 2))], np.zeros((45, 60), bool)
    network = replace(tiny_network()[0], weights=lambda: weights)
    mask[:, 10:] = True
    run_tiny([names], network, method=Method(region1=mask))
    assert run_tiny([names], network, method=Method(region1=mask.copy()))[1] == 1
    mask[:, 10:30] = False
    with pytest.raises(ValueError, match="results of other arguments .settings.json, mask1"):
        run_tiny([names], network, method=Method(region1=mask))
    weights[1][0, 0] = 2
    mask[:, 10:] = True
    with pytest.raises(ValueError, match="results of other arguments .settings.json, weights"):
        run_tiny([names], network, method=Method(region1=mask))


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
        "import sys, time; from pathlib import Path; from simvis.files import locked\n"
        "with locked(Path(sys.argv[1])): print('owned', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", owner, folder / "results"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "owned\n"
        with pytest.raises(ValueError, match="results: another run writes to this folder"):
            run_tiny(pairs, network)
        assert os.listdir(folder / "results") == [".lock"]
        process.kill()
    rows, _ = run_tiny(pairs, network)  # what it leaves stops nobody
    assert [row["error"] for row in rows] == ["", ""]

    def nested(batch):
        with pytest.raises(ValueError, match="another run writes to this folder"):
            run_tiny(pairs, tiny_network()[0])
        return network.activations(batch)

    os.utime(folder / names[0], ns=(1, 1))
    Image.new("RGB", (9, 9), "red").save(folder / names[0])
    rows, resumed = run_tiny(pairs, replace(network, activations=nested))
    assert (len(rows), resumed) == (2, 1)


@pytest.mark.slow
def test_killed_at_any_time_a_run_comes_to_the_same_end():
    command = [sys.executable, "-m", "tests.kills", "pairs", "--kills", "3"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_only_what_a_run_itself_left_behind_is_swept(folder):
    names = write_images(folder, 2)
    run_tiny([names])
    results = folder / "results"
    own = [".scores.csv.0123456789ab.tmp", ".00001_000_001.jpg.0123456789ab.tmp"]
    own.append(".index.html.0123456789ab.tmp")
    others = [".o.png.0123456789ab.tmp", ".hidden"]
    for name in own + others:
        (results / name).touch()
    run_tiny([names])
    assert not [name for name in own if (results / name).exists()]
    assert not [name for name in others if not (results / name).exists()]


def test_an_index_shows_the_most_similar_first_and_what_failed_last(folder):
    names = write_images(folder, 5)
    (folder / "sub").mkdir()
    (folder / "sub" / "x<\udcff>.png").write_text("no image")
    others = ["sub/x<\udcff>.png", *names[1:]]
    pairs = [(str(folder / names[0]), str(folder / other)) for other in others]
    options = {"pictures": True, "method": Method(region1=(0, 0, 30, 30))}
    rows, _ = run_tiny(pairs, **options)
    scored = sorted(rows[1:], key=lambda row: -float(row["similarity"]))
    assert scored != rows[1:]
    results = folder / "results"
    text = (results / "index.html").read_text()
    cards = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["cards"]
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
        assert run_tiny(pairs, **options) == (rows, 4)
        assert (results / "index.html").read_bytes() == before


@pytest.mark.parametrize(
    "name, damage",
    [
        ("settings.json", lambda text: b"[1]"),
        ("settings.json", lambda text: b"[" * 100_000),
        ("settings.json", lambda text: b"\xff\xfe"),
        ("scores.csv", lambda text: text.replace(b"0.", b"x.")),
        ("scores.csv", lambda text: text.replace(b"\n1,", "\n²,".encode())),
        ("scores.csv", lambda text: text.replace(b"\n1,", b"\n1,2,")),
        ("scores.csv", lambda text: re.sub(rb",-?0\.\d+,", b",nan,", text, count=1)),
        ("scores.csv", lambda text: re.sub(rb",-?0\.(\d+),(?=,)", b",inf,", text)),
        ("scores.csv", lambda text: re.sub(rb",-?0\.\d+,", b",-7,", text)),
        ("scores.csv", lambda text: text + text.splitlines(True)[-1]),
        ("scores.csv", lambda text: text.replace(b",", b";")),
        ("scores.csv", lambda text: text.replace(b"001.png", b"1" * 140_000)),
    ],
)
def test_damaged_results_are_named(folder, name, damage):
    names = write_images(folder, 2)
    run_tiny([names])
    path = folder / "results" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{name}: damaged.*, delete its folder or name a new"):
        run_tiny([names])


def test_a_spreadsheet_runs_nothing_in_scores_csv(folder):
    names = write_images(folder, 2)
    odd = ["=1+1.jpg", "+1.jpg", "-1.jpg", "@a.jpg", "\ta.jpg", "'=1.jpg", "''+1.jpg", "'a.jpg"]
    for name in odd:
        (folder / name).hardlink_to(names[0])
    pairs = [(names[0], name) for name in [*odd, "=none.jpg"]]
    rows, _ = run_tiny(pairs)
    assert [row["image2"] for row in rows] == [name for _, name in pairs]
    assert rows[-1]["error"].startswith("=none.jpg: no such")
    with open("results/scores.csv", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "''=1.jpg" in cells and "'a.jpg" in cells
    for cell in cells:
        assert cell[:1] not in tuple("=+-@\t") or float(cell) < 0
    assert run_tiny(pairs) == (rows, len(odd))  # the missing one is tried again


def test_a_full_disk_is_named_with_a_file(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    names = write_images(folder, 2)
    monkeypatch.setattr(image_pairs, "write_rows", full)
    with pytest.raises(OSError, match="No space left on device: 'results/scores.csv'"):
        run_tiny([names])


def test_odd_names_are_no_trouble(folder):
    names = write_images(folder, 2)
    odd = "a,\n\"'$x \udcff" + "語" * 70 + ".png"
    (folder / names[1]).rename(folder / odd)
    pairs = pairs_against(names[0], ".")
    rows, _ = run_tiny(pairs, pictures=True)
    (picture,) = Path("results").glob("*.jpg")
    assert re.fullmatch(r"[\w.-]+", picture.name)
    assert pairs == [(names[0], odd)] and rows[0]["image2"] == odd
    assert run_tiny(pairs, pictures=True) == (rows, 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--pairs gone.csv", "gone.csv: no such file of pairs"),
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
        ("000.jpg --against gone", "gone: no such folder"),
        ("000.jpg --against none", "none: holds no image to compare with"),
        ("gone.jpg --against .", "gone.jpg: no such image file"),
        ("000.jpg 001.png --no-pictures", "--no-pictures: is for many pairs"),
        ("000.jpg 001.png --save-maps", "--save-maps: expected the name of a file"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, message):
    names = write_images(folder, 2)
    (folder / "none").mkdir()
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


def test_a_progress_bar_stands_on_a_terminal(folder, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    run_tiny([write_images(folder, 2)])
    assert "1/1" in terminal.getvalue() and "pairs/s" in terminal.getvalue()


def test_a_network_without_weights_is_known_by_what_it_does(folder):
    names = write_images(folder, 2)
    one, again = (replace(tiny_network()[0], weights=None) for _ in range(2))
    assert one.fingerprint() == again.fingerprint()
    other = replace(one, activations=lambda batch: one.activations(batch)[..., ::-1] ** 2)
    assert other.fingerprint() != one.fingerprint()
    run_tiny([names], one)
    with pytest.raises(ValueError, match="results of other arguments .settings.json, weights"):
        run_tiny([names], other)
