"""A run as the job of a cluster: before the cluster ends it, it saves a checkpoint and waits in the queue again.

The launcher asks the cluster for the signal USR2 before the time limit and before a more urgent job takes the machine.
TERM comes from a person (`scancel`) and never puts a run back into the queue.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from mmctl.errors import TrainingFailed
from mmctl.run_folder import journal, lease
from mmctl.run_folder.events import State
from mmctl.run_folder.record import read_record
from mmctl.run_folder.restart import WAITS, resubmit_reason
from mmctl.training import checkpoint

PATIENCE = 120.0
"""Seconds that a job waits for the end of a process that its cluster believes dead."""


def leads() -> bool:
    """Whether this process acts for the job; of the several processes of a run, the first one does."""
    return os.environ.get("SLURM_PROCID", "0") == "0"


def end_ghost(folder: Path) -> None:
    """If this job was started before and a process of that time still trains the run, make that one end; wait for it.

    It ends when it sees a newer attempt; for one on another machine, whose lock is not seen here, nobody has to wait.
    """
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0" or not leads() or lease.holder(folder) is None:
        return
    journal.claim(folder)
    end = time.monotonic() + PATIENCE
    while lease.holder(folder) is not None and time.monotonic() < end:
        time.sleep(0.2)


def queue_again(folder: Path) -> str:
    """Put this job back into the queue of its cluster, to continue from the newest checkpoint; returns what to say.

    If this machine cannot do it, the journal asks the next command of mmctl for it. Raises TrainingFailed if the newest
    checkpoint is the one that the two attempts before this one ended with: then it would go on like this for ever.
    """
    step = max(checkpoint.steps(folder), default=0)
    if _ends(folder)[-2:] == [step, step]:
        reason = f"no progress: two attempts in a row were ended by the cluster at step {step}"
        journal.append(folder, State(state="failed", reason=reason, code=TrainingFailed.exit_code, step=step))
        raise TrainingFailed(
            f"{folder.name}: {reason}. Raise launcher.minutes, or lower train.save_every, then: mmctl resume "
            f"{folder.name}"
        )
    journal.append(folder, State(state="interrupted", reason=WAITS, code=75, step=step))
    if problem := _requeue():
        journal.append(folder, State(state="interrupted", reason=resubmit_reason(problem), code=75, step=step))
        return f"saved at step {step}, but not back in the queue ({problem}). The next command submits it: mmctl ls"
    return f"saved at step {step}. This job is in the queue again, and its run goes on from there."


def _ends(folder: Path) -> list[int]:
    """The newest checkpoint when the run was new, and each time when its job was put back into the queue."""
    about = read_record(folder)
    first = about["parent"]["step"] if "parent" in about else 0
    return [first, *(event.step or 0 for event in journal.read_events(folder, State) if event.reason == WAITS)]


def _requeue() -> str:
    """Ask Slurm to queue this job again; what is wrong if that fails, else ""."""
    command = ["scontrol", "requeue", os.environ.get("SLURM_JOB_ID", "")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return "there is no scontrol on this machine"
    except (OSError, subprocess.SubprocessError) as error:
        return f"scontrol: {error}"
    return (done.stderr.strip() or f"scontrol: exit code {done.returncode}") if done.returncode else ""
