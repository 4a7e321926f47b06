"""What `ls`, `show` and `diff` report, each as one object: --json prints it, print_runs.py lays it out for people."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from mmctl.metric_names import METRICS
from mmctl.report.provenance import flat_provenance
from mmctl.report.published import published_value
from mmctl.report.results import Best, Checkpoint, Difference, Evaluation, ListingRow, Note, RunDetails
from mmctl.report.settings import versions
from mmctl.run_folder import lease, queue
from mmctl.run_folder.provenance import read_provenance
from mmctl.run_folder.record import best_metric
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import flatten
from mmctl.store.metrics import LOWER, headline
from mmctl.store.rows import AttemptRow, CurveSummary, RunRow
from mmctl.store.store import Store

WAITING = ("queued", "interrupted", "crashed", "failed")
"""States of runs that may wait to be started; the reason is then who will start them."""


def listing(store: Store, runs: Sequence[RunRow]) -> list[ListingRow]:
    """The runs with their headline figures; running ones with their speed and the time left."""
    balanced = {run["id"]: f"{run['primary_metric'].rpartition('/')[0]}/balanced_accuracy" for run in runs}
    names = {run["primary_metric"] for run in runs} | set(balanced.values())
    found = store.summaries(sorted(names), runs)
    parents = store.parents(runs)
    rows: list[ListingRow] = []
    for run in runs:
        primary, second = (found.get((run["id"], name)) for name in (run["primary_metric"], balanced[run["id"]]))
        value, reducer = headline(primary) if primary else (None, None)
        row: ListingRow = {
            "number": run["number"], "uid": run["uid"], "name": run["name"], "recipe": run["recipe"],
            "method": run["method"], "labeler": run["labeler"], "seed": run["seed"], "config_id": run["config_id"],
            "labeled": run["labeled"], "state": run["state"], "reason": run["reason"], "code": run["code"],
            "step": run["step"], "total_steps": run["total_steps"], "attempt": run["attempt"],
            "created": run["created"], "started": run["started"], "ended": run["ended"], "host": run["host"],
            "device": run["device"], "precision": run["precision"], "threads": run["threads"],
            "data_hash": run["data_hash"], "split_hash": run["split_hash"], "tags": run["tags"],
            "sweeps": run["sweeps"], "starred": run["starred"], "archived": run["archived"],
            "exact": bool(run["exact"]), "metric": run["primary_metric"], "value": value,
            "balanced_accuracy": headline(second)[0] if second else None,
            "reducer": reducer or (headline(second)[1] if second else None), "rate": None, "eta": None,
            "silent": run["silent"], "unreadable": run["unreadable"], "altered": run["altered"],
            "parent": parents.get(run["id"]),
        }  # fmt: skip
        if run["state"] in WAITING:
            row["reason"] = queue.place_of(store.runs_dir / run["uid"]) or row["reason"]
        elif run["state"] == "running":
            _add_speed(store.runs_dir / run["uid"], row)
        rows.append(row)
    return rows


def run_details(store: Store, run: RunRow) -> RunDetails:
    """Everything that `mmctl show` knows about a run."""
    about = store.about(run)
    (row,) = listing(store, [run])
    published = published_value(about["published"], run["primary_metric"], run["primary_metric"])
    if published and row["value"] is not None:
        published["distance"] = row["value"] - published["value"]
    folder = store.runs_dir / run["uid"]
    return {
        **row,
        "folder": str(folder),
        "bad_lines": store.bad_lines(run),
        "seconds": store.seconds(run),
        "data": {key: value for key, value in store.data(run).items() if key not in ("e", "t")},
        "attempts": [
            {"n": one["n"], "from_step": one["from_step"], "dropped": one["dropped"], "t": one["t"], **one["body"]}
            for one in store.attempts(run)
        ],
        "states": [{"t": one["t"], **one["body"]} for one in store.events(run, "state")],
        "evaluations": _newest_evaluations(store, run),
        "alerts": [one["body"] for one in store.events(run, "alert")],
        "notes": notes_of(store, run),
        # Path.is_dir raises where a name is longer than the file system allows.
        "checkpoints": [
            cast(Checkpoint, {key: value for key, value in one.items() if key != "run"}
                 | {"present": os.path.isdir(folder / one["path"])})  # noqa: PTH112
            for one in store.checkpoints(run)
        ],
        "best": _best(store, run, about["config"]),
        "curve": store.points(run, run["primary_metric"]),
        "published": published,
        "series": [
            cast(CurveSummary, {key: value for key, value in one.items() if key not in ("id", "run")})
            for one in store.series(run)
        ],
        "config": about["config"], "components": list(about["components"]),
        "environment": about["environment"], "git": about["git"], "provenance": read_provenance(folder),
        "command": about.get("command"), "imported": about.get("origin"),
    }  # fmt: skip


def _best(store: Store, run: RunRow, config: Config) -> Best | None:
    """The best evaluation by train.keep_best, if the recipe has it and there is one."""
    name = best_metric(config)
    found = store.summaries([name], [run]).get((run["id"], name)) if name else None
    if name is None or found is None:
        return None
    lower = name.endswith(LOWER)
    step, value = (found["min_step"], found["min"]) if lower else (found["max_step"], found["max"])
    if step is None or value is None:
        return None
    return {"metric": name, "step": step, "value": value, "selected_on_test": name.startswith("test/")}


def notes_of(store: Store, run: RunRow) -> list[Note]:
    """The notes of a run, oldest first."""
    first = store.about(run).get("note")
    notes: list[Note] = [{"t": run["created"], "text": str(first)}] if first else []
    return notes + [{"t": one["t"], "text": str(one["body"].get("text", ""))} for one in store.events(run, "note")]


def difference(store: Store, a: RunRow, b: RunRow, everything: bool) -> Difference:
    """The settings in which two runs differ (or all settings), and what they ran on and with."""
    sides: list[dict[str, Setting]] = []
    noted = [read_provenance(store.runs_dir / run["uid"]) for run in (a, b)]
    for run, found in zip((a, b), noted, strict=True):
        about = store.about(run)
        flat = flatten(about["config"]) | versions(about["components"])
        flat |= {f"environment.{key}": value for key, value in flatten(about["environment"]).items()}
        flat |= _environment(store.attempts(run))
        # Of a run of an older version nothing is known: that is no difference.
        flat |= flat_provenance(about, found if all(noted) else {})
        if parent := store.parents([run]).get(run["id"]):
            flat["(extends)"] = f"{parent['uid']} from step {parent['step']}"
        flat |= {"data": run["data_hash"], "split": run["split_hash"]}
        sides.append(flat)
    rows: dict[str, list[Setting]] = {key: [side.get(key) for side in sides] for key in (*sides[0], *sides[1])}
    return {
        "a": a["uid"],
        "b": b["uid"],
        "titles": [f"#{run['number']} {run['name']} s{run['seed']}" for run in (a, b)],
        "same_configuration": a["config_id"] == b["config_id"],
        "altered": {run["uid"]: run["altered"] for run in (a, b) if run["altered"]},
        "differences": {key: row for key, row in rows.items() if everything or row[0] != row[1]},
    }


def _environment(attempts: Sequence[AttemptRow]) -> dict[str, Setting]:
    """What the attempts of a run were computed with, as settings; attempts that differ give a list of their values."""
    found: dict[str, list[Setting]] = {}
    for one in attempts:
        known = ("host", "device", "isa", "precision", "threads", "processes", "versions")
        facts = {key: one["body"].get(key) for key in known}
        for key, value in flatten(facts, "environment").items():
            values = found.setdefault(key, [])
            if value is not None and value not in values:
                values.append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items() if values}


def _newest_evaluations(store: Store, run: RunRow) -> list[Evaluation]:
    """The newest evaluation of each split, weights and predictor; while a run trains, its curves have the newest."""
    last: dict[tuple[str, str, str], Evaluation] = {}
    for one in store.evaluations(run):
        kept = {key: value for key, value in one.items() if key not in ("run", "offset")}
        last[one["split"], one["weights"], one["predictor"]] = cast(Evaluation, kept)
    for series in store.series(run):
        parts = series["name"].split("/")
        if len(parts) != 4 or parts[3] not in METRICS:
            continue
        split, weights, predictor, metric = parts
        known = last.get((split, weights, predictor))
        if known is None or known["step"] < series["last_step"]:
            known = last[split, weights, predictor] = {
                "attempt": None, "t": None, "checkpoint": None, "n": None, "per_class": None, "confusion": None,
                "predictions": None,
                "split": split, "weights": weights, "predictor": predictor, "step": series["last_step"], "metrics": {},
            }  # fmt: skip
        if known["step"] == series["last_step"]:
            known["metrics"].setdefault(metric, series["last"])
    return list(last.values())


def _add_speed(folder: Path, row: ListingRow) -> None:
    """Step, steps per second and seconds left, from the heartbeat of a running process."""
    beat = lease.read(folder) or {}
    rate, step, total = beat.get("rate"), beat.get("step"), row["total_steps"]
    if isinstance(rate, (int, float)) and isinstance(step, int) and math.isfinite(rate) and rate > 0:
        row["step"] = max(step, row["step"])
        left = beat.get("left")  # with evaluations; absent in the folders of older versions
        if not isinstance(left, (int, float)) or not 0 < left < math.inf:
            left = (total - row["step"]) / rate if total else None
        row["rate"], row["eta"] = rate, left
