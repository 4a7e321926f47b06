"""Device, precision and threads follow from the recipe, the machine and the command, never from load or time."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_project
from helpers.command import Result
from helpers.run_helpers import assert_same, events, never
from mmctl.plugin import available_cores
from mmctl.runs import hardware
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.text import hardware_line
from mmctl.training.loop import Event, Started

Mm = Callable[..., Result]
CPU = torch.device("cpu")


def test_a_busy_machine_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_project.recipe("supervised", "train.steps=4", "train.precision=auto", "train.device=cpu")
    runs = []
    for load in (0.0, 1000.0):
        ticks = itertools.count()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getloadavg", lambda load=load: (load, load, load))
            # Every second interval is longer: a measurement of two things in turn would call the first one faster.
            patch.setattr(time, "process_time", lambda ticks=ticks, load=load: (n := next(ticks)) + load * (n % 4 > 2))
            torch.set_num_threads(1)
            runs.append(create_run(recipe, tmp_path / "runs"))
            execute(runs[-1], never)
    torch.set_num_threads(1)
    found = [events(folder, "attempt")[0] for folder in runs]
    assert [one["threads"] for one in found] == [available_cores()] * 2
    assert [one["precision"] for one in found] == ["bf16" if hardware.cpu_bf16() else "fp32"] * 2
    assert_same(*runs)


@pytest.mark.parametrize(
    ("known", "isa", "precision"),
    [
        ({"avx512_bf16": True, "amx_bf16": True}, "AVX512, amx_bf16", "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False}, "AVX512, avx512_bf16", "bf16"),
        ({"avx512_bf16": False, "avx512_f": True}, "AVX512", "fp32"),
        ({}, "AVX512", "fp32"),
    ],
)
def test_a_cpu_uses_bf16_if_it_has_instructions_for_it(
    known: dict[str, Any], isa: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert hardware.instruction_set() == isa
    assert hardware.precision_of("auto", CPU) == precision
    assert [hardware.precision_of(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_an_old_torch_does_not_know_and_fp32_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert hardware.precision_of("auto", CPU) == "fp32"


@pytest.mark.parametrize(
    ("wanted", "cores", "parallel", "threads"),
    [(None, 8, 1, 8), (None, 2, 2, 1), (None, 8, 3, 2), (None, 4, 16, 1), (5, 2, 2, 5)],
)
def test_parallel_runs_share_the_cores(
    wanted: int | None, cores: int, parallel: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "available_cores", lambda: cores)
    assert hardware.threads_of(wanted, parallel) == threads


def test_the_last_run_of_several_gets_the_threads_of_one_of_several(mm: Mm, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path.cwd() / "plugins").mkdir(exist_ok=True)
    tiny_project.written("supervised")
    words = ("run", "tiny.toml", "--quiet", "--set", "train.steps=4", "--set", "train.device=cpu")
    assert mm(*words, "--set", "train.threads=1", "--seeds", "0").code == 0
    launched: list[tuple[int, int]] = []
    monkeypatch.setattr("mmctl.sweep.launch.launch", lambda runs, folder, jobs, **_: launched.append((len(runs), jobs)))
    assert mm(*words, "--seeds", "0-1", "--jobs", "2").code == 0
    assert launched == [(1, 2)]


def test_the_hardware_is_shown_before_step_0_and_stored(mm: Mm, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    seen: list[tuple[int, Event]] = []
    recipe = tiny_project.recipe("supervised", "train.steps=2", "train.threads=1", "train.device=cpu")
    folder = create_run(recipe, tmp_path / "runs")
    execute(folder, never, lambda event, training: seen.append((training.step, event)))
    line = f"cpu ({hardware.instruction_set()}), fp32, 1 thread"
    assert seen[0] == (0, Started(0, line))
    assert hardware_line(events(folder, "attempt")[0]) == line
    assert f"hardware   {line}\n" in mm("show", "@last").out
    words = ("run", "tiny.toml", "--set", "train.threads=1", "--set", "train.device=cpu", "--set", "train.steps=2")
    assert f"hardware: {line}\n" in mm(*words, "--force").err
    assert "hardware" not in mm(*words, "--force", "--quiet").err


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"device": "cpu", "isa": "AVX2", "precision": "fp32", "threads": 2}, "cpu (AVX2), fp32, 2 threads"),
        (
            {"device": "NVIDIA H100", "isa": "AVX2", "precision": "bf16", "threads": 1},
            "NVIDIA H100, bf16, 1 CPU thread",
        ),
        ({"device": "cpu", "threads": 1}, "cpu, 1 thread"),
        ({}, ""),
    ],
)
def test_the_line_of_the_hardware(facts: dict[str, Any], line: str) -> None:
    assert hardware_line(facts) == line
