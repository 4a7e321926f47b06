"""`mmctl run` and `resume`: the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import (
    AcceptChanges,
    Filter,
    FromStart,
    InSweep,
    Jobs,
    Name,
    Quiet,
    RecipesOrNone,
    Seeds,
    Sets,
    parse_seeds,
    whole,
    with_sweep,
)
from mmctl.cli.ranks import Gpus, check_gpus, check_recipe, stored_recipe, train_shared
from mmctl.cli.runs import ask_engines
from mmctl.cli.train import train_run

if TYPE_CHECKING:
    from mmctl.recipe.layers import Layers
    from mmctl.runs.build import Shared


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(run)
    app.command()(resume)


def run(
    recipes: RecipesOrNone = None,
    sets: Sets = None,
    seeds: Seeds = None,
    name: Name = None,
    tags: list[str] = typer.Option([], "--tag", metavar="TAG", help="Add a tag. Can be given several times."),
    note: str = typer.Option("", "--note", metavar="TEXT", help="Add a note; `mmctl show` prints it."),
    jobs: Jobs = 0,
    force: bool = typer.Option(
        False, "--force", "-f", help="Start a new run even if an identical one is finished or stopped."
    ),
    extend: str = typer.Option(
        "", "--extend", metavar="RUN", help="Train a completed run longer, in a new run, to --set train.steps=N."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the plan and the measured speed, then stop."),
    profile: int = typer.Option(
        0, "--profile", parser=whole, metavar="N", help="Show what the time of N training steps is spent on, then stop."
    ),
    gpus: Gpus = 0,
    quiet: Quiet = False,
) -> None:
    """Train the models that recipes describe.

    A run that is already finished with the same settings and code is not trained again, and one that was stopped is
    continued.

    \b
    Examples:
      mmctl run digits
      mmctl run digits --seeds 0-4 --set train.steps=300
      mmctl run ferplus-2000 --dry-run
      mmctl run ferplus-2000 --gpus 2
      mmctl run --extend 3 --set train.steps=4000
    """
    from mmctl.runs.progress import tell
    from mmctl.store.select import checked_tags

    # First what needs no torch, which takes seconds to import.
    checked_tags(tags)
    numbers = parse_seeds(seeds)
    several = {"several recipes": len(recipes or []) > 1, "--seeds": len(numbers) > 1, "--jobs": jobs}
    check_gpus(gpus, {**several, "--extend": extend, "--dry-run": dry_run, "--profile": profile})
    if extend or not recipes:
        extra = {
            "a recipe": recipes, "--seeds": seeds, "--jobs": jobs, "--dry-run": dry_run, "--profile": profile
        }  # fmt: skip
        _extend(extend, [word for word, given in extra.items() if given], sets or [], name, tags, note, force, quiet)
        return
    from mmctl import project
    from mmctl.recipe.early import check_data_folder
    from mmctl.recipe.recipe import load
    from mmctl.registry.index import Index

    index = Index()
    done: dict[Path, Layers] = {}
    for given in recipes:
        check_data_folder(given, sets or [], index, done)
    wanted = [load(given, sets or [], index, done) for given in recipes]
    for recipe in wanted:
        if recipe.published is None and "published" in recipe.layers.data:
            tell(f"note: {recipe.name}: published result ignored, because your settings differ from its settings")
    if dry_run:
        from mmctl.preview.dry_run import print_plan

        for recipe in wanted:
            print_plan(recipe if not numbers else recipe.with_seed(numbers[0]), quiet=quiet)
        return
    if profile:
        from mmctl.preview.profile import profile_steps

        for recipe in wanted:
            profile_steps(recipe, profile, project.runs_dir())
        return
    planned = [r.with_seed(n) for n in numbers for r in wanted] if numbers else wanted
    # One run that is left of several is trained as one of several: its number of threads follows from the command.
    from mmctl.runs.resume import LOCAL

    alone = len(planned) == 1 and wanted[0].data["launcher"]["name"] == LOCAL
    from mmctl.runs.provenance import Provenance

    provenance = Provenance()  # before torch is imported and the data are read, which takes longer
    if gpus > 1:
        check_gpus(gpus, {"a launcher other than local": not alone})
        check_recipe(wanted[0], gpus)
    from mmctl.runs.preflight import preflight

    shared: Shared = {}
    hashes = preflight(wanted, quiet, shared)
    stopped: list[Path] = []
    if not force:
        from mmctl.runs.skip_done import skip_done

        found = skip_done(planned, hashes, project.runs_dir(), tags)
        planned, stopped = found.left, found.stopped
        for line in found.messages():
            tell(line, out=True)
    if not planned and not stopped:
        return
    from mmctl.runs.other_seeds import compare

    compare(planned, hashes, project.runs_dir(), provenance)
    if alone:
        from mmctl.runs.create import create_run
        from mmctl.runs.signals import StopSignal

        with StopSignal() as stop:
            for recipe in planned:
                stopped = [
                    create_run(
                        recipe, project.runs_dir(), name=name, tags=tags, note=note or None, provenance=provenance
                    )
                ]
            if gpus > 1:
                del hashes, shared  # frees the images; each process reads its own
                train_shared(stopped[0], gpus, {"--quiet": quiet}, stop)
            else:
                train_run(stopped[0], stop, quiet, shared=shared)
    else:
        from mmctl.sweep.launch import Labels, launch

        del hashes, shared  # frees the images; each process reads its own
        labels = Labels(name, tags, note or None)
        launch(
            planned, project.runs_dir(), stopped=stopped, jobs=jobs, quiet=quiet, labels=labels, provenance=provenance
        )


def _extend(
    run: str, extra: list[str], sets: list[str], name: str | None, tags: list[str], note: str, force: bool, quiet: bool
) -> None:
    """Train a finished run longer; extra: what was given and does not go with it."""
    from mmctl import project
    from mmctl.errors import UserError
    from mmctl.store.select import folder_of_run

    if not run:
        raise UserError("no recipe given: `mmctl run RECIPE`. `mmctl recipe list` shows all names.")
    if extra:
        raise UserError(f"--extend: cannot be combined with {' and '.join(extra)}; the recipe and seed are the run's.")
    folder = folder_of_run(run)
    from mmctl.runs.extend import check_extension
    from mmctl.runs.other_seeds import compare
    from mmctl.runs.progress import tell
    from mmctl.runs.provenance import Provenance
    from mmctl.runs.signals import StopSignal

    shared: Shared = {}
    provenance = Provenance()
    new, runs, stopped = check_extension(folder, sets, shared), project.runs_dir(), list[Path]()
    if not force and new.parent["exact"]:  # otherwise one of an exact twin of the parent would be taken for it
        from mmctl.runs.skip_done import skip_done

        found = skip_done([new.recipe], new.hashes, runs, tags, new.parent)
        stopped = found.stopped
        for line in found.messages():
            tell(line, out=True)
        if not found.left and not stopped:
            return
    compare([] if stopped else [new.recipe], new.hashes, runs, provenance, new.parent)
    with StopSignal() as stop:
        made = (
            stopped[0] if stopped else new.create(runs, name=name, tags=tags, note=note or None, provenance=provenance)
        )
        train_run(made, stop, quiet, shared=shared)


def resume(
    terms: Filter = None,
    sweep: InSweep = None,
    jobs: Jobs = 0,
    accept_changes: AcceptChanges = False,
    from_start: FromStart = False,
    gpus: Gpus = 0,
    quiet: Quiet = False,
) -> None:
    """Continue stopped or crashed runs.

    Takes the filters of `mmctl ls` and continues all matching runs that are interrupted, crashed or queued. Without a
    filter, it lists the runs that can be continued.

    Training continues from the newest checkpoint. On the same hardware and software, the result is equal to the last
    bit to that of a run that was never stopped.

    \b
    Examples:
      mmctl resume @last
      mmctl resume 3 5 --quiet
      mmctl resume tag:demo --jobs 2
      mmctl resume 3 --gpus 2
      mmctl resume --sweep digits
    """
    from mmctl import project
    from mmctl.errors import UserError
    from mmctl.runs.progress import tell
    from mmctl.runs.resume import choose, is_local

    ask_engines(project.runs_dir(), fresh=True)
    folders, lines = choose(with_sweep(terms, sweep))
    for line in lines:
        tell(line)
    check_gpus(gpus, {"several runs": len(folders) > 1, "--jobs": jobs})
    option = "--accept-changes" if accept_changes else "--from-start" if from_start else ""
    away = len(folders) == 1 and not is_local(folders[0])
    if gpus > 1 and folders:
        from mmctl.runs.signals import StopSignal

        check_recipe(stored_recipe(folders[0]), gpus)
        options = {"--quiet": quiet, "--accept-changes": accept_changes, "--from-start": from_start}
        with StopSignal() as stop:
            train_shared(folders[0], gpus, options, stop)
    elif len(folders) > 1 or (away and not option):
        if option:
            raise UserError(f"{option}: give one run at a time.")
        from mmctl.sweep.launch import launch

        launch([], project.runs_dir(), stopped=folders, jobs=jobs, quiet=quiet)
    elif folders:
        import mmctl.runs.execute  # noqa: F401 - takes seconds; until then Ctrl-C ends the command at once
        from mmctl.runs.signals import StopSignal

        with StopSignal() as stop:
            train_run(folders[0], stop, quiet, accept_changes, from_start)
