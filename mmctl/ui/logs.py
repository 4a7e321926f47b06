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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reader = log_lines.JournalReader(folder)
        self._dead = False

    def read(self, state: str, reason: str | None) -> list[str]:
        """What is new; of a run that has died, once also the last lines of its output. EnvironmentFault, UserError.

        After an error a new Follower must begin: some lines may be lost.
        """
        dead, self._dead = self._dead, state in DIED
        try:
            lines = [one.text for one in self._reader.read() if one.text]
            if self._dead and not dead:
                lines += [f"crashed: {reason}"] if state == "crashed" else []
                if (printed := log_lines.output_file(self.folder)) is not None:
                    lines += ["", f"The last lines of {printed}:"]
                    lines += [f"  {line}" for line in log_lines.OutputReader(printed).read(log_lines.TAIL)]
        except FileNotFoundError:
            raise EnvironmentFault(f"{self.folder}: is gone. Was the run removed?") from None
        except OSError as error:
            raise os_error(error, self.folder) from None
        return [printable_lines(line) for line in lines[-MOST:]]
