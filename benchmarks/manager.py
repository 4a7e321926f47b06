"""mmctl as an experiment manager beside MLflow, Aim, Trackio and W&B offline: the same work for each, in turn.

    python benchmarks/manager.py --tools mlflow=PYTHON,aim=PYTHON,trackio=PYTHON,wandb=PYTHON --runs 1000

PYTHON is an interpreter that has the tool. Start-up, listing and comparing are whole processes, in rounds (A B C A B C
...), their wall and CPU seconds as medians; a listing has every run with its parameters and the last values of its
curves (of mmctl: `export`), a comparison mean and standard deviation over the seeds. Each table is printed when it is
done. Last line: one JSON object with all figures.

Not the same work for all: `ls` is what the command prints by itself, one page of mmctl and all runs of others. The live
view is the first page of a server, or the first output of `mmctl watch` into a pipe. CPU and memory of logging are of
the calling process alone; W&B works in another one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from common import arguments, finish, machine, table, tell

FOLDER = Path(__file__).resolve().parent / "managers"
sys.path.insert(0, str(FOLDER))
ROUNDS, QUICK = 7, 2
WRITERS, WRITTEN = 8, 1250
LIMIT = 1800
"""Seconds after which a tool has not finished."""


class Tool(NamedTuple):
    """A tool with the interpreter that has it, and its module in managers/."""

    name: str
    python: str
    module: Any

    def environment(self, store: Path) -> dict[str, str]:
        """Of its processes: no settings of the user, and compiled modules are kept."""
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
        return {**kept, "HOME": str(store.parent), "COLUMNS": "120", **self.module.environment(store)}

    def words(self, word: str, store: Path, *numbers: int) -> list[str]:
        """The command line of one function of its module."""
        return [self.python, str(FOLDER / f"{self.name}_tool.py"), word, str(store), *map(str, numbers)]


class Ran(NamedTuple):
    """A finished process."""

    code: int
    out: str
    wall: float
    cpu: float


def run(words: Sequence[str], tool: Tool, store: Path, limit: float = LIMIT) -> Ran:
    """Run a process to its end; the code is -1 if it took too long."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.perf_counter()
        child = subprocess.Popen(words, cwd=store, env=tool.environment(store), stdout=out, stderr=err,
                                 start_new_session=True)  # fmt: skip
        while True:
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() - begun > limit:
                end(child)
                return Ran(-1, "", limit, 0.0)
            time.sleep(0.001)
        wall = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode:
            tell(err.read().decode("utf-8", "replace")[-800:])
        text = out.read().decode("utf-8", "replace")
        return Ran(child.returncode, text, wall, used.ru_utime + used.ru_stime)


def end(child: subprocess.Popen[Any]) -> None:
    """Kill a process and those that it started, if they are still there."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def answer(ran: Ran) -> Any:
    """What a function of a module printed last; None if it failed."""
    lines = ran.out.strip().splitlines()
    return json.loads(lines[-1]) if ran.code == 0 and lines else None


def in_rounds(variants: dict[str, Callable[[], Ran]], count: int) -> dict[str, tuple[float, float] | None]:
    """Medians of wall and CPU seconds; None for a tool that failed or took too long."""
    times: dict[str, list[Ran]] = {name: [] for name in variants}
    lost: set[str] = set()
    for n in range(count + 1):  # the first one fills caches
        for name, call in variants.items():
            if name not in lost:
                done = call()
                if done.code:
                    lost.add(name)
                elif n:
                    times[name].append(done)
    return {
        name: None if name in lost else (median(one.wall for one in ran), median(one.cpu for one in ran))
        for name, ran in times.items()
    }


def logged(tool: Tool, store: Path) -> dict[str, Any]:
    """Times and memory of calls that log one point each; empty if the tool failed."""
    words = tool.words("log", store, 10_000 if tool.name != "mlflow" else 500)
    return answer(run(words, tool, store)) or {}


def killed(tool: Tool, store: Path) -> dict[str, Any]:
    """Kill -9 a process that logs, after 500 calls; what the tool says then of state and points."""
    child = subprocess.Popen(tool.words("endless", store), cwd=store, env=tool.environment(store), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    assert child.stdout
    logged = 0
    for line in child.stdout:
        if line.strip().isdigit():
            logged = int(line)
        if logged >= 500:
            break
    end(child)
    logged = max([logged, *(int(line) for line in child.stdout if line.strip().isdigit())])
    child.stdout.close()
    return {"logged": logged, **state(tool, store)}


def state(tool: Tool, store: Path) -> dict[str, Any]:
    """The states of all runs and the number of points of each, as the tool says; None where it does not say it."""
    said = answer(run(tool.words("state", store), tool, store)) if hasattr(tool.module, "state") else None
    return said or {"states": None, "points": None}


def writers(tool: Tool, store: Path) -> dict[str, Any]:
    """Eight processes on an empty store at once: how many failed, how many of all points are there afterwards, and
    seconds until the last process was done.
    """
    begun = time.perf_counter()
    every = [
        subprocess.Popen(tool.words("write", store, WRITTEN), cwd=store, env=tool.environment(store),
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(WRITERS)
    ]  # fmt: skip
    failed = 0
    for child in every:
        try:
            failed += child.wait(max(1.0, LIMIT - (time.perf_counter() - begun))) != 0
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            failed += 1
    seconds = time.perf_counter() - begun
    points = state(tool, store)["points"]
    return {"failed": failed, f"points of {WRITERS * WRITTEN}": points and sum(points), "seconds": seconds}


def view(tool: Tool, store: Path) -> float | None:
    """Seconds from the start of its view until it answers: a page, or the first output of mmctl, read from a pipe."""
    if tool.name == "mmctl":
        begun = time.perf_counter()
        child = subprocess.Popen([tool.python, "-m", "mmctl", "watch"], cwd=store, env=tool.environment(store),
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        assert child.stdout
        child.stdout.read(1)
        taken = time.perf_counter() - begun
        child.kill()
        child.communicate()
        return taken
    if not hasattr(tool.module, "VIEW"):
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [tool.python, *(word.format(port=port) for word in tool.module.VIEW)]
    env = tool.environment(store) | {"GRADIO_SERVER_PORT": str(port), "BROWSER": "true"}
    begun = time.perf_counter()
    child = subprocess.Popen(words, cwd=store, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             start_new_session=True)  # fmt: skip
    try:
        while time.perf_counter() - begun < 120 and child.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as page:
                    page.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    page.settimeout(30)
                    if page.recv(1):
                        return time.perf_counter() - begun
            except OSError:
                time.sleep(0.02)
        return None
    finally:
        end(child)


def main() -> None:
    """Do all of it and print the tables."""
    args = arguments(
        __doc__ or "",
        tools={"default": "", "help": "NAME=PYTHON,...: mlflow, aim, trackio, wandb"},
        runs={"default": "1000", "help": "sizes of the stores, for example 1000,10000"},
        keep={"default": "", "help": "a folder for the stores of listings, used again by the next call"},
    )
    pythons = dict(pair.split("=") for pair in args.tools.split(",") if pair)
    tools = [Tool("mmctl", sys.executable, import_module("mmctl_tool"))]
    tools += [Tool(name, python, import_module(f"{name}_tool")) for name, python in pythons.items()]
    count = args.rounds or (QUICK if args.quick else ROUNDS)
    with tempfile.TemporaryDirectory() as temporary:
        sizes = [20] if args.quick else [int(n) for n in args.runs.split(",")]
        print(machine())
        found = measured(tools, Path(args.keep or temporary).resolve(), Path(temporary).resolve(), sizes, count)
    finish({
        f"{title}/{name}/{column}": value
        for title, rows in found.items() for name, row in rows.items() for column, value in row.items()
    })  # fmt: skip


def measured(
    tools: Sequence[Tool], base: Path, temporary: Path, sizes: Sequence[int], count: int
) -> dict[str, dict[str, dict]]:
    """Every table: title -> tool -> column -> figure. `base` has the stores of listings, `temporary` all others."""
    found: dict[str, dict[str, dict]] = {}

    def put(title: str, column: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            found.setdefault(title, {}).setdefault(name, {})[column] = value

    def show(title: str) -> None:
        rows = found.get(title, {})
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        table(
            title, ("tool", *columns), [(name, *(_text(row.get(key)) for key in columns)) for name, row in rows.items()]
        )
        sys.stdout.flush()

    def store(tool: Tool, name: str, above: Path = base) -> Path:
        made = above / f"{tool.name}-{name}"
        made.mkdir(parents=True, exist_ok=True)
        return made

    for number in sizes:
        for tool in tools:
            folder = store(tool, str(number))
            if not (folder.with_name(folder.name + ".made")).exists():
                tell(f"{tool.name}: makes {number} runs")
                made = run(tool.words("make", folder, number), tool, folder)
                put(f"{number} runs", "make s", {tool.name: made.wall if made.code == 0 else None})
                if made.code == 0:
                    folder.with_name(folder.name + ".made").touch()
        ready = [tool for tool in tools if (base / f"{tool.name}-{number}.made").exists()]
        for column, word in (("list", "table"), ("compare", "compare")):
            variants = {
                tool.name: partial(run, _reading(tool, word, made), tool, made)
                for tool, made in ((tool, store(tool, str(number))) for tool in ready)
                if hasattr(tool.module, word) or hasattr(tool.module, word.upper())
            }
            tell(f"{column}: {', '.join(variants)}")
            times = in_rounds(variants, count)
            put(f"{number} runs", f"{column} wall s", {k: v and v[0] for k, v in times.items()})
            put(f"{number} runs", f"{column} CPU s", {k: v and v[1] for k, v in times.items()})
        show(f"{number} runs")
    commands = f"commands ({sizes[0]} runs)"
    for column in ("help", "ls"):
        variants = {
            tool.name: partial(run, [tool.python, *tool.module.CLI[column]], tool, store(tool, str(sizes[0])))
            for tool in tools
            if column in tool.module.CLI
        }
        tell(f"{column}: {', '.join(variants)}")
        times = in_rounds(variants, count)
        put(commands, f"{column} wall s", {k: v and v[0] for k, v in times.items()})
        put(commands, f"{column} CPU s", {k: v and v[1] for k, v in times.items()})
    show(commands)
    for title, work in (
        ("10,000 calls (MLflow: 500)", logged),
        ("8 writers on an empty store", writers),
        ("kill -9 while logging", killed),
    ):
        for tool in tools:
            tell(f"{title}: {tool.name}")
            for key, value in work(tool, store(tool, work.__name__, temporary)).items():
                put(title, key, {tool.name: value})
        show(title)
    for tool in tools:
        tell(f"live view: {tool.name}")
        put("live view", "first answer s", {tool.name: view(tool, store(tool, str(sizes[0])))})
    show("live view")
    return found


def _reading(tool: Tool, word: str, store: Path) -> list[str]:
    command = getattr(tool.module, word.upper(), None)
    return [tool.python, *command] if command else tool.words(word, store)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
