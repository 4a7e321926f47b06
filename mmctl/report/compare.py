"""Which recipe is better, by how much, and is that noise: configurations compared over their seeds.

A configuration is the runs that differ only in the seed. Configurations with other data or another number of labels
are in panels of their own and are never averaged or tested against each other. Only completed runs have a value. A run
that did not converge (nc) is counted and shown; it takes part in means as its recipe says (eval.nc_as) or as chance
level, if that is asked for, and never makes a configuration rank higher.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmctl.errors import UserError, suggest
from mmctl.report.against import TESTS, baseline_of, compare_with_baseline, named_by
from mmctl.report.comparison import Comparison, Compute, ConfigurationRow, Panel
from mmctl.report.configuration import Row, configuration_row, nc_counts, not_converged, rank
from mmctl.report.equal_compute import check_x, equal_compute
from mmctl.report.groups import DataKey, panels_of
from mmctl.report.per_image import add_per_image
from mmctl.report.settings import Flat, compared_settings, flat_settings
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.store.metrics import LOWER, PEEKED, Metric, check_metric, is_share, metric_values, parse_metric
from mmctl.store.rows import RunRow
from mmctl.store.select import setting
from mmctl.store.store import Store

SORTS = ("recipe", "n", "std", "delta", "effect", "p")


@dataclass(frozen=True)
class How:
    """How to compare: the options of `mmctl compare`.

    baseline: an id, name, recipe or method; level: of all intervals; by: fields of groups.BY and cfg.KEY; x and at:
    equal compute; sort: a metric or one of SORTS, with - in the opposite order; count_nc: runs that did not converge
    count in accuracy and balanced accuracy; per_image: compare the stored predictions too.
    """

    baseline: str | None = None
    test: str = "auto"
    level: float = 0.95
    by: Sequence[str] = ("config",)
    x: str | None = None
    at: float | None = None
    sort: str | None = None
    count_nc: bool = False
    all_keys: bool = False
    per_image: bool = False


def compare(store: Store, runs: Sequence[RunRow], metrics: Sequence[str], how: How | None = None) -> Comparison:
    """Everything `mmctl compare` shows, in one object; metrics are fractions. UserError for a wrong option."""
    how = how or How()
    if how.test not in TESTS:
        raise UserError(f'--test "{how.test}": no such test.{suggest(how.test, TESTS)} Known: {", ".join(TESTS)}')
    if not 0 < how.level < 1:
        raise UserError(f"level {how.level:g}: is not a share between 0 and 1, such as 0.95 for 95 % intervals.")
    check_x(how.x, how.at)
    if how.x and how.per_image:
        raise UserError("--per-example: predictions are stored of the last evaluation, which --x does not read.")
    parsed = [parse_metric(text) for text in dict.fromkeys(metrics)]
    for metric in parsed:
        if how.x and metric.reducer == "step":
            raise UserError(f'"{metric.text}": @step= chooses a step, and so does --x; leave out one of them.')
    _check_sort(how.sort, parsed)
    configs = store.configs(_configs_needed(runs, how))
    made = [
        _panel(store, key, list(groups.items()), parsed, configs, how)
        for key, groups in panels_of(runs, configs, how.by).items()
    ]
    panels = [panel for panel, _ in made]
    for number, metric in enumerate(parsed):
        if not any(row["values"][number]["n"] for panel in panels for row in panel["configurations"]):
            check_metric(store, runs, metric)
    settings = compared_settings([flats for _, flats in made], how.all_keys)
    if how.baseline is not None and not any(named_by(panel, how.baseline) for panel in panels):
        rows = [row for panel in panels for row in panel["configurations"]]
        known = {name for row in rows for name in (row["recipe"], *row["names"], row["method"])}
        close = suggest(how.baseline, known)
        raise UserError(f'--baseline "{how.baseline}": no such recipe, method or configuration.{close}')
    described = {
        id: dict(zip(settings["keys"], column["values"], strict=True))
        for column in settings["columns"]
        for id in column["config_ids"]
    }
    for panel in panels:
        base = baseline_of(panel, how.baseline, described)
        panel["baseline"] = base["config_id"] if base else None
        if base and how.test != "none":
            for number, metric in enumerate(parsed):
                share = is_share(metric.name)
                compare_with_baseline(base, panel["configurations"], number, how.test, how.level, share)
        if how.per_image:
            add_per_image(store, panel, runs, parsed, how.level)
        _sort(panel["configurations"], how.sort, parsed)
    return {"test": how.test, "level": how.level, "by": list(how.by), "panels": panels, "settings": settings}


def _configs_needed(runs: Sequence[RunRow], how: How) -> list[RunRow]:
    """The runs whose recipe is read: all, or the newest of each configuration and data, and those without data yet."""
    if how.x or any(field.startswith("cfg.") for field in how.by):
        return list(runs)
    newest = {(run["config_id"], run["data_hash"]): run["id"] for run in runs}
    wanted = set(newest.values())
    return [run for run in runs if run["id"] in wanted or run["labeled"] is None]


def _panel(
    store: Store,
    key: DataKey,
    groups: Sequence[tuple[str, Sequence[RunRow]]],
    metrics: Sequence[Metric],
    configs: Mapping[int, Config],
    how: How,
) -> tuple[Panel, list[Flat]]:
    completed = [run for _, runs in groups for run in runs if run["state"] == "completed"]
    notes: list[str] = []
    compute: Compute | None = None
    limits: dict[int, int] | None = None
    if how.x is not None:
        compute, limits, notes = equal_compute(store, completed, configs, how.x, how.at)
    found = [metric_values(store, completed, metric, limits) for metric in metrics]
    if limits is not None and compute is not None:
        within = f"within {compute['amount']:,.6g} {compute['x']}"
        early = [one for one in completed if one["id"] in limits and not any(one["id"] in held for held, _ in found)]
        notes += [f"not counted: {run['uid']} has no evaluation {within}" for run in early]
    newest = [runs[-1] for _, runs in groups]
    published, parents, components = store.published(newest), store.parents(newest), store.components(newest)
    rows: list[tuple[tuple[int, float], ConfigurationRow]] = []
    flats: list[Flat] = []
    for title, runs in groups:
        last, failed = runs[-1], [run for run in runs if not_converged(run)]
        counts = [nc_counts(store, metric, failed, configs[last["id"]]) for metric in metrics]
        grouped = title if title != last["config_id"] else None
        about = Row(runs, key[1], metrics, [values for values, _ in found], counts, published[last["id"]], grouped)
        row = configuration_row(about, notes, count_nc=how.count_nc, level=how.level)
        rows.append((rank(row["values"][0], counts[0], metrics[0].name.endswith(LOWER)), row))
        more: dict[str, Setting] = {"(hardware)": " and ".join(row["hardware"])} if row["hardware"] else {}
        parent = parents.get(last["id"])
        more["(extends)"] = f"a run of {parent['step']} steps" if parent else None
        if row["configurations"] == 1:  # a group of several has no settings of its own
            flats.append(flat_settings(row, configs[last["id"]], components[last["id"]], more))
    notes += [f"{m.text}: {PEEKED}" for m in metrics if m.peeks]
    example = next((run for _, runs in groups for run in reversed(runs) if run["data_hash"]), None)
    config = configs[example["id"]] if example else {}
    rows.sort(key=lambda pair: pair[0])
    places = {id(row): place for place, (_, row) in enumerate(rows)}
    panel: Panel = {
        "data_hash": key[0] or None,
        "dataset": str(setting(config, "dataset.name") or "").removeprefix("mmctl:") or None,
        "labels": key[1],
        "compute": compute,
        "metrics": [
            {
                "metric": metric.text,
                "reducer": reducer,
                "words": metric.words(reducer),
                "interval": "Student t" + (", cut at 0 and 1 (differences: -1 and 1)" if is_share(metric.name) else ""),
            }
            for metric, (_, reducer) in zip(metrics, found, strict=True)
        ],
        "configurations": [row for _, row in rows],
        "notes": notes,
        "baseline": None,
    }
    return panel, sorted(flats, key=lambda flat: places[id(flat.row)])


def _check_sort(sort: str | None, metrics: Sequence[Metric]) -> None:
    known = (*SORTS, *(metric.text for metric in metrics))
    if sort is not None and sort.removeprefix("-") not in known:
        raise UserError(f'--sort "{sort}": no such column.{suggest(sort, known)} Known: {", ".join(known)}')


def _sort(rows: list[ConfigurationRow], sort: str | None, metrics: Sequence[Metric]) -> None:
    """Put the rows in the order of a column, the best or largest first; those without a value come last."""
    word = (sort or "").removeprefix("-")
    texts = [metric.text for metric in metrics]
    if sort is None or (word == texts[0] and sort == word):
        return  # by the first metric they are in order, where runs that did not converge count
    if word == "recipe":
        rows.sort(key=lambda row: (row["recipe"], row["names"]), reverse=sort != word)
        return
    number = texts.index(word) if word in texts else 0
    lower = metrics[number].name.endswith(LOWER)

    def value(row: ConfigurationRow) -> tuple[bool, float]:
        figures = row["values"][number]
        held: dict[str, float | None] = {"n": figures["n"], "std": figures["std"], "mean": figures["mean"]}
        if (against := figures.get("against")) is not None:
            held |= {"delta": against["diff"], "effect": against["effect"], "p": against["p"]}
        found = held.get("mean" if word in texts else word)
        if found is None or not math.isfinite(found):
            return True, 0.0
        down = word == "n" or (word in ("delta", "effect", *texts) and not lower)
        return False, (-1 if down != (sort != word) else 1) * found

    rows.sort(key=value)
