"""`mmctl sweep`: the missing runs of a grid, put in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmctl.recipe.recipe import Recipe
from mmctl.run_folder import journal
from mmctl.run_folder.events import Sweep
from mmctl.runs.create import create_run
from mmctl.runs.other_seeds import compare
from mmctl.runs.progress import tell
from mmctl.runs.provenance import Provenance
from mmctl.runs.signals import SIGNALS, StopSignal
from mmctl.store.reading import open_for_reading
from mmctl.sweep.grid import Grid
from mmctl.sweep.launch import LEAVING, all_made, choose_launcher, hand_over, with_threads
from mmctl.sweep.plan import make_plan, plan_lines, summary


class Wish(NamedTuple):
    """What a person wants of a sweep."""

    name: str
    seeds: Sequence[int] = ()
    jobs: int = 0
    tags: Sequence[str] = ()
    note: str | None = None
    again: bool = False  # new runs although there are some
    detach: bool = False  # return as soon as the runs are in the queue
    quiet: bool = False


def preview(grid: Grid, wish: Wish, runs: Path) -> list[str]:
    """What a sweep would do, line by line; changes nothing."""
    plan = make_plan(grid, wish.seeds, runs, (), wish.quiet, wish.again)
    slots = choose_launcher([cell.recipe for cell in grid.cells], wish.jobs).launcher.limits().slots
    return [*plan.notes, f"sweep {wish.name}: {summary(plan)}", *plan_lines(plan, slots)]


def start_sweep(grid: Grid, wish: Wish, runs: Path) -> None:
    """Create the missing runs of a grid, put them and the stopped ones in the queue, and show their progress.

    Raises the errors of Watch; Ctrl-C leaves the runs in the queue.
    """
    provenance = Provenance()  # looks at the code while the data are read
    plan = make_plan(grid, wish.seeds, runs, wish.tags, wish.quiet, wish.again)
    chosen = choose_launcher([cell.recipe for cell in grid.cells], wish.jobs)
    for line in [*plan.notes, f"sweep {wish.name}: {summary(plan)}"]:
        tell(line, out=True)
    compare(list(plan.new), plan.hashes, runs, provenance)
    new = with_threads(plan.new, chosen)
    with StopSignal(LEAVING, at_once=SIGNALS) as stop:
        _join(wish.name, [*plan.stopped, *plan.held], runs)
        made = (_create(recipe, wish, runs, provenance) for recipe in new)
        folders = all_made(plan.stopped, made, stop, wish.tags)
        if folders:
            hand_over(
                folders, chosen, runs, stop, sweep=wish.name, detach=wish.detach, quiet=wish.quiet, tags=wish.tags
            )
        else:
            again = f", `mmctl retry --failed --sweep {wish.name}` tries failed ones again"
            hint = again if "failed" in plan.held.values() else ""
            tell(f"nothing is missing. `mmctl ls --sweep {wish.name}` lists the runs{hint}.", out=True)


def _create(recipe: Recipe, wish: Wish, runs: Path, provenance: Provenance) -> Path:
    """A new run of the sweep; its folder never exists without saying so."""

    def member(draft: Path, uid: str) -> None:
        journal.append(draft, Sweep(name=wish.name))

    return create_run(recipe, runs, tags=wish.tags, note=wish.note, provenance=provenance, add=member)


def _join(name: str, folders: Sequence[Path], runs: Path) -> None:
    """Make runs that are there members of the sweep."""
    if folders:
        with open_for_reading(runs) as store:
            members = {run["uid"] for run in store.runs() if name in run["sweeps"]}
        for folder in folders:
            if folder.name not in members:
                journal.append(folder, Sweep(name=name))
