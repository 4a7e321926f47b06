"""What the shell completes: runs, conditions of a filter, metrics, settings and components.

Reads the database as it is and the source of the recipe tables as text, so that pressing TAB takes a moment; a
function never raises, since the shell cannot show an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmctl.run_fields import FIELDS

Found = list[tuple[str, str]]
MOST = 200
"""So many suggestions are given."""


def complete_run(incomplete: str) -> Found:
    """Ids of runs, the newest first, with name and state."""
    try:
        sql = "SELECT uid, name || ', ' || state FROM runs WHERE substr(uid, 1, ?2) = ?1 ORDER BY created DESC LIMIT ?3"
        special = [("@last", "the newest run"), ("@last-failed", "the newest run that failed")]
        found = _rows(sql, incomplete, len(incomplete), MOST) or _rows(
            "SELECT uid, name || ', ' || state FROM runs WHERE ?2 > 2 AND instr(uid, ?1) "
            "ORDER BY created DESC LIMIT ?3",
            incomplete, len(incomplete), MOST,
        )  # fmt: skip
        return [one for one in special if incomplete and one[0].startswith(incomplete)] + found
    except Exception:
        return []


def complete_filter(incomplete: str) -> Found:
    """Runs, fields of a condition, and the values that the runs have in a field."""
    try:
        head, colon, rest = incomplete.rpartition(":")
        if not colon:
            fields = [(f"{field}:", "") for field in FIELDS if incomplete and field.startswith(incomplete)]
            return fields + complete_run(incomplete)
        field, before, part = head.removeprefix("not:"), *_last(rest)
        if field in ("star", "archived"):
            values = ["true", "false"]
        elif field == "tag":
            values = [row[0] for row in _rows("SELECT DISTINCT tag, '' FROM tags")]
        elif field == "sweep":
            values = [row[0] for row in _rows("SELECT DISTINCT name, '' FROM sweeps")]
        else:
            column = FIELDS[field]
            values = [row[0] for row in _rows(f"SELECT DISTINCT {column}, '' FROM runs WHERE {column} IS NOT NULL")]
        return [(f"{head}:{before}{one}", "") for one in sorted(map(str, values)) if one.startswith(part)][:MOST]
    except Exception:
        return []


def complete_sweep(incomplete: str) -> Found:
    """The names of the sweeps."""
    return [(text.removeprefix("sweep:"), about) for text, about in complete_filter(f"sweep:{incomplete}")]


def complete_metric(incomplete: str) -> Found:
    """Metrics of the newest runs, by their short names."""
    try:
        sql = "SELECT DISTINCT name, '' FROM series WHERE run IN (SELECT id FROM runs ORDER BY created DESC LIMIT 20)"
        parts = [row[0].split("/") for row in _rows(sql)]
        names = sorted({f"{one[0]}/{one[-1]}" if len(one) == 4 else "/".join(one) for one in parts})
        return [(name, "") for name in names if name.startswith(incomplete)]
    except Exception:
        return []


def complete_set(incomplete: str) -> Found:
    """Keys of the fixed tables of a recipe as KEY=; components after the name of a slot."""
    try:
        key, equals, value = incomplete.partition("=")
        kind, _, last = key.rpartition(".")
        if equals and last == "name":
            return [(f"{key}={name}", "") for name in _components(kind.partition(".")[0]) if name.startswith(value)]
        return [] if equals else [(f"{one}=", "") for one in setting_keys() if one.startswith(incomplete)]
    except Exception:
        return []


def complete_component(incomplete: str) -> Found:
    """The names of all components."""
    try:
        return [(name, "") for name in sorted(set(_components(""))) if name.startswith(incomplete)]
    except Exception:
        return []


def complete_published(incomplete: str) -> Found:
    """Names of the data sets that `mmctl data get` knows."""
    from mmctl.download.published import SETS

    return [(name, "") for name in SETS if name.startswith(incomplete)]


def setting_keys() -> list[str]:
    """The dotted keys of the fixed tables, read from the source of recipe/settings.py, since pydantic is slow."""
    source = (Path(__file__).parent.parent / "recipe" / "settings.py").read_text("utf-8")
    classes = dict(re.findall(r"^class (\w+)\(Table\):\n((?:(?!class |@|def ).*\n)*)", source, re.M))
    listed = re.search(r"^TABLES[^{]*\{(.*?)\}", source, re.M | re.S)
    tables = re.findall(r'"(\w+)": (\w+)', listed[1]) if listed else []
    keys = [
        f"{table}.{key}" for table, name in tables for key in re.findall(r"^    (\w+): ", classes.get(name, ""), re.M)
    ]
    from mmctl.plugin import KINDS

    return sorted({*keys, "seed", *(f"{kind}.name" for kind in KINDS)})


def _components(kind: str) -> list[str]:
    """The names of the components of a kind (all, if it is empty), by the marks in the source files."""
    from mmctl import project
    from mmctl.plugin import KINDS

    package = Path(__file__).parent.parent
    found = set()
    for one in KINDS:
        if kind in ("", one):
            folder = package / ("losses" if one == "loss" else f"{one}s")
            for file in [*folder.glob("[!_]*.py"), *project.plugins_dir().glob("*.py")]:
                found |= set(
                    re.findall(rf"^@(?:\w+\.)?{one}\(\s*[\"']([a-z0-9_]+)[\"']", file.read_text("utf-8"), re.M)
                )
    return sorted(found)


def _last(values: str) -> tuple[str, str]:
    """What stands before the last comma of `a,b,c`, with the comma, and what follows it."""
    before, comma, part = values.rpartition(",")
    return before + comma, part


def _rows(sql: str, *values: object) -> Found:
    """The answer of the database as it is now; it is not brought up to date, which would take too long."""
    import sqlite3
    from contextlib import closing

    from mmctl import project

    path = project.runs_dir() / "mmctl.db"
    if not os.path.isfile(path):  # noqa: PTH113
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)) as conn:
        return [(str(a), str(b)) for a, b in conn.execute(sql, values[: sql.count("?")] if "?2" not in sql else values)]
