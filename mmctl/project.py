"""The folders of a project: recipes/, plugins/, runs/ and data/, beside each other."""

from __future__ import annotations

import os
from pathlib import Path

from mmctl.errors import EnvironmentFault, UserError


def root() -> Path:
    """The project folder: the nearest one, from here upwards, with a recipes/ or plugins/ folder; else this folder."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise EnvironmentFault("the current folder was deleted: change to another one.") from None
    for folder in (here, *here.parents):
        if (folder / "recipes").is_dir() or (folder / "plugins").is_dir():
            return folder
    return here


def runs_dir() -> Path:
    """The folder that holds the run folders: $MMCTL_RUNS, or runs/ in the project."""
    named = os.environ.get("MMCTL_RUNS")
    return Path(named) if named else root() / "runs"


def plugins_dir() -> Path:
    """The folder of the plugins of the project: $MMCTL_PLUGINS_DIR, or plugins/ in the project."""
    named = os.environ.get("MMCTL_PLUGINS_DIR")
    return Path(named) if named else root() / "plugins"


def data_root(given: str | None, name: str) -> Path:
    """The folder of a data set: dataset.root of the recipe (`~` is expanded), else data/NAME in the project."""
    if given is None:
        return root() / "data" / name
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise UserError(f'dataset.root = "{given}": there is no such user. Write the full path.') from None
    return path if path.is_absolute() else root() / path


def path_in_recipe(path: Path) -> str:
    """A path as recipes have it: relative to the project if it is inside."""
    full, home = path.absolute(), root()
    return str(full.relative_to(home)) if full.is_relative_to(home) else str(full)
