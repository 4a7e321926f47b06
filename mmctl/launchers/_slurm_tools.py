"""Asks the programs of Slurm. Only options that Slurm 20.11 knows, and neither sacct nor any other database."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from mmctl.plugin import PluginError

SECONDS = 60.0
"""After this time, a question to Slurm has no answer."""
COLUMNS = (("JobArrayID", 60), ("State", 20), ("Reason", 120), ("exit_code", 12))
"""Columns of squeue and their widths; a fixed width is what all versions of it can do."""


class SlurmJob(NamedTuple):
    """What squeue says of one job, or of one job of an array."""

    id: str  # 123, or 123_4
    state: str  # PENDING, RUNNING, ...
    reason: str  # why it waits or has failed; "None" if there is none
    exit_code: int  # as of wait(): the code times 256, plus the signal that ended it


def ask(program: str, *words: str, fine: Sequence[str] = ()) -> str:
    """The output of a program; PluginError if it is not there, fails or does not answer.

    fine: texts of complaints that do not matter.
    """
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=SECONDS, errors="replace")
    except FileNotFoundError:
        raise PluginError(
            f"launcher slurm: there is no {program} on this machine. Run this command on a login node of the cluster, "
            "or choose another launcher, such as --launcher local."
        ) from None
    except subprocess.TimeoutExpired:
        raise PluginError(f"launcher slurm: {program} has not answered for {SECONDS:.0f} s. Try again.") from None
    complaints = [line for line in done.stderr.splitlines() if line.strip() and not any(f in line for f in fine)]
    if done.returncode and (complaints or not fine):
        said = complaints[-1].strip() if complaints else f"exit code {done.returncode}"
        raise PluginError(f"launcher slurm: {program} failed: {said.removeprefix(f'{program}: error: ')}")
    return done.stdout


def jobs(ended: bool = True) -> list[SlurmJob]:
    """All jobs of this user, those of an array one by one; ended: also those that ended in the last minutes."""
    form = ",".join(f"{name}:{width}" for name, width in COLUMNS)
    states = ("-t", "all") if ended else ()
    return [
        _job(line) for line in ask("squeue", "-h", "-r", *states, *_mine(), "-O", form).splitlines() if line.strip()
    ]


def array_of(name: str) -> list[str]:
    """The ids of the jobs of the array of this name, by index; [] if there is none, or all ended long ago.

    Ended jobs vanish one by one, so that the comment of the array says how many it has.
    """
    lines = ask("squeue", "-h", "-r", "-t", "all", *_mine(), "-n", name, "-o", "%F %k").splitlines()
    for line in lines:
        if found := re.fullmatch(r"(\d+) (\d+) runs? of mmctl", line.strip()):
            return [f"{found[1]}_{index}" for index in range(int(found[2]))]
    return []


def comment(runs: int) -> str:
    """The comment of an array of so many runs."""
    return f"{runs} run{'s' if runs > 1 else ''} of mmctl"


def array_size() -> int:
    """The site's MaxArraySize: an index in an array must be below it."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.M)
    return int(found[1]) if found else 1001


def _mine() -> tuple[str, str]:
    return "-u", str(os.getuid())


def _job(line: str) -> SlurmJob:
    ends = list(accumulate(width for _, width in COLUMNS))
    id, state, reason, code = (line[a:b].strip() for a, b in zip([0, *ends], ends, strict=False))
    return SlurmJob(id, state, reason, int(code) if code.isdigit() else 0)
