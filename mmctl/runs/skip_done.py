"""What has been computed already: the same settings, seed, data, split and code are not computed twice."""

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
from mmctl.store.store import Store

Hashes = Callable[[Recipe], tuple[str, str]]
"""Of a recipe's data and of its split."""


class Remaining(NamedTuple):
    """Recipes that are still to be run, and a line for whatever a person should know of the others."""

    left: list[Recipe]
    said: list[str]


def skip_done(planned: Sequence[Recipe], hashes: Hashes, runs: Path, tags: Sequence[str] = ()) -> Remaining:
    """Leave out what a run in that folder has computed, or computes now; a stopped one is only named.

    A completed run that stands for one of the command's gets the command's tags: what is asked for is found by them.
    """
    left: list[Recipe] = []
    said: list[str] = []
    taken: set[tuple[str, int]] = set()
    code = environment.code()
    try:
        with Store(runs) if runs.is_dir() else Store(runs, memory=True) as store:
            store.sync()
            tagged = {run["uid"]: run["tags"] for run in store.runs()} if tags else {}
            for recipe in planned:
                what = f"{recipe.name}, seed {recipe.seed}"
                if (recipe.config_id, recipe.seed) in taken:
                    said.append(f"{what}: named twice, run once")
                    continue
                taken.add((recipe.config_id, recipe.seed))
                found = store.twins(recipe.config_id, recipe.seed, (*hashes(recipe), code))
                done = next((t for t in found if t["state"] in ("completed", "nc") and t["exact"]), None)
                now = next((t for t in found if t["state"] == "running"), None)
                if done:
                    words = "not converged" if done["state"] == "nc" else f"completed{last_scores(runs / done['uid'])}"
                    said.append(f"{what}: computed already by {done['uid']} ({words}); --force computes it again")
                    if new := [tag for tag in tags if tag not in tagged.get(done["uid"], ())]:
                        journal.append(runs / done["uid"], Tag(add=new))
                elif now:
                    said.append(f"{what}: {now['uid']} computes it now; --force starts another")
                else:
                    left.append(recipe)
                    if stopped := next(
                        (t for t in found if t["state"] in ("interrupted", "crashed") and t["step"]), None
                    ):
                        at = f"step {stopped['step']} of {stopped['total_steps']}"
                        said.append(
                            f"{what}: note: {stopped['uid']} stopped at {at}; `mmctl resume` would go on with it"
                        )
    except MmctlError as error:
        # A database that cannot be read is no reason not to train.
        return Remaining(list(planned), [f"warning: cannot see what has been computed already: {error}"])
    return Remaining(left, said)
