"""What `mmctl plot` shows of some runs, as charts: curves over the seeds, bars, confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from mmctl.errors import UserError, suggest
from mmctl.identity import matters
from mmctl.report.charts import Bar, BarChart, HeatMap, Line, LineChart, number
from mmctl.report.comparison import Comparison
from mmctl.report.equal_compute import X, amount_at, clock_of
from mmctl.report.seed_curves import BANDS, MOST_POINTS, mean_line, smoothed
from mmctl.run_folder.values import flatten
from mmctl.store.metrics import check_metric, is_share, parse_metric, series_name, short_name
from mmctl.store.read_curves import read_curves
from mmctl.store.rows import RunRow
from mmctl.store.store import Store
from mmctl.text import short_literal

MOST_LINES = 12
"""As many as differ in colour or dashes."""
MOST_MATRICES = 6
Matrix: TypeAlias = list[list[int]]
"""Images by true class (row) and predicted class (column)."""
PSEUDO_LABELS = ("train/guess_accuracy", "train/guess_kept")
"""The share of pseudo-labels that are right, and of unlabelled images that have one."""
WORDS = {
    "train/guess_accuracy": "accuracy of the pseudo-labels",
    "train/guess_kept": "share of unlabelled images with a pseudo-label",
}


def line_chart(
    store: Store,
    runs: Sequence[RunRow],
    metric: str,
    notes: list[str],
    *,
    axis: str = "steps",
    band: str = "std",
    smooth: float = 0.0,
    log: bool = False,
    per_seed: bool = False,
    numbered: bool = False,
    most: int = MOST_POINTS,
) -> LineChart:
    """A metric over the steps: a line for each configuration, the mean over its seeds with a band, or for each run.

    axis: one of equal_compute.X; band: one of BANDS, std and interval (95 %) around the mean; smooth: from 0 (not) to
    below 1, the weight of what came before in a running mean of each run; notes: gets what a reader must know; most:
    so many points of each curve; numbered: each line is called by the number of its newest run, too.
    """
    for word, allowed, option in ((band, BANDS, "--band"), (axis, X, "--x")):
        if word not in allowed:
            raise UserError(f'{option} "{word}": unknown.{suggest(word, allowed)} Known: {", ".join(allowed)}')
    if not 0 <= smooth < 1:
        raise UserError(f"--smooth {smooth:g}: give 0 (not at all) to 0.99; 1 would leave a flat line.")
    measure = parse_metric(metric)
    if measure.reducer:
        raise UserError(f'"{metric}": a curve shows all values: leave out "@...". With --bars it is one number.')
    check_metric(store, runs, measure)
    names = curve_names(store, runs, metric)
    drawn = [run for run in runs if run["id"] in names]
    groups = [[run] for run in drawn] if per_seed else seed_groups(drawn, notes)
    if len(groups) > MOST_LINES:
        notes.append(f"the newest {MOST_LINES} of {len(groups)} lines are shown; a filter chooses others")
    groups = groups[-MOST_LINES:]
    shown = [run for group in groups for run in group]
    curves = read_curves(store, shown, set(names.values()), most)
    configs = store.configs(shown)
    clocks = {run["id"]: clock_of(store, run, configs[run["id"]], axis) for run in shown}
    share = is_share(measure.name)
    lines: list[Line] = []
    for title, group in zip(group_titles(store, groups, per_seed, numbered), groups, strict=True):
        placed = []
        for run in group:
            clock, curve = clocks[run["id"]], smoothed(curves[run["id"], names[run["id"]]], smooth)
            points = [(amount_at(clock, step), y) for step, y in curve]
            placed.append([point for point in points if math.isfinite(point[0])])
        if not all(placed):
            notes.append(f"{title}: {axis} are not known yet of {sum(not one for one in placed)} of {len(group)} runs")
        line, fewer = mean_line(title, [one for one in placed if one], band, share)
        own = [group[0]["uid"]] if per_seed else []
        lines.append(replace(line, key=(group[0]["config_id"], group[0]["data_hash"] or "", *own)))
        if fewer is not None:
            notes.append(f"{title}: from {number(fewer)} {axis} on, the mean is over fewer runs")
    words = WORDS.get(measure.name) or metric
    if band != "none" and any(line.band for line in lines):
        kinds = {"std": "mean \u00b1 standard deviation", "interval": "mean, 95 % interval", "range": "mean, all runs"}
        words += f" ({kinds[band]})"
    unit = ", %" if share else ""
    return LineChart(words, lines, axis, (short_name(measure.name)) + unit, share, log)


def curve_names(store: Store, runs: Sequence[RunRow], metric: str) -> dict[int, str]:
    """The full name of the curve of this metric for each run that has it, by run id."""
    name = parse_metric(metric).name
    names = {run["id"]: series_name(name, run["primary_metric"]) for run in runs}
    known = store.summaries(sorted(set(names.values())), runs)
    return {id: name for id, name in names.items() if (id, name) in known}


def bar_charts(found: Comparison) -> list[BarChart]:
    """The means of the first metric of `mmctl compare`, with their intervals.

    A chart for each data set and number of labels.
    """
    charts = []
    for panel in found["panels"]:
        about = panel["metrics"][0]
        metric = about["metric"]
        share = is_share(parse_metric(metric).name)
        bars = []
        rows = [row for row in panel["configurations"] if row["values"][0]["mean"] is not None]
        shown = [" ".join(dict.fromkeys((row["recipe"], *row["names"][:2]))) for row in rows]
        for row, title in zip(rows, shown, strict=True):
            figures = row["values"][0]
            title += f" {row['config_id'][:6]}" if shown.count(title) > 1 else ""
            title += f" (n = {figures['n']})"
            bars.append(Bar(title, figures["mean"] or 0.0, figures["low"], figures["high"]))
        what = ", ".join(
            part
            for part in (panel["dataset"], f"{panel['labels']} labels" if panel["labels"] is not None else None)
            if part
        )
        unit = ", %" if share else ""
        if bars:
            charts.append(BarChart(f"{metric}: {what}", bars, f"{metric}{unit}: {about['words']}", share))
    return charts


def confusion_charts(store: Store, runs: Sequence[RunRow], notes: list[str]) -> list[HeatMap]:
    """The confusion matrix of each configuration: the last evaluation of each seed, rows that sum to 1."""
    groups: list[list[tuple[RunRow, Matrix]]] = []
    for seeds in reversed(seed_groups(runs, [])):
        if found := with_matrix(store, seeds):
            groups.insert(0, found)
        if len(groups) > MOST_MATRICES:
            break
    shown = groups[-MOST_MATRICES:]
    titles = group_titles(store, [[run for run, _ in group] for group in shown], False)
    return matrix_charts(store, list(zip([""] * (len(groups) - len(shown)) + titles, groups, strict=True)), notes)


def matrix_charts(
    store: Store, groups: Sequence[tuple[str, Sequence[tuple[RunRow, Matrix]]]], notes: list[str]
) -> list[HeatMap]:
    """The summed confusion matrices of each configuration: its title, and its runs with their matrices, at least one.

    Of more than MOST_MATRICES, the newest are drawn, and `notes` gets a sentence.
    """
    charts = []
    if len(groups) > MOST_MATRICES:
        notes.append(f"the newest {MOST_MATRICES} matrices are shown; a filter chooses others")
    for title, group in groups[-MOST_MATRICES:]:
        size = len(group[0][1])
        counted = [matrix for _, matrix in group if len(matrix) == size]
        sums = [[sum(matrix[n][m] for matrix in counted) for m in range(size)] for n in range(size)]
        cells = [[count / sum(row) if sum(row) else math.nan for count in row] for row in sums]
        run, first = group[0]
        names = class_names(store, run, first)
        where = ", ".join(run["primary_metric"].split("/")[:3])
        charts.append(HeatMap(f"confusion, %: {title} ({where})", cells, names, names))
    return charts


def class_names(store: Store, run: RunRow, matrix: Matrix) -> list[str]:
    """What the rows of a confusion matrix are called: the classes of the data set, or numbers if they do not fit."""
    known = store.data(run).get("classes")
    if isinstance(known, list) and len(known) == len(matrix):
        return [str(one) for one in known]
    return [str(n) for n in range(len(matrix))]


def with_matrix(store: Store, runs: Sequence[RunRow]) -> list[tuple[RunRow, Matrix]]:
    """The runs that have a confusion matrix, with the newest of their primary split, weights and predictor."""
    found = []
    for run in runs:
        wanted = run["primary_metric"].split("/")[:3]
        for one in reversed(store.evaluations(run)):
            matrix = one["confusion"]
            if [one["split"], one["weights"], one["predictor"]] == wanted and matrix is not None and _is_square(matrix):
                found.append((run, matrix))
                break
    return found


def _is_square(matrix: object) -> bool:
    """Whether something from a journal is a table of counts."""
    return (
        isinstance(matrix, list)
        and len(matrix) > 0
        and all(isinstance(row, list) and len(row) == len(matrix) for row in matrix)
        and all(isinstance(n, int) and 0 <= n < 2**53 for row in matrix for n in row)
    )


def seed_groups(runs: Sequence[RunRow], notes: list[str]) -> list[list[RunRow]]:
    """Runs by configuration and data; of several runs of a seed the newest that is completed, else the newest."""
    groups: dict[tuple[str, str | None], dict[tuple[int | None, str | None], RunRow]] = {}
    repeated = 0
    for run in runs:
        group = groups.setdefault((run["config_id"], run["data_hash"]), {})
        key = (run["seed"], run["split_hash"])
        before = group.pop(key, None)
        repeated += before is not None
        keep = before is not None and before["state"] == "completed" and run["state"] != "completed"
        group[key] = before if keep and before else run
    if repeated:
        notes.append(f"{repeated} run{'s repeat' if repeated > 1 else ' repeats'} a seed; one run of each seed counts")
    return [list(group.values()) for group in groups.values()]


def group_titles(store: Store, groups: Sequence[Sequence[RunRow]], per_seed: bool, numbered: bool = False) -> list[str]:
    """What each line is called: the recipe, what tells equal recipes apart, and the seeds behind it.

    per_seed: equal titles get the number of the run; numbered: all titles do.
    """
    newest = [group[-1] for group in groups]
    recipes = [run["recipe"] or run["name"] for run in newest]
    titles = list(recipes)
    for recipe in {recipe for recipe in recipes if recipes.count(recipe) > 1}:
        same = [n for n, one in enumerate(recipes) if one == recipe]
        if len({newest[n]["config_id"] for n in same}) < 2:
            continue
        configs = store.configs([newest[n] for n in same])
        flat = {n: {k: v for k, v in flatten(configs[newest[n]["id"]]).items() if matters(k)} for n in same}
        differing = [key for key in flat[same[0]] if any(flat[n].get(key) != flat[same[0]][key] for n in same)]
        for n in same:
            parts = [f"{key.rpartition('.')[2]}={short_literal(flat[n].get(key))}" for key in differing[:2]]
            titles[n] += f" {', '.join(parts) or newest[n]['config_id'][:6]}"
    for n, group in enumerate(groups):
        if len(group) == 1:
            titles[n] += f", seed {group[0]['seed']}"
        else:
            titles[n] += f", {len(group)} seeds"
    if per_seed or numbered:
        return [
            f"#{run['number']} {title}" if numbered or titles.count(title) > 1 else title
            for run, title in zip(newest, titles, strict=True)
        ]
    return titles
