"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence

import typer

from mmctl.cli import db, evaluate, plugins, recipe, run, runs, table

app = typer.Typer(
    name="mmctl",
    help="Semi-supervised image classification from one recipe: train, compare, resume, evaluate.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# A short command would spend a sixth of its time on looking, at its end, for garbage in all that it has imported.
atexit.register(gc.freeze)
for module in (run, evaluate, runs, table, recipe, plugins, db):
    module.add(app)


def _version(wanted: bool) -> None:
    if wanted:
        from mmctl import __version__

        typer.echo(f"mmctl {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; a user's mistake ends with one message and the exit code of errors.py."""
    from mmctl.errors import MmctlError
    from mmctl.runs.progress import tell

    try:
        app(args=list(args) if args is not None else None)
    except MmctlError as error:
        if os.environ.get("MMCTL_DEBUG"):
            raise
        tell(f"mmctl: {error}" if "\n" not in str(error) else str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MMCTL_DEBUG"):
            raise
        tell(f"mmctl: a bug in mmctl: {type(error).__name__}: {error}. Please report it with {_crash()}.")
        sys.exit(1)


def _crash() -> str:
    """The traceback of a bug, kept in a file for the report."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="mmctl-crash-", suffix=".txt", delete=False) as file:
        file.write(" ".join(sys.argv) + "\n" + traceback.format_exc())
    return file.name
