"""The baseline of a comparison, and the tests of the other configurations against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mmctl.errors import UserError
from mmctl.report import stats
from mmctl.report.comparison import Against, ConfigurationRow, Panel
from mmctl.report.configuration import SeedKey, values_by_seed
from mmctl.run_folder.upgrade import Setting
from mmctl.text import short_literal

TESTS = ("auto", "paired", "welch", "permutation", "none")
SHOWN = 3
"""Settings that are named in a message about a configuration."""


def named_by(panel: Panel, name: str) -> list[ConfigurationRow]:
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


def baseline_of(
    panel: Panel, name: str | None, settings: Mapping[str, Mapping[str, Setting]]
) -> ConfigurationRow | None:
    """The configuration that a name means, or the only supervised one; UserError if a name means several.

    settings: what differs, by config_id, to tell those several apart.
    """
    if name is None:
        plain = [row for row in panel["configurations"] if row["method"].split(":")[-1] == "supervised"]
        return plain[0] if len(plain) == 1 else None
    found = named_by(panel, name)
    if len(found) > 1:
        head = f'--baseline "{name}": matches {len(found)} configurations; give the id of one:'
        raise UserError(head, *(f"  {_described(row, settings.get(row['config_id'], {}))}" for row in found))
    return found[0] if found else None


def _described(row: ConfigurationRow, settings: Mapping[str, Setting]) -> str:
    """A configuration in one line: its id, names, runs, and what distinguishes it from the others."""
    differing = [f"{key}={short_literal(value)}" for key, value in settings.items() if value is not None]
    names = " ".join(dict.fromkeys((row["recipe"], *row["names"])))
    words = [names, f"method {row['method']}", f"{len(row['runs'])} runs", *differing[:SHOWN]]
    return f"{row['config_id']}  {', '.join(words)}"


def compare_with_baseline(
    base: ConfigurationRow, rows: Sequence[ConfigurationRow], number: int, test: str, level: float, share: bool
) -> None:
    """Add the difference to the baseline, the test and p to each other row; Holm's p where several are tested.

    share: the metric is a share, so that no difference is below -1 or above 1.
    """
    theirs = values_by_seed(base["runs"], number, base["configurations"])
    tested: list[Against] = []
    for row in rows:
        ours = values_by_seed(row["runs"], number, row["configurations"])
        if row is base or not ours or not theirs or not all(map(math.isfinite, (*ours.values(), *theirs.values()))):
            continue
        found = _test(ours, theirs, test, level)
        if found is None:  # one run a side, or no shared seeds: there is a difference, but no test of it
            found = {
                "name": "none", "n": min(len(ours), len(theirs)), "effect": None, "low": None, "high": None, "p": None,
                "diff": stats.mean(list(ours.values())) - stats.mean(list(theirs.values())), "p_min": 1.0,
            }  # fmt: skip
        if share and found["low"] is not None and found["high"] is not None:
            found |= {"low": max(found["low"], -1.0), "high": min(found["high"], 1.0)}
        sides = [one["values"][number] for one in (row, base)]
        left_out = sum(one["nc"] for one in sides if not one["nc_counted"])
        against: Against = {**found, "p_holm": None, "left_out": left_out}
        row["values"][number]["against"] = against
        if found["p"] is not None:
            tested.append(against)
    if len(tested) > 1:
        for against, p in zip(tested, stats.holm([one["p"] for one in tested if one["p"] is not None]), strict=True):
            against["p_holm"] = p


def _test(
    ours: Mapping[SeedKey, float], theirs: Mapping[SeedKey, float], test: str, level: float
) -> stats.Outcome | None:
    pairs = stats.shared(ours, theirs)
    if test == "permutation":
        if len(pairs) > stats.EXACT:
            limit = f"takes at most {stats.EXACT} pairs, but there are {len(pairs)}"
            raise UserError(f"--test permutation {limit}; use --test paired.")
        return stats.permutation(pairs, level)
    if test == "paired" or (test == "auto" and ours.keys() == theirs.keys()):
        return stats.paired(pairs, level)
    return stats.welch(list(ours.values()), list(theirs.values()), level)
