"""Output for a terminal: tables that fit its width, numbers for people.

Imports rich, so only what prints a table imports this.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table as RichTable
from rich.text import Text

from mmctl.store.metrics import is_share

Row = TypeVar("Row")
GAP = 2
WIDEST = 44
"""The largest width of a column."""
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


def console() -> Console:
    """The console for tables; without colours and not limited in width if the output is not a terminal."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    # In a pipe there is no width to keep to, unless one is given.
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else 1000
    how: dict[str, Any] = {"color_system": None, "force_terminal": False} if plain else {}
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False, **how)


def print_table(columns: Sequence[Column], out: Console) -> None:
    """Print a table; columns that do not fit are left out and named below it."""
    kept = [column for column in columns if any(column.cells)]
    hidden: list[Column] = []
    while kept and sum(column.width() + GAP for column in kept) - GAP > out.width and any(c.rank for c in kept):
        least = max(kept, key=lambda column: column.rank)
        kept.remove(least)
        hidden.append(least)
    table = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in kept:
        table.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            no_wrap=not column.prose,
            overflow="fold" if column.prose else "ellipsis",
            max_width=None if column.prose else WIDEST,
        )
    for row in zip(*(column.cells for column in kept), strict=True):
        cells = zip(row, kept, strict=True)
        table.add_row(*(Text(c if column.prose else cut(c), style=STYLES.get(c, "")) for c, column in cells))
    out.print(table)
    if hidden:
        print_line(
            out, f"(no room for: {', '.join(column.title for column in reversed(hidden))}; all is in --json)", "dim"
        )


def print_line(out: Console, text: str, style: str = "") -> None:
    """Print a text, wrapped between words at the width of the terminal."""
    out.print(Text(text, style=style))


def print_heading(out: Console, text: str) -> None:
    """Print a heading."""
    print_line(out, f"\n{text}", "bold")


def cut(text: str, width: int = WIDEST) -> str:
    """Text cut to at most `width` columns of the terminal."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 2) + ".."


def unicode(out: Console) -> bool:
    """Whether the terminal's encoding has more than ASCII."""
    return out.encoding.lower().startswith("utf")


def figure(value: float | None, name: str = "accuracy", sign: bool = False) -> str:
    """A metric for people: percent with one decimal for shares, four digits otherwise."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f}" if is_share(name) else f"{value:{plus}.4g}"


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
