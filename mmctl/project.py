"""Where a project keeps its parts: recipes/, plugins/, runs/ and data/ beside each other."""

from __future__ import annotations

import os
from pathlib import Path

from mmctl.errors import EnvironmentFault, UserError


def root() -> Path:
    """The nearest folder, from here upwards, that has a recipes/ or plugins/ folder; else here."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise EnvironmentFault("this folder has been removed: change to another one.") from None
    for folder in (here, *here.parents):
        if (folder / "recipes").is_dir() or (folder / "plugins").is_dir():
            return folder
    return here


def runs_dir() -> Path:
    """The folder of run folders: $MMCTL_RUNS, or runs/ in the project."""
    named = os.environ.get("MMCTL_RUNS")
    return Path(named) if named else root() / "runs"


def plugins_dir() -> Path:
    """The folder of the project's own components: $MMCTL_PLUGINS_DIR, or plugins/ in the project."""
    named = os.environ.get("MMCTL_PLUGINS_DIR")
    return Path(named) if named else root() / "plugins"


def data_root(given: str | None, name: str) -> Path:
    """The folder of a data set: as the recipe gives it (`~` is expanded), else data/NAME in the project."""
    if given is None:
        return root() / "data" / name
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise UserError(f'dataset.root = "{given}": there is no such user; write the path out.') from None
    return path if path.is_absolute() else root() / path
