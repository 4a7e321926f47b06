"""`mmctl plugins`: list all components, explain one with its parameters, make a new one, test some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from mmctl.cli.options import Json, Kind
from mmctl.completion.values import complete_component

if TYPE_CHECKING:
    from mmctl.registry.index import Index
    from mmctl.registry.sources import Entry

group = typer.Typer(help="List, explain, make and test components.", no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.add_typer(group, name="plugins")


@group.command("list")
def list_(
    kind: Kind = None,
    as_json: Json = False,
) -> None:
    """List all components.

    Lists those of mmctl, those in plugins/ and those of installed packages, and imports none of them. The kinds are
    backbone, dataset, augment, labeler, loss, method and launcher.

    \b
    Examples:
      mmctl plugins list
      mmctl plugins list --kind labeler
    """
    from mmctl.registry.index import Index

    index = Index()
    # A file that cannot be read has no kind: it may hold a component of any.
    rows = [_row(e) for e in (*index.entries, *index.missed) if _kind(kind) in ("", e.kind) or not e.kind]
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({"plugins": rows})
        return
    from mmctl.report.console import Column, console, print_table

    columns = [
        Column("KIND", cells=[row["kind"] or "-" for row in rows]),
        Column("NAME", cells=[row["name"] for row in rows]),
        Column("FROM", 1, cells=[row["from"] for row in rows]),
        Column(
            "SUMMARY",
            prose=True,
            cells=[f"broken: {row['broken']}" if row["broken"] else row["summary"] for row in rows],
        ),
    ]
    print_table(columns, console())


def _kind(kind: str | None) -> str:
    """The kind, checked; "" for none."""
    from mmctl.errors import UserError, suggest
    from mmctl.plugin import KINDS
    from mmctl.text import printable

    if kind is None or kind in KINDS:
        return kind or ""
    raise UserError(f'--kind: there is no kind "{printable(kind)}".{suggest(kind, KINDS)} Known: {", ".join(KINDS)}.')


def _row(entry: Entry) -> dict[str, Any]:
    from mmctl.text import display_path, printable

    return {
        "kind": entry.kind,
        "name": printable(entry.name if entry.origin == "mmctl" else entry.qualified),
        "origin": entry.origin,
        "version": entry.version,
        "from": printable(entry.place),
        "file": display_path(entry.file) if entry.file else None,
        "line": entry.line,
        "sha256": entry.sha256,
        "summary": printable(entry.summary),
        "broken": printable(entry.broken) if entry.broken else None,
    }


@group.command()
def show(
    name: str = typer.Argument(
        metavar="NAME", help="Component, for example `fuzzy` or `mmctl:fuzzy`.", autocompletion=complete_component
    ),
    kind: Kind = None,
    as_json: Json = False,
) -> None:
    """Explain one component.

    Prints its documentation, its parameters and a table to paste into a recipe. If components of several kinds have
    this name, --kind chooses one.

    \b
    Examples:
      mmctl plugins show fuzzy
      mmctl plugins show small --kind backbone
    """
    from mmctl.registry.index import Index
    from mmctl.registry.parameters import documentation, parameters

    index = Index()
    entry = _find(index, name, _kind(kind))
    component, shape = index.load(entry), index.shape(entry)
    rows = parameters(shape.model)
    doc = documentation(component)
    if as_json:
        about = {"qualified": entry.qualified, "doc": doc, "supplied": list(shape.supplied)}
        from mmctl.report.json_output import print_json

        print_json({**_row(entry), **about, "parameters": [r._asdict() for r in rows]})
        return
    from mmctl.report.console import Column, console, print_line, print_table

    place = f"{_row(entry)['file']}:{entry.line}" if entry.file else entry.module
    out = console()
    print_line(out, f"{entry.kind} {entry.qualified}  ({place})\n")
    print_line(out, (doc.split("Args:")[0].strip() or "No documentation.") + "\n")
    print_line(out, f"supplied by mmctl: {', '.join(shape.supplied) or 'nothing'}\n")
    if rows:
        titles = ("PARAMETER", "TYPE", "DEFAULT", "BOUNDS")
        columns = [Column(title, cells=[row[n] for row in rows]) for n, title in enumerate(titles)]
        print_table([*columns, Column("MEANING", prose=True, cells=[row.meaning for row in rows])], out)
        typer.echo("")
    else:
        typer.echo("no parameters\n")
    typer.echo(_paste(entry, [(row.name, row.default) for row in rows], component))


@group.command()
def new(
    name: str = typer.Argument(metavar="NAME", help="Name of the new component: lower-case letters, digits and _."),
    kind: str | None = typer.Option(None, "--kind", metavar="KIND", help="Its kind; not needed with --from."),
    package: bool = typer.Option(False, "--package", help="Make a folder that can be installed and published."),
    source: str = typer.Option("", "--from", metavar="COMPONENT", help="Start from a copy of a component of mmctl."),
) -> None:
    """Make a new component, with a test and a recipe.

    Writes plugins/NAME.py, tests/test_NAME.py and recipes/NAME.toml, or with --package a folder mmctl-NAME that also
    has a pyproject.toml. All of them work at once; change them step by step. The kinds are backbone, dataset, augment,
    labeler, loss, method and launcher. No existing file is changed.

    \b
    Examples:
      mmctl plugins new my_labels --kind labeler
      mmctl plugins new my_labels --from fuzzy
      mmctl plugins new my_net --kind backbone --package
    """
    from mmctl.errors import UserError
    from mmctl.plugin import KINDS
    from mmctl.registry.index import Index
    from mmctl.scaffold.new import new_component
    from mmctl.text import display_path, printable

    chosen = _kind(kind)
    origin, _, short = source.rpartition(":")
    if origin not in ("", "mmctl"):
        raise UserError(f'--from: "{printable(source)}" is not of mmctl: only components of mmctl can be copied.')
    entry = _find(Index(sources="off"), short, chosen) if source else None
    if not entry and not chosen:
        raise UserError(f"--kind is needed: {', '.join(KINDS)}. Or copy a component: --from fuzzy.")
    made = new_component(name, entry.kind if entry else chosen, package=package, source=entry)
    for path in made.files:
        typer.echo(f"wrote {display_path(path)}")
    width = max(len(command) for command, _ in made.commands)
    typer.echo("\nWhat to type next:")
    for command, purpose in made.commands:
        typer.echo(f"  {command:{width}}   {purpose}")


@group.command()
def check(
    names: list[str] | None = typer.Argument(
        None, metavar="[NAME|FILE]...", help="Components or plugin files. Default: all that are not mmctl's own."
    ),
    kind: Kind = None,
    sets: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Value of a parameter to try; root=DIR: folder of a data set."
    ),
    as_json: Json = False,
) -> None:
    """Test components against their contract.

    Does what the classes of `mmctl.testing` do, without a test file: shapes, gradients, state in checkpoints,
    randomness, several processes and more, on small inputs. Exit code 2 if a promise is broken.

    \b
    Examples:
      mmctl plugins check
      mmctl plugins check fuzzy --set temperature=0.5
      mmctl plugins check plugins/paper_texture.py
    """
    from mmctl.errors import PluginError
    from mmctl.recipe.layers import parse_sets
    from mmctl.registry.index import Index
    from mmctl.testing.check import promises_of
    from mmctl.text import printable

    index, table = Index(), parse_sets(sets)
    own = [*(e for e in index.entries if e.origin != "mmctl"), *index.missed]
    chosen = [(index, e) for e in own if _kind(kind) in ("", e.kind) or not e.kind]
    if names:
        chosen = [pair for name in names for pair in _named(index, name, _kind(kind))]
    if not chosen:
        typer.echo("no components of your own: `mmctl plugins new NAME --kind KIND` starts one")
    rows: list[dict[str, Any]] = []
    for at, entry in chosen:
        if not as_json:
            typer.echo(f"{entry.kind or '-'} {entry.qualified}  ({printable(entry.place)})")
        for promise in promises_of(entry, at, table):
            rows.append({"kind": entry.kind, "component": entry.qualified, **promise._asdict()})
            if not as_json:
                typer.echo(f"  {'BROKEN' if promise.broken else 'ok':<7} {promise.sentence}")
                for line in ([promise.broken] if promise.broken else []) + [f"note: {note}" for note in promise.notes]:
                    typer.echo("\n".join(f"          {printable(part)}" for part in line.splitlines()))
    if as_json:
        from mmctl.report.json_output import print_json

        print_json({"promises": rows})
    broken = sum(1 for row in rows if row["broken"])
    if broken:
        raise PluginError(f"{broken} of {len(rows)} promises {'is' if broken == 1 else 'are'} broken.")


def _named(index: Index, name: str, kind: str) -> list[tuple[Index, Entry]]:
    """The components that a word means: one by its name, or all in a file."""
    from pathlib import Path

    from mmctl.errors import PluginError
    from mmctl.registry.index import Index as Registry
    from mmctl.text import printable

    if not name.endswith(".py"):
        return [(index, _find(index, name, kind))]
    file = Path(name).absolute()
    there = Registry(plugins=file.parent, sources="local")
    held = [e for e in (*there.entries, *there.missed) if e.file and e.file.absolute() == file]
    found = [(there, e) for e in held if kind in ("", e.kind) or not e.kind]
    if not found:
        what = "no component in this file has a mark" if file.is_file() else "there is no such file"
        raise PluginError(f"{printable(name)}: {what}.")
    return found


def _find(index: Index, name: str, kind: str) -> Entry:
    from mmctl.errors import PluginError, suggest
    from mmctl.plugin import KINDS
    from mmctl.text import printable

    if kind:
        return index.find(kind, name)
    short = name.rpartition(":")[2]
    kinds = [
        k for k in KINDS if any(e.kind == k and name in (short, e.qualified) and e.name == short for e in index.entries)
    ]
    if len(kinds) == 1:
        return index.find(kinds[0], name)
    if kinds:
        choices = " or ".join(f"--kind {k}" for k in kinds)
        raise PluginError(f'components of several kinds are named "{printable(name)}": add {choices}.')
    known = dict.fromkeys(spelling for e in index.entries for spelling in (e.name, e.qualified))
    hint = suggest(name, known) + " `mmctl plugins list` shows all."
    raise PluginError(f'there is no component "{printable(name)}".{hint}')


def _paste(entry: Entry, values: list[tuple[str, str]], component: Any) -> str:
    """The table of the component for a recipe, with all defaults."""
    from mmctl.text import literal

    slots = {"augment": ".weak", "loss": ".TERM"}
    lines = [f"[{entry.kind}{slots.get(entry.kind, '')}]", f"name = {literal(_row(entry)['name'])}"]
    for name, default in values:
        unset = {"required": f"# {name} = ...  (required)", "-": f"# {name} = ..."}
        lines.append(unset.get(default, f"{name} = {default}"))
    if entry.kind == "method":
        for slot, term in getattr(component, "slots", {}).items():
            lines += ["", f"[loss.{slot}]"] + ([f"name = {literal(term.loss)}"] if term.loss else [])
            lines += [f"weight = {literal(term.weight)}", f"rampup = {literal(term.rampup)}"]
    return "\n".join(lines)
