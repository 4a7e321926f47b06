"""Settings of runs as flat tables that can be compared line by line."""

from __future__ import annotations

from collections.abc import Sequence

from mmctl.identity import matters
from mmctl.run_folder.upgrade import Setting
from mmctl.run_folder.values import flatten
from mmctl.store.rows import StoredRecord

VERSION = "version of "
SHOWN = 8
"""Digits of the hash of a file, so that a line has room for several files."""


def versions(about: StoredRecord) -> dict[str, Setting]:
    """`version of labeler` -> name, version and hashes of its files, for each component in a run.json."""
    found: dict[str, Setting] = {}
    for part in about["components"]:
        where = ".".join(str(part[key]) for key in ("kind", "slot") if part.get(key))
        words = [str(part[key]) for key in ("name", "version") if part.get(key)]
        words += [str(part["file_hash"])[:SHOWN]] if part.get("file_hash") else []
        helpers = part.get("helpers")
        words += (
            [f"{name} {str(digest)[:SHOWN]}" for name, digest in helpers.items()] if isinstance(helpers, dict) else []
        )
        found[VERSION + where] = " ".join(words)
    return found


def differing_settings(abouts: Sequence[StoredRecord], all_keys: bool) -> dict[str, list[Setting]]:
    """The settings in which some runs differ (or all), each with its value in each run; None where it has none.

    Runs with equal settings may differ in the version of a plugin; that is listed too.
    """
    flat = [
        {key: value for key, value in flatten(about["config"]).items() if matters(key)} | versions(about)
        for about in abouts
    ]
    keys = sorted({key for table in flat for key in table})
    rows = {key: [table.get(key) for table in flat] for key in keys}
    # Where the components themselves differ, their names say so already, and their versions add nothing.
    names = {
        key: {str(value).split()[0] for value in row if value} for key, row in rows.items() if key.startswith(VERSION)
    }
    kept = {key: row for key, row in rows.items() if key not in names or (None not in row and len(names[key]) == 1)}
    return {key: row for key, row in kept.items() if all_keys or any(value != row[0] for value in row)}
