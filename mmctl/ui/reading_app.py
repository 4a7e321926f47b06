"""The base of the app of `mmctl ui`: reads in a thread of its own, and says what goes wrong in a line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from rich.text import Text
from textual.app import App
from textual.message import Message
from textual.widgets import Static

from mmctl.errors import MmctlError, os_error
from mmctl.text import printable, printable_lines
from mmctl.ui.reading import NEWEST, Reader

Answer = TypeVar("Answer")


def failure(error: MmctlError | OSError) -> str:
    """What went wrong, in words."""
    return str(os_error(error) if isinstance(error, OSError) else error)


class LeftError(Exception):
    """Ends a long import between two runs, since the person has quit."""


class ReadingApp(App[None]):
    """An app with a Reader, which only its thread uses."""

    class Heard(Message):
        """A line from the thread that reads."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self.reader = Reader(runs_dir, lambda text: self._hear(text))
        self.said: dict[str, str] = {}  # the lines of the message, by topic
        self.message = Static(id="message", markup=False)
        self.fault: BaseException | None = None  # a bug that has ended the app
        self._thread = ThreadPoolExecutor(1, "reader")
        self._over = False

    async def on_unmount(self) -> None:
        """Close the index; a long import ends at the next run."""
        self._over = True
        with suppress(RuntimeError):
            await self.read(self.reader.close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, work: Callable[..., Answer], *given: object) -> Answer:
        """Let the reading thread do something."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *given))

    def start(self, group: str, work: Callable[[], Awaitable[object]], exclusive: bool = True) -> None:
        """Begin something, unless the app is over; exclusive: it takes the place of what this group began before.

        What waits for the reading thread is begun like this, so that all keys are answered meanwhile.
        """
        if not self._over:
            self.run_worker(cast(Any, work), group=group, exclusive=exclusive)

    async def attempt(self, topic: str, work: Callable[..., Answer], *given: object) -> Answer | None:
        """The same; None if it fails, and then the message line says why until it works."""
        try:
            answer = await self.read(work, *given)
        except (MmctlError, OSError) as error:
            self.say(topic, failure(error))
            return None
        except LeftError:
            return None
        self.say(topic, "")
        return answer

    def say(self, topic: str, text: str) -> None:
        """Show a line under the filter, or take the line of this topic away."""
        if self.said.get(topic, "") == text:
            return
        self.said[topic] = text
        lines = [printable(line) for one in self.said.values() if one for line in one.split("\n")]
        self.message.update(Text("\n".join(lines)))
        self.message.display = bool(lines)

    def tell(self, text: str, wrong: bool = False) -> None:
        """Show some lines for some seconds."""
        self.notify(printable_lines(text), severity="warning" if wrong else "information", markup=False)

    def on_reading_app_heard(self, event: Heard) -> None:
        """Show a line from the thread that reads."""
        self.say("heard", event.text)

    def _hear(self, text: str) -> None:
        if not self._over:
            self.post_message(self.Heard(text))

    def progress(self, done: int, total: int) -> None:
        """Show how far an import is; the thread that reads calls it after each run."""
        if self._over:
            raise LeftError
        if total > NEWEST:
            self._hear(f"reading run folders: {done} of {total}")

    def _handle_exception(self, error: Exception) -> None:
        self.fault = self.fault or getattr(error, "error", error)
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        self._close_messages_no_wait()  # cli/ prints one line, and no traceback
