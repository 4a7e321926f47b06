"""A run as the job of a cluster: it saves and waits in the queue again, as long as that helps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.processes import spawn, wait_for
from helpers.run_helpers import assert_same, events, never, started, strike
from mmctl.run_folder.record import last_state
from mmctl.run_folder.restart import WAITS, to_resubmit
from mmctl.runs import requeue
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute

pytestmark = pytest.mark.usefixtures("handlers_kept")
Mm = Callable[..., Result]
NO_CHECKPOINT = "train.save_every=100"


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of a cluster, whose scontrol only notes what it is asked."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=os.pathsep)
    monkeypatch.setenv("MMCTL_ENGINE", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "42")


def interrupted(mm: Mm, folder: Path, step: int, *numbers: int) -> Result:
    """A job that gets signals in a step."""
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "device_step", step, *numbers)
        return mm("exec", folder)


def asked(tmp_path: Path) -> list[str]:
    """What scontrol was asked."""
    return (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []


def reasons(folder: Path) -> list[str | None]:
    """The reasons of the states that came from outside of training."""
    return [event["reason"] for event in events(folder, "state") if "after" in event]


def test_usr2_saves_and_queues_again_and_nothing_is_lost(mm: Mm, tmp_path: Path) -> None:
    whole = started(tmp_path, method="mixmatch")
    execute(whole, never)
    folder = started(tmp_path, method="mixmatch")
    done = interrupted(mm, folder, 7, signal.SIGUSR2)
    assert done.code == 75
    assert "saved at step 7. This job is in the queue again, and its run goes on from there." in done.err
    assert "a second signal ends it at once" in done.err
    assert "Ctrl-C" not in done.err
    assert asked(tmp_path) == ["requeue 42"]
    assert reasons(folder) == [WAITS]
    assert mm("exec", folder).code == 0
    assert_same(folder, whole)
    assert not (tmp_path / "runs" / "mmctl.db").exists(), "a node writes files alone"
    assert last_state(folder) == "completed"


def test_term_saves_and_never_queues_again(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    done = interrupted(mm, folder, 7, signal.SIGTERM)
    assert done.code == 75
    assert "saved at step 7/12. Continue with:" in done.err
    assert asked(tmp_path) == []
    assert reasons(folder) == []


def test_of_several_processes_the_first_one_acts(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert interrupted(mm, started(tmp_path), 7, signal.SIGUSR2).code == 75
    assert asked(tmp_path) == []


@pytest.mark.parametrize("second", [signal.SIGUSR2, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_the_step(second: int, mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path)
    done = interrupted(mm, folder, 7, signal.SIGUSR2, second)
    assert done.code == 75
    assert "saved at step 5. This job is in the queue again" in done.err
    assert asked(tmp_path) == ["requeue 42"]
    assert mm("exec", folder).code == 0


def test_a_signal_before_the_first_step(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = started(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(requeue, "end_ghost", lambda folder: os.kill(os.getpid(), signal.SIGUSR2))
        done = mm("exec", folder)
    assert done.code == 75
    assert "saved at step 0. This job is in the queue again" in done.err
    assert asked(tmp_path) == ["requeue 42"]


def test_two_attempts_without_progress_are_enough(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path, NO_CHECKPOINT)
    assert interrupted(mm, folder, 3, signal.SIGUSR2).code == 75  # saved at step 3
    assert interrupted(mm, folder, 1, signal.SIGUSR2, signal.SIGTERM).code == 75
    assert interrupted(mm, folder, 2, signal.SIGUSR2).code == 75  # at step 5: that counts as progress
    assert interrupted(mm, folder, 1, signal.SIGUSR2, signal.SIGTERM).code == 75
    done = interrupted(mm, folder, 1, signal.SIGUSR2, signal.SIGTERM)
    assert done.code == 3
    assert "no progress: two attempts in a row were ended by the cluster at step 5. Raise launcher.minutes" in done.err
    assert asked(tmp_path) == ["requeue 42"] * 4
    listed = mm("ls", "--json").out
    assert '"failed"' in listed
    assert "no progress" in mm("show", folder.name).out
    assert mm("exec", folder).code == 0, "a person may try again"


def test_a_new_run_that_never_saves_ends_too(mm: Mm, tmp_path: Path) -> None:
    folder = started(tmp_path, NO_CHECKPOINT)
    assert interrupted(mm, folder, 3, signal.SIGUSR2, signal.SIGTERM).code == 75
    assert interrupted(mm, folder, 3, signal.SIGUSR2, signal.SIGTERM).code == 3
    assert asked(tmp_path) == ["requeue 42"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "there is no scontrol on this machine"),
        ("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n", "Unable to contact slurm controller"),
        ("#!/bin/sh\nexit 2\n", "scontrol: exit code 2"),
    ],
)
def test_where_a_job_cannot_queue_itself_the_next_command_is_asked(
    script: str | None, said: str, mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin" / "scontrol").unlink()
    if script is not None:
        (tmp_path / "bin" / "scontrol").write_text(script)
        (tmp_path / "bin" / "scontrol").chmod(0o755)
    folder = started(tmp_path)
    done = interrupted(mm, folder, 7, signal.SIGUSR2)
    assert done.code == 75
    assert f"saved at step 7, but not back in the queue ({said})" in done.err
    assert [to_resubmit(reason) for reason in reasons(folder)] == [False, True]


@pytest.mark.slow
def test_a_job_that_started_before_ends_its_ghost(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run(tiny_project.recipe("supervised", "train.steps=40000", "train.log_every=1"), tmp_path / "runs")
    ghost = spawn(tmp_path / "runs", "exec", folder, cwd=tmp_path)
    wait_for(lambda: last_state(folder) == "running", ghost)
    refused = mm("exec", folder)
    assert refused.code == 2
    assert "is already running" in refused.err, "another job of the same run does not end it"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert interrupted(mm, folder, 3, signal.SIGTERM).code == 75
    out, err = ghost.communicate(timeout=60)
    assert ghost.returncode == 75, out + err
    assert "of this run has started, so this one (attempt 1) ends" in err
    assert [state["s"] for state in events(folder, "state")] == ["running", "running", "interrupted"]
