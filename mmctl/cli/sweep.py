"""`mmctl sweep`: a grid of runs; and `supervise`, which other commands start: it starts the runs that wait."""

from __future__ import annotations

from pathlib import Path

import typer

from mmctl.cli.options import DryRun, Jobs, Quiet, Recipes, Seeds, checked_name, parse_seeds
from mmctl.cli.runs import ask_engines
from mmctl.completion.values import complete_set


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(sweep)
    app.command(hidden=True)(supervise)


def sweep(
    given: Recipes,
    sets: list[str] = typer.Option(
        [],
        "--set",
        "-s",
        metavar="KEY=VALUES",
        help="Change a setting; several values, with commas, are several runs. Can be given several times.",
        autocompletion=complete_set,
    ),
    seeds: Seeds = None,
    name: str | None = typer.Option(
        None, "--name", metavar="NAME", callback=checked_name, help="Name of the sweep; else that of the first recipe."
    ),
    tags: list[str] = typer.Option([], "--tag", metavar="TAG", help="Add a tag. Can be given several times."),
    note: str = typer.Option("", "--note", metavar="TEXT", help="Add a note to each new run."),
    launcher: str = typer.Option("", "--launcher", metavar="NAME", help="Launcher that starts the runs."),
    launch: list[str] = typer.Option(
        [], "--launch", metavar="KEY=VALUE", help="Change a setting of the launcher. Can be given several times."
    ),
    jobs: Jobs = 0,
    force: bool = typer.Option(False, "--force", "-f", help="Start new runs even if identical ones are there."),
    detach: bool = typer.Option(
        False, "--detach", "-d", help="Return when the runs are in the queue, without showing their progress."
    ),
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Train a grid of runs.

    The grid has all combinations of recipes, settings and seeds. A recipe may also be a table of `mmctl table`, which
    stands for the recipes of its cells. Every run is checked before any is stored. The same command again adds only the
    runs that are missing. The runs go on in the background when you press Ctrl-C; `mmctl stop --sweep NAME` stops them.

    \b
    Examples:
      mmctl sweep digits -s split.labels=40,100 --dry-run
      mmctl sweep digits digits-mixmatch --seeds 0-4
      mmctl sweep table3 --seeds 0-2 --detach
    """
    from mmctl.store.select import checked_tags

    # First what needs no torch, which takes seconds to import.
    checked_tags(tags)
    numbers = parse_seeds(seeds)
    from mmctl import project
    from mmctl.sweep.grid import grid
    from mmctl.text import is_name

    chosen = [f"launcher.name={launcher}"] if launcher else []
    made = grid(given, [*sets, *chosen, *(f"launcher.{one}" for one in launch)], numbers)
    stem = Path(given[0]).stem
    from mmctl.sweep.sweep import Wish, preview, start_sweep

    wish = Wish(name or (stem if is_name(stem) else "sweep"), numbers, jobs, tags, note or None, force, detach, quiet)
    ask_engines(project.runs_dir())
    if dry_run:
        typer.echo("\n".join(preview(made, wish, project.runs_dir())))
    else:
        start_sweep(made, wish, project.runs_dir())


def supervise(
    runs: Path = typer.Argument(metavar="RUNS", help="The folder of runs."),
) -> None:
    """Start the runs that wait on this machine, until none is left."""
    from mmctl.sweep.background import detached
    from mmctl.sweep.supervisor import supervise as work

    work(runs, detached())
