"""Saving beside training: copies are of the moment, one save at a time, and no fault is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.run_helpers import assert_same, never, started
from mmctl.run_folder.lease import holder
from mmctl.runs.execute import execute
from mmctl.training import checkpoint
from mmctl.training.async_save import AsyncSaver
from mmctl.training.state import Training


def state() -> dict[str, Tensor]:
    kernel = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    return {
        "kernel": kernel,
        "step": torch.tensor(7),
        "weight": torch.nn.Parameter(torch.randn(3)),
        "none": torch.zeros(0),
    }


def test_the_copy_is_of_the_moment() -> None:
    live, seen, go = state(), [], threading.Event()
    before = {k: t.detach().clone() for k, t in live.items()}
    writer = AsyncSaver(live)

    def work(tensors: dict[str, Tensor]) -> None:
        assert go.wait(20)
        seen.append({k: t.clone() for k, t in tensors.items()})

    writer.save(live, work)
    with torch.no_grad():
        for tensor in live.values():
            tensor.add_(1)  # training goes on
    go.set()
    writer.join()
    assert seen[0].keys() == before.keys()
    assert all(torch.equal(t, before[k]) for k, t in seen[0].items())
    assert seen[0]["kernel"].stride() == live["kernel"].stride(), "one stretch of bytes"
    assert not any(t.requires_grad for t in seen[0].values())


def test_one_save_at_a_time() -> None:
    live, order = state(), []
    writer = AsyncSaver(live)
    for n in range(3):

        def work(tensors: dict[str, Tensor], n: int = n) -> None:
            order.extend([f"{n} begins", f"{n} ends"])

        writer.save(live, work)
    writer.join()
    assert order == [f"{n} {what}" for n in range(3) for what in ("begins", "ends")]


@pytest.mark.parametrize("again", [False, True])
def test_a_fault_is_raised_once_where_training_is(again: bool) -> None:
    live = state()
    writer = AsyncSaver(live)

    def work(tensors: dict[str, Tensor]) -> None:
        raise OSError("full")

    writer.save(live, work)
    with pytest.raises(OSError, match="full"):
        writer.save(live, lambda _: None) if again else writer.join()
    writer.join()


def test_tensors_may_come_and_change_their_size() -> None:
    writer, seen = AsyncSaver({"a": torch.zeros(2)}), []
    writer.save({"a": torch.ones(3), "b": torch.ones(1)}, lambda t: seen.append({k: v.clone() for k, v in t.items()}))
    writer.join()
    assert {k: v.tolist() for k, v in seen[0].items()} == {"a": [1, 1, 1], "b": [1]}


def test_a_slow_disk_does_not_hold_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    whole, folder = started(tmp_path), started(tmp_path)
    execute(whole, never)
    real, reached = checkpoint.write_synced, threading.Event()

    def slow(path: Path, data: bytes) -> None:
        if ".tmp-5-" in str(path):
            assert reached.wait(20), "training waits for the disk"
        real(path, data)

    def watch(event: Any, t: Training) -> None:
        if t.step == 9:
            reached.set()

    monkeypatch.setattr(checkpoint, "write_synced", slow)
    assert execute(folder, never, watch).state == "completed"
    assert_same(folder, whole)


def test_the_lease_is_held_until_nobody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real, held = started(tmp_path), checkpoint.write_synced, []

    def watched(path: Path, data: bytes) -> None:
        real(path, data)
        held.append(holder(folder) is not None)

    def watch(event: Any, t: Training) -> None:
        if t.step == 5 and event is None:
            raise RuntimeError("in the middle")

    monkeypatch.setattr(checkpoint, "write_synced", watched)
    with pytest.raises(Exception, match="in the middle"):
        execute(folder, never, watch)
    assert held == [True, True]
    assert checkpoint.steps(folder) == [5]


def test_a_thread_that_cannot_start_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    live = state()
    writer = AsyncSaver(live)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            writer.save(live, lambda _: None)
    writer.join()
    writer.settle()


def test_settling_waits_and_forgets() -> None:
    live, done = state(), []
    writer = AsyncSaver(live)

    def work(tensors: dict[str, Tensor]) -> None:
        time.sleep(0.05)
        done.append(1)
        raise OSError("full")

    writer.save(live, work)
    writer.settle()
    assert done == [1]
    writer.join()
