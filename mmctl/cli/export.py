"""`mmctl export`: runs, curves and evaluations as tables, and whole runs as one file."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmctl.cli.options import Archived, Filter, Json, metrics_option
from mmctl.cli.runs import open_store
from mmctl.report.json_output import print_json

if TYPE_CHECKING:
    from mmctl.store.rows import RunRow
    from mmctl.store.store import Store

WHAT = ("runs", "series", "evaluations", "folders")
SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".tar": "tar"}
FORMATS = ("csv", "tsv", "jsonl", "parquet", "tar")


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(export)


def export(
    terms: Filter = None,
    output: str = typer.Option(
        "-", "--output", "-o", metavar="FILE", help="Its suffix gives the format: .csv, .tsv, .jsonl, .parquet, .tar."
    ),
    what: str = typer.Option(
        None, "--what", "-w", metavar="WHAT", help="runs, series (each point), evaluations, or folders (whole runs)."
    ),
    form: str = typer.Option(
        None, "--format", "-f", metavar="FORMAT", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
    ),
    metric: list[str] = metrics_option("Of series, only this curve."),
    checkpoints: bool = typer.Option(
        True, "--checkpoints/--no-checkpoints", help="Of whole runs, checkpoints and predictions too."
    ),
    force: bool = typer.Option(False, "--force", help="Replace the file if it exists."),
    archived: Archived = False,
    as_json: Json = False,
) -> None:
    """Write runs to a file.

    A table has a row for each run, point or evaluation: times in UTC, shares from 0 to 1. A .tar file holds whole runs:
    `mmctl import` brings them into another project, where `mmctl resume` continues them.

    \b
    Examples:
      mmctl export -o runs.csv
      mmctl export mixmatch -w series -o curves.parquet
      mmctl export 3 -o run.tar --no-checkpoints
    """
    from mmctl.errors import PartFailed, UserError, suggest
    from mmctl.exchange import table_files, tables
    from mmctl.exchange.run_files import write_archive
    from mmctl.report.console import file_size
    from mmctl.store.read_curves import one_moment
    from mmctl.store.select import find_runs, select_runs
    from mmctl.text import printable

    path = None if output == "-" else Path(output)
    form = form or ("csv" if path is None else SUFFIXES.get(path.suffix.lower(), ""))
    if form not in FORMATS:
        head = f"-o {printable(output)}: its suffix is none of" if not form else f'--format "{form}": not among'
        raise UserError(f"{head} {', '.join(FORMATS)}.{suggest(form, FORMATS)} --format says what to write.")
    what = what or ("folders" if form == "tar" else "runs")
    if what not in WHAT:
        raise UserError(f'--what "{what}": not among {", ".join(WHAT)}.{suggest(what, WHAT)}')
    if (what == "folders") != (form == "tar"):
        raise UserError(f"--what {what}: whole runs are written as .tar, tables as {', '.join(FORMATS[:-1])}.")
    if metric and what != "series":
        raise UserError("--metric: chooses curves of --what series.")
    if as_json and path is None:
        raise UserError("--json: describes the file that was written, so give it a name with -o FILE.")
    if path is None and form in ("tar", "parquet") and sys.stdout.isatty():
        raise UserError(f"export: {form} is nothing for a terminal. Give a file with -o FILE.")
    left: list[str] = []
    with open_store() as store, nullcontext() if form == "tar" else one_moment(store):
        runs = find_runs(store, terms, archived) if terms else select_runs(store, store.runs(), (), archived)
        if form == "tar":
            runs, left = _free(store, runs, checkpoints)
            if not runs:
                raise UserError(*(left or ["export: there are no runs yet."]))
            with table_files.target(path, force) as out:
                count = write_archive(out, [store.runs_dir / run["uid"] for run in runs], checkpoints)
        else:
            made = (
                tables.runs_table(store, runs) if what == "runs"
                else tables.series_table(store, runs, metric) if what == "series"
                else tables.evaluations_table(store, runs)
            )  # fmt: skip
            with table_files.target(path, force) as out:
                count = table_files.write_table(made, form, out)
    unit = "files" if form == "tar" else "rows"
    if path is not None:
        size = path.stat().st_size
        if as_json:
            print_json({"file": str(path), "what": what, "format": form, "runs": len(runs), unit: count, "bytes": size,
                        "left": left})  # fmt: skip
        else:
            counts = f"{len(runs)} run{'s' * (len(runs) != 1)}, {count} {unit[: -1 if count == 1 else None]}"
            typer.echo(f"{printable(path)}: {counts}, {file_size(size)}")
    if left:
        raise PartFailed(*(f"left out: {line}" for line in left))


def _free(store: Store, runs: list[RunRow], heavy: bool) -> tuple[list[RunRow], list[str]]:
    """The runs that can be exported whole, and why others cannot."""
    from mmctl.exchange.whole_runs import why_not
    from mmctl.run_folder import lease

    free: list[RunRow] = []
    left: list[str] = []
    for run in runs:
        if run["unreadable"]:
            left.append(run["unreadable"])
        elif said := lease.busy(store.runs_dir / run["uid"]):
            left.append(said)
        elif lease.holder(store.runs_dir / run["uid"]) is not None:
            left.append(f"{run['uid']}: is running. Export it when it has ended, or stop it: mmctl stop {run['uid']}")
        elif why := why_not(store.runs_dir / run["uid"], heavy):
            left.append(why)
        else:
            free.append(run)
    return free, left
