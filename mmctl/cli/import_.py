"""`mmctl import`: runs of other folders, of run files, and of other programs."""

from __future__ import annotations

from collections import Counter
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
    "failed": ("failed", "would fail"),
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
    from mmctl.exchange.bring_in import Wishes, bring_in, failures

    counts: Counter[str] = Counter()

    def watch(one: Imported) -> None:
        counts[one["result"]] += 1
        if not as_json and one["result"] != "failed" and counts[one["result"]] <= SHOWN:
            typer.echo(_line(one, dry_run))

    wishes: Wishes = {"again": again, "damaged": damaged, "heavy": checkpoints, "dry_run": dry_run}
    done = bring_in(paths, project.runs_dir(), wishes, watch)
    if not dry_run and counts["imported"] + counts["updated"]:
        with open_store():
            pass  # brings the index up to date
    if as_json:
        print_json({"dry_run": dry_run, "runs": done})
    elif len(done) > 1:
        typer.echo(", ".join(f"{counts[result]} {words[dry_run]}" for result, words in WORDS.items() if counts[result]))
    if lines := failures(done):
        raise UserError(*lines) if len(lines) == len(done) else PartFailed(*lines)


def _line(one: Imported, dry_run: bool) -> str:
    from mmctl.text import printable

    what = f"{one['uid']}: {WORDS[one['result']][dry_run]}, from {one['program']}"
    name = f" ({one['name']})" if one["name"] not in ("", one["uid"]) else ""
    note = f"; {one['message']}" if "message" in one else ""
    return printable(f"{what}{name}: {one['state']}, {one['points']} points{note}")
