"""Tables as TensorFlow's checkpoints keep them, of anything, with right checksums."""

import struct


def write_table(entries):
    """Return the bytes of a table of (key, value) bytes, sorted by their keys."""
    block, handle = _block(entries, 0)
    empty, empty_handle = _block([], len(block))
    index, index_handle = _block([(b"\xff", handle)], len(block + empty))
    footer = (empty_handle + index_handle).ljust(40, b"\0")
    return block + empty + index + footer + bytes.fromhex("57fb808b247547db")


def read_table(data):
    """Return the entries of a table that write_table made, or of one with a single block."""
    place, values = len(data) - 48, []
    for _ in range(4):
        number, place = _read_number(data, place)
        values.append(number)
    ((_, handle),) = _entries(data, values[2], values[3])
    offset, place = _read_number(handle, 0)
    return _entries(data, offset, _read_number(handle, place)[0])


def number(value):
    """Return a whole number >= 0, 7 bits a byte, least first."""
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes(coded + bytes([value]))


def _block(entries, offset):
    """Return a block's bytes with their checksum, and where it lies."""
    content = b"".join(
        b"\0" + number(len(key)) + number(len(value)) + key + value for key, value in entries
    )
    content += struct.pack("<II", 0, 1)
    checksum = _crc32c(content + b"\0")
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return content + b"\0" + struct.pack("<I", masked), number(offset) + number(len(content))


def _entries(data, offset, size):
    block, place, key, entries = data[offset : offset + size], 0, b"", []
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    while place < end:
        shared, place = _read_number(block, place)
        rest, place = _read_number(block, place)
        length, place = _read_number(block, place)
        key = key[:shared] + block[place : place + rest]
        entries.append((key, block[place + rest : place + rest + length]))
        place += rest + length
    return entries


def _read_number(data, place):
    value, shift = 0, 0
    while True:
        value |= (data[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 128:
            return value, place


def _crc32c(data):
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    return checksum ^ 0xFFFFFFFF
