"""`mmctl retry`: runs that failed go back into the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmctl.run_folder import queue
from mmctl.store.rows import RunRow

SAME_AGAIN = {2: "wrong recipe or data", 3: "training failed"}
"""Exit codes after which the same input fails in the same way."""


class Retried(NamedTuple):
    """The folders of the runs to try again, and lines about the others."""

    folders: list[Path]
    messages: list[str]


def choose_failed(runs: Path, rows: Sequence[RunRow], named: bool) -> Retried:
    """The failed and crashed runs among these that can succeed at another try.

    named: the user named each of them, so that all are tried, also those that fail in the same way again.
    """
    folders, left = list[Path](), Counter[str]()
    for row in rows:
        folder = runs / row["uid"]
        if row["state"] not in ("failed", "crashed"):
            left[f"{row['state']}, not failed" if named else ""] += 1
        elif waits := queue.waits_for(folder):
            left[waits] += 1
        elif (why := SAME_AGAIN.get(row["code"] or 0)) and row["state"] == "failed" and not named:
            left[f"{why}, and would fail again: name a run to try it all the same"] += 1
        else:
            folders.append(folder)
    return Retried(folders, [f"left as they are, {why}: {n}" for why, n in left.items() if why])
