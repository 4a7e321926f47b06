"""Signals: the first one stops training after the current step; a second Ctrl-C ends the process at once."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class StopSignal:
    """Handles stop signals; an instance is called after each step and returns whether to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        for number in SIGNALS:
            # nohup starts a run with SIGHUP ignored: keep it ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._caught)

    def __call__(self) -> bool:
        return self.signal is not None

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        # Not print(), which the signal may have interrupted. OSError: the terminal was closed.
        with suppress(OSError):
            os.write(2, b"\nstopping after this step (press Ctrl-C again to end at once) ...\n")
