"""`mmctl import`: runs of other folders, of run files, and of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import DryRun, Json
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from mmctl.exchange.bring_in import Imported

SHOWN = 20
"""So many runs of one kind of result are listed."""
WORDS = {
    "imported": ("imported", "would be imported"),
    "updated": ("updated", "would be updated"),
    "unchanged": ("here already", "here already"),
    "kept": ("left as it is", "would be left as it is"),
    "trashed": ("in the trash", "in the trash"),
}


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command("import")(import_runs)


def import_runs(
    paths: list[Path] = typer.Argument(metavar="FROM", help="Files and folders."),
    dry_run: DryRun = False,
    again: bool = typer.Option(
        False, "--again", help="Replace runs that are here already; what was here goes to the trash."
    ),
    damaged: bool = typer.Option(
        False, "--damaged", help="Of a damaged or unfinished file, what comes before the damage."
    ),
    checkpoints: bool = typer.Option(
        True, "--checkpoints/--no-checkpoints", help="Of runs of mmctl, checkpoints and predictions too."
    ),
    as_json: Json = False,
) -> None:
    """Bring in runs from elsewhere.

    Takes run files of `mmctl export`, run folders, event files of TensorBoard, mlflow.db and mlruns/ of MLflow,
    databases of Trackio, and .wandb files of W&B; it looks through folders. Importing twice does no harm: a run that is
    here already stays, or is updated if it has grown.

    \b
    Examples:
      mmctl import run.tar
      mmctl import ~/cluster/runs --no-checkpoints
      mmctl import mlflow.db wandb/ logs/ --dry-run
    """
    from mmctl import project
    from mmctl.cli.runs import open_store
    from mmctl.errors import PartFailed, UserError
    from mmctl.exchange.bring_in import bring_in, failures

    runs = project.runs_dir()
    done = bring_in(
        paths, runs, {"again": again, "damaged": damaged, "heavy": checkpoints, "dry_run": dry_run}
    )  # fmt: skip
    if not dry_run and any(one["result"] in ("imported", "updated") for one in done):
        with open_store():
            pass  # brings the index up to date
    if as_json:
        print_json({"dry_run": dry_run, "runs": done})
    else:
        _print(done, dry_run)
    if lines := failures(done):
        raise UserError(*lines) if len(lines) == len(done) else PartFailed(*lines)


def _print(done: list[Imported], dry_run: bool) -> None:
    from mmctl.text import printable

    for result, words in WORDS.items():
        some = [one for one in done if one["result"] == result]
        for one in some[:SHOWN]:
            what = f"{one['uid']}: {words[dry_run]}, from {one['program']}"
            name = f" ({one['name']})" if one["name"] not in ("", one["uid"]) else ""
            note = f"; {one['message']}" if "message" in one else ""
            typer.echo(printable(f"{what}{name}: {one['state']}, {one['points']} points{note}"))
        if len(some) > SHOWN:
            typer.echo(f"... and {len(some) - SHOWN} more")
    counts = [
        f"{n} {words[dry_run]}" for result, words in WORDS.items() if (n := sum(o["result"] == result for o in done))
    ]
    if len(done) > 1 and counts:
        typer.echo(", ".join(counts))
