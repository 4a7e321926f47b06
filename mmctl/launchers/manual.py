"""The launcher for every other engine: it starts nothing, and runs wait until somebody executes their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmctl.plugin import JobState, Limits, launcher

CANCELLED = "manual.cancelled"
"""A file in the folder of a run that nobody is to execute any more. There is no engine that could keep this."""


@launcher("manual")
class Manual:
    """Starts nothing: runs wait until another program, or you, run `mmctl exec RUN_DIR` for each of their folders.

    For Kubernetes, SkyPilot, Ray or a shell loop, see docs/scale.md. What a run does is read from its folder.
    """

    lasting = True

    def start(self, run_dirs: list[Path], name: str) -> list[str]:
        """The id of a run is its folder."""
        for folder in run_dirs:
            (folder / CANCELLED).unlink(missing_ok=True)
        return [str(folder.resolve()) for folder in run_dirs]

    def find(self, name: str) -> list[str]:
        """Nothing: to hand runs over again changes nothing here."""
        return []

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Every run waits as long as its folder is there and it is not cancelled."""
        return {i: _state(Path(i)) for i in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """The runs do not wait any more. A process that trains one is not known here, and goes on."""
        for folder in map(Path, ids):
            if folder.is_dir():
                (folder / CANCELLED).touch()

    def limits(self) -> Limits:
        """Each run has its machine to itself, as far as mmctl knows."""
        return Limits(1)


def _state(folder: Path) -> JobState:
    if not folder.is_dir():
        return JobState("gone")
    if (folder / CANCELLED).exists():
        return JobState("interrupted", "cancelled")
    return JobState("queued", "until `mmctl exec` is started with its folder")
