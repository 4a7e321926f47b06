"""Trackio with its local SQLite files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import adapter
from adapter import NAMES, POINTS, params, value

CLI = {"help": ["-m", "trackio.cli", "--help"], "ls": ["-m", "trackio.cli", "list", "runs", "--project", "bench"]}
VIEW = ["-m", "trackio.cli", "show", "--project", "bench"]


def environment(store: Path) -> dict[str, str]:
    """For the command line."""
    return {"TRACKIO_DIR": str(store), "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}


def opened(store: Path) -> Any:
    """The library, with its files in the store."""
    os.environ.update(environment(store))
    import trackio

    return trackio


def start(store: Path, name: str, config: dict[str, Any]) -> Any:
    """The library, in a new run."""
    trackio = opened(store)
    trackio.init(project="bench", name=name, config=config, embed=False)
    return trackio


def make(store: Path, number: int) -> int:
    """So many finished runs."""
    for run in range(number):
        trackio = start(store, f"r{run}", params(run))
        for n in range(POINTS):
            trackio.log(dict.fromkeys(NAMES, value(run, n)), step=100 * n)
        trackio.finish()
    return number


def rows(store: Path) -> Any:
    """Configuration and last values of each run."""
    opened(store)
    from trackio.sqlite_storage import SQLiteStorage as Stored

    for run in Stored.get_runs("bench"):
        logs = Stored.get_logs("bench", run)
        yield Stored.get_run_config("bench", run) or {}, {k: v for row in logs for k, v in row.items()}


def table(store: Path) -> int:
    """All runs with parameters and the last value of every curve."""
    return len(list(rows(store)))


def compare(store: Path) -> int:
    """Mean and standard deviation over the seeds."""
    return adapter.groups(
        ({k: v for k, v in config.items() if not k.startswith("_")}, last["test/accuracy"])
        for config, last in rows(store)
    )


def log(store: Path, number: int) -> dict[str, float]:
    """So many calls, one point each."""
    trackio = start(store, "log", {})
    return adapter.timed_calls(lambda n: trackio.log({"loss": 1.0}, step=n), number, trackio.finish)


def write(store: Path, number: int) -> int:
    """One of several writers that start at once."""
    trackio = start(store, f"w{os.getpid()}", {})
    for n in range(number):
        trackio.log({"loss": 1.0}, step=n)
    trackio.finish()
    return number


def endless(store: Path) -> None:
    """Log until the process is killed."""
    trackio = start(store, "killed", {})
    adapter.endless(lambda n: trackio.log({"loss": 1.0}, step=n))


def state(store: Path) -> dict[str, Any]:
    """What is said of all runs: the states, of which there are none, and the number of points of each."""
    opened(store)
    from trackio.sqlite_storage import SQLiteStorage as Stored

    return {"states": ["(none)"], "points": [len(Stored.get_logs("bench", run)) for run in Stored.get_runs("bench")]}


if __name__ == "__main__":
    adapter.main(sys.modules[__name__])
