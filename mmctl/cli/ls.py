"""`mmctl ls` lists the runs of the project."""

from __future__ import annotations

import typer

from mmctl.cli.options import Archived, Filter, InSweep, Json, whole, with_sweep
from mmctl.cli.runs import open_store
from mmctl.report.json_output import print_json

FORMATS = ("text", "markdown", "csv", "tsv", "json")
FILES = ("csv", "tsv")


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(ls)


def ls(
    terms: Filter = None,
    limit: int = typer.Option(50, "--limit", "-n", parser=whole, metavar="N", help="Show the last N runs; 0 = all."),
    everything: bool = typer.Option(False, "--all", help="Show all runs."),
    sort: str = typer.Option(
        None,
        "--sort",
        "-s",
        metavar="COLUMN",
        help="A column, a metric or a setting, the largest at the bottom; -COLUMN: the smallest.",
    ),
    columns: str = typer.Option(
        None,
        "--columns",
        "-c",
        metavar="COLUMNS",
        help="Columns, metrics and settings, separated by commas; +COLUMNS: the usual ones and these.",
    ),
    form: str = typer.Option(
        "text", "--format", "-f", metavar="FORMAT", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
    ),
    sweep: InSweep = None,
    archived: Archived = False,
    as_json: Json = False,
) -> None:
    """List runs, the newest at the bottom.

    Shows the state, the progress, the curve and the main results of each run.

    \b
    Examples:
      mmctl ls
      mmctl ls state:failed
      mmctl ls --sweep digits
      mmctl ls mixmatch labels:320 'test/accuracy>0.8'
      mmctl ls --sort test/accuracy -c +cfg.optimizer.lr
      mmctl ls --all --format csv
    """
    from mmctl.errors import UserError, suggest
    from mmctl.report import summaries
    from mmctl.store import select

    if form not in FORMATS:
        raise UserError(f'--format "{form}": no such format.{suggest(form, FORMATS)} Known: {", ".join(FORMATS)}')
    as_json = as_json or form == "json"
    limit = 0 if everything else limit
    terms = with_sweep(terms, sweep)
    newest = limit if limit and not terms and sort is None else None
    with open_store(newest) as store:
        runs = store.runs(newest=newest)
        found = select.select_runs(store, runs, terms, archived)
        if sort is not None:
            from mmctl.report.listing_order import sort_runs

            found = sort_runs(store, found, sort)
        total = store.count_runs()
        count = total if newest else len(found)
        shown = found[-limit:] if limit else found
        rows = summaries.listing(store, shown)
        if as_json:
            print_json({"total": total, "found": count, "runs": rows})
            return
        from mmctl.report import console, listing_columns

        out, text = console.console(), form == "text"
        names = listing_columns.parse_columns(
            columns, listing_columns.FILED if form in FILES else listing_columns.USUAL
        )
        made = listing_columns.columns_of(
            store, shown, names, lambda y: console.spark(y, out), chosen=columns is not None,
            width=out.width if text else None,
        )  # fmt: skip
        folder = store.runs_dir
    if text and not rows:
        none = f"no run matches{select.why_none(runs, terms)}"
        typer.echo(none if runs else f"no runs in {folder} yet. Start one: mmctl run digits", err=True)
    elif text:
        from mmctl.report import print_runs

        print_runs.print_listing(rows, made, out)
        if count > len(rows):
            which = f"the newest {len(rows)}" if sort is None else f"the last {len(rows)} by {sort}"
            console.print_line(out, f"{which} of {count}; `mmctl ls --all` shows all", "dim")
    else:
        from mmctl.report.sheet import markdown, separated

        typer.echo(
            separated(listing_columns.records_of(rows, made), form)
            if form in FILES
            else markdown(listing_columns.sheet_of(rows, made))
        )
