"""`mmctl query`: read-only SQL over all runs."""

from __future__ import annotations

import csv
import sys
from itertools import islice

import typer

from mmctl.cli.options import Json, whole
from mmctl.cli.runs import open_store
from mmctl.report.json_output import print_json

FORMATS = ("text", "csv", "tsv")


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.command()(query)


def query(
    sql: str = typer.Argument(None, metavar="SQL", help="One SELECT. Without it, prints the tables."),
    how: str = typer.Option("text", "--format", metavar="FORMAT", help="text, csv or tsv."),
    limit: int = typer.Option(1000, "--limit", "-n", parser=whole, metavar="N", help="At most N rows; 0 = all."),
    as_json: Json = False,
) -> None:
    """Ask the database of all runs in SQL.

    The query can only read. Times are milliseconds since 1970 (UTC); `config` is JSON.

    \b
    Examples:
      mmctl query
      mmctl query "SELECT uid, name FROM runs WHERE seed = 3"
      mmctl query "SELECT uid FROM runs" --format csv
    """
    from mmctl.errors import UserError, suggest
    from mmctl.runs.progress import tell
    from mmctl.store import query as asking
    from mmctl.text import printable

    if how not in FORMATS:
        raise UserError(f'--format: "{how}" is not among {", ".join(FORMATS)}.{suggest(how, FORMATS)}')
    if sql is None:
        if as_json:
            print_json({"schema": asking.schema_text()})
        else:
            typer.echo(asking.schema_text())
        return
    cut = False
    with open_store() as store, asking.asked(store, sql) as answer:
        rows = islice(answer.rows, limit + 1) if limit else answer.rows
        if how != "text" and not as_json:
            writer = csv.writer(sys.stdout, delimiter="\t" if how == "tsv" else ",", lineterminator="\n")
            writer.writerow(answer.columns)
            for n, row in enumerate(rows):
                if cut := bool(limit) and n == limit:
                    break
                writer.writerow([_plain(value) for value in row])
        else:
            found = [[_plain(value) for value in row] for row in rows]
            cut = bool(limit) and len(found) > limit
            found = found[:limit] if cut else found
            if as_json:
                print_json({"columns": answer.columns, "rows": found, "cut": cut})
            else:
                from mmctl.report import console

                columns = [
                    console.Column(printable(name), cells=[printable(row[n]) for row in found])
                    for n, name in enumerate(answer.columns)
                ]
                console.print_table(columns, console.console())
                if not found:
                    tell("no rows")
    if cut:
        tell(f"only the first {limit} rows: --limit 0 gives all")


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
