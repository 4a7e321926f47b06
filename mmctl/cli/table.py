"""`mmctl table`: a paper's table with ours beside it, and the commands that would fill it."""

from __future__ import annotations

import typer

from mmctl.cli.runs import JSON, opened

FORMATS = ("text", "markdown", "latex", "csv", "json")


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(table)


def table(
    given: str = typer.Argument("", metavar="[TABLE]", help="A table file, or the name of a shipped one."),
    metric: str = typer.Option("", "--metric", "-m", help="Another metric than the table's, as in compare."),
    sets: list[str] = typer.Option([], "--set", "-s", metavar="KEY=VALUE", help="Change a value of every recipe."),
    commands: bool = typer.Option(False, "--commands", help="Print the commands that would fill the missing cells."),
    seeds: str = typer.Option("0-4", "--seeds", help='The seeds that --commands wants: "0-4", "0,2,5".'),
    form: str = typer.Option("text", "--format", "-f", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}."),
    as_json: bool = JSON,
) -> None:
    """Print a table of published figures with ours beside them; without a name, list the tables.

    Ours are of the runs that did exactly what the recipe of a cell says, seed apart.

    Examples: mmctl table table3 | mmctl table table3 --commands --seeds 0-2 | mmctl table my.toml --format latex
    """
    from mmctl.cli.run import numbers_of
    from mmctl.errors import UserError, suggest
    from mmctl.report.json_output import print_json
    from mmctl.tables.spec import known_tables, read_table

    if form not in FORMATS:
        raise UserError(f'--format "{form}": no such form.{suggest(form, FORMATS)} Known: {", ".join(FORMATS)}')
    numbers = numbers_of(seeds)
    if not given:
        tables = {name: read_table(name).head.title for name in known_tables()}
        if as_json or form == "json":
            print_json({"tables": [{"name": name, "title": title} for name, title in tables.items()]})
        for name, title in tables.items() if not (as_json or form == "json") else ():
            typer.echo(f"{name}  {title}")
        return
    read = read_table(given)
    from mmctl.tables import fill as tables_

    with opened() as store:
        found = tables_.fill_table(read, store, metric=metric or None, sets=sets)
    if commands:
        lines = list(tables_.commands(read, found, numbers, sets))
        if as_json or form == "json":
            print_json({"table": found["table"], "commands": lines})
        else:
            typer.echo("\n".join(lines) or "# nothing is missing")
    elif as_json or form == "json":
        print_json(found)
    else:
        from mmctl.tables import formats

        if form == "text":
            from mmctl.report import console

            formats.print_text(found, console.console())
        else:
            typer.echo(formats.form(found, form))
