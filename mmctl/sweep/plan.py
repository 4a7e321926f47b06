"""What a sweep will do: which of its runs are done, go on or are new, and how long they will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmctl.errors import MmctlError, UserError
from mmctl.recipe.recipe import Recipe
from mmctl.runs.build import Shared
from mmctl.runs.preflight import preflight
from mmctl.runs.skip_done import Hashes, Remaining, skip_done
from mmctl.sweep.estimate import longest_first, paces, seconds_for
from mmctl.sweep.grid import Cell, Grid
from mmctl.text import duration

SHOWN = 40
"""Cells that a dry run lists."""


class Plan(NamedTuple):
    """The runs of a sweep."""

    cells: Sequence[Cell]
    seeds: Sequence[int]
    new: Sequence[Recipe]  # in the order of their start
    stopped: Sequence[Path]  # those that go on
    held: dict[Path, str]  # those that are done, run or wait, or have failed -> their states
    notes: Sequence[str]  # of the grid, and of runs that are there
    paces: dict[str, float | None]
    hashes: Hashes


def check_cells(cells: Sequence[Cell], quiet: bool = False) -> Hashes:
    """Read the data and try one step of each cell; the error of the first wrong one names it.

    Returns a function: recipe of a cell, with any seed -> hash of its data set, hash of its split.
    """
    shared: Shared = {}
    found: dict[str, Hashes] = {}
    for cell in cells:
        try:
            found[cell.recipe.config_id] = preflight([cell.recipe], quiet, shared)
        except MmctlError as error:
            if error.exit_code != UserError.exit_code:
                raise
            raise UserError(f"{cell.label}: {error}") from error
    return lambda recipe: found[recipe.config_id](recipe)


def make_plan(grid: Grid, seeds: Sequence[int], runs: Path, tags: Sequence[str], quiet: bool, again: bool) -> Plan:
    """Check every cell, and look for runs that have computed it; again: as if there were none.

    tags: for runs that are there.
    """
    hashes, planned = check_cells(grid.cells, quiet), grid.runs(seeds)
    found = Remaining(planned, [], []) if again else skip_done(planned, hashes, runs, tags, failed=True)
    known = paces(found.left, runs)
    new, notes = longest_first(found.left, known), [*grid.notes, *found.notes]
    return Plan(grid.cells, seeds, new, found.stopped, found.held, notes, known, hashes)


def summary(plan: Plan) -> str:
    """How many runs are done, wait, go on and are new."""
    words = {"completed": "done", "nc": "done (not converged)", "running": "running", "failed": "failed"}
    counts = Counter(words.get(state, "waiting") for state in plan.held.values())
    counts["to continue"], counts["new"] = len(plan.stopped), len(plan.new)
    total = sum(counts.values())
    return f"{total} run{'s' * (total != 1)}: " + ", ".join(f"{n} {word}" for word, n in counts.items() if n)


def plan_lines(plan: Plan, slots: int) -> list[str]:
    """The cells with the numbers of their new runs, and the time for all; slots: runs in parallel."""
    new = Counter(recipe.config_id for recipe in plan.new)
    each = max(1, len(plan.seeds))
    lines = []
    for label, recipe in plan.cells[:SHOWN]:
        lines.append(f"  {label}  {new[recipe.config_id]} new of {each}, {_time(recipe, plan)}")
    if (more := len(plan.cells) - SHOWN) > 0:
        lines.append(f"  ... and {more} more")
    return [*lines, _all(plan, slots)]


def _time(recipe: Recipe, plan: Plan) -> str:
    seconds = seconds_for(recipe, plan.paces.get(recipe.config_id))
    return "time unknown" if seconds is None else f"about {duration(seconds)} each"


def _all(plan: Plan, slots: int) -> str:
    """The hours of all new runs together, and until they are done."""
    times = [seconds_for(recipe, plan.paces[recipe.config_id]) for recipe in plan.new]
    known = [time for time in times if time is not None]
    if not plan.new:
        return "nothing is new"
    if not known:
        return "time of the new runs: unknown, since no similar run has completed"
    more = f" for {len(known)} of {len(times)}, the others unknown" if len(known) < len(times) else ""
    whole = max(sum(known) / slots, max(known))
    return f"time of the new runs: {duration(sum(known))}{more}; {duration(whole)} with {slots} in parallel"
