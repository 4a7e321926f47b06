"""`mmctl plugins`: which components there are, and what one of them takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mmctl.registry.index import Entry, Index

group = typer.Typer(help="List and explain components.", no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    app.add_typer(group, name="plugins")


@group.command("list")
def list_(
    kind: str | None = typer.Option(None, "--kind", metavar="KIND", help="One kind alone."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List all components: the package's, those of plugins/, and installed ones. Imports none of them."""
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
    from mmctl.errors import UserError, suggest
    from mmctl.plugin import KINDS
    from mmctl.text import printable

    if kind is None or kind in KINDS:
        return kind or ""
    raise UserError(f'no kind "{printable(kind)}".{suggest(kind, KINDS)} Kinds: {", ".join(KINDS)}.')


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
    name: str = typer.Argument(..., metavar="NAME", help="A component, `fuzzy` or `mmctl:fuzzy`."),
    kind: str | None = typer.Option(None, "--kind", metavar="KIND", help="Its kind, where two kinds share a name."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Explain one component: its parameters, what mmctl supplies, and a recipe's table to paste."""
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
    from mmctl.report.console import Column, console
    from mmctl.report.console import print_table as table

    place = f"{_row(entry)['file']}:{entry.line}" if entry.file else entry.module
    typer.echo(f"{entry.kind} {entry.qualified}  ({place})\n\n{doc.split('Args:')[0].strip() or 'No documentation.'}\n")
    typer.echo(f"supplied by mmctl: {', '.join(shape.supplied) or 'nothing'}")
    if rows:
        titles = ("PARAMETER", "TYPE", "DEFAULT", "BOUNDS")
        columns = [Column(title, cells=[row[n] for row in rows]) for n, title in enumerate(titles)]
        table([*columns, Column("MEANING", prose=True, cells=[row.meaning for row in rows])], console())
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
        raise PluginError(f'"{printable(name)}" is of several kinds: say --kind {" or --kind ".join(kinds)}.')
    known = dict.fromkeys(spelling for e in index.entries for spelling in (e.name, e.qualified))
    raise PluginError(f'no component "{printable(name)}".{suggest(name, known)} All: mmctl plugins list.')


def _paste(entry: Entry, values: list[tuple[str, str]], component: Any) -> str:
    """The component's table as it stands in a recipe, defaults written out."""
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
