"""Where the figures come from: code, versions, hardware, data, and the commands that make them again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mmctl.filesystem import read_file
from mmctl.page.html import Section, code, details, facts, link, table, text
from mmctl.report import summaries
from mmctl.report.charts import value
from mmctl.report.listing_columns import shown_state
from mmctl.report.results import ListingRow, RunDetails
from mmctl.report.settings import VERSION, versions
from mmctl.run_folder.record import command_again
from mmctl.run_folder.upgrade import Setting
from mmctl.run_folder.values import flatten
from mmctl.store.metrics import is_share, short_name
from mmctl.store.rows import RunRow
from mmctl.store.store import Store
from mmctl.text import duration, hardware_line

SHORT = 12
"""Digits of a hash in a table."""
RECIPE = 2**17
"""A longer recipe is not shown, in bytes."""
MANY = 4
"""A table of run.json with more values is one line."""
LONG = 300
"""A longer value, such as a patch, is named and not shown."""


def add_runs(store: Store, runs: Sequence[RunRow], section: Section, pages: Mapping[int, str] | None = None) -> None:
    """A line for each run; a click sorts by a column. pages: of each run, by id."""
    heads = ["run", "recipe", "seed", "state", "step", "result", "training time", "started (UTC)", "hardware", "exact"]
    right = [False, False, True, False, True, True, True, False, False, False]
    rows = []
    for row, run in zip(summaries.listing(store, runs), runs, strict=True):
        steps = f"{row['step']} / {row['total_steps'] or '?'}"
        uid = link(pages[run["id"]], row["uid"]) if pages else text(row["uid"])
        cells = [_name(row), row["seed"], shown_state(row), steps, _result(row)]
        cells += [duration(store.seconds(run)), utc(row["started"]), "; ".join(hardware(store, run))]
        rows.append([uid, *map(text, cells), "yes" if row["exact"] and not row["altered"] else "no"])
    section.add(table(f"{len(runs)} run{'s' * (len(runs) != 1)}", heads, rows, right, "sort"))
    for run in runs:
        for why in (*run["altered"], *([run["unreadable"]] if run["unreadable"] else [])):
            section.absent(f"{run['uid']}: {why}")


def _name(row: ListingRow) -> str:
    return row["recipe"] if row["name"] == row["recipe"] else f"{row['name']} ({row['recipe']})"


def _result(row: ListingRow) -> str:
    if row["value"] is None:
        return ""
    return f"{value(row['value'], is_share(row['metric']))} {short_name(row['metric'])}"


def hardware(store: Store, run: RunRow) -> list[str]:
    """What the attempts of a run were computed on, each once."""
    return list(dict.fromkeys(hardware_line(one["body"]) for one in store.attempts(run)))


def utc(t: int | None) -> str:
    """A time in milliseconds since 1970; the same text everywhere."""
    try:
        return f"{datetime.fromtimestamp(t / 1000, UTC):%Y-%m-%d %H:%M}" if t else ""
    except (ValueError, OverflowError, OSError):
        return ""


def add_provenance(store: Store, groups: Iterable[tuple[str, Sequence[RunRow]]], section: Section) -> None:
    """For each configuration (title and runs) its recipe, and for each run code, versions, data and commands."""
    for title, group in groups:
        section.heading(title)
        found = [summaries.run_details(store, run) for run in group]
        section.add(facts(_shared(found)))
        if own := [one for one in found if not one["imported"]]:
            section.add(code("\n".join(map(again, own))))
        section.add(
            details("Each run", "\n".join(_run(one, store, run) for one, run in zip(found, group, strict=True)))
        )
        if recipe := _recipe(store, group[-1]):
            section.add(details("The whole recipe", recipe))


def again(run: RunDetails) -> str:
    """The command that trains a run again, in the project."""
    folder = Path(run["folder"])
    recipe = Path(folder.parent.name) / folder.name / "recipe.toml"
    return command_again(recipe, run["parent"]["uid"] if run["parent"] else None, run["total_steps"])


def _shared(found: Sequence[RunDetails]) -> list[tuple[str, str]]:
    """What the runs have in common; where they differ, all values."""
    data = found[-1]["data"]
    words = {"train": "training", "labeled": "labelled", "unlabeled": "unlabelled", "val": "validation", "test": "test"}
    images = ", ".join(f"{data[key]} {word}" for key, word in words.items() if data.get(key))
    sides: list[tuple[str, list[str | None]]] = [
        ("git commit", [_commit(one["git"]) for one in found]),
        ("data (SHA-256)", [one["data_hash"] for one in found]),
        ("versions", [_versions(one) for one in found]),
    ]
    made = [("images", text(images))]
    made += [(name, text("; ".join(dict.fromkeys(str(one) for one in values if one)))) for name, values in sides]
    return made


def _commit(git: Setting) -> str:
    if not isinstance(git, dict) or not git.get("commit"):
        return ""
    return f"{git['commit']}{' with changes that are in no commit' if git.get('dirty') else ''}"


def _versions(run: RunDetails) -> str:
    """Of the last attempt, or as they were when the run was created."""
    last = run["attempts"][-1].get("versions") if run["attempts"] else None
    known = last or (run["environment"].get("versions") if isinstance(run["environment"], dict) else None)
    return ", ".join(f"{name} {number}" for name, number in known.items()) if isinstance(known, dict) else ""


def _run(one: RunDetails, store: Store, run: RunRow) -> str:
    """All that is known of where a run comes from."""
    about, command = store.about(run), one["command"]
    pairs = [
        ("run", text(one["uid"])), ("seed", text(one["seed"])),
        ("typed as", text(shlex.join(map(str, command))) if isinstance(command, list) else ""),
        ("split (SHA-256)", text(one["split_hash"])),
        ("mmctl's code (SHA-256)", text(about.get("code"))),
        ("components", "<br>".join(
            text(f"{key.removeprefix(VERSION)}: {part}") for key, part in versions(about["components"]).items()
        )),
        ("hardware", text("; ".join(hardware(store, run)))),
        ("extends", text(f"{one['parent']['uid']} from step {one['parent']['step']}") if one["parent"] else ""),
        ("checkpoints (SHA-256)", "<br>".join(
            text(f"step {kept['step']}: {str(kept['sha256'] or '')[:SHORT]}")
            for kept in one["checkpoints"] if kept["present"]
        )),
        ("notes", "<br>".join(text(note["text"]) for note in one["notes"])),
        ("tags", text(" ".join(one["tags"]))),
    ]  # fmt: skip
    for name, part in (
        ("imported", one["imported"]),
        ("environment", one["environment"]),
        ("git", one["git"]),
        ("provenance", one["provenance"]),
    ):
        pairs += _recorded(part, name)
    return facts(pairs)


def _recorded(part: Setting, name: str) -> Iterator[tuple[str, str]]:
    """A part of run.json or provenance.json: a line for each value, or one for a table of many, such as versions."""
    file = "provenance.json" if name == "provenance" else "run.json"
    for key, item in part.items() if isinstance(part, dict) else ():
        if isinstance(item, dict) and len(item) > MANY:
            yield f"{name}.{key}", text(", ".join(f"{inner} {held}" for inner, held in item.items()))
        else:
            for path, held in flatten(item, f"{name}.{key}").items():
                said = str(held)
                yield path, text(said if len(said) <= LONG else f"{len(said):,} characters, in {file}")


def _recipe(store: Store, run: RunRow) -> str:
    """recipe.toml of a run; nothing if it cannot be read."""
    try:
        return code(read_file(store.runs_dir / run["uid"] / "recipe.toml", RECIPE).decode())
    except (OSError, ValueError):
        return ""
