"""The table of a gallery: images, their embeddings, and why others have none, in Lance.

A folder GALLERY holds the dataset ``images.lance``, which LanceDB opens as the table "images".
Every change is one commit, which is there or not, whatever happens meanwhile.
"""

import json
import operator
import os
import re
from contextlib import contextmanager
from datetime import timedelta
from functools import reduce
from typing import NamedTuple

import numpy as np

from simvis.decoding import stderr_dropped
from simvis.files import File

NAME = "images.lance"
IDENTITY = b"similarity-visualization"  # of the metadata that say what the embeddings are
# Up to so many images a search looks at all of them; beyond, it asks an index (IVF, RaBitQ).
EXACT = 20_000
PARTITION = 8192  # images in a partition of the index, about
PROBES = 56  # partitions that a search looks into, or 9 of 20 if that is more
REFINE = 3  # so many times the images that are wanted are compared exactly
REBUILD = 2  # an index is built anew if it should have so many times its partitions
FRAGMENT = 2**16  # rows of a file that compaction leaves alone
OPTIONAL = "error", "embedding", "changed", "label", "mask"  # columns
LATER = "changed", "label", "mask"  # columns that galleries of earlier versions lack
LABELS = "label", "mask"  # columns that `set_labels` writes, and nothing else
LARGEST = 2**16  # numbers of an embedding
KEPT = timedelta(hours=1)  # how long versions are kept, for those who are reading them


class Row(NamedTuple):
    """What is known of an image."""

    path: str  # in the folder of images, with slashes
    size: int  # bytes
    modified: int  # nanoseconds since 1970
    contents: str  # SHA-256 of the file, "" if it could not be read
    width: int  # pixels, 0 if it could not be read
    height: int
    error: str | None  # why it has no embedding
    embedding: np.ndarray | None  # float32 (D,), of unit length
    changed: str | None = None  # the file's inode and its time, see `files.File`
    label: str | None = None  # what it shows, for whoever asks
    mask: str | None = None  # of what it shows, a path in the folder of images


class ImageTable:
    """The rows of a gallery.

    uri : str, of the gallery, a folder or what Lance takes for one, as ``s3://bucket/gallery``
    identity : dict, what the embeddings are of: the network and the folder

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = ImageTable.create(folder, {"network": "none"}, dimension=2)
    ...     table.put([Row("a.png", 9, 9, "", 4, 3, None, np.float32([0.6, 0.8]))])
    ...     [(path, round(similarity, 6)) for path, similarity in table.nearest([1, 0], 5)]
    [('a.png', 0.6)]
    """

    def __init__(self, uri):
        self.uri, self.lance = str(uri), import_lance()
        if os.path.isfile(self.uri):
            raise ValueError(f"{self.uri}: is a file, a gallery is a folder")
        with self._in_words():
            try:
                self.dataset = self.lance.dataset(f"{self.uri}/{NAME}")
            except (ValueError, OSError) as error:
                if "not found" not in str(error):
                    raise
                words = f"{self.uri}: no gallery, make one with index FOLDER"
                raise FileNotFoundError(words) from None
            if self.dataset.base_paths():  # which opening has not asked yet, but reading would
                raise ValueError("it names files outside of its folder, which are not opened")
            schema = self.dataset.schema
            self.identity = dict(json.loads(schema.metadata[IDENTITY]))
            self.dimension = schema.field("embedding").type.list_size
            whole = {field.name: field for field in _schema(self.dimension)}
            found = {field.name: field for field in schema}
            if found | {name: whole[name] for name in LATER} != whole:
                raise ValueError("its columns are others")
            if not 0 < self.dimension <= LARGEST:
                raise ValueError("its embeddings are too long")

    @classmethod
    def create(cls, uri, identity, dimension):
        """Make an empty table in a gallery that has none."""
        table = cls.__new__(cls)
        table.uri, schema = str(uri), _schema(dimension)
        schema = schema.with_metadata({IDENTITY: json.dumps(identity)})
        with table._in_words("cannot be written"):
            import_lance().write_dataset([], f"{uri}/{NAME}", schema=schema, mode="create")
        return cls(uri)

    @classmethod
    def exists(cls, uri):
        try:
            cls(uri)
        except FileNotFoundError:
            return False
        return True

    def __len__(self):
        """The number of images that have an embedding."""
        with self._in_words():
            return self.dataset.count_rows("error IS NULL")

    def files(self):
        """Return a dict of path to `files.File` of all images, those without embedding too."""
        with self._in_words():
            table = self.dataset.to_table(columns=self._columns("path", *File._fields))
        path, *file = (table.column(name).to_pylist() for name in table.column_names)
        return dict(zip(path, map(File, *file), strict=True))

    @property
    def state(self):
        """What is another once the table is changed, or made anew."""
        fragments = self.dataset.get_fragments()
        return self.dataset.version, tuple(each.metadata.files[0].path for each in fragments)

    def paths(self, text=""):
        """Return the paths that hold a text, in either case, of images with an embedding, sorted.

        They are an Arrow array.
        """
        import pyarrow.compute as pc

        with self._in_words():
            found = self.dataset.to_table(columns=["path"], filter="error IS NULL").column("path")
        found = found.filter(pc.match_substring(found, text, ignore_case=True))
        return found.take(pc.sort_indices(found)).combine_chunks()

    def failed(self):
        """Return a dict of path to why it has no embedding, of those that have none."""
        with self._in_words():
            table = self.dataset.to_table(columns=["path", "error"], filter="error IS NOT NULL")
        return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def labels(self):
        """Return a dict of path to (label, mask) of the images that have one or both of them."""
        names = self._columns(*LABELS)
        if not names:
            return {}
        chosen = " OR ".join(f"{name} IS NOT NULL" for name in names)
        with self._in_words():
            table = self.dataset.to_table(columns=["path", *names], filter=chosen)
        path, *both = (table.column(name).to_pylist() for name in table.column_names)
        both += [[None] * len(path)] * (len(LABELS) - len(both))
        return dict(zip(path, zip(*both, strict=True), strict=True))

    def set_labels(self, labels):
        """Give images their labels and masks, a dict of path to (label, mask), of str or None.

        Paths that the table does not hold do not matter.
        """
        import pyarrow as pa

        before, held = self.labels(), self.files()
        new = {
            path: both
            for path, both in labels.items()
            if path in held and before.get(path, (None, None)) != both
        }
        if not new:
            return
        columns = dict(zip(LABELS, zip(*new.values(), strict=True), strict=True))
        schema = pa.schema([(name, pa.string()) for name in ("path", *LABELS)])
        with self._writing():
            merge = self.dataset.merge_insert("path").when_matched_update_all()
            merge.execute(pa.table({"path": list(new), **columns}, schema=schema))

    def embedded(self):
        """Return all that have an embedding: their paths, contents and embeddings, (N, D)."""
        count, texts, done = len(self), ([], []), 0
        vectors = np.empty((count, self.dimension), np.float32)
        with self._in_words():
            columns = ["path", "contents", "embedding"]
            for batch in self.dataset.to_batches(columns=columns, filter="error IS NULL"):
                vectors[done : done + len(batch)] = _vectors(batch.column(2), self.dimension)
                done += len(batch)
                for text, column in zip(texts, batch.columns, strict=False):
                    text.extend(column.to_pylist())
            lengths = np.einsum("ij,ij->i", vectors, vectors)
            if not (np.abs(lengths - 1) < 1e-3).all():
                raise ValueError("an embedding has not the length 1")
        return *(np.array(text, object) for text in texts), vectors[:done]

    def sample(self, count):
        """Return the embeddings, float32 (n, D), of so many images, or of all, drawn at random."""
        with self._in_words():
            rows = self.dataset.count_rows()
            chosen = np.random.default_rng(0).choice(rows, min(count, rows), replace=False)
            column = self.dataset.take(np.sort(chosen).tolist(), columns=["embedding"]).column(0)
        return _vectors(column.drop_null(), self.dimension)

    def rows(self, paths):
        """Return a dict of path to `Row`, of those of the paths that there are."""
        import pyarrow as pa
        import pyarrow.compute as pc

        chosen = pc.field("path").isin(pa.array(list(paths), pa.string()))
        with self._in_words():
            table = self.dataset.to_table(columns=self._columns(*Row._fields), filter=chosen)
        rows = [Row(**columns) for columns in table.to_pylist()]
        return {
            row.path: row._replace(embedding=row.embedding and np.float32(row.embedding))
            for row in rows
        }

    def upgrade(self):
        """Add the columns that a gallery of an earlier version lacks."""
        import pyarrow as pa

        missing = [name for name in LATER if name not in self.dataset.schema.names]
        if missing:
            with self._writing():
                self.dataset.add_columns(pa.schema(map(_schema(self.dimension).field, missing)))

    def put(self, rows):
        """Add rows, in the place of those of the same paths, which keep their labels."""
        with self._writing():
            merge = self.dataset.merge_insert("path").when_matched_update_all()
            table = arrow_table(rows, self.dimension).drop_columns(list(LABELS))
            merge.when_not_matched_insert_all().execute(table)

    def write(self, rows):
        """Write rows into a file, in any process, and return what `add` takes of it, a text."""
        from lance.fragment import write_fragments

        with self._in_words("cannot be written"):
            written = write_fragments(arrow_table(rows, self.dimension), self.dataset)
            return json.dumps([fragment.to_json() for fragment in written])

    def add(self, written):
        """Add the rows that `write` wrote, whose paths the table must not hold, in one commit."""
        from lance.fragment import FragmentMetadata

        with self._writing():
            parts = [json.dumps(part) for text in written for part in json.loads(text)]
            append = self.lance.LanceOperation.Append(list(map(FragmentMetadata.from_json, parts)))
            version = self.dataset.version
            self.lance.LanceDataset.commit(self.dataset, append, read_version=version)

    def drop(self, paths):
        """Remove the rows of paths."""
        import pyarrow.compute as pc

        paths = sorted(paths)
        with self._writing():
            for start in range(0, len(paths), 10_000):
                self.dataset.delete(pc.field("path").isin(paths[start : start + 10_000]))

    def set_identity(self, identity):
        with self._writing():
            self.dataset.update_schema_metadata({IDENTITY.decode(): json.dumps(identity)})
            self.identity = identity

    def nearest(self, vector, count, exact=False, label=(), not_label=()):
        """Return the images whose embeddings have the highest cosine with a vector, (D,), not zero.

        They are a list of (path, similarity), best first.  With ``exact``, it looks at all images,
        however many there are; with labels, at those that have one of them, or none of them.
        """
        unit = np.asarray(vector, np.float64) / np.linalg.norm(vector)
        # of unit vectors, the nearest ones are those with the highest cosine
        nearest = {"column": "embedding", "q": unit.astype(np.float32), "k": count, "metric": "l2"}
        index = None if exact else self._vector_index()
        if index is None:
            nearest["use_index"] = False
        else:
            partitions = max(1, index.num_rows_indexed // PARTITION)
            nearest |= {"nprobes": max(PROBES, 9 * partitions // 20), "refine_factor": REFINE}
        chosen = _of_labels(label, not_label)
        filtered = {} if chosen is None else {"filter": chosen, "prefilter": True}
        with self._in_words():
            # a column more, of so few rows, takes as long as the search
            table = self.dataset.to_table(
                columns=["path", "_distance"], nearest=nearest, **filtered
            )
        similarities = 1 - table.column("_distance").to_numpy() / 2
        return list(zip(table.column("path").to_pylist(), similarities.tolist(), strict=True))

    def maintain(self):
        """Take what was added into the index, if there is need of one, and merge small files."""
        with self._writing():
            self.dataset.optimize.compact_files(target_rows_per_fragment=FRAGMENT)
            self.dataset.checkout_latest()
            partitions, built = self.dataset.count_rows() // PARTITION, 0
            if self._vector_index():
                built = len(self.dataset.get_ivf_model("embedding_idx").centroids)
            if built and partitions < REBUILD * built:
                self.dataset.optimize.optimize_indices()
            elif built or self.dataset.count_rows() > EXACT:
                self.dataset.create_scalar_index("path", "BTREE", replace=True)
                options = {"metric": "l2", "num_partitions": max(1, partitions), "replace": True}
                self.dataset.create_index("embedding", "IVF_RQ", **options)
            self.dataset.cleanup_old_versions(KEPT)

    def storage(self):
        """Return how the table lies on disk, a dict of plain values."""
        with self._in_words():
            index, files = self._vector_index(), self.dataset.all_files()
            return {
                "bytes": sum(sum(part.column("size_bytes").to_pylist()) for part in files),
                "versions": len(self.dataset.versions()),
                "indexed": index.num_rows_indexed if index else 0,
            }

    def _columns(self, *names):
        return [name for name in names if name in self.dataset.schema.names]

    def _vector_index(self):
        """Return what Lance tells of the index of embeddings, None if there is none."""
        found = [each for each in self.dataset.describe_indices() if each.name == "embedding_idx"]
        return found[0] if found else None

    @contextmanager
    def _writing(self):
        """Change the table in the block, and see it changed after that."""
        with self._in_words("cannot be written"):
            yield
            self.dataset.checkout_latest()

    @contextmanager
    def _in_words(self, what="is damaged"):
        """Raise a ValueError, in one line, for what Lance fails at; its panics write to stderr."""
        try:
            with stderr_dropped():
                yield
        except FileNotFoundError:
            raise
        except BaseException as error:
            # Lance's own panics are no Exceptions
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            # without where in Lance's own code it was
            reason = re.sub(r", \S+\.rs:\d+:\d+.*", "", " ".join(str(error).split()))
            raise ValueError(f"{self.uri}: the gallery {what}: {reason[:200]}") from None


def _of_labels(label, not_label):
    """Return Arrow's condition that an image has one of some labels and none of others, or None."""
    import pyarrow.compute as pc

    column, conditions = pc.field("label"), []
    if label:
        conditions.append(column.isin(list(label)))
    if not_label:
        conditions.append(column.is_null() | ~column.isin(list(not_label)))
    return reduce(operator.and_, conditions) if conditions else None


def row_of(path, file, embedding, size, error, contents):
    """Return the `Row` of an image and its embedding, of any length, or of why it has none."""
    if not error:
        norm = float(np.linalg.norm(embedding.astype(np.float64)))
        if 0 < norm < np.inf:
            unit = (embedding / norm).astype(np.float32)
            place = path, file.size, file.modified, contents
            return Row(*place, size[1], size[0], None, unit, file.changed)
        error = "the network sees nothing in it: its embedding is zero, or not finite"
    error = " ".join(error.split())
    return Row(path, file.size, file.modified, contents, 0, 0, error, None, file.changed)


def arrow_table(rows, dimension):
    """Return rows as an Arrow table."""
    import pyarrow as pa

    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    vectors, empty = columns["embedding"], np.zeros(dimension, np.float32)
    flat = np.concatenate([empty if vector is None else vector for vector in vectors])
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(
        pa.array(flat), dimension, mask=pa.array([vector is None for vector in vectors])
    )
    return pa.table(columns, schema=_schema(dimension))


def _vectors(column, dimension):
    """Return a column of embeddings, none of them missing, as a float32 (N, D) array."""
    parts = [part.flatten().to_numpy() for part in getattr(column, "chunks", [column])]
    return np.concatenate([np.zeros(0, np.float32), *parts]).reshape(-1, dimension)


def _schema(dimension):
    import pyarrow as pa

    types = [pa.string(), pa.int64(), pa.int64(), pa.string(), pa.int32(), pa.int32(), pa.string()]
    types += [pa.list_(pa.float32(), dimension), pa.string(), pa.string(), pa.string()]
    fields = zip(Row._fields, types, strict=True)
    return pa.schema([pa.field(*each, nullable=each[0] in OPTIONAL) for each in fields])


def import_lance():
    os.environ.setdefault("LANCE_LOG", "error")
    os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
    try:
        import lance
    except ImportError as error:
        raise ValueError(needs(error.name)) from None
    return lance


def needs(module):
    """Return what to do if a module is missing that only galleries need."""
    return (
        f'a gallery needs {module}: pip install ".[gallery]" in a checkout, else '
        'pip install "similarity-visualization[gallery]"'
    )
