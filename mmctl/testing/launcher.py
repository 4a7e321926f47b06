"""The contract of launchers: real runs of a few steps, started, watched, stopped and killed."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mmctl.component_types import JOB_WORDS
from mmctl.recipe.recipe import from_data
from mmctl.run_folder import lease
from mmctl.run_folder.queue import new_name
from mmctl.run_folder.record import last_state
from mmctl.runs.create import create_run
from mmctl.runs.launcher import check_launcher, is_lasting, wrong_state
from mmctl.testing.contract import Contract

PAUSE = 0.2
UNKNOWN = "no-such-job"


class Started(NamedTuple):
    """Runs that were given to a launcher."""

    part: Any
    name: str
    folders: list[Path]
    ids: list[str]


class LauncherContract(Contract):
    """One id for each run, known states, and a state that the run folder confirms."""

    kind = "launcher"
    seconds = 120.0
    """How long some short runs may take, with their wait in a queue."""
    most = 3
    """Runs that a test starts at most: one more than there are slots, if that is fewer."""
    where: Path | None = None
    """A folder for the runs that all machines of the engine see; None = a temporary one of this machine."""

    def launcher(self, table: Mapping[str, Any]) -> Any:
        """The launcher of a table."""
        made = self.build(table)
        check_launcher(self.who, made)
        return made

    def test_limits(self) -> None:
        """`limits` says how many runs can run in parallel, and how many can be handed over."""
        for table in self.params:
            limits = self.launcher(table).limits()
            for value in (limits.chunk, limits.submitted):
                if not (value is None or (isinstance(value, int) and value >= 0)) or limits.chunk == 0:
                    raise self.broken(f"returns {limits!r} from limits", "chunk and submitted are numbers or None.")

    def test_unknown(self) -> None:
        """An id that the engine does not know is gone, and to cancel it changes nothing."""
        for table in self.params:
            part = self.launcher(table)
            states = part.states([UNKNOWN])
            if wrong_state(states, [UNKNOWN]) or states[UNKNOWN].word != "gone":
                raise self.broken(f"returns the states {states} for an unknown id", 'Answer JobState("gone").')
            part.cancel([UNKNOWN])
            if is_lasting(part) and list(part.find(f"mmctl-{new_name()}")):
                raise self.broken("finds runs under a name that was never used", "Return [] from find.")

    def test_runs(self) -> None:
        """More runs than slots get an id each, are found by their name, and are completed, in their folders too."""
        for table in self.params:
            with self.started(table, 2) as runs:
                if is_lasting(runs.part) and list(found := self.launcher(table).find(runs.name)) != runs.ids:
                    raise self.broken(f"finds {found!r} by the name of the runs {runs.ids!r}", "Return their ids.")
                states = self.wait(runs)
                for run, folder in zip(runs.ids, runs.folders, strict=True):
                    if states[run] != "completed" or last_state(folder) != "completed":
                        raise self.broken(
                            f"says {states[run]} of a run whose folder says {last_state(folder)}",
                            "Start `mmctl exec RUN_DIR` and take the state from its exit code (0 = completed).",
                        )

    def test_cancel(self) -> None:
        """Cancelled runs are interrupted, those that run and those that wait, and can be resumed."""
        for table in self.params:
            with self.started(table, 100_000) as runs:
                self.until_one_trains(runs)
                runs.part.cancel(runs.ids)
                self.all_are(runs, "interrupted", "cancelled runs", "Send SIGTERM; exit code 75 = interrupted.")
                runs.part.cancel(runs.ids)  # of what has ended

    def test_kill(self) -> None:
        """A run whose process is killed has failed."""
        for table in self.params:
            with self.started(table, 100_000, runs=1) as runs:
                if not self.until_one_trains(runs):
                    raise self.broken(f"has started no run in {self.seconds:.0f} s", "Raise `seconds`.")
                if pid := lease.process(runs.folders[0]):  # otherwise it runs on another machine
                    os.kill(pid, signal.SIGKILL)
                    self.all_are(runs, "failed", "a run that was killed", "Only exit code 0 = completed.")

    @contextmanager
    def started(self, table: Mapping[str, Any], steps: int, runs: int = 0) -> Iterator[Started]:
        """Short runs on the digits that the launcher has started; runs: how many, 0 = one more than slots."""
        data = {
            "dataset": {"name": "digits"}, "split": {"labels": 40}, "backbone": {"name": "small"},
            "method": {"name": "supervised"}, "augment": {"weak": {"name": "flip_crop", "pad": 1}},
            "train": {"steps": steps, "device": "cpu", "precision": "fp32", "threads": 1, "save_every": 1},
            "eval": {"every": 1_000_000},
        }  # fmt: skip
        part, name = self.launcher(table), f"mmctl-{new_name()}"
        number = runs or max(2, min(self.most, part.limits().slots + 1))
        with tempfile.TemporaryDirectory(dir=self.where) as scratch:
            folders = [create_run(from_data(data | {"seed": n}, "contract"), Path(scratch)) for n in range(number)]
            ids = part.start(list(folders), name)
            if not isinstance(ids, list) or len(set(ids)) != number or not all(isinstance(i, str) for i in ids):
                raise self.broken(f"returns the ids {ids!r} for {number} runs", "Return one string for each run.")
            try:
                yield Started(part, name, folders, ids)
            finally:
                part.cancel(ids)  # what a broken promise left

    def until_one_trains(self, runs: Started) -> bool:
        """Wait for the first step of a run; False if that lasts too long."""

        def trains() -> bool:
            self.words(runs)
            return any(last_state(folder) == "running" for folder in runs.folders)

        return self.until(trains)

    def all_are(self, runs: Started, word: str, which: str, fix: str) -> None:
        """Wait until all runs have ended, and check how."""
        if set((states := self.wait(runs)).values()) != {word}:
            raise self.broken(f"says {sorted(states.values())} of {which}", fix)

    def wait(self, runs: Started) -> dict[str, str]:
        """The word of the last state of each run."""
        if not self.until(lambda: not {"queued", "running"} & set(self.words(runs).values())):
            raise self.broken(
                f"has not ended {len(runs.ids)} short runs in {self.seconds:.0f} s: {self.words(runs)}",
                "Raise `seconds`.",
            )
        return self.words(runs)

    def words(self, runs: Started) -> dict[str, str]:
        """What the launcher says now of each run."""
        states = runs.part.states(runs.ids)
        if wrong_state(states, runs.ids) or set(states) != set(runs.ids):
            raise self.broken(
                f"returns the states {states}", f"Give each id a JobState, its word one of {', '.join(JOB_WORDS)}."
            )
        return {run: state.word for run, state in states.items()}

    def until(self, true: Callable[[], bool]) -> bool:
        """Wait until something is true; False if that lasts too long."""
        end = time.monotonic() + self.seconds
        while not true():
            if time.monotonic() > end:
                return False
            time.sleep(PAUSE)
        return True
