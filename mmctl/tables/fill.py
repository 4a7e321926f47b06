"""A published table with our results beside it, from runs of exactly its recipes, and the commands for the rest."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypedDict

from mmctl.errors import RecipeError, UserError
from mmctl.report.compare import How, compare
from mmctl.store import select
from mmctl.store.metrics import parse_metric
from mmctl.store.rows import RunRow
from mmctl.store.store import Store
from mmctl.tables.spec import Cell, Figure, TableFile, command_line_name

HELD = ("completed", "nc", "running", "queued")
"""Seeds with a run in one of these states need no new run."""
SHARES = ("accuracy", "macro_f1")
RESUMABLE = ("interrupted", "crashed")


class PublishedCell(TypedDict):
    """The number printed in a cell of a published table; nc = not converged."""

    value: float | Literal["nc"] | None
    std: float | None
    pasted: str | None
    right: float | None
    note: str | None


class RunOfCell(TypedDict):
    """A run behind one of our figures."""

    uid: str
    seed: int | None
    state: str


class OurCell(TypedDict):
    """Our result for one cell, in the table's unit; n counts the completed runs."""

    n: int
    mean: float | None
    std: float | None
    nc: int
    counts: dict[str, int]
    recipe: str
    config_id: str
    data_hash: str | None
    reducer: str | None
    words: str | None
    runs: list[RunOfCell]


class FilledCell(TypedDict):
    """One cell of a table: published and ours; `lacks` lists what is missing before it can be run."""

    row: str
    column: str
    published: PublishedCell | None
    ours: OurCell | None
    recipe: str | None
    sets: list[str]
    lacks: list[str]


class FilledColumn(TypedDict):
    """A data set with a number of labels."""

    name: str
    title: str | None
    group: str | None
    dataset: str
    labels: int | str


class FilledRow(TypedDict):
    """A method."""

    name: str
    title: str | None
    source: str | None
    published_only: bool


class FilledTable(TypedDict):
    """A published table with our results beside it."""

    table: str
    title: str
    source: str
    unit: str
    selection: str
    metric: str
    columns: list[FilledColumn]
    rows: list[FilledRow]
    cells: list[FilledCell]
    notes: list[str]


def fill_table(table: TableFile, cells: Sequence[Cell], store: Store, *, metric: str | None = None) -> FilledTable:
    """The whole table as one object, of its cells as `table.cells()` gives them; figures are in the table's unit."""
    metric = metric or table.head.metric
    if not parse_metric(metric).name.endswith(SHARES):
        raise UserError(f'"{metric}": a table is in percent, so its metric must end in {" or ".join(SHARES)}.')
    runnable = {cell.row for cell in cells if cell.given}
    runs = store.runs()
    by_config: dict[str, list[RunRow]] = {}
    for run in runs:
        by_config.setdefault(run["config_id"], []).append(run)
    notes: list[str] = []
    filled: list[FilledCell] = []
    for cell in cells:
        found = by_config.get(cell.recipe.config_id, []) if cell.recipe else []
        if table.rows[cell.row].where and cell.given is None:
            found = _by_conditions(table, cell, runs, store)
        filled.append({
            "row": cell.row, "column": cell.column, "published": _published(cell.figure),
            "ours": _our_cell(found, table, cell, metric, store, notes) if found else None,
            "recipe": cell.given, "sets": list(cell.sets), "lacks": list(cell.lacks),
        })  # fmt: skip
    head = table.head
    return {
        "table": table.source.label, "title": head.title, "source": head.source, "unit": head.unit,
        "selection": head.selection, "metric": metric,
        "columns": [
            {"name": name, "title": one.title, "group": one.group, "dataset": one.dataset, "labels": one.labels}
            for name, one in table.columns.items()
        ],
        "rows": [
            {
                "name": name, "title": one.title, "source": one.source,
                "published_only": not one.where and name not in runnable,
            }
            for name, one in table.rows.items()
        ],
        "cells": filled,
        "notes": [*head.notes, *dict.fromkeys(notes)],
    }  # fmt: skip


def _published(figure: Figure) -> PublishedCell | None:
    found: PublishedCell = {
        "value": figure.value, "std": figure.std, "pasted": figure.pasted, "right": figure.right, "note": figure.note,
    }  # fmt: skip
    return found if any(value is not None for value in found.values()) else None


def _by_conditions(table: TableFile, cell: Cell, runs: Sequence[RunRow], store: Store) -> list[RunRow]:
    """The runs that fulfil a row's conditions, on the column's data and labels."""
    row, column = table.rows[cell.row], table.columns[cell.column]
    place = [f"cfg.dataset.name={column.dataset}", f"cfg.split.labels={column.labels}"]
    for term in row.where:
        if not select.TERM.fullmatch(term):
            raise RecipeError(
                [f'{table.at("rows", cell.row, "where")}: "{term}" is not a condition such as method:mixmatch']
            )
    try:
        return select.select_runs(store, runs, [*place, *row.where])
    except UserError as error:
        raise RecipeError([f"{table.at('rows', cell.row, 'where')}: {error}"]) from error


def _our_cell(
    runs: Sequence[RunRow], table: TableFile, cell: Cell, metric: str, store: Store, notes: list[str]
) -> OurCell:
    """Our result for one cell; if several recipes or data sets fit, the one that was completed last."""
    made: OurCell = {
        "n": 0, "mean": None, "std": None, "nc": 0, "counts": {}, "recipe": runs[-1]["recipe"],
        "config_id": runs[-1]["config_id"], "data_hash": runs[-1]["data_hash"], "reducer": None, "words": None,
        "runs": [{"uid": run["uid"], "seed": run["seed"], "state": run["state"]} for run in runs],
    }  # fmt: skip
    # Without a completed run there may be no evaluation yet, which compare would take for a misspelt metric.
    if any(run["state"] == "completed" for run in runs):
        panels = compare(store, runs, [metric], How(test="none"))["panels"]
        found = [(panel, one) for panel in panels for one in panel["configurations"]]
        panel, one = max(found, key=lambda pair: max((r["uid"] for r in pair[1]["runs"] if r["counted"]), default=""))
        if len(found) > 1:
            recipes = len({other["config_id"] for _, other in found})
            what = f"{recipes} recipes fit" if recipes > 1 else "there are runs on other data"
            left = sum(len(other["runs"]) for _, other in found if other is not one)
            where = f"{title(table, cell.row)} {heading(table, cell.column)}"
            notes.append(f"{where}: {what}; ours is {one['recipe']}, completed last, without {left} other runs")
        notes += panel["notes"]
        (how,), figures = panel["metrics"], one["values"][0]
        mean, std = figures["mean"], figures["std"]
        if mean is not None and table.head.unit == "error %":
            mean = 1 - mean
        made |= {
            "n": figures["n"], "mean": None if mean is None else 100 * mean, "std": None if std is None else 100 * std,
            "recipe": one["recipe"], "config_id": one["config_id"], "data_hash": panel["data_hash"],
            "reducer": how["reducer"], "words": how["words"],
            "runs": [{"uid": run["uid"], "seed": run["seed"], "state": run["state"]} for run in one["runs"]],
        }  # fmt: skip
    counts = Counter(run["state"] for run in made["runs"])
    made["nc"], made["counts"] = counts["nc"], dict(sorted(counts.items()))
    return made


def title(table: TableFile, row: str) -> str:
    """What a row is called."""
    return table.rows[row].title or row


def heading(table: TableFile, column: str) -> str:
    """What a column is called, its group included."""
    one = table.columns[column]
    return " ".join(part for part in (one.group, one.title or column) if part)


def commands(table: TableFile, cells: Sequence[Cell], found: FilledTable, seeds: Sequence[int]) -> Iterator[str]:
    """The shell commands that fill the missing cells, and comments for cells that cannot be run."""
    lacking: dict[str, dict[str, list[str]]] = {}
    said: set[str] = set()
    for cell, place in zip(cells, found["cells"], strict=True):
        where = f"{title(table, cell.row)} {heading(table, cell.column)}"
        for reason in cell.lacks:
            lacking.setdefault(reason, {}).setdefault(title(table, cell.row), []).append(heading(table, cell.column))
        if cell.recipe is None:
            continue
        runs = place["ours"]["runs"] if place["ours"] else []
        held = {run["seed"] for run in runs if run["state"] in HELD}
        stopped = {run["seed"]: run["uid"] for run in runs if run["state"] in RESUMABLE}
        goes_on = [uid for seed, uid in stopped.items() if seed in seeds and seed not in held]
        wanted = [seed for seed in seeds if seed not in held and seed not in stopped]
        lines = [f"mmctl resume {shlex.quote(uid)}" for uid in goes_on]
        if wanted:
            words = ["mmctl", "run", command_line_name(cell.recipe.path)]
            words += [part for setting in cell.sets for part in ("--set", setting)]
            lines.append(shlex.join([*words, "--seeds", ranges(wanted)]))
        if new := [line for line in lines if line not in said]:
            said.update(new)
            yield from (f"# {where}", *new)
    for reason, places in lacking.items():
        rows: dict[str, list[str]] = {}
        for row, columns in places.items():
            rows.setdefault(", ".join(columns), []).append(row)
        yield f"# {reason}: " + "; ".join(f"{columns} ({', '.join(names)})" for columns, names in rows.items())


def ranges(numbers: Iterable[int]) -> str:
    """`0-2,5` of 0, 1, 2, 5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
