"""W&B offline: it writes files for a server and has no way to list or compare them without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import adapter
from adapter import NAMES, POINTS, params, value

CLI = {"help": ["-m", "wandb", "--help"]}


def environment(store: Path) -> dict[str, str]:
    """For the command line and the library."""
    return {"WANDB_MODE": "offline", "WANDB_DIR": str(store), "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}


def new(store: Path, config: dict[str, Any]) -> Any:
    """A new run."""
    os.environ.update(environment(store))
    import wandb

    return wandb.init(project="bench", config=config, reinit="finish_previous")


def make(store: Path, number: int) -> int:
    """So many finished runs."""
    for n in range(number):
        run = new(store, params(n))
        for point in range(POINTS):
            run.log(dict.fromkeys(NAMES, value(n, point)), step=100 * point)
        run.finish()
    return number


def log(store: Path, number: int) -> dict[str, float]:
    """So many calls, one point each."""
    run = new(store, {})
    return adapter.timed_calls(lambda n: run.log({"loss": 1.0}, step=n), number, run.finish)


def write(store: Path, number: int) -> int:
    """One of several writers that start at once."""
    run = new(store, {})
    for n in range(number):
        run.log({"loss": 1.0}, step=n)
    run.finish()
    return number


def endless(store: Path) -> None:
    """Log until the process is killed."""
    run = new(store, {})
    adapter.endless(lambda n: run.log({"loss": 1.0}, step=n))


if __name__ == "__main__":
    adapter.main(sys.modules[__name__])
