"""A folder's images through a network, into the rows of a gallery's table."""

import time
from typing import NamedTuple

from simvis.batch.pipeline import BATCH_SIZE, prefetch, stream_activations
from simvis.gallery.table import row_of

SECONDS = 4  # between commits
MANY = 500  # images from which on it pays to bring a network to another engine
COMMITS = 64  # between two times that small files are merged


def embed_rows(images, listed, paths, network, batch_size=BATCH_SIZE):
    """Yield the `table.Row` of each of the paths in an ImageFolder, listed as path to `File`."""
    from threadpoolctl import threadpool_limits

    def run(batch):
        _, embeddings = network.run(batch, need="embeddings")
        return embeddings, embeddings  # of activations there is no need

    # BLAS's own threads would wait for the next small product on the cores that the network needs
    with threadpool_limits(1, "blas"):
        stream = stream_activations(paths, run, network, images.load, batch_size, images.readers)
        for path, (_, embedding, size, error, contents) in zip(paths, stream, strict=True):
            yield row_of(path, listed[path], embedding, size, error, contents)


class Plan(NamedTuple):
    """What is to be done with a gallery so that it is of a folder as that is now."""

    new: set  # paths that are not in the table, but for those that were moved
    changed: set  # paths that are, of files that were other ones
    gone: set  # paths in the table that are not there any more
    moved: dict  # of new paths to the `table.Row` of one that is gone and had the same contents
    left: list  # paths of images to be embedded
    held: int  # how many images the table has embeddings of
    changes: int  # how many of them would be embedded anew
    losses: int  # how many of them would go


def plan_changes(table, images, listed, unread):
    """Return the `Plan` for a folder's listing; files that were only touched get their new times.

    table : ImageTable
    images : ImageFolder
    listed, unread : as in `files.Listing`
    """
    known, failed = table.files(), table.failed()
    new, gone = listed.keys() - known.keys(), known.keys() - listed.keys()
    # what lies where it cannot be looked at is not gone
    closed = tuple(path for path in unread if path.endswith("/"))
    gone = {path for path in gone - unread.keys() if not path.startswith(closed)}
    moved = _find_moved(table, images, listed, new, gone)
    elsewhere = table.identity["folder"] != images.place
    changed = {path for path in listed.keys() & known.keys() if listed[path] != known[path]}
    # of a file at a URI nothing but its contents tells that it is the one of another place
    unsure = {path for path in listed if elsewhere and not listed[path].changed} & known.keys()
    asked = sorted(changed | unsure | (failed.keys() & listed.keys()))
    touched = keep_touched(table, images, listed, asked)
    left = sorted((new - moved.keys()).union(asked) - touched)
    held = known.keys() - failed.keys()
    return Plan(
        new=new - moved.keys(),
        # what failed before and is as it was has not changed, though it is tried again
        changed=(changed | (unsure - failed.keys())).intersection(left),
        gone=gone,
        moved=moved,
        left=left,
        held=len(held),
        changes=len(held.intersection(left)),
        losses=len(held & gone - {row.path for row in moved.values()}),
    )


def keep_touched(table, images, listed, changed):
    """Give the rows of files that were only touched their new times; return the set of these."""

    def is_touched(row):
        try:
            return row.size == listed[row.path].size and images.digest(row.path) == row.contents
        except (ValueError, OSError):
            return False

    kept = set()
    for start in range(0, len(changed), 1000):
        part = table.rows(changed[start : start + 1000]).values()
        rows = [row for row in part if row.error is None]
        answers = prefetch(is_touched, rows, 4 * images.readers, images.readers)
        touched = [row for row, same in zip(rows, answers, strict=True) if same]
        if touched:
            table.put([row._replace(**listed[row.path]._asdict()) for row in touched])
        kept.update(row.path for row in touched)
    return kept


def put_moved(table, moved):
    """Give new files the rows of those that are gone; return a dict of path to (label, mask)."""
    rows, labels = [row._replace(path=path) for path, row in moved.items()], {}
    for start in range(0, len(rows), 1000):
        table.put(rows[start : start + 1000])
    labels = {row.path: (row.label, row.mask) for row in rows}
    table.set_labels(labels)
    return labels


def _find_moved(table, images, listed, new, gone):
    """Return a dict of new paths to the rows of those that are gone and held the same."""
    rows = [row for row in table.rows(gone).values() if row.error is None] if new and gone else []
    sizes, by_contents = {row.size for row in rows}, {row.contents: row for row in rows}

    def row_of(path):
        try:
            return by_contents.get(images.digest(path))
        except (ValueError, OSError):
            return None

    alike = sorted(path for path in new if listed[path].size in sizes)
    found = zip(alike, prefetch(row_of, alike, 4 * images.readers, images.readers), strict=True)
    return {path: row._replace(**listed[path]._asdict()) for path, row in found if row is not None}


def quickest(network, count, batch_size):
    """Return a network as it is run for so many images: in LiteRT, if that can be, for many."""
    if count < MANY or batch_size > 1 or network.functions_by is None:
        return network
    from simvis.models.litert import in_litert

    return in_litert(network)


def note_engine(table, engine):
    """Let the table say that an engine has made some of its rows, if it knows of all others."""
    engines = table.identity.get("engines")
    if engines is not None and engine not in engines:
        table.set_identity({**table.identity, "engines": sorted({*engines, engine})})


def commit(table, rows):
    """Put rows into the table as they come, and merge small files now and then."""
    for commits, waiting in enumerate(every_few_seconds(rows), 1):
        table.put(waiting)
        if commits % COMMITS == 0:
            table.maintain()


def every_few_seconds(values):
    """Yield lists of values, every few seconds those that have come.

    Examples
    --------
    >>> list(every_few_seconds("abc"))
    [['a', 'b', 'c']]
    """
    waiting, last = [], time.monotonic()
    for value in values:
        waiting.append(value)
        if time.monotonic() - last > SECONDS:
            yield waiting
            waiting, last = [], time.monotonic()
    if waiting:
        yield waiting
