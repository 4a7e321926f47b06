"""`mmctl logs`: what happened in a run, and following one until it ends."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.command import Result
from helpers.fake_runs import attempt, checkpoint, data, evaluation, make_run, points, state, write
from mmctl.run_folder.events import Alert, Note, Notice, Tag
from mmctl.run_folder.journal import append, path_of
from mmctl.run_folder.lease import Lease

Mm = Callable[..., Result]
UID = "20261125-081500-mixmatch-s0-0000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that was interrupted, noted and resumed, and failed then."""
    folder = make_run(tmp_path / "runs", UID)
    rows = [
        points(50, train__loss=1.25, train__guess_accuracy=0.545, lr=0.03, train__guess_top=0.4),
        points(100, test__ema__head__accuracy=0.875, test__ema__head__balanced_accuracy=0.85, test__ema__head__nll=1.0),
    ]
    write(folder, 1, attempt(), state("running"), data(), *rows, checkpoint(100), state("interrupted", 120, "stopped"))
    append(folder, Note(text="look \x1b[31mhere"))
    append(folder, Tag(add=["good"], remove=["draft"]))
    rows = [
        Alert(step=150, name="collapse", text="one class"),
        Notice(step=151, text="slow"),
        points(200, train__a=1.0),
    ]
    write(folder, 2, attempt(2, 100), state("running"), *rows, state("failed", 210, "a loss became NaN", 3))
    return folder


def texts(result: Result) -> list[str]:
    """The lines without their times."""
    assert result.code == 0, result.err
    return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", line) for line in result.out.splitlines()]


def test_a_run_is_told_in_order(mm: Mm, folder: Path) -> None:
    assert texts(mm("logs", "@last")) == [
        "attempt 1 on box, process 1: cpu, 1 thread",
        "images: 40 labelled, 1360 unlabelled, 397 test; 4 classes",
        "step 50  loss 1.25  guess_accuracy 54.5  lr 0.03",
        "step 100  test ema head: accuracy 87.5, balanced_accuracy 85.0",
        "step 100  checkpoint (periodic, 123.5 kB): checkpoints/step-000000100",
        "interrupted at step 120: stopped",
        "note: look \\u001b[31mhere",
        "tags: +good -draft",
        "attempt 2 from step 100 on box, process 1: cpu, 1 thread",
        "step 150  warning, collapse: one class",
        "step 151  note: slow",
        "step 200  a 1",
        "failed at step 210: a loss became NaN",
    ]


def test_last_lines_all_metrics_and_json(mm: Mm, folder: Path) -> None:
    assert texts(mm("logs", UID, "-n", "2"))[0] == "step 200  a 1"
    assert mm("logs", UID, "-n", "0").out == ""
    assert "guess_top 40.0" in mm("logs", UID, "--all").out
    found = json.loads(mm("logs", UID, "--json").out)
    assert found["uid"] == UID
    assert [one["attempt"] for one in found["events"]].count(2) == 6
    assert found["events"][3]["v"]["train/guess_top"] == 0.4
    assert mm("logs", UID, "--json", "-f").code == 2


def test_evaluations_from_outside_are_told_and_damaged_lines_named(mm: Mm, folder: Path) -> None:
    append(folder, evaluation(100, 0.91, "raw", "centroid"))
    with path_of(folder, 2).open("ab") as file:
        file.write(b"{half\n" + b'{"e": "of a newer version"}\n')
    lines = texts(mm("logs", UID))
    assert "evaluated: step 100  test raw centroid: accuracy 91.0, balanced_accuracy 89.0" in lines
    assert any("damaged line of the journal: not JSON" in line for line in lines)


def test_the_output_of_a_run_that_died_is_shown(mm: Mm, folder: Path) -> None:
    assert mm("logs", UID, "--output").code == 2
    (folder / "log.txt").write_bytes(b"".join(b"line %d\n" % n for n in range(30)) + b"\x1b[31mlast\nhalf")
    lines = mm("logs", UID).out.splitlines()
    assert lines[-1] == "  \\u001b[31mlast"
    assert "  line 11" in lines
    assert "  line 10" not in lines
    assert mm("logs", UID, "--output").out.splitlines()[0] == "line 0"
    assert mm("logs", UID, "--output", "-n", "2").out.splitlines() == ["line 29", "\\u001b[31mlast"]


def test_what_is_no_journal_is_named(mm: Mm, folder: Path) -> None:
    os.mkfifo(path_of(folder, 3))
    result = mm("logs", UID)
    assert result.code == 2
    assert "journal.3.jsonl: not a journal" in result.err


@pytest.fixture
def then(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What happens between two looks; nothing more may be waited for."""

    def plan(*acts: Callable[[], object]) -> None:
        waiting = iter(acts)
        clock = iter(range(0, 100_000, 40))
        faked = SimpleNamespace(sleep=lambda _: next(waiting)(), monotonic=lambda: next(clock))
        monkeypatch.setattr("mmctl.cli.logs.time", faked)

    return plan


def test_following_ends_with_the_run(mm: Mm, folder: Path, then: Callable[..., None]) -> None:
    with Lease(folder) as lease:
        rows = [attempt(3, 210), state("running")]
        acts: list[Callable[[], object]] = [
            lambda: write(folder, 3, *rows),
            lambda: write(folder, 3, points(220, train__loss=0.5)),
            lambda: write(folder, 3, state("completed", 1000)),
            lambda: lease.__exit__(None, None, None),
        ]
        then(*acts)
        lines = texts(mm("logs", UID, "-f", "-n", "1"))
        lease.__enter__()
    assert lines == [
        "failed at step 210: a loss became NaN",
        "attempt 3 from step 210 on box, process 1: cpu, 1 thread",
        "step 220  loss 0.5",
        "completed at step 1000",
    ]


def test_following_says_that_the_process_is_gone(mm: Mm, folder: Path, then: Callable[..., None]) -> None:
    write(folder, 3, attempt(3, 210), state("running"))
    (folder / "log.txt").write_text("first\n")
    lease = Lease(folder)
    lease.__enter__()
    lease.beat(222, 1000, 1.0)

    def more() -> None:
        with (folder / "log.txt").open("a") as file:
            file.write("second\n")

    then(more, lambda: lease.__exit__(None, None, None))
    assert mm("logs", UID, "-f", "--output").out.splitlines() == [
        "first",
        "second",
        "crashed: process gone at step 222",
    ]
    assert texts(mm("logs", UID, "-n", "0"))[0] == "crashed: process gone at step 222"


def test_following_a_run_of_another_machine_goes_on(mm: Mm, folder: Path, then: Callable[..., None]) -> None:
    write(folder, 3, attempt(3, 210), state("running"))
    elsewhere = {"host": "far", "boot": "other", "beat": 1, "step": 5}
    (folder / "lease").write_text(json.dumps(elsewhere))

    def beats() -> None:
        (folder / "lease").write_text(json.dumps(elsewhere | {"beat": 2}))

    then(lambda: None, lambda: None, beats, lambda: None, lambda: write(folder, 3, state("completed", 1000)))
    lines = texts(mm("logs", UID, "-f", "-n", "1"))
    assert lines[1:] == [
        "no heartbeat from far for 60 seconds; the run may have died there", "completed at step 1000"
    ]  # fmt: skip


def test_a_run_that_waits_is_waited_for(mm: Mm, tmp_path: Path, then: Callable[..., None]) -> None:
    folder = make_run(tmp_path / "runs", UID)
    then(lambda: None, lambda: write(folder, 1, attempt(), state("running"), state("completed", 10)))
    start = time.monotonic()
    assert texts(mm("logs", UID, "-f"))[-1] == "completed at step 10"
    assert time.monotonic() - start < 60
