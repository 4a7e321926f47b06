"""Runs a training from its recipe to its last checkpoint: start reading here.

folder = create_run(recipe, runs)  create the run folder (create.py)
execute(folder, stop, watch)       train from the newest checkpoint, or from step 0 if there is none
attempt(folder, stop, watch)       the same as a generator that yields after each step (for pack.py)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

from mmctl import redact
from mmctl.data.split import save_split
from mmctl.environment import on_cluster
from mmctl.errors import MmctlError, ResumeRefused, UserError
from mmctl.run_folder import journal
from mmctl.run_folder.events import State
from mmctl.run_folder.journal import Journal
from mmctl.run_folder.lease import Lease
from mmctl.run_folder.record import RunRecord, check_own, read_record
from mmctl.runs import ranks
from mmctl.runs.build import Shared
from mmctl.runs.open import open_run
from mmctl.runs.past import Past, accepted_changes, best_so_far, check_nothing_lost, past_of, start_again
from mmctl.runs.progress import tell
from mmctl.runs.recorder import Outcome, RunRecorder, Watch, out_of_memory
from mmctl.store.live import live_index
from mmctl.training import checkpoint


def execute(
    folder: Path,
    stop: Callable[[], bool],
    watch: Watch = lambda e, t: None,
    *,
    accept_changes: bool = False,
    from_start: bool = False,
    shared: Shared | None = None,
) -> Outcome:
    """Train the run in this folder from its newest checkpoint (or step 0) until its end or until stop() is true.

    watch: called with every event of the loop; accept_changes: resume although a plugin or a file of the run changed;
    from_start: begin at step 0 again; shared: data sets that were read already. Raises ResumeRefused if it cannot be
    resumed, TrainingFailed if training fails, and Superseded if a newer attempt starts.
    """
    steps = attempt(folder, stop, watch, accept_changes=accept_changes, from_start=from_start, shared=shared)
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
    from_start: bool = False,
    shared: Shared | None = None,
) -> Generator[None, None, Outcome]:
    """`execute` as a generator that yields after each step."""
    stop = ranks.agreed(stop)
    with Lease(folder) as lease:
        checkpoint.tidy(folder)
        about = read_record(folder)
        check_own(about, "resumed")
        past = past_of(folder, about)
        if past.state in ("completed", "nc"):
            raise UserError(f"{folder.name}: already finished ({past.state}); nothing to resume.")
        changes = accepted_changes(folder, about, past, "resume", accept_changes)
        if parent := about.get("parent"):
            if from_start:
                raise UserError(
                    f"--from-start: {folder.name} extends {parent['uid']} and starts at its step {parent['step']}; to "
                    f"begin anew, {start_again(about)}"
                )
            if not parent["exact"]:
                changes = [*changes, f"the run that it extends ({parent['uid']}) is not exact"]
        # Before the checkpoint is read: afterwards, no older attempt publishes one.
        number = journal.claim(folder)
        saved = None
        if not from_start:
            saved = _newest_checkpoint(folder, about, past)
            check_nothing_lost(folder, about, past, saved.step if saved else None, accept_changes)
        ranks.from_rank_0(saved.step if saved else 0)
        try:
            opened = open_run(folder, about, saved, accept_changes, shared, None if from_start else past.identity)
            opened.changes[:0] = changes
            if not (folder / "split.json").exists():
                save_split(folder / "split.json", opened.data.split)
        except Exception as error:
            failure = out_of_memory(error, "before the first step") or error
            if saved is None:
                # Without this event the run would be listed as crashed.
                reason, code = redact.text(str(failure).split("\n")[0]), getattr(failure, "exit_code", 1)
                with suppress(MmctlError):  # the disk may be full; `failure` is raised anyway
                    journal.append(folder, State(state="failed", reason=reason, code=code, step=0))
            if failure is error:
                raise
            raise failure from error
        if stop():  # while the data were read
            step, reason = saved.step if saved else 0, "stopped before its first step"
            journal.append(folder, State(state="interrupted", reason=reason, code=75, step=step))
            return Outcome("interrupted", step, reason)
        for step in checkpoint.steps(folder) if from_start else []:
            checkpoint.set_aside(checkpoint.folder_of(folder, step), "old")
        since = saved.step if saved else 0
        opened.training.best = best_so_far(folder, opened.recipe, since, checkpoint.steps(folder))
        with Journal(folder, number, None if on_cluster() else live_index(folder)) as log:
            outcome = yield from RunRecorder(opened, number, log, lease, watch).run(stop, accept_changes)
        # Again, if it failed during training.
        checkpoint.retain(folder, opened.recipe.settings.train.keep, opened.training.best.step)
        checkpoint.tidy(folder)
        return outcome


def _newest_checkpoint(folder: Path, about: RunRecord, past: Past) -> checkpoint.Checkpoint | None:
    """The newest checkpoint that is not damaged, with a warning for each newer one; ResumeRefused if all are."""
    saved, damaged = checkpoint.newest(folder, identity=past.identity)
    if damaged and saved is None:
        new = "" if "parent" in about else f"start a new run with `mmctl run {folder / 'recipe.toml'}`, or "
        raise ResumeRefused(
            f"{folder.name}: no usable checkpoint, {len(damaged)} tried: {' '.join(damaged)} The training curves "
            f"are kept. Restore one, {new or 'or '}{start_again(about)}"
        )
    for line in damaged:
        tell(f"warning: {line} It was renamed; training resumes from the checkpoint before it.")
    if saved and not damaged and saved.step < past.newest:
        tell(
            f"warning: {folder.name}: the checkpoint of step {past.newest} is gone; training resumes from {saved.step}."
        )
    return saved
