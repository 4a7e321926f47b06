"""`mmctl run`, `resume` and `exec`: the commands that train."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.ended import end_at_once, print_outcome
from mmctl.cli.options import Filter, Jobs, Name, Quiet, RecipesOrNone, Seeds, Sets, parse_seeds, whole

if TYPE_CHECKING:
    from mmctl.recipe.layers import Layers
    from mmctl.runs.progress import Progress
    from mmctl.runs.signals import StopSignal
    from mmctl.training.loop import Event
    from mmctl.training.state import Training


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(run)
    app.command()(resume)
    app.command("exec", hidden=True)(exec_)


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
      mmctl run --extend 3 --set train.steps=4000
    """
    from mmctl.runs.progress import tell
    from mmctl.store.select import checked_tags

    # First what needs no torch, which takes seconds to import.
    checked_tags(tags)
    numbers = parse_seeds(seeds)
    if extend or not recipes:
        extra = (("a recipe", recipes), ("--seeds", seeds), ("--dry-run", dry_run), ("--profile", profile))
        _extend(extend, [word for word, given in extra if given], sets or [], name, tags, note, quiet)
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
    alone = len(planned) == 1 and wanted[0].data["launcher"]["name"] == "mmctl:local"
    from mmctl.runs.preflight import preflight

    hashes = preflight(wanted, quiet)
    stopped: list[Path] = []
    if not force:
        from mmctl.runs.skip_done import skip_done

        planned, stopped, lines = skip_done(planned, hashes, project.runs_dir(), tags)
        for line in lines:
            tell(line, out=True)
    del hashes  # frees the images that they hold; each run reads its own
    if not planned and not stopped:
        return
    if alone:
        from mmctl.runs.create import create_run
        from mmctl.runs.signals import StopSignal

        with StopSignal() as stop:
            for recipe in planned:
                stopped = [create_run(recipe, project.runs_dir(), name=name, tags=tags, note=note or None)]
            _train(stopped[0], stop, quiet)
    else:
        from mmctl.runs.launch import launch

        launch(
            planned, project.runs_dir(), stopped=stopped, jobs=jobs, quiet=quiet, name=name, tags=tags,
            note=note or None,
        )  # fmt: skip


def _extend(
    run: str, extra: list[str], sets: list[str], name: str | None, tags: list[str], note: str, quiet: bool
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
    from mmctl.runs.extend import extend_run
    from mmctl.runs.signals import StopSignal

    with StopSignal() as stop:
        new = extend_run(folder, project.runs_dir(), sets, name=name, tags=tags, note=note or None)
        _train(new, stop, quiet)


def _train(folder: Path, stop: StopSignal, quiet: bool, accept_changes: bool = False, from_start: bool = False) -> None:
    from mmctl.errors import MmctlError, Stopped
    from mmctl.run_folder.record import read_record
    from mmctl.runs.execute import execute
    from mmctl.runs.progress import Progress
    from mmctl.training.checkpoint import steps

    try:
        about = read_record(folder)
        total, start = about["total_steps"], 0 if from_start else max(steps(folder), default=0)
        data = about["config"].get("dataset")
        doing = f"reading {data['name'] if isinstance(data, dict) and 'name' in data else 'the data'}, first step ..."
        with Progress(total, start=start, doing=doing, quiet=quiet) as progress:
            if not quiet:
                progress.say(f"run {folder.name}")
            try:
                watch = partial(_show, progress)
                outcome = execute(folder, stop, watch, accept_changes=accept_changes, from_start=from_start)
            except MmctlError as error:
                if error.exit_code in (3, 4):
                    progress.say(f"run {folder.name} failed")
                raise
    except KeyboardInterrupt:
        end_at_once(folder)
        return
    print_outcome(folder, outcome)
    if outcome.state == "interrupted":
        where = f"saved at step {outcome.step}/{total}" if outcome.step else "stopped before the first step"
        raise Stopped(f"{where}. Continue with:  mmctl resume {folder.name}")


def _show(progress: Progress, event: Event, training: Training) -> None:
    """Show an event of a run to the user."""
    from mmctl.training.loop import Alarm, Evaluated, Notice, Point, Saved, Started

    match event:
        case None:
            progress.step(training.step, training.seconds_aside)
        case Started(_, hardware):
            if not progress.quiet:
                progress.say(f"hardware: {hardware}")
        case Point(_, values):
            progress.point(values)
        case Evaluated(step, split, weights, scores, _):
            if weights == list(training.nets)[-1]:
                progress.evaluated(split, weights, step, scores["head"].metrics, scores["centroid"].metrics)
        case Notice(_, text):
            progress.say(f"note: {text}")
        case Alarm(step, kind, text, _):
            progress.say(f"alarm at step {step} ({kind}): {text}")
        case Saved():
            pass


def _train_pack(folders: list[Path]) -> None:
    """Train several runs in this process; the messages of each go to log.txt in its folder."""
    from mmctl.errors import MmctlError, PartFailed, Stopped
    from mmctl.run_folder.record import last_scores, read_record
    from mmctl.runs.pack import execute_pack
    from mmctl.runs.progress import Progress
    from mmctl.runs.signals import StopSignal

    shown = {f: Progress(read_record(f)["total_steps"], log=f / "log.txt") for f in folders}
    for folder, progress in shown.items():
        progress.say(f"run {folder.name}, in one process with {len(folders) - 1} more")
    with StopSignal() as stop:
        ended = execute_pack(folders, stop, lambda folder, event, training: _show(shown[folder], event, training))
    failed = stopped = 0
    for folder, end in ended.items():
        if isinstance(end, MmctlError):
            failed += 1
            shown[folder].say(f"mmctl: {end}")
        else:
            stopped += end.state == "interrupted"
            words = last_scores(folder) if end.state == "completed" else ""
            shown[folder].say(f"{folder.name}: {end.state}, {end.step} steps{words}")
    if failed:
        raise PartFailed(f"{failed} of {len(folders)} runs failed; the reason of each is in its log.txt.")
    if stopped:
        raise Stopped(f"{stopped} of {len(folders)} runs stopped at a checkpoint; `mmctl resume RUN` continues one.")


def resume(
    terms: Filter = None,
    jobs: Jobs = 0,
    accept_changes: bool = typer.Option(
        False,
        "--accept-changes",
        help="Resume although a plugin or a file of the run changed (marks the run as not exact).",
    ),
    from_start: bool = typer.Option(
        False, "--from-start", help="Train again from step 0; checkpoints that are there are renamed."
    ),
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
    """
    from mmctl import project
    from mmctl.errors import UserError
    from mmctl.runs.progress import tell
    from mmctl.runs.resume import choose

    folders, lines = choose(terms or [])
    for line in lines:
        tell(line)
    if len(folders) > 1:
        if accept_changes or from_start:
            option = "--accept-changes" if accept_changes else "--from-start"
            raise UserError(f"{option}: give one run at a time.")
        from mmctl.runs.launch import launch

        launch([], project.runs_dir(), stopped=folders, jobs=jobs, quiet=quiet)
    elif folders:
        import mmctl.runs.execute  # noqa: F401 - takes seconds; until then Ctrl-C ends the command at once
        from mmctl.runs.signals import StopSignal

        with StopSignal() as stop:
            _train(folders[0], stop, quiet, accept_changes, from_start)


def exec_(
    folders: list[Path] = typer.Argument(metavar="FOLDER", help="Run folders."),
) -> None:
    """Train the runs in these folders.

    Launchers start this command. All runs share one process, and each continues from its newest checkpoint.
    """
    import mmctl.runs.execute  # noqa: F401 - takes seconds; until then a signal ends the process at once
    from mmctl.runs.signals import StopSignal

    if len(folders) == 1:
        with StopSignal() as stop:
            _train(folders[0].resolve(), stop, quiet=False)
    else:
        _train_pack([folder.resolve() for folder in folders])
