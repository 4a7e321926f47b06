"""The table of runs: one line of the terminal for each run, drawn only for the lines that are on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mmctl.report.console import GAP, STYLES, Column, cut, fit
from mmctl.report.listing_columns import RANKS, USUAL, ListColumn, shown_state
from mmctl.report.terminal_plot import COLOURS, LETTERS
from mmctl.store.rows import RunRow
from mmctl.text import printable
from mmctl.ui.reading import Line, Snapshot, differences

GUTTER = 2
"""Columns before the first one, for the letters of marked runs."""
DIFFERENCE = "difference"
ALWAYS = ("number", "run", "state")
"""Columns that are there even while nothing is known of the runs."""
CURSOR = Style(reverse=True)
HEAD = Style(bold=True)


class RunTable(ScrollView, can_focus=True):
    """Runs under a line of titles; one of them is the current one."""

    BINDINGS = [
        Binding("up,k", "move(-1)", "Up", show=False, tooltip="The run above."),
        Binding("down,j", "move(1)", "Down", show=False, tooltip="The run below."),
        Binding("pageup", "page(-1)", "Page up", show=False, tooltip="A screen of runs up."),
        Binding("pagedown", "page(1)", "Page down", show=False, tooltip="A screen of runs down."),
        Binding("home,g", "end(0)", "First", show=False, tooltip="The first run."),
        Binding("end,G", "end(-1)", "Last", show=False, tooltip="The last run."),
    ]
    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """Another run is the current one."""

    class Scrolled(Message):
        """Other lines are on the screen."""

    class Sized(Message):
        """The table has another width."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown = Snapshot()
        self.lines: dict[str, Line] = {}
        self.places: dict[str, int] = {}  # of marked runs: which colour and letter each has
        self.baseline: str | None = None
        self._widest: dict[str, str] = {}
        self._layout: list[tuple[ListColumn, int]] = []

    @property
    def width(self) -> int:
        """Columns beside the scroll bar."""
        return self.scrollable_content_region.width

    @property
    def current(self) -> RunRow | None:
        """The run at the cursor."""
        return self.shown.runs[self.cursor] if 0 <= self.cursor < len(self.shown.runs) else None

    def show(self, shown: Snapshot) -> None:
        """Show other runs, or the same ones as they are now; the cursor stays with its run."""
        before = self.current
        self._widest.clear()
        self.shown = shown
        self.virtual_size = Size(self.width, len(shown.runs) + 1)
        uid = before["uid"] if before else None
        same = next((n for n, run in enumerate(shown.runs) if run["uid"] == uid), None)
        self.cursor = same if same is not None else max(0, min(self.cursor, len(shown.runs) - 1))
        self._look()
        now = self.current
        if (now and now["uid"]) != uid:
            self.post_message(self.Moved())

    def on_screen(self) -> Sequence[RunRow]:
        """The runs whose lines can be seen."""
        top = max(0, round(self.scroll_y))
        return self.shown.runs[top : top + max(1, self.size.height - 1)]

    def fill(self, lines: Mapping[str, Line]) -> None:
        """Take what some lines say."""
        self.lines.update(lines)
        self.redraw()

    def redraw(self) -> None:
        """Arrange the columns and draw all lines again."""
        columns = [(one, made) for one in self._columns() if (made := self._column(one)).cells[0] or one.name in ALWAYS]
        kept = fit([made for _, made in columns], max(1, self.width - GUTTER))
        self._layout = [(one, kept[id(made)]) for one, made in columns if id(made) in kept]
        self.refresh()

    def titles(self) -> list[str]:
        """The titles of the columns that have room."""
        return [one.title for one, _ in self._layout]

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        if y == 0:
            cells = [_cell(one.title, one.right, width) for one, width in self._layout]
            return self._strip([Segment(" " * GUTTER), Segment((" " * GAP).join(cells))], HEAD)
        n = y - 1 + max(0, round(self.scroll_y))
        if n >= len(self.shown.runs):
            text = self.shown.why_none if n == 0 else ""
            return self._strip([Segment(" " * GUTTER + printable(text))], Style(dim=True))
        run = self.shown.runs[n]
        place, line = self.places.get(run["uid"]), self.lines.get(run["uid"])
        mark = Style() if place is None else Style(bold=True, color=f"color({COLOURS[place % len(COLOURS)]})")
        parts = [Segment(f"{' ' if place is None else LETTERS[place % len(LETTERS)]} ", mark)]
        for k, (one, width) in enumerate(self._layout):
            if line is None:  # it is read in a moment
                text = {"number": str(run["number"]), "run": run["uid"], "state": shown_state(run)}.get(one.name, "")
            else:
                text = one.text(line.row)
            style = Style.parse(STYLES.get(text, "")) if one.name == "state" else Style()
            parts += [Segment(" " * GAP)] if k else []
            parts.append(Segment(_cell(text, one.right, width), style))
        return self._strip(parts, CURSOR if n == self.cursor else Style())

    def _strip(self, parts: Sequence[Segment], style: Style) -> Strip:
        width = self.width
        ground = self.rich_style + style
        made = [Segment(part.text, ground + part.style if part.style else ground) for part in parts]
        return Strip(made).adjust_cell_length(width, ground).crop(0, width)

    def _columns(self) -> list[ListColumn]:
        """The columns of the snapshot, with the curve and, if a baseline is pinned, the differences to it."""
        by_name = {one.name: one for one in self.shown.columns}
        curve = ListColumn(
            "curve", "curve", lambda row: None, lambda row: self.lines[row["uid"]].curve, rank=RANKS["curve"]
        )
        found = [by_name.get(name, curve) for name in USUAL if name in by_name or name == "curve"]
        if self.baseline is not None:
            text = differences(self.lines.get(self.baseline))
            place = next((n for n, one in enumerate(found) if one.name == "result"), 0)
            found.insert(place + 1, ListColumn(DIFFERENCE, "diff", lambda row: None, text, right=True))
        return found

    def _column(self, one: ListColumn) -> Column:
        """The width that a column needs for what was on the screen so far."""
        widest = self._widest.get(one.name, "")
        for run in self.on_screen():
            if (line := self.lines.get(run["uid"])) is not None and cell_len(text := one.text(line.row)) > cell_len(
                widest
            ):
                widest = text
        self._widest[one.name] = widest
        return Column(one.title, one.rank, one.right, [widest])

    def _look(self) -> None:
        """Draw, and ask for the lines that are not read yet."""
        self.redraw()
        self.post_message(self.Scrolled())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Draw the lines that come into view."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._look()

    def on_resize(self) -> None:
        """Arrange the columns for another width."""
        self.virtual_size = Size(self.width, len(self.shown.runs) + 1)
        self._see_cursor()
        self._look()
        self.post_message(self.Sized())

    def watch_cursor(self, before: int, now: int) -> None:
        """Keep the current run in view."""
        self._see_cursor()
        self.refresh()

    def _see_cursor(self) -> None:
        room, top = max(1, self.size.height - 1), round(self.scroll_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + room:
            self.scroll_to(y=self.cursor - room + 1, animate=False, force=True)

    def go(self, to: int) -> None:
        """Make another run the current one."""
        to = max(0, min(to, len(self.shown.runs) - 1))
        if to != self.cursor:
            self.cursor = to
            self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """Go some runs up or down."""
        self.go(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Go a screen of runs up or down."""
        self.go(self.cursor + by * max(1, self.size.height - 2))

    def action_end(self, to: int) -> None:
        """Go to the first or the last run."""
        self.go(0 if to == 0 else len(self.shown.runs) - 1)

    def on_click(self, event: events.Click) -> None:
        """Make the run under the mouse the current one."""
        n = event.y - 1 + round(self.scroll_y)
        if event.y > 0 and n < len(self.shown.runs):
            self.go(n)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """As wide as there is room."""
        return container.width


def _cell(text: str, right: bool, width: int) -> str:
    text = cut(printable(text), width) if width > 2 else set_cell_size(printable(text), width)
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)
