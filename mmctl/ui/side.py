"""The pane beside or below the table: details, curves or logs of the current run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import RichLog, Static

from mmctl.text import printable
from mmctl.ui.logs import MOST

PANES = ("details", "curves", "logs")


class Side(Vertical):
    """One of three panes under a line with their names."""

    class Sized(Message):
        """The pane has another size."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.pane = "details"
        self.about = ""

    def compose(self) -> ComposeResult:
        """The line of names, and the panes, of which one is shown."""
        yield Static(id="names", markup=False)
        for name in PANES[:2]:
            with VerticalScroll(id=name):
                yield Static(id=f"{name}-text", markup=False)
        yield RichLog(id="logs", markup=False, highlight=False, wrap=True, max_lines=MOST, min_width=10)

    def on_mount(self) -> None:
        """Show the first pane."""
        self.choose(self.pane)

    def on_resize(self) -> None:
        """Say so: what it shows is laid out for its size."""
        self.post_message(self.Sized())

    def choose(self, pane: str) -> None:
        """Show another pane."""
        self.pane = pane
        for name in PANES:
            self.query_one(f"#{name}").display = name == pane
        self.say(self.about)

    def say(self, about: str) -> None:
        """What stands after the names of the panes: what is shown of what."""
        self.about = about
        line = Text()
        for name in PANES:
            line.append(f" {name} ", "reverse bold" if name == self.pane else "")
        line.append(f"  {printable(about)}")
        line.no_wrap, line.overflow = True, "ellipsis"
        self.query_one("#names", Static).update(line)

    def room(self) -> tuple[int, int]:
        """Columns and lines of the text of a pane."""
        size = self.query_one(f"#{self.pane}").scrollable_content_region
        return max(20, size.width), max(1, size.height)

    def text(self, text: Text) -> None:
        """What the pane of details or curves says."""
        if self.pane in PANES[:2]:
            self.query_one(f"#{self.pane}-text", Static).update(text)

    def log_lines(self, lines: Sequence[str], fresh: bool) -> None:
        """Add lines to the logs; fresh: instead of those of another run."""
        logs = self.query_one(RichLog)
        if fresh:
            logs.clear()
        for line in lines:
            logs.write(Text(line))
