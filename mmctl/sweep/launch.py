"""Trains several runs with a launcher: puts them in the queue, and shows their progress.

launch(recipes, runs)      create the runs, put them in the queue, wait for their ends: `mmctl run`, `mmctl resume`
submit(folders, launcher)  put runs in the queue and see that somebody starts them
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmctl.cores import available_cores
from mmctl.errors import MmctlError, Stopped, UserError
from mmctl.plugin import Launcher
from mmctl.recipe.recipe import Recipe, load_stored
from mmctl.registry.parameters import parameters
from mmctl.run_folder import queue
from mmctl.run_folder.queue import Ended, Entry, Group
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.batch_view import BatchView
from mmctl.runs.create import create_run
from mmctl.runs.hardware import device_of, threads_of
from mmctl.runs.launcher import is_lasting, launcher_of
from mmctl.runs.progress import tell
from mmctl.runs.provenance import Provenance
from mmctl.runs.resume import LOCAL, resume_command
from mmctl.runs.signals import SIGNALS, StopSignal
from mmctl.sweep.background import ensure_supervisor
from mmctl.sweep.ending import NOT_BEGUN, note_ending
from mmctl.sweep.engines import submit_lasting
from mmctl.sweep.watch import Watch

LEAVING = "leaving the runs in the queue"
STOPPING = "stopping all runs, each after its current step"


class Chosen(NamedTuple):
    """A launcher, and the table [launcher] from which the supervisor makes it again."""

    table: Mapping[str, Any]
    launcher: Launcher

    @property
    def name(self) -> str:
        """The short name of the launcher."""
        return str(self.table["name"]).rpartition(":")[2]


class Labels(NamedTuple):
    """What a person says of all new runs of a command."""

    name: str | None = None
    tags: Sequence[str] = ()
    note: str | None = None


def launch(
    recipes: Sequence[Recipe],
    runs: Path,
    *,
    stopped: Sequence[Path] = (),
    jobs: int = 0,
    quiet: bool = False,
    labels: Labels = Labels(),
    provenance: Provenance | None = None,
) -> None:
    """Create a folder for each recipe, and train these and the stopped runs with the launcher of the first.

    jobs: parallel runs, 0 = automatic; quiet: no live display. Raises PluginError if the launcher does not work,
    PartFailed if some runs do not complete, and Stopped after a signal.
    """
    chosen = choose_launcher([*recipes, *_stored_recipes(stopped)], jobs)
    recipes = with_threads(recipes, chosen)
    with StopSignal(STOPPING, at_once=SIGNALS) as stop:
        folders = all_made(stopped, create_all(recipes, runs, labels, provenance), stop, labels.tags)
        if (group := submit(runs, folders, chosen)) is None:
            tell(f"{runs_are(len(folders))} in the hands of {chosen.name}. `mmctl ls` shows them.", out=True)
            return
        view = BatchView(chosen.launcher.limits().slots, quiet)
        Watch(runs, group, view, labels.tags).until_they_end(stop)


def put_back(folders: Sequence[Path], runs: Path, *, jobs: int = 0, detach: bool = False, quiet: bool = False) -> None:
    """Put runs in the queue that are there, and show their progress; Ctrl-C leaves them in the queue."""
    chosen = choose_launcher(_stored_recipes(folders), jobs)
    with StopSignal(LEAVING, at_once=SIGNALS) as stop:
        hand_over(folders, chosen, runs, stop, detach=detach, quiet=quiet)


def hand_over(
    folders: Sequence[Path],
    chosen: Chosen,
    runs: Path,
    stop: StopSignal,
    *,
    sweep: str = "",
    detach: bool = False,
    quiet: bool = False,
    tags: Sequence[str] = (),
) -> None:
    """Put runs in the queue; then show them, unless their engine keeps them or nobody wants to wait."""
    group = submit(runs, folders, chosen, sweep)
    which = f" --sweep {sweep}" if sweep else ""
    hint = f"To list: mmctl ls{which}. To stop: mmctl stop{which or ' --queued'}."
    if group is None:
        tell(f"{runs_are(len(folders))} in the hands of {chosen.name}. {hint}", out=True)
    elif detach:
        where = "in the queue of this machine, which goes on in the background"
        tell(f"{runs_are(len(folders))} {where}. {hint}", out=True)
    elif not Watch(runs, group, BatchView(chosen.launcher.limits().slots, quiet), tags).until_stopped(stop):
        tell(f"the runs stay in the queue, which goes on in the background. {hint}", out=True)


def create_all(
    recipes: Iterable[Recipe], runs: Path, labels: Labels, provenance: Provenance | None = None
) -> Iterator[Path]:
    """A new run folder for each recipe."""
    provenance = provenance or Provenance()  # one look for all
    for recipe in recipes:
        yield create_run(recipe, runs, name=labels.name, tags=labels.tags, note=labels.note, provenance=provenance)


def all_made(stopped: Sequence[Path], new: Iterable[Path], stop: StopSignal, tags: Sequence[str]) -> list[Path]:
    """The folders of stopped runs and of those that are being made; Stopped, and none is queued, after a signal."""
    folders = list(stopped)
    try:
        for folder in new:
            folders.append(folder)
    except KeyboardInterrupt:
        end = not_started(folders, tags)
        end.exit_code = 130
        raise end from None
    if stop():
        raise not_started(folders, tags)
    return folders


def submit(runs: Path, folders: Sequence[Path], chosen: Chosen, sweep: str = "") -> Group | None:
    """Put runs in the queue, in this order, and see that somebody starts them.

    Returns their group in the queue of this machine; None if the launcher's engine keeps them.
    """
    if is_lasting(chosen.launcher):
        submit_lasting(runs, folders, chosen.table, chosen.launcher, sweep)
        return None
    name = queue.new_name()
    for order, folder in enumerate(folders):
        queue.put(folder, Entry(name, order))
    group = queue.new_group(runs, chosen.table, folders, name, sweep=sweep, lasting=False)
    ensure_supervisor(runs)
    return group


def runs_are(n: int) -> str:
    """The beginning of a sentence about so many runs."""
    return "1 run is" if n == 1 else f"{n} runs are"


def not_started(folders: Sequence[Path], tags: Sequence[str]) -> Stopped:
    """The error of a command that was stopped before it started its runs, which then are not listed as queued."""
    for folder in folders:
        note_ending(folder, Ended("interrupted", NOT_BEGUN))
    return Stopped(f"stopped: {len(folders)} interrupted. Continue with:  {resume_command(folders, tags)}")


def choose_launcher(recipes: Sequence[Recipe], jobs: int) -> Chosen:
    """The launcher of the first recipe, with as many parallel runs as are wanted, or as the machine can do.

    Raises PluginError if it is no launcher, and UserError for `jobs` if it has no parameter `slots`.
    """
    own, who = recipes[0].data["launcher"], recipes[0].who("launcher")
    shape = recipes[0].resolved.parts["launcher", None].shape
    if jobs and not any(row.name == "slots" for row in parameters(shape.model)):
        raise UserError(f"--jobs: the {who} has no parameter slots: leave --jobs out.")
    sets = [f"launcher.slots={jobs}"] if jobs else []
    if own["name"] == LOCAL and not any(device_of(r.settings.train.device).type == "cuda" for r in recipes):
        # Several runs in one process only make better use of a GPU.
        sets += ["launcher.pack=1"] if "pack" not in own else []
        sets += [f"launcher.slots={available_cores()}"] if not jobs and "slots" not in own else []
    recipe = recipes[0].with_sets(sets)
    return Chosen(recipe.data["launcher"], launcher_of(recipe.data["launcher"], recipe.index))


def with_threads(recipes: Sequence[Recipe], chosen: Chosen) -> Sequence[Recipe]:
    """The recipes with a share of the cores for each of the parallel runs, so that any part of them gets the same.

    A recipe that says how many threads it uses, or that trains on a GPU, stays as it is; so do all if other machines
    train them, whose cores nobody knows here.
    """
    slots = 1 if is_lasting(chosen.launcher) else chosen.launcher.limits().slots
    share = [f"train.threads={threads_of(None, slots)}"]
    return [
        r if slots == 1 or r.settings.train.threads or r.settings.train.device == "cuda" else r.with_sets(share)
        for r in recipes
    ]


def _stored_recipes(folders: Sequence[Path]) -> list[Recipe]:
    """The recipes of runs; one that cannot be read fails with its own run, unless it is the only one."""
    found: list[Recipe] = []
    problem: MmctlError | None = None
    for folder in folders:
        try:
            found.append(load_stored(folder / "recipe.toml", upgrade_recipe))
        except MmctlError as error:
            problem = error
    if problem and not found:
        raise problem
    return found
