"""The page of `mmctl evaluate`."""

from __future__ import annotations

from typing import Any

from mmctl.report.console import GAP, Column, console, print_line, print_table
from mmctl.text import printable


def print_evaluation(found: dict[str, Any]) -> None:
    """Print it for people."""
    out = console()
    known, classes = found["logged"], [printable(name) for name in found["classes"]]

    def value(name: str, figure: float | None) -> str:
        return "-" if figure is None else f"{figure:.4f}" if name == "nll" else f"{figure:.2%}"

    who = f"{found['weights']} weights, by {found['predictor']}"
    print_line(out, f"{found['run']}  step {found['step']}  {found['split']}  {who}  ({found['n']} pictures)")
    names, now = list(found["metrics"]), found["metrics"]
    same = ["" if n not in known else "=" if known[n] == now[n] else "differs" for n in names]
    print_table(
        [
            Column("figure", cells=[n.replace("_", " ") for n in names]),
            Column("now", right=True, cells=[value(n, now[n]) for n in names]),
            Column("logged", right=True, cells=[value(n, known.get(n)) for n in names]),
            Column("", cells=same),
        ],
        out,
    )
    confusion = found["confusion"]
    columns = [
        Column("true class", cells=classes),
        Column("n", right=True, cells=[str(sum(row)) for row in confusion]),
        Column("recall", right=True, cells=["-" if r is None else f"{r:.1%}" for r in found["per_class"]]),
    ]
    matrix = [Column(name[:7], right=True, cells=[str(row[k]) for row in confusion]) for k, name in enumerate(classes)]
    # All of the matrix or none: with columns missing its rows would no longer add up.
    fits = sum(c.width() + GAP for c in columns + matrix) - GAP <= out.width
    print_table(columns + matrix if fits else columns, out)
    if not fits:
        print_line(out, "(no room for the confusion matrix; it is in --json)", "dim")
    if not found["exact"]:
        print_line(out, "note: this machine or torch is not the one that trained; the last digits may differ.")
