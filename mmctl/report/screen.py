"""A whole terminal that is drawn over and over, as by `mmctl watch`, and given back as it was."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

# The other screen of the terminal, without cursor, and without breaking lines: none is longer than the screen, unless
# the screen became narrower a moment ago.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    """Draws lines on the terminal of standard output in a `with` block; what was there before comes back at its end."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Screen:
        self._enter()
        signal.signal(signal.SIGTSTP, self._suspend)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        self._leave()

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: give the terminal back until the command goes on."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()

    def _enter(self) -> None:
        if sys.stdin is not None and sys.stdin.isatty():
            with suppress(termios.error, OSError):
                self._before = termios.tcgetattr(sys.stdin.fileno())
                tty.setcbreak(sys.stdin.fileno())
        self._write(ENTER)

    def _leave(self) -> None:
        self._write(LEAVE)
        if self._before is not None:
            with suppress(termios.error, OSError):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what is shown; the lines have no control characters but those of their colours."""
        shown = (REST_OF_LINE + "\n").join(lines)
        self._write(HOME + shown + REST_OF_LINE + REST_OF_SCREEN)

    def key(self, seconds: float) -> str:
        """Wait for a key, at most so many seconds; the empty text if none was pressed."""
        if self._before is None:
            select.select([], [], [], seconds)
            return ""
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], seconds)
        return os.read(sys.stdin.fileno(), 1).decode("ascii", "replace") if ready else ""

    def _write(self, text: str) -> None:
        # Not through sys.stdout, which escapes control characters.
        data = text.encode(sys.stdout.encoding or "ascii", "replace")
        with suppress(OSError):
            sys.stdout.flush()
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
