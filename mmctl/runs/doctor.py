"""Looks at what mmctl needs on this machine, line by line: each is ok, or says what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmctl import environment, project
from mmctl.errors import MmctlError
from mmctl.filesystem import is_network
from mmctl.recipe.list_all import list_recipes
from mmctl.registry.index import Index
from mmctl.run_folder.lease import Lease
from mmctl.store.check import database_problems
from mmctl.store.reading import open_for_reading

ROOM = 2 * 10**9
"""Bytes of free disk space below which training may fail soon."""
RACE = (3, 51, 3)
"""The SQLite that fixed a rare damage by two writers at once."""


class Line(NamedTuple):
    """One thing that was looked at; remedy: what to do, if it is not ok."""

    name: str
    ok: bool
    text: str
    remedy: str = ""


def look() -> Iterator[Line]:
    """Everything, as it is found; what fails on its way is a line too."""
    for name, check in CHECKS.items():
        try:
            yield from check()
        except (MmctlError, OSError, sqlite3.Error) as error:
            yield Line(name, False, str(error), "Correct that, then run `mmctl doctor` again.")


def _python() -> Iterator[Line]:
    versions = environment.versions()
    yield Line(
        "python", sys.version_info >= (3, 11), f"{versions.pop('python')} ({sys.executable})", "Use 3.11 or newer."
    )
    yield Line("packages", True, ", ".join(f"{name} {version}" for name, version in versions.items()))


def _torch() -> Iterator[Line]:
    try:
        import torch

        from mmctl.runs.hardware import instruction_set
    except Exception as error:  # a broken installation raises anything
        yield Line(
            "torch", False, f"cannot be imported: {type(error).__name__}: {error}", "Install it: pip install torch"
        )
        return
    yield Line("torch", True, f"{torch.__version__}, built for CUDA {torch.version.cuda or 'no'}")
    names = (
        [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    cpu = f"CPU ({instruction_set()}), {environment.machine()['cores']} cores"
    missing = not names and Path("/proc/driver/nvidia/version").exists()
    yield Line("device", not missing, ", ".join([*names, cpu]), "There is an NVIDIA driver, but torch finds no GPU: "
               "install a torch that is built for CUDA.")  # fmt: skip


def _disk() -> Iterator[Line]:
    runs = project.runs_dir()
    there = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    remedy = "Delete what is not needed: mmctl checkpoints prune, mmctl rm, mmctl gc"
    yield Line("disk", free >= ROOM, f"{free / 1e9:.1f} GB free for {runs}", remedy)
    if not os.access(there, os.W_OK):
        yield Line("file system", False, f"{there}: cannot be written", "Correct its permissions, or set MMCTL_RUNS.")
        return
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as folder, Lease(Path(folder)):
        pass  # raises where there are no locks
    network = is_network(there)
    yield Line("file system", True, "locks work" + (", a network: use reading commands on one host only" * network))


def _sqlite() -> Iterator[Line]:
    version = sqlite3.sqlite_version
    old = "" if sqlite3.sqlite_version_info >= RACE else " (3.51.3 fixed a rare damage; `mmctl db rebuild` repairs it)"
    yield Line("sqlite", True, version + old)
    runs = project.runs_dir()
    if not runs.is_dir():
        yield Line("runs", True, f"{runs}: none yet")
        return
    with open_for_reading(runs) as store:
        rows, unreadable = store.runs(), store.unreadable
        problems = database_problems(store)
    yield Line("database", not problems, f"{len(rows)} runs" + "".join(f"; {one}" for one in problems[:3]),
               "Make it again: mmctl db rebuild")  # fmt: skip
    yield Line("runs", not unreadable, " ".join(list(unreadable.values())[:3]) or "all can be read",
               "`mmctl db check` lists them all.")  # fmt: skip
    silent = [run["uid"] for run in rows if run["silent"]]
    yield Line("running", not silent, ", ".join(silent[:5]) or "no run has lost contact",
               "No heartbeat from its machine: look there, or `mmctl resume` it there.")  # fmt: skip


def _terminal() -> Iterator[Line]:
    encoding = sys.stdout.encoding or "ascii"
    columns = shutil.get_terminal_size().columns
    yield Line("terminal", encoding.lower().startswith("utf"), f"{encoding}, {columns} columns",
               "Set a UTF-8 locale, such as LC_ALL=C.UTF-8, to see curves and names as they are.")  # fmt: skip


def _plugins() -> Iterator[Line]:
    index = Index()
    own = [entry for entry in index.entries if entry.origin != "mmctl"]
    bad = [f"{one.place}: {one.broken}" for one in (*own, *index.missed) if one.broken]
    for entry in own:
        if not entry.broken:
            try:
                index.load(entry)
            except MmctlError as error:
                bad.append(str(error))
    yield Line("plugins", not bad, "; ".join(bad) or f"{len(own)} components", "Correct the file: mmctl plugins list")


def _data() -> Iterator[Line]:
    listed = [one for one in list_recipes() if not one.lacks]
    missing = sorted({one.data_missing for one in listed if one.data_missing and not one.shipped})
    optional = sorted({one.data_missing for one in listed if one.data_missing and one.shipped} - {*missing})
    wrong = [f"{one.name}: {one.problem}" for one in listed if one.problem]
    text = f"{len(listed)} recipes" + (f"; not here: {', '.join(missing or optional)}" if missing or optional else "")
    yield Line("data", not missing, text, "`mmctl run RECIPE` says where to get it.")
    yield Line("recipes", not wrong, "; ".join(wrong[:3]) or "no mistakes", "`mmctl recipe validate RECIPE` lists all.")


CHECKS: dict[str, Callable[[], Iterator[Line]]] = {
    "python": _python, "torch": _torch, "disk": _disk, "database": _sqlite, "terminal": _terminal,
    "plugins": _plugins, "data": _data,
}  # fmt: skip
"""What is looked at, in this order."""
