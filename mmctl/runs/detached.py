"""Starts `mmctl resume` as a process that outlives the one that starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mmctl.errors import EnvironmentFault
from mmctl.filesystem import share

ENDED_WELL = (0, 75)
"""Exit codes of a resumed run that say nothing new: it has completed, or was stopped again."""


@dataclass
class Resuming:
    """A process that continues runs, and where it prints."""

    uids: list[str]
    popen: subprocess.Popen[bytes]
    output: IO[bytes]

    def failure(self) -> str | None:
        """None while it works; then the last line that it printed, "" if it ended well."""
        code = self.popen.poll()
        if code is None:
            return None
        with self.output:
            self.output.seek(max(0, self.output.seek(0, os.SEEK_END) - 4096))
            lines = self.output.read().decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return "" if code in ENDED_WELL else said or f"exit code {code}"


def start_resume(runs_dir: Path, uids: Sequence[str]) -> Resuming:
    """Start `mmctl resume` with these runs; it prints to the log.txt of a single run, as launched runs do."""
    folders = [(runs_dir / uid).resolve() for uid in uids]
    path = folders[0] / "log.txt"
    try:
        if len(folders) == 1:
            output: IO[bytes] = path.open("a+b")
            share(path)
        else:
            output = tempfile.TemporaryFile()  # noqa: SIM115 - Resuming closes it
        popen = subprocess.Popen(
            [sys.executable, "-m", "mmctl", "resume", *map(str, folders)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"MMCTL_RUNS": str(runs_dir.resolve())},
            start_new_session=True,  # neither Ctrl-C nor the end of this terminal reaches it
        )
    except OSError as error:
        raise EnvironmentFault(f"{path}: mmctl resume cannot be started ({error.strerror}).") from None
    return Resuming(list(uids), popen, output)
