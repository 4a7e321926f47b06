"""Runs whose jobs made room on a cluster: they go on in the same job or in another one, or somebody stopped them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmctl.plugin import JobState
from mmctl.run_folder import journal
from mmctl.run_folder.events import State
from mmctl.run_folder.restart import WAITS, resubmit_reason
from mmctl.sweep.reconcile import last_event, settle


def made_room(folder: Path, *reasons: str) -> None:
    journal.append(folder, State(state="running", step=0, t=10))
    for reason in reasons:
        journal.append(folder, State(state="interrupted", reason=reason, code=75, step=5, t=11))


@pytest.mark.parametrize(
    ("word", "action"),
    [("queued", "wait"), ("running", "wait"), ("held", "wait"), ("failed", "go on"), ("interrupted", "go on"),
     ("completed", "go on"), ("gone", "go on")],
)  # fmt: skip
def test_a_run_that_asks_for_another_job_gets_one_when_its_own_is_over(word: str, action: str, tmp_path: Path) -> None:
    made_room(tmp_path, WAITS, resubmit_reason("there is no scontrol on this machine"))
    assert settle(tmp_path, JobState(word), "slurm", since=1) == action


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (JobState("queued", "BeginTime"), WAITS),
        (JobState("interrupted", "cancelled"), "its job did not start again: cancelled"),
        (JobState("gone"), "its job did not start again: gone"),
    ],
)
def test_a_run_whose_job_was_cancelled_does_not_wait_any_more(said: JobState, reason: str, tmp_path: Path) -> None:
    made_room(tmp_path, WAITS)
    settle(tmp_path, said, "slurm", since=1)
    last = last_event(tmp_path)
    assert last
    assert (last.state, last.reason, last.code, last.step) == ("interrupted", reason, 75, 5)
