"""`mmctl watch`: what it shows of runs that train, and what it says when they end."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from helpers.command import Result
from helpers.fake_runs import T0, attempt, data, finished_run, make_run, points, state, write
from helpers.paths import REPO
from mmctl.report import console, live
from mmctl.report.screen import ENTER, LEAVE
from mmctl.run_folder.lease import Lease
from mmctl.store.reading import open_for_reading
from mmctl.store.store import Store

Mm = Callable[..., Result]


def begin(runs: Path, seed: int, held: ExitStack) -> tuple[Path, Lease]:
    """A run that trains in this process."""
    folder = make_run(runs, f"20261125-08150{seed}-mixmatch-s{seed}-000{seed}", seed=seed, created=T0 + seed)
    rows = [points(step, train__loss=2.5 - step / 100, train__guess_accuracy=0.5) for step in range(10, 101, 10)]
    write(folder, 1, attempt(), state("running"), data(), *rows, points(100, test__ema__head__accuracy=0.875))
    lease = held.enter_context(Lease(folder))
    lease.beat(100, 1000, 12.5, 72.0)
    lease._put()
    return folder, lease


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def then(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What happens between two updates, one call after the other; nothing more may be waited for."""

    def plan(*acts: Callable[[], object]) -> None:
        waiting = iter(acts)

        def sleep(_: float) -> None:
            next(waiting)()

        monkeypatch.setattr("mmctl.cli.watch.time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        monkeypatch.setattr("mmctl.cli.watch.LOOK", 0.0)

    return plan


def test_a_pipe_gets_a_line_for_each_update_and_the_end(mm: Mm, runs: Path, then: Callable[..., None]) -> None:
    with ExitStack() as held:
        folder, lease = begin(runs, 0, held)
        lease.gpu_memory(3_000_000_000)
        lease._put()

        def ends() -> None:
            write(folder, 1, points(1000, test__ema__head__accuracy=0.9), state("completed", 1000))
            held.close()

        then(lambda: None, ends)
        result = mm("watch")
    first, second, last = result.out.splitlines()
    assert result.code == 0
    for word in (
        "step 100/1000",
        "12.5 steps/s",
        "1m12s left",
        "loss 1.5",
        "test/accuracy 87.5",
        "  memory ",
        "GPU memory 3.0 GB",
    ):
        assert word in first
        assert word in second
    assert last.endswith("mixmatch-s0-0000: completed, test/accuracy 90.0 %")


def test_a_run_whose_process_is_gone_has_died(mm: Mm, runs: Path, then: Callable[..., None]) -> None:
    with ExitStack() as held:
        folder, _ = begin(runs, 0, held)
        then(held.close)
        result = mm("watch", "seed:0")
    assert result.code == 3
    assert f"died, crashed: process gone at step 100. Continue: mmctl resume {folder.name}" in result.out
    assert f"{folder.name}: crashed: process gone at step 100" in result.err


def test_runs_that_start_meanwhile_are_watched_too(mm: Mm, runs: Path, then: Callable[..., None]) -> None:
    with ExitStack() as first, ExitStack() as second:
        one, _ = begin(runs, 0, first)
        two: list[Path] = []

        def fails() -> None:
            write(two[0], 1, state("failed", 100, "the loss became NaN", 3))
            second.close()

        def ends() -> None:
            write(one, 1, state("completed", 1000))
            first.close()

        then(lambda: two.append(begin(runs, 1, second)[0]), fails, ends)
        result = mm("watch")
    assert result.code == 6
    assert "mixmatch-s1-0001: died, failed: the loss became NaN. See: mmctl logs " in result.out
    assert "mixmatch-s0-0000: completed" in result.out
    assert "1 of 2 runs died: 20261125-081501-mixmatch-s1-0001" in result.err


def test_a_run_that_was_stopped_says_how_to_continue(mm: Mm, runs: Path, then: Callable[..., None]) -> None:
    with ExitStack() as held:
        folder, _ = begin(runs, 0, held)

        def stops() -> None:
            write(folder, 1, state("interrupted", 100, "stopped by a signal", 75))
            held.close()

        then(stops)
        result = mm("watch")
    assert result.code == 75
    assert f"ended, interrupted: stopped by a signal. Continue: mmctl resume {folder.name}" in result.out


def test_what_has_ended_before_is_said_at_once(mm: Mm, runs: Path) -> None:
    finished_run(runs, "20261125-081500-mixmatch-s0-0000")
    folder = make_run(runs, "20261125-081501-mixmatch-s1-0001", seed=1)
    write(folder, 1, attempt(), state("running"), data(), state("failed", 5, "no room", 3))
    assert mm("watch").err == "no run is training\n"
    done = mm("watch", "seed:0")
    assert (done.code, done.out) == (0, "20261125-081500-mixmatch-s0-0000: completed\n")
    failed = mm("watch", "seed:1")
    assert failed.code == 3
    assert "failed: no room" in failed.out
    assert mm("watch", "nothing").code == 2


@pytest.fixture
def watched(runs: Path) -> Iterator[tuple[Store, list[live.Watched]]]:
    """Twelve runs that train, on this machine, and their store."""
    with ExitStack() as held:
        for seed in range(10):
            begin(runs, seed, held)
        queued = make_run(runs, "20261125-081600-mixmatch-s98-0098", seed=98)
        assert queued.is_dir()
        store = held.enter_context(open_for_reading(runs))
        yield store, live.read_watched(store, store.runs())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 250])
@pytest.mark.parametrize("height", [4, 10, 24, 50])
def test_a_frame_fits_any_screen(
    watched: tuple[Store, list[live.Watched]], width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    for runs in (watched[1], watched[1][:1]):
        lines = live.frame(runs, ["a message that is longer than some of the screens"] * 9, "", console.console(), "q")
        assert 0 < len(lines) <= height
        assert max(map(cell_len, lines)) <= max(width, 30)
        assert "running" in lines[0] or width < 30


def test_a_frame_shows_what_fits(watched: tuple[Store, list[live.Watched]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LINES", "24")
    text = "\n".join(live.frame(watched[1], [], "the database is locked", console.console(), "q: quit"))
    for word in ("10 running, 1 queued", "q: quit", "the database is locked", "12.5", "1m12s", "87.5", "100/1000"):
        assert word in text
    monkeypatch.setenv("LINES", "8")
    assert "... and " in "\n".join(live.frame(watched[1], [], "", console.console(), ""))


def test_one_run_on_a_high_screen_has_its_curve(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "40")
    folder = finished_run(runs, "20261125-081500-mixmatch-s0-0000", evaluations=30)
    with open_for_reading(runs) as store:
        lines = live.frame(live.read_watched(store, store.runs([folder.name])), [], "", console.console(), "")
    assert any("\u2502" in line for line in lines)
    assert len(lines) <= 40


@pytest.mark.slow
def test_the_screen_is_drawn_and_given_back(runs: Path) -> None:
    """In a terminal of its own, which becomes narrower; q ends it."""
    with ExitStack() as held:
        begin(runs, 0, held)
        main, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        before = termios.tcgetattr(child)
        dropped = ("COLUMNS", "LINES", "NO_COLOR")
        env = {key: value for key, value in os.environ.items() if key not in dropped}
        env |= {"PYTHONPATH": os.pathsep.join([str(REPO), *sys.path]), "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        command = [sys.executable, "-m", "mmctl", "watch"]
        process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=env, start_new_session=True)
        seen = b""

        def read_until(done: Callable[[bytes], bool]) -> None:
            nonlocal seen
            deadline = time.monotonic() + 120
            while not done(seen):
                assert time.monotonic() < deadline, seen
                if select.select([main], [], [], 0.2)[0]:
                    seen += os.read(main, 65536)

        read_until(lambda text: b"87.5" in text and b"12.5" in text)
        assert seen.startswith(ENTER.encode())
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 50, 0, 0))
        seen = b""
        read_until(lambda text: text.count(b"\x1b[H") >= 3)
        narrow = seen.split(b"\x1b[H")[2].decode()
        assert "digits s0" in narrow
        assert "12.5" not in narrow, "fewer columns have room"
        os.write(main, b"q")
        read_until(lambda text: LEAVE.encode() in text)
        assert process.wait(60) == 0
        assert termios.tcgetattr(child) == before
        os.close(main)
        os.close(child)
