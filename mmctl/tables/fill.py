"""A paper's table with ours beside it: runs of the very recipes that its cells name, and the commands for the rest."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmctl.errors import RecipeError, UserError
from mmctl.report import compare
from mmctl.store import metrics, select
from mmctl.store.store import Store
from mmctl.tables.spec import Cell, Figure, TableFile, command_line_name

Value = dict[str, Any]
HELD = ("completed", "nc", "running", "queued")
"""A seed in one of these states is not asked for again."""
SHARES = ("accuracy", "macro_f1")
RESUMABLE = ("interrupted", "crashed")


def fill_table(table: TableFile, store: Store, *, metric: str | None = None, sets: Sequence[str] = ()) -> Value:
    """The whole table as one object; figures are in the table's unit."""
    metric = metric or table.head.metric
    if not metrics.parse_metric(metric).name.endswith(SHARES):
        raise UserError(f'"{metric}": a table is in percent; metrics that end in {" or ".join(SHARES)} are.')
    cells = table.cells(sets)
    given = {cell.row for cell in cells if cell.given}
    runs = store.runs()
    alike: dict[str, list[Value]] = {}
    for run in runs:
        alike.setdefault(run["cell"], []).append(run)
    ours: list[Value | None] = []
    notes: list[str] = []
    for cell in cells:
        found = alike.get(cell.recipe.cell, []) if cell.recipe else []
        if table.rows[cell.row].where and cell.given is None:
            found = _by_conditions(table, cell, runs, store)
        ours.append(_ours(found, table, cell, metric, store, notes) if found else None)
    return {
        "table": table.source.label,
        **{key: getattr(table.head, key) for key in ("title", "source", "unit", "selection")},
        "metric": metric,
        "columns": [{"name": name, **_facts(column, "title", "group", "dataset", "labels")}
                    for name, column in table.columns.items()],
        "rows": [{"name": name, **_facts(row, "title", "source"), "published_only": not row.where and name not in given}
                 for name, row in table.rows.items()],
        "cells": [
            {
                "row": cell.row, "column": cell.column, "published": _published(cell.figure), "ours": one,
                "recipe": cell.given, "sets": list(cell.sets), "lacks": list(cell.lacks),
            }
            for cell, one in zip(cells, ours, strict=True)
        ],
        "notes": [*table.head.notes, *dict.fromkeys(notes)],
    }  # fmt: skip


def _facts(about: Any, *keys: str) -> Value:
    return {key: getattr(about, key) for key in keys}


def _published(figure: Figure) -> Value | None:
    found = _facts(figure, "value", "std", "pasted", "right", "note")
    return found if any(value is not None for value in found.values()) else None


def _by_conditions(table: TableFile, cell: Cell, runs: Sequence[Value], store: Store) -> list[Value]:
    """The runs that a row's conditions hold for, on the column's data and labels."""
    row, column = table.rows[cell.row], table.columns[cell.column]
    place = [f"cfg.dataset.name={column.dataset}", f"cfg.split.labels={column.labels}"]
    for term in row.where:
        if not select.TERM.fullmatch(term):
            raise RecipeError(
                [f'{table.at("rows", cell.row, "where")}: "{term}" is no condition, such as method:mixmatch']
            )
    try:
        return select.select_runs(store, runs, [*place, *row.where])
    except UserError as error:
        raise RecipeError([f"{table.at('rows', cell.row, 'where')}: {error}"]) from error


def _ours(runs: Sequence[Value], table: TableFile, cell: Cell, metric: str, store: Store, notes: list[str]) -> Value:
    """What the runs of one place come to; of several recipes or data sets, the one that was completed last."""
    done = [run for run in runs if run["state"] == "completed"]
    if not done:  # no evaluation need be there yet, which compare would take for a misspelt metric
        last = runs[-1]
        return _figures({"n": 0, "mean": None, "std": None}, last, last["data_hash"], runs, None, None, table)
    panels = compare.compare(store, runs, [metric], test="none")["panels"]
    found = [(panel, one) for panel in panels for one in panel["cells"]]
    panel, one = max(found, key=lambda pair: max((run["uid"] for run in pair[1]["runs"] if run["counted"]), default=""))
    if len(found) > 1:
        recipes = len({other["cell"] for _, other in found})
        what = f"{recipes} recipes answer to it" if recipes > 1 else "there are runs on other data"
        left = sum(len(other["runs"]) for _, other in found if other is not one)
        where = f"{title(table, cell.row)} {heading(table, cell.column)}"
        notes.append(f"{where}: {what}; ours is {one['recipe']}, completed last, and {left} runs are left out")
    notes += panel["notes"]
    (how,) = panel["metrics"]
    return _figures(one["values"][0], one, panel["data_hash"], one["runs"], how["reducer"], how["words"], table)


def _figures(
    figures: Value, one: Value, data_hash: str, runs: Sequence[Value], reducer: Any, words: Any, table: TableFile
) -> Value:
    mean = figures["mean"]
    if mean is not None and table.head.unit == "error %":
        mean = 1 - mean
    counts = Counter(run["state"] for run in runs)
    return {
        "n": figures["n"],
        "mean": None if mean is None else 100 * mean,
        "std": None if figures["std"] is None else 100 * figures["std"],
        "nc": counts["nc"],
        "counts": dict(sorted(counts.items())),
        "recipe": one["recipe"],
        "cell": one["cell"],
        "data_hash": data_hash,
        "reducer": reducer,
        "words": words,
        "runs": [{key: run[key] for key in ("uid", "seed", "state")} for run in runs],
    }


def title(table: TableFile, row: str) -> str:
    """What a row is called."""
    return table.rows[row].title or row


def heading(table: TableFile, column: str) -> str:
    """What a column is called, its group included."""
    one = table.columns[column]
    return " ".join(part for part in (one.group, one.title or column) if part)


def commands(table: TableFile, found: Value, seeds: Sequence[int], sets: Sequence[str] = ()) -> Iterator[str]:
    """The lines that would fill what is missing, for a shell in the project's folder; comments where none can."""
    lacking: dict[str, dict[str, list[str]]] = {}
    said: set[str] = set()
    for cell, place in zip(table.cells(sets), found["cells"], strict=True):
        where = f"{title(table, cell.row)} {heading(table, cell.column)}"
        for reason in cell.lacks:
            lacking.setdefault(reason, {}).setdefault(title(table, cell.row), []).append(heading(table, cell.column))
        if cell.recipe is None:
            continue
        runs = (place["ours"] or {}).get("runs", [])
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
