"""Reads W&B's offline files, run-ID.wandb: LevelDB's log format around Record messages.

Sources: https://github.com/google/leveldb/blob/main/doc/log_format.md (W&B's has a header of 7 bytes and the CRC-32 of
zlib), and wandb/proto/wandb_internal.proto of version 0.31.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmctl.exchange.foreign import LONGEST, BadSource, ForeignRun, milliseconds, numbers, parsed, readable, table
from mmctl.exchange.wire import Value, fields, message, signed, words
from mmctl.filesystem import open_file
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import Json, number, text

PROGRAM = "W&B"
SIZE = 2**40
BLOCK = 32768
MAGIC = b":W&B\xe1\xbe"
HISTORY, SUMMARY, CONFIG, RUN, EXIT = 2, 3, 5, 17, 18
"""Fields of a Record that are read; system metrics, console output and artifacts are not."""
LONG = 2**26
"""A longer record is refused."""
NO_END = "W&B recorded no end: it was killed, or still ran when it was imported"


def read(paths: Sequence[Path], damaged: bool) -> ForeignRun:
    """The run in these files, in their order: it has several where it was resumed; BadSource where one is damaged."""
    run = ForeignRun(PROGRAM, "", str(paths[0]))
    facts: dict[int, Value] = {}
    config: Config = {}
    summary: dict[str, float] = {}
    last = 0
    for path in paths:
        run.state, run.reason = "crashed", NO_END
        for at, record in _records(path, run, damaged):
            try:
                for key, part in fields(record):
                    if key == HISTORY:
                        last = max(last, _history(run, message(part), last))
                    elif key == SUMMARY:
                        summary |= numbers(_items(message(part)))
                    elif key == CONFIG:
                        _configure(config, message(part))
                    elif key == RUN:
                        facts |= {key: one for key, one in fields(message(part)) if key != 17 or key not in facts}
                        for inner, fact in fields(message(part)):
                            if inner == 4:
                                _configure(config, message(fact))
                            elif inner == 10 and (tag := text(words(fact))) not in run.tags:
                                run.tags.append(tag)
                    elif key == EXIT:
                        code = signed(dict(fields(message(part))).get(1, 0))
                        run.state, run.reason = ("completed", None) if code == 0 else ("failed", f"exit code {code}")
            except ValueError as fault:
                raise BadSource(f"{path}: not a record of W&B at byte {at} ({fault}).") from None
    said = {key: text(words(value)) for key, value in facts.items() if isinstance(value, bytes) and key in NAMES}
    run.project, run.name = said.get(3, ""), said.get(8) or said.get(1, "")
    run.id = _id(facts)
    if not said.get(1):
        raise BadSource(f"{paths[0]}: holds no run: W&B was killed before it wrote one.")
    run.host, run.note = said.get(13), said.get(9)
    run.more = {NAMES[key]: value for key, value in said.items() if key in (2, 6, 7, 12)}
    run.created = milliseconds(_began(facts))
    run.config = table({key: value for key, value in config.items() if key != "_wandb"})
    for name, final in summary.items():  # what was never logged as history, but set at the end
        if name not in run.curves and not name.startswith("_"):
            run.add(name, last, final)
    return run


def identity(path: Path) -> tuple[str, int]:
    """The id of the run in a file, and when that part of it began in seconds; ("", 0) where it holds none."""
    try:
        for _, record in _records(path, ForeignRun(PROGRAM, "", str(path)), True):
            if found := dict(fields(record)).get(RUN):
                facts = dict(fields(message(found)))
                return _id(facts), _began(facts)
    except (ValueError, BadSource):
        pass  # it is named when it is read
    return "", 0


def _id(facts: Mapping[int, Value]) -> str:
    parts = (facts.get(3), facts.get(1))
    return "/".join(text(words(part)) for part in parts if part and isinstance(part, bytes)) if facts.get(1) else ""


def _began(facts: Mapping[int, Value]) -> int:
    began = facts.get(17)
    return signed(dict(fields(began)).get(1, 0)) if isinstance(began, bytes) else 0


NAMES = {
    1: "id", 2: "entity", 3: "project", 6: "group", 7: "job_type", 8: "name", 9: "notes", 12: "sweep", 13: "host"
}  # fmt: skip
"""Fields of a RunRecord."""


def is_wandb(head: bytes) -> bool:
    """Whether a file that begins with these bytes is W&B's."""
    return head[:6] == MAGIC


def _records(path: Path, run: ForeignRun, damaged: bool) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each record of a file."""
    at, whole, begun = 7, b"", False  # a record may begin with an empty piece
    with readable(path), open_file(path, SIZE) as file:
        head = file.read(7)
        if head[:6] != MAGIC or len(head) < 7:
            raise BadSource(f"{path}: not a file of W&B, or cut off in its first bytes.")
        if head[6] != 0:
            raise BadSource(f"{path}: version {head[6]} of W&B's format, which this mmctl does not know.")
        while True:
            if BLOCK - at % BLOCK < 7:  # what is left of a block is empty
                at += len(file.read(BLOCK - at % BLOCK))
            fault = None
            if not (head := file.read(7)):
                fault = "ends in the middle of a record" if begun else None
                if fault is None:
                    return
            elif len(head) < 7:
                fault = "ends in the middle of a record"
            else:
                crc, size, kind = struct.unpack("<IHB", head)
                body = file.read(size)
                if len(body) < size:
                    fault = "ends in the middle of a record"
                elif crc != zlib.crc32(body, zlib.crc32(head[6:])):
                    fault = "wrong checksum"
                elif kind not in (1, 2, 3, 4) or (kind in (1, 2)) == begun or len(whole) > LONG:
                    fault = "not a piece of a record"
            if fault:
                run.damage(f"{path}: {fault} at byte {at}", damaged, " (still being written, cut off, or damaged)")
                return
            whole, begun = whole + body, kind in (2, 3)
            if not begun:
                yield at, whole
                whole = b""
            at += 7 + size


def _items(data: bytes) -> dict[str, Json]:
    """The values of a history, summary or config: JSON under a name, or under a path of names."""
    found: dict[str, Json] = {}
    for key, item in fields(data):
        if key == 1:
            names, value = [], b""
            plain, nested = "", list[str]()
            for inner, part in fields(message(item)):
                if inner == 1:
                    plain = words(part)
                elif inner == 2:
                    nested.append(words(part))
                elif inner == 16:
                    value = message(part)
            names = nested or [plain]
            found[text(".".join(names))[:LONGEST]] = parsed(value) if value else None
    return found


def _history(run: ForeignRun, data: bytes, last: int) -> int:
    """Add the points of one log call; returns its step."""
    found = _items(data)
    step = found.get("_step")
    for key, value in fields(data):
        if key == 2 and not isinstance(step, int):
            step = signed(dict(fields(message(value))).get(1, 0))
    t = milliseconds(number(found.get("_timestamp"))) or 0
    if t:
        run.ended = max(t, run.ended or 0)
    for name, one in numbers(found):
        if not name.startswith("_"):
            run.add(name, step, one, t)
    return step if isinstance(step, int) and 0 <= step < 2**62 else last


def _configure(config: Config, data: bytes) -> None:
    """Apply a change of the settings."""
    for key, item in fields(data):
        if key not in (1, 2):
            continue
        path: list[str] = []
        value: Setting = None
        for inner, part in fields(message(item)):
            if inner in (1, 2):
                path.append(text(words(part))[:LONGEST])
            elif inner == 16:
                value = table({"": parsed(message(part))})[""]
        here = config
        for name in path[:-1][:20]:
            below = here.get(name)
            if not isinstance(below, dict):
                here[name] = below = {}
            here = below
        if path and key == 1:
            here[path[-1]] = value
        elif path:
            here.pop(path[-1], None)
