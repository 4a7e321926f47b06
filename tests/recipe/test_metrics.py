"""The primary metric is checked, and is no part of the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers import tiny_project
from helpers.command import Result
from mmctl.errors import RecipeError
from mmctl.identity import COUNTED_BEFORE, config_id_of
from mmctl.metric_names import METRICS, PROBABILITIES, checked_metric
from mmctl.run_folder.record import read_record
from mmctl.run_folder.upgrade import upgrade_record
from mmctl.runs.create import create_run
from mmctl.training.evaluate import score


def test_the_metrics_are_those_that_evaluations_compute() -> None:
    scores = torch.eye(3).log_softmax(-1)
    assert set(METRICS) == score(scores, torch.arange(3)).metrics.keys()
    without = score(scores, torch.arange(3), probabilities=False).metrics.keys()
    assert set(METRICS) - set(PROBABILITIES) == without


@pytest.mark.parametrize("predictor", ["", "/ema/head", "/raw/head", "/ema/centroid", "/raw/centroid"])
@pytest.mark.parametrize("metric", [*METRICS, "acuracy", "agreement", "f1", "loss"])
def test_a_metric_is_refused_if_no_evaluation_has_it(predictor: str, metric: str) -> None:
    name = f"test{predictor}/{metric}"
    if metric in METRICS and not ("centroid" in predictor and metric in PROBABILITIES):
        assert checked_metric(name) == name
    else:
        with pytest.raises(ValueError, match="must end with a metric"):
            checked_metric(name)


def test_the_message_suggests() -> None:
    for key in ("eval.primary", "published.metric"):
        with pytest.raises(RecipeError, match=rf'--set: {key}: must end .*got "test/acuracy".*did you mean "accuracy"'):
            tiny_project.recipe("supervised", f"{key}=test/acuracy", "published.source=x", "published.selection=last")


@pytest.mark.parametrize("command", [["run"], ["run", "--dry-run"]])
@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["eval.primary=val/accuracy"], 'no split "val" (it has test); set split.val = 0.1 '),
        (["eval.primary=tset/accuracy", 'eval.splits=["test", "tset"]'], 'has no split "tset" (it has test); choose'),
        (["eval.primary=test/acuracy"], "must end with a metric"),
        (["eval.primary=tset/accuracy"], '"tset" is not evaluated'),
    ],
)
def test_a_primary_metric_without_data_is_refused_before_step_0(
    mm: Callable[..., Result], tmp_path: Path, command: list[str], sets: list[str], said: str
) -> None:
    tiny_project.written("supervised")
    done = mm(*command, "tiny.toml", *(word for one in sets for word in ("--set", one)))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (tmp_path / "runs").exists()


def test_the_primary_metric_is_no_part_of_the_configuration() -> None:
    one = tiny_project.recipe("supervised")
    other = tiny_project.recipe("supervised", "eval.primary=test/raw/head/macro_f1")
    assert one.config_id == other.config_id
    assert one.data != other.data


@pytest.mark.parametrize("format_", [1, 2])
def test_a_run_of_before_falls_into_the_configuration_of_today(tmp_path: Path, format_: int) -> None:
    folder = create_run(tiny_project.recipe("supervised"), tmp_path / "runs")
    record = json.loads((folder / "run.json").read_text())
    old = record | {"config_id": config_id_of(record["config"], record["components"], COUNTED_BEFORE)}
    assert old["config_id"] != record["config_id"]
    (folder / "run.json").write_text(json.dumps(old | {"format": format_}))
    assert read_record(folder)["config_id"] == record["config_id"]
    edited = old | {"config": {**old["config"], "seed": 1, "optimizer": {"lr": 3.0}}}
    assert upgrade_record(edited)["config_id"] == old["config_id"]  # that of no configuration, and stays so
