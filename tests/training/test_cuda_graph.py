"""Steps that a graph can hold, the ladder of rungs, and its words; the graph itself needs a GPU (marked so)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers.method_cases import CASES, METHODS, SOFT, named
from helpers.method_checks import assert_replayed_is_taken, capturable, tensors
from helpers.tiny_project import training
from mmctl import capture
from mmctl.capture import Ladder, Snapshot, drops, reason
from mmctl.stage import Stage
from mmctl.train import Alarm, Training, device_step, train

every_method = pytest.mark.parametrize("method", METHODS)


ADAM = [(m, ("optimizer.name=adamw", "optimizer.lr=0.01", "optimizer.clip=1.0")) for m in METHODS]
# Exact centroids are found between steps, where no graph is.
TAPED = [(m, sets) for m, sets in CASES if "centroids.estimator=exact" not in sets] + ADAM


@pytest.mark.parametrize(("method", "sets"), TAPED, ids=named)
def test_a_step_replayed_is_a_step_taken(method: str, sets: tuple[str, ...]) -> None:
    assert_replayed_is_taken(method, sets)


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
    assert drops({"model": Dropping(0.0)}) is None
    assert drops({"model": Dropping(0.1)}) == "Dropout in model draws on the device"


def test_on_a_cpu_there_is_nothing_to_say() -> None:
    run = training("supervised")
    ladder = Ladder(run, device_step)
    assert reason(run) == "graphs are of CUDA"
    ladder(run.plan(0))
    assert ladder.rung == "eager"
    assert not ladder.told()


class Fake:
    """Stands for the CUDA graph: what it is told to do."""

    def __init__(self, run: Training, step: Any, staged: Any) -> None:
        self.run, self.step, self.form = run, step, run.stage.form
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.step(self.run, self.run.stage(self.run.plan(self.run.step)))


def climbing(run: Training, monkeypatch: pytest.MonkeyPatch, recorded: Any) -> Ladder:
    monkeypatch.setattr(capture, "reason", lambda run: None)
    monkeypatch.setattr(capture, "Recorded", recorded)
    run.stage = Stage(torch.device("cpu"), packed=True)
    ladder = Ladder(run, device_step)
    ladder._told = False
    return ladder


def test_the_graph_is_made_once_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised")
    ladder = climbing(run, monkeypatch, Fake)
    for step in range(3):
        ladder(run.plan(step))
        run.step += 1
    assert ladder.rung == "graph"
    assert ladder.graph is not None
    assert ladder.graph.replays == 3  # type: ignore[attr-defined]
    assert not ladder.told()


def test_a_graph_that_fails_falls_one_rung_and_says_why_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised")

    def fail(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    ladder = climbing(run, monkeypatch, fail)
    for step in range(3):
        ladder(run.plan(step))
    assert ladder.rung == "eager"
    assert ladder.why == "RuntimeError: operation not permitted when stream is capturing"
    assert [ladder.told(), ladder.told()] == [True, False]


def test_other_shapes_end_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised")
    ladder = climbing(run, monkeypatch, Fake)
    ladder(run.plan(0))
    other = run.plan(1)
    other.draws = {"more": other.index_x}
    ladder(other)
    assert ladder.rung == "eager"
    assert ladder.told()
    assert "changed" in (ladder.why or "")


def test_the_fall_is_told_as_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    run = capturable("supervised", "train.steps=3")
    made: list[Ladder] = []

    def ladder(run: Training, step: Any) -> Ladder:
        made.append(climbing(run, monkeypatch, lambda *_: 1 / 0))
        return made[-1]

    monkeypatch.setattr("mmctl.train.Ladder", ladder)
    events = [e for e in train(run, lambda: False) if isinstance(e, Alarm) and e.kind == "rung"]
    assert [e.step for e in events] == [1]
    assert "ZeroDivisionError" in events[0].text


@pytest.mark.gpu
@every_method
def test_on_a_gpu_a_graph_gives_what_single_operations_give(method: str, tmp_path: Path) -> None:
    from helpers.tiny_project import recipe
    from mmctl.assemble import assemble, read_data

    found = []
    for rung in ("auto", "off"):
        made = recipe(method, *SOFT.get(method, ()), f"train.capture={rung}", "train.device=cuda")
        run = assemble(made, read_data(made), torch.device("cuda"), None)
        fallen = [e for e in train(run, lambda: False) if isinstance(e, Alarm) and e.kind == "rung"]
        assert [e.text for e in fallen if rung == "auto"] == []
        found.append(tensors(run))
    for name, value in found[0].items():
        assert torch.allclose(value.double(), found[1][name].double(), rtol=1e-3, atol=1e-5), name


@pytest.mark.gpu
@every_method
def test_on_a_gpu_no_step_waits(method: str) -> None:
    from helpers.tiny_project import recipe
    from mmctl.assemble import assemble, read_data

    made = recipe(method, *SOFT.get(method, ()), "train.device=cuda")
    run = assemble(made, read_data(made), torch.device("cuda"), None)
    device_step(run, run.staged(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, 4):
            device_step(run, run.staged(step))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_network_gives_the_same_to_rounding() -> None:
    plain, fused = training("marginmix"), training("marginmix", "train.compile=true")
    for step in range(4):
        device_step(plain, plain.staged(step))
        device_step(fused, fused.staged(step))
    assert list(fused.tensors()) == list(plain.tensors())
    one, other = plain.tally.read(), fused.tally.read()
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_a_step_that_cannot_be_captured_goes_on_as_if_nothing_had_been_tried() -> None:
    from helpers.tiny_project import recipe
    from mmctl.assemble import assemble, read_data

    found = []
    for rung in ("auto", "off"):
        made = recipe("mixmatch", *SOFT["mixmatch"], f"train.capture={rung}", "train.device=cuda")
        run = assemble(made, read_data(made), torch.device("cuda"), None)
        plain = run.method.step

        def waiting(batch: Any, plain: Any = plain) -> Any:
            terms = plain(batch)
            assert terms.losses["labeled"].item() > 0  # waits for the device
            return terms

        run.method.step = waiting
        with torch.cuda.stream(torch.cuda.Stream()):
            told = [e.kind for e in train(run, lambda: False) if isinstance(e, Alarm)]
        assert ("rung" in told) == (rung == "auto")
        found.append(tensors(run))
    for name, value in found[0].items():
        assert torch.allclose(value.double(), found[1][name].double(), rtol=1e-3, atol=1e-5), name
