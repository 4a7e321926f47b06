"""Opens the index for commands that only read: with an index in memory where the one on disk cannot be used."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mmctl.errors import UserError
from mmctl.store.connection import IndexUnusable
from mmctl.store.store import Store
from mmctl.text import printable

PATIENCE = 5.0
"""Seconds that a reading command waits for processes that write."""


def tell(text: str) -> None:
    """One line on stderr."""
    with suppress(OSError):
        print(f"mmctl: {printable(text)}", file=sys.stderr)


class ImportProgress:
    """Shows how far an import is, in a terminal, once it has taken a second."""

    def __init__(self) -> None:
        self._shown = self._begin = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Called after each run folder."""
        now = time.monotonic()
        if now - self._begin > 1 and (now - self._shown > 0.1 or done == total) and sys.stderr.isatty():
            self._shown = now
            line = f"reading run folders: {done} of {total}"
            with suppress(OSError):
                # Control characters for the terminal, not through sys.stderr, which escapes them.
                os.write(sys.stderr.fileno(), f"\r{line if done < total else ''}\x1b[K".encode())


def open_for_reading(
    runs_dir: Path, say: Callable[[str], None] = tell, patience: float = PATIENCE, newest: int | None = None
) -> Store:
    """The index of a folder of runs, up to date; `say` gets a line if it must be in memory or is waited for.

    newest: the caller shows only so many runs, so that the folders of older ones are not looked into.
    """
    if os.path.lexists(runs_dir) and not os.path.isdir(runs_dir):  # noqa: PTH112 - a long name is no error here
        raise UserError(f"{runs_dir}: is not a folder. MMCTL_RUNS or the project says where runs are.")
    why = f"{runs_dir}: cannot be written" if runs_dir.is_dir() else ""
    try:
        store = Store(runs_dir, patience=patience, say=say)
        if not store.memory:
            try:
                store.sync(progress=ImportProgress(), newest=newest)
                return store
            except BaseException:
                store.close()
                raise
    except IndexUnusable as fault:
        why = str(fault)
        store = Store(runs_dir, memory=True)
    if why:
        say(f"note: {why.rstrip('.')}. This command reads on with an index in memory.")
    store.sync(progress=ImportProgress(), newest=newest)
    return store
