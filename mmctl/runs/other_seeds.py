"""Compares what a new run is computed from with the other seeds of its configuration, before it starts.

Seeds are averaged as if they differed in nothing else; so the user is told where data, split or code are not the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from mmctl import environment
from mmctl.errors import MmctlError
from mmctl.identity import config_id_of
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder.record import Component, Parent
from mmctl.runs.provenance import Provenance
from mmctl.runs.skip_done import Hashes
from mmctl.store.origins import OriginRow, origins
from mmctl.store.reading import open_for_reading

NEWEST, AMONG = 100, 200
"""Runs of the configuration, and newest runs of all, that are looked at."""
GROUPS = 2
"""Sets of differences that the warning names."""
SHOWN = 9
"""Characters of a hash in messages."""
Facts = Mapping[str, str | None]
"""What is compared, in words -> its value; None = unknown, which differs from nothing."""


def compare(
    planned: Sequence[Recipe], hashes: Hashes, runs: Path, provenance: Provenance, parent: Parent | None = None
) -> None:
    """Note in `provenance.differs` how the planned runs differ from the other seeds of their configurations.

    hashes: recipe -> hash of its data set, of its split. Says nothing where the database cannot be read.
    """
    seeds: dict[str, set[int]] = {}
    first: dict[str, Recipe] = {}
    for recipe in planned:
        key = config_id_of(recipe.data, recipe.components(), parent=parent)
        seeds.setdefault(key, set()).add(recipe.seed)
        first.setdefault(key, recipe)
    if not planned or not runs.is_dir():
        return
    # Training must be possible without the database.
    with suppress(MmctlError, ValueError), open_for_reading(runs, newest=1) as store:
        for key, recipe in first.items():
            # Only the newest run of a seed counts in comparisons; those that are planned will be that.
            others: dict[int | None, OriginRow] = {}  # the newest first
            for row in origins(store, key, NEWEST):
                if row["seed"] not in seeds[key]:
                    others.setdefault(row["seed"], row)
            here = _facts(hashes(recipe), environment.code(), provenance.git(), recipe)
            found = "; ".join(_differences(here, [*others.values()], recipe))
            if not others and parent is None:
                found = _changed_plugins(recipe, origins(store, None, AMONG))
            if found:
                provenance.differs[key] = f"{recipe.name}: not all is as in other seeds: {found}."


def _facts(hashes: tuple[str | None, str | None], code: str | None, git: object, recipe: Recipe) -> Facts:
    about = git if isinstance(git, dict) else {}
    dirty = about.get("dirty")
    changes = {True: about.get("patch") or None, False: "none"}.get(dirty) if isinstance(dirty, bool) else None
    return {
        "data set": hashes[0],
        # Otherwise it follows the seed, by design.
        "split": hashes[1] if recipe.settings.split.seed is not None else None,
        "code of mmctl": code,
        "git commit": about.get("commit"),
        "uncommitted changes": changes,
    }


def _differences(here: Facts, others: Sequence[OriginRow], recipe: Recipe) -> Iterator[str]:
    """For each set of facts that differ, the newest run in which they do, and how many more there are."""
    groups: dict[str, list[OriginRow]] = {}
    for row in others:
        there = _facts((row["data_hash"], row["split_hash"]), row["code_hash"], row["git"], recipe)
        pairs = [(what, mine, there[what]) for what, mine in here.items() if mine is not None]
        differ = [f"{what} {b[:SHOWN]} (here {a[:SHOWN]})" for what, a, b in pairs if b is not None and a != b]
        if differ:
            groups.setdefault(", ".join(differ), []).append(row)
    for text, rows in [*groups.items()][:GROUPS]:
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        yield f"seed {rows[0]['seed']} ({rows[0]['uid']}){more} had {text}"
    if len(groups) > GROUPS:
        yield f"and {sum(map(len, [*groups.values()][GROUPS:]))} more differ in other ways"


def _changed_plugins(recipe: Recipe, newest: Sequence[OriginRow]) -> str:
    """How plugins differ from those of the newest run with the same settings; "" if they do not."""
    mine = _foreign(recipe.components())
    if not mine:
        return ""
    alone = config_id_of(recipe.data)
    for row in newest:
        if row["recipe"] != recipe.name or config_id_of(row["config"]) != alone:
            continue
        theirs = _foreign(row["components"])
        changed = [name for name, facts in mine.items() if theirs.get(name, facts) != facts]
        if not changed:
            return ""
        return (
            f"{', '.join(changed)} changed since seed {row['seed']} ({row['uid']}), so that "
            "the two are different configurations in `mmctl compare`"
        )
    return ""


def _foreign(components: object) -> dict[str, object]:
    """Kind, slot and name of each component that is not mmctl's own -> its version and hashes."""
    parts = components if isinstance(components, list) else []
    return {
        " ".join(str(part[key]) for key in ("kind", "slot", "name") if part.get(key)): [
            part.get("version"), part.get("file_hash"), part.get("helpers") or {}
        ]
        for part in cast(list[Component], parts)
        if isinstance(part, dict) and part.get("origin") != "mmctl"
    }  # fmt: skip
