"""The profile of a step: parts without the time of inner parts, methods restored, a readable trace."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers import tiny_project
from helpers.command import Result
from helpers.tiny_project import training
from mmctl.preview.profile import PARTS, PartTimer, peak_conv_flops, run_steps, time_parts
from mmctl.runs.hardware import instruction_set
from mmctl.training.loop import device_step

Mm = Callable[..., Result]
CPU = torch.device("cpu")


def test_a_part_does_not_count_the_parts_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    timer = PartTimer(CPU)
    monkeypatch.setattr(timer, "now", lambda: now)

    with timer.part("outer"):
        now += 1
        with timer.part("inner"):
            now += 10
            with timer.part("outer"):
                now += 100
        now += 1000
        with timer.part("inner"):
            now += 10000
    assert timer.seconds == {"outer": 1101, "inner": 10010}


def test_on_a_cpu_processor_time_is_measured() -> None:
    timer = PartTimer(CPU)
    with timer.part("asleep"):
        time.sleep(0.05)
    assert timer.seconds["asleep"] < 0.04


@pytest.mark.parametrize("method", ["supervised", "mixmatch", "marginmix"])
def test_a_profiled_step_computes_the_same_and_restores_all_methods(method: str) -> None:
    plain, seen = training(method), training(method)
    before = set(vars(seen))
    backward, forward = torch.autograd.backward, vars(type(seen.model)).get("forward")
    with time_parts(seen, PartTimer(CPU)):
        run_steps(seen, 4)
    for step in range(4):
        device_step(plain, plain.staged(step))
    assert all(torch.equal(t, seen.tensors()[k]) for k, t in plain.tensors().items())
    assert torch.autograd.backward is backward
    assert set(vars(seen)) == before
    assert "forward" not in vars(seen.model)
    assert vars(type(seen.model)).get("forward") is forward
    assert "batch" not in vars(seen.loader)
    assert "step" not in vars(seen.optimizer)


def test_every_part_is_timed() -> None:
    run, timer = training("marginmix", "centroids.estimator=exact", "centroids.every=2"), PartTimer(CPU)
    with time_parts(run, timer):
        run_steps(run, 3, timer)
    assert set(timer.seconds) == set(PARTS)
    assert all(s > 0 for s in timer.seconds.values())


def test_the_command_prints_where_a_step_goes(mm: Mm, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    tiny_project.written("mixmatch")
    done = mm("run", "tiny.toml", "--profile", "3", "--set", "train.device=cpu")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith(f"tiny: 3 steps on cpu ({instruction_set()}), fp32, ")
    shares = [float(line[29:].split()[1]) for line in lines if line[:29].strip() in PARTS]
    assert len(shares) >= 8
    assert sum(shares) == pytest.approx(100, abs=2)
    assert "GFLOP per step" in done.out
    trace = tmp_path / "runs" / "profile-tiny.json"
    assert str(trace) in done.out
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"mmctl: backward", "mmctl: data", "mmctl: optimizer", "aten::convolution"} <= names
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["profile-tiny.json"], "no run is made"
    assert "no runs" in mm("ls").out + mm("ls").err


def test_a_trace_that_cannot_be_written(mm: Mm, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    tiny_project.written("supervised")
    (tmp_path / "runs").write_text("a file")
    done = mm("run", "tiny.toml", "--profile", "1", "--set", "train.device=cpu")
    assert done.code == 4
    assert "cannot write the trace" in done.err


def test_the_peak_is_measured() -> None:
    assert peak_conv_flops(CPU, None, 0.01) > 1e8
