"""Settings of runs as flat tables, and those that differ between compared configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from mmctl.identity import matters
from mmctl.report.comparison import ComparedSettings, ConfigurationRow, SettingsColumn
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import flatten

VERSION = "version of "
SHOWN = 8
"""Digits of the hash of a file, so that a line has room for several files."""
EXACT, CYCLIC, SWA = ("centroids.estimator", "exact"), ("schedule.name", "cyclic"), ("average.kind", "swa")
ONLY_WITH: dict[str, tuple[str, str]] = {
    "split.file": ("split.rule", "file"), "split.fold": ("split.rule", "official"),
    "centroids.every": EXACT, "centroids.images": EXACT, "centroids.network": EXACT,
    "optimizer.momentum": ("optimizer.name", "sgd"), "optimizer.nesterov": ("optimizer.name", "sgd"),
    "optimizer.betas": ("optimizer.name", "adam adamw"), "optimizer.eps": ("optimizer.name", "adam adamw"),
    "schedule.final": ("schedule.name", "cosine"),
    "schedule.horizon": CYCLIC, "schedule.start": CYCLIC, "schedule.cycle": CYCLIC,
    "average.decay": ("average.kind", "ema"), "average.warmup": ("average.kind", "ema"),
    "average.start": SWA, "average.every": SWA, "average.buffers": ("average.kind", "ema swa"),
}  # fmt: skip
"""Settings that matter only if another one has one of these values."""
UNLABELED = ("train.unlabeled_batch", "split.unlabeled")
"""Settings that do not matter to supervised training, which draws no unlabelled images."""
OWN_COMPONENT = ("loss", "augment")
"""Tables of several components, such as [loss.margin]; any other table is one component."""


class Flat(NamedTuple):
    """The settings that matter to a configuration."""

    row: ConfigurationRow
    settings: Mapping[str, Setting]
    parts: Mapping[str, Setting]  # loss.margin -> name of the component; None: a table without one

    def knows(self, key: str, others: Iterable[Flat]) -> bool:
        """Whether a setting matters here: one that it does not have does if it has the same component as `others`."""
        if key in self.settings:
            return True
        part = _part(key)
        return _may_matter(key, self) and any(
            part in self.parts and self.parts[part] == other.parts.get(part)
            for other in others
            if key in other.settings
        )


def flat_settings(
    row: ConfigurationRow, config: Config, components: Sequence[Config], more: Mapping[str, Setting]
) -> Flat:
    """The settings of a configuration, versions of its components and `more`, as one flat table."""
    every = {key: value for key, value in flatten(config).items() if matters(key)}
    parts = {_part(key): every.get(f"{_part(key)}.name") for key in every}
    whole = Flat(row, every | versions(components) | dict(more), parts)
    return Flat(row, {key: value for key, value in whole.settings.items() if _may_matter(key, whole)}, parts)


def compared_settings(panels: Sequence[Sequence[Flat]], all_keys: bool) -> ComparedSettings:
    """The settings in which configurations of one panel differ (or all), each once, for the rows of all panels.

    Configurations of several panels with the same name and the same values share a column.
    """
    keys = sorted({key for panel in panels for key in _listed(panel, all_keys)})
    columns: dict[str, SettingsColumn] = {}
    for flat in (flat for panel in panels for flat in panel):
        values = [flat.settings.get(key) for key in keys]
        name = repr((flat.row["recipe"], flat.row["names"], flat.row["altered"], values))
        columns.setdefault(name, {"config_ids": [], "values": values})["config_ids"].append(flat.row["config_id"])
    return {"keys": keys, "columns": list(columns.values())}


def versions(components: Sequence[Config]) -> dict[str, Setting]:
    """`version of labeler` -> name, version and hashes of its files, for each component in a run.json."""
    found: dict[str, Setting] = {}
    for part in components:
        where = ".".join(str(part[key]) for key in ("kind", "slot") if part.get(key))
        words = [str(part[key]) for key in ("name", "version") if part.get(key)]
        words += [str(part["file_hash"])[:SHOWN]] if part.get("file_hash") else []
        helpers = part.get("helpers")
        words += (
            [f"{name} {str(digest)[:SHOWN]}" for name, digest in helpers.items()] if isinstance(helpers, dict) else []
        )
        found[VERSION + where] = " ".join(words)
    return found


def _listed(panel: Sequence[Flat], all_keys: bool) -> Iterable[str]:
    """The settings that differ between configurations to which they matter."""
    having: dict[str, list[Flat]] = {}
    for flat in panel:
        for key in flat.settings:
            having.setdefault(key, []).append(flat)
    for key, holders in having.items():
        first = holders[0].settings[key]
        if all_keys:
            if first is not None or not key.startswith("("):  # (extends), where no run extends another
                yield key
        elif key.startswith(VERSION):
            # Where the components themselves differ, their names say so already, and their versions add nothing.
            values = {str(flat.settings[key]) for flat in holders}
            if len(holders) == len(panel) and len(values) > 1 and len({value.split()[0] for value in values}) == 1:
                yield key
        elif any(flat.settings[key] != first for flat in holders) or (
            len(holders) < len(panel) and any(flat.knows(key, holders) for flat in panel if key not in flat.settings)
        ):
            yield key


def _may_matter(key: str, flat: Flat) -> bool:
    if key in UNLABELED:
        return flat.row["method"].split(":")[-1] != "supervised"
    chooser, values = ONLY_WITH.get(key, ("", ""))
    return not chooser or chooser not in flat.settings or str(flat.settings[chooser]) in values.split()


@cache
def _part(key: str) -> str:
    """`loss.margin` of loss.margin.weight, `optimizer` of optimizer.lr."""
    names = key.split(".")
    return ".".join(names[: 2 if names[0] in OWN_COMPONENT else 1])
