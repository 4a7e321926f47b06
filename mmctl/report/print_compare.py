"""The page of `mmctl compare`: one table a panel and metric, then the settings in which the cells differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.console import Console

from mmctl.report.console import figure, is_share, p_value, print_heading, print_line, print_table, spread
from mmctl.report.print_runs import column, setting
from mmctl.text import printable

Value = dict[str, Any]
ROWS = 20
"""So many differing settings are shown; --all-keys shows all there are."""


def print_comparison(found: Value, out: Console, *, per_seed: bool = False, all_keys: bool = False) -> None:
    """Every panel of a comparison."""
    for panel in found["panels"]:
        cells = _named(panel["cells"])
        parts = [printable(panel["dataset"]) or "no data yet", f"{panel['labels'] or '?'} labels"]
        parts += (
            [f"data {printable(panel['data_hash'])[:12]}"] if panel["data_hash"] and len(found["panels"]) > 1 else []
        )
        print_heading(out, ", ".join(parts))
        for number, metric in enumerate(panel["metrics"]):
            _print_metric(panel, cells, number, metric, found["test"], out)
        for note in panel["notes"]:
            print_line(out, f"note: {printable(note)}", "yellow")
        if per_seed:
            _print_seeds(panel, cells, out)
        if len(cells) > 1 or all_keys:
            _print_settings(panel, cells, out, all_keys)


def _print_metric(panel: Value, cells: Sequence[Value], number: int, metric: Value, test: str, out: Console) -> None:
    name = metric["metric"].partition("@")[0]
    base = next((cell for cell in cells if cell["cell"] == panel["baseline"]), None)
    print_line(out, f"\n{printable(metric['metric'])}{', %' if is_share(name) else ''} ({metric['words']})")

    def value(cell: Value) -> Value:
        found: Value = cell["values"][number]
        return found

    def against(cell: Value, key: str) -> Any:
        return (value(cell).get("against") or {}).get(key)

    versus = f"vs {base['shown']}" if base else ""
    columns = [
        column("cell", cells, lambda cell: cell["shown"]),
        column("n", cells, lambda cell: str(value(cell)["n"]), right=True),
        column("mean", cells, lambda cell: spread(value(cell)["mean"], value(cell)["std"], name, out), right=True),
        column("95 %", cells, lambda cell: _range(value(cell), name), 5, right=True),
        column("published", cells, lambda cell: _published(value(cell)["published"], name, out), 2, right=True),
        column(versus, cells, lambda cell: _difference(cell, base, against(cell, "diff"), name), right=True),
        column("95 % of it", cells, lambda cell: _range(against_of(value(cell)), name, sign=True), 6, right=True),
        column("p", cells, lambda cell: p_value(against(cell, "p")), 1, right=True),
        column("p Holm", cells, lambda cell: p_value(against(cell, "p_holm")), 3, right=True),
        column("others", cells, _others, 4),
        column("method", cells, lambda cell: _method(cell), 7),
    ]
    print_table(columns, out)
    tests = [against_of(value(cell)) for cell in cells if value(cell).get("against")]
    for said, many in Counter(_explain(row) for row in tests).items():
        print_line(out, said if len(tests) == many else f"{said} ({many} of {len(tests)})", "dim")
    if base is None and len(cells) > 1 and test != "none":
        print_line(out, "no baseline: name one with --baseline to have the others tested against it", "dim")


def against_of(value: Value) -> Value:
    """The comparison with the baseline, empty for the baseline itself."""
    return value.get("against") or {}


def _explain(row: Value) -> str:
    if row["name"] == "none":
        return "no test: a test takes two runs on each side, and a paired one the same seeds and splits"
    kind = {"paired t": "paired t over the same seeds and splits", "Welch t": "Welch t: seeds or splits differ"}
    kind["sign flip"] = "exact sign flips over the same seeds and splits"
    runs = "pairs" if row["name"] != "Welch t" else "runs a side"
    return f"{kind[row['name']]}; with {row['n']} {runs} no exact test gives a p below {p_value(row['p_min'])}"


def _named(cells: Sequence[Value]) -> list[Value]:
    """The cells with the name they are shown by: recipe, with method or hash where that is not enough."""
    recipes = Counter(cell["recipe"] for cell in cells)
    return [
        cell
        | {
            "shown": printable(cell["recipe"])
            + (f" {printable(cell['cell'])[:6]}" if recipes[cell["recipe"]] > 1 else "")
        }
        for cell in cells
    ]


def _range(value: Value, name: str, sign: bool = False) -> str:
    low, high = value.get("low"), value.get("high")
    return "" if low is None or high is None else f"{figure(low, name, sign)} .. {figure(high, name, sign)}"


def _published(value: Value | None, name: str, out: Console) -> str:
    if value is None:
        return ""
    away = f" ({figure(value['distance'], name, sign=True)})" if "distance" in value else ""
    return spread(value["value"], value["std"], name, out) + away


def _difference(cell: Value, base: Value | None, diff: float | None, name: str) -> str:
    if base is not None and cell["cell"] == base["cell"]:
        return "baseline"
    return figure(diff, name, sign=True)


def _others(cell: Value) -> str:
    return ", ".join(f"{count} {printable(state)}" for state, count in cell["counts"].items() if state != "completed")


def _method(cell: Value) -> str:
    method = printable(cell["method"]).removeprefix("mmctl:")
    return "" if method == cell["recipe"] else method


def _print_seeds(panel: Value, cells: Sequence[Value], out: Console) -> None:
    rows = [(cell, run) for cell in cells for run in cell["runs"]]
    print_line(out, "\nRuns")
    columns = [
        column("cell", rows, lambda row: row[0]["shown"]),
        column("seed", rows, lambda row: str(row[1]["seed"]), right=True),
        column("split", rows, lambda row: printable(row[1]["split_hash"])[:8], 3),
        column("state", rows, lambda row: printable(row[1]["state"]) + ("" if _counts(row[1]) else " (not counted)")),
    ]
    for number, metric in enumerate(panel["metrics"]):
        name = metric["metric"]
        columns.append(column(printable(name), rows, partial(_one, number, name), right=True))
    columns.append(column("run", rows, lambda row: printable(row[1]["uid"]), 4))
    print_table(columns, out)


def _counts(run: Value) -> bool:
    return bool(run["counted"]) or run["state"] != "completed"


def _one(number: int, name: str, row: tuple[Value, Value]) -> str:
    return figure(row[1]["values"][number], name.partition("@")[0])


def _print_settings(panel: Value, cells: Sequence[Value], out: Console, all_keys: bool) -> None:
    rows = list(panel["config"].items())
    if not rows:
        return
    print_line(out, "\nSettings" if all_keys else "\nSettings that differ")
    shown = rows if all_keys else rows[:ROWS]
    columns = [column("key", shown, lambda row: printable(row[0]))]
    for number, cell in enumerate(cells):
        columns.append(column(cell["shown"], shown, partial(_setting, number), number + 1 if number else 0))
    print_table(columns, out)
    if len(rows) > len(shown):
        print_line(out, f"... and {len(rows) - len(shown)} more: --all-keys", "dim")


def _setting(number: int, row: tuple[str, list[Any]]) -> str:
    return setting(row[1][number])
