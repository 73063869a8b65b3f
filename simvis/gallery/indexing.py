"""A folder's images through a network, into the rows of a gallery's table."""

import time

from simvis.batch.pipeline import BATCH_SIZE, prefetch, stream_activations
from simvis.gallery.table import row_of

SECONDS = 4  # between commits
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
