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
            others = [row for row in origins(store, key, NEWEST) if seeds[key] != {row["seed"]}]
            here = _facts(hashes(recipe), environment.code(), provenance.git(), recipe)
            found = list(_differences(here, [(row, _facts_of(row, recipe)) for row in others]))
            if not others and parent is None:
                found = _changed_plugins(recipe, origins(store, None, AMONG))
            if found:
                provenance.differs[key] = f"{recipe.name}: not as in its other seeds: {'; '.join(found)}."


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
        "changes in no commit": changes,
    }


def _facts_of(row: OriginRow, recipe: Recipe) -> Facts:
    return _facts((row["data_hash"], row["split_hash"]), row["code_hash"], row["git"], recipe)


def _differences(here: Facts, others: Sequence[tuple[OriginRow, Facts]]) -> Iterator[str]:
    for what, mine in here.items():
        differ = [(row, facts[what]) for row, facts in others if facts[what] not in (None, mine)]
        if mine is not None and differ:
            row, theirs = differ[0]
            more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
            yield f"{what} {mine[:SHOWN]}, but {str(theirs)[:SHOWN]} in {row['uid']} (seed {row['seed']}){more}"


def _changed_plugins(recipe: Recipe, newest: Sequence[OriginRow]) -> list[str]:
    """How plugins differ from those of the newest run that has the same settings: with them, it is another one."""
    mine = _foreign(recipe.components())
    if not mine:
        return []
    alone = config_id_of(recipe.data)
    for row in newest:
        if row["recipe"] != recipe.name or config_id_of(row["config"]) != alone:
            continue
        theirs = _foreign(row["components"])
        changed = [name for name, facts in mine.items() if theirs.get(name, facts) != facts]
        if changed:
            return [
                f"code of {', '.join(changed)}, which has changed since {row['uid']} (seed {row['seed']}), so that "
                "`mmctl compare` shows the two as different configurations"
            ]
        return []
    return []


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
