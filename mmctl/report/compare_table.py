"""One table of `mmctl compare`: the configurations of a panel in one metric, with what must be said of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from mmctl.report import stats
from mmctl.report.comparison import (
    Against,
    AllRuns,
    ComparedMetric,
    Comparison,
    ConfigurationRow,
    Figures,
    Panel,
)
from mmctl.report.configuration import values_by_seed
from mmctl.report.console import Column, column, figure, p_value
from mmctl.report.results import Published
from mmctl.store.metrics import CHANCE, LOWER, is_share
from mmctl.text import printable

TESTS = {
    "paired t": "paired t test over the same seeds and splits",
    "Welch t": "Welch's t test, since seeds or splits differ",
    "sign flip": "exact sign-flip test over the same seeds and splits",
}
EFFECT = {
    "paired t": "effect size: the mean difference in standard deviations of the differences (Hedges' correction)",
    "Welch t": "effect size: the difference of the means in standard deviations of the runs (Hedges' g)",
}
NOT_CONVERGED = "nc: not converged (collapsed, or a loss became NaN or infinite); "
COUNTED = "counted in the mean as chance level, 1 / number of classes, or as the recipe says (eval.nc_as)"
NOT_COUNTED = "not in the mean, which favours unstable methods"
COUNT_THEM = "; --count-nc counts it as chance level; eval.nc_as in a recipe says what it counts"
ALPHA = 0.05
Named = tuple[str, ConfigurationRow]
"""A configuration and the name that it has in the tables."""


@dataclass(frozen=True)
class Look:
    """How to print: digits after the point of a percentage, and what to add."""

    digits: int = 1
    per_seed: bool = False
    all_keys: bool = False


@dataclass(frozen=True)
class Block:
    """A table: its caption, columns and notes (with their style); in documents `mean` has marks for the best rows."""

    caption: str
    columns: Sequence[Column]
    notes: Sequence[tuple[str, str]] = ()
    mean: int = 0
    best: frozenset[int] = frozenset()
    near: frozenset[int] = frozenset()


def metric_block(
    panel: Panel, rows: Sequence[Named], number: int, metric: ComparedMetric, found: Comparison, look: Look, marks: bool
) -> Block:
    name, baseline, percent = metric["metric"].partition("@")[0], panel["baseline"], f"{100 * found['level']:g} %"
    shown = partial(figure, name=name, digits=look.digits)
    figures = [row["values"][number] for _, row in rows]
    tests = [one.get("against") for one in figures]
    base = next((title for title, row in rows if row["config_id"] == baseline), None)
    differences = [
        "baseline" if row["config_id"] == baseline else _difference(against, name, look.digits)
        for (_, row), against in zip(rows, tests, strict=True)
    ]

    def spread(mean: float | None, std: float | None) -> str:
        return shown(mean) + (f" +- {shown(std)}" if mean is not None and std is not None else "")

    def mean(row: ConfigurationRow) -> str:
        one = row["values"][number]
        return spread(one["mean"], one["std"]) + _hidden(row, number)

    def bounds(low: float | None, high: float | None, sign: bool = False) -> str:
        return "" if low is None or high is None else f"{shown(low, sign=sign)} .. {shown(high, sign=sign)}"

    def bounds_of(test: Against | None) -> str:
        return bounds(test["low"], test["high"], True) if test else ""

    def all_runs(one: AllRuns | None) -> str:
        return f"{spread(one['mean'], one['std'])} ({one['n']})" if one else ""

    def published(value: Published | None) -> str:
        if value is None:
            return ""
        distance = f" ({figure(value['distance'], name, True, look.digits)})" if "distance" in value else ""
        return spread(value["value"], value["std"]) + distance

    columns = [
        column("recipe" if found["by"] == ["config"] else "runs", rows, lambda row: row[0]),
        column("n", rows, lambda row: _n(row[1], row[1]["values"][number]), right=True),
        column("mean", rows, lambda row: mean(row[1]), right=True),
        column("mean with nc", figures, lambda one: all_runs(one["all_runs"]), right=True),
        column(f"{percent} interval", figures, lambda one: bounds(one["low"], one["high"]), 5, right=True),
        column("published", figures, lambda one: published(one["published"]), 2, right=True),
        column(f"vs {base}" if base else "", differences, str, right=True),
        column(f"its {percent} interval", tests, lambda one: bounds_of(one), 6, right=True),
        column("effect size", tests, _effect, 7, right=True),
        column("p", tests, lambda one: p_value(one["p"] if one else None), 1, right=True),
        column("p (Holm)", tests, lambda one: p_value(one["p_holm"] if one else None), 3, right=True),
        column("not completed", rows, lambda row: _unfinished(row[1]), 4),
        column("method", rows, lambda row: _method(row[1]), 8),
    ]  # fmt: skip
    best, near = _best(panel, number, name) if marks else (frozenset(), frozenset())
    caption = f"{printable(metric['metric'])}{', %' if is_share(name) else ''} ({metric['words']})"
    return Block(caption, columns, list(_legend(rows, figures, name, base, found["test"])), 2, best, near)


def _legend(
    rows: Sequence[Named], figures: Sequence[Figures], name: str, base: str | None, test: str
) -> Iterator[tuple[str, str]]:
    tests = [one["against"] for one in figures if "against" in one]
    made = [_explain(one) for one in tests]
    for text, count in Counter(made).items():
        yield text if count == len(made) else f"{text} ({count} of {len(made)})", "dim"
    for text in dict.fromkeys(
        EFFECT.get(one["name"], EFFECT["paired t"]) for one in tests if one["effect"] is not None
    ):
        yield text, "dim"
    if any(row["seeds"] > one["n"] for (_, row), one in zip(rows, figures, strict=True)):
        yield "n: completed runs / runs that were started; only completed runs are in a mean", "dim"
    if any(one["nc"] for one in figures):
        counted = any(one["nc_counted"] or one["all_runs"] for one in figures)
        offer = COUNT_THEM if name.split("/")[-1] in CHANCE and not counted else ""
        used = any(one["nc_counted"] for one in figures)
        yield NOT_CONVERGED + (COUNTED if used else NOT_COUNTED) + offer, "dim"
    for value in sorted({one["all_runs"]["counts_as"] for one in figures if one["all_runs"]}):
        yield f"mean with nc: each of them counts {figure(value, name)}, as the recipe says (eval.nc_as)", "dim"
    if base is None and len(rows) > 1 and test != "none":
        yield "no baseline: --baseline RECIPE tests the other recipes against that one", "dim"


def _best(panel: Panel, number: int, name: str) -> tuple[frozenset[int], frozenset[int]]:
    """The rows with the best mean, and those that are not significantly worse; runs that are left out take no part."""
    rows = panel["configurations"]
    means = {
        n: mean
        for n, row in enumerate(rows)
        if (mean := row["values"][number]["mean"]) is not None and math.isfinite(mean)
        and (row["values"][number]["nc_counted"] or not row["values"][number]["nc"])
    }  # fmt: skip
    if len(means) < 2:
        return frozenset(), frozenset()
    top = (min if name.endswith(LOWER) else max)(means.values())
    best = frozenset(n for n, mean in means.items() if mean == top)
    theirs = values_by_seed(rows[min(best)]["runs"], number, rows[min(best)]["configurations"])
    near = set()
    for n in means.keys() - best:
        ours = values_by_seed(rows[n]["runs"], number, rows[n]["configurations"])
        if ours.keys() == theirs.keys():
            test = stats.paired(stats.shared(ours, theirs))
        else:
            test = stats.welch(list(ours.values()), list(theirs.values()))
        if test and test["p"] is not None and test["p"] > ALPHA:
            near.add(n)
    return best, frozenset(near)


def _n(row: ConfigurationRow, one: Figures) -> str:
    return str(one["n"]) if one["n"] >= row["seeds"] else f"{one['n']} / {row['seeds']}"


def _hidden(row: ConfigurationRow, number: int) -> str:
    """What a mean hides: runs that did not converge, and a mix of precisions or devices."""
    one, notes = row["values"][number], []
    if one["nc"]:
        notes.append(f"with {one['nc']} nc" if one["nc_counted"] else f"{one['nc']} nc")
    if len(row["hardware"]) > 1:
        precisions = {label.split()[0] for label in row["hardware"]}
        notes.append("mixed precision" if len(precisions) > 1 else "CPU and GPU")
    return f"{' ' if one['mean'] is not None else ''}({'; '.join(notes)})" if notes else ""


def _explain(test: Against) -> str:
    if test["name"] == "none":
        return "no significance test: needs at least 2 completed runs per recipe, a paired test with the same seeds"
    runs = "runs per recipe" if test["name"] == "Welch t" else "pairs"
    return (
        f"{TESTS[test['name']]}; with {test['n']} {runs} an exact test cannot give a p below {p_value(test['p_min'])}"
    )


def named(rows: Sequence[ConfigurationRow]) -> list[Named]:
    """Each configuration by its recipe and --name; with the beginning of its id where several have the same."""
    titles = [_title(row) + (" (altered)" if row["altered"] else "") for row in rows]
    times = Counter(titles)
    return [
        (printable(title) + (f" {printable(row['config_id'])[:6]}" if times[title] > 1 else ""), row)
        for title, row in zip(titles, rows, strict=True)
    ]


def dict_of_names(rows: Sequence[Named]) -> dict[str, str]:
    """config_id -> name in the tables."""
    return {row["config_id"]: name for name, row in rows}


def _title(row: ConfigurationRow) -> str:
    """`fast (digits)` for runs of `mmctl run digits --name fast`."""
    return f"{', '.join(row['names'])} ({row['recipe']})" if row["names"] else row["recipe"]


def _difference(test: Against | None, name: str, digits: int) -> str:
    if test is None:
        return ""
    left_out = f" (without {test['left_out']} nc)" if test["left_out"] else ""
    return figure(test["diff"], name, True, digits) + left_out


def _effect(test: Against | None) -> str:
    return f"{test['effect']:+.2f}" if test and test["effect"] is not None else ""


def _unfinished(row: ConfigurationRow) -> str:
    return ", ".join(f"{count} {printable(state)}" for state, count in row["counts"].items() if state != "completed")


def _method(row: ConfigurationRow) -> str:
    method = printable(row["method"]).removeprefix("mmctl:")
    return "" if method == row["recipe"] else method
