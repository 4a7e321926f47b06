"""Reads MLflow's two stores: a SQLite file (mlflow.db), and the folder mlruns/ of older versions."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmctl.exchange.databases import one_moment, opened, tables
from mmctl.exchange.foreign import KEYS, LONGEST, BadSource, ForeignRun, plain, readable
from mmctl.filesystem import read_file
from mmctl.run_folder.values import text, whole

PROGRAM = "MLflow"
SIZE = 2**31
STATES = {
    "FINISHED": ("completed", None),
    "FAILED": ("failed", "failed in MLflow"),
    "KILLED": ("interrupted", "killed in MLflow"),
    "RUNNING": ("crashed", "MLflow recorded no end: it was killed, or still ran when it was imported"),
    "SCHEDULED": ("interrupted", "scheduled in MLflow"),
}
NUMBERS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
"""Of the states, in meta.yaml."""


def is_mlflow(found: Mapping[str, set[str]]) -> bool:
    """Whether these tables are those of MLflow."""
    needed = {"runs": {"run_uuid", "status", "experiment_id"}, "metrics": {"run_uuid", "key", "value", "timestamp"}}
    return all(columns <= found.get(name, set()) for name, columns in needed.items()) and "experiments" in found


def read_database(path: Path) -> Iterator[ForeignRun]:
    """The runs of a database that are not deleted; BadSource where something in it is damaged."""
    with opened(path) as conn:
        found = tables(conn)
        alive = "r.lifecycle_stage IS NOT 'deleted'" if "lifecycle_stage" in found["runs"] else "1"
        sql = (
            f"SELECT r.*, e.name AS experiment FROM runs r LEFT JOIN experiments e USING (experiment_id) WHERE {alive}"
        )
        for (uuid,) in conn.execute("SELECT run_uuid FROM runs ORDER BY start_time, run_uuid").fetchall():
            with one_moment(conn):  # its state belongs to its points
                row = conn.execute(f"{sql} AND run_uuid = ?", [uuid]).fetchone()
                run = _stored(conn, path, found, row) if row else None
            if run:
                yield run


def _stored(conn: sqlite3.Connection, path: Path, found: Mapping[str, set[str]], row: sqlite3.Row) -> ForeignRun:
    uuid = row["run_uuid"]

    def pairs(table: str) -> dict[str, str]:
        if not {"key", "value", "run_uuid"} <= found.get(table, set()):
            return {}
        sql = f"SELECT key, value FROM {table} WHERE run_uuid = ? ORDER BY key LIMIT {KEYS}"
        return {text(key)[:LONGEST]: text(value) for key, value in conn.execute(sql, [uuid])}

    run = ForeignRun(PROGRAM, text(uuid), str(path), text(row["name"]), text(row["experiment"]))
    _describe(run, row["status"], whole(row["start_time"]), whole(row["end_time"]), pairs("tags"), pairs("params"))
    step, nan = ("step" if "step" in found["metrics"] else "0"), ("is_nan" if "is_nan" in found["metrics"] else "0")
    sql = f"SELECT key, {step}, iif({nan}, NULL, value), timestamp FROM metrics WHERE run_uuid = ? ORDER BY timestamp"
    for name, at, value, t in conn.execute(sql, [uuid]):
        _add(run, text(name), at, math.nan if value is None else value, t)
    return run


def _add(run: ForeignRun, name: str, step: object, value: object, t: object) -> None:
    if isinstance(value, (int, float)):
        # SQLite has no infinity: MLflow stores the largest double for it.
        infinite = abs(value) >= 1.7976931348623157e308
        run.add(name[:LONGEST], step, math.copysign(math.inf, value) if infinite else float(value), whole(t) or 0)


def _describe(
    run: ForeignRun,
    status: object,
    start: int | None,
    end: int | None,
    tags: Mapping[str, str],
    params: Mapping[str, str],
) -> None:
    """What both stores say of a run."""
    run.state, run.reason = STATES.get(text(status), ("crashed", f"in MLflow: {text(status)}"))
    run.created, run.ended = start, end
    run.name = run.name or tags.get("mlflow.runName", "")
    run.note = tags.get("mlflow.note.content")
    run.config = {key: plain(value) for key, value in params.items()}
    run.more = {"tags": dict(tags)}


def is_experiment(folder: Path) -> bool:
    """Whether a folder is one of mlruns/: of an experiment, with a folder for each run."""
    try:
        about = _yaml(folder / "meta.yaml")
    except BadSource:
        return True  # a meta.yaml that cannot be read is named when it is read
    return "experiment_id" in about and "run_id" not in about


def read_folder(experiment: Path, damaged: bool) -> Iterator[ForeignRun]:
    """The runs of an experiment of mlruns/ that are not deleted; BadSource where a file is damaged."""
    about = _yaml(experiment / "meta.yaml")
    if about.get("lifecycle_stage") == "deleted":
        return
    for folder in sorted(_listed(experiment)):
        if folder.is_dir() and not folder.is_symlink() and (folder / "meta.yaml").exists():
            run = _filed(folder, text(about.get("name") or experiment.name), damaged)
            if run is not None:
                yield run


def _filed(folder: Path, project: str, damaged: bool) -> ForeignRun | None:
    about = _yaml(folder / "meta.yaml")
    if about.get("lifecycle_stage") == "deleted":
        return None
    id = about.get("run_id") or about.get("run_uuid")
    status = NUMBERS.get(about.get("status", ""), about.get("status"))
    if not id or status not in STATES or "start_time" not in about:
        raise BadSource(f"{folder / 'meta.yaml'}: not that of a run of MLflow, or cut off. Copy the folder again.")
    run = ForeignRun(PROGRAM, id, str(folder), about.get("run_name", ""), project)
    start, end = (_number(about.get(key, "")) for key in ("start_time", "end_time"))
    _describe(run, status, start, end, _values(folder / "tags"), _values(folder / "params"))
    for name, path in _files(folder / "metrics"):
        _curve(run, name, path, damaged)
    return run


def _curve(run: ForeignRun, name: str, path: Path, damaged: bool) -> None:
    """A file of a metric: a line for each point with time, value and (in all but the oldest) step."""
    for number, line in enumerate(_text(path).splitlines(keepends=True), 1):
        parts = line.split()
        try:
            if len(parts) not in (2, 3) or not line.endswith("\n"):
                raise ValueError
            _add(run, name, int(parts[2]) if len(parts) == 3 else 0, float(parts[1]), int(parts[0]))
        except ValueError:
            run.damage(f"{path}: line {number} is not `time value step`, or is cut off", damaged)
            return


def _values(folder: Path) -> dict[str, str]:
    return {name: text(_text(path).rstrip("\n")) for name, path in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each file below a folder: the name may have slashes. No link is followed."""
    waiting = [folder] if folder.is_dir() and not folder.is_symlink() else []
    count = 0
    while waiting:
        for path in sorted(_listed(waiting.pop())):
            if (count := count + 1) > KEYS:
                raise BadSource(f"{folder}: more than {KEYS} files.")
            if path.is_symlink():
                continue
            if path.is_dir():
                waiting.append(path)
            else:
                yield text(path.relative_to(folder).as_posix())[:LONGEST], path


def _listed(folder: Path) -> list[Path]:
    with readable(folder):
        return list(folder.iterdir())


def _text(path: Path) -> str:
    with readable(path):
        return read_file(path, SIZE).decode("utf-8", "replace")


def _yaml(path: Path) -> dict[str, str]:
    """The keys of a meta.yaml, which is flat; a long text goes on in lines that begin with spaces."""
    found: dict[str, str] = {}
    key = ""
    for line in _text(path).splitlines():
        if line.startswith(" ") and key:
            found[key] += f" {line.strip()}"
        elif ":" in line:
            key, _, value = line.partition(":")
            found[key] = value.strip()
    return {key: _unquoted(value) for key, value in found.items() if value not in ("null", "~")}


def _unquoted(value: str) -> str:
    for quote in ("'", '"'):
        if len(value) > 1 and value[0] == value[-1] == quote:
            return value[1:-1].replace(quote * 2, quote)
    return value


def _number(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None
