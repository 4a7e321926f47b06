"""Shows the progress of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmctl.text import duration, printable, printable_lines

PAUSE = 0.1
"""Seconds between two updates of the bar."""
PLAIN = 10.0
"""Seconds between two plain lines."""


def tell(text: str, out: bool = False) -> None:
    """Print a line at once to standard error, or standard output if `out`."""
    print(text, file=sys.stdout if out else sys.stderr, flush=True)


@contextmanager
def doing(text: str, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal what a command does, until it has done it; elsewhere, or if quiet, show nothing."""
    shown = not quiet and sys.stderr.isatty()
    if shown:
        _draw_over(text)
    try:
        yield
    finally:
        if shown:
            _draw_over("")


def _draw_over(text: str) -> None:
    # Control characters for the terminal, not through sys.stderr, which may escape them.
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"\r{printable(text)}\x1b[K".encode())


class StepRate:
    """Steps per second, without evaluation and saving. The first step does not count: it may compile or capture."""

    def __init__(self) -> None:
        self.first = -1
        self.began = self.aside = 0.0

    def measure(self, step: int, aside: float) -> tuple[float, float]:
        """Steps per second, and seconds for one more step together with its share of evaluation and saving.

        aside: seconds spent on evaluation and saving so far. Both are 0 after the first step.
        """
        now = time.perf_counter()
        if self.first < 0:
            self.first, self.began, self.aside = step, now, aside
        steps, seconds = step - self.first, now - self.began
        pure = seconds - (aside - self.aside)
        return (steps / max(pure, 1e-9), seconds / steps) if steps else (0.0, 0.0)


def pace(rate: float, left: float) -> str:
    """Speed and remaining time, for people."""
    if rate <= 0:
        return "measuring speed ..."
    speed = f"{rate:.1f} step/s" if rate >= 1 else f"{1 / rate:.1f} s/step"
    return f"{speed}  ETA {duration(left)}"


class Progress:
    """Prints the events of the training loop; quiet: only warnings."""

    def __init__(
        self, total: int, *, start: int = 0, doing: str = "", quiet: bool = False, log: Path | None = None
    ) -> None:
        """`start`: the step to continue from; `doing`: what happens before the first step; `log`: a file for the
        lines, for a run in one process with others."""
        self.total, self.start, self.doing, self.quiet, self.log = total, start, doing, quiet, log
        self.bar: Any = None
        self.task: Any = None
        self.speed = StepRate()
        self.shown = time.perf_counter()
        self.loss = self.score = ""

    def __enter__(self) -> Progress:
        width = len(str(self.total))
        if not self.quiet and self.log is None and sys.stderr.isatty():
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            from mmctl.report.console import console

            # On a narrow terminal the text is cut off, not the count or the bar.
            count = "{task.completed:>{task.fields[width]}}/{task.total}"
            self.bar = Bar(
                BarColumn(16, table_column=Column(min_width=16)),
                TextColumn(count, markup=False, table_column=Column(no_wrap=True, min_width=2 * width + 1)),
                TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
                console=console(sys.stderr), transient=True, expand=True, refresh_per_second=8,
            )  # fmt: skip
            self.task = self.bar.add_task(
                "", total=self.total, completed=self.start, text=self.doing or "first step ...", width=width
            )
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self._draw(self.bar.stop)

    def _draw(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, SystemExit):  # rich raises SystemExit if the terminal was closed
            self.bar, self.quiet = None, True

    def say(self, text: str) -> None:
        """Print a line above the bar, or into the log."""
        if self.log is not None:
            with suppress(OSError), self.log.open("a") as lines:
                lines.write(f"{printable_lines(text)}\n")
        elif self.bar:
            self._draw(lambda: self.bar.console.print(text, markup=False, highlight=False))
        else:
            tell(text)

    def decoded(self, done: int, total: int) -> None:
        """Show how many image files are decoded, before the first step."""
        now = time.perf_counter()
        if self.quiet or now - self.shown < (PAUSE if self.bar else PLAIN):
            return
        self.shown = now
        text = f"decoded {done:,} of {total:,} images"
        if self.bar:
            self._draw(lambda: self.bar.update(self.task, text=text))
        else:
            self.say(text)

    def step(self, step: int, aside: float) -> None:
        """Update the bar, or print a line, after a step; not after every step.

        aside: seconds that this attempt has spent on evaluation and saving.
        """
        rate, each = self.speed.measure(step, aside)
        now = time.perf_counter()
        if self.quiet or now - self.shown < (PAUSE if self.bar else PLAIN):
            return
        self.shown = now
        text = "  ".join(part for part in (pace(rate, (self.total - step) * each), self.loss, self.score) if part)
        if self.bar:
            self._draw(lambda: self.bar.update(self.task, completed=step, text=text))
        else:
            self.say(f"step {step}/{self.total}  {text}")

    def point(self, values: dict[str, float]) -> None:
        """Show the training metrics since the last log point."""
        self.loss = f"loss {values['train/loss']:.3f}" if "train/loss" in values else ""
        if "train/guess_accuracy" in values:
            self.loss += f"  pseudo-labels {100 * values['train/guess_accuracy']:.1f} % correct"
        if values.get("train/margin_ratio"):
            self.loss += f"  M2/M1 {values['train/margin_ratio']:.2f}"

    def evaluated(
        self, split: str, weights: str, step: int, head: dict[str, float], centroid: dict[str, float]
    ) -> None:
        """Print the metrics of an evaluation; head and centroid: the two predictors."""
        self.score = (
            f"{split} accuracy {100 * head['accuracy']:.1f} %, balanced {100 * head['balanced_accuracy']:.1f} %"
        )
        if not self.quiet:
            more = (
                f"most predicted class {100 * head['largest_class']:.0f} %, "
                f"centroid accuracy {100 * centroid['accuracy']:.1f} %"
            )
            self.say(f"step {step}/{self.total}  {weights}  {self.score}, {more}")
