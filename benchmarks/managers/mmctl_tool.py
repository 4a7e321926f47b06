"""mmctl: what its training loop does for each point, and its own commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import adapter
from adapter import NAMES, POINTS, params, value

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
CLI = {"help": ["-m", "mmctl", "--help"], "ls": ["-m", "mmctl", "ls"]}
CURVES = ["test/ema/head/accuracy", *NAMES[1:]]
TABLE = ["-m", "mmctl", "export", "--format", "jsonl"]
"""Every setting and the last value of every curve of all runs, as the other tools list them."""
COMPARE = ["-m", "mmctl", "compare"]


def environment(store: Path) -> dict[str, str]:
    """For the command line."""
    return {"MMCTL_RUNS": str(store), "PYTHONPATH": str(Path(__file__).resolve().parent.parent.parent)}


def folder(store: Path, run: int) -> Path:
    """A new run folder, as `mmctl run` makes it."""
    made = store / f"20261125-{run:06d}-bench-s{run % adapter.SEEDS}-{run:04x}"
    made.mkdir(parents=True)
    config = params(run)
    table = {
        "name": "bench", "seed": config.pop("seed"), "dataset": {"name": "mmctl:digits"},
        "split": {"labels": config.pop("labels"), "rule": "balanced"}, "method": {"name": "mmctl:mixmatch"},
        "optimizer": {"name": "sgd", "lr": config.pop("lr")}, "train": {"steps": 200, "batch": 64} | config,
    }  # fmt: skip
    about = {
        "format": 2, "uid": made.name, "name": "bench", "recipe": "bench", "method": "mixmatch", "labeler": None,
        "seed": table["seed"], "config_id": f"c{run // adapter.SEEDS}", "config": table, "tags": [], "note": None,
        "created": 1_790_000_000_000 + run, "total_steps": 200, "primary": CURVES[0], "published": None,
        "command": ["mmctl", "run", "bench"], "environment": {"device": "cpu"}, "git": None,
        "components": [{"kind": "method", "slot": None, "name": "mmctl:mixmatch", "origin": "mmctl", "params": {}}],
    }  # fmt: skip
    (made / "run.json").write_text(json.dumps(about))
    return made


def begun(log: Any, run: int) -> None:
    """What stands in a journal before the first step."""
    from mmctl.run_folder.events import Attempt, Data, State

    log.write(Attempt(number=1, start=0, host="bench", device="cpu", threads=1))
    log.write(State(state="running", step=0))
    log.write(Data(
        data_hash="d", split_hash=f"s{run % adapter.SEEDS}", train=1000, labeled=40, unlabeled=960, val=0, test=100,
        counts=[10, 10, 10, 10], classes=["a", "b", "c", "d"],
    ))  # fmt: skip


def make(store: Path, number: int) -> int:
    """So many finished runs, listed once, so that they are in the index as after `mmctl run`."""
    from mmctl.run_folder.events import Points, State
    from mmctl.run_folder.journal import Journal
    from mmctl.store.store import Store

    for run in range(number):
        with Journal(folder(store, run), 1) as log:
            begun(log, run)
            for n in range(POINTS):
                log.write(Points(step=100 * n, values=dict.fromkeys(CURVES, value(run, n))))
            log.write(State(state="completed", step=200))
    with Store(store) as index:
        index.sync()
    return number


def log(store: Path, number: int) -> dict[str, float]:
    """So many calls, one point each, with the index brought up to date as in training."""
    from mmctl.run_folder.events import Points, State
    from mmctl.run_folder.journal import Journal
    from mmctl.run_folder.lease import Lease
    from mmctl.store.live import live_index

    made = folder(store, os.getpid() % 1_000_000)
    with Lease(made), Journal(made, 1, live_index(made)) as journal:
        begun(journal, 0)

        def finish() -> None:
            journal.write(State(state="completed", step=number))
            journal.flush(sync=True)

        return adapter.timed_calls(lambda n: journal.write(Points(step=n, values={"loss": 1.0})), number, finish)


def write(store: Path, number: int) -> int:
    """One of several writers that start at once."""
    log(store, number)
    return number


def endless(store: Path) -> None:
    """Log until the process is killed."""
    from mmctl.run_folder.events import Points
    from mmctl.run_folder.journal import Journal
    from mmctl.run_folder.lease import Lease
    from mmctl.store.live import live_index

    made = folder(store, 0)
    with Lease(made), Journal(made, 1, live_index(made)) as journal:
        begun(journal, 0)
        adapter.endless(lambda n: journal.write(Points(step=n, values={"loss": 1.0})))


def state(store: Path) -> dict[str, Any]:
    """What is said of all runs: the states, and the number of points of each."""
    from mmctl.store.store import Store

    with Store(store) as index:
        index.sync()
        found = index.runs()
        points = [len(index.points(run, "loss")) for run in found]
        return {"states": [run["state"] for run in found], "points": points}


if __name__ == "__main__":
    adapter.main(sys.modules[__name__])
