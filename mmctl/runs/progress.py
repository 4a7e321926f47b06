"""What a person sees while a run trains: a bar with the numbers that matter, or plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmctl.text import duration

PAUSE = 0.1
PLAIN = 10.0
"""Seconds between two lines where there is no terminal."""


def tell(text: str, out: bool = False) -> None:
    """A line for whoever listens, to standard error or `out`: a reader who has gone ends no training."""
    stream = sys.stdout if out else sys.stderr
    try:
        print(text, file=stream, flush=True)
    except OSError:
        with suppress(OSError, ValueError):
            # Or the interpreter would fail at its end, with what is left in the buffer.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress:
    """Told every event of the train loop; quiet = only alarms."""

    def __init__(self, total: int, *, quiet: bool = False, log: Path | None = None) -> None:
        """`log`: a file that the lines go to, for a run that shares its process with others."""
        self.total, self.quiet, self.log = total, quiet, log
        self.bar: Any = None
        self.task: Any = None
        self.first = -1
        self.began = self.shown = time.perf_counter()
        self.loss = self.score = ""

    def __enter__(self) -> Progress:
        width = len(str(self.total))
        if not self.quiet and self.log is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            # On a narrow terminal the text is cut, and not the count or the bar.
            count = "{task.completed:>{task.fields[width]}}/{task.total}"
            self.bar = Bar(
                BarColumn(16, table_column=Column(min_width=16)),
                TextColumn(count, markup=False, table_column=Column(no_wrap=True, min_width=2 * width + 1)),
                TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
                console=Console(stderr=True), transient=True, expand=True, refresh_per_second=8,
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
        except (OSError, SystemExit):  # rich leaves by SystemExit where the terminal has gone
            self.bar, self.quiet = None, True

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.log is not None:
            with suppress(OSError), self.log.open("a") as lines:
                lines.write(f"{text}\n")
        elif self.bar:
            self._draw(lambda: self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True))
        else:
            tell(text)

    def step(self, step: int) -> None:
        """A step is done."""
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
        """Speed, time left, loss and the last score."""
        rate = (step - self.first) / max(now - self.began, 1e-9)
        if rate <= 0:
            return "measuring ..."
        speed = f"{rate:.1f} step/s" if rate >= 1 else f"{1 / rate:.1f} s/step"
        parts = (speed, f"ETA {duration((self.total - step) / rate)}", self.loss, self.score)
        return "  ".join(part for part in parts if part)

    def point(self, values: dict[str, float]) -> None:
        """The training figures of a window."""
        self.loss = f"loss {values['train/loss']:.3f}" if "train/loss" in values else ""
        if "train/guess_accuracy" in values:
            self.loss += f"  labels {values['train/guess_accuracy']:.0%} right"
        if values.get("train/margin_ratio"):
            self.loss += f"  M2/M1 {values['train/margin_ratio']:.2f}"

    def evaluated(self, split: str, weights: str, step: int, head: dict[str, float], near: dict[str, float]) -> None:
        """A network's scores on a split."""
        self.score = f"{split} {head['accuracy']:.1%}, balanced {head['balanced_accuracy']:.1%}"
        if not self.quiet:
            more = f"largest class {head['largest_class']:.0%}, by centroid {near['accuracy']:.1%}"
            self.say(f"step {step}/{self.total}  {weights}  {self.score}, {more}")
