"""The benchmarks' tables can be read again, and two runs of them be compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import TABLES, table
from benchmarks.__main__ import main
from benchmarks.compare import changes, read_tables

cells = st.text("abc 7x,.%", min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.lists(cells, min_size=3, max_size=3), max_size=4))
def test_what_is_printed_is_read_again(rows):
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *lines, **_: printed.extend(lines))
        for title in ("one", "another, of 2"):
            table(title, ("", "cost", "size"), rows)
    expected = [(title, ["", "cost", "size"], rows) for title in ("one", "another, of 2")]
    assert read_tables("\n".join(printed)) == TABLES[-2:] == expected


def test_what_changed_is_told_and_what_is_no_number_is_not():
    def run(*costs):
        return [("T", ["", "cost"], [[str(i), cost] for i, cost in enumerate(costs)])]

    before = run("1.00x", "2 ms", "1,000 MB", "50%", "imagenet", "0", "5")
    now = run("1.09x", "1 ms", "1,500 MB", "100%", "rooms", "3", "5", "7")
    assert changes(before, now) == [
        ("T: 1, cost", "2 ms", "1 ms", "0.50"),
        ("T: 3, cost", "50%", "100%", "2.00"),
        ("T: 2, cost", "1,000 MB", "1,500 MB", "1.50"),
    ]


@pytest.mark.parametrize("text, words", [(None, "No such file"), ("x", "holds no table")])
def test_a_file_that_is_no_run_is_refused_before_anything_runs(tmp_path, capsys, text, words):
    if text:
        (tmp_path / "file").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["--compare", str(tmp_path / "file")])
    assert words in capsys.readouterr().err


def test_a_run_that_was_cut_short_is_compared_as_far_as_it_goes():
    (table,) = read_tables("### T\n\n| a | b | c |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n| 4 | 5")
    assert changes([table], [("T", ["a", "b", "c"], [["1", ",", "6"], ["4", "10", "1"]])]) == [
        ("T: 1, c", "3", "6", "2.00"),
        ("T: 4, b", "5", "10", "2.00"),
    ]
