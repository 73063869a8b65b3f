"""The notebook, executed from top to bottom: it runs, and prints what it says on the page."""

import re

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from numpy.testing import assert_allclose

PATH = ROOT / "notebooks" / "similarity_walkthrough.ipynb"
NUMBER = re.compile(r"-?\d+\.\d+")


def texts_and_pictures(cell):
    """Return what a cell printed and returned, and how many pictures it drew."""
    texts = [output.get("text", "") for output in cell.outputs]
    data = [output.get("data", {}) for output in cell.outputs]
    return "".join(texts + [d.get("text/plain", "") for d in data]), [
        d for d in data if "image/jpeg" in d
    ]


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(PATH, as_version=4)


@pytest.mark.slow
def test_it_runs_and_shows_what_is_committed(committed):
    executed = nbformat.read(PATH, as_version=4)
    for cell in executed.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(executed, timeout=300, resources={"metadata": {"path": PATH.parent}}).execute()
    for cell, expected in zip(executed.cells, committed.cells, strict=True):
        if cell.cell_type == "code":
            text, pictures = texts_and_pictures(cell)
            expected_text, expected_pictures = texts_and_pictures(expected)
            assert NUMBER.sub("#", text) == NUMBER.sub("#", expected_text), cell.source
            values, expected_values = (
                [float(value) for value in NUMBER.findall(t)] for t in (text, expected_text)
            )
            assert_allclose(values, expected_values, atol=1e-3)
            assert len(pictures) == len(expected_pictures)


def test_it_is_small_and_says_nothing_of_a_machine(committed):
    text = PATH.read_text()
    assert PATH.stat().st_size < 400_000
    assert "/home/" not in text and str(ROOT) not in text
    assert '"image/jpeg"' in text and text.count("<img src=") >= 4
    assert all(not cell.metadata for cell in committed.cells)
