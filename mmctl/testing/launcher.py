"""The contract of launchers: real runs of a few steps, started, watched and stopped."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmctl.recipe.recipe import from_data
from mmctl.run_folder.record import last_state
from mmctl.runs.create import create_run
from mmctl.runs.launch import WORDS
from mmctl.runs.promises import check_launcher
from mmctl.testing.contract import Contract


class LauncherContract(Contract):
    """One id for each run, known states, and a state that the run folder confirms."""

    kind = "launcher"
    seconds = 120.0
    """How long two short runs may take, with their wait in a queue."""

    def launcher(self, table: Mapping[str, Any]) -> Any:
        """The launcher of a table."""
        made = self.build(table)
        check_launcher(self.who, made)
        return made

    def runs(self, folder: Path, steps: int) -> list[Path]:
        """Two folders of short runs on the digits."""
        data = {
            "dataset": {"name": "digits"}, "split": {"labels": 40}, "backbone": {"name": "small"},
            "method": {"name": "supervised"}, "augment": {"weak": {"name": "flip_crop", "pad": 1}},
            "train": {"steps": steps, "device": "cpu", "precision": "fp32", "threads": 1, "save_every": 1},
            "eval": {"every": 1_000_000},
        }  # fmt: skip
        return [create_run(from_data(data | {"seed": seed}, "contract"), folder) for seed in (0, 1)]

    def test_limits(self) -> None:
        """`limits` says how many runs can run in parallel."""
        for table in self.params:
            self.launcher(table)

    def test_runs(self) -> None:
        """Two runs get an id each and are completed, in their folders too."""
        for table in self.params:
            with tempfile.TemporaryDirectory() as scratch:
                part, folders = self.launcher(table), self.runs(Path(scratch), 2)
                ids = self.started(part, folders)
                states = self.wait(part, ids)
                for run, folder in zip(ids, folders, strict=True):
                    if states[run] != "completed" or last_state(folder) != "completed":
                        raise self.broken(
                            f"says {states[run]} of a run whose folder says {last_state(folder)}",
                            "Start `mmctl exec RUN_DIR` and take the state from its exit code (0 = completed).",
                        )

    def test_cancel(self) -> None:
        """A cancelled run is interrupted, and can be resumed."""
        for table in self.params:
            with tempfile.TemporaryDirectory() as scratch:
                part, folders = self.launcher(table), self.runs(Path(scratch), 100_000)
                ids = self.started(part, folders)
                end = time.monotonic() + self.seconds
                while time.monotonic() < end and last_state(folders[0]) != "running":
                    part.states(ids)
                    time.sleep(0.2)
                part.cancel(ids)
                states = self.wait(part, ids)
                if set(states.values()) != {"interrupted"}:
                    raise self.broken(
                        f"says {sorted(states.values())} of cancelled runs",
                        "Send SIGTERM; exit code 75 = interrupted.",
                    )

    def started(self, part: Any, folders: list[Path]) -> list[str]:
        """The ids of the runs, checked."""
        ids = part.start(list(folders))
        if not isinstance(ids, list) or len(set(ids)) != len(folders) or not all(isinstance(i, str) for i in ids):
            raise self.broken(f"returns the ids {ids!r} for {len(folders)} runs", "Return one string for each run.")
        return ids

    def wait(self, part: Any, ids: list[str]) -> dict[str, str]:
        """The last state of each run."""
        end = time.monotonic() + self.seconds
        while True:
            states = dict(part.states(ids))
            wrong = {s for s in states.values() if s not in WORDS}
            if wrong or set(states) != set(ids):
                raise self.broken(f"returns the states {states}", f"Give each id one of {', '.join(WORDS)}.")
            if not {"queued", "running"} & set(states.values()):
                return states
            if time.monotonic() > end:
                part.cancel(ids)
                raise self.broken(f"has not ended two short runs in {self.seconds:.0f} s: {states}", "Raise `seconds`.")
            time.sleep(0.2)
