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


class Twin(NamedTuple):
    """A run that has computed, computes or can compute a planned one."""

    what: str  # the planned one, for people
    folder: Path
    state: str
    at: str  # how far it got
    waits: str | None  # who will start it

    @property
    def goes_on(self) -> bool:
        """Whether it was stopped, and is to be continued by whoever planned it."""
        return self.state in STOPPED and self.waits is None

    def line(self) -> str:
        """What is done with it, for people."""
        name = self.folder.name
        if self.goes_on:
            return f"{self.what}: continues run {name}, which stopped at step {self.at}; --force starts a new run"
        if self.waits:
            return f"{self.what}: run {name} {self.waits}; --force starts another run"
        if self.state == "running":
            return f"{self.what}: run {name} is computing it; --force starts another run"
        if self.state == "failed":
            return f"{self.what}: run {name} has failed; `mmctl retry {name}` tries it again"
        words = "not converged" if self.state == "nc" else f"completed{last_scores(self.folder)}"
        return f"{self.what}: already done in run {name} ({words}); --force runs it again"


class Remaining(NamedTuple):
    """Recipes that must still be run, the runs of all others, and what is to be said of neither."""

    left: list[Recipe]
    twins: list[Twin]
    notes: list[str]

    @property
    def stopped(self) -> list[Path]:
        """The stopped runs that go on in the place of recipes."""
        return [twin.folder for twin in self.twins if twin.goes_on]

    @property
    def held(self) -> dict[Path, str]:
        """The runs that have computed, compute or wait to compute a recipe -> their states."""
        return {twin.folder: twin.state for twin in self.twins if not twin.goes_on}

    def messages(self) -> list[str]:
        """A line for each recipe that is not left, after the notes; reads the scores of runs."""
        return [*self.notes, *(twin.line() for twin in self.twins)]


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
    found = Remaining([], [], [])
    taken: set[tuple[str, int]] = set()
    code, order = environment.code(), ORDER | ({"failed": 3} if failed else {})
    try:
        with open_for_reading(runs) as store:
            tagged = {run["uid"]: run["tags"] for run in store.runs()} if tags else {}
            for recipe in planned:
                what = f"{recipe.name}, seed {recipe.seed}"
                key = config_id_of(recipe.data, recipe.components(), parent=parent), recipe.seed
                if key in taken:
                    found.notes.append(f"{what}: given twice, runs once")
                    continue
                taken.add(key)
                twins = store.twins(*key, (*hashes(recipe), code))
                counts = [t for t in twins if t["state"] in order and (t["exact"] or t["state"] == "running")]
                # Of the stopped ones, the one that got furthest.
                best = min(counts, key=lambda t: (order[t["state"]], -t["step"]), default=None)
                if best is None:
                    found.left.append(recipe)
                    continue
                folder, state = runs / best["uid"], best["state"]
                waits = queue.waits_for(folder) if state in STOPPED else None
                twin = Twin(what, folder, state, f"{best['step']} of {best['total_steps']}", waits)
                if twin.goes_on and (changed := _changed(folder)):
                    found.notes.append(
                        f"{what}: note: {folder.name} stopped at step {best['step']}; a new run starts, because "
                        f"{changed} changed since then"
                    )
                    found.left.append(recipe)
                    continue
                found.twins.append(twin)
                if state != "running" and (new := [t for t in tags if t not in tagged.get(folder.name, ())]):
                    journal.append(folder, Tag(add=new))
    except MmctlError as error:
        # Training must be possible without the database.
        return Remaining(list(planned), [], [f"warning: cannot check for finished runs: {error}"])
    return found


def _changed(folder: Path) -> str:
    """The package whose version changed since a stopped run began, so that it cannot be continued exactly, or ""."""
    try:
        then = read_record(folder)["environment"].get("versions")
    except MmctlError:
        return "run.json"
    if not isinstance(then, dict):
        return ""
    return next((name for name, version in environment.versions().items() if then.get(name, version) != version), "")
