"""The launcher for every other engine: it starts nothing, and runs wait until somebody executes their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmctl.plugin import JobState, Limits, launcher


@launcher("manual")
class Manual:
    """Starts nothing: runs wait until another program, or you, run `mmctl exec RUN_DIR` for each of their folders.

    For Kubernetes, SkyPilot, Ray or a shell loop, see docs/scale.md. What a run does is read from its folder.
    """

    lasting = True

    def start(self, run_dirs: list[Path], name: str) -> list[str]:
        """The id of a run is its folder."""
        return [str(folder.resolve()) for folder in run_dirs]

    def find(self, name: str) -> list[str]:
        """Nothing: to hand runs over again changes nothing here."""
        return []

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Every run waits as long as its folder is there."""
        waits = JobState("queued", "until `mmctl exec` is started with its folder")
        return {i: waits if Path(i).is_dir() else JobState("gone") for i in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Nothing here: `mmctl stop` takes a waiting run out of the queue, and signals one of this machine itself."""

    def limits(self) -> Limits:
        """Each run has its machine to itself, as far as mmctl knows."""
        return Limits(1)
