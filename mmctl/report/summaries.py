"""What `ls`, `show` and `diff` say, gathered as one object each: --json prints it, pages.py lays it out for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmctl.report.compare import flatten, published_value, versions
from mmctl.run_folder import lease
from mmctl.store import metrics
from mmctl.store.store import Store

Value = dict[str, Any]
EVALUATED = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece", "largest_class")
KEYS = (
    "number", "uid", "name", "recipe", "method", "labeler", "seed", "cell", "labeled", "state", "reason", "code",
    "step", "total_steps", "attempt", "created", "started", "ended", "host", "device", "data_hash", "split_hash",
    "tags",
)  # fmt: skip


def listing(store: Store, runs: Sequence[Value]) -> list[Value]:
    """The runs with their headline figures; running ones with speed and the time that is left."""
    names = {run["id"]: _pair(run) for run in runs}
    found = store.summaries(sorted({name for pair in names.values() for name in pair}), runs)
    rows = []
    for run in runs:
        row = {key: run[key] for key in KEYS} | {"exact": bool(run["exact"]), "metric": run["primary_metric"]}
        row |= {"value": None, "balanced_accuracy": None, "reducer": None, "rate": None, "eta": None}
        row["silent"] = run["silent"]
        for key, name in zip(("balanced_accuracy", "value"), reversed(names[run["id"]]), strict=True):
            if (run["id"], name) in found:
                row[key], row["reducer"] = metrics.headline(found[run["id"], name])
        if run["state"] == "running":
            row |= _pace(store.runs_dir / run["uid"], row)
        rows.append(row)
    return rows


def run_details(store: Store, run: Value) -> Value:
    """Everything `mmctl show` knows about a run."""
    about = store.about(run)
    (row,) = listing(store, [run])
    last = _evaluations(store, run)
    published = published_value(about.get("published"), run["primary_metric"], run["primary_metric"])
    if published and row["value"] is not None:
        published["distance"] = row["value"] - published["value"]
    notes = [{"t": run["created"], "text": about["note"]}] if about.get("note") else []
    notes += [{"t": event["t"], "text": str(event["body"].get("text", ""))} for event in store.events(run, "note")]
    return row | {
        "folder": str(store.runs_dir / run["uid"]),
        "seconds": store.seconds(run),
        "data": {key: value for key, value in store.data(run).items() if key not in ("e", "t")},
        "attempts": [
            {key: one[key] for key in ("n", "from_step", "dropped", "t")} | one["body"] for one in store.attempts(run)
        ],
        "states": [{"t": one["t"], **one["body"]} for one in store.events(run, "state")],
        "evaluations": [{key: value for key, value in one.items() if key not in ("run", "offset")} for one in last],
        "alerts": [one["body"] for one in store.events(run, "alert")],
        "notes": notes,
        "checkpoints": [
            {key: value for key, value in one.items() if key != "run"}
            | {"present": (store.runs_dir / run["uid"] / one["path"]).is_dir()}
            for one in store.checkpoints(run)
        ],
        "curve": store.points(run, run["primary_metric"]),
        "published": published,
        "series": [{key: value for key, value in one.items() if key not in ("id", "run")} for one in store.series(run)],
        **{key: about.get(key) for key in ("config", "components", "environment", "git", "command")},
    }


def difference(store: Store, a: Value, b: Value, everything: bool) -> Value:
    """The settings in which two runs differ (or all), and what they ran on."""
    sides = []
    for run in (a, b):
        about = store.about(run)
        flat = flatten(about.get("config") or {})
        flat |= versions(about)
        flat |= {f"environment.{key}": value for key, value in flatten(about.get("environment") or {}).items() if key}
        flat |= {"git": (about.get("git") or {}).get("commit"), "data": run["data_hash"], "split": run["split_hash"]}
        sides.append(flat)
    keys = [*dict.fromkeys((*sides[0], *sides[1]))]
    rows = {key: [side.get(key) for side in sides] for key in keys}
    kept = {key: row for key, row in rows.items() if everything or row[0] != row[1]}
    titles = [f"#{run['number']} {run['name']} s{run['seed']}" for run in (a, b)]
    return {"a": a["uid"], "b": b["uid"], "titles": titles, "same_cell": a["cell"] == b["cell"], "differences": kept}


def _evaluations(store: Store, run: Value) -> list[Value]:
    """The newest evaluation of each split, weights and predictor; while a run trains, its curves know the newest."""
    last = {(one["split"], one["weights"], one["predictor"]): one for one in store.evaluations(run)}
    for series in store.series(run):
        parts = series["name"].split("/")
        if len(parts) != 4 or parts[3] not in EVALUATED:
            continue
        split, weights, predictor, metric = parts
        key = (split, weights, predictor)
        if key not in last or last[key]["step"] < series["last_step"]:
            names = {
                "split": split,
                "weights": weights,
                "predictor": predictor,
                "step": series["last_step"],
                "metrics": {},
            }
            last[key] = dict.fromkeys(("attempt", "t", "checkpoint", "n", "per_class", "confusion")) | names
        if last[key]["step"] == series["last_step"]:
            last[key]["metrics"].setdefault(metric, series["last"])
    return list(last.values())


def _pair(run: Value) -> tuple[str, str]:
    primary = run["primary_metric"]
    return primary, f"{primary.rpartition('/')[0]}/balanced_accuracy"


def _pace(folder: Path, row: Value) -> Value:
    held = lease.read(folder) or {}
    rate, step, total = held.get("rate"), held.get("step"), row["total_steps"]
    if not isinstance(rate, (int, float)) or not isinstance(step, int) or not math.isfinite(rate) or rate <= 0:
        return {}
    step = max(step, row["step"])
    return {"step": step, "rate": rate, "eta": (total - step) / rate if total else None}
