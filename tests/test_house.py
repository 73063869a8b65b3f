"""The house: which room may import which, who may import TensorFlow, and what import costs."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

# A room imports only rooms above it in this list, which lie on floors below it.
FLOORS = (
    ("decoding",),
    ("similarity_ops", "image_ops"),
    ("models",),
    ("files", "interruption", "matches"),
    ("maps",),
    ("overlay", "pages", "plotting", "usual"),
    ("pair", "cli"),
    ("triplet", "batch"),
    ("training", "gallery"),
    ("serving",),
    ("visualize_similarity", "search_gallery"),
)
ORDER = [room for floor in FLOORS for room in floor]
FRAMEWORKS = {"tensorflow", "keras", "tf_keras", "torch", "onnx", "onnxruntime"}
BESIDE = {"benchmarks", "docs", "evaluation", "tests"}  # nothing imports these


def sources(room):
    """Return the files of a room, at the root or in the package."""
    for place in (ROOT, ROOT / "simvis"):
        if (place / room).is_dir():
            return sorted((place / room).rglob("*.py"))
        if (place / f"{room}.py").is_file():
            return [place / f"{room}.py"]
    raise FileNotFoundError(room)


def imported(path):
    """Return the dotted names that a file imports, at its beginning or inside of a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_every_room_has_its_floor():
    rooms = {path.stem for place in (ROOT, ROOT / "simvis") for path in place.glob("*.py")}
    rooms |= {
        p.parent.name for place in (ROOT, ROOT / "simvis") for p in place.glob("*/__init__.py")
    }
    assert rooms - BESIDE - {"__init__", "simvis"} == set(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_imports_run_down_only(room):
    floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
    allowed = {room, *(below for rooms in FLOORS[:floor] for below in rooms)}
    for path in sources(room):
        for name in imported(path):
            package, _, rest = name.partition(".")
            assert package not in {*ORDER, *BESIDE}, f"{path}: write from simvis, not {name}"
            if package == "simvis":
                assert rest.partition(".")[0] in {*allowed, "__version__"}, f"{path}: {name}"


@pytest.mark.parametrize("room", ORDER)
def test_only_networks_and_the_callback_import_a_framework(room):
    for path in sources(room):
        if room not in ("models", "training"):
            assert not {name.partition(".")[0] for name in imported(path)} & FRAMEWORKS, path


@pytest.mark.parametrize(
    "statement",
    ["import simvis", "from simvis import compute_spatial_similarity", "import similarity_ops"],
)
def test_the_method_costs_numpy_alone(statement):
    code = "import sys, numpy; before = set(sys.modules)"
    code += f"; {statement}; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    new = {name.partition(".")[0] for name in run.stdout.split()} - set(sys.stdlib_module_names)
    assert run.returncode == 0 and new <= {"simvis", "similarity_ops"}, (new, run.stderr)
