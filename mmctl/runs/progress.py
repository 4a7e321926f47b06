"""Shows the progress of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmctl.text import duration, printable_lines

PAUSE = 0.1
"""Seconds between two updates of the bar."""
PLAIN = 10.0
"""Seconds between two plain lines."""


def tell(text: str, out: bool = False) -> None:
    """Print a line to standard error, or standard output if `out`; a closed pipe does not end the training."""
    stream = sys.stdout if out else sys.stderr
    try:
        print(text, file=stream, flush=True)
    except OSError:
        with suppress(OSError, ValueError):
            # Otherwise Python fails at exit, when it flushes the buffer into the closed pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress:
    """Prints the events of the training loop; quiet: only warnings."""

    def __init__(self, total: int, *, quiet: bool = False, log: Path | None = None) -> None:
        """`log`: a file for the lines, for a run in one process with others."""
        self.total, self.quiet, self.log = total, quiet, log
        self.bar: Any = None
        self.task: Any = None
        self.first = -1
        self.began = self.shown = time.perf_counter()
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
            self.task = self.bar.add_task("", total=self.total, text="first step ...", width=width)
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

    def step(self, step: int) -> None:
        """Update the bar, or print a line, after a step; not after every step."""
        now = time.perf_counter()
        if self.first < 0:
            self.first, self.began = step, now
        if self.quiet or now - self.shown < (PAUSE if self.bar else PLAIN):
            return
        self.shown = now
        text = self.text(step, now)
        if self.bar:
            self._draw(lambda: self.bar.update(self.task, completed=step, text=text))
        else:
            self.say(f"step {step}/{self.total}  {text}")

    def text(self, step: int, now: float) -> str:
        """Speed, remaining time, loss and last evaluation."""
        rate = (step - self.first) / max(now - self.began, 1e-9)
        if rate <= 0:
            return "measuring speed ..."
        speed = f"{rate:.1f} step/s" if rate >= 1 else f"{1 / rate:.1f} s/step"
        parts = (speed, f"ETA {duration((self.total - step) / rate)}", self.loss, self.score)
        return "  ".join(part for part in parts if part)

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
