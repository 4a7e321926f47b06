"""The command line: parse, call, print. A command imports heavy modules only when it runs."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from typing import Any

import typer

from mmctl.cli import (
    checkpoints,
    compare,
    data,
    db,
    doctor,
    evaluate,
    execute,
    export,
    import_,
    logs,
    ls,
    manage,
    plot,
    plugins,
    query,
    recipe,
    report,
    run,
    runs,
    stop,
    sweep,
    table,
    trash,
    ui,
    watch,
)  # fmt: skip
from mmctl.cli.plain_values import use_plain_values
from mmctl.terminal import safe_output

app = typer.Typer(
    name="mmctl",
    help="Semi-supervised image classification: train, resume, evaluate and compare models from recipes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Without this, a short command spends a sixth of its time in the last garbage collection, over all imported modules.
atexit.register(gc.freeze)
for module in (
    run, execute, sweep, evaluate, ls, runs, compare, plot, report, watch, ui, logs, manage, stop, trash, checkpoints,
    table, recipe, plugins, query, data, db, doctor, export, import_,
):  # fmt: skip
    module.add(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from mmctl import __version__

        typer.echo(f"mmctl {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


@cache
def _commands() -> Any:
    """All commands, made once: who calls `main` often in one process, as tests do, waits for it once."""
    command = typer.main.get_command(app)
    use_plain_values(command)
    return command


@safe_output()
def main(args: Sequence[str] | None = None) -> None:
    """Run one command. Every error ends in one message, `mmctl: ...`, and in the exit code that errors.py lists."""
    from mmctl.cli.options import check_words
    from mmctl.errors import MmctlError, os_error
    from mmctl.runs.progress import tell
    from mmctl.text import one_line

    try:
        check_words(sys.argv[1:] if args is None else args)
        _commands()(args=list(args) if args is not None else None)
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MMCTL_DEBUG"):
            # Printed here, since Python itself would print it past safe_output.
            traceback.print_exc()
        known = os_error(error) if isinstance(error, OSError) else error
        if isinstance(known, MmctlError):
            tell(f"mmctl: {known}")
            sys.exit(known.exit_code)
        tell(one_line(f"mmctl: a bug in mmctl: {type(error).__name__}: {error}. Please report it with {_crash()}."))
        sys.exit(1)


def _crash() -> str:
    """Write the traceback of a bug to a file that the user can send; returns its path."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="mmctl-crash-", suffix=".txt", delete=False) as file:
        file.write(" ".join(sys.argv) + "\n" + traceback.format_exc())
    return file.name
