"""The wheel: one importable name, which works in a folder that has all of our old names itself."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile

import nbformat
import pytest
from conftest import ROOT

import simvis

HOUSEMATES = (
    "cli",
    "drawing",
    "explorer",
    "files",
    "maps",
    "pair",
)  # that a user's folder may hold
PACKAGES = ("models", "similarity_ops", "image_ops", "visualize_similarity")
EVERYTHING = "from simvis import Gallery, compute_spatial_similarity, load_network, visualize_pair"
PUBLIC = [
    *("Gallery", "SimilarityMaps", "compute_pairwise_similarity", "compute_spatial_similarity"),
    *("load_network", "local_features", "point_similarity", "pool_features"),
    *("visualize_pair", "visualize_triplet", "__version__"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel of what git would commit, so that no file of this machine is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode:
        source = ROOT  # which is a copy without git
    else:
        source = folder / "source"
        files = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
        copy = ["xargs", "-0", "cp", "--parents", "-t", source]
        source.mkdir()
        there = [name for name in files.split(b"\0") if os.path.exists(ROOT / os.fsdecode(name))]
        subprocess.run(copy, cwd=ROOT, input=b"\0".join(there[:-1]), check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", folder, source], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Install the wheel into a new environment, beside all that it needs; return its Python."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    packages = {"base": str(folder), "platbase": str(folder)}
    site = sysconfig.get_path("purelib", "venv" if os.name != "nt" else None, vars=packages)
    with open(os.path.join(site, "needed.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    subprocess.run(
        [*install, "-q", "--no-deps", "--no-index", "--ignore-installed", wheel], check=True
    )
    return folder / "bin" / "python"


@pytest.fixture
def crowded(tmp_path):
    """A research folder that has files of its own by our names, which must not be imported."""
    for name in HOUSEMATES:
        (tmp_path / f"{name}.py").write_text("raise ImportError('the user\\'s own')\n")
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the user\\'s own')\n")
    return tmp_path


def run(python, *arguments, folder, **variables):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    return subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_wheel_claims_one_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        tops = {name.partition("/")[0] for name in names}
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        commands = archive.read(entry_points).decode()
    assert {top for top in tops if not top.endswith(".dist-info")} == {"simvis"}
    assert commands.count(" = simvis.") == 2
    assert "simvis/example_images/room_a_view1.jpg" in names and "simvis/models/rooms.npz" in names
    assert not any("__pycache__" in name or "tests/" in name for name in names)


@pytest.mark.parametrize("variables", [{}, {"PYTHONPATH": "."}])
def test_it_works_beside_files_of_the_same_names(python, crowded, variables):
    code = f"{EVERYTHING}; import simvis; print(simvis.__version__, simvis.__file__)"
    shown = run(python, "-c", code, folder=crowded, **variables)
    assert shown.stdout.startswith(f"{simvis.__version__} {python.parent.parent}"), shown.stderr
    program = python.parent / "visualize-similarity"
    shown = run(program, "--version", folder=crowded, **variables)
    assert simvis.__version__ in shown.stdout, shown.stderr


def test_without_arguments_it_shows_the_example_pair(python, crowded):
    shown = run(python.parent / "visualize-similarity", folder=crowded, PYTHONPATH=".")
    assert shown.returncode == 0 and "similarity  0.8195" in shown.stdout, shown.stderr
    assert (crowded / "room_a_view1_room_a_view2_similarity.png").is_file()


@pytest.mark.slow
def test_a_notebook_beside_files_of_the_same_names(crowded, monkeypatch):
    import nbclient

    monkeypatch.chdir(crowded)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [
        EVERYTHING,
        "float(visualize_pair(*__import__('simvis').pair.EXAMPLE_PAIR).similarity)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    assert notebook.cells[1].outputs[0]["data"]["text/plain"].startswith("0.8194")


@pytest.mark.parametrize(
    "statement",
    [
        "from similarity_ops import compute_spatial_similarity",
        "from models import load_network, EmbeddingNetwork",
        "from visualize_similarity import visualize_pair, main",
        "from simvis import models; import models as root; "
        "assert models.EmbeddingNetwork is root.EmbeddingNetwork",
    ],
)
def test_a_checkout_needs_no_installation(statement):
    shown = run(sys.executable, "-c", statement, folder=ROOT)
    assert shown.returncode == 0, shown.stderr


def test_public_names_are_looked_up_when_asked_for():
    assert set(PUBLIC) <= set(simvis.__all__) <= set(dir(simvis))
    for name in PUBLIC:
        assert getattr(simvis, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        simvis.nothing  # noqa: B018
