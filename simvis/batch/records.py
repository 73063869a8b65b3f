"""What many pairs leave in a folder: scores.csv, settings.json and index.html."""

import csv
import io
import json
import os
import re
from functools import lru_cache
from pathlib import Path

from simvis.files import LOCK, unchanged
from simvis.image_ops import write_whole
from simvis.pages.cards import Card, write_cards

# How a cell begins that a spreadsheet runs; those that begin with apostrophes before that get one,
# too, so that the first one can always be taken off.
FORMULA = r"'*[=+\-@\t\r\n]"
TEXTS = "image1", "image2", "error"  # cells of scores.csv that are not the program's own words
SCORES = ("similarity", "whole_similarity", "network_similarity")
FIELDS = ("pair", "image1", "image2", *SCORES, "error", "contents1", "contents2")
# A path may hold bytes that are no text.
TEXT = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


def file_stem(number, pair):
    """Return what the names of a pair's files begin with.

    Examples
    --------
    >>> file_stem(7, ("rooms/a b.jpg", "rooms/c.png"))
    '00007_a_b_c'
    """
    # a letter takes up to four bytes, and a file's name 255
    stems = (re.sub(r"[^\w.-]+", "_", Path(path).stem)[:28] for path in pair)
    return "_".join((f"{number:05d}", *stems))


def resume(folder, settings, pairs, endings):
    """Begin, or go on with, a folder of results; return the rows that need not be made again.

    This process owns the folder, see `files.locked`.  The settings are what the results depend on
    besides the pairs, a dict of a number to (path, path); ``endings`` are those of the files that
    each finished pair has.  Raises a ValueError if the folder holds anything else.
    """
    settings = json.loads(json.dumps(settings, default=str))
    if not (folder / "settings.json").exists():
        if any(path.name != LOCK for path in folder.iterdir()):
            raise ValueError(f"{folder}: holds other files, name a new folder with --output")
        content = json.dumps(settings, indent=1).encode()
        write_whole(folder / "settings.json", lambda file: file.write(content))
    else:
        _compare(settings, folder)
    for name in ("settings.json", "scores.csv", "index.html", "[0-9]*_*"):
        for left_behind in folder.glob(f".{name}.*.tmp"):  # by a run that was killed
            left_behind.unlink()
    finished, same = [], lru_cache(maxsize=None)(unchanged)
    for row in read_scores(folder):
        number = int(row["pair"])
        if (row["image1"], row["image2"]) != pairs.get(number):
            raise ValueError(f"{folder}: holds results of other pairs, name a new folder")
        stem = file_stem(number, pairs[number])
        if (
            not row["error"]
            and all((folder / f"{stem}{ending}").is_file() for ending in endings)
            and all(same(row[f"image{i}"], row[f"contents{i}"]) for i in (1, 2))
        ):
            finished.append(row)
    write_scores(folder, finished)
    return finished


def _compare(settings, folder):
    """Raise a ValueError that names what is another than in settings.json."""
    path = folder / "settings.json"
    try:
        before = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path}: damaged, delete its folder or name a new one") from None
    settings = {**settings, "version": before.get("version")}  # another version may go on
    names = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if names:
        raise ValueError(
            f"{folder}: holds results of other arguments (settings.json, {', '.join(names)[:200]}),"
            " name a new folder with --output, or delete this one"
        )


def read_scores(folder):
    """Return the rows of scores.csv, but for the half of one that a killed run may have left.

    A ValueError names a row whose scores are no cosines, or that has no error and no score.
    """
    path = folder / "scores.csv"
    if not path.is_file():
        return []
    with open(path, **TEXT) as file:
        text = file.read()
    whole = io.StringIO(text[: text.rfind("\r\n") + 2], newline="")
    read = {}
    try:
        rows = list(csv.DictReader(whole, FIELDS))[1:]
        for row in rows:
            row.update({name: from_text(row[name]) for name in TEXTS})
            wanted = () if row["error"] else SCORES[:2]
            scores = [float(row[name]) for name in SCORES if row[name] or name in wanted]
            number = int(row["pair"])
            if set(row) != set(FIELDS) or number in read or not 0 < number < 10**9:
                raise ValueError
            if not all(abs(score) <= 1.001 for score in scores):  # nan is not either
                raise ValueError
            read[number] = row
    except (ValueError, TypeError, csv.Error):
        words = f"damaged in row {len(read) + 2}, delete its folder or name a new one"
        raise ValueError(f"{path}: {words}") from None
    return rows


def write_scores(folder, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerow(FIELDS)
    write_rows(text, rows)
    content = text.getvalue().encode(TEXT["encoding"], TEXT["errors"])
    write_whole(folder / "scores.csv", lambda file: file.write(content))


def write_rows(file, rows):
    """Append rows to a file of scores.csv, with nothing in them that a spreadsheet would run."""
    writer = csv.DictWriter(file, FIELDS)
    for row in rows:
        writer.writerow({**row, **{name: as_text(row[name]) for name in TEXTS}})


def as_text(cell):
    """Return a cell of a CSV file such that a spreadsheet takes it for text, and not for a formula.

    Examples
    --------
    >>> as_text("=1+1"), as_text("'=1+1"), as_text("a.png")
    ("'=1+1", "''=1+1", 'a.png')
    """
    return f"'{cell}" if re.match(FORMULA, cell) else cell


def from_text(cell):
    """Return what `as_text` was given.

    Examples
    --------
    >>> from_text("'=1+1"), from_text("'a.png")
    ('=1+1', "'a.png")
    """
    return cell[1:] if re.match("'" + FORMULA, cell) else cell


def write_index(folder, rows, words, pictures=True):
    """Write a page of the rows of scores.csv, the most similar first, and failures at its end."""
    paths = [row[name] for row in rows for name in ("image1", "image2")]
    common = os.path.commonprefix(paths).rfind(os.sep) + 1  # letters of the folder of all

    def card(row):
        name = f"{row['image1'][common:]} and {row['image2'][common:]}"
        if row["error"]:
            return Card(name, None, notes=(row["error"],))
        notes, picture = (), None
        if row["whole_similarity"] != row["similarity"]:
            notes = (f"{float(row['whole_similarity']):.4f} of the whole images",)
        if pictures:
            picture = f"{file_stem(int(row['pair']), (row['image1'], row['image2']))}.jpg"
        return Card(name, float(row["similarity"]), notes=notes, picture=picture)

    cards = [card(row) for row in rows]
    cards.sort(key=lambda card: (card.similarity is None, -(card.similarity or 0)))
    words += f"; {sum(card.similarity is not None for card in cards)} of {len(rows)} pairs"
    write_cards(folder / "index.html", cards, title="Which pairs are similar?", words=words)
