"""Alarms sound at their thresholds, once, and go on where a checkpoint left them."""

from __future__ import annotations

import json

import pytest

from helpers.tiny_project import training
from mmctl.training.alarms import Alarms

SERIES = "test/ema/head/largest_class"


def alarms() -> Alarms:
    return Alarms(300, SERIES, {"labeled": 1.0, "margin": 64.0, "margin_unlabeled": 0.1, "off": 0.0})


def margins(ratio: float, margin: float = -1.0) -> dict[str, float]:
    return {"train/margin_ratio": ratio, "train/margin": margin}


def kinds(found: list[tuple[str, str, bool]]) -> list[str]:
    return [f[0] for f in found]


@pytest.mark.parametrize(
    ("step", "values", "expected"),
    [
        (101, margins(1.5), ["runaway"]),
        (101, margins(1.49), []),
        (100, margins(9.0), []),  # early on the ratio means nothing
        (101, margins(9.0, margin=0.1), []),  # the labelled margin is not satisfied at all
        (1, {"train/centroid_cosine": 0.991}, ["centroids"]),
        (1, {"train/centroid_cosine": 0.99}, []),
        (1, {"train/labeled": 100.5}, ["loss"]),
        (1, {"train/labeled": -100.5}, ["loss"]),
        (1, {"train/labeled": 100.0}, []),
        (1, {"train/loss": 6400.0, "train/margin": 100.0}, []),  # the weight is large, not the term
        (1, {"train/margin": 100.5}, ["loss"]),
        (1, {"train/margin_unlabeled": 1000.5}, ["loss"]),
        (1, {"train/margin_unlabeled": 999.0, "train/off": 1e9}, []),
        (1, {}, []),
    ],
)
def test_thresholds_of_points(step: int, values: dict[str, float], expected: list[str]) -> None:
    assert kinds(alarms().point(step, values)) == expected


def test_which_alarms_are_a_collapse() -> None:
    made = alarms()
    found = made.point(200, margins(2.0) | {"train/centroid_cosine": 1.0, "train/labeled": 1e9})
    assert [(kind, collapsed) for kind, _, collapsed in found] == [
        ("runaway", False), ("centroids", True), ("loss", True),
    ]  # fmt: skip
    assert all(text.endswith(".") for _, text, _ in found)
    assert found[-1][1].startswith("the loss term labeled is 1e+09: ")


def test_each_alarm_sounds_once() -> None:
    made = alarms()
    assert kinds(made.point(200, margins(2.0))) == ["runaway"]
    assert made.point(201, margins(2.0)) == []
    assert kinds(made.point(202, {"train/labeled": 200.0, "train/margin": 200.0})) == ["loss"]


def test_collapse_needs_three_evaluations_in_a_row() -> None:
    made = alarms()
    shares = [0.95, 0.95, 0.9, 0.91, 0.92, 0.93, 0.99]  # .9 itself breaks the row
    found = [kinds(made.evaluated({SERIES: share})) for share in shares]
    assert found == [[], [], [], [], [], ["collapse"], []]
    assert made.evaluated({"test/raw/head/largest_class": 1.0}) == []  # another series than the run's own


def test_a_run_carries_its_alarms_over() -> None:
    first, second = training("supervised"), training("supervised")
    assert first.alarms.primary == SERIES
    first.alarms.evaluated({SERIES: 1.0})
    first.alarms.point(200, margins(2.0))
    second.restore(7, json.loads(json.dumps(first.facts())))
    assert second.step == 7
    assert (second.alarms.in_a_row, second.alarms.reported) == (1, ["runaway"])
