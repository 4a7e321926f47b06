"""Signals: what Ctrl-C does, from the first instruction of a command to the last.

Before a command trains, Ctrl-C ends it at once (`end_at_once`). While it trains, the first signal stops the training
after the current step, with a checkpoint, and a second Ctrl-C ends it without waiting (`StopSignal`). Once the training
has ended, Ctrl-C changes nothing: the command only prints how it ended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C by ending the process. An exception could be lost in the middle of an import."""
    # A progress display may have hidden the cursor.
    say("\x1b[?25h\nmmctl: stopped\n" if os.isatty(2) else "mmctl: stopped\n")
    os._exit(130)


def say(text: str) -> None:
    """Write to standard error from a signal handler, which may have interrupted a print()."""
    with suppress(OSError):  # the terminal was closed
        os.write(2, text.encode())


class StopSignal:
    """Handles stop signals in a `with` block; an instance is called after each step and returns whether to stop.

    doing: what the user is told at the first signal, with `hint`; empty = nothing.
    Raises KeyboardInterrupt at a second signal if it is one of `at_once`, by default Ctrl-C.
    """

    def __init__(
        self,
        doing: str = "stopping after this step",
        at_once: Collection[int] = (signal.SIGINT,),
        hint: str = "press Ctrl-C again to end at once",
    ) -> None:
        self.doing, self.at_once, self.hint = doing, at_once, hint
        self.signal: int | None = None
        self.over = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in SIGNALS:
            # nohup starts a run with SIGHUP ignored: keep it ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over = True
        for number, handler in self._before.items():
            # In a process of its own, a command that has trained only has to end.
            signal.signal(number, signal.SIG_IGN if handler is end_at_once else handler)

    def __call__(self) -> bool:
        return self.signal is not None

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self.over:
            return
        if self.signal is not None and number in self.at_once:
            raise KeyboardInterrupt
        self.signal = number
        if self.doing:
            say(f"\n{self.doing} ({self.hint}) ...\n")
