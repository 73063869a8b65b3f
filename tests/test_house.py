"""The house: which module may import which, and who may import TensorFlow."""

import ast
import re

import pytest
from conftest import ROOT

# A module imports only modules to the left of it, or on floors below it.
FLOORS = (
    ("files", "similarity_ops", "image_ops", "drawing", "contact_sheet"),
    ("image_folder", "image_table"),
    ("models", "explorer", "pair_maps", "cover_up", "overlays"),
    ("pair_figure", "pair_visualization", "triplet_visualization"),
    ("image_stream", "image_pairs", "training_maps", "command_line"),
    ("image_hits", "ray_indexing", "image_gallery"),
    ("visualize_similarity", "search_gallery"),
)
ORDER = [module for floor in FLOORS for module in floor]
FRAMEWORKS = {"tensorflow", "keras", "tf_keras"}
BESIDE = {"benchmarks", "docs", "evaluation", "example_images", "tests"}  # nothing imports these


def sources(module):
    package = ROOT / module
    return sorted(package.rglob("*.py")) if package.is_dir() else [ROOT / f"{module}.py"]


def imported(path):
    """Return the top-level names that a file imports, at its beginning or inside of a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add(node.module.partition(".")[0])
    return names


def test_every_module_has_its_floor():
    modules = {path.stem for path in ROOT.glob("*.py")}
    modules |= {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert modules - BESIDE == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_imports_run_down_only(module):
    above = set(ORDER[ORDER.index(module) + 1 :]) | BESIDE
    for path in sources(module):
        assert not imported(path) & above, path


@pytest.mark.parametrize("module", ORDER)
def test_only_networks_and_the_callback_import_a_framework(module):
    for path in sources(module):
        if module not in ("models", "training_maps"):
            assert not imported(path) & FRAMEWORKS, path


@pytest.mark.parametrize("extra", ["gallery", "ray"])
def test_extras_are_those_of_the_requirements(extra):
    lines = (ROOT / f"requirements-{extra}.txt").read_text("utf-8").splitlines()
    needed = [line.partition("  #")[0] for line in lines if line[0] not in "#-"]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (listed,) = re.findall(rf"^{extra} = (\[.*\])$", project, re.M)
    assert [each for each in ast.literal_eval(listed) if "similarity" not in each] == needed
