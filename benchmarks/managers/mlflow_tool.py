"""MLflow with its SQLite store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import adapter
from adapter import NAMES, POINTS, params, value

CLI = {"help": ["-m", "mlflow", "--help"], "ls": ["-m", "mlflow", "runs", "list", "--experiment-id", "1"]}
VIEW = ["-m", "mlflow", "server", "--port", "{port}"]


def environment(store: Path) -> dict[str, str]:
    """For the command line."""
    return {"MLFLOW_TRACKING_URI": uri(store), "MLFLOW_DISABLE_TELEMETRY": "true"}


def uri(store: Path) -> str:
    """Where the runs are."""
    return f"sqlite:///{store}/mlflow.db"


def client(store: Path) -> tuple[Any, str]:
    """The client and the id of the experiment."""
    from mlflow import MlflowClient

    made = MlflowClient(uri(store))
    found = made.get_experiment_by_name("bench")
    return made, found.experiment_id if found else made.create_experiment("bench", str(store / "artifacts"))


def make(store: Path, number: int) -> int:
    """So many finished runs."""
    from mlflow.entities import Metric, Param

    made, experiment = client(store)
    for run in range(number):
        uid = made.create_run(experiment, run_name=f"r{run}").info.run_id
        points = [Metric(name, value(run, n), 0, 100 * n) for name in NAMES for n in range(POINTS)]
        made.log_batch(uid, metrics=points, params=[Param(k, str(v)) for k, v in params(run).items()])
        made.set_terminated(uid)
    return number


def table(store: Path) -> int:
    """All runs with parameters and the last value of every curve."""
    import mlflow

    mlflow.set_tracking_uri(uri(store))
    return len(mlflow.search_runs(experiment_names=["bench"], max_results=50_000))


def compare(store: Path) -> int:
    """Mean and standard deviation over the seeds."""
    import mlflow

    mlflow.set_tracking_uri(uri(store))
    found = mlflow.search_runs(experiment_names=["bench"], max_results=50_000, output_format="list")
    return adapter.groups((run.data.params, run.data.metrics["test/accuracy"]) for run in found)


def log(store: Path, number: int) -> dict[str, float]:
    """So many calls, one point each."""
    made, experiment = client(store)
    uid = made.create_run(experiment).info.run_id
    return adapter.timed_calls(
        lambda n: made.log_metric(uid, "loss", 1.0, step=n), number, lambda: made.set_terminated(uid)
    )


def write(store: Path, number: int) -> int:
    """One of several writers that start at once."""
    made, experiment = client(store)
    uid = made.create_run(experiment).info.run_id
    for n in range(number):
        made.log_metric(uid, "loss", 1.0, step=n)
    made.set_terminated(uid)
    return number


def endless(store: Path) -> None:
    """Log until the process is killed."""
    made, experiment = client(store)
    uid = made.create_run(experiment, run_name="killed").info.run_id
    adapter.endless(lambda n: made.log_metric(uid, "loss", 1.0, step=n))


def state(store: Path) -> dict[str, Any]:
    """What is said of all runs: the states, and the number of points of each."""
    made, experiment = client(store)
    found = made.search_runs([experiment])
    points = [len(made.get_metric_history(run.info.run_id, "loss")) for run in found]
    return {"states": [run.info.status for run in found], "points": points}


if __name__ == "__main__":
    adapter.main(sys.modules[__name__])
