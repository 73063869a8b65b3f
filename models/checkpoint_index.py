"""The index of a TensorFlow checkpoint, looked through before TensorFlow reads it.

If the index has a shape that no tensor can have, TensorFlow ends the whole process, which nothing
in Python can catch.  The index is a table in LevelDB's format: blocks of sorted entries, a block of
the places of these blocks, and a footer with the place of that block.  Each entry's value is a
protocol buffer, tensorflow/core/protobuf/tensor_bundle.proto.
"""

import math
import struct
from pathlib import Path

from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

MAX_INDEX = 2**24  # bytes; that of a ResNet-50 with its optimizer has 50,000
DTYPES = [number for number in DataType.values() if 0 < number < 100]  # 100 on are references
_FOOTER = 48  # bytes
_MAGIC = 0xDB4775248B80FB57


def check_index(prefix):
    """Raise a ValueError for an index that TensorFlow could not have written, or not survive.

    A checkpoint of TensorFlow's first format has no index, and nothing is done.
    """
    path = Path(f"{prefix}.index")
    if not path.is_file():
        return
    if path.stat().st_size > MAX_INDEX:
        raise ValueError(f"its index has over {MAX_INDEX} bytes")
    try:
        # the first entry, without a name, is a header
        entries = [
            (name, BundleEntryProto.FromString(value)) for name, value in _table(path) if name
        ]
    except Exception as error:  # damaged bytes raise nearly anything
        raise ValueError(f"its index is damaged: {error}") from None
    for name, entry in entries:
        if entry.slices:
            raise ValueError(f"{name} lies in slices, which are not read")
        shape = [dimension.size for dimension in entry.shape.dim]
        if (
            entry.shape.unknown_rank
            or len(shape) > 254  # dimensions of a tensor in TensorFlow
            or min(shape, default=0) < 0
            or math.prod(max(1, length) for length in shape) > 2**60
            or entry.dtype not in DTYPES
        ):
            raise ValueError(f"in its index, {name} has a shape or type that no tensor can have")


def _table(path):
    """Yield the keys, as text, and values of a table's entries."""
    data = path.read_bytes()
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:]) != (_MAGIC,):
        raise ValueError("it is no table")
    footer = data[-_FOOTER:]
    _offset, place = _number(footer, 0)
    _size, place = _number(footer, place)
    for _last_key, handle in _block(data, footer[place:]):
        for key, value in _block(data, handle):
            yield key.decode(), value


def _block(data, handle):
    """Yield the (key, value) bytes of the block that a handle, (offset, size), points to."""
    offset, place = _number(handle, 0)
    size, _place = _number(handle, place)
    if offset + size + 5 > len(data) or size < 4:
        raise ValueError("a block leaves the file")
    if data[offset + size] != 0:
        raise ValueError("a block is compressed")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    key, place, end = b"", 0, size - 4 - 4 * restarts
    while place < end:
        # a key is written as what it shares with the one before it, and the rest
        shared, place = _number(block, place)
        rest, place = _number(block, place)
        length, place = _number(block, place)
        if shared > len(key) or place + rest + length > end:
            raise ValueError("an entry leaves its block")
        key = key[:shared] + block[place : place + rest]
        yield key, block[place + rest : place + rest + length]
        place += rest + length


def _number(data, place):
    """Return a number written in 7 bits a byte, least first, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        number |= (data[place] & 127) << shift
        place += 1
        if data[place - 1] < 128:
            return number, place
    raise ValueError("a number has no end")
