"""Makes a run folder of a run of another program: a record and a journal that every reading command understands."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mmctl.exchange.foreign import ForeignRun, best_name, seed_of, table
from mmctl.filesystem import write_synced
from mmctl.identity import config_id_of
from mmctl.run_folder import journal
from mmctl.run_folder.events import Attempt, Event, Notice, Pace, Points, State, encode
from mmctl.run_folder.record import RunRecord
from mmctl.run_folder.upgrade import FORMAT, Config
from mmctl.run_folder.values import text
from mmctl.run_folder.verify import identity_hash
from mmctl.text import to_json

SLUGS = {"TensorBoard": "tensorboard", "MLflow": "mlflow", "Trackio": "trackio", "W&B": "wandb"}
"""How the programs are written in ids and filters."""
PACES = 1000
"""So many times are kept of the clock of a run, for plots over time."""
CHUNK = 2**20


def ending(run: ForeignRun) -> str:
    """How the id of an imported run ends: the same for each import of it, whatever its name is by then."""
    return f"-{SLUGS[run.program]}-{hashlib.sha256(f'{run.program} {run.id}'.encode()).hexdigest()[:10]}"


def uid_of(run: ForeignRun) -> str:
    """The id of an imported run; it begins with the time at which the run was made, as other ids do."""
    try:
        made = datetime.fromtimestamp((run.created or 0) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        made = datetime.fromtimestamp(0, UTC)
    return f"{made:%Y%m%d-%H%M%S}{ending(run)}"


def points_of(run: ForeignRun) -> int:
    """The number of points that an import writes."""
    return sum(map(len, run.curves.values()))


def first_of(run: ForeignRun, name: str = "") -> Config:
    """The point that was logged first of a curve, or of the first curve: what a run that has grown still has."""
    curve = run.curves.get(name := name or next(iter(run.curves), ""))
    return {"curve": name, "step": curve.first[0], "value": repr(curve.first[1])} if curve and curve.first else {}


def write_run(run: ForeignRun, folder: Path) -> None:
    """Write run.json and the journal into a new folder, which is named by the id of the run."""
    record = record_of(run, folder.name)
    folder.mkdir()
    with journal.path_of(folder, 1).open("xb") as file:
        waiting = bytearray()
        for event in _events(run, record):
            waiting += encode(event)
            if len(waiting) > CHUNK:
                file.write(waiting)
                waiting.clear()
        file.write(waiting)
        file.flush()
        os.fsync(file.fileno())
    write_synced(folder / "run.json", to_json(record, indent=1).encode())


def record_of(run: ForeignRun, uid: str) -> RunRecord:
    """The record of a run. Its settings are the table `params`; the seed is none of them, as in a run of mmctl."""
    params = dict(run.config)
    key, seed = seed_of(params)
    if key:
        del params[key]
    slug = SLUGS[run.program]
    source: Config = {"from": slug, "project": text(run.project)}
    if seed is None:  # what tells runs of the same settings apart may be their names alone; a name may say the seed
        found = re.search(r"[-_. ]*(?<![a-z])seed[-_=]?([0-9]{1,9})(?![0-9])", run.name, re.I)
        source["run"] = text(run.name[: found.start()] + run.name[found.end() :] if found else run.name)
        seed = int(found[1]) if found else None
    config: Config = {"imported": source}
    config |= {"params": params} if params else {}
    config |= {"seed": seed} if seed is not None else {}
    curves = [name for name, curve in run.curves.items() if curve]
    record: RunRecord = {
        "format": FORMAT, "uid": uid, "name": text(run.name) or uid, "recipe": text(run.project) or slug,
        "method": slug, "labeler": None, "seed": seed,  # type: ignore[typeddict-item]
        "config_id": config_id_of(config), "config": config, "tags": [tag for tag in map(_tag, run.tags) if tag],
        "note": text(run.note) or None, "created": run.created or 0,
        "total_steps": max((run.curves[name].settle().steps[-1] for name in curves), default=0),
        "primary": best_name(curves), "published": None, "command": [], "code": "", "components": [],
        "environment": {}, "git": None,
        "origin": {
            "program": run.program, "id": text(run.id), "project": text(run.project),
            "file": text(Path(run.file).absolute()),
            "imported": time.time_ns() // 10**6, "points": points_of(run), "state": run.state, "first": first_of(run),
            "more": table(run.more),
        },
    }  # fmt: skip
    return record | {"identity": identity_hash(record)}


def _events(run: ForeignRun, record: RunRecord) -> Iterator[Event]:
    began, total = record["created"], record["total_steps"]
    yield Attempt(number=1, start=0, host=text(run.host) or None, identity=record["identity"], t=began)
    yield State(state="running", t=began)
    yield Notice(step=0, text=f"imported from {run.program}, {run.file}", t=began)
    strange = [f"{run.strange} points without a step from 0 on were left out"] if run.strange else []
    for line in [*run.notices, *strange]:
        yield Notice(step=0, text=text(line), t=began)
    paced = -1
    for step, t, values in run.steps():
        yield Points(step=step, values=values, t=t or began)
        if began and t > began and (step - paced) * PACES > total:
            paced = step
            yield Pace(step=step, seconds=(t - began) / 1000, cpu=None, t=t)
    yield State(state=run.state, reason=run.reason, step=total, t=max(run.ended or 0, began))


def _tag(tag: str) -> str:
    """A tag of another program as one that filters can name."""
    return re.sub(r"[ ,:=<>/]+", "-", "".join(c if c.isprintable() else " " for c in text(tag))).strip("-+.")[:100]
