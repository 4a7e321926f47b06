"""Whole run folders without any training: run.json, journals, a lease."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmctl.run_folder.events import (
    Attempt,
    Checkpoint,
    Data,
    Evaluation,
    Event,
    Note,
    Points,
    State,
    encode,
)  # fmt: skip
from mmctl.run_folder.journal import append, path_of
from mmctl.text import json_safe

T0 = 1_790_000_000_000
"""ms UTC at which the first fake run was made."""


def config(recipe: str = "digits", method: str = "mixmatch", labels: int = 40, **more: Any) -> dict[str, Any]:
    """A small resolved recipe."""
    made: dict[str, Any] = {
        "name": recipe,
        "seed": 0,
        "dataset": {"name": "mmctl:digits"},
        "split": {"labels": labels, "rule": "balanced"},
        "method": {"name": f"mmctl:{method}"},
        "optimizer": {"name": "sgd", "lr": 0.03},
        "train": {"steps": 1000, "batch": 64},
    }
    for key, value in more.items():
        table, _, name = key.partition("__")
        made.setdefault(table, {})[name] = value
    return made


def make_run(
    runs: Path,
    uid: str,
    *,
    name: str = "digits",
    method: str = "mixmatch",
    labels: int = 40,
    seed: int = 0,
    config_id: str | None = None,
    created: int = T0,
    published: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    total: int = 1000,
    primary: str = "test/ema/head/accuracy",
    tags: Sequence[str] = (),
) -> Path:
    """A run folder with its run.json and nothing that has happened yet."""
    folder = runs / uid
    folder.mkdir(parents=True)
    table = config(name, method, labels, **(settings or {})) | {"seed": seed}
    about = {
        "format": 2,
        "uid": uid,
        "name": name,
        "recipe": name,
        "method": method,
        "labeler": None,
        "seed": seed,
        "config_id": config_id or f"{name}-{method}-{labels}",
        "config": table,
        "tags": list(tags),
        "note": None,
        "created": created,
        "total_steps": total,
        "primary": primary,
        "published": published,
        "command": ["mmctl", "run", f"recipes/{name}.toml"],
        "components": [
            {
                "kind": "method",
                "slot": None,
                "name": f"mmctl:{method}",
                "origin": "mmctl",
                "version": "0.1.0",
                "params": {},
            }
        ],
        "environment": {"python": "3.11", "mmctl": "0.1.0", "device": "cpu"},
        "git": None,
    }
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def write(folder: Path, attempt: int, *events: Event | dict[str, Any], t: int = T0) -> None:
    """Add events to a journal, one second apart; a dict is a line of another program, written as it is."""
    path = path_of(folder, attempt)
    begun = path.stat().st_size if path.exists() else 0
    with path.open("ab") as file:
        for n, event in enumerate(events):
            at = t + 1000 * (n + begun // 50)
            if isinstance(event, dict):
                file.write(json.dumps(json_safe({**event, "t": event.get("t", at)})).encode() + b"\n")
            else:
                file.write(encode(replace(event, t=at if event.t is None else event.t)))


def attempt(n: int = 1, start: int = 0, **more: Any) -> Attempt:
    """The first event of an attempt."""
    made = {"host": "box", "pid": 1, "boot": "b", "device": "cpu", "threads": 1, "versions": {"torch": "2.14"}}
    return Attempt(number=n, start=start, **made | more)


def state(name: str, step: int = 0, reason: str | None = None, code: int | None = None) -> State:
    """A change of state."""
    return State(state=name, reason=reason, code=code, step=step)


def data(data_hash: str = "d1", split_hash: str = "s0", labeled: int = 40) -> Data:
    """What the run was trained and tested on."""
    return Data(
        data_hash=data_hash, split_hash=split_hash, train=1400, labeled=labeled, unlabeled=1400 - labeled, val=0,
        test=397, counts=[labeled // 4] * 4, classes=["anger", "fear", "joy", "neutral"],
    )  # fmt: skip


def points(step: int, **values: Any) -> Points:
    """Values of series at a step; `train__loss=1` is train/loss."""
    return Points(step=step, values={name.replace("__", "/"): value for name, value in values.items()})


def evaluation(step: int, accuracy: float, weights: str = "ema", predictor: str = "head", **more: Any) -> Evaluation:
    """A whole evaluation of the test images."""
    metrics = {"accuracy": accuracy, "balanced_accuracy": accuracy - 0.02, "macro_f1": accuracy - 0.03}
    metrics |= {"nll": 1 - accuracy, "ece": 0.05, "largest_class": 0.31}
    made: dict[str, Any] = {
        "split": "test", "weights": weights, "predictor": predictor, "n": 397, "metrics": metrics,
        "per_class": [accuracy, accuracy, accuracy - 0.04, accuracy - 0.04],
        "confusion": [[90, 5, 3, 2], [4, 88, 5, 3], [6, 4, 80, 9], [1, 3, 9, 85]],
    }  # fmt: skip
    return Evaluation(step=step, **made | more)


def checkpoint(step: int, kind: str = "periodic") -> Checkpoint:
    """A published checkpoint."""
    return Checkpoint(
        step=step, path=f"checkpoints/step-{step:09d}", bytes=123456, sha256="ab" * 32, reason=kind
    )  # fmt: skip


def finished_run(
    runs: Path,
    uid: str,
    *,
    final: float = 0.9,
    evaluations: int = 4,
    end: str = "completed",
    labels: int = 40,
    data_hash: str = "d1",
    split_hash: str | None = None,
    **about: Any,
) -> Path:
    """A run that trained to its end, with a curve that climbs to `final`."""
    seed = int(about.get("seed", 0))
    folder = make_run(runs, uid, labels=labels, **about)
    total = int(about.get("total", 1000))
    rows = [attempt(), state("running"), data(data_hash, split_hash or f"s{seed}", labels)]
    for n in range(1, evaluations + 1):
        step = total * n // evaluations
        rows.append(points(step, train__loss=2.0 * math.exp(-n / evaluations), lr=0.03))
        accuracy = final - 0.3 * (1 - n / evaluations) ** 2
        for weights in ("raw", "ema"):
            for predictor in ("head", "centroid"):
                lower = 0.01 * (weights == "raw") + 0.02 * (predictor == "centroid")
                rows.append(evaluation(step, accuracy - lower, weights, predictor))
    rows += [checkpoint(total, "last"), state(end, total)]
    write(folder, 1, *rows, t=int(about.get("created", T0)))
    return folder


def family(runs: Path, seeds: int = 5) -> None:
    """Three methods x seeds, one failed, one still running, one with other data: what compare is for."""
    dice, n = random.Random(1), 0
    for method, level in (("supervised", 0.80), ("mixmatch", 0.86), ("marginmix", 0.87)):
        for seed in range(seeds):
            n += 1
            final = level + dice.gauss(0, 0.01)
            made = {
                "method": method,
                "seed": seed,
                "name": method,
                "config_id": f"config-{method}",
                "created": T0 + n * 60_000,
            }
            if method == "marginmix":
                made["published"] = {
                    "value": 89.0,
                    "std": 0.4,
                    "unit": "accuracy %",
                    "metric": "test/accuracy",
                    "selection": "unstated",
                    "source": "table 2",
                }
            finished_run(runs, f"20261125-0815{n:02d}-{method}-s{seed}-{n:04x}", final=final, **made)
    failed = make_run(
        runs,
        "20261125-090000-mixmatch-s8-00f1",
        method="mixmatch",
        name="mixmatch",
        config_id="config-mixmatch",
        seed=8,
    )
    write(failed, 1, attempt(), state("running"), data(split_hash="s8"), state("failed", 10, "a loss is not finite", 3))
    append(failed, Note(text="see [bold]log[/bold] \x1b[31m"))
