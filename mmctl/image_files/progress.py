"""Shows how far the decoding of images is: a progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from mmctl.terminal import styled
from mmctl.text import duration

Progress = Callable[[int, int], None]
"""Called with the number of images that are decoded, and of all."""
PLAIN = 10.0
"""Seconds between two plain lines."""
_quiet = ContextVar("quiet", default=False)
_instead: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def shown_by(progress: Progress) -> Iterator[None]:
    """Within this block `progress` shows it, for a command that has a progress bar of its own."""
    before = _instead.set(progress)
    try:
        yield
    finally:
        _instead.reset(before)


def no_progress(quiet: bool) -> AbstractContextManager[None]:
    """Within this block nothing is shown, if quiet."""
    return _nothing() if quiet else nullcontext()


@contextmanager
def _nothing() -> Iterator[None]:
    before = _quiet.set(True)
    try:
        with shown_by(lambda done, total: None):
            yield
    finally:
        _quiet.reset(before)


@contextmanager
def shown() -> Iterator[Progress]:
    """A progress that is shown on standard error."""
    if instead := _instead.get():
        yield instead
    elif sys.stderr.isatty():
        bar = _Bar()
        try:
            yield bar
        finally:
            bar.stop()
    else:
        yield _Lines()


def say(text: str) -> None:
    """A line on standard error, above the progress bar of a command that has one."""
    if not _quiet.get():
        print(text, file=sys.stderr, flush=True)


class _Lines:
    """A line every ten seconds; decoding that takes less shows none."""

    def __init__(self) -> None:
        self.began = self.told = perf_counter()
        self.first = -1

    def __call__(self, done: int, total: int) -> None:
        now = perf_counter()
        if self.first < 0:
            self.first = done
        if now - self.told >= PLAIN:
            self.told = now
            say(f"decoded {done:,} of {total:,} images, {self.pace(done, total)}")

    def pace(self, done: int, total: int) -> str:
        """Speed and remaining time, for people."""
        each = (done - self.first) / max(perf_counter() - self.began, 1e-9)
        return f"{each:,.0f} images/s, {duration((total - done) / each)} left" if each > 0 else "starting ..."


class _Bar(_Lines):
    def __init__(self) -> None:
        super().__init__()
        self.bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self.first < 0:
            self.first = done
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Rich

            plain: dict[str, Any] = {"color_system": None} if os.environ.get("NO_COLOR") else {}
            console = Console(file=styled(sys.stderr), highlight=False, markup=False, emoji=False, **plain)
            console.file.write("\r\x1b[K")  # over what runs/progress.py says that the command does
            self.bar = Rich(
                BarColumn(16),
                TextColumn("{task.fields[text]}", markup=False),
                console=console,
                transient=True,
                refresh_per_second=8,
            )
            self.bar.add_task("", total=total, completed=done, text="")
            self._draw(self.bar.start)
        if self.bar:
            text = f"decoded {done:,} of {total:,} images, {self.pace(done, total)}"
            self._draw(lambda: self.bar.update(0, completed=done, text=text))

    def _draw(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, SystemExit):  # rich raises SystemExit if the terminal was closed
            self.bar = None

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar:
            with suppress(OSError, SystemExit):
                self.bar.stop()
