"""`mmctl ui`: all runs, full screen."""

from __future__ import annotations

import os
import shlex
import sys

import typer

from mmctl.cli.options import Archived, Filter


def add(app: typer.Typer) -> None:
    """Add this file's command to the app."""
    app.command()(ui)


def ui(
    terms: Filter = None,
    sort: str = typer.Option(
        None, "--sort", "-s", metavar="COLUMN", help="A column, a metric or a setting, the largest at the top."
    ),
    archived: Archived = False,
) -> None:
    """Look at runs in full screen.

    Filters them, shows details, curves and logs, and stops, resumes and tags runs. Press ? for all keys. Needs
    Textual: pip install 'mmctl[tui]'.

    \b
    Examples:
      mmctl ui
      mmctl ui state:running
      mmctl ui labels:40 --sort result
    """
    from mmctl import project
    from mmctl.errors import UserError

    try:
        import textual  # noqa: F401 - only asks whether it is installed
    except ImportError:
        raise UserError("mmctl ui: needs Textual, which is not installed: pip install 'mmctl[tui]'") from None
    terminal = sys.__stdin__ is not None and sys.__stderr__ is not None  # where Textual reads and draws
    if not terminal or not (sys.__stdin__.isatty() and sys.__stderr__.isatty()) or os.environ.get("TERM") == "dumb":  # type: ignore[union-attr]
        raise UserError("mmctl ui: needs a terminal. `mmctl ls` and `mmctl watch` work without one.")
    runs_dir = project.runs_dir()
    if os.path.lexists(runs_dir) and not runs_dir.is_dir():
        raise UserError(f"{runs_dir}: is not a folder. MMCTL_RUNS or the project says where runs are.")
    from mmctl.ui.app import run_ui
    from mmctl.ui.reading import View

    view = View(shlex.join(terms or []), archived=archived).ordered(sort or "")
    sys.exit(run_ui(runs_dir, view))
