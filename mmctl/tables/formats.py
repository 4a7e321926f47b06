"""The page of `mmctl table`: for a terminal, and as a document or rows of plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console

from mmctl.report.console import GAP, Column, cut, plus_minus, print_line, print_table
from mmctl.report.sheet import Sheet, document, separated
from mmctl.tables.fill import FilledColumn, FilledTable, OurCell, PublishedCell
from mmctl.text import printable

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RECORD = (
    "row", "column", "dataset", "labels", "published", "published_std", "right", "pasted", "note", "ours", "ours_std",
    "n", "nc", "selection", "recipe", "config_id",
)  # fmt: skip


class Line(NamedTuple):
    """One line of the table: published, ours, or the runs behind ours."""

    kind: str
    title: str
    texts: list[str]
    marks: list[str]  # the letter of each text's footnote, or ""


def print_text(found: FilledTable, out: Console) -> None:
    """The table, in as many parts as the terminal's width asks for."""
    print_line(out, printable(found["title"]), "bold")
    print_line(out, f"{found['unit']}\n", "dim")
    lines, notes = _lines(found, plus_minus(out))
    titles = Column("", 0, False, [("  " if one.kind != "published" else "") + cut(one.title, 30) for one in lines])
    columns = [
        Column(_heading(column), 0, True, [_marked(one.texts[n], one.marks[n], "[{}]") for one in lines])
        for n, column in enumerate(found["columns"])
    ]
    while columns:
        fits, width = 1, titles.width() + GAP + columns[0].width()
        while fits < len(columns) and (width := width + GAP + columns[fits].width()) <= out.width:
            fits += 1
        print_table([titles, *columns[:fits]], out)
        columns = columns[fits:]
        print_line(out, "")
    for note in notes:
        print_line(out, note, "dim")


def form(found: FilledTable, name: str) -> str:
    """The table in one of the forms for documents: markdown, latex, html, csv or tsv."""
    return (
        separated(_records(found), name) if name in ("csv", "tsv") else document([_sheet(found)], name, found["title"])
    )


def _sheet(found: FilledTable) -> Sheet:
    lines, notes = _lines(found, " +- ")
    columns = found["columns"]
    places = {(n, k + 1): mark for n, one in enumerate(lines) for k, mark in enumerate(one.marks) if mark}
    return Sheet(
        f"{printable(found['title'])}, {found['unit']}",
        ["", *(printable(column["title"] or column["name"]) for column in columns)],
        [[one.title, *one.texts] for one in lines],
        [False, *(True for _ in columns)],
        notes,
        ["", *(printable(column["group"]) for column in columns)],
        places,
        sub=frozenset(n for n, one in enumerate(lines) if one.kind != "published"),
    )


def _records(found: FilledTable) -> Iterator[Sequence[object]]:
    """A line for each cell, below the names of the columns."""
    rows, columns = ({one["name"]: one for one in found["rows"]}, {one["name"]: one for one in found["columns"]})
    yield RECORD
    for cell in found["cells"]:
        column, row, ours = columns[cell["column"]], rows[cell["row"]], cell["ours"]
        theirs: Mapping[str, object] = cell["published"] or {}
        own = [ours["mean"], ours["std"], ours["n"], ours["nc"], ours["reducer"]] if ours else [None] * 5
        yield (
            row["title"] or row["name"], _heading(column), column["dataset"], column["labels"],
            *(theirs.get(key) for key in ("value", "std", "right", "pasted", "note")),
            *own, cell["recipe"], ours["config_id"] if ours else None,
        )  # fmt: skip


def _lines(found: FilledTable, between: str) -> tuple[list[Line], list[str]]:
    """The lines of the table and the notes below it."""
    lines: list[Line] = []
    footnotes: list[str] = []
    for row in found["rows"]:
        cells = [cell for cell in found["cells"] if cell["row"] == row["name"]]
        marks = []
        for cell, column in zip(cells, found["columns"], strict=True):
            said = _wrong(cell["published"])
            mark = _letter(len(footnotes)) if said else ""
            marks.append(mark)
            if said:
                footnotes.append(f"[{mark}] {printable(row['title'] or row['name'])} {_heading(column)}: {said}")
        title = printable(row["title"] or row["name"])
        lines.append(Line("published", title, [_figure(cell["published"], between) for cell in cells], marks))
        if row["published_only"]:
            continue
        blank = [""] * len(cells)
        lines.append(Line("ours", "ours", [_ours(cell["ours"], between) for cell in cells], blank))
        if any(cell["ours"] for cell in cells):
            lines.append(Line("runs", "runs", [_runs(cell["ours"]) for cell in cells], blank))
    return lines, [*footnotes, *_notes(found)]


def _letter(n: int) -> str:
    return (LETTERS[n // len(LETTERS) - 1] if n >= len(LETTERS) else "") + LETTERS[n % len(LETTERS)]


def _heading(column: FilledColumn) -> str:
    return printable(" ".join(part for part in (column["group"], column["title"] or column["name"]) if part))


def _figure(published: PublishedCell | None, between: str) -> str:
    if published is None or published["value"] is None:
        return "-"
    return "nc" if published["value"] == "nc" else _two(published["value"], published["std"], between)


def _two(value: float, std: float | None, between: str) -> str:
    return f"{value:.2f}" + (f"{between}{std:.2f}" if std is not None else "")


def _ours(ours: OurCell | None, between: str) -> str:
    if ours is None or ours["mean"] is None:
        return "nc" if ours and ours["nc"] else "-"
    return _two(ours["mean"], ours["std"], between)


def _runs(ours: OurCell | None) -> str:
    if ours is None:
        return "0"
    others = [f"{count} {printable(state)}" for state, count in ours["counts"].items() if state != "completed"]
    return ", ".join([str(ours["n"]), *others] if ours["n"] or not others else others)


def _wrong(published: PublishedCell | None) -> str:
    """What is wrong with a published number, if anything."""
    if published is None:
        return ""
    parts = [f"pasted from {published['pasted']}"] if published["pasted"] else []
    parts += [f"should be {published['right']:.2f}"] if published["right"] is not None else []
    parts += [published["note"]] if published["note"] else []
    return printable("; ".join(parts))


def _notes(found: FilledTable) -> list[str]:
    metric = printable(found["metric"])
    notes = [f"published: {printable(found['source'])}; selection of the checkpoint: {printable(found['selection'])}"]
    notes += [
        f"{printable(row['title'] or row['name'])}: {printable(row['source'])}"
        for row in found["rows"]
        if row["source"]
    ]
    places: dict[str, list[str]] = {}
    headings = {column["name"]: _heading(column) for column in found["columns"]}
    titles = {row["name"]: printable(row["title"] or row["name"]) for row in found["rows"]}
    for cell in found["cells"]:
        if cell["ours"] and cell["ours"]["words"]:
            places.setdefault(cell["ours"]["words"], []).append(f"{titles[cell['row']]} {headings[cell['column']]}")
    lacking: dict[str, None] = {titles[cell["row"]]: None for cell in found["cells"] if cell["lacks"]}
    if lacking:
        notes.append(f"some cells cannot be run yet: {', '.join(lacking)}; --commands says what is missing")
    if not places:
        ours = "ours: no completed run of these recipes; --commands prints what to run"
    else:
        least = min(places, key=lambda words: len(places[words]))
        rules = [
            words + (f" ({', '.join(at)})" if words == least and len(places) > 1 else "")
            for words, at in places.items()
        ]
        what = metric if found["unit"] == "accuracy %" else f"100 - {metric}"
        ours = f"ours: {what}, {', '.join(rules)}; mean and standard deviation over its completed runs"
    return [*notes, ours, *(printable(note) for note in found["notes"])]


def _marked(text: str, mark: str, form: str) -> str:
    return text + (form.format(mark) if mark else "")
