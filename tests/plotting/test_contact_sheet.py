"""The contact sheet: names in their own letters."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from conftest import HOSTILE, ROOT
from PIL import ImageFont

from simvis.plotting.contact_sheet import contact_sheet
from simvis.plotting.letters import letters

PICTURE = np.zeros((90, 120, 3), np.uint8)


def sheet(name):
    return contact_sheet(PICTURE, "query", "words", [(PICTURE, "1   0.9", name, "")])


@pytest.mark.parametrize("name", ["Ünïcödé.jpg", "Жук.png", "Ελλάδα", "שלום", "ñ", "😀"])
def test_letters_are_drawn_and_told_apart(name):
    text, font = letters(name, 14)
    assert text == name and font.getname()[0] == "DejaVu Sans"
    # no letter is the box that stands for one that the font lacks
    lacking = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(letter)) != lacking for letter in text)
    assert not np.array_equal(sheet(name), sheet("?" * len(name)))


def test_composed_and_decomposed_names_look_alike():
    name = "Zoë Ünïcödé.jpg"
    assert letters(unicodedata.normalize("NFD", name), 14)[0] == name
    assert np.array_equal(sheet(unicodedata.normalize("NFD", name)), sheet(name))


def test_what_the_font_lacks_is_spelled():
    assert letters("日 a\x1b", 14)[0] == "\\u65e5 a\\x1b"
    assert letters("\udcff", 14)[0] == "\\udcff"
    assert letters(" plain\n name.jpg ", 14)[0] == "plain name.jpg"
    assert letters("plain", 14)[1].getname() == ImageFont.load_default(14).getname()
    contact_sheet(PICTURE, HOSTILE * 9, HOSTILE * 9, [(None, "1", HOSTILE * 9, HOSTILE)] * 3)


def test_names_cost_no_import_of_matplotlib():
    code = "import sys; from simvis.plotting.letters import letters; letters('é', 14)"
    code += "; print('matplotlib' in sys.modules, 'fontTools' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "False True\n", run.stderr
