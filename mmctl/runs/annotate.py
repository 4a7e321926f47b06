"""Writes what a person says of runs (tags, notes, marks) into their journals."""

from __future__ import annotations

from collections.abc import Sequence

from mmctl.run_folder import journal
from mmctl.run_folder.events import Event
from mmctl.store.rows import RunRow
from mmctl.store.store import Store


def annotate(store: Store, runs: Sequence[RunRow], event: Event) -> list[RunRow]:
    """Write an event to the journal of each run; returns the runs as they are then."""
    uids = [run["uid"] for run in runs]
    for uid in uids:
        journal.append(store.runs_dir / uid, event)
    store.sync(uids)
    now = {run["uid"]: run for run in store.runs(uids)}
    return [now[uid] for uid in uids]
