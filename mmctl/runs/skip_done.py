"""Finds the runs with the same settings, seed, data, split and code: done ones are skipped, stopped ones continued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mmctl import environment
from mmctl.errors import MmctlError
from mmctl.identity import config_id_of
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder import journal, queue
from mmctl.run_folder.events import Tag
from mmctl.run_folder.record import Parent, last_scores, read_record
from mmctl.runs.resume import STOPPED
from mmctl.store.reading import open_for_reading

Hashes = Callable[[Recipe], tuple[str, str]]
"""recipe -> hash of its data set, hash of its split."""
ORDER = {"completed": 0, "nc": 0, "running": 1, **dict.fromkeys(STOPPED, 2)}
"""Which of several equal runs counts, by state; a state that is absent never does."""


class Remaining(NamedTuple):
    """Recipes that must still be run, stopped runs to continue in their place, and messages about all others."""

    left: list[Recipe]
    stopped: list[Path]
    messages: list[str]
    held: dict[Path, str]  # runs that have computed, compute or will compute a recipe -> their states


def skip_done(
    planned: Sequence[Recipe],
    hashes: Hashes,
    runs: Path,
    tags: Sequence[str] = (),
    parent: Parent | None = None,
    failed: bool = False,
) -> Remaining:
    """Skip recipes that a run in folder `runs` has completed or is computing; find the stopped runs of others.

    A run that was found gets the tags, so that the user finds it by them. parent: the run that they extend; failed:
    skip recipes whose run has failed, too. If the database cannot be read, everything is new.
    """
    left: list[Recipe] = []
    stopped: list[Path] = []
    messages: list[str] = []
    held: dict[Path, str] = {}
    taken: set[tuple[str, int]] = set()
    code, order = environment.code(), ORDER | ({"failed": 3} if failed else {})
    try:
        with open_for_reading(runs) as store:
            tagged = {run["uid"]: run["tags"] for run in store.runs()} if tags else {}
            for recipe in planned:
                what = f"{recipe.name}, seed {recipe.seed}"
                key = config_id_of(recipe.data, recipe.components(), parent=parent), recipe.seed
                if key in taken:
                    messages.append(f"{what}: given twice, runs once")
                    continue
                taken.add(key)
                found = store.twins(*key, (*hashes(recipe), code))
                counts = [t for t in found if t["state"] in order and (t["exact"] or t["state"] == "running")]
                # Of the stopped ones, the one that got furthest.
                twin = min(counts, key=lambda t: (order[t["state"]], -t["step"]), default=None)
                if twin is None:
                    left.append(recipe)
                    continue
                folder, state = runs / twin["uid"], twin["state"]
                waits = queue.waits_for(folder) if state in STOPPED else None
                if state in STOPPED and not waits:
                    if changed := _changed(folder):
                        messages.append(
                            f"{what}: note: {folder.name} stopped at step {twin['step']}; a new run starts, because "
                            f"{changed} changed since then"
                        )
                        left.append(recipe)
                        continue
                    stopped.append(folder)
                    at = f"which stopped at step {twin['step']} of {twin['total_steps']}"
                    messages.append(f"{what}: continues run {folder.name}, {at}; --force starts a new run")
                elif state in STOPPED:
                    messages.append(f"{what}: run {folder.name} {waits}; --force starts another run")
                elif state == "running":
                    messages.append(f"{what}: run {folder.name} is computing it; --force starts another run")
                elif state == "failed":
                    messages.append(f"{what}: run {folder.name} has failed; `mmctl retry {folder.name}` tries it again")
                else:
                    words = "not converged" if state == "nc" else f"completed{last_scores(folder)}"
                    messages.append(f"{what}: already done in run {folder.name} ({words}); --force runs it again")
                if folder not in stopped:
                    held[folder] = state
                if state != "running" and (new := [t for t in tags if t not in tagged.get(folder.name, ())]):
                    journal.append(folder, Tag(add=new))
    except MmctlError as error:
        # Training must be possible without the database.
        return Remaining(list(planned), [], [f"warning: cannot check for finished runs: {error}"], {})
    return Remaining(left, stopped, messages, held)


def _changed(folder: Path) -> str:
    """The package whose version changed since a stopped run began, so that it cannot be continued exactly, or ""."""
    try:
        then = read_record(folder)["environment"].get("versions")
    except MmctlError:
        return "run.json"
    if not isinstance(then, dict):
        return ""
    return next((name for name, version in environment.versions().items() if then.get(name, version) != version), "")
