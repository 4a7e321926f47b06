"""Ctrl-C and SIGTERM: the first asks for a stop at the next step, the second Ctrl-C ends at once."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class StopSignal:
    """Called by the train loop at every step; true once a signal has come."""

    def __init__(self) -> None:
        self.signal: int | None = None
        for number in SIGNALS:
            # A run under nohup was started with SIGHUP ignored, and that is to stay so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._caught)

    def __call__(self) -> bool:
        return self.signal is not None

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        # Not print: the signal may have come in the middle of one. And a terminal that is closed takes no words.
        with suppress(OSError):
            os.write(2, b"\nstopping after this step (Ctrl-C again ends at once) ...\n")
