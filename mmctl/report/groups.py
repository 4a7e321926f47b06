"""Which runs are compared with which: panels of the same data, and in them configurations, or groups by --by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from mmctl.errors import UserError, suggest
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import flatten
from mmctl.store.rows import RunRow
from mmctl.store.select import setting

DataKey: TypeAlias = tuple[str, int | None]
"""The data hash and the number of labels: what runs must share to be compared."""
Groups: TypeAlias = dict[DataKey, dict[str, list[RunRow]]]
BY = {
    "config": "config_id", "recipe": "recipe", "method": "method", "labeler": "labeler", "name": "name",
    "device": "device", "precision": "precision", "host": "host",
}  # fmt: skip


def panels_of(runs: Sequence[RunRow], configs: Mapping[int, Config], by: Sequence[str]) -> Groups:
    """Runs by their data, then by configuration or by what --by names; UserError if no run has such a setting.

    A run that failed before it read its data joins the others of its configuration. A run whose folder was edited
    stands alone.
    """
    group_of = _grouping(runs, configs, by)
    panel_of = {run["config_id"]: data_key(run, configs) for run in runs if run["data_hash"]}
    panels: Groups = {}
    for run in runs:
        own = data_key(run, configs)
        key = own if run["data_hash"] else panel_of.get(run["config_id"], own)
        panels.setdefault(key, {}).setdefault(group_of(run), []).append(run)
    return dict(sorted(panels.items(), key=lambda item: (item[0][0], item[0][1] or 0)))


def data_key(run: RunRow, configs: Mapping[int, Config]) -> DataKey:
    """What other runs must share with a run to be compared with it."""
    labels: Setting = run["labeled"]
    if labels is None:
        labels = setting(configs[run["id"]], "split.labels")
    return run["data_hash"] or "", labels if isinstance(labels, int) else None


def _grouping(runs: Sequence[RunRow], configs: Mapping[int, Config], by: Sequence[str]) -> Callable[[RunRow], str]:
    """The id of the group of a run: its configuration, or the values that --by names, as `optimizer.lr=0.03`."""
    if list(by) == ["config"]:
        return lambda run: run["config_id"]
    for field in by:
        if field in BY:
            continue
        key = field.removeprefix("cfg.")
        if not field.startswith("cfg.") or (runs and all(setting(configs[run["id"]], key) is None for run in runs)):
            known = {f"cfg.{key}" for config in configs.values() for key in flatten(config)}
            listed = ", ".join(BY)
            raise UserError(f'--by "{field}": no such field.{suggest(field, known | set(BY))} Known: {listed}, cfg.KEY')

    def named(run: RunRow) -> str:
        if run["altered"]:
            return run["config_id"]
        return ", ".join(f"{field.removeprefix('cfg.')}={_value(run, configs, field)}" for field in by)

    return named


def _value(run: RunRow, configs: Mapping[int, Config], field: str) -> str:
    """The value of a field; recipes are read only for cfg.KEY, so that `configs` may lack runs otherwise."""
    value = run[BY[field]] if field in BY else setting(configs[run["id"]], field.removeprefix("cfg."))  # type: ignore[literal-required]
    return str(value).removeprefix("mmctl:")
