"""Reading many curves: an index that is damaged in the middle is said in words, whatever reads it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_runs import family
from mmctl.errors import EnvironmentFault
from mmctl.store import read_curves
from mmctl.store.store import Store


class Damaged:
    """A cursor whose rows cannot be read, though the query begins."""

    row_factory: object = None

    def execute(self, sql: str, values: object = ()) -> Damaged:
        return self

    def fetchall(self) -> list[Any]:
        raise sqlite3.DatabaseError("database disk image is malformed")

    __iter__ = fetchall


READERS: dict[str, Callable[[Store, Any], object]] = {
    "names_among": lambda store, runs: read_curves.names_among(store, runs, ["a"]),
    "reduced_values": lambda store, runs: read_curves.reduced_values(store, runs, {runs[0]["id"]: "a"}, "median20"),
    "last_values": read_curves.last_values,
    "each_point": lambda store, runs: list(read_curves.each_point(store, 1)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_damage_that_is_met_while_rows_are_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family(tmp_path / "runs", 1)
    with Store(tmp_path / "runs") as store:
        store.sync()
        runs = store.runs()
        READERS[name](store, runs)
        monkeypatch.setattr(read_curves, "_cursor", lambda store: Damaged())
        with pytest.raises(EnvironmentFault, match="damaged"):
            READERS[name](store, runs)
