"""Weights from files, which may come from strangers: nothing that they hold is run."""

import hashlib
import io
import math
import pickle
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from simvis.models.checkpoint_index import check_index

MAX_BYTES = 2**30  # of a weights file; those that this project reads have under 200 MB
MAX_HEADERS = 2**20  # bytes of a .npz file besides its arrays


def read_torch_state_dict(path, sha256):
    """Read a state dict that torch saved in its old, non-zip format, without torch.

    The format is a sequence of five pickles (magic number, protocol version, system information,
    the state dict with references into storages, the storages' keys), then each storage as an
    int64 count and raw little-endian data.  A pickle is a program.  So only a known file is read,
    and it gets nothing but what a state dict asks for.

    It returns a dict of names to float32 or int64 arrays.  A FileNotFoundError, or a ValueError if
    it is another file than the one of this SHA-256, names the file.
    """
    data = _checked(path).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise ValueError(f"{path}: its SHA-256 is {found}, expected {sha256}")
    file, storages = io.BytesIO(data), {}
    _magic, _protocol, _system, tensors, keys = (_Unpickler(file).load() for _ in range(5))
    dtypes = {key: dtype for (key, dtype), *_ in tensors.values()}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(data, dtypes[key], count, file.tell())
        file.seek(storages[key].nbytes, io.SEEK_CUR)
    arrays = {}
    for name, ((key, dtype), offset, size, stride) in tensors.items():
        width = storages[key].itemsize
        steps = [width * step for step in stride]
        arrays[name] = np.ndarray(size, dtype, storages[key], width * offset, steps)
    return arrays


def read_tensorflow_variables(prefix, expected, scope=""):
    """Read variables from a checkpoint that TensorFlow wrote, version 1 included.

    Parameters
    ----------
    prefix : str or Path
        What the names of the checkpoint's files begin with.  Errors name it; one that there is none
        is a FileNotFoundError.
    expected : dict of str to shapes
        Every variable that must be there, for `check_names_and_shapes`.
    scope : str
        What stands before these names in the checkpoint.

    Returns
    -------
    arrays : dict of str to float32 arrays, named as in expected
    ignored : int
        How many variables besides these the checkpoint holds.
    """
    with _damage_named(prefix):
        check_index(prefix)
        reader = tf.train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    found = {name: tuple(shapes[scope + name]) for name in expected if scope + name in shapes}
    check_names_and_shapes(found, expected, prefix)
    dtypes = {name: dtypes[scope + name] for name in expected}
    wrong = [f"{name} is {dtype.name}" for name, dtype in dtypes.items() if dtype != tf.float32]
    if wrong:
        raise ValueError(f"{prefix}: expected float32 variables, but {'; '.join(wrong)}")
    with _damage_named(prefix):
        arrays = {name: reader.get_tensor(scope + name) for name in expected}
    return arrays, len(shapes) - len(arrays)


def read_npz(path, expected):
    """Read arrays from a ``.npz`` archive that must hold just what is expected.

    Nothing is unpickled, and no more is unpacked than what is expected could take.

    What is expected, names to (shape, dtype), is returned as names to arrays, in its order.  A
    ValueError names the file, and all arrays that are missing, unexpected, misshapen, of another
    dtype or not finite; a FileNotFoundError the file that is not there.
    """
    path = _checked(path)
    size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in expected.values())
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it holds two arrays of one name")
        if sum(member.file_size for member in members) > 2 * size + MAX_HEADERS:
            raise ValueError("it unpacks to more than twice what is expected")
        with np.load(path, allow_pickle=False) as archive:
            found = {name: np.asarray(archive[name]) for name in archive}
    except Exception as error:  # a damaged archive raises nearly anything
        raise ValueError(f"{path}: not a readable .npz archive: {error}") from None
    shapes = {name: shape for name, (shape, _dtype) in expected.items()}
    check_names_and_shapes({name: array.shape for name, array in found.items()}, shapes, path)
    wrong = [
        f"{name} is {found[name].dtype}, expected {np.dtype(dtype)}"
        for name, (_shape, dtype) in expected.items()
        if found[name].dtype != dtype
    ] or [
        f"{name} has infinite values or NaN"
        for name, array in found.items()
        if not np.isfinite(array).all()
    ]
    if wrong:
        raise ValueError(f"{path}: {'; '.join(wrong)}")
    return {name: found[name] for name in expected}


def _checked(path):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: over {MAX_BYTES} bytes, too large for a weights file")
    return path


@contextmanager
def _damage_named(prefix):
    """Turn whatever the checkpoint reader raises into one error that names the prefix."""
    try:
        yield
    except tf.errors.NotFoundError:
        raise FileNotFoundError(f"{prefix}: no checkpoint, or only a part of one") from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{prefix}: a damaged checkpoint, or none: {reason}") from None


def check_names_and_shapes(found, expected, source):
    """Raise a ValueError that lists every entry missing, unexpected or misshapen in found.

    Both are names to shapes; None in one that is expected stands for any length from 1 to 65536.
    The error calls the place that they were read from source.

    Examples
    --------
    >>> check_names_and_shapes({"kernel": (3, 2)}, {"kernel": (None, 2), "bias": (2,)}, "file")
    Traceback (most recent call last):
    ValueError: file: 1 of its variables do not fit the network: missing bias
    """
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in expected]
    problems += [
        f"{name} has shape {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and not _fits(found[name], shape)
    ]
    if problems:
        raise ValueError(
            f"{source}: {len(problems)} of its variables do not fit the network: "
            f"{'; '.join(problems)}"
        )


def _fits(found, expected):
    return len(found) == len(expected) and all(
        1 <= length <= 65536 if wanted is None else length == wanted
        for length, wanted in zip(found, expected, strict=True)
    )


class _Unpickler(pickle.Unpickler):
    """An unpickler that admits tensors and ordered dictionaries and nothing else."""

    def find_class(self, module, name):
        if (module, name) not in _TORCH:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")
        return _TORCH[module, name]

    def persistent_load(self, reference):
        _storage, dtype, key, _device, _count, _view = reference
        return key, dtype


_TORCH = {  # what a state dict asks for, and what it gets
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda *values: values[
        :4
    ],  # storage, offset, size, stride
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}
