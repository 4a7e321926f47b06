"""What `mmctl ui` reads for its table and panes, and how little of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.fake_runs import T0, finished_run
from helpers.ui_driver import Driver, play
from mmctl.run_folder.events import Mark
from mmctl.runs.annotate import annotate
from mmctl.store.rows import RunRow
from mmctl.store.store import Store
from mmctl.ui.app import UiApp
from mmctl.ui.pages import MOST, Curves, curves
from mmctl.ui.reading import Reader, Snapshot, View


def reader_of(runs: Path) -> Reader:
    made = Reader(runs)
    made.refresh(force=True)
    return made


def test_of_many_marked_runs_the_first_are_drawn_and_a_note_says_so(tmp_path: Path) -> None:
    for n in range(MOST + 2):
        finished_run(tmp_path, f"many-{n:02}", name=f"many{n}", evaluations=1, created=T0 + n * 1000)
    uids = [run["uid"] for run in reader_of(tmp_path).runs]
    text = str(curves(reader_of(tmp_path), Curves(uids), 100, 60))
    assert f"the first {MOST} of {MOST + 2} marked runs are drawn" in text
    assert "#1 many0" in text
    assert f"#{MOST} many{MOST - 1}" in text
    assert f"many{MOST}" not in text
    assert "runs are drawn" not in str(curves(reader_of(tmp_path), Curves(uids[:MOST]), 100, 60))


def test_each_curve_has_the_number_of_its_run(tmp_path: Path) -> None:
    finished_run(tmp_path, "a", name="#x", created=T0)
    finished_run(tmp_path, "b", name="#x", created=T0 + 1000, seed=1)
    finished_run(tmp_path, "c", name="new", created=T0 + 2000, evaluations=0)
    text = str(curves(reader_of(tmp_path), Curves(["c", "b", "a"], metric="test/accuracy"), 100, 40))
    assert "#2 #x, seed 1" in text
    assert "#1 #x, seed 0" in text
    assert "no test/accuracy yet: #3" in text
    assert "cc #1" in text, "a letter for each run that was asked for, with a curve or not"
    assert "#1 #x" in str(curves(reader_of(tmp_path), Curves(["a"]), 100, 40))


def test_a_mark_reads_the_marked_runs_alone(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(three)
    asked: list[object] = []
    plain = Store.runs
    monkeypatch.setattr(Store, "runs", lambda self, only=None: (asked.append(only), plain(self, only))[1])
    run = reader.runs[1]
    reader.use(lambda store: annotate(store, [run], Mark(star=True)))
    assert asked == [[run["uid"]]]
    assert [one["starred"] for one in reader.runs] == [False, True, False]
    assert [one["number"] for one in reader.runs] == [1, 2, 3]


def test_more_runs_than_sqlite_has_variables(three: Path) -> None:
    with Store(three) as store:
        store.sync()
        newest = store.runs()[-1]
        assert store.runs([newest["uid"], "it's", *(f"gone-{n}" for n in range(300_000))]) == [newest]
        assert store.runs([]) == []


class Counted(list[RunRow]):
    """Runs that count how often all of them are walked through."""

    times = 0

    def __iter__(self) -> Iterator[RunRow]:
        Counted.times += 1
        return super().__iter__()


def test_the_lines_that_are_kept_cost_one_walk_through_all_runs(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Reader.snapshot

    def snapshot(self: Reader, view: View) -> Snapshot:
        shown = plain(self, view)
        return replace(shown, runs=Counted(shown.runs))

    monkeypatch.setattr(Reader, "snapshot", snapshot)
    counts = []

    async def look(app: UiApp, hands: Driver) -> None:
        assert len(app.table.lines) == 3
        for lines in (app.table.lines, {}):
            app.table.lines = dict(lines)
            Counted.times = 0
            await app.show()
            counts.append(Counted.times)

    play(look)
    assert counts[0] == counts[1]
