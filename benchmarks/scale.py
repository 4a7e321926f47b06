"""Many runs: the index of 10,000, their submission, the queue of this machine beside a shell loop, and Slurm's arrays.

Index: fake run folders, read by the commands as new processes. Submission: `mmctl sweep` with a launcher that starts
nothing. Queue: `mmctl sweep` of runs of one step, one at a time, beside a loop over `mmctl run`; both start Python
and torch for each run. Slurm: runs that are over already, on the cluster that SLURM_CONF names; without one it is left
out. Last line: one JSON object: seconds, MiB, and the queue's time over the loop's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from common import REPO, arguments, finish, machine, ratio, rounds, spread, table, tell

sys.path.insert(0, str(REPO / "tests"))
from helpers.fake_runs import T0, attempt, data, make_run, points, state, write

RUNS, QUICK_RUNS = 10_000, 60
EVALUATIONS, QUICK_EVALUATIONS = 60, 3
SEEDS = 5
LIVE = 800
"""Runs that write a line between two looks at the index."""
ROUNDS, QUICK = 7, 2
SUBMITTED, QUICK_SUBMITTED = 10_000, 20
"""Runs of the sweep that nobody starts."""
QUEUED, QUICK_QUEUED = 10, 2
"""Runs of the queue and of the loop, a round."""
JOBS, QUICK_JOBS = 1500, 4
"""Runs that are handed to Slurm."""
RECIPE = """
[dataset]
name = "digits"
[split]
labels = 40
[backbone]
name = "small"
[augment.weak]
name = "flip_crop"
pad = 1
[method]
name = "supervised"
[train]
steps = 1
device = "cpu"
precision = "fp32"
threads = 1
[eval]
every = 1
"""


class Cost(NamedTuple):
    """What a process took."""

    wall: float  # seconds
    cpu: float  # seconds
    memory: float  # MiB, at most


def main() -> None:
    """The parts that are asked for, one after the other."""
    parts = {"index": index, "submission": submission, "queue": queue, "slurm": slurm}
    args = arguments(__doc__ or "", part={"choices": tuple(parts), "help": "only this part"})
    count = args.rounds or (QUICK if args.quick else ROUNDS)
    print(f"{machine()}; {count} rounds")
    found: dict[str, float | None] = {}
    for name, part in parts.items():
        if args.part in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                found |= part(Path(folder), count, args.quick)
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


def submission(project: Path, count: int, quick: bool) -> dict[str, float | None]:
    """A sweep that nobody starts, the same command again, and one look at the runs."""
    number = QUICK_SUBMITTED if quick else SUBMITTED
    recipe = written(project)
    words = ("sweep", recipe, "--seeds", f"0-{number - 1}", "--launcher", "manual", "--name", "many")
    mmctl(project, "ls")  # compiles
    costs = {
        "sweep": [mmctl(project, *words, "--quiet")],
        "sweep --dry-run": [mmctl(project, *words, "--dry-run")],
        "the same sweep again: nothing is missing": [mmctl(project, *words, "--quiet")],
        "ls --sweep": [mmctl(project, "ls", "--sweep", "many") for _ in range(count)],
    }
    rows = [(what, *shown(seen)) for what, seen in costs.items()]
    table(f"A sweep of {number:,} runs", ("command", "wall s", "CPU s", "+- %", "MiB"), rows)
    first, again = costs["sweep"][0], costs["the same sweep again: nothing is missing"][0]
    return {"sweep_s": first.wall, "sweep_mib": first.memory, "again_s": again.wall}


def queue(project: Path, count: int, quick: bool) -> dict[str, float | None]:
    """Runs of one step: one after the other by the queue, and by a loop of a shell."""
    number = QUICK_QUEUED if quick else QUEUED
    recipe, used = written(project), iter(range(10**6))

    def seeds() -> list[int]:
        return [next(used) for _ in range(number)]

    def queued() -> float:
        return mmctl(project, "sweep", recipe, "--seeds", ",".join(map(str, seeds())), "--jobs", "1", "--quiet").wall

    def looped() -> float:
        return sum(mmctl(project, "run", recipe, "--seeds", str(seed), "--quiet").wall for seed in seeds())

    times = rounds({"mmctl sweep --jobs 1": queued, "a loop over mmctl run": looped}, count)
    rows = [(what, f"{median(seen) / number:.2f}", spread(seen)) for what, seen in times.items()]
    table(f"{number} runs of one step", ("program", "wall s a run", "+- %"), rows)
    return {
        "queue_loop": ratio(times, "mmctl sweep --jobs 1", "a loop over mmctl run"),
        "queue_s": median(times["mmctl sweep --jobs 1"]) / number,
    }


def slurm(project: Path, count: int, quick: bool) -> dict[str, float | None]:
    """Runs that end at once, as job arrays: to hand them over, to ask for all states, and until the last has ended."""
    if "SLURM_CONF" not in os.environ:
        tell("no SLURM_CONF: the part for Slurm is left out")
        return dict.fromkeys(("slurm_submit_s", "slurm_ask_s", "slurm_all_s"))
    from mmctl.launchers.slurm import Slurm
    from mmctl.run_folder import queue as files
    from mmctl.sweep.engines import submit_lasting

    number, runs, launcher = QUICK_JOBS if quick else JOBS, project / "runs", Slurm(minutes=10)
    folders = list(fake(runs, number, 1))
    began = time.monotonic()
    submit_lasting(runs, folders, {"name": "mmctl:slurm", "minutes": 10}, launcher, "")
    submitted = time.monotonic() - began
    ids = [entry.id for entry in map(files.read, folders) if entry]
    asked = []
    while True:
        begin = time.monotonic()
        states = launcher.states(ids).values()
        asked.append(time.monotonic() - begin)
        if not any(state.word in ("queued", "running", "held") for state in states):
            break
        time.sleep(1)
    whole = time.monotonic() - began
    ends = Counter((folder / "log.txt").read_text().count("is over already") for folder in folders)
    if ends != {1: number}:
        raise SystemExit(f"runs were not executed once each: {ends}")
    rows = [
        (
            f"{number:,}",
            len({one.split("_")[0] for one in ids}),
            f"{submitted:.2f}",
            f"{median(asked):.3f}",
            f"{whole:.0f}",
        )
    ]
    columns = ("runs", "arrays", "to hand them over, s", "to ask for all states, s", "until the last has ended, s")
    table("Slurm, runs that are over already", columns, rows)
    return {"slurm_submit_s": submitted, "slurm_ask_s": median(asked), "slurm_all_s": whole}


def written(project: Path) -> str:
    """A recipe of one step on the digits."""
    path = project / "short.toml"
    path.write_text(RECIPE)
    return path.name


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
