"""Which stopped runs `mmctl resume` continues, and the shortest command that continues given ones."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmctl import project
from mmctl.errors import MmctlError, RunNotFound, UserError
from mmctl.run_folder import queue
from mmctl.run_folder.record import check_own, read_record
from mmctl.store import select
from mmctl.store.rows import RunRow
from mmctl.store.store import Store

STOPPED = ("interrupted", "crashed", "queued")
"""States of runs that can be continued."""
ALL = "state:" + ",".join(STOPPED)
SHOWN = 10
LOCAL = "mmctl:local"
"""The launcher of this machine."""


class Choice(NamedTuple):
    """The folders of the runs to continue, and lines about the others."""

    folders: list[Path]
    messages: list[str]


def choose(terms: Sequence[str]) -> Choice:
    """The runs to continue: those that match the filter and are interrupted, crashed or queued.

    A run that is given alone, by number, id, name or folder, is continued in any state; training itself refuses if it
    cannot be. Raises UserError without a filter, and RunNotFound if nothing matches a word.
    """
    folders = [Path(term).resolve() for term in terms if os.path.isfile(f"{term}/run.json")]  # noqa: PTH113
    words = [term for term in terms if not os.path.isfile(f"{term}/run.json")]  # noqa: PTH113
    for folder in folders:
        check_own(read_record(folder), "resumed")
    if terms and not words:
        return Choice(folders, [])
    runs = project.runs_dir()
    if not runs.is_dir():
        what = f'no run "{words[0]}": {runs} does not exist.' if words else "no run to continue: there are no runs yet."
        raise RunNotFound(f"{what} Start one: mmctl run digits")
    with Store(runs) as store:
        store.sync()
        if unreadable := next((word for word in words if word in store.unreadable), None):
            raise UserError(store.unreadable[unreadable])
        rows = store.runs()
        if not words:
            foreign = select.imported(store, rows)
            raise UserError(*_which([run for run in rows if run["id"] not in foreign]))
        found = select.select_runs(store, rows, words)
        foreign = select.imported(store, found)
    if len(words) == len(found) == 1 and not select.TERM.fullmatch(words[0]):
        if foreign:
            check_own(read_record(runs / found[0]["uid"]), "resumed")
        return Choice([*folders, runs / found[0]["uid"]], [])
    go_on, left = split_up(runs, found, foreign, failed=any("failed" in word for word in words))
    messages = kept_back(left)
    if "failed" in left:
        messages.append("`mmctl resume RUN` tries a failed run again.")
    if not go_on and not folders:
        messages.append("nothing to continue: " + ("no run matches" if not found else "no run of these is stopped"))
    return Choice([*folders, *(runs / run["uid"] for run in go_on)], messages)


def is_local(folder: Path) -> bool:
    """Whether a run belongs to the launcher of this machine; UserError if it waits in the queue of a cluster."""
    launcher = read_record(folder)["config"].get("launcher")
    if not isinstance(launcher, dict) or launcher.get("name", LOCAL) == LOCAL:
        return True
    if waits := queue.waits_for(folder):
        raise UserError(f"{folder.name}: {waits}. To take it out of that queue: mmctl stop {folder.name}")
    return False


def split_up(
    runs_dir: Path, runs: Sequence[RunRow], foreign: Collection[int], failed: bool
) -> tuple[list[RunRow], dict[str, list[str]]]:
    """The runs that can be continued, and by reason the uids of the others.

    foreign: the ids of runs that another program trained; failed: failed runs are tried again.
    """
    wanted = (*STOPPED, "failed") if failed else STOPPED
    go_on, left = [], dict[str, list[str]]()
    for run in runs:
        waits = queue.waits_for(runs_dir / run["uid"]) if run["state"] in wanted else None
        if run["id"] in foreign:
            left.setdefault("imported from another program", []).append(run["uid"])
        elif waits or run["state"] not in wanted:
            left.setdefault(waits or run["state"], []).append(run["uid"])
        else:
            go_on.append(run)
    return go_on, left


def kept_back(left: Mapping[str, Sequence[str]], most: int = SHOWN) -> list[str]:
    """Lines that name the runs that are not continued, at most so many for each reason."""
    return [f"left as they are, {reason}: {_listed(uids, most)}" for reason, uids in left.items()]


def resume_command(folders: Sequence[Path], tags: Sequence[str] = ()) -> str:
    """The command that continues these stopped runs, by id or by the shortest filter that matches no other one."""
    uids = [folder.name for folder in folders]
    if len(uids) > 1:
        try:
            with Store(folders[0].parent) as store:
                store.sync()
                mine = [run for run in store.runs() if run["uid"] in uids]
                stopped = [run for run in store.runs() if run["state"] in STOPPED or run["uid"] in uids]
                filters = [f"tag:{tag}" for tag in tags] + sorted({run["recipe"] for run in mine})
                for term in [*filters, ALL]:
                    if {run["uid"] for run in select.select_runs(store, stopped, [term])} == set(uids):
                        return f"mmctl resume {term}"
        except MmctlError:
            pass  # the ids are always right
    return f"mmctl resume {' '.join(uids)}"


def _which(rows: Sequence[RunRow]) -> list[str]:
    stopped = [run for run in rows if run["state"] in STOPPED]
    if not stopped:
        return ["no run to continue: no run is interrupted, crashed or queued. See: mmctl ls"]
    lines = [
        f"  {run['number']:>3}  {run['uid']}  {run['state']} at step {run['step']} of {run['total_steps']}"
        for run in stopped[-SHOWN:]
    ]
    more = [f"  ... and {len(stopped) - SHOWN} older"] if len(stopped) > SHOWN else []
    last = f"One: mmctl resume {stopped[-1]['number']}   all: mmctl resume {ALL}"
    return ["which run? These can be continued:", *more, *lines, last]


def _listed(uids: Sequence[str], most: int) -> str:
    more = f" and {len(uids) - most} more" if len(uids) > most else ""
    return ", ".join(uids[:most]) + more
