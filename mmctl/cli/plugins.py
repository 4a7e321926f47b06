"""`mmctl plugins`: list all components, and explain one with its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from mmctl.cli.options import Json, Kind

if TYPE_CHECKING:
    from mmctl.registry.index import Entry, Index

group = typer.Typer(help="List and explain components.", no_args_is_help=True, rich_markup_mode=None)


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

    rows = [_row(e) for e in Index().entries if _kind(kind) in ("", e.kind)]
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
    name: str = typer.Argument(metavar="NAME", help="Component, for example `fuzzy` or `mmctl:fuzzy`."),
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
    import inspect

    from mmctl.registry.index import Index
    from mmctl.registry.parameters import parameters

    index = Index()
    entry = _find(index, name, _kind(kind))
    component, shape = index.load(entry), index.shape(entry)
    rows = parameters(shape.model)
    doc = inspect.getdoc(component) or ""
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
