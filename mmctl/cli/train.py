"""What `mmctl run`, `resume` and `exec` do for a run in this process: train it, show it, say how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmctl.runs.build import Shared
    from mmctl.runs.progress import Progress
    from mmctl.runs.recorder import Outcome
    from mmctl.runs.signals import StopSignal
    from mmctl.training.loop import Event
    from mmctl.training.state import Training


def train_run(
    folder: Path,
    stop: StopSignal,
    quiet: bool,
    accept_changes: bool = False,
    from_start: bool = False,
    shared: Shared | None = None,
) -> None:
    """Train a run in this process, show its progress and how it ended; the options are those of `execute`."""
    from mmctl.errors import MmctlError, Stopped
    from mmctl.image_files.progress import shown_by
    from mmctl.run_folder.record import read_record
    from mmctl.runs.execute import execute
    from mmctl.runs.progress import Progress
    from mmctl.training.checkpoint import steps

    try:
        about = read_record(folder)
        total, start = about["total_steps"], 0 if from_start else max(steps(folder), default=0)
        data = about["config"].get("dataset")
        doing = f"reading {data['name'] if isinstance(data, dict) and 'name' in data else 'the data'}, first step ..."
        with Progress(total, start=start, doing=doing, quiet=quiet) as progress, shown_by(progress.decoded):
            if not quiet:
                progress.say(f"run {folder.name}")
            try:
                outcome = execute(
                    folder, stop, partial(_show, progress), accept_changes=accept_changes, from_start=from_start,
                    shared=shared,
                )  # fmt: skip
            except MmctlError as error:
                if error.exit_code in (3, 4):
                    progress.say(f"run {folder.name} failed")
                raise
    except KeyboardInterrupt:
        _end_at_once(folder)
        return
    _print_outcome(folder, outcome)
    if outcome.state == "interrupted":
        where = f"saved at step {outcome.step}/{total}" if outcome.step else "stopped before the first step"
        raise Stopped(f"{where}. Continue with:  mmctl resume {folder.name}")


def train_job(folder: Path, train: Callable[[StopSignal], None]) -> None:
    """Train a run as the job of a cluster: if the cluster is about to end it, save and put it back into the queue.

    train: trains it until its end, or raises Stopped when the signal that it gets says so.
    """
    import signal

    from mmctl.errors import Stopped, Superseded
    from mmctl.runs.signals import SIGNALS, StopSignal

    hint = "a second signal ends it at once"
    with StopSignal("saving a checkpoint after this step", at_once=SIGNALS, hint=hint) as stop:
        # Imports torch for seconds or minutes: a signal meanwhile must put the job back into the queue too.
        from mmctl.runs.requeue import end_ghost, leads, queue_again

        try:
            end_ghost(folder)
            train(stop)
        except (Stopped, SystemExit) as end:
            stop.over = True  # putting it back makes the cluster send more signals
            if stop.signal != signal.SIGUSR2 or isinstance(end, Superseded) or not leads():
                raise
            raise Stopped(queue_again(folder)) from None


def train_pack(folders: list[Path]) -> None:
    """Train several runs in this process; the messages of each go to log.txt in its folder."""
    from mmctl.errors import MmctlError, PartFailed, Stopped
    from mmctl.run_folder.record import last_scores, read_record
    from mmctl.runs.pack import execute_pack
    from mmctl.runs.progress import Progress
    from mmctl.runs.signals import StopSignal

    shown = {f: Progress(read_record(f)["total_steps"], log=f / "log.txt") for f in folders}
    for folder, progress in shown.items():
        progress.say(f"run {folder.name}, in one process with {len(folders) - 1} more")
    with StopSignal() as stop:
        ended = execute_pack(folders, stop, lambda folder, event, training: _show(shown[folder], event, training))
    failed = stopped = 0
    for folder, end in ended.items():
        if isinstance(end, MmctlError):
            failed += 1
            shown[folder].say(f"mmctl: {end}")
        else:
            stopped += end.state == "interrupted"
            words = last_scores(folder) if end.state == "completed" else ""
            shown[folder].say(f"{folder.name}: {end.state}, {end.step} steps{words}")
    if failed:
        raise PartFailed(f"{failed} of {len(folders)} runs failed; the reason of each is in its log.txt.")
    if stopped:
        raise Stopped(f"{stopped} of {len(folders)} runs stopped at a checkpoint; `mmctl resume RUN` continues one.")


def _show(progress: Progress, event: Event, training: Training) -> None:
    """Show an event of a run to the user."""
    from mmctl.training.loop import Alarm, Evaluated, Notice, Point, Saved, Started

    match event:
        case None:
            progress.step(training.step, training.seconds_aside)
        case Started(_, hardware):
            if not progress.quiet:
                progress.say(f"hardware: {hardware}")
        case Point(_, values):
            progress.point(values)
        case Evaluated(step, split, weights, scores, _):
            if weights == list(training.nets)[-1]:
                progress.evaluated(split, weights, step, scores["head"].metrics, scores["centroid"].metrics)
        case Notice(_, text):
            progress.say(f"note: {text}")
        case Alarm(step, kind, text, _):
            progress.say(f"alarm at step {step} ({kind}): {text}")
        case Saved():
            pass


def _end_at_once(folder: Path) -> None:
    """Say what a second Ctrl-C left, which may have come after the end of the run."""
    from mmctl.errors import Stopped
    from mmctl.run_folder import journal
    from mmctl.run_folder.events import State
    from mmctl.run_folder.record import last_scores, last_state
    from mmctl.runs.progress import tell

    state = last_state(folder)
    if state in ("completed", "nc"):
        tell(f"{folder.name}: {state}{last_scores(folder)}", out=True)
        return
    if state is None:  # otherwise it would be listed as queued
        reason = "stopped before its first step"
        journal.append(folder, State(state="interrupted", reason=reason, code=Stopped.exit_code, step=0))
    tell(f"stopped without saving. `mmctl resume {folder.name}` continues from the last checkpoint.")
    sys.exit(130)


def _print_outcome(folder: Path, outcome: Outcome) -> None:
    """Print how a run ended, if it was not stopped."""
    from mmctl.run_folder.record import last_scores
    from mmctl.runs.progress import tell

    if outcome.state == "nc":
        tell(f"{folder.name}: not converged (nc), stopped at step {outcome.step}: {outcome.reason}", out=True)
    elif outcome.state == "completed":
        tell(f"{folder.name}: completed, {outcome.step} steps{last_scores(folder)}", out=True)
        tell(f"  mmctl show {folder.name}   mmctl evaluate {folder.name}   mmctl compare", out=True)
