"""Follows what happens in one run, for the pane of `mmctl ui`."""

from __future__ import annotations

from pathlib import Path

from mmctl.errors import EnvironmentFault, os_error
from mmctl.report import log_lines
from mmctl.text import printable_lines

MOST = 5000
"""So many of the last lines are kept."""
DIED = ("failed", "crashed")


class Follower:
    """The lines of `mmctl logs`, from where they were read the last time."""

    def __init__(self, folder: Path, state: str, reason: str | None) -> None:
        self.folder = folder
        self._reader = log_lines.JournalReader(folder)
        self._state, self._reason = state, reason
        self._begun = False

    def read(self) -> list[str]:
        """What is new; of a run that died, at first also the last lines of its output. EnvironmentFault, UserError."""
        try:
            lines = [one.text for one in self._reader.read() if one.text]
            if not self._begun and self._state in DIED:
                lines += [f"crashed: {self._reason}"] if self._state == "crashed" else []
                if (printed := log_lines.output_file(self.folder)) is not None:
                    lines += ["", f"The last lines of {printed}:"]
                    lines += [f"  {line}" for line in log_lines.OutputReader(printed).read(log_lines.TAIL)]
        except FileNotFoundError:
            raise EnvironmentFault(f"{self.folder}: is gone. Was the run removed?") from None
        except OSError as error:
            raise os_error(error, self.folder) from None
        self._begun = True
        return [printable_lines(line) for line in lines[-MOST:]]
