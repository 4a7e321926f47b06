"""Many runs: the index of 10,000, their submission, the queue of this machine beside a shell loop, and Slurm's arrays.

Index: fake run folders, read by the commands as new processes. Submission: `mmctl sweep` with a launcher that starts
nothing. Queue: `mmctl sweep` of runs of one step beside a shell loop over `mmctl run`; both with one run at a time, and
both start Python and torch for each run. Slurm: runs that end at once, on the cluster that SLURM_CONF names; without
one it is left out. Last line: one JSON object: seconds, MiB, and the queue's time over the loop's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from common import REPO, arguments, finish, machine, spread, table, tell

sys.path.insert(0, str(REPO / "tests"))
from helpers.fake_runs import T0, attempt, data, make_run, points, state, write

RUNS, QUICK_RUNS = 10_000, 60
EVALUATIONS, QUICK_EVALUATIONS = 60, 3
SEEDS = 5
LIVE = 800
"""Runs that write a line between two looks at the index."""
ROUNDS, QUICK = 7, 2
PARTS = ("index",)


class Cost(NamedTuple):
    """What a process took."""

    wall: float  # seconds
    cpu: float  # seconds
    memory: float  # MiB, at most


def main() -> None:
    """The parts that are asked for, one after the other."""
    args = arguments(__doc__ or "", part={"choices": PARTS, "help": "only this part"})
    count = args.rounds or (QUICK if args.quick else ROUNDS)
    print(f"{machine()}; {count} rounds")
    found: dict[str, float | None] = {}
    for part in [args.part] if args.part else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found |= globals()[part](Path(folder), count, args.quick)
    finish(found)


def mmctl(project: Path, *words: str) -> Cost:
    """One command as a new process."""
    dropped = ("MMCTL_", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    env |= {"PYTHONPATH": str(REPO), "PYTHONPYCACHEPREFIX": str(project / "compiled"), "COLUMNS": "120"}
    env |= {"MMCTL_RUNS": str(project / "runs"), "MMCTL_PLUGINS_DIR": str(project / "plugins")}
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "mmctl", *words], cwd=project, env=env, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise SystemExit(f"mmctl {' '.join(words)}: exit {child.returncode}: {errors.read().decode()[-2000:]}")
    unit = 1024 ** (2 if sys.platform == "darwin" else 1)
    return Cost(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def index(project: Path, count: int, quick: bool) -> dict[str, float | None]:
    """Fake runs: the first reading, listings when nothing has changed, and when many runs have gone on."""
    number, evaluations = (QUICK_RUNS, QUICK_EVALUATIONS) if quick else (RUNS, EVALUATIONS)
    runs, live = project / "runs", min(LIVE, number // 2)
    tell(f"writing {number:,} run folders")
    folders = list(fake(runs, number, evaluations))
    mmctl(project, "--help")  # compiles
    first = mmctl(project, "ls")
    database = sum(path.stat().st_size for path in runs.glob("mmctl.db*")) / 2**20
    costs: dict[str, list[Cost]] = {}
    commands = {"ls": ("ls",), "ls --all --json": ("ls", "--all", "--json"), "compare": ("compare",)}
    for n in range(count):
        tell(f"round {n + 1} of {count}")
        for what, words in commands.items():
            costs.setdefault(what, []).append(mmctl(project, *words))
        for folder in folders[:live]:
            write(folder, 1, points(1000 + n, test__ema__head__accuracy=0.5))
        costs.setdefault(f"compare, {live} runs with a new line", []).append(mmctl(project, "compare"))
    costs["db rebuild"] = [mmctl(project, "db", "rebuild")]
    rows = [("the first ls: all folders are read", *shown([first]))]
    rows += [(what, *shown(seen)) for what, seen in costs.items()]
    table(
        f"{number:,} runs, {number // SEEDS:,} configurations, {evaluations} evaluations of 3 values: "
        f"{number * evaluations * 3:,} values; database {database:.0f} MiB",
        ("command", "wall s", "CPU s", "+- %", "MiB"), rows,
    )  # fmt: skip
    changed = costs[f"compare, {live} runs with a new line"]
    return {
        "first_s": first.wall, "first_mib": first.memory, "ls_s": median(c.wall for c in costs["ls"]),
        "compare_s": median(c.wall for c in costs["compare"]), "changed_s": median(c.wall for c in changed),
        "rebuild_s": costs["db rebuild"][0].wall, "database_mib": database,
    }  # fmt: skip


def shown(seen: list[Cost]) -> tuple[str, str, str, str]:
    """Medians, as cells of a table."""
    wall, cpu, memory = (median(values) for values in zip(*seen, strict=True))
    return f"{wall:.2f}", f"{cpu:.2f}", spread([c.cpu for c in seen]), f"{memory:.0f}"


def fake(runs: Path, number: int, evaluations: int) -> Iterator[Path]:
    """Finished runs without training: their records, curves and ends."""
    for run in range(number):
        seed, configuration = run % SEEDS, run // SEEDS
        folder = make_run(
            runs, f"20260101-{run:06d}-bench-s{seed}-{run:04x}", name="bench", seed=seed, created=T0 + run,
            config_id=f"c{configuration}", settings={"optimizer__lr": 0.001 * (1 + configuration)},
        )  # fmt: skip
        curve = (
            points(
                step,
                test__ema__head__accuracy=0.5 + 0.4 * step / 1000 + run % 89 / 1000,
                test__ema__head__balanced_accuracy=0.5 + 0.4 * step / 1000 + run % 97 / 1000,
                train__loss=1 - step / 2000,
            )
            for step in range(1000 // evaluations, 1001, 1000 // evaluations)
        )
        begun = (attempt(), state("running"), data(split_hash=f"s{seed}"))
        write(folder, 1, *begun, *curve, state("completed", step=1000))
        yield folder


if __name__ == "__main__":
    main()
