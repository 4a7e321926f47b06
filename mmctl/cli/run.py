"""`mmctl run`, `resume` and `exec`: everything that trains."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.recipe.find import complete_recipe

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
    recipes: list[str] = typer.Argument(
        ...,
        metavar="RECIPE...",
        help="Recipes, by path or name; `mmctl recipe list` shows all.",
        autocompletion=complete_recipe,
    ),
    sets: list[str] = typer.Option([], "--set", "-s", metavar="KEY=VALUE", help="Change a value of the recipe."),
    seeds: str = typer.Option("", "--seeds", help='Several runs: "0-4", "0,2,5".'),
    name: str = typer.Option("", "--name", help="Name of the run in listings."),
    tags: list[str] = typer.Option([], "--tag", help="A tag to find it by; may be repeated."),
    note: str = typer.Option("", "--note", help="A sentence to remember it by."),
    jobs: int = typer.Option(0, "--jobs", "-j", min=0, help="Runs at a time; 0 = one a core, or eight a GPU."),
    force: bool = typer.Option(False, "--force", "-f", help="Also what has been computed already."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the plan, with measured speed; train nothing."),
    profile: int = typer.Option(0, "--profile", min=0, metavar="N", help="Show where N steps spend their time."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Only alarms and the end."),
) -> None:
    """Train what a recipe describes.

    mmctl run recipes/digits.toml
    mmctl run recipes/digits.toml --seeds 0-4 --set train.steps=300
    """
    from mmctl import project
    from mmctl.recipe.recipe import load
    from mmctl.runs.progress import tell
    from mmctl.store.select import checked_tags

    checked_tags(tags)
    wanted = [load(given, sets=sets) for given in recipes]
    for recipe in wanted:
        if recipe.published is None and "published" in recipe.layers.data:
            tell(f"note: {recipe.name}: the published figure is left out, since the settings are not those it is of")
    numbers = numbers_of(seeds)
    if dry_run:
        from mmctl.preview.dry_run import print_plan

        for recipe in wanted:
            print_plan(recipe if not numbers else recipe.with_seed(numbers[0]))
        return
    if profile:
        from mmctl.preview.profile import profile_steps as profiled

        for recipe in wanted:
            profiled(recipe, profile, project.runs_dir())
        return
    planned = [r.with_seed(n) for n in numbers for r in wanted] if numbers else wanted
    from mmctl.runs.preflight import preflight

    hashes = preflight(wanted)
    if not force:
        from mmctl.runs.skip_done import skip_done

        planned, said = skip_done(planned, hashes, project.runs_dir(), tags)
        for line in said:
            tell(line, out=True)
        if not planned:
            return
    del hashes  # and the pictures with it: a run reads its own
    if len(planned) == 1 and planned[0].data["launcher"]["name"] == "mmctl:local":
        from mmctl.runs.create import create_run

        folder = create_run(planned[0], project.runs_dir(), name=name or None, tags=tags, note=note or None)
        _train(folder, quiet)
    else:
        from mmctl.runs.launch import launch

        launch(planned, project.runs_dir(), jobs=jobs, name=name or None, tags=tags, note=note or None)


def numbers_of(text: str) -> list[int]:
    """The seeds that `0-4` or `0,2,5` names."""
    import re

    from mmctl.errors import UserError

    found: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        last = int(match[2] or match[1]) if match else -1
        if not match or last < int(match[1]) or last - int(match[1]) >= 10_000:
            raise UserError(f'--seeds: "{part}" is not a seed or a range; write "0-4" or "0,2,5".')
        found += range(int(match[1]), last + 1)
    if text and not found:
        raise UserError(f'--seeds: "{text}" names no seed; write "0-4" or "0,2,5".')
    if len(set(found)) < len(found):
        raise UserError(f'--seeds: "{text}" names a seed twice.')
    return found


def _train(folder: Path, quiet: bool, accept: bool = False) -> None:
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
            outcome = execute(folder, stop, partial(_show, progress), accept=accept)
        except KeyboardInterrupt:
            tell(f"ended at once. mmctl resume {folder.name} goes on from the last checkpoint.")
            sys.exit(130)
        except MmctlError as error:
            if error.exit_code in (3, 4):
                progress.say(f"run {folder.name} failed")
            raise
    _ended(folder, outcome)
    if outcome.state == "interrupted":
        raise Stopped(f"saved at step {outcome.step}/{total}. Go on with:  mmctl resume {folder.name}")


def _show(progress: Progress, event: Event, training: Training) -> None:
    """Tell a person what has happened in a run."""
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
    """Several runs in this process; what each has to say goes to the log in its folder."""
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
        raise PartFailed(f"{failed} of {len(folders)} runs failed; each says why in its log.txt.")
    if stopped:
        raise Stopped(f"{stopped} of {len(folders)} runs stopped at a checkpoint; `mmctl resume` goes on with each.")


def _ended(folder: Path, outcome: Outcome) -> None:
    from mmctl.run_folder.record import last_scores
    from mmctl.runs.progress import tell

    if outcome.state == "nc":
        tell(f"{folder.name}: not converged (nc), stopped at step {outcome.step}: {outcome.reason}", out=True)
    elif outcome.state == "completed":
        tell(f"{folder.name}: completed, {outcome.step} steps{last_scores(folder)}", out=True)
        tell(f"  mmctl show {folder.name}   mmctl evaluate {folder.name}   mmctl compare", out=True)


def resume(
    ref: str = typer.Argument(..., metavar="RUN", help="The run: its id or its beginning, name, @last or number."),
    accept_changes: bool = typer.Option(False, "--accept-changes", help="Go on although a plugin has changed."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Only alarms and the end."),
) -> None:
    """Go on with a stopped or crashed run as if nothing had happened.

    mmctl resume @last
    """
    from mmctl.store.select import folder_of_run

    _train(folder_of_run(ref), quiet, accept_changes)


def exec_(
    folders: list[Path] = typer.Argument(..., metavar="FOLDER...", help="Run folders."),
) -> None:
    """Train the runs in these folders, in one process, from their newest checkpoints: what launchers start."""
    if len(folders) == 1:
        _train(folders[0].resolve(), quiet=False)
    else:
        _train_pack([folder.resolve() for folder in folders])
