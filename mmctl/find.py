"""From what a person types to a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmctl import project
from mmctl.errors import RunNotFound, suggest
from mmctl.store import Store

FAILED = ("failed", "crashed", "nc")


def opened() -> Store:
    """The project's store, up to date with its run folders."""
    runs = project.runs_dir()
    if not runs.is_dir():
        raise RunNotFound(f"{runs}: there are no runs yet. Start one: mmctl run recipes/digits.toml")
    store = Store(runs)
    try:
        store.sync()
    except BaseException:
        store.close()
        raise
    return store


def find(store: Store, ref: str) -> dict[str, Any]:
    """The one run of that number, id, beginning of an id, name, or @last, @last-failed."""
    runs = store.runs()
    if not runs:
        raise RunNotFound(f"{store.runs_dir}: there are no runs yet. Start one: mmctl run recipes/digits.toml")
    if ref in ("@last", "@last-failed"):
        fit = [r for r in runs if ref == "@last" or r["state"] in FAILED]
        if not fit:
            raise RunNotFound(f"{ref}: no run has failed.")
        return fit[-1]
    if ref.isdigit() and (fit := [r for r in runs if r["number"] == int(ref)]):
        return fit[0]
    for fit in (
        [r for r in runs if r["uid"] == ref],
        [r for r in runs if r["name"] == ref],
        [r for r in runs if ref and r["uid"].startswith(ref)],
    ):
        if len(fit) == 1:
            return fit[0]
        if fit:
            names = "".join(f"\n  {r['number']:>3}  {r['uid']}" for r in fit[-8:])
            more = f" (the last 8 of {len(fit)})" if len(fit) > 8 else ""
            raise RunNotFound(f'run "{ref}" could be any of these{more}; say which by its number or id:{names}')
    known = {r["name"] for r in runs} | {r["uid"] for r in runs} | {"@last", "@last-failed"}
    raise RunNotFound(f'no run "{ref}".{suggest(ref, known)} See them all: mmctl ls')


def select(store: Store, refs: Sequence[str]) -> list[dict[str, Any]]:
    """All runs that any of the words fits: number, id or its beginning, name, recipe, method, state or tag."""
    runs = store.runs()
    found: dict[int, dict[str, Any]] = {}
    for ref in refs:
        fit = [
            r
            for r in runs
            if ref in (r["uid"], r["name"], r["recipe"], r["method"], r["state"], str(r["number"]), *r["tags"])
            or (ref and r["uid"].startswith(ref))
        ]
        if ref == "@last" and runs:
            fit = [runs[-1]]
        if not fit:
            known = {r[k] for r in runs for k in ("uid", "name", "recipe", "method", "state")}
            raise RunNotFound(f'no run fits "{ref}".{suggest(ref, known)} See them all: mmctl ls')
        found |= {r["id"]: r for r in fit}
    return [found[i] for i in sorted(found)] if refs else runs


def folder_of_run(ref: str) -> Path:
    """The folder of a run, named by its path or as `find` has it."""
    path = Path(ref)
    if (path / "run.json").is_file():
        return path
    with opened() as store:
        return store.runs_dir / str(find(store, ref)["uid"])
