"""Questions over the table: yes or no, a line of text, one of a list; and the list of all keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from mmctl.errors import UserError
from mmctl.text import printable

MOST = 500
"""So many entries of a list are shown; typing finds the others."""


class Confirm(ModalScreen[bool]):
    """A question that y answers with yes, and everything else with no."""

    BINDINGS = [Binding("y", "answer(True)", "yes"), Binding("n,escape,q", "answer(False)", "no")]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question."""
        with Vertical(classes="dialog"):
            yield Static(Text(printable(self._question)))
            yield Static(Text("y: yes   n: no", "dim"))

    def action_answer(self, yes: bool) -> None:
        """Give the answer back."""
        self.dismiss(yes)


class Ask(ModalScreen[str | None]):
    """A line of text; None if the person leaves it."""

    BINDINGS = [Binding("escape", "leave", "leave")]

    def __init__(self, question: str, check: Callable[[str], object]) -> None:
        """check: raises UserError for a text that will not do, which is shown."""
        super().__init__()
        self._question, self._check = question, check

    def compose(self) -> ComposeResult:
        """The question and the line."""
        with Vertical(classes="dialog"):
            yield Static(Text(printable(self._question)))
            yield Input(compact=True)
            yield Static("", id="wrong", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the text back if it will do."""
        try:
            self._check(event.value)
        except UserError as error:
            self.query_one("#wrong", Static).update(Text(printable(str(error))))
            return
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Give nothing back."""
        self.dismiss(None)


class Pick(ModalScreen[str | None]):
    """One of a list, which typing makes shorter; None if the person leaves it."""

    BINDINGS = [
        Binding("escape", "leave", "leave"), Binding("up", "go(-1)", "up"), Binding("down", "go(1)", "down"),
    ]  # fmt: skip

    def __init__(self, question: str, entries: Sequence[str], free: bool = False) -> None:
        """free: what is typed may be none of the entries."""
        super().__init__()
        self._question, self._entries, self._free = question, list(entries), free
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        """The question, a line to type in, the list."""
        with Vertical(classes="dialog"):
            yield Static(Text(printable(self._question)))
            yield Input(compact=True, placeholder="type to search")
            yield OptionList(compact=True)

    def on_mount(self) -> None:
        """Show the whole list."""
        self.query_one(OptionList).can_focus = False
        self._fill("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Keep the entries that have what was typed."""
        self._fill(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the highlighted entry back."""
        place = self.query_one(OptionList).highlighted
        if place is not None and self._shown:
            self.dismiss(self._shown[place])
        elif self._free and event.value.strip():
            self.dismiss(event.value.strip())

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Give the entry under the mouse back."""
        self.dismiss(self._shown[event.option_index])

    def action_leave(self) -> None:
        """Give nothing back."""
        self.dismiss(None)

    def action_go(self, by: int) -> None:
        """Highlight another entry."""
        entries = self.query_one(OptionList)
        entries.action_cursor_down() if by > 0 else entries.action_cursor_up()

    def _fill(self, typed: str) -> None:
        found = [one for one in self._entries if typed.strip().lower() in one.lower()]
        self._shown = found[:MOST]
        entries = self.query_one(OptionList)
        entries.clear_options()
        entries.add_options([Option(Text(printable(one))) for one in self._shown])
        entries.highlighted = 0 if self._shown else None


class Help(ModalScreen[None]):
    """All keys and what they do."""

    BINDINGS = [Binding("escape,q,question_mark", "close", "close")]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        """A table of keys and sentences."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for key, sentence in self._keys:
            table.add_row(Text(key), Text(sentence))
        with VerticalScroll(classes="dialog"):
            yield Static(table)

    def action_close(self) -> None:
        """Go back to the table."""
        self.dismiss(None)
