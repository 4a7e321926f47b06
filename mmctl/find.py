"""From what a person types to a run folder, for the commands that open one."""

from __future__ import annotations

from pathlib import Path

from mmctl import project, selection
from mmctl.errors import RunNotFound
from mmctl.store import Store


def folder_of_run(ref: str) -> Path:
    """The folder of a run: its path, or its number, name or id as `mmctl ls` shows them, or @last."""
    path = Path(ref)
    if (path / "run.json").is_file():
        return path.resolve()
    runs = project.runs_dir()
    if not runs.is_dir():
        raise RunNotFound(f'no run "{ref}": {runs} does not exist. Start one: mmctl run recipes/digits.toml')
    with Store(runs) as store:
        store.sync()
        return runs / str(selection.find(store.runs(), ref)["uid"])
