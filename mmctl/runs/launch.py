"""Starts several runs with a launcher, waits for them and prints how each ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmctl.errors import PartFailed, PluginError, Stopped
from mmctl.plugin import available_cores
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder import journal
from mmctl.run_folder.events import State
from mmctl.run_folder.record import last_scores, last_state
from mmctl.runs.create import create_run
from mmctl.runs.hardware import device_of, threads_of
from mmctl.runs.progress import tell
from mmctl.runs.signals import StopSignal

PAUSE = 0.2
_STATES = {"completed": "completed", "nc": "completed", "interrupted": "interrupted", "failed": "failed"}
"""Last state in a run's journal -> state of the run. Without an entry the state of its process counts."""


def launch(
    recipes: Sequence[Recipe],
    runs: Path,
    *,
    jobs: int = 0,
    name: str | None = None,
    tags: Sequence[str] = (),
    note: str | None = None,
) -> None:
    """Create a folder for each recipe and run all with the launcher of the first; jobs: parallel runs, 0 = automatic.

    Raises PluginError if the launcher cannot start them, PartFailed if some runs fail, and Stopped after a signal.
    """
    sets: list[str] = []
    own = recipes[0].data["launcher"]
    if own["name"] == "mmctl:local":
        sets += [f"launcher.slots={jobs}"] if jobs else []
        if not any(device_of(r.settings.train.device).type == "cuda" for r in recipes):
            # Several runs in one process only make better use of a GPU.
            sets += ["launcher.pack=1"] if "pack" not in own else []
            sets += [f"launcher.slots={available_cores()}"] if not jobs and "slots" not in own else []
    launcher = recipes[0].with_sets(sets).build("launcher")
    slots = launcher.limits().slots
    if slots > 1:
        # Parallel runs share the cores; by the number of jobs, not of runs, so that any part of a batch gets the same.
        share = [f"train.threads={threads_of(None, slots)}"]
        recipes = [
            r if r.settings.train.threads or r.settings.train.device == "cuda" else r.with_sets(share) for r in recipes
        ]
    folders = [create_run(r, runs, name=name, tags=tags, note=note) for r in recipes]
    tell(f"{len(folders)} runs, {min(slots, len(folders))} in parallel", out=True)
    stop, cancelled = StopSignal(), False
    try:
        ids = launcher.start(folders)
    except Exception as error:
        for folder in folders:
            reason = f"the launcher did not start it: {type(error).__name__}: {error}"
            journal.append(folder, State(state="failed", reason=reason, code=2, step=0))
        raise PluginError(f"launcher {recipes[0].data['launcher']['name']} cannot start the runs: {error}") from error
    by_id = dict(zip(ids, folders, strict=True))
    ended: dict[str, str] = {}
    while len(ended) < len(ids):
        for run, state in launcher.states(ids).items():
            if state in ("completed", "failed", "interrupted") and run not in ended:
                # The launcher reports how a process ended; in a process of several runs each run has its own end.
                state = _STATES.get(last_state(by_id[run]) or "", state)
                ended[run] = state
                tell(f"[{len(ended)}/{len(ids)}] {by_id[run].name}: {_ending(by_id[run], state)}", out=True)
        if stop() and not cancelled:
            cancelled = True
            launcher.cancel([i for i in ids if i not in ended])
        time.sleep(PAUSE)
    counts = Counter(ended.values())
    if cancelled:
        raise Stopped(
            f"stopped: {counts['completed']} completed, {counts['interrupted']} interrupted. "
            "List runs with `mmctl ls`; resume one with `mmctl resume RUN`."
        )
    if counts["failed"] or counts["interrupted"]:
        bad = counts["failed"] + counts["interrupted"]
        raise PartFailed(f"{bad} of {len(ids)} runs did not complete; list them with `mmctl ls`.")


def _ending(folder: Path, state: str) -> str:
    """How a run ended, for people. That it did not converge is in its journal, not in the exit code."""
    if state == "completed":
        return "not converged (nc)" if last_state(folder) == "nc" else f"completed{last_scores(folder)}"
    if state != "failed":
        return f"{state}  (resume it with: mmctl resume {folder.name})"
    log = folder / "log.txt"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return f"failed  {lines[-1]}" if lines else f"failed  (see {log})"
