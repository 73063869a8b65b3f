"""A search to keep and to hand on: a zip of all that was seen, and how to find it again."""

import io
import json
import platform
import shlex
import sys
import zipfile
from datetime import datetime, timezone

import numpy as np

from simvis import __version__
from simvis.gallery.results import TABLE
from simvis.pages.page import as_file

QUERY, PAGE = "query.png", "found.html"
README = """{title}

found.html         the hits in any browser, offline; a click opens the explorer of a pair
contact_sheet.jpg  the query and the hits, as one picture
results.csv        rank, path, similarity, box and note of each hit
hit_01.jpg, ...    each hit under its map
query.png          what was searched with; query_marked.jpg has the marks
search.json        versions, the gallery, the network and what was asked

To search again, in this folder, with search_gallery.py of version {version}:

{command}
"""


def make_report(result, question, answer, gallery, options):
    """Return a zip file, as bytes, of a search.

    Parameters
    ----------
    result : SearchResult, with the maps of its hits
    question, answer : questions.Question and desk.Answer that it is of
    gallery : Gallery
    options : list of str, of the network, as they were typed
    """
    asked = ["find", QUERY, "--gallery", gallery.path, *options, "--top", str(len(answer.found))]
    files = {
        PAGE: result.page(),
        TABLE: result.table(),
        **{name: as_file(pixels, "jpeg", quality=92) for name, pixels in result.pictures()},
        QUERY: as_file(answer.photo.pixels, "png", compress_level=1),
        "query_marked.jpg": as_file(result.marked_query(), "jpeg", quality=92),
    }
    for name, place in (("region", answer.region), ("ignore", answer.ignore)):
        if np.ndim(place) == 2:
            files[f"{name}.png"] = as_file(255 * place.astype(np.uint8), "png")
            asked += [f"--{name}", f"{name}.png"]
        elif place is not None:
            asked += [f"--{name}", ",".join(f"{edge:.10g}" for edge in place)]
    asked += ["--fine"] * question.fine
    for name in ("label", "not_label"):
        for text in getattr(question, name):
            asked += [f"--{name.replace('_', '-')}={text}"]
    for name in ("like", "unlike"):
        paths = getattr(answer, name)
        asked += [f"--{name}", *paths] * bool(paths)
    command = shlex.join(["python", "search_gallery.py", *asked, "--html", "found_again.html"])
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    says = {
        "made": now,
        "version": __version__,
        "python": platform.python_version(),
        **{name: sys.modules[name].__version__ for name in ("numpy", "PIL")},
        "query": result.name,
        "gallery": gallery.info(),
        "network": f"{result.network.name}: {result.network.description}",
        "command": command,
    }
    words = {"title": f"What looks like {result.name}? {now}", "version": __version__}
    files["search.json"] = json.dumps(says, indent=1).encode()
    files["README.txt"] = README.format(**words, command=command).encode("utf-8", "replace")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()
