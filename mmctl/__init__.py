"""mmctl: a terminal-first experiment manager for semi-supervised image classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmctl.notebook.opened import Runs

__version__ = "0.1.0"


def open(folder: str = "runs") -> Runs:
    """A folder of runs, for notebooks and scripts (mmctl/notebook/opened.py)."""
    from pathlib import Path

    from mmctl.notebook.opened import Runs

    return Runs(Path(folder))
