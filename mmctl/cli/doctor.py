"""`mmctl doctor` looks at this machine, `mmctl reproduce` at what one run needs of it."""

from __future__ import annotations

import typer

from mmctl.cli.options import Json, Run
from mmctl.report.json_output import print_json


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
    for command in (doctor, reproduce):
        app.command()(command)


def doctor(as_json: Json = False) -> None:
    """Check this machine.

    Looks at Python, torch, device, disk, file system, SQLite, the runs, the terminal, plugins and data. Each line is ok
    or says what to do. Exits with code 4 if something is wrong.

    \b
    Examples:
      mmctl doctor
    """
    from mmctl.errors import EnvironmentFault
    from mmctl.runs.doctor import look

    found = []
    for line in look():
        found.append(line)
        if not as_json:
            remedy = "" if line.ok else f"\n{'':<16}{line.remedy}"
            typer.echo(f"{'ok' if line.ok else 'WRONG':<6}{line.name + ' ':<12}{line.text}{remedy}")
    bad = [line.name for line in found if not line.ok]
    if as_json:
        print_json({"checks": [line._asdict() for line in found], "ok": not bad})
    if bad:
        raise EnvironmentFault(f"doctor: {len(bad)} of {len(found)} lines are wrong: {', '.join(bad)}.")


def reproduce(run: Run, as_json: Json = False) -> None:
    """Show the commands that train a run again.

    If the code of the project has changed, git checks out its commit and applies the changes that were in no commit.
    Also lists what is different here: packages, code, plugins, data. It reads the data, so it takes a moment.

    \b
    Examples:
      mmctl reproduce @last
    """
    from mmctl.store.select import folder_of_run

    folder = folder_of_run(run)
    from mmctl.run_folder.record import check_own, command_again, read_record
    from mmctl.runs.reproduce import code_here, differences, preparations
    from mmctl.text import printable

    about, here = read_record(folder), code_here()
    check_own(about, "trained again")
    parent = about.get("parent")
    before = preparations(folder, about, here)
    line = command_again(folder / "recipe.toml", parent["uid"] if parent else None, about["total_steps"])
    found = differences(folder, here)
    if as_json:
        print_json({"run": folder.name, "before": before, "command": line, "differences": found})
        return
    for one in [*before, line]:
        typer.echo(one)
    for one in found:
        typer.echo(f"  differs: {printable(one)}")
    if not found:
        typer.echo("  nothing differs here: the same versions, code, plugins and data")
