"""Reads TensorBoard's event files: TFRecord frames with CRC-32C around Event messages.

A run is a folder, as in TensorBoard. Scalars of both kinds are read (simple_value and tensors), and the settings of
add_hparams. Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, and
tensorboard/plugins/hparams/plugin_data.proto.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

from mmctl.exchange.foreign import LONGEST, BadSource, ForeignRun, readable
from mmctl.exchange.wire import Value, fields, message, real, signed, varints, words
from mmctl.filesystem import open_file
from mmctl.run_folder.upgrade import Setting
from mmctl.run_folder.values import text

PROGRAM = "TensorBoard"
SIZE = 2**40
LARGE = 2**20
"""A longer record holds images, sound or a graph: it is skipped unread."""
NO_END = "TensorBoard's files do not say how a run ended: it counts as completed"
FORMATS = {1: ("f", 5), 2: ("d", 6), 3: ("i", 7), 9: ("q", 10)}
"""Of a tensor's type: how its content is packed, and the field of its values."""


def read(folder: Path, files: Sequence[Path], damaged: bool) -> ForeignRun:
    """The run whose event files these are; BadSource where one is damaged, or none has a scalar."""
    run = ForeignRun(PROGRAM, "", str(folder), name=folder.resolve().name, notices=[NO_END])
    last = 0.0
    for path in sorted(files, key=lambda one: one.name):
        for at, event in _records(path, run, damaged):
            try:
                t = _event(run, event)
            except (ValueError, OverflowError) as fault:
                raise BadSource(f"{path}: not an event of TensorBoard at byte {at} ({fault}).") from None
            if not run.id:
                run.id = hashlib.sha256(f"{path.name} {t!r}".encode()).hexdigest()[:32]
                run.created = int(1000 * t)
            last = max(last, t)
    if not any(run.curves.values()):
        where = files[0] if len(files) == 1 else folder
        raise BadSource(f"{where}: has no scalars of TensorBoard; only scalars are imported.")
    run.ended = int(1000 * last)
    run.project = folder.resolve().parent.name
    return run


def is_events(head: bytes) -> bool:
    """Whether a file that begins with these 12 bytes is made of TFRecord frames."""
    return len(head) >= 12 and masked(head[:8]) == struct.unpack_from("<I", head, 8)[0]


def _records(path: Path, run: ForeignRun, damaged: bool) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each record of a file that is short enough to be a scalar."""
    with readable(path), open_file(path, SIZE) as file:
        end = os.fstat(file.fileno()).st_size
        while (at := file.tell()) < end:
            fault, body = _record(file, end)
            if fault:
                run.damage(f"{path}: {fault} at byte {at}", damaged)
                return
            if body:
                yield at, body


def _record(file: BinaryIO, end: int) -> tuple[str | None, bytes]:
    """What is wrong with the next record, and its content."""
    head = file.read(12)
    if len(head) == 12 and masked(head[:8]) != int.from_bytes(head[8:], "little"):
        return "wrong checksum", b""
    size = int.from_bytes(head[:8], "little")
    if len(head) < 12 or file.tell() + size + 4 > end:
        return "ends in the middle of a record (still being written, or cut off)", b""
    if size > LARGE:
        file.seek(size + 4, os.SEEK_CUR)
        return None, b""
    body = file.read(size + 4)
    return (None if masked(body[:-4]) == int.from_bytes(body[-4:], "little") else "wrong checksum"), body[:-4]


def _event(run: ForeignRun, data: bytes) -> float:
    """Take what is in an Event; returns its time in seconds."""
    t, step, summary, start = 0.0, 0, list[bytes](), False
    for key, value in fields(data):
        if key == 1:
            t = real(value)
        elif key == 2:
            step = signed(value)
        elif key == 3 and not words(value).startswith("brain.Event:"):
            raise ValueError("unknown version of the file")
        elif key == 5:
            summary.append(message(value))
        elif key == 7:  # SessionLog; status START: TensorBoard drops what follows this step, and so is it here
            start = any(inner == 1 and status == 1 for inner, status in fields(message(value)))
    if not math.isfinite(t) or not 0 <= t < 2**40:
        raise ValueError("a time beyond the calendar")
    if start and step > 0:
        run.cut(step)
    for one in summary:
        for key, value in fields(one):
            if key == 1:
                _value(run, step, int(1000 * t), message(value))
    return t


def _value(run: ForeignRun, step: int, t: int, data: bytes) -> None:
    tag, found = "", None
    for key, value in fields(data):
        if key == 1:
            tag = text(words(value))[:LONGEST]
        elif key == 2:
            found = real(value)
        elif key == 8:
            found = _scalar(message(value))
        elif key == 9 and not run.config:
            _settings(run, message(value))
    if found is not None:
        run.add(tag, step, found, t)


def _scalar(data: bytes) -> float | None:
    """The value of a tensor of one number; None for any other tensor."""
    kind, content, rest = 0, b"", dict[int, Value]()
    for key, value in fields(data):
        if key == 1:
            kind = signed(value)
        elif key == 2 and any(inner == 2 for inner, _ in fields(message(value))):
            return None  # it has a dimension
        elif key == 4:
            content = message(value)
        else:
            rest[key] = value
    if kind not in FORMATS:
        return None
    form, field = FORMATS[kind]
    if content:
        return float(struct.unpack(f"<{form}", content)[0]) if len(content) == struct.calcsize(form) else None
    if field not in rest:
        return 0.0 if not rest.keys() - {2, 3} else None  # protocol buffers leave out a zero
    if kind in (1, 2):
        return real(rest[field])
    return float(signed(varints(rest[field])[0])) if varints(rest[field]) else None


def _settings(run: ForeignRun, metadata: bytes) -> None:
    """The settings of add_hparams, in the metadata of a summary."""
    for plugin in _inside(metadata, 1):
        parts = dict(fields(plugin))
        if parts.get(1) != b"hparams" or isinstance(parts.get(2), int | None):
            continue
        for begin in _inside(message(parts[2]), 3):
            for entry in _inside(begin, 1):
                pair = dict(fields(entry))
                run.config[text(words(pair.get(1, b"")))[:LONGEST]] = _setting(message(pair.get(2, b"")))


def _inside(data: bytes, wanted: int) -> Iterator[bytes]:
    return (message(value) for key, value in fields(data) if key == wanted)


def _setting(data: bytes) -> Setting:
    """A google.protobuf.Value: a number, text or truth value."""
    for key, value in fields(data):
        if key == 2:
            number = real(value)
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        if key in (3, 4):
            return text(words(value)) if key == 3 else bool(value)
    return None


def masked(data: bytes) -> int:
    """The masked CRC-32C of TFRecord: two bytes at a time, since Python has no such checksum of its own."""
    table, crc = _table(), 0xFFFFFFFF
    even = len(data) & ~1
    for pair in struct.unpack(f"<{even // 2}H", data[:even]):
        crc = table[(crc ^ pair) & 0xFFFF] ^ (crc >> 16)
    if even < len(data):
        crc = _byte((crc ^ data[-1]) & 0xFF) ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


@cache
def _table() -> list[int]:
    one = [_byte(n) for n in range(256)]
    return [one[(one[n & 255] ^ n >> 8) & 255] ^ one[n & 255] >> 8 for n in range(65536)]
