"""Makes files of other programs byte by byte: event files, .wandb files, databases of MLflow and Trackio, mlruns/."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FILES = Path(__file__).parent.parent / "exchange" / "files"
T0 = 1_790_000_000


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One field of a message; a float is a double."""
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    body = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(body)) + body


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit, as its definition says."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def framed(body: bytes) -> bytes:
    """A record of TFRecord."""

    def mask(data: bytes) -> bytes:
        crc = crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    size = struct.pack("<Q", len(body))
    return size + mask(size) + body + mask(body)


def event(step: int, t: float, *parts: bytes) -> bytes:
    return framed(field(1, t) + field(2, step) + b"".join(parts))


def scalar(tag: str, value: float) -> bytes:
    """A summary with one simple_value."""
    return field(5, field(1, field(1, tag) + varint(2 << 3 | 5) + struct.pack("<f", value)))


def tensor(tag: str, body: bytes) -> bytes:
    """A summary with one tensor."""
    return field(5, field(1, field(1, tag) + field(8, body)))


def events(path: Path, *records: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(framed(field(1, float(T0)) + field(3, "brain.Event:2")) + b"".join(records))
    return path


def curve(folder: Path, steps: int = 3, name: str = "events.out.tfevents.1.box.1.0") -> Path:
    """An event file with train/loss at some steps."""
    return events(folder / name, *(event(s, T0 + float(s), scalar("train/loss", 1 / s)) for s in range(1, steps + 1)))


def log(*records: bytes) -> bytes:
    """A .wandb file: LevelDB's log format with W&B's header and checksum."""
    made = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        rest, first = record, True
        while first or rest:
            room = 32768 - len(made) % 32768
            if room < 7:
                made += bytes(room)
                continue
            piece, rest = rest[: room - 7], rest[room - 7 :]
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            made += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            first = False
    return bytes(made)


def items(values: Mapping[str, Any]) -> bytes:
    return b"".join(field(1, field(2, key) + field(16, json.dumps(value))) for key, value in values.items())


def history(step: int, **values: Any) -> bytes:
    row = {"_step": step, "_timestamp": T0 + step} | {key.replace("__", "/"): value for key, value in values.items()}
    return field(2, items(row))


def wandb_run(id: str = "abc", name: str = "first", **config: Any) -> bytes:
    return field(
        17, field(1, id) + field(3, "cifar") + field(4, items(config)) + field(8, name) + field(17, field(1, T0))
    )


def wandb_exit(code: int = 0) -> bytes:
    return field(18, field(1, code))


MLFLOW = """
CREATE TABLE experiments (experiment_id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(256) NOT NULL, lifecycle_stage
  VARCHAR(32));
CREATE TABLE runs (run_uuid VARCHAR(32) NOT NULL PRIMARY KEY, name VARCHAR(250), status VARCHAR(9), start_time BIGINT,
  end_time BIGINT, lifecycle_stage VARCHAR(20), experiment_id INTEGER);
CREATE TABLE metrics ("key" VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL, run_uuid VARCHAR(32)
  NOT NULL, step BIGINT DEFAULT '0' NOT NULL, is_nan BOOLEAN DEFAULT '0' NOT NULL);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE TABLE params ("key" VARCHAR(250) NOT NULL, value VARCHAR(8000) NOT NULL, run_uuid VARCHAR(32) NOT NULL);
CREATE TABLE tags ("key" VARCHAR(250) NOT NULL, value VARCHAR(8000), run_uuid VARCHAR(32) NOT NULL);
INSERT INTO experiments VALUES (1, 'cifar', 'active');
"""
TRACKIO = """
CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL, run_name TEXT
  NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT);
CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL, config TEXT
  NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id));
"""


def mlflow_db(path: Path, runs: Mapping[str, str] | None = None, steps: int = 3, seed: int = 0) -> Path:
    """A database of MLflow with runs of these ids and states; each has train/loss, test/accuracy and three settings."""
    path.unlink(missing_ok=True)
    conn = sqlite3.connect(path)
    conn.executescript(MLFLOW)
    for n, (id, status) in enumerate((runs or {"a1": "FINISHED"}).items()):
        t = 1000 * (T0 + n)
        conn.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, 'active', 1)", [id, f"run-{id}", status, t, t + 9000])
        for s in range(1, steps + 1):
            for key, value in (("train/loss", 1 / s), ("test/accuracy", 0.5 + s / 10 + n / 100)):
                conn.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, 0)", [key, value, t + s * 1000, id, s * 10])
        params = {"lr": "0.03", "seed": str(seed + n), "model": "wrn"}
        conn.executemany("INSERT INTO params VALUES (?, ?, ?)", [(key, value, id) for key, value in params.items()])
        conn.execute("INSERT INTO tags VALUES ('mlflow.note.content', 'a note', ?)", [id])
    conn.commit()
    conn.close()
    return path


def trackio_db(path: Path, runs: Sequence[str] = ("r1",), steps: int = 3) -> Path:
    """A database of Trackio with runs of these ids."""
    conn = sqlite3.connect(path)
    conn.executescript(TRACKIO)
    for n, id in enumerate(runs):
        for s in range(1, steps + 1):
            row = {"train/loss": 1 / s, "nan": "NaN", "text": "x", "test/accuracy": 0.5 + s / 10}
            sql = "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)"
            when = f"2026-11-29T04:14:{s:02d}+00:00"
            conn.execute(sql, [id, when, f"name-{id}", s * 10, json.dumps(row).encode()])
        config = {"lr": 0.03, "seed": n, "_Created": "2026-11-29T04:14:00+00:00", "_Group": "g"}
        row2 = [id, f"name-{id}", json.dumps(config).encode(), "2026-11-29T04:14:01+00:00"]
        conn.execute("INSERT INTO configs (run_id, run_name, config, created_at) VALUES (?, ?, ?, ?)", row2)
    conn.commit()
    conn.close()
    return path


def mlruns(folder: Path, steps: int = 3) -> Path:
    """An mlruns/ folder with a run, a failed run and a deleted one."""
    experiment = folder / "12"
    experiment.mkdir(parents=True)
    (folder / "0").mkdir()
    (folder / "0" / "meta.yaml").write_text("experiment_id: '0'\nlifecycle_stage: active\nname: Default\n")
    (experiment / "meta.yaml").write_text(
        "experiment_id: '12'\nlifecycle_stage: active\nname: 'it''s a\n  long name'\n"
    )
    for id, status, stage in (("aa", 3, "active"), ("bb", 4, "active"), ("cc", 3, "deleted")):
        run = experiment / id
        for part in ("metrics/train", "params", "tags"):
            (run / part).mkdir(parents=True)
        meta = {"end_time": 1000 * T0 + 5000, "experiment_id": "'12'", "lifecycle_stage": stage, "run_id": id,
                "run_name": f"run-{id}", "start_time": 1000 * T0, "status": status, "tags": "[]"}  # fmt: skip
        (run / "meta.yaml").write_text("".join(f"{key}: {value}\n" for key, value in meta.items()))
        (run / "metrics/train/loss").write_text(
            "".join(f"{1000 * (T0 + s)} {1 / s} {s}\n" for s in range(1, steps + 1))
        )
        (run / "metrics/odd").write_text(f"{1000 * T0} nan 1\n{1000 * T0} inf 2\n")
        (run / "params/lr").write_text("0.03")
        (run / "tags/mlflow.note.content").write_text("a note")
    return folder


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
