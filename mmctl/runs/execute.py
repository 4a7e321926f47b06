"""Runs a training from its recipe to its last checkpoint: start reading here.

folder = create_run(recipe, runs)  create the run folder (create.py)
execute(folder, stop, watch)       train from the newest checkpoint, or from step 0 if there is none
attempt(folder, stop, watch)       the same as a generator that yields after each step (for pack.py)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

from mmctl.errors import MmctlError, ResumeRefused, UserError
from mmctl.run_folder import journal
from mmctl.run_folder.events import State
from mmctl.run_folder.journal import Journal
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.record import last_state
from mmctl.runs.build import Shared
from mmctl.runs.open import open_run
from mmctl.runs.progress import tell
from mmctl.runs.recorder import Outcome, RunRecorder, Watch, out_of_memory
from mmctl.store.store import live_index
from mmctl.training import checkpoint


def execute(
    folder: Path, stop: Callable[[], bool], watch: Watch = lambda e, t: None, *, accept_changes: bool = False
) -> Outcome:
    """Train the run in this folder from its newest checkpoint (or step 0) until its end or until stop() is true.

    watch: called with every event of the loop; accept_changes: resume although a plugin changed.
    Raises ResumeRefused if it cannot be resumed, and TrainingFailed if training fails.
    """
    steps = attempt(folder, stop, watch, accept_changes=accept_changes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def attempt(
    folder: Path,
    stop: Callable[[], bool],
    watch: Watch,
    *,
    accept_changes: bool = False,
    shared: Shared | None = None,
) -> Generator[None, None, Outcome]:
    """`execute` as a generator that yields after each step; shared: data sets, read once for all runs of a process."""
    with Lease(folder) as lease:
        if (state := last_state(folder)) in ("completed", "nc"):
            raise UserError(f"{folder.name}: already finished ({state}); nothing to resume.")
        checkpoint.tidy(folder)
        saved, damaged = checkpoint.newest(folder)
        if damaged and saved is None:
            raise ResumeRefused(
                f"{folder.name}: no usable checkpoint, {len(damaged)} tried: {' '.join(damaged)} The training curves "
                f"are kept; start again with `mmctl run {folder / 'recipe.toml'}`."
            )
        for line in damaged:
            tell(f"warning: {line} It was renamed; training resumes from the checkpoint before it.")
        try:
            opened = open_run(folder, saved, accept_changes, shared)
        except Exception as error:
            failure = out_of_memory(error, "before the first step") or error
            if saved is None:
                # Without this event the run would be listed as crashed.
                reason, code = str(failure).split("\n")[0], getattr(failure, "exit_code", 1)
                with suppress(MmctlError):  # the disk may be full; `failure` is raised anyway
                    journal.append(folder, State(state="failed", reason=reason, code=code, step=0))
            if failure is error:
                raise
            raise failure from error
        if stop():  # while the data were read
            step, reason = saved.step if saved else 0, "stopped before its first step"
            journal.append(folder, State(state="interrupted", reason=reason, code=75, step=step))
            return Outcome("interrupted", step, reason)
        number = journal.next_attempt(folder)
        with Journal(folder, number, live_index(folder)) as log:
            return (yield from RunRecorder(opened, number, log, lease, watch).run(stop, accept_changes))
