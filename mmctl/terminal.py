"""Standard output and error of a command: no text controls the terminal, and no closed or full stream ends a run.

Names, notes and messages can come from files of other people. `safe_output` is the one place where such text leaves
for the terminal: it escapes all control characters (`printable`). Colours and cursor movements of rich pass through
`styled`; the console of report/console.py has escaped the text between them.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from mmctl.errors import EnvironmentFault
from mmctl.text import printable_lines


class SafeStream:
    """A text stream without control characters, which takes no notice of a closed pipe or a full disk.

    Training continues without its output. `lost` is the error that ended the output, or None.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text; control characters other than newline and tab are escaped."""
        return self.write_styled(printable_lines(text))

    def write_styled(self, text: str) -> int:
        """Write a text with its control characters."""
        try:
            self.stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write some texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Write what is still in the buffer."""
        try:
            self.stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        # What is left in the buffer must go somewhere: Python would fail on it again when it exits.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Styled:
    """The same stream, for rich: its control characters pass."""

    def __init__(self, stream: SafeStream) -> None:
        self.stream = stream
        self.write = stream.write_styled

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def styled(stream: TextIO) -> TextIO:
    """The stream for a rich console, which writes colours."""
    return cast(TextIO, _Styled(stream)) if isinstance(stream, SafeStream) else stream


@contextmanager
def safe_output() -> Iterator[None]:
    """Make standard output and error safe for the duration of a command.

    A closed pipe is no error, as for `ls | head`. Exits with code 4 if the command succeeded, but a full disk lost its
    output.
    """
    for name in ("COLUMNS", "LINES"):
        # Other programs read these too, and stop at a text that is no number.
        if not re.fullmatch("[1-9][0-9]{0,4}", os.environ.get(name, "1")):
            del os.environ[name]
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    out, err = (SafeStream(stream) for stream in before)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield
    except SystemExit as end:
        out.flush()
        if end.code or out.lost is None or out.lost.errno == errno.EPIPE:
            raise
        err.write(f"mmctl: standard output: {out.lost.strerror}. Part of the output is lost.\n")
        raise SystemExit(EnvironmentFault.exit_code) from None
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _open_closed_descriptors() -> None:
    """Send a closed standard stream to /dev/null; otherwise the next file that is opened would get its output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number, inheritable=True)
                os.close(null)
            else:
                os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 gets ? for a letter that it does not have
