"""What the terminal shows while runs train: speed, remaining time, and the live lines of a batch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from helpers.command import Result
from helpers.run_helpers import After, never, started
from mmctl.image_files.progress import shown, shown_by
from mmctl.run_folder.lease import Lease
from mmctl.runs import progress
from mmctl.runs.batch_view import BatchView, RunLine
from mmctl.runs.execute import execute
from mmctl.runs.progress import Progress, StepRate, doing
from mmctl.training import loop

Mm = Callable[..., Result]


def test_speed_leaves_evaluation_and_saving_out_and_the_remaining_time_counts_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    speed = StepRate()
    assert speed.measure(40, 7.0) == (0.0, 0.0), "the first step may have compiled something"
    now += 30.0
    rate, each = speed.measure(60, 17.0)
    assert rate == pytest.approx(20 / (30 - 10))
    assert each == pytest.approx(30 / 20)


@pytest.mark.slow
def test_a_slow_evaluation_makes_no_step_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Lease, "beat", lambda lease, *values: beats.append(values))
    real = loop.evaluate

    def slow(*args: Any) -> Any:
        time.sleep(0.5)
        return real(*args)

    monkeypatch.setattr(loop, "evaluate", slow)
    execute(started(tmp_path, "train.steps=4", "eval.every=1"), never)
    step, total, rate, left = beats[2]
    assert (step, total) == (3, 4)
    assert left > 1.0, "one step with two evaluations"
    assert rate > 2 / left, "without them"


def test_the_bar_of_resume_starts_at_the_checkpoint(mm: Mm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = started(tmp_path)
    execute(folder, After(3))
    begun: list[tuple[int, int]] = []
    enter = Progress.__enter__

    def noted(self: Progress) -> Progress:
        entered = enter(self)
        begun.append((self.bar.tasks[0].completed, self.bar.tasks[0].total))
        return entered

    monkeypatch.setattr(Progress, "__enter__", noted)
    monkeypatch.setattr(progress.sys, "stderr", Terminal(sys.stderr))  # type: ignore[attr-defined]
    assert mm("resume", "1").code == 0
    assert begun == [(4, 12)]


class Terminal:
    """Standard error that calls itself a terminal."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def test_what_is_done_is_shown_on_a_terminal_only(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with doing("reading ferplus ..."):
        pass
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))
    with doing("reading \x1b]0;x\x07 ...", quiet=True):
        pass
    assert capfd.readouterr().err == ""
    with doing("reading \x1b]0;x\x07 ..."):
        assert capfd.readouterr().err == "\rreading \\u001b]0;x\\u0007 ...\x1b[K"
    assert capfd.readouterr().err == "\r\x1b[K"


def test_live_lines_of_a_batch(tmp_path: Path) -> None:
    first, second, third, fourth = (started(tmp_path, f"seed={seed}") for seed in range(4))
    at: list[int] = []
    execute(first, lambda: bool(at) and at[-1] >= 6, lambda event, training: at.append(training.step))
    view = BatchView(2)
    view.live = SimpleNamespace(console=Console(width=100, height=24), stop=lambda: None, start=lambda: None)
    view.begin([first, second, third, fourth])
    lines = [RunLine(first), RunLine(second)]
    lines[0].update()
    assert "starting" in lines[1].text()
    with Lease(first) as lease:
        lease.beat(7, 12, 35.14, 20.0)
        lines[0].update()
        assert lines[0].text().startswith("35.1 step/s  ETA 20s  test accuracy ")
        view.end(fourth, "failed", "failed  no memory")
        # 20 s for 5 of 12 steps: 48 s for a run. 20 + 48 + 48 s of work for two at a time.
        assert view.whole(lines) == "4 runs: 0 done, 1 not completed, 2 running, 1 waiting  ETA 58s"
        text = rendered(view, lines)
        assert "tiny s0" in text
        assert "7/12" in text
        view.live.console = Console(width=60, height=4)
        assert "... and 1 more" in rendered(view, lines)
        assert max(map(len, rendered(view, lines).splitlines())) <= 60


def rendered(view: BatchView, lines: list[RunLine]) -> str:
    with view.live.console.capture() as captured:
        view.live.console.print(view.table(lines))
    return captured.get()


def test_decoding_is_shown_by_the_progress_of_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with Progress(8) as plain, shown_by(plain.decoded), shown() as tell:
        for done in (0, 100, 1000):
            tell(done, 1000)
            now[0] += 6
    assert capsys.readouterr().err == "decoded 1,000 of 1,000 images\n"
    with Progress(8, quiet=True) as quiet:
        now[0] += 60
        quiet.decoded(1, 2)
    assert capsys.readouterr().err == ""
    texts: list[str] = []
    plain.bar = SimpleNamespace(update=lambda task, text: texts.append(text))
    now[0] += 0.2
    plain.decoded(1, 2)
    assert texts == ["decoded 1 of 2 images"]
