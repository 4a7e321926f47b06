"""Which recipe is better, by how much, and is that noise: configurations compared over their seeds.

A configuration is the runs that differ only in the seed. Configurations with other data or another number of labels
are in panels of their own and are never averaged or tested against each other. Only completed runs have a value. A run
that did not converge (nc) is counted; it takes part in means as chance level, if that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mmctl.errors import UserError, suggest
from mmctl.report import stats
from mmctl.report.configuration import SeedKey, chance_level, configuration_row, not_converged, values_by_seed
from mmctl.report.results import Against, Comparison, ConfigurationRow, Panel
from mmctl.report.settings import differing_settings
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.store.metrics import LOWER, PEEKED, Metric, check_metric, is_share, metric_values, parse_metric
from mmctl.store.rows import RunRow
from mmctl.store.select import setting
from mmctl.store.store import Store
from mmctl.text import short_literal

TESTS = ("auto", "paired", "welch", "permutation", "none")
SHOWN = 3
"""Settings that are named in a message about a configuration."""
DataKey: TypeAlias = tuple[str, int | None]
"""The data hash and the number of labels: what runs must share to be compared."""


def compare(
    store: Store,
    runs: Sequence[RunRow],
    metrics: Sequence[str],
    *,
    baseline: str | None = None,
    test: str = "auto",
    count_nc: bool = False,
    all_keys: bool = False,
) -> Comparison:
    """Everything `mmctl compare` shows, in one object; metrics are fractions.

    count_nc: runs that did not converge count in accuracy and balanced accuracy, as chance level. Their last evaluation
    would flatter them: it can be older than the collapse.
    """
    if test not in TESTS:
        raise UserError(f'--test "{test}": no such test.{suggest(test, TESTS)} Known: {", ".join(TESTS)}')
    parsed = [parse_metric(text) for text in metrics]
    for metric in parsed:
        check_metric(store, runs, metric)
    configs = store.configs(runs)
    grouped = sorted(_panels(runs, configs).items(), key=lambda item: (item[0][0], item[0][1] or 0))
    panels = [_panel(store, key, list(groups.values()), parsed, configs, count_nc, all_keys) for key, groups in grouped]
    if baseline is not None and not any(_named_by(panel, baseline) for panel in panels):
        rows = [row for panel in panels for row in panel["configurations"]]
        known = {name for row in rows for name in (row["recipe"], *row["names"], row["method"])}
        raise UserError(f'--baseline "{baseline}": no such recipe, method or configuration.{suggest(baseline, known)}')
    for panel in panels:
        base = _baseline(panel, baseline)
        panel["baseline"] = base["config_id"] if base else None
        if base and test != "none":
            for number in range(len(parsed)):
                _test_against(base, panel["configurations"], number, test, is_share(parsed[number].name))
    return {"test": test, "panels": panels}


def _panels(runs: Sequence[RunRow], configs: Mapping[int, Config]) -> dict[DataKey, dict[str, list[RunRow]]]:
    """Runs by their data, then by configuration; a run that failed before it read its data joins its configuration."""
    panel_of = {run["config_id"]: _data_key(run, configs) for run in runs if run["data_hash"]}
    panels: dict[DataKey, dict[str, list[RunRow]]] = {}
    for run in runs:
        own = _data_key(run, configs)
        key = own if run["data_hash"] else panel_of.get(run["config_id"], own)
        panels.setdefault(key, {}).setdefault(run["config_id"], []).append(run)
    return panels


def _data_key(run: RunRow, configs: Mapping[int, Config]) -> DataKey:
    labels: Setting = run["labeled"]
    if labels is None:
        labels = setting(configs[run["id"]], "split.labels")
    return run["data_hash"] or "", labels if isinstance(labels, int) else None


def _panel(
    store: Store,
    key: DataKey,
    groups: Sequence[Sequence[RunRow]],
    metrics: Sequence[Metric],
    configs: Mapping[int, Config],
    count_nc: bool,
    all_keys: bool,
) -> Panel:
    completed = [run for runs in groups for run in runs if run["state"] == "completed"]
    found = [metric_values(store, completed, metric) for metric in metrics]
    published = store.published([runs[-1] for runs in groups])
    notes: list[str] = []
    rows: list[ConfigurationRow] = []
    newest = {runs[-1]["config_id"]: runs[-1] for runs in groups}
    for runs in groups:
        failed = [run for run in runs if not_converged(run)]
        chances = [chance_level(store, metric, failed) if count_nc else None for metric in metrics]
        values = [held for held, _ in found]
        rows.append(configuration_row(runs, key[1], metrics, values, chances, published[runs[-1]["id"]], notes))
    notes += [f"{m.text}: {PEEKED}" for m in metrics if m.peeks]
    rows.sort(key=lambda row: _rank(row["values"][0]["mean"], metrics[0]))
    settings = differing_settings([store.about(newest[row["config_id"]]) for row in rows], all_keys)
    used: list[Setting] = [" and ".join(row["hardware"]) or None for row in rows]
    if any(one != used[0] for one in used):
        settings = {"(hardware)": used, **settings}
    parents = store.parents(list(newest.values()))
    extends = [(one := parents.get(newest[row["config_id"]]["id"])) and f"a run of {one['step']} steps" for row in rows]
    if any(extends):
        settings = {"(extends)": list(extends), **settings}
    example = next((run for runs in groups for run in runs if run["data_hash"]), None)
    config = configs[example["id"]] if example else {}
    return {
        "data_hash": key[0] or None,
        "dataset": str(setting(config, "dataset.name") or "").removeprefix("mmctl:") or None,
        "labels": key[1],
        "metrics": [
            {
                "metric": metric.text,
                "reducer": reducer,
                "words": metric.words(reducer),
                "interval": "Student t" + (", cut at 0 and 1 (differences: -1 and 1)" if is_share(metric.name) else ""),
            }
            for metric, (_, reducer) in zip(metrics, found, strict=True)
        ],
        "configurations": rows,
        "notes": notes,
        "baseline": None,
        "config": settings,
    }


def _rank(mean: float | None, metric: Metric) -> tuple[bool, float]:
    """The better, the earlier; a missing or infinite mean comes last."""
    if mean is None or not math.isfinite(mean):
        return True, 0.0
    return False, mean if metric.name.endswith(LOWER) else -mean


def _named_by(panel: Panel, name: str) -> list[ConfigurationRow]:
    """The configurations that a name means: an id, a name, a recipe, a method, or the beginning of a run id."""
    rows = panel["configurations"]
    for found in (
        [row for row in rows if row["config_id"] == name],
        [row for row in rows if row["names"] == [name]],
        [row for row in rows if row["recipe"] == name],
        [row for row in rows if row["method"] == name],
    ):
        if found:
            return found
    return [row for row in rows if any(run["uid"].startswith(name) for run in row["runs"])]


def _baseline(panel: Panel, name: str | None) -> ConfigurationRow | None:
    if name is None:
        plain = [row for row in panel["configurations"] if row["method"].split(":")[-1] == "supervised"]
        return plain[0] if len(plain) == 1 else None
    found = _named_by(panel, name)
    if len(found) > 1:
        head = f'--baseline "{name}": matches {len(found)} configurations; give the id of one:'
        raise UserError(head, *(f"  {_described(row, panel)}" for row in found))
    return found[0] if found else None


def _described(row: ConfigurationRow, panel: Panel) -> str:
    """A configuration in one line: its id, names, runs, and what distinguishes it from the others."""
    at = panel["configurations"].index(row)
    settings = [
        f"{key}={short_literal(values[at])}" for key, values in panel["config"].items() if values[at] is not None
    ]
    names = " ".join(dict.fromkeys((row["recipe"], *row["names"])))
    words = [names, f"method {row['method']}", f"{len(row['runs'])} runs", *settings[:SHOWN]]
    return f"{row['config_id']}  {', '.join(words)}"


def _test_against(
    base: ConfigurationRow, rows: Sequence[ConfigurationRow], number: int, test: str, share: bool
) -> None:
    """Add the difference to the baseline, the test and p to each other row; Holm's p where several are tested.

    share: the metric is a share, so that no difference is below -1 or above 1.
    """
    theirs = values_by_seed(base["runs"], number)
    tested: list[Against] = []
    for row in rows:
        ours = values_by_seed(row["runs"], number)
        if row is base or not ours or not theirs or not all(map(math.isfinite, (*ours.values(), *theirs.values()))):
            continue
        found = _test(ours, theirs, test)
        if found is None:  # one run a side, or no shared seeds: there is a difference, but no test of it
            diff = stats.mean(list(ours.values())) - stats.mean(list(theirs.values()))
            n = min(len(ours), len(theirs))
            found = {"name": "none", "n": n, "diff": diff, "low": None, "high": None, "p": None, "p_min": 1.0}
        if share and found["low"] is not None and found["high"] is not None:
            found |= {"low": max(found["low"], -1.0), "high": min(found["high"], 1.0)}
        against: Against = {**found, "p_holm": None}
        row["values"][number]["against"] = against
        if found["p"] is not None:
            tested.append(against)
    if len(tested) > 1:
        for against, p in zip(tested, stats.holm([one["p"] for one in tested if one["p"] is not None]), strict=True):
            against["p_holm"] = p


def _test(ours: Mapping[SeedKey, float], theirs: Mapping[SeedKey, float], test: str) -> stats.Outcome | None:
    pairs = stats.shared(ours, theirs)
    if test == "permutation":
        if len(pairs) > stats.EXACT:
            limit = f"takes at most {stats.EXACT} pairs, but there are {len(pairs)}"
            raise UserError(f"--test permutation {limit}; use --test paired.")
        return stats.permutation(pairs)
    if test == "paired" or (test == "auto" and ours.keys() == theirs.keys()):
        return stats.paired(pairs)
    return stats.welch(list(ours.values()), list(theirs.values()))
