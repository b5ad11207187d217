"""Reading protobuf messages field by field, for the few messages of XLA's that no library here has classes of."""

from __future__ import annotations

from collections.abc import Iterator

# A number, or the bytes of a string, a message or packed numbers.
Field = int | bytes


def fields_of(message: bytes) -> Iterator[tuple[int, Field]]:
    """Yield the number and the value of each field of a message, in the order in which they were written.

    Fixed-width numbers come as their bytes. Raises ValueError where the bytes are no message.
    Source: https://protobuf.dev/programming-guides/encoding
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"the bytes are no protobuf message: a field of wire type {kind}")
        if at + length > len(message):
            raise ValueError("the bytes are no protobuf message: a field goes past the end")
        yield tag >> 3, message[at : at + length]
        at += length


def numbers_of(packed: Field) -> list[int]:
    """Return the numbers of a repeated field, packed or one alone."""
    if isinstance(packed, int):
        return [packed]
    found, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(value)
    return found


def field_of_bytes(number: int, value: bytes) -> bytes:
    """Write a field that holds a string or a message."""
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("the bytes are no protobuf message: a number goes past the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _as_varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
