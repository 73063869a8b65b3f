"""Tables as TensorFlow's checkpoints keep them, of anything, with right checksums."""

import struct
from pathlib import Path

from simvis.models import checkpoint_index


def write_table(entries):
    """Return the bytes of a table of (key, value) bytes, sorted by their keys."""
    block, handle = _block(entries, 0)
    empty, empty_handle = _block([], len(block))
    index, index_handle = _block([(b"\xff", handle)], len(block + empty))
    footer = (empty_handle + index_handle).ljust(40, b"\0")
    return block + empty + index + footer + bytes.fromhex("57fb808b247547db")


def read_table(path):
    """Return the (key, value) bytes of a table that TensorFlow wrote."""
    return [(key.encode(), value) for key, value in checkpoint_index._table(Path(path))]


def _number(value):
    """Return a whole number >= 0, 7 bits a byte, least first."""
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes(coded + bytes([value]))


def _block(entries, offset):
    """Return a block's bytes with their checksum, and where it lies."""
    content = b"".join(
        b"\0" + _number(len(key)) + _number(len(value)) + key + value for key, value in entries
    )
    content += struct.pack("<II", 0, 1)
    checksum = _crc32c(content + b"\0")
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return content + b"\0" + struct.pack("<I", masked), _number(offset) + _number(len(content))


def _crc32c(data):
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    return checksum ^ 0xFFFFFFFF
