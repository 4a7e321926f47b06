"""The index of a run that trains: its journal keeps it up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmctl.filesystem import is_network
from mmctl.store.store import Store


def live_index(folder: Path) -> Callable[[], None] | None:
    """A function that imports what is new in one run; its journal calls it after each flush.

    None on a network file system, where only one host may open the database.
    """
    if is_network(folder):
        return None

    def update() -> None:
        with Store(folder.parent, patience=5.0) as store:
            store.sync([folder.name])

    return update
