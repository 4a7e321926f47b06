"""Skips runs that were already computed with the same settings, seed, data, split and code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mmctl import environment
from mmctl.errors import MmctlError
from mmctl.recipe.recipe import Recipe
from mmctl.run_folder import journal
from mmctl.run_folder.events import Tag
from mmctl.run_folder.record import last_scores
from mmctl.store.reading import open_for_reading

Hashes = Callable[[Recipe], tuple[str, str]]
"""recipe -> hash of its data set, hash of its split."""


class Remaining(NamedTuple):
    """Recipes that must still be run, and messages about the skipped and stopped ones."""

    left: list[Recipe]
    messages: list[str]


def skip_done(planned: Sequence[Recipe], hashes: Hashes, runs: Path, tags: Sequence[str] = ()) -> Remaining:
    """Skip recipes that a run in folder `runs` has completed or is computing; mention stopped runs.

    The completed run of a skipped recipe gets the tags, so that the user finds it by them. If the database cannot be
    read, nothing is skipped.
    """
    left: list[Recipe] = []
    messages: list[str] = []
    taken: set[tuple[str, int]] = set()
    code = environment.code()
    try:
        with open_for_reading(runs) as store:
            tagged = {run["uid"]: run["tags"] for run in store.runs()} if tags else {}
            for recipe in planned:
                what = f"{recipe.name}, seed {recipe.seed}"
                if (recipe.config_id, recipe.seed) in taken:
                    messages.append(f"{what}: given twice, runs once")
                    continue
                taken.add((recipe.config_id, recipe.seed))
                found = store.twins(recipe.config_id, recipe.seed, (*hashes(recipe), code))
                done = next((t for t in found if t["state"] in ("completed", "nc") and t["exact"]), None)
                now = next((t for t in found if t["state"] == "running"), None)
                if done:
                    words = "not converged" if done["state"] == "nc" else f"completed{last_scores(runs / done['uid'])}"
                    messages.append(f"{what}: already done in run {done['uid']} ({words}); --force runs it again")
                    if new := [tag for tag in tags if tag not in tagged.get(done["uid"], ())]:
                        journal.append(runs / done["uid"], Tag(add=new))
                elif now:
                    messages.append(f"{what}: run {now['uid']} is computing it; --force starts another run")
                else:
                    left.append(recipe)
                    if stopped := next(
                        (t for t in found if t["state"] in ("interrupted", "crashed") and t["step"]), None
                    ):
                        at = f"step {stopped['step']} of {stopped['total_steps']}"
                        messages.append(f"{what}: note: {stopped['uid']} stopped at {at}; `mmctl resume` continues it")
    except MmctlError as error:
        # Training must be possible without the database.
        return Remaining(list(planned), [f"warning: cannot check for finished runs: {error}"])
    return Remaining(left, messages)
