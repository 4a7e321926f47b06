"""Which values of a resolved recipe change the result; the others say how a run is executed or shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

EXECUTION = frozenset({
    "name", "note", "extends", "requires", "launcher", "published", "dataset.root", "train.device", "train.threads",
    "train.capture", "train.compile", "train.log_every", "train.save_every", "train.keep", "train.keep_best",
    "eval.batch", "eval.primary", "eval.nc_as",
})  # fmt: skip
"""Tables and keys that do not change the result."""

COUNTED_BEFORE = ("eval.primary",)
"""Keys that were part of the hash in older versions of mmctl."""


@cache
def matters(key: str) -> bool:
    """Whether a dotted key changes the result. The seed does not count: it distinguishes runs of one configuration."""
    return key != "seed" and key not in EXECUTION and key.partition(".")[0] not in EXECUTION


def config_id_of(
    data: Mapping[str, Any],
    components: Sequence[Mapping[str, Any]] = (),
    also: Collection[str] = (),
    parent: Mapping[str, Any] | None = None,
) -> str:
    """Short hash of what a run computes, without the seed.

    A plugin counts with its version and the hashes of its file and of the files of its own that it imports.

    Runs with the same one differ only in their seed. also: keys of EXECUTION that count all the same.
    parent: of a run that extends another, whose configuration and step count too: its schedules differ.
    """
    kept = {
        name: {key: value for key, value in table.items() if matters(f"{name}.{key}") or f"{name}.{key}" in also}
        if isinstance(table, dict)
        else table
        for name, table in data.items()
        if matters(name)
    }
    foreign = [
        [c["kind"], c["slot"], c["version"], c["file_hash"], *([c["helpers"]] if c.get("helpers") else [])]
        for c in components
        if c["origin"] != "mmctl"
    ]
    counted: object = [kept, foreign] if foreign else kept
    if parent is not None:
        counted = {"extends": [parent["config_id"], parent["step"]], "recipe": counted}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def config_ids_of(
    data: Mapping[str, Any], components: Sequence[Mapping[str, Any]], parent: Mapping[str, Any] | None = None
) -> set[str]:
    """The hashes that this and older versions of mmctl give to a configuration."""
    return {config_id_of(data, components, also, parent) for also in ((), COUNTED_BEFORE)}
