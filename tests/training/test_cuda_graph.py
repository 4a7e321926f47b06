"""Steps that a graph can hold, the mode that steps run in; the graph itself needs a GPU (marked so)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from helpers.method_cases import CASES, METHODS, SOFT, every_method, named
from helpers.method_checks import assert_replayed_is_taken, capturable, tensors
from helpers.tiny_project import training
from mmctl.data.transfer import Transfer
from mmctl.training import cuda_graph
from mmctl.training.cuda_graph import (
    Snapshot,
    StepRunner,
    changes_images_on_cpu,
    uses_device_rng,
    why_not_captured,
)
from mmctl.training.loop import Notice, device_step, train
from mmctl.training.state import Training

ADAM = [(m, ("optimizer.name=adamw", "optimizer.lr=0.01", "optimizer.clip=1.0")) for m in METHODS]
# Exact centroids are found between steps, where no graph is.
TAPED = [(m, sets) for m, sets in CASES if "centroids.estimator=exact" not in sets] + ADAM


@pytest.mark.sampled(16, 4)
@pytest.mark.parametrize(("method", "sets"), TAPED, ids=named)
def test_a_step_replayed_is_a_step_taken(method: str, sets: tuple[str, ...]) -> None:
    assert_replayed_is_taken(method, sets)


@pytest.mark.sampled(3)
@every_method
def test_state_stays_where_it_is(method: str) -> None:
    run = training(method, *SOFT.get(method, ()))
    device_step(run, run.staged(0))
    where = {k: t.data_ptr() for k, t in run.tensors().items()}
    for step in range(1, 4):
        device_step(run, run.staged(step))
    assert {k: t.data_ptr() for k, t in run.tensors().items()} == where


def test_a_snapshot_puts_everything_back() -> None:
    run = training("marginmix")
    device_step(run, run.staged(0))
    before, kept = tensors(run), Snapshot(run)
    device_step(run, run.staged(1))
    assert any(not torch.equal(t, before[k]) for k, t in run.tensors().items())
    kept.restore()
    assert all(torch.equal(t, before[k]) for k, t in run.tensors().items())


class Dropping(nn.Module):
    """A backbone with dropout."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.embed_dim = 3
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(3), nn.Dropout(rate))


def test_what_draws_on_the_device_is_not_captured() -> None:
    assert uses_device_rng({"model": Dropping(0.0)}) is None
    assert uses_device_rng({"model": Dropping(0.1)}) == "Dropout in model draws random numbers on the device"


def test_what_changes_images_on_the_cpu_is_not_captured() -> None:
    assert changes_images_on_cpu({"weak": SimpleNamespace()}) is None
    policies = {"weak": SimpleNamespace(), "strong": SimpleNamespace(on_cpu=True)}
    assert changes_images_on_cpu(policies) == "augment.strong changes the images on the CPU"


def test_on_a_cpu_there_is_nothing_to_say() -> None:
    run = training("supervised")
    runner = StepRunner(run, device_step)
    assert why_not_captured(run) == "the device is not a CUDA GPU"
    runner(run.plan(0))
    assert runner.mode == "eager"
    assert not runner.newly_eager()


class Fake:
    """Stands for the CUDA graph: what it is told to do."""

    def __init__(self, run: Training, step: Any, staged: Any) -> None:
        self.run, self.step, self.form = run, step, run.transfer.form
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.step(self.run, self.run.transfer(self.run.plan(self.run.step)))


def running(run: Training, monkeypatch: pytest.MonkeyPatch, recorded: Any) -> StepRunner:
    monkeypatch.setattr(cuda_graph, "why_not_captured", lambda run: None)
    monkeypatch.setattr(cuda_graph, "CapturedStep", recorded)
    run.transfer = Transfer(torch.device("cpu"), packed=True)
    runner = StepRunner(run, device_step)
    runner._announced = False
    return runner


def test_the_graph_is_made_once_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised")
    runner = running(run, monkeypatch, Fake)
    for step in range(3):
        runner(run.plan(step))
        run.step += 1
    assert runner.mode == "graph"
    assert runner.graph is not None
    assert runner.graph.replays == 3  # type: ignore[attr-defined]
    assert not runner.newly_eager()


def test_a_graph_that_fails_falls_back_to_eager_and_says_why_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised")

    def fail(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    runner = running(run, monkeypatch, fail)
    for step in range(3):
        runner(run.plan(step))
    assert runner.mode == "eager"
    assert runner.why == "RuntimeError: operation not permitted when stream is capturing"
    assert [runner.newly_eager(), runner.newly_eager()] == [True, False]


def test_other_shapes_end_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised")
    runner = running(run, monkeypatch, Fake)
    runner(run.plan(0))
    other = run.plan(1)
    other.draws = {"more": other.index_x}
    runner(other)
    assert runner.mode == "eager"
    assert runner.newly_eager()
    assert "changed" in (runner.why or "")


def test_the_fall_is_told_as_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised", "train.steps=3")
    made: list[StepRunner] = []

    def runner(run: Training, step: Any) -> StepRunner:
        made.append(running(run, monkeypatch, lambda *_: 1 / 0))
        return made[-1]

    monkeypatch.setattr("mmctl.training.loop.StepRunner", runner)
    events = [e for e in train(run, lambda: False) if isinstance(e, Notice)]
    assert [e.step for e in events] == [1]
    assert "ZeroDivisionError" in events[0].text


@pytest.mark.gpu
@every_method
def test_on_a_gpu_a_graph_gives_what_single_operations_give(method: str, tmp_path: Path) -> None:
    from helpers.tiny_project import recipe
    from mmctl.runs.build import build_training, read_data

    found = []
    for mode in ("auto", "off"):
        made = recipe(method, *SOFT.get(method, ()), f"train.capture={mode}", "train.device=cuda")
        run = build_training(made, read_data(made), torch.device("cuda"), None)
        fallen = [e for e in train(run, lambda: False) if isinstance(e, Notice)]
        assert [e.text for e in fallen if mode == "auto"] == []
        found.append(tensors(run))
    for name, value in found[0].items():
        assert torch.allclose(value.double(), found[1][name].double(), rtol=1e-3, atol=1e-5), name


@pytest.mark.gpu
@every_method
def test_on_a_gpu_no_step_waits(method: str) -> None:
    from helpers.tiny_project import recipe
    from mmctl.runs.build import build_training, read_data

    made = recipe(method, *SOFT.get(method, ()), "train.device=cuda")
    run = build_training(made, read_data(made), torch.device("cuda"), None)
    device_step(run, run.staged(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, 4):
            device_step(run, run.staged(step))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_network_gives_the_same_to_rounding() -> None:
    plain, fused = training("marginmix"), training("marginmix", "train.compile=true")
    for step in range(4):
        device_step(plain, plain.staged(step))
        device_step(fused, fused.staged(step))
    assert list(fused.tensors()) == list(plain.tensors())
    one, other = plain.metrics.read(), fused.metrics.read()
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_a_step_that_cannot_be_captured_goes_on_as_if_nothing_had_been_tried() -> None:
    from helpers.tiny_project import recipe
    from mmctl.runs.build import build_training, read_data

    found = []
    for mode in ("auto", "off"):
        made = recipe("mixmatch", *SOFT["mixmatch"], f"train.capture={mode}", "train.device=cuda")
        run = build_training(made, read_data(made), torch.device("cuda"), None)
        plain = run.method.step

        def waiting(batch: Any, plain: Any = plain) -> Any:
            terms = plain(batch)
            assert terms.losses["labeled"].item() > 0  # waits for the device
            return terms

        run.method.step = waiting
        with torch.cuda.stream(torch.cuda.Stream()):
            told = [e for e in train(run, lambda: False) if isinstance(e, Notice)]
        assert bool(told) == (mode == "auto")
        found.append(tensors(run))
    for name, value in found[0].items():
        assert torch.allclose(value.double(), found[1][name].double(), rtol=1e-3, atol=1e-5), name
