"""Shows the progress of a batch: on a terminal one live line for each running run and one for the whole.

It reads what every run keeps in its own folder, the heartbeat in its lease and the evaluations in its journal. So it is
the same for runs in one process, in several processes or on other machines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mmctl.errors import MmctlError
from mmctl.run_folder import journal, lease
from mmctl.run_folder.events import Points
from mmctl.run_folder.record import read_record
from mmctl.run_folder.values import number, whole
from mmctl.runs.progress import pace, tell
from mmctl.text import duration, printable

PAUSE = 0.5
"""Seconds between two updates."""
BAR = 16


class RunLine:
    """What is known of one running run: its step, its speed and its last accuracy."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.label, self.metric = folder, folder.name, ""
        self.step = self.total = 0
        self.rate = self.left = 0.0
        self.score = ""
        self._attempt, self._offset = 0, 0
        with suppress(MmctlError):
            about = read_record(folder)
            self.label, self.metric = printable(f"{about['name']} s{about['seed']}"), printable(about["primary"])
            self.total = about["total_steps"]

    def update(self) -> None:
        """Read what is new in the run's folder."""
        beat = lease.holder(self.folder) or {}
        self.step = whole(beat.get("step")) or self.step
        self.rate, self.left = number(beat.get("rate")) or 0.0, number(beat.get("left")) or 0.0
        with suppress(OSError):  # the folder was removed
            if (newest := max(journal.attempts(self.folder), default=0)) != self._attempt:
                self._attempt, self._offset = newest, 0
            for line in journal.read_lines(journal.path_of(self.folder, newest), self._offset) if newest else ():
                self._offset = line.offset
                value = number(line.event.values.get(self.metric)) if isinstance(line.event, Points) else None
                if value is not None:
                    split, *_, metric = self.metric.split("/")
                    self.score = f"{split} {metric} " + (f"{100 * value:.1f} %" if abs(value) <= 1 else f"{value:.4g}")

    def text(self) -> str:
        """Speed, remaining time and last accuracy."""
        if not self.step:
            return "starting ..."
        return "  ".join(part for part in (pace(self.rate, self.left), self.score) if part)


class BatchView:
    """Prints how runs end, below it the live lines of those that run; no live lines in a pipe or if quiet."""

    def __init__(self, slots: int, quiet: bool = False) -> None:
        self.slots, self.total = slots, 0
        self.ended: dict[str, int] = {}  # how many runs ended in each state
        self.lines: dict[Path, RunLine] = {}
        self.live: Any = None
        self._wanted = not quiet and sys.stderr.isatty()
        self._shown = 0.0

    def __enter__(self) -> BatchView:
        if self._wanted:
            from rich.live import Live

            from mmctl.report.console import console

            self.live = Live(
                console=console(sys.stderr), auto_refresh=False, transient=True, redirect_stdout=False,
                redirect_stderr=False,
            )  # fmt: skip
            self._draw(self.live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self._draw(self.live.stop)
            self.live = None

    def _draw(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, SystemExit):  # rich raises SystemExit if the terminal was closed
            self.live = None

    def say(self, text: str) -> None:
        """Print a line on standard output, above the live lines."""
        if self.live:
            self._draw(self.live.stop)
        tell(text, out=True)
        if self.live:
            self._draw(self.live.start)

    def begin(self, folders: Sequence[Path]) -> None:
        """Say how many runs there are."""
        self.total = len(folders)
        self.say(f"{self.total} run{'s' * (self.total > 1)}, {min(self.slots, self.total)} in parallel")

    def end(self, folder: Path, state: str, text: str) -> None:
        """Say how a run ended."""
        self.ended[state] = self.ended.get(state, 0) + 1
        self.lines.pop(folder, None)
        self.say(f"[{sum(self.ended.values())}/{self.total}] {folder.name}: {text}")

    def update(self, running: Sequence[Path]) -> None:
        """Show the runs that run now; does nothing if the last update was less than half a second ago."""
        if not self.live or time.monotonic() - self._shown < PAUSE:
            return
        self._shown = time.monotonic()
        for folder in running:
            self.lines.setdefault(folder, RunLine(folder)).update()
        shown = [self.lines[folder] for folder in running]
        self._draw(lambda: self.live.update(self.table(shown), refresh=True))

    def table(self, running: Sequence[RunLine]) -> Any:
        """The live lines; the last one is about the whole batch."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        room = max(1, self.live.console.height - 3)
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, max_width=32)
        table.add_column(min_width=BAR)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, ratio=1)
        for line in running[:room]:
            bar = ProgressBar(total=line.total or 1, completed=line.step, width=BAR)
            table.add_row(Text(line.label), bar, Text(f"{line.step}/{line.total}"), Text(line.text()))
        more = [Text(f"... and {len(running) - room} more")] if len(running) > room else []
        return Group(table, *more, Text(self.whole(running), no_wrap=True, overflow="ellipsis"))

    def whole(self, running: Sequence[RunLine]) -> str:
        """How many runs are done, failed, running and waiting, and the time that is left for all."""
        counts = {"done": self.ended.get("completed", 0)}
        counts["not completed"] = sum(self.ended.values()) - counts["done"]
        counts["running"] = len(running)
        counts["waiting"] = self.total - sum(counts.values())
        text = ", ".join(f"{n} {word}" for word, n in counts.items() if n or word == "done")
        known = [line for line in running if line.left and line.step]
        if not known:
            return f"{self.total} runs: {text}"
        # A run that waits or has just started takes as long as the others: seconds left by share of steps left.
        full = sum(line.left * line.total / max(1, line.total - line.step) for line in known) / len(known)
        work = sum(line.left for line in known) + full * (len(running) - len(known) + counts["waiting"])
        left = max(work / max(1, min(self.slots, self.total)), max(line.left for line in known))
        return f"{self.total} runs: {text}  ETA {duration(left)}"
