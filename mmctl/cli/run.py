"""`mmctl run`, `resume` and `exec`: the commands that train."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Quiet, Recipes, Run, Seeds, Sets, parse_seeds, whole

if TYPE_CHECKING:
    from mmctl.runs.progress import Progress
    from mmctl.runs.recorder import Outcome
    from mmctl.training.loop import Event
    from mmctl.training.state import Training


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(run)
    app.command()(resume)
    app.command("exec", hidden=True)(exec_)


def run(
    recipes: Recipes,
    sets: Sets = None,
    seeds: Seeds = None,
    name: str = typer.Option("", "--name", metavar="NAME", help="Name of the run in listings."),
    tags: list[str] = typer.Option([], "--tag", metavar="TAG", help="Add a tag. Can be given several times."),
    note: str = typer.Option("", "--note", metavar="TEXT", help="Add a note; `mmctl show` prints it."),
    jobs: int = typer.Option(
        0, "--jobs", "-j", parser=whole, metavar="N", help="Parallel runs; 0 = one per core, or eight per GPU."
    ),
    force: bool = typer.Option(False, "--force", "-f", help="Train again even if an identical finished run exists."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the plan and the measured speed, then stop."),
    profile: int = typer.Option(
        0, "--profile", parser=whole, metavar="N", help="Show what the time of N training steps is spent on, then stop."
    ),
    quiet: Quiet = False,
) -> None:
    """Train the models that recipes describe.

    A run that is already finished with the same settings and code is not trained again.

    \b
    Examples:
      mmctl run digits
      mmctl run digits --seeds 0-4 --set train.steps=300
      mmctl run ferplus-2000 --dry-run
    """
    from mmctl import project
    from mmctl.recipe.recipe import load
    from mmctl.runs.progress import tell
    from mmctl.store.select import checked_tags

    checked_tags(tags)
    wanted = [load(given, sets=sets or []) for given in recipes]
    for recipe in wanted:
        if recipe.published is None and "published" in recipe.layers.data:
            tell(f"note: {recipe.name}: published result ignored, because your settings differ from its settings")
    numbers = parse_seeds(seeds)
    if dry_run:
        from mmctl.preview.dry_run import print_plan

        for recipe in wanted:
            print_plan(recipe if not numbers else recipe.with_seed(numbers[0]))
        return
    if profile:
        from mmctl.preview.profile import profile_steps

        for recipe in wanted:
            profile_steps(recipe, profile, project.runs_dir())
        return
    planned = [r.with_seed(n) for n in numbers for r in wanted] if numbers else wanted
    from mmctl.runs.preflight import preflight

    hashes = preflight(wanted)
    if not force:
        from mmctl.runs.skip_done import skip_done

        planned, lines = skip_done(planned, hashes, project.runs_dir(), tags)
        for line in lines:
            tell(line, out=True)
        if not planned:
            return
    del hashes  # frees the images that they hold; each run reads its own
    if len(planned) == 1 and planned[0].data["launcher"]["name"] == "mmctl:local":
        from mmctl.runs.create import create_run

        folder = create_run(planned[0], project.runs_dir(), name=name or None, tags=tags, note=note or None)
        _train(folder, quiet)
    else:
        from mmctl.runs.launch import launch

        launch(planned, project.runs_dir(), jobs=jobs, name=name or None, tags=tags, note=note or None)


def _train(folder: Path, quiet: bool, accept_changes: bool = False) -> None:
    import sys

    from mmctl.errors import MmctlError, Stopped
    from mmctl.run_folder.record import read_record
    from mmctl.runs.execute import execute
    from mmctl.runs.progress import Progress, tell
    from mmctl.runs.signals import StopSignal

    total = read_record(folder)["total_steps"]
    stop = StopSignal()
    with Progress(total, quiet=quiet) as progress:
        if not quiet:
            progress.say(f"run {folder.name}")
        try:
            outcome = execute(folder, stop, partial(_show, progress), accept_changes=accept_changes)
        except KeyboardInterrupt:
            tell(f"stopped without saving. `mmctl resume {folder.name}` continues from the last checkpoint.")
            sys.exit(130)
        except MmctlError as error:
            if error.exit_code in (3, 4):
                progress.say(f"run {folder.name} failed")
            raise
    _print_outcome(folder, outcome)
    if outcome.state == "interrupted":
        raise Stopped(f"saved at step {outcome.step}/{total}. Continue with:  mmctl resume {folder.name}")


def _show(progress: Progress, event: Event, training: Training) -> None:
    """Show an event of a run to the user."""
    from mmctl.training.loop import Alarm, Evaluated, Notice, Point, Saved

    match event:
        case None:
            progress.step(training.step)
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
    ended = execute_pack(folders, StopSignal(), lambda folder, event, training: _show(shown[folder], event, training))
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


def _print_outcome(folder: Path, outcome: Outcome) -> None:
    from mmctl.run_folder.record import last_scores
    from mmctl.runs.progress import tell

    if outcome.state == "nc":
        tell(f"{folder.name}: not converged (nc), stopped at step {outcome.step}: {outcome.reason}", out=True)
    elif outcome.state == "completed":
        tell(f"{folder.name}: completed, {outcome.step} steps{last_scores(folder)}", out=True)
        tell(f"  mmctl show {folder.name}   mmctl evaluate {folder.name}   mmctl compare", out=True)


def resume(
    run: Run,
    accept_changes: bool = typer.Option(
        False, "--accept-changes", help="Resume although a plugin changed (marks the run as not exact)."
    ),
    quiet: Quiet = False,
) -> None:
    """Continue a stopped or crashed run.

    Training continues from the newest checkpoint. On the same hardware and software, the result is equal to the last
    bit to that of a run that was never stopped.

    \b
    Examples:
      mmctl resume @last
      mmctl resume 3 --quiet
    """
    from mmctl.store.select import folder_of_run

    _train(folder_of_run(run), quiet, accept_changes)


def exec_(
    folders: list[Path] = typer.Argument(metavar="FOLDER", help="Run folders."),
) -> None:
    """Train the runs in these folders.

    Launchers start this command. All runs share one process, and each continues from its newest checkpoint.
    """
    if len(folders) == 1:
        _train(folders[0].resolve(), quiet=False)
    else:
        _train_pack([folder.resolve() for folder in folders])
