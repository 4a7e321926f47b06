"""Finds what was changed in a run folder since the run was created.

The identity of a run is its resolved recipe, seed, components and total steps. It is written down in several places:
recipe.toml, run.json, the first event of each attempt, the manifest of each checkpoint; the split in split.json and in
the journal. An edit of one place contradicts the others. Names, notes, tags and settings that change no result (see
mmctl.identity) may be edited in recipe.toml.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, cast

from mmctl.filesystem import read_file
from mmctl.identity import config_ids_of, matters
from mmctl.run_folder import journal
from mmctl.run_folder.events import Attempt, Data, Event
from mmctl.run_folder.record import RunRecord, full_metric_name, primary_weights
from mmctl.run_folder.upgrade import FORMAT, Config, Setting, upgrade_recipe
from mmctl.run_folder.values import flatten
from mmctl.text import short_literal

RECIPE_SIZE, RECIPE_LINE, SPLIT_SIZE = 2**16, 2**11, 2**28
"""Larger files and lines are not read, in bytes; a long dotted key takes tomllib minutes."""


class Logged(NamedTuple):
    """What the journals repeat: the hashes of the identity and of the split, since training last began at step 0."""

    identities: frozenset[str]
    splits: frozenset[str]


def alterations(folder: Path, record: RunRecord, logged: Logged | None = None) -> list[str]:
    """Sentences that say what in a run folder contradicts the rest of it; an empty list if nothing does.

    Each begins with the file: `recipe.toml: optimizer.lr is 0.1, but run.json says 0.05`. A file or hash that is not
    there contradicts nothing, so that runs of older versions of mmctl are checked with what they have.

    record: from `read_record`; logged: from `read_logged`, which is called if it is not given. Raises OSError if a
    journal cannot be read.
    """
    logged = read_logged(folder) if logged is None else logged
    found = [*_record(record, logged), *_recipe(folder / "recipe.toml", record)]
    return found + _split(folder / "split.json", logged)


def identity_hash(record: RunRecord) -> str:
    """Hash of the identity of a run, with the format of run.json; hashes of another format cannot be compared."""
    parts: list[object] = [record.get(key) for key in ("config", "seed", "components", "total_steps")]
    parts += [record["parent"]] if "parent" in record else []
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{FORMAT}:{hashlib.sha256(text.encode()).hexdigest()}"


def recipe_hash(text: bytes) -> str:
    """Hash of a recipe.toml; where it is as in run.json, the file need not be parsed to be compared."""
    return hashlib.sha256(text).hexdigest()


def read_logged(folder: Path) -> Logged:
    """What the journals of a run repeat of its identity."""
    return logged_in(journal.read_events(folder, Event))


def logged_in(events: Iterable[Event]) -> Logged:
    """What these events, in the order of the attempts, repeat of the identity of their run."""
    identities: set[str] = set()
    splits: set[str] = set()
    for event in events:
        if isinstance(event, Attempt):
            if not event.start:  # nothing of what earlier attempts trained is left
                identities, splits = set(), set()
            if event.identity:
                identities.add(event.identity)
        elif isinstance(event, Data) and event.split_hash:
            splits.add(event.split_hash)
    return Logged(frozenset(identities), frozenset(splits))


def _record(record: RunRecord, logged: Logged) -> list[str]:
    """What in run.json contradicts its own config, its hash or the journal."""
    config, found = record["config"], []
    now = identity_hash(record)
    for since, then in [
        ("the run was created", [record.get("identity")]),
        ("training with it began, as the journal says", logged.identities),
    ]:
        if any(one and one.startswith(f"{FORMAT}:") and one != now for one in then):
            found.append(f"run.json: config, seed, components or total_steps have changed since {since}")
    config_id = record.get("config_id")
    # An id of another form was not computed from the config.
    if isinstance(config_id, str) and re.fullmatch("[0-9a-f]{12}", config_id):
        try:
            fits = config_id in config_ids_of(config, cast(list[Config], record["components"]), record.get("parent"))
        except (KeyError, TypeError, AttributeError):
            fits = True  # the components are those of another program
        if not fits:
            found.append(f"run.json: config_id {config_id} is not that of its config")
    for key, path, said in _derived(config):
        if key in record and not _same(record.get(key), said):
            found.append(f"run.json: {key} is {_shown(record.get(key))}, but {path} of its config gives {_shown(said)}")
    return found


def _derived(config: Config) -> list[tuple[str, str, Setting]]:
    """(key of run.json, setting that decides it, its value), of those settings that the config has."""
    rows: list[tuple[str, str, Setting]] = []
    for key, table, name in (
        ("method", "method", "name"), ("labeler", "labeler", "name"), ("total_steps", "train", "steps"),
        ("primary", "eval", "primary"),
    ):  # fmt: skip
        values = config.get(table)
        if isinstance(values, dict) and name in values:
            value = values[name]
            # A component has its short name in run.json, a metric its full one.
            if isinstance(value, str) and key != "primary":
                value = value.rpartition(":")[2]
            elif isinstance(value, str) and "/" in value:
                value = full_metric_name(value, primary_weights(config))
            rows.append((key, f"{table}.{name}", value))
    return [*rows, ("seed", "seed", config["seed"])] if "seed" in config else rows


def _recipe(path: Path, record: RunRecord) -> list[str]:
    """What in recipe.toml contradicts the config of run.json."""
    try:
        text = read_file(path, RECIPE_SIZE)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [f"recipe.toml: cannot be read ({error})"]
    if record.get("recipe_hash") == recipe_hash(text) and record.get("identity") == identity_hash(record):
        return []
    if max(map(len, text.split(b"\n"))) > RECIPE_LINE:
        return [f"recipe.toml: has a line of more than {RECIPE_LINE} bytes"]
    try:
        recipe = upgrade_recipe(tomllib.loads(text.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        return [f"recipe.toml: is not TOML ({error})"]
    here, there = (flatten({k: v for k, v in one.items() if k != "published"}) for one in (recipe, record["config"]))
    keys = [key for key in (*there, *(key for key in here if key not in there)) if key == "seed" or matters(key)]
    return [
        f"recipe.toml: {key} is {_shown(here.get(key))}, but run.json says {_shown(there.get(key))}"
        for key in keys
        if not _same(here.get(key), there.get(key))
    ]


def _split(path: Path, logged: Logged) -> list[str]:
    """What in split.json contradicts itself or the journal."""
    try:
        body = json.loads(read_file(path, SPLIT_SIZE))
        rows = [body[name] for name in ("labeled", "unlabeled", "val")]
        found = split_hash(body["rule"], body["seed"], rows)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        return [f"split.json: cannot be read ({type(error).__name__}: {error})"]
    if body.get("sha256") != found:
        return ["split.json: its SHA-256 is not that of its rows"]
    if any(found != then for then in logged.splits):
        return ["split.json: is not the split that the run was trained with (its hash in the journal differs)"]
    return []


def split_hash(rule: str, seed: int, rows: Iterable[list[int]]) -> str:
    """The hash of a split: of its rule, its seed and its rows (labelled, unlabelled, validation)."""
    digest = hashlib.sha256(f"{rule} {seed}".encode())
    for row in rows:
        numbers = array("q", row)
        if sys.byteorder == "big":
            numbers.byteswap()
        digest.update(f" {len(numbers)} ".encode() + numbers.tobytes())
    return digest.hexdigest()


def _same(a: object, b: object) -> bool:
    # As text too, because NaN is not equal to itself; true is no number.
    return (a == b and isinstance(a, bool) == isinstance(b, bool)) or repr(a) == repr(b)


def _shown(value: object) -> str:
    return "absent" if value is None else short_literal(value)
