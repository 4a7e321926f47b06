"""`mmctl table`: a paper's table with ours beside it, and the commands that would fill it."""

from __future__ import annotations

import typer

from mmctl.cli.options import Json, Seeds, Sets, parse_seeds
from mmctl.cli.runs import open_store

FORMATS = ("text", "markdown", "latex", "csv", "tsv", "json", "html")


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(table)


def table(
    given: str = typer.Argument("", metavar="TABLE", help="Table, by name or path."),
    metric: str = typer.Option("", "--metric", "-m", metavar="METRIC", help="Show this metric, as in `mmctl compare`."),
    sets: Sets = None,
    commands: bool = typer.Option(False, "--commands", help="Print the commands that compute the missing results."),
    seeds: Seeds = "0-4",
    form: str = typer.Option(
        "text", "--format", "-f", metavar="FORMAT", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
    ),
    as_json: Json = False,
) -> None:
    """Show published results and your results.

    Without TABLE, lists the tables. Your results are from the runs that have exactly the settings of the recipe of a
    table cell, with any seed.

    \b
    Examples:
      mmctl table
      mmctl table table3
      mmctl table table3 --commands --seeds 0-2
      mmctl table table3 --format latex
    """
    from mmctl.errors import UserError, suggest
    from mmctl.report.json_output import print_json
    from mmctl.tables.spec import known_tables, read_table

    if form not in FORMATS:
        raise UserError(f'--format "{form}": no such format.{suggest(form, FORMATS)} Known: {", ".join(FORMATS)}')
    as_json = as_json or form == "json"
    numbers = parse_seeds(seeds)
    if not given:
        tables = {name: read_table(name).head.title for name in known_tables()}
        if as_json:
            print_json({"tables": [{"name": name, "title": title} for name, title in tables.items()]})
        else:
            typer.echo("\n".join(f"{name}  {title}" for name, title in tables.items()))
        return
    from mmctl.tables import fill

    read = read_table(given)
    cells = read.cells(sets or [])
    with open_store() as store:
        found = fill.fill_table(read, cells, store, metric=metric or None)
    if commands:
        lines = list(fill.commands(read, cells, found, numbers))
        if as_json:
            print_json({"table": found["table"], "commands": lines})
        else:
            typer.echo("\n".join(lines) or "# nothing is missing")
    elif as_json:
        print_json(found)
    else:
        from mmctl.tables import formats

        if form == "text":
            from mmctl.report import console

            formats.print_text(found, console.console())
        else:
            typer.echo(formats.form(found, form))
