"""Stopping runs: what the journals say afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from helpers.fake_runs import attempt, make_run, state, write
from helpers.processes import child, finish
from mmctl.errors import UserError
from mmctl.run_folder import journal, lease
from mmctl.run_folder.events import State
from mmctl.runs.stop import stop
from mmctl.store.store import Store

HOLD = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from mmctl.run_folder.lease import Lease
with ExitStack() as stack:
    for word in sys.argv[1:]:
        stack.enter_context(Lease(Path(word)))
    print("ready", flush=True)
    time.sleep(600)
"""


def running(runs: Path, uid: str, *ends: str) -> Path:
    folder = make_run(runs, uid)
    write(folder, 1, attempt(), state("running"), *map(state, ends))
    return folder


def states(folder: Path) -> list[str]:
    return [event.state for event in journal.read_events(folder, State)]


def test_ended_at_once_keeps_the_end_that_a_run_has_written(tmp_path: Path) -> None:
    folders = [running(tmp_path, "a"), *(running(tmp_path, end, end) for end in ("completed", "failed", "nc"))]
    process = child(HOLD, *folders)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert stop({process.pid: folders}, True, 60.0) == []
    assert finish(process)[0] == -signal.SIGKILL
    assert ["interrupted" in states(folder) for folder in folders] == [True, False, False, False]
    with Store(tmp_path) as store:
        store.sync()
        assert {run["uid"]: run["state"] for run in store.runs()} == {
            "a": "interrupted", "completed": "completed", "failed": "failed", "nc": "nc",
        }  # fmt: skip


def test_a_process_that_ended_before_it_was_killed_is_not_called_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = running(tmp_path, "a")
    assert stop({2**22 + 1: [folder]}, True, 0.0) == []
    monkeypatch.setattr(lease, "process", lambda folder: 2**22 + 1)
    assert stop({2**22 + 1: [folder]}, True, 0.0) == []
    assert states(folder) == ["running"]


def test_the_process_of_another_user_is_a_message_before_any_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        if pid == 78:
            raise PermissionError(1, "Operation not permitted")
        sent.append((pid, number))

    monkeypatch.setattr(os, "kill", kill)
    mine, other = running(tmp_path, "mine"), running(tmp_path, "other")
    monkeypatch.setattr(lease, "process", lambda folder: {mine: 77, other: 78}[folder])
    with pytest.raises(UserError, match="other: process 78 belongs to another user"):
        stop({77: [mine], 78: [other]}, False, 0.0)
    assert sent == [(77, 0)]
