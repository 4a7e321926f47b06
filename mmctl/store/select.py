"""Which runs a person means: one run by a reference, several by words and conditions.

A reference is a number of `mmctl ls`, an id or a part of one, a name, @last or @last-failed.
Conditions are FIELD:VALUE[,VALUE], FIELD=VALUE, !=, <, <=, >, >=, with `not:` before them for the opposite;
a field is one of FIELDS, a setting such as cfg.optimizer.lr, or a metric such as test/accuracy@last.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmctl import project
from mmctl.errors import RunNotFound, UserError, suggest
from mmctl.run_fields import FIELDS
from mmctl.run_folder.upgrade import Setting
from mmctl.run_folder.values import flatten
from mmctl.store import metrics
from mmctl.store.reading import open_for_reading
from mmctl.store.rows import RunRow
from mmctl.store.store import Store, within

TERM = re.compile(r"(not:)?([A-Za-z][\w./-]*(?:@[\w:=/]+)?)(!=|<=|>=|[:=<>])(.*)", re.DOTALL)
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FAILED = ("failed", "crashed")
STATES = ("queued", "running", "completed", "interrupted", "nc", "unreadable", *FAILED)
SHOWN = 10


def find_run(runs: Sequence[RunRow], reference: str) -> RunRow:
    """The run that a reference means; RunNotFound if none or several match."""
    matches = _matches(runs, reference)
    if len(matches) == 1:
        return matches[0]
    if matches:
        lines = [f"  {run['number']:>3}  {run['uid']}  seed {run['seed']}  {run['state']}" for run in matches[-SHOWN:]]
        more = [f"  ... and {len(matches) - SHOWN} older"] if len(matches) > SHOWN else []
        head = f'"{reference}" matches {len(matches)} runs; give the number or id of one:'
        same = [f"All of them, where a command takes a filter: name:{reference}"]
        raise RunNotFound(head, *more, *lines, *(same if all(run["name"] == reference for run in matches) else []))
    if reference == "@last-failed" and runs:
        raise RunNotFound("@last-failed: no run has failed or crashed.")
    known = {run["uid"] for run in runs} | {run["name"] for run in runs}
    where = " See: mmctl ls" if runs else " There are no runs yet. Start one: mmctl run digits"
    raise RunNotFound(f'no run "{reference}".{suggest(reference, known)}{where}')


def folder_of_run(ref: str) -> Path:
    """The folder of a run: its path, or its number, name or id as `mmctl ls` shows them, or @last."""
    if os.path.isfile(f"{ref}/run.json"):  # noqa: PTH113 - Path.is_file raises where the name is too long
        return Path(ref).resolve()
    runs = project.runs_dir()
    if not runs.is_dir():
        raise RunNotFound(f'no run "{ref}": {runs} does not exist. Start one: mmctl run digits')
    with open_for_reading(runs) as store:
        run = find_run(store.runs(), ref)
        if run["unreadable"]:
            raise UserError(run["unreadable"])
        return runs / run["uid"]


def folders_of_runs(terms: Sequence[str]) -> list[Path]:
    """The folders of the runs that a command works on: a single word as in `folder_of_run`, else as in `find_runs`."""
    if len(terms) == 1 and not TERM.fullmatch(terms[0]):
        return [folder_of_run(terms[0])]
    with open_for_reading(runs := project.runs_dir()) as store:
        return [runs / run["uid"] for run in find_runs(store, terms)]


def checked_tags(words: Sequence[str], new: bool = True) -> list[str]:
    """The same tags; UserError if one cannot be written as the filter `tag:WORD`.

    new: refuse also what only tags of older versions may have: a slash, and -, + or . at the beginning.
    """
    for word in words:
        wrong = not word or not word.isprintable() or set(word) & set(" ,:=<>") or len(word) > 100
        if wrong or (new and ("/" in word or word[0] in "-+.")):
            raise UserError(
                f"tag {word!r}: a tag is one word of at most 100 characters, without spaces, commas or / : = < >, and "
                "does not begin with - + or ."
            )
    return list(words)


def find_runs(store: Store, terms: Sequence[str], archived: bool = False) -> list[RunRow]:
    """The runs that a command works on, at least one: the run that a single word means, or those of a filter.

    archived: also archived ones that the filter does not ask for. RunNotFound if there is none.
    """
    runs = store.runs()
    if len(terms) == 1 and not TERM.fullmatch(terms[0]):
        return [find_run(runs, terms[0])]
    if not (found := select_runs(store, runs, terms, archived)):
        raise RunNotFound(f"no run matches {' '.join(terms)}{why_none(runs, terms).removesuffix('.')}. See: mmctl ls")
    return found


def select_runs(store: Store, runs: Sequence[RunRow], terms: Sequence[str], archived: bool = False) -> list[RunRow]:
    """The runs that match any of the plain words (all runs, if there is none) and fulfil all conditions.

    Without `archived`, an archived run must be named by its id or number, or asked for by `archived:true`.
    """
    words = [term for term in terms if not TERM.fullmatch(term)]
    chosen = list(runs)
    if not archived and not any(parts[2] == "archived" for parts in map(TERM.fullmatch, terms) if parts):
        chosen = [run for run in runs if not run["archived"] or {run["uid"], str(run["number"])} & {*words}]
    if words:
        wanted = {run["id"] for word in words for run in _some(runs, word)}
        chosen = [run for run in chosen if run["id"] in wanted]
    for term in terms:
        if (parts := TERM.fullmatch(term)) is not None:
            test = _condition(store, chosen, parts[2], parts[3], parts[4])
            chosen = [run for run in chosen if test(run) != bool(parts[1])]
    return chosen


def _matches(runs: Sequence[RunRow], reference: str) -> list[RunRow]:
    if reference in ("@last", "@last-failed"):
        return [run for run in runs if reference == "@last" or run["state"] in FAILED][-1:]
    if not reference:
        return []
    rules: list[Callable[[RunRow], bool]] = [
        lambda run: run["uid"] == reference,
        lambda run: reference == str(run["number"]),
        lambda run: run["name"] == reference,
        lambda run: run["uid"].startswith(reference),
        lambda run: len(reference) >= 3 and reference in run["uid"],
    ]
    return next((found for rule in rules if (found := [run for run in runs if rule(run)])), [])


def _some(runs: Sequence[RunRow], word: str) -> list[RunRow]:
    exact = [run for run in runs if word in (run["name"], run["recipe"], run["method"], run["config_id"])]
    found = exact or _matches(runs, word)
    if not found:
        known = {run[key] for run in runs for key in ("uid", "name", "recipe", "method")}
        raise RunNotFound(f'no run, recipe or method "{word}".{suggest(word, known)} See: mmctl ls')
    return found


def _condition(store: Store, runs: Sequence[RunRow], field: str, sign: str, value: str) -> Callable[[RunRow], bool]:
    if field.startswith("cfg."):
        configs = store.configs(runs)
        held = {run["id"]: setting(configs[run["id"]], field[4:]) for run in runs}
        if runs and all(value is None for value in held.values()):
            known = {f"cfg.{key}" for config in configs.values() for key in flatten(config)}
            raise UserError(f'no run has the setting "{field}".{suggest(field, known)}')
    elif "/" in field or "@" in field:
        metrics.check_metric(store, runs, one := metrics.parse_metric(field))
        held = dict(metrics.metric_values(store, runs, one)[0])
    elif field in FIELDS:
        held = {run["id"]: run[FIELDS[field]] for run in runs}  # type: ignore[literal-required]
    else:
        listed = ", ".join(FIELDS)
        raise UserError(f'no field "{field}".{suggest(field, FIELDS)} Known: {listed}, cfg.TABLE.KEY, a metric')
    if sign in COMPARE:
        bar = _number(value)
        if bar is None:
            raise UserError(f'"{field}{sign}{value}": {sign} takes a number.')
        return lambda run: (mine := _number(held.get(run["id"]))) is not None and COMPARE[sign](mine, bar)
    wanted = [value] if sign == "!=" else value.split(",")
    if field == "state" and (strange := [one for one in wanted if one not in (*STATES, *held.values())]):
        raise UserError(f'there is no state "{strange[0]}".{suggest(strange[0], STATES)} Known: {", ".join(STATES)}')
    return lambda run: any(_same(held.get(run["id"]), one) for one in wanted) != (sign == "!=")


def why_none(runs: Sequence[RunRow], terms: Sequence[str]) -> str:
    """`; no run has method "mixmach". Did you mean ...` if a condition has a text that no run has, else nothing."""
    for parts in filter(None, map(TERM.fullmatch, terms)):
        known: set[str] = set()
        if parts[2] in ("star", "archived"):
            continue
        for run in runs if parts[2] in FIELDS and parts[3] in (":", "=") and not parts[1] else ():
            held = run[FIELDS[parts[2]]]  # type: ignore[literal-required]
            known |= {str(one) for one in (held if isinstance(held, list) else [held])}
        for word in parts[4].split(",") if known else ():
            if not {word, f"mmctl:{word}"} & known:
                return f'; no run has {parts[2]} "{word}".{suggest(word, known)}'
    hidden = sum(run["archived"] for run in runs)
    return f"; archived ones are hidden ({hidden}): archived:true shows them" if hidden else ""


def _same(held: Any, wanted: str) -> bool:
    if isinstance(held, list):
        return any(_same(item, wanted) for item in held)
    if isinstance(held, bool):
        return wanted.lower() in (("true", "yes") if held else ("false", "no"))
    if isinstance(held, (int, float)):
        return _number(wanted) == held
    return held is not None and str(held) in (wanted, f"mmctl:{wanted}")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or (isinstance(value, str) and ("_" in value or not value.isascii())):
        return None  # float() reads 1_000 and digits of other scripts
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def setting(config: Setting, path: str) -> Setting:
    """The value of a recipe under a dotted key; None where there is none."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def imported(store: Store, runs: Sequence[RunRow]) -> set[int]:
    """The ids of those of these runs that were imported from another program."""
    sql = "SELECT id FROM runs WHERE instr(about, '\"origin\"') AND json_type(about, '$.origin') = 'object' AND "
    rows = store._rows(sql + within("id", runs))
    return {row["id"] for row in rows} & {run["id"] for run in runs}
