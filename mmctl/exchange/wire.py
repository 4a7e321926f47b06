"""The wire format of protocol buffers, as far as the files of other programs need it.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

Value: TypeAlias = int | bytes
"""A number of kind varint; or the bytes of a text, a message, or of a number of 4 or 8 bytes."""


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message, in their order; ValueError where it is none."""
    at, end = 0, len(data)
    while at < end:
        key, at = (data[at], at + 1) if data[at] < 128 else _varint(data, at)
        kind = key & 7
        if kind == 0 or kind == 2:
            size, at = (data[at], at + 1) if at < end and data[at] < 128 else _varint(data, at)
            if kind == 0:
                yield key >> 3, size
                continue
        elif kind == 1 or kind == 5:
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no protocol buffer (kind {kind})")
        if at + size > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number is cut off")
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7


def varints(data: Value) -> list[int]:
    """The numbers of a packed field, or the one of a field that is not packed."""
    if isinstance(data, int):
        return [data]
    found, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        found.append(number)
    return found


def message(value: Value) -> bytes:
    """A field that must be a text or a message."""
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def words(value: Value) -> str:
    """A text."""
    return message(value).decode("utf-8", "replace")


def signed(value: Value) -> int:
    """An int64."""
    if not isinstance(value, int):
        raise ValueError("a text where a number belongs")
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def real(value: Value) -> float:
    """A float or a double, by its size."""
    if isinstance(value, int) or len(value) not in (4, 8):
        raise ValueError("no floating-point number")
    return float(struct.unpack("<f" if len(value) == 4 else "<d", value)[0])
