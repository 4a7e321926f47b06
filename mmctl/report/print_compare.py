"""The page of `mmctl compare`: a table for each panel and metric, then the settings that differ between the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from mmctl.report.console import column, figure, p_value, print_heading, print_line, print_table, spread
from mmctl.report.print_runs import setting
from mmctl.report.results import (
    Against,
    ComparedMetric,
    ComparedRun,
    Comparison,
    ConfigurationRow,
    Figures,
    Panel,
    Published,
)
from mmctl.run_folder.upgrade import Setting
from mmctl.store.metrics import CHANCE, is_share
from mmctl.text import printable

ROWS = 20
"""The number of differing settings that are shown; --all-keys shows all."""
TESTS = {
    "paired t": "paired t test over the same seeds and splits",
    "Welch t": "Welch's t test, since seeds or splits differ",
    "sign flip": "exact sign-flip test over the same seeds and splits",
}
NOT_CONVERGED = "nc: not converged (collapsed, or a loss became NaN or infinite); "
COUNTED = "counted in the mean as chance level, 1 / number of classes"
NOT_COUNTED = "not in the mean, which favours unstable methods"
COUNT_THEM = "; --count-nc counts it as chance level"
Named = tuple[str, ConfigurationRow]
"""A configuration and the name that it has in the tables."""


def print_comparison(found: Comparison, out: Console, *, per_seed: bool = False, all_keys: bool = False) -> None:
    """Every panel of a comparison."""
    for panel in found["panels"]:
        rows = _named(panel["configurations"])
        parts = [printable(panel["dataset"]) or "no data yet", f"{panel['labels'] or '?'} labels"]
        if panel["data_hash"] and len(found["panels"]) > 1:
            parts.append(f"data {printable(panel['data_hash'])[:12]}")
        print_heading(out, ", ".join(parts))
        for number, metric in enumerate(panel["metrics"]):
            _print_metric(rows, number, metric, panel["baseline"], found["test"], out)
        for note in panel["notes"]:
            print_line(out, f"note: {printable(note)}", "yellow")
        if per_seed:
            _print_runs(panel, rows, out)
        if len(rows) > 1 or all_keys:
            _print_settings(panel, rows, out, all_keys)


def _print_metric(
    rows: Sequence[Named], number: int, metric: ComparedMetric, baseline: str | None, test: str, out: Console
) -> None:
    name = metric["metric"].partition("@")[0]
    print_line(out, f"\n{printable(metric['metric'])}{', %' if is_share(name) else ''} ({metric['words']})")
    figures = [row["values"][number] for _, row in rows]
    tests = [one.get("against") for one in figures]
    base = next((shown for shown, row in rows if row["config_id"] == baseline), None)
    differences = [
        "baseline" if row["config_id"] == baseline else figure(against["diff"] if against else None, name, sign=True)
        for (_, row), against in zip(rows, tests, strict=True)
    ]
    columns = [
        column("recipe", rows, lambda row: row[0]),
        column("n", figures, lambda one: str(one["n"]), right=True),
        column("mean", rows, lambda row: _mean(row[1], row[1]["values"][number], name, out), right=True),
        column("95 % interval", figures, lambda one: _range(one["low"], one["high"], name), 5, right=True),
        column("published", figures, lambda one: _published(one["published"], name, out), 2, right=True),
        column(f"vs {base}" if base else "", differences, str, right=True),
        column("its 95 % interval", tests, lambda one: _range_of(one, name), 6, right=True),
        column("p", tests, lambda one: p_value(one["p"] if one else None), 1, right=True),
        column("p (Holm)", tests, lambda one: p_value(one["p_holm"] if one else None), 3, right=True),
        column("not completed", rows, lambda row: _unfinished(row[1]), 4),
        column("method", rows, lambda row: _method(row[1]), 7),
    ]
    print_table(columns, out)
    made = [_explain(one) for one in tests if one]
    for text, count in Counter(made).items():
        print_line(out, text if count == len(made) else f"{text} ({count} of {len(made)})", "dim")
    if any(one["nc"] for one in figures):
        counted = any(one["nc_counted"] for one in figures)
        offer = COUNT_THEM if name.split("/")[-1] in CHANCE and not counted else ""
        print_line(out, NOT_CONVERGED + (COUNTED if counted else NOT_COUNTED) + offer, "dim")
    if base is None and len(rows) > 1 and test != "none":
        print_line(out, "no baseline: --baseline RECIPE tests the other recipes against that one", "dim")


def _mean(row: ConfigurationRow, one: Figures, name: str, out: Console) -> str:
    """Mean and deviation, with what the mean hides: runs that did not converge, and a mix of precisions or devices."""
    notes = []
    if one["nc"]:
        notes.append(f"{one['n']} with {one['nc']} nc" if one["nc_counted"] else f"{one['n']}, {one['nc']} nc")
    if len(row["hardware"]) > 1:
        precisions = {label.split()[0] for label in row["hardware"]}
        notes.append("mixed precision" if len(precisions) > 1 else "CPU and GPU")
    text = spread(one["mean"], one["std"], name, out)
    return " ".join(filter(None, (text, f"({'; '.join(notes)})" if notes else "")))


def _explain(test: Against) -> str:
    if test["name"] == "none":
        return "no significance test: needs at least 2 completed runs per recipe, a paired test with the same seeds"
    runs = "runs per recipe" if test["name"] == "Welch t" else "pairs"
    return (
        f"{TESTS[test['name']]}; with {test['n']} {runs} an exact test cannot give a p below {p_value(test['p_min'])}"
    )


def _named(rows: Sequence[ConfigurationRow]) -> list[Named]:
    """Each configuration by its recipe and --name; with the beginning of its id where several have the same."""
    titles = [_title(row) + (" (altered)" if row["altered"] else "") for row in rows]
    times = Counter(titles)
    return [
        (printable(title) + (f" {printable(row['config_id'])[:6]}" if times[title] > 1 else ""), row)
        for title, row in zip(titles, rows, strict=True)
    ]


def _title(row: ConfigurationRow) -> str:
    """`fast (digits)` for runs of `mmctl run digits --name fast`."""
    return f"{', '.join(row['names'])} ({row['recipe']})" if row["names"] else row["recipe"]


def _range(low: float | None, high: float | None, name: str, sign: bool = False) -> str:
    return "" if low is None or high is None else f"{figure(low, name, sign)} .. {figure(high, name, sign)}"


def _range_of(test: Against | None, name: str) -> str:
    return _range(test["low"], test["high"], name, sign=True) if test else ""


def _published(value: Published | None, name: str, out: Console) -> str:
    if value is None:
        return ""
    distance = f" ({figure(value['distance'], name, sign=True)})" if "distance" in value else ""
    return spread(value["value"], value["std"], name, out) + distance


def _unfinished(row: ConfigurationRow) -> str:
    return ", ".join(f"{count} {printable(state)}" for state, count in row["counts"].items() if state != "completed")


def _method(row: ConfigurationRow) -> str:
    method = printable(row["method"]).removeprefix("mmctl:")
    return "" if method == row["recipe"] else method


def _print_runs(panel: Panel, rows: Sequence[Named], out: Console) -> None:
    runs = [(shown, run) for shown, row in rows for run in row["runs"]]
    print_line(out, "\nRuns")
    columns = [
        column("recipe", runs, lambda pair: pair[0]),
        column("seed", runs, lambda pair: str(pair[1]["seed"]), right=True),
        column("split", runs, lambda pair: printable(pair[1]["split_hash"])[:8], 3),
        column("state", runs, lambda pair: _state(pair[1])),
    ]
    for number, metric in enumerate(panel["metrics"]):
        title = printable(metric["metric"])
        columns.append(column(title, runs, partial(_value, number, metric["metric"]), right=True))
    columns.append(column("run", runs, lambda pair: printable(pair[1]["uid"]), 4))
    print_table(columns, out)


def _state(run: ComparedRun) -> str:
    skipped = run["state"] == "completed" and not run["counted"]
    return printable(run["state"]) + (" (not counted)" if skipped else "")


def _value(number: int, name: str, pair: tuple[str, ComparedRun]) -> str:
    return figure(pair[1]["values"][number], name.partition("@")[0])


def _print_settings(panel: Panel, rows: Sequence[Named], out: Console, all_keys: bool) -> None:
    settings = list(panel["config"].items())
    if not settings:
        return
    print_line(out, "\nSettings" if all_keys else "\nSettings that differ")
    shown = settings if all_keys else settings[:ROWS]
    columns = [column("key", shown, lambda pair: printable(pair[0]))]
    for number, (name, _) in enumerate(rows):
        columns.append(column(name, shown, partial(_setting, number), number + 1 if number else 0))
    print_table(columns, out)
    if len(settings) > len(shown):
        print_line(out, f"... and {len(settings) - len(shown)} more: --all-keys", "dim")


def _setting(number: int, pair: tuple[str, Sequence[Setting]]) -> str:
    return setting(pair[1][number])
