"""`mmctl recipe`: check a recipe, show what it comes to, write the schema that editors read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mmctl.recipe.find import complete_recipe

if TYPE_CHECKING:
    from mmctl.recipe.list_all import Listed
    from mmctl.recipe.recipe import Recipe

group = typer.Typer(help="List, check and show recipes.", no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.add_typer(group, name="recipe")


@group.command("list")
def list_(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List all recipes by folder: the name to type, labels, steps, whether the data is there, and what each is for.

    mmctl recipe list
    """
    from mmctl.recipe.list_all import list_recipes

    found = list_recipes()
    if as_json:
        from dataclasses import asdict

        from mmctl.report.json_output import print_json

        print_json({"recipes": [asdict(one) for one in found]})
        return
    from mmctl.report import console
    from mmctl.text import printable

    groups: dict[tuple[bool, str, bool], list[Listed]] = {}
    for one in found:
        groups.setdefault((bool(one.lacks), one.folder, one.shipped), []).append(one)
    for (fragments, folder, shipped), members in sorted(
        groups.items(), key=lambda pair: (pair[0][0], pair[0][2], pair[0][1])
    ):
        words = f"recipes/{folder}".rstrip("/") + (" (shipped with mmctl)" if shipped else "")
        _print_group(words + ": fragments for extends" if fragments else words, members, fragments)
    for missing in sorted({one.data_missing for one in found if one.data_missing}):
        text = f"data missing: {printable(missing)}. `mmctl run RECIPE` says where to get it."
        console.print_line(console.console(), f"\n{text}")
    if not found:
        typer.echo("no recipes")


def _print_group(title: str, members: list[Listed], fragments: bool) -> None:
    """One folder as a table."""
    from mmctl.report import console
    from mmctl.report.console import Column
    from mmctl.text import printable

    name, labels = Column("recipe"), Column("labels", 2, right=True)
    steps, data, purpose = Column("steps", 3, right=True), Column("data", 1), Column("what it is for", prose=True)
    for one in members:
        name.cells.append(printable(one.name))
        labels.cells.append("" if one.labels is None else str(one.labels))
        steps.cells.append("" if one.steps is None else str(one.steps))
        data.cells.append("" if fragments or one.problem else "missing" if one.data_missing else "yes")
        purpose.cells.append(printable(f"broken: {one.problem}" if one.problem else one.purpose))
    out = console.console()
    console.print_heading(out, printable(title))
    console.print_table([name, labels, steps, data, purpose], out)


@group.command()
def validate(
    files: list[str] = typer.Argument(
        ..., metavar="FILE...", help="Recipes, by path or name.", autocompletion=complete_recipe
    ),
    sets: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a value, as in run."),
    fast: bool = typer.Option(False, "--fast", help="Text, tables and names alone; imports no component."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check recipes: every fault at once, each with its file and line.

    mmctl recipe validate recipes/*.toml --fast
    """
    from mmctl.errors import RecipeError
    from mmctl.recipe import recipe
    from mmctl.registry.index import Index
    from mmctl.report.json_output import print_json

    index = Index()
    rows: list[dict[str, Any]] = []
    for file in files:
        try:
            recipe.check_recipe(file, sets, index, fast)
            rows.append({"recipe": file, "ok": True, "problems": []})
        except RecipeError as error:
            rows.append({"recipe": file, "ok": False, "problems": list(error.problems)})
    if as_json:
        print_json({"recipes": rows})
    for row in rows if not as_json else ():
        for problem in row["problems"]:
            typer.echo(problem, err=True)
        if row["ok"]:
            typer.echo(f"{row['recipe']}: ok")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(RecipeError.exit_code)


@group.command()
def show(
    file: str = typer.Argument(..., metavar="FILE", help="A recipe, by path or name.", autocompletion=complete_recipe),
    sets: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a value, as in run."),
    plain: bool = typer.Option(False, "--plain", help="Leave out what the method does in a step."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON: the data, and the origin of each value."),
) -> None:
    """Explain the method, and print the recipe with everything it extends and every default, and their origins.

    The explanation is of one step that was rehearsed: forwards, batch norm, who labels; weights and ramps in steps.
    It stands in comments, so that the output is the recipe.

    mmctl recipe show digits --set labeler.name=softmax
    """
    from mmctl.recipe import recipe
    from mmctl.report.json_output import print_json

    made = recipe.load(file, sets)
    found = None
    if not plain:
        from mmctl.preview import explain

        found = explain.explain(made)
    if as_json:
        origins = {key: made.origin(path) for key, path in _keys(made.data)}
        told = {} if found is None else {"explained": found}
        print_json({"recipe": made.data, "origins": origins, "cell": made.cell, **told})
    else:
        if found is not None:
            typer.echo(explain.comment(found) + "\n")
        typer.echo(_commented(made))


def _keys(data: dict[str, Any], at: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """All values of a recipe as (dotted key, path)."""
    from mmctl.text import dotted

    found = []
    for key, value in data.items():
        path = (*at, key)
        found += _keys(value, path) if _is_table(path, value) else [(dotted(path), path)]
    return found


def _is_table(path: tuple[str, ...], value: object) -> bool:
    """Whether a value is written under a header of its own; a parameter that is a table goes in one line."""
    return isinstance(value, dict) and (len(path) == 1 or (len(path) == 2 and path[0] in ("loss", "augment")))


def _commented(made: Recipe) -> str:
    """TOML with a comment behind each value."""
    from mmctl.text import dotted, literal

    lines: list[tuple[str, str]] = []

    def table(data: dict[str, Any], at: tuple[str, ...]) -> None:
        inner = {key: value for key, value in data.items() if _is_table((*at, key), value)}
        values = {key: value for key, value in data.items() if key not in inner}
        if at and (values or not inner):
            lines.extend([("", ""), (f"[{dotted(at)}]", "")])
        lines.extend((f"{dotted((k,))} = {literal(v)}", f"# {made.origin((*at, k))}") for k, v in values.items())
        for key, value in inner.items():
            table(value, (*at, key))

    table(made.data, ())
    width = min(44, max(len(line) for line, comment in lines if comment))
    return "\n".join(f"{line:<{width}}  {comment}".rstrip() for line, comment in lines)


@group.command()
def schema(
    out: Path | None = typer.Option(None, "--out", "-o", metavar="FILE", help="Write to a file instead."),
) -> None:
    """Print the JSON schema of recipes with all installed components, for completion in editors.

    mmctl recipe schema --out recipes/recipe.schema.json, and `#:schema recipe.schema.json` as a recipe's first line.
    """
    import json

    from mmctl.errors import EnvironmentFault
    from mmctl.recipe.json_schema import recipe_schema
    from mmctl.registry.index import Index

    made, broken = recipe_schema(Index())
    for message in broken:
        typer.echo(f"left out: {message}", err=True)
    text = json.dumps(made, indent=2)
    if out is None:
        typer.echo(text)
    else:
        try:
            out.write_text(text + "\n", "utf-8")
        except OSError as error:
            raise EnvironmentFault(f"{out}: cannot write the schema ({error.strerror}).") from error
        typer.echo(f"wrote {out}")
