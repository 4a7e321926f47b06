"""Aim with its local repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import adapter
from adapter import NAMES, POINTS, params, value

MAIN = ["-c", "from aim.cli.cli import cli_entry_point; cli_entry_point()"]
"""The module aim.cli.cli does nothing by itself."""
CLI = {"help": [*MAIN, "--help"], "ls": [*MAIN, "runs", "ls"]}
VIEW = [*MAIN, "up", "--port", "{port}"]


def environment(store: Path) -> dict[str, str]:
    """For the command line, which works in the store."""
    return {"AIM_UI_TELEMETRY_ENABLED": "0", "AIM_REPO": str(store)}


def new(store: Path, config: dict[str, Any]) -> Any:
    """A new run."""
    os.environ.update(environment(store))
    from aim import Run

    run = Run(repo=str(store), system_tracking_interval=None, capture_terminal_logs=False)
    run["hparams"] = config
    return run


def runs(store: Path) -> list[Any]:
    """All runs of the repository."""
    from aim import Repo

    return [found.run for found in Repo(str(store)).query_runs("", report_mode=0).iter_runs()]


def make(store: Path, number: int) -> int:
    """So many finished runs."""
    for n in range(number):
        run = new(store, params(n))
        for name in NAMES:
            for point in range(POINTS):
                run.track(value(n, point), name=name, step=100 * point)
        run.close()
    reindex = [sys.executable, *MAIN, "storage", "--repo", str(store), "reindex", "--yes"]
    subprocess.run(reindex, check=True)  # else the runs cannot be read
    return number


def rows(store: Path) -> Any:
    """Configuration and last values of each run."""
    for run in runs(store):
        yield run["hparams"], {metric.name: metric.values.last()[1] for metric in run.metrics()}


def table(store: Path) -> int:
    """All runs with parameters and the last value of every curve."""
    return len(list(rows(store)))


def compare(store: Path) -> int:
    """Mean and standard deviation over the seeds."""
    return adapter.groups((config, last["test/accuracy"]) for config, last in rows(store))


def log(store: Path, number: int) -> dict[str, float]:
    """So many calls, one point each."""
    run = new(store, {})
    return adapter.timed_calls(lambda n: run.track(1.0, name="loss", step=n), number, run.close)


def write(store: Path, number: int) -> int:
    """One of several writers that start at once."""
    run = new(store, {})
    for n in range(number):
        run.track(1.0, name="loss", step=n)
    run.close()
    return number


def endless(store: Path) -> None:
    """Log until the process is killed."""
    run = new(store, {})
    adapter.endless(lambda n: run.track(1.0, name="loss", step=n))


def state(store: Path) -> dict[str, Any]:
    """What is said of all runs: the states, and the number of points of each."""
    found = runs(store)
    points = [sum(len(metric.values) for metric in run.metrics()) for run in found]
    return {"states": ["active" if run.active else "finished" for run in found], "points": points}


if __name__ == "__main__":
    adapter.main(sys.modules[__name__])
