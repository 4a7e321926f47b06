"""`mmctl recipe`: list recipes, check them, show their resolved values, write their JSON schema for editors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mmctl.cli import recipe_new
from mmctl.cli.options import Json, Recipe, Recipes, Sets

if TYPE_CHECKING:
    from mmctl.recipe.list_all import ListedRecipe
    from mmctl.recipe.recipe import Recipe as LoadedRecipe

group = typer.Typer(help="List, check and show recipes.", no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    group.command("new")(recipe_new.new)
    app.add_typer(group, name="recipe")


@group.command("list")
def list_(as_json: Json = False) -> None:
    """List all recipes by folder.

    Shows the name to type, the number of labels and steps, whether the data is there, and what each recipe is for.

    \b
    Examples:
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

    groups: dict[tuple[bool, str, bool], list[ListedRecipe]] = {}
    for one in found:
        groups.setdefault((bool(one.lacks), one.folder, one.shipped), []).append(one)
    for (fragments, folder, shipped), members in sorted(
        groups.items(), key=lambda pair: (pair[0][0], pair[0][2], pair[0][1])
    ):
        words = f"recipes/{folder}".rstrip("/") + (" (shipped with mmctl)" if shipped else "")
        _print_group(words + ": parts for `extends`" if fragments else words, members, fragments)
    for missing in sorted({one.data_missing for one in found if one.data_missing}):
        text = f"data missing: {printable(missing)}. `mmctl run RECIPE` says where to get it."
        console.print_line(console.console(), f"\n{text}")
    if not found:
        typer.echo("no recipes")


def _print_group(title: str, members: list[ListedRecipe], fragments: bool) -> None:
    """Print the recipes of one folder as a table."""
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
    recipes: Recipes,
    sets: Sets = None,
    fast: bool = typer.Option(False, "--fast", help="Check syntax and names only; imports no component."),
    as_json: Json = False,
) -> None:
    """Check recipes and show all problems.

    Each problem is one line that begins with its file and line number.

    \b
    Examples:
      mmctl recipe validate digits
      mmctl recipe validate recipes/*.toml --fast
    """
    from mmctl.errors import RecipeError
    from mmctl.recipe.recipe import check_recipe
    from mmctl.registry.index import Index
    from mmctl.report.json_output import print_json

    index = Index()
    rows: list[dict[str, Any]] = []
    for given in recipes:
        try:
            check_recipe(given, sets or [], index, fast)
            rows.append({"recipe": given, "ok": True, "problems": []})
        except RecipeError as error:
            rows.append({"recipe": given, "ok": False, "problems": list(error.problems)})
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
    recipe: Recipe,
    sets: Sets = None,
    plain: bool = typer.Option(False, "--plain", help="Omit the explanation of a training step."),
    as_json: Json = False,
) -> None:
    """Explain a recipe and print its values.

    Prints every value and where it comes from: the recipe, a recipe that it extends, --set or a default. Comments
    above explain one training step, which mmctl runs on a small network: forward passes, batch norm, pseudo-labels,
    loss weights and ramps. The output is itself a recipe.

    \b
    Examples:
      mmctl recipe show digits
      mmctl recipe show digits --set labeler.name=softmax
    """
    from mmctl.recipe.recipe import load
    from mmctl.report.json_output import print_json

    made = load(recipe, sets or [])
    found = None
    if not plain:
        from mmctl.preview import explain

        found = explain.explain(made)
    if as_json:
        origins = {key: made.origin(path) for key, path in _keys(made.data)}
        explained = {} if found is None else {"explained": found}
        print_json({"recipe": made.data, "origins": origins, "config_id": made.config_id, **explained})
    else:
        if found is not None:
            typer.echo(explain.comment(found) + "\n")
        typer.echo(_commented(made))


def _keys(data: dict[str, Any], at: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """The dotted key and the path of every value of a recipe."""
    from mmctl.text import dotted

    found = []
    for key, value in data.items():
        path = (*at, key)
        found += _keys(value, path) if _is_table(path, value) else [(dotted(path), path)]
    return found


def _is_table(path: tuple[str, ...], value: object) -> bool:
    """Whether a value is written under its own [header]; a parameter that is a table is written in one line."""
    return isinstance(value, dict) and (len(path) == 1 or (len(path) == 2 and path[0] in ("loss", "augment")))


def _commented(made: LoadedRecipe) -> str:
    """The recipe as TOML, with a comment after each value that says where the value comes from."""
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
    out: Path | None = typer.Option(None, "--out", "-o", metavar="FILE", help="Write the schema to this file."),
) -> None:
    """Print the JSON schema of recipes.

    It covers all installed components. Editors use it for completion and checks, if the first line of a recipe is
    `#:schema recipe.schema.json`.

    \b
    Examples:
      mmctl recipe schema --out recipes/recipe.schema.json
    """

    from mmctl.errors import EnvironmentFault
    from mmctl.recipe.json_schema import recipe_schema
    from mmctl.registry.index import Index
    from mmctl.text import to_json

    made, broken = recipe_schema(Index())
    for message in broken:
        typer.echo(f"left out: {message}", err=True)
    text = to_json(made, indent=2)
    if out is None:
        typer.echo(text)
    else:
        try:
            out.write_text(text + "\n", "utf-8")
        except OSError as error:
            raise EnvironmentFault(f"{out}: cannot write the schema ({error.strerror}).") from error
        typer.echo(f"wrote {out}")
