"""Weights from files that strangers made: read without running anything that they hold."""

import io
import math
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from simvis.models.checkpoint_index import check_index

MAX_BYTES = 2**30  # of a weights file; those that this project reads have under 200 MB
MAX_HEADERS = 2**20  # bytes of a file besides its arrays; a torch file has 150 for each array
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {("torch", "FloatStorage"): "<f4", ("torch", "LongStorage"): "<i8"}
_OPCODES = (  # what torch writes state dicts with
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD),
    *(pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.EMPTY_LIST, pickle.APPENDS),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINUNICODE),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BINPERSID, pickle.APPEND),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
)


def read_torch_state_dict(path):
    """Read a state dict that torch saved in its old, non-zip format, without torch.

    The format is a sequence of five pickles (magic number, protocol version, system information,
    the state dict with references into storages, the storages' keys), then each storage as an
    int64 count and raw little-endian data.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    arrays : dict of str to float32 or int64 arrays

    Raises
    ------
    FileNotFoundError
        Where there is no file.
    ValueError
        Names the file, where it is damaged, of another format, or asks for anything but tensors.
    """
    path = Path(path)
    _check_size(path)
    data = path.read_bytes()
    try:
        return _read_torch(data)
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split())[:200] or "it ends too early"
        raise ValueError(f"{path}: not a readable torch state dict: {reason}") from None


def read_tensorflow_variables(prefix, expected, scope=""):
    """Read variables from a checkpoint that TensorFlow wrote, version 1 included.

    Parameters
    ----------
    prefix : str or Path
        What the names of the checkpoint's files begin with.
    expected : dict of str to shapes
        Every variable that must be there; None in a shape stands for any length up to 65536.
    scope : str
        What stands before these names in the checkpoint.

    Returns
    -------
    arrays : dict of str to float32 arrays, named as in expected
    ignored : int
        How many variables besides these the checkpoint holds.

    Raises
    ------
    FileNotFoundError
        Where there is no checkpoint of this name.
    ValueError
        Names the prefix, where it is damaged, or all variables that are missing or misshapen.
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

    Parameters
    ----------
    path : str or Path
    expected : dict of str to (shape, dtype)

    Returns
    -------
    arrays : dict of str to arrays, in the order of expected

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        Names the file, and all arrays that are missing, unexpected, misshapen, of another dtype or
        not finite.
    """
    path = Path(path)
    _check_size(path)
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


def _check_size(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: over {MAX_BYTES} bytes, too large for a weights file")


@contextmanager
def _damage_named(prefix):
    """Turn what the checkpoint reader raises, which is nearly anything, into one named error."""
    try:
        yield
    except tf.errors.NotFoundError:
        raise FileNotFoundError(f"{prefix}: no checkpoint, or only a part of one") from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{prefix}: a damaged checkpoint, or none: {reason}") from None


def check_names_and_shapes(found, expected, source):
    """Raise a ValueError that lists every entry missing, unexpected or misshapen in found.

    Parameters
    ----------
    found, expected : dict of str to shapes
        None in an expected shape stands for any length from 1 to 65536.
    source : str or Path
        What the error calls the place that they were read from.

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


def _read_torch(data):
    head = io.BytesIO(data[:MAX_HEADERS])
    if _Unpickler(head).load() != _TORCH_MAGIC:
        raise ValueError("no magic number of torch's old format")
    _protocol, _system = _Unpickler(head).load(), _Unpickler(head).load()
    tensors, keys = _Unpickler(head).load(), _Unpickler(head).load()
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, _Tensor) for tensor in tensors.values()
    ):
        raise ValueError("it holds other things than tensors")
    storages = _read_storages(data, head.tell(), keys, tensors.values())
    return {name: _array(storages[tensor.storage.key], tensor) for name, tensor in tensors.items()}


class _Storage(NamedTuple):
    dtype: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple
    stride: tuple


class _Unpickler(pickle._Unpickler):
    """An unpickler that admits tensors and ordered dictionaries and nothing else.

    The pure-Python one is subclassed because the compiled one sizes its memo table by a number in
    the file, and so that opcodes can be left out.  What find_class returns has no attributes that
    a file could overwrite.  Nothing is hashed, compared or printed before its type is known:
    tuples of twice the same tuple, sixty deep, would take years.
    """

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return _empty
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) in _STORAGES:
            return _STORAGES[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

    def persistent_load(self, reference):
        # ("storage", dtype, key, device, count, view)
        if len(reference) != 6 or not all(isinstance(each, str) for each in reference[:3]):
            raise pickle.UnpicklingError("unknown reference")
        kind, dtype, key, *_ = reference
        if kind != "storage" or dtype not in _STORAGES.values():
            raise pickle.UnpicklingError(f"unknown reference {kind!r}")
        return _Storage(dtype, key)

    def load_setitems(self):
        items = self.pop_mark()
        self.set(items)

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self.set([key, value])

    def set(self, items):
        if not isinstance(self.stack[-1], dict) or not all(isinstance(k, str) for k in items[::2]):
            raise pickle.UnpicklingError("a name is no text")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def load_build(self):
        self.stack.pop()  # versions of torch's modules, as attributes of the dictionary

    def load_unknown(self):
        raise pickle.UnpicklingError("it holds other things than tensors")

    dispatch |= {pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems}
    dispatch |= {pickle.BUILD[0]: load_build}
    dispatch = defaultdict(lambda unknown=load_unknown: unknown, dispatch)


def _empty():
    return OrderedDict()


def _rebuild(storage, offset, size, stride, *_):
    """Return a tensor, from (storage, offset, size, stride, requires_grad, hooks)."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(type(each) is int for each in numbers):
        raise ValueError("a tensor's size and stride are no numbers")
    return _Tensor(storage, offset, size, stride)


def _read_storages(data, place, keys, tensors):
    dtypes = {tensor.storage.key: np.dtype(tensor.storage.dtype) for tensor in tensors}
    storages = {}
    for key in keys:
        dtype = dtypes[key]
        count = int.from_bytes(data[place : place + 8], "little", signed=True)
        place += 8
        if not 0 <= count * dtype.itemsize <= len(data) - place:
            raise ValueError("the file ends in the middle of its data")
        storages[key] = np.frombuffer(data, dtype, count, place)
        place += count * dtype.itemsize
    return storages


def _array(data, tensor):
    size, stride, offset = tensor.size, tensor.stride, tensor.offset
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    # A view must stay inside of its storage, and a file must not ask for more than it holds.
    if min((offset, *size, *stride)) < 0 or math.prod(size) > len(data) or last >= len(data):
        raise ValueError("a tensor leaves its storage")
    steps = [step * data.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(data[offset:], size, steps, writeable=False)
