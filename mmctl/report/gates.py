"""Conditions under which `mmctl compare` fails, for scripts and CI: --fail-if and --strict."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mmctl.errors import UserError, suggest
from mmctl.report.comparison import Comparison, ConfigurationRow, Panel
from mmctl.store.metrics import parse_metric

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TERM = re.compile(
    r"\s*([A-Za-z][\w./-]*(?:@[\w:=/]+)?)\s*(<=|>=|<|>)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)\s*", re.ASCII
)
OF_ONE = ("n", "nc", "std", "low", "high")
OF_TWO = {"delta": "diff", "effect": "effect", "p": "p", "p_holm": "p_holm"}
"""Fields of the difference to the baseline -> keys of Against."""


class Term(NamedTuple):
    """`test/accuracy < 0.9`; the field is a metric (its mean), or a figure of the first metric."""

    field: str
    sign: str
    number: float


class Gate(NamedTuple):
    """Terms that must all hold for the comparison to fail."""

    text: str
    terms: Sequence[Term]

    def metrics(self) -> list[str]:
        return [term.field for term in self.terms if "/" in term.field]


def parse_gate(text: str) -> Gate:
    """Read `TERM and TERM ...`, UserError if a term is none."""
    terms = []
    for part in re.split(r"\s+and\s+", text.strip()):
        found = TERM.fullmatch(part)
        if found is None:
            raise UserError(
                f"--fail-if: {part!r} is not a condition such as 'test/accuracy<0.9' or 'p<0.05 and delta<0'."
            )
        field = found[1]
        if "/" in field:
            parse_metric(field)
        elif field not in (known := (*OF_ONE, *OF_TWO)):
            listed = ", ".join(known)
            raise UserError(f'--fail-if: no figure "{field}".{suggest(field, known)} Known: {listed}, or a metric.')
        terms.append(Term(field, found[2], float(found[3])))
    return Gate(text, terms)


def failures(found: Comparison, gates: Sequence[Gate]) -> list[str]:
    """A line for each configuration that meets a condition, or of which it cannot be said.

    UserError if a condition is about the difference to a baseline and there is none. A term without a value is neither
    true nor false: it makes a comparison fail unless another term is false.
    """
    lines: list[str] = []
    for gate in gates:
        two = any(term.field in OF_TWO for term in gate.terms)
        if two and found["test"] == "none":
            raise UserError(f"--fail-if '{gate.text}': needs a test; leave out --test none.")
        for panel in found["panels"]:
            if two and panel["baseline"] is None:
                raise UserError(f"--fail-if '{gate.text}': {_place(panel)}: no baseline; give one with --baseline.")
            for row in panel["configurations"]:
                if not (two and row["config_id"] == panel["baseline"]):
                    lines += _judged(gate, panel, row)
    if gates and not found["panels"]:
        lines.append("no run matches, so that no condition can be judged")
    return lines


def _judged(gate: Gate, panel: Panel, row: ConfigurationRow) -> Iterator[str]:
    values = [(term, _value(term, panel, row)) for term in gate.terms]
    held = [value is None or COMPARE[term.sign](value, term.number) for term, value in values]
    if all(held):
        said = ", ".join(f"{term.field} {'has no value' if v is None else f'is {v:.6g}'}" for term, v in values)
        yield f"{_place(panel)}, {row['recipe']}: {said} (--fail-if '{gate.text}')"


def _value(term: Term, panel: Panel, row: ConfigurationRow) -> float | None:
    """The figure of a configuration that a term is about; None if it has none, or NaN."""
    if "/" in term.field:
        number = next(n for n, metric in enumerate(panel["metrics"]) if metric["metric"] == term.field)
        value = row["values"][number]["mean"]
    elif term.field in OF_ONE:
        value = row["values"][0][term.field]  # type: ignore[literal-required]
    else:
        against = row["values"][0].get("against")
        value = against[OF_TWO[term.field]] if against else None  # type: ignore[literal-required]
    return None if value is None or value != value else float(value)


def unfinished(found: Comparison) -> list[str]:
    """A line for each configuration that lacks a completed run of a seed which it, or another of its panel, has."""
    lines: list[str] = []
    for panel in found["panels"]:
        rows = panel["configurations"]
        seeds = {run["seed"] for row in rows for run in row["runs"] if run["seed"] is not None}
        for row in rows:
            done = {run["seed"] for run in row["runs"] if run["state"] in ("completed", "nc")}
            if missing := sorted(seeds - done):
                which = ", ".join(map(str, missing))
                lines.append(f"{_place(panel)}, {row['recipe']}: no completed run of seed {which}")
    return lines


def _place(panel: Panel) -> str:
    return f"{panel['dataset'] or 'data unknown'}, {panel['labels'] or '?'} labels"
