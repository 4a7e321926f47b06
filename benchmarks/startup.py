"""Start-up time of commands that only read: CPU milliseconds (user + system) of a new process.

In a temporary project with sixteen runs of three methods. Last line: one JSON object: help_ms, ls_ms, show_ms.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from common import REPO, arguments, finish, machine, rounds, spread, table

sys.path.insert(0, str(REPO / "tests"))
from helpers.fake_runs import family

ROUNDS, QUICK = 25, 5


def started(words: list[str], project: Path) -> float:
    """CPU seconds of one command, from start to exit."""
    # Compiled modules are cached, as for an installed program, even if the environment forbids it.
    dropped = ("MMCTL_", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    env |= {"PYTHONPATH": str(REPO), "PYTHONPYCACHEPREFIX": str(project / "compiled"), "COLUMNS": "120"}
    env |= {"MMCTL_RUNS": str(project / "runs"), "MMCTL_PLUGINS_DIR": str(project / "plugins")}
    silent = subprocess.DEVNULL
    child = subprocess.Popen([sys.executable, *words], cwd=project, env=env, stdout=silent, stderr=silent)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)}: exit {child.returncode}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Time every command once per round and print a table."""
    args = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        family(project / "runs", seeds=5)
        commands = {
            "python -c pass": ["-c", "pass"],
            "mmctl --help": ["-m", "mmctl", "--help"],
            "mmctl ls": ["-m", "mmctl", "ls"],
            "mmctl show RUN": ["-m", "mmctl", "show", "1"],
        }
        variants = {name: partial(started, words, project) for name, words in commands.items()}
        times = rounds(variants, args.rounds or (QUICK if args.quick else ROUNDS), warm=2)
    print(f"{machine()}; {len(times['mmctl ls'])} rounds")
    rows = [(name, f"{1000 * median(seconds):.0f}", spread(seconds)) for name, seconds in times.items()]
    table("Start-up, medians", ("command", "CPU ms", "+- %"), rows)
    milliseconds = {name: 1000 * median(seconds) for name, seconds in times.items()}
    finish({
        "help_ms": milliseconds["mmctl --help"],
        "ls_ms": milliseconds["mmctl ls"],
        "show_ms": milliseconds["mmctl show RUN"],
    })  # fmt: skip


if __name__ == "__main__":
    main()
