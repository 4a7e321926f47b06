"""The page of `mmctl evaluate`: metrics beside those that training logged, recall of each class, confusion matrix."""

from __future__ import annotations

import math

from mmctl.report.console import GAP, Column, console, figure, print_line, print_table
from mmctl.report.results import EvaluationResult
from mmctl.store.metrics import is_share
from mmctl.text import printable


def print_evaluation(found: EvaluationResult) -> None:
    """Print the result for people."""
    out = console()
    who = f"{found['weights']} weights, {found['predictor']} predictor"
    print_line(out, f"{found['run']}  step {found['step']}  {found['split']}  {who}  ({found['n']} images)")
    now, logged = found["metrics"], found["logged"]
    print_table(
        [
            Column("metric", cells=[name.replace("_", " ") for name in now]),
            Column("now", right=True, cells=[_metric(name, value) for name, value in now.items()]),
            Column("logged", right=True, cells=[_metric(name, logged.get(name)) for name in now]),
            Column("", cells=[_compared(logged.get(name), value) for name, value in now.items()]),
        ],
        out,
    )
    confusion, classes = found["confusion"], [printable(name) for name in found["classes"]]
    columns = [
        Column("true class", cells=classes),
        Column("images", right=True, cells=[str(sum(row)) for row in confusion]),
        Column("recall, %", right=True, cells=["-" if r is None else figure(r) for r in found["per_class"]]),
    ]
    matrix = [Column(name[:7], right=True, cells=[str(row[k]) for row in confusion]) for k, name in enumerate(classes)]
    # All of the matrix or none: with columns missing its rows would no longer add up.
    fits = sum(c.width() + GAP for c in columns + matrix) - GAP <= out.width
    print_table(columns + matrix if fits else columns, out)
    if not fits:
        print_line(out, "(no room for the confusion matrix; it is in --json)", "dim")
    for line in found["changes"]:
        print_line(out, f"note: {printable(line)}, so figures may differ")


def _metric(name: str, value: float | None) -> str:
    return "-" if value is None else figure(value, name) + (" %" if is_share(name) and math.isfinite(value) else "")


def _compared(logged: float | None, now: float) -> str:
    if logged is None:
        return ""
    return "=" if logged == now or (math.isnan(logged) and math.isnan(now)) else "differs"
