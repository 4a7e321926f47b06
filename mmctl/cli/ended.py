"""What `mmctl run` and `mmctl resume` say when a run has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmctl.runs.recorder import Outcome


def end_at_once(folder: Path) -> None:
    """Say what a second Ctrl-C left, which may have come after the end of the run."""
    import sys

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


def print_outcome(folder: Path, outcome: Outcome) -> None:
    """Print how a run ended, if it was not stopped."""
    from mmctl.run_folder.record import last_scores
    from mmctl.runs.progress import tell

    if outcome.state == "nc":
        tell(f"{folder.name}: not converged (nc), stopped at step {outcome.step}: {outcome.reason}", out=True)
    elif outcome.state == "completed":
        tell(f"{folder.name}: completed, {outcome.step} steps{last_scores(folder)}", out=True)
        tell(f"  mmctl show {folder.name}   mmctl evaluate {folder.name}   mmctl compare", out=True)
