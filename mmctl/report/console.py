"""Output for a terminal: tables that fit its width, numbers for people.

Imports rich, so only what prints a table imports this.
"""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.filesize import decimal
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from mmctl.store.metrics import is_share
from mmctl.terminal import styled
from mmctl.text import printable_lines

Row = TypeVar("Row")
GAP = 2
WIDEST = 44
"""The largest width of a column."""
CUT = 12
"""The smallest width to which a column of text is cut."""
PROSE = 24
"""The smallest width of a column of sentences."""
STYLES = {
    "running": "cyan",
    "running?": "yellow",
    "completed": "green",
    "failed": "red",
    "crashed": "red",
    "nc": "yellow",
}


@dataclass
class Column:
    """A column of a table; on a narrow terminal columns with the highest rank are left out first."""

    title: str
    rank: int = 0
    right: bool = False
    cells: list[str] = field(default_factory=list)
    prose: bool = False  # sentences: takes what the others leave, and breaks them between words

    def width(self) -> int:
        """The smallest number of terminal columns that it needs."""
        longest = max((cell_len(cell) for cell in [self.title, *self.cells]), default=0)
        return min(PROSE if self.prose else WIDEST, longest)


def column(title: str, rows: Sequence[Row], cell: Callable[[Row], str], rank: int = 0, right: bool = False) -> Column:
    """A column with one cell for each row."""
    return Column(title, rank, right, [cell(row) for row in rows])


class SafeConsole(Console):
    """A console that escapes the control characters of its texts; its own colours and cursor movements pass."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The parts of a text, escaped."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(printable_lines(part.text), part.style)


def console(stream: TextIO | None = None) -> Console:
    """The console for a stream, by default standard output.

    It has no colours and no limit of its width if the stream is not a terminal.
    """
    stream = stream or sys.stdout
    terminal = stream.isatty()
    # In a pipe there is no width to keep to, unless one is given.
    width = None if terminal or "COLUMNS" in os.environ else 1000
    plain = bool(os.environ.get("NO_COLOR")) or not terminal
    how: dict[str, Any] = {"color_system": None, "force_terminal": False} if plain else {}
    return SafeConsole(file=styled(stream), width=width, highlight=False, markup=False, emoji=False, **how)


class _Paper(io.StringIO):
    """A text with the encoding of the terminal for which it is written."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What decides whether there is more than ASCII."""
        return self._encoding


def on_paper(out: Console) -> tuple[Console, io.StringIO]:
    """A console that writes to a text what another one would write to its terminal, and that text."""
    return paper(out.width, out.height, out.color_system, out.encoding)


def paper(width: int, height: int, colours: str | None, encoding: str = "utf-8") -> tuple[Console, io.StringIO]:
    """A console of this size that writes to a text, and that text; colours: a colour system of rich, None for none."""
    page = _Paper(encoding)
    how: dict[str, Any] = {"color_system": colours, "force_terminal": colours is not None}
    how |= {"width": width, "height": height}
    return SafeConsole(file=page, highlight=False, markup=False, emoji=False, **how), page


def print_table(columns: Sequence[Column], out: Console, name_hidden: bool = True) -> None:
    """Print a table; columns that have no room are left out and, if `name_hidden`, named below it.

    Sentences that have no room beside the other columns are printed below each row.
    """
    filled = [column for column in columns if any(column.cells)]
    prose = [column for column in filled if column.prose]
    plain = [column for column in filled if not column.prose]
    room = out.width - sum(column.width() + GAP for column in prose)
    below = bool(prose) and _needs([column for column in plain if not column.rank]) > room
    limits = fit(plain, out.width if below else room)
    kept = [column for column in filled if id(column) in limits or (column.prose and not below)]
    rows = range(len(filled[0].cells) if filled else 0)
    if not below:
        _print_rows(kept, limits, rows, out)
    for n in rows if below else ():
        _print_rows(kept, limits, [n], out, head=n == 0)
        for column in prose:
            out.print(Padding(Text(column.cells[n]), (0, 0, 0, 2 * GAP)))
    hidden = [column.title for column in plain if id(column) not in limits]
    if hidden and name_hidden:
        print_line(out, f"(no room for: {', '.join(hidden)}; all is in --json)", "dim")


def _needs(columns: Sequence[Column]) -> int:
    return sum(column.width() + GAP for column in columns) - GAP


def fit(columns: Sequence[Column], width: int) -> dict[int, int]:
    """The columns that have room in a width, by `id`, with the width of each: those without a rank, then by rank."""
    kept = {id(column): column.width() for column in columns if not column.rank}
    free = width - _needs([column for column in columns if not column.rank])
    ranked = sorted((column for column in columns if column.rank), key=lambda column: column.rank)
    for column in ranked:
        if column.width() + GAP <= free:
            kept[id(column)] = column.width()
            free -= column.width() + GAP
    # What is left over is enough for a part of a text.
    cut_one = next((c for c in ranked if id(c) not in kept and not c.right and free >= CUT + GAP), None)
    if cut_one is not None:
        kept[id(cut_one)] = free - GAP
    while free < 0 and (
        longest := max((id(c) for c in columns if id(c) in kept and not c.right), key=kept.__getitem__)
    ):
        if kept[longest] <= CUT:
            break
        kept[longest] -= 1
        free += 1
    return kept


def _cell(text: str, limit: int | None) -> Text:
    return Text(text if limit is None else cut(text, limit), style=STYLES.get(text, ""))


def _print_rows(
    columns: Sequence[Column], limits: Mapping[int, int], rows: Sequence[int], out: Console, head: bool = True
) -> None:
    """Print some rows: as lines, which take a tenth of the time, unless rich must break sentences or long words."""
    widths = [limits[id(column)] for column in columns if id(column) in limits]
    if len(widths) == len(columns) and sum(widths) + GAP * (len(columns) - 1) <= out.width:
        out.print(_lines(columns, widths, rows, head), no_wrap=True, crop=False, overflow="ignore")
    else:
        out.print(_grid(columns, limits, rows, head))


def _lines(columns: Sequence[Column], widths: Sequence[int], rows: Sequence[int], head: bool) -> Text:
    """The table as one text."""
    made, gap = Text(), " " * GAP
    for n in [-1, *rows] if head else rows:
        made.append("\n" if made else "")
        for column, width in zip(columns, widths, strict=True):
            text = column.title if n < 0 else column.cells[n]
            made.append(gap if column is not columns[0] else "")
            made.append(_padded(text, width, column.right), "bold" if n < 0 else STYLES.get(text, ""))
    return made


def _padded(text: str, width: int, right: bool) -> str:
    text = cut(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _grid(columns: Sequence[Column], limits: Mapping[int, int], rows: Sequence[int], head: bool) -> RichTable:
    table = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=head)
    for column in columns:
        limit = limits.get(id(column))
        table.add_column(
            _cell(column.title, limit),
            justify="right" if column.right else "left",
            no_wrap=limit is not None,
            overflow="fold",
            min_width=limit,
            max_width=limit,
        )
    for n in rows:
        table.add_row(*(_cell(column.cells[n], limits.get(id(column))) for column in columns))
    return table


def print_line(out: Console, text: str, style: str = "") -> None:
    """Print a text, wrapped between words at the width of the terminal."""
    out.print(Text(text, style=style))


def print_list(out: Console, head: str, items: Sequence[str]) -> None:
    """Print a heading and items, separated by commas; lines break between items only."""
    line = head
    for n, item in enumerate(items):
        piece = item + ("," if n < len(items) - 1 else "")
        if cell_len(f"{line} {piece}") > out.width and line != head:
            print_line(out, line)
            line = " " * GAP + piece
        else:
            line = f"{line} {piece}"
    print_line(out, line)


def print_heading(out: Console, text: str) -> None:
    """Print a heading."""
    print_line(out, f"\n{text}", "bold")


def cut(text: str, width: int = WIDEST) -> str:
    """Text cut to at most `width` columns of the terminal."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 2) + ".."


def unicode(out: Console) -> bool:
    """Whether the terminal's encoding has more than ASCII."""
    return out.encoding.lower().startswith("utf")


def figure(value: float | None, name: str = "accuracy", sign: bool = False, digits: int = 1) -> str:
    """A metric for people: percent with `digits` decimals for shares, three digits more than that otherwise."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.{digits}f}" if is_share(name) else f"{value:{plus}.{digits + 3}g}"


def spread(mean: float | None, std: float | None, name: str, out: Console) -> str:
    """Mean and standard deviation in one cell."""
    if mean is None:
        return ""
    return figure(mean, name) + (f"{plus_minus(out)}{figure(std, name)}" if std is not None else "")


def plus_minus(out: Console) -> str:
    """What stands between a mean and a standard deviation."""
    return " \u00b1 " if unicode(out) else " +- "


def p_value(p: float | None) -> str:
    """A p value, short."""
    return "" if p is None else ("<.0001" if p < 0.0001 else f"{p:.4f}".lstrip("0") if p < 1 else "1")


def file_size(count: int | None) -> str:
    """Bytes for people."""
    return decimal(count or 0)


def spark(values: Sequence[float], out: Console, width: int = 40) -> str:
    """A curve as one line of bars."""
    levels = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588" if unicode(out) else "_.-:=+*#"
    if len(values) > width:
        values = [values[i * (len(values) - 1) // (width - 1)] for i in range(width)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(levels) - 1) / (high - low) if high > low else 0.0
    return "".join(levels[round((v - low) * scale)] if math.isfinite(v) else "!" for v in values)
