"""One run from its recipe to its last checkpoint: start reading here.

folder = prepare(recipe, runs)     the run folder, before anything else happens
execute(folder, stop, watch)       train from its newest checkpoint, or from step 0: the two are one call
attempt(folder, stop, watch)       the same a step at a time, for several runs in one process (see pack.py)
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
    folder: Path, stop: Callable[[], bool], watch: Watch = lambda e, t: None, *, accept: bool = False
) -> Outcome:
    """Train the run in this folder from its newest checkpoint (or from step 0) to its end, or until `stop`."""
    steps = attempt(folder, stop, watch, accept=accept)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def attempt(
    folder: Path, stop: Callable[[], bool], watch: Watch, *, accept: bool = False, shared: Shared | None = None
) -> Generator[None, None, Outcome]:
    """`execute`, which gives way after every step; `shared` holds data sets that runs of one process share."""
    with Lease(folder) as lease:
        if (state := last_state(folder)) in ("completed", "nc"):
            raise UserError(f"{folder.name}: already finished ({state}); nothing to resume.")
        checkpoint.tidy(folder)
        saved, bad = checkpoint.newest(folder)
        if bad and saved is None:
            raise ResumeRefused(
                f"{folder.name}: no usable checkpoint, {len(bad)} tried: {' '.join(bad)} Its curves are kept; start "
                f"again with `mmctl run {folder / 'recipe.toml'}`."
            )
        for line in bad:
            tell(f"warning: {line} Set aside; going on with the one before it.")
        try:
            opened = open_run(folder, saved, accept, shared)
        except Exception as error:
            failure = out_of_memory(error, "before the first step") or error
            if saved is None:
                # Without this word the run would be taken for one whose process has died.
                reason, code = str(failure).split("\n")[0], getattr(failure, "exit_code", 1)
                with suppress(MmctlError):  # a full disk takes no word either, and is told by the error itself
                    journal.append(folder, State(state="failed", reason=reason, code=code, step=0))
            if failure is error:
                raise
            raise failure from error
        number = journal.next_attempt(folder)
        with Journal(folder, number, live_index(folder)) as log:
            return (yield from RunRecorder(opened, number, log, lease, watch).run(stop, accept))
