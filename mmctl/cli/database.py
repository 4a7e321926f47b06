"""Commands (to come)."""

from __future__ import annotations

import typer


def add(app: typer.Typer) -> None:
    """Add this file's commands to the app."""
