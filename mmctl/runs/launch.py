"""Trains several runs with a launcher, shows their progress and prints how each ended.

What a launcher says of a run is never believed alone: its run folder decides how it ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from mmctl.component_types import JOB_WORDS
from mmctl.cores import available_cores
from mmctl.errors import MmctlError, PartFailed, PluginError, Stopped, UserError
from mmctl.plugin import JobState, Launcher
from mmctl.recipe.recipe import Recipe, load_stored
from mmctl.registry.parameters import parameters
from mmctl.run_folder import journal, lease, queue
from mmctl.run_folder.events import State
from mmctl.run_folder.record import last_scores, last_state, states
from mmctl.run_folder.supervisor import Supervising
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.batch_view import BatchView
from mmctl.runs.create import create_run
from mmctl.runs.hardware import device_of, threads_of
from mmctl.runs.launcher import check_launcher, wrong_state
from mmctl.runs.provenance import Provenance
from mmctl.runs.resume import resume_command
from mmctl.runs.signals import SIGNALS, StopSignal

PAUSE = 0.2
STOPPING = "stopping all runs, each after its current step"


def launch(
    recipes: Sequence[Recipe],
    runs: Path,
    *,
    stopped: Sequence[Path] = (),
    jobs: int = 0,
    quiet: bool = False,
    name: str | None = None,
    tags: Sequence[str] = (),
    note: str | None = None,
    provenance: Provenance | None = None,
) -> None:
    """Create a folder for each recipe, and train these and the stopped runs with the launcher of the first.

    jobs: parallel runs, 0 = automatic; quiet: no live display. Raises PluginError if the launcher does not work,
    PartFailed if some runs do not complete, and Stopped after a signal.
    """
    known = [*recipes, *_stored_recipes(stopped)]
    launcher = build_launcher(known, jobs)
    if (slots := launcher.limits().slots) > 1:
        # Parallel runs share the cores; by the number of jobs, not of runs, so that any part of a batch gets the same.
        share = [f"train.threads={threads_of(None, slots)}"]
        recipes = [
            r if r.settings.train.threads or r.settings.train.device == "cuda" else r.with_sets(share) for r in recipes
        ]
    with StopSignal(STOPPING, at_once=SIGNALS) as stop:
        if recipes and provenance is None:
            provenance = Provenance()  # one look for all
        new = (create_run(r, runs, name=name, tags=tags, note=note, provenance=provenance) for r in recipes)
        Batch(launcher, known[0].data["launcher"]["name"], tags).train(chain(stopped, new), stop, quiet)


def build_launcher(recipes: Sequence[Recipe], jobs: int) -> Launcher:
    """The launcher of the first recipe, with as many parallel runs as are wanted, or as the machine can do.

    Raises PluginError if it is no launcher, and UserError for `jobs` if it has no parameter `slots`.
    """
    own, who = recipes[0].data["launcher"], recipes[0].who("launcher")
    shape = recipes[0].resolved.parts["launcher", None].shape
    if jobs and not any(row.name == "slots" for row in parameters(shape.model)):
        raise UserError(f"--jobs: the {who} has no parameter slots: leave --jobs out.")
    sets = [f"launcher.slots={jobs}"] if jobs else []
    if own["name"] == "mmctl:local" and not any(device_of(r.settings.train.device).type == "cuda" for r in recipes):
        # Several runs in one process only make better use of a GPU.
        sets += ["launcher.pack=1"] if "pack" not in own else []
        sets += [f"launcher.slots={available_cores()}"] if not jobs and "slots" not in own else []
    launcher = recipes[0].with_sets(sets).build("launcher")
    check_launcher(who, launcher)
    return launcher  # type: ignore[no-any-return]


def _stored_recipes(folders: Sequence[Path]) -> list[Recipe]:
    """The recipes of runs; one that cannot be read fails with its own run, unless it is the only one."""
    found: list[Recipe] = []
    problem: MmctlError | None = None
    for folder in folders:
        try:
            found.append(load_stored(folder / "recipe.toml", upgrade_recipe))
        except MmctlError as error:
            problem = error
    if problem and not found:
        raise problem
    return found


class Batch:
    """Several runs that a launcher trains."""

    def __init__(self, launcher: Launcher, name: str, tags: Sequence[str] = ()) -> None:
        """name: of the launcher, for messages; tags: those that all runs have."""
        self.launcher, self.said, self.tags = launcher, f"launcher {name}", tags
        self.group = queue.new_name()
        self.before: dict[Path, int] = {}  # run -> number of states in its journals before this command
        self.by_id: dict[str, Path] = {}
        self.ended: dict[Path, str] = {}

    def train(self, folders: Iterable[Path], stop: StopSignal, quiet: bool) -> None:
        """Start all runs, wait for their ends and print them; raises as `launch`."""
        view = BatchView(self.launcher.limits().slots, quiet)
        try:
            for order, folder in enumerate(folders):
                self.before[folder] = len(states(folder))
                queue.put(folder, queue.Entry(self.group, order))
            made = list(self.before)
            queue.new_group(made[0].parent, {"name": self.said}, made, self.group, lasting=False)
            with view, Supervising(made[0].parent):
                self._train(stop, view)
        except KeyboardInterrupt:
            self._cancel()
            self._settle(view)
            end = Stopped(f"not waiting for the runs to stop: {self._summary()}")
            end.exit_code = 130
            raise end from None
        finally:
            for folder in self.before:
                queue.leave(folder)
                queue.remove_group(folder.parent, self.group)
        counts = Counter(self.ended.values())
        if bad := len(self.before) - counts["completed"]:
            if stop():
                raise Stopped(f"stopped: {self._summary()}")
            raise PartFailed(f"{bad} of {len(self.before)} runs did not complete: {self._summary()}")

    def _train(self, stop: StopSignal, view: BatchView) -> None:
        view.begin(list(self.before))
        cancelled = stop()
        if not cancelled:
            self._start()
        while not cancelled or self.by_id:
            words = self._states(list(self.by_id), view)
            for run, folder in self.by_id.items():
                if folder not in self.ended and words[run].word not in ("queued", "running"):
                    self._look(folder, words[run].word, view)
            if not self._open():
                break
            if stop() and not cancelled:
                cancelled = True
                self._cancel()
            view.update([f for run, f in self.by_id.items() if f not in self.ended and words[run].word == "running"])
            time.sleep(PAUSE)
        self._settle(view)  # a batch that was stopped before its start

    def _settle(self, view: BatchView) -> None:
        """Note how the runs ended that no process trains now, whatever the launcher says."""
        for folder in self._open():
            self._look(folder, "interrupted", view)

    def _open(self) -> list[Path]:
        return [folder for folder in self.before if folder not in self.ended]

    def _start(self) -> None:
        folders = list(self.before)
        try:
            self.by_id = dict(zip(self.launcher.start(folders, f"mmctl-{self.group}"), folders, strict=True))
            if len(self.by_id) < len(folders):
                raise ValueError("start gave one id to two runs")
        except Exception as error:
            for folder in folders:
                reason = f"the launcher did not start it: {type(error).__name__}: {error}"
                journal.append(folder, State(state="failed", reason=reason, code=2, step=0))
            raise PluginError(f"{self.said} cannot start the runs: {error}") from error

    def _states(self, ids: Sequence[str], view: BatchView) -> Mapping[str, JobState]:
        """What the launcher says of each run; PluginError for anything but the known words."""
        try:
            words = self.launcher.states(ids)
            wrong = wrong_state(words, ids)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong is None:
            return words
        self._cancel()
        self._settle(view)
        raise PluginError(
            f"{self.said}: states() answers {wrong}; it must answer a JobState for each run, its word one "
            f"of {', '.join(JOB_WORDS)}. All runs were asked to stop, `mmctl ls` shows them: {self._summary()}"
        )

    def _cancel(self) -> None:
        with suppress(Exception):  # a launcher that cannot stop its runs: the summary says which have not ended
            self.launcher.cancel([run for run, folder in self.by_id.items() if folder not in self.ended])

    def _look(self, folder: Path, word: str, view: BatchView) -> None:
        """Note how a run ended that the launcher calls ended; its folder decides."""
        if lease.holder(folder) is not None:
            return  # a process still trains it
        new = states(folder)[self.before[folder] :]
        state = new[-1] if new else word
        reason = ""
        if state == "nc":
            state = "completed"
        elif new and state == "running":
            state = "crashed"
        elif not new and word != "interrupted":
            state, reason = "failed", _last_line(folder) or f"{self.said} calls it {word}, but it did not start"
        if not new and not self.before[folder]:
            # Without this, the run would be listed as queued.
            why, code = (reason, 2) if state == "failed" else ("stopped before its first step", Stopped.exit_code)
            journal.append(folder, State(state=state, reason=why, code=code, step=0))
        queue.leave(folder)
        self.ended[folder] = state
        view.end(folder, state, _ending(folder, state, reason))

    def _summary(self) -> str:
        """How many runs ended in which way, and the command that continues those that can be continued."""
        counts = Counter(self.ended.get(folder, "not ended") for folder in self.before)
        text = ", ".join(f"{n} {state}" for state, n in counts.items()) + "."
        if stopped := [f for f in self.before if self.ended.get(f) not in ("completed", "failed")]:
            text += f" Continue with:  {resume_command(stopped, self.tags)}"
        return text


def _ending(folder: Path, state: str, reason: str) -> str:
    """How a run ended, for people. That it did not converge is in its journal, not in the exit code."""
    if state == "completed":
        return "not converged (nc)" if last_state(folder) == "nc" else f"completed{last_scores(folder)}"
    if state == "failed":
        return f"failed  {reason or _last_line(folder) or '(see ' + str(folder / 'log.txt') + ')'}"
    return state


def _last_line(folder: Path) -> str:
    """The last line of the log of a run, which says why it failed."""
    log = folder / "log.txt"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return lines[-1] if lines else ""
