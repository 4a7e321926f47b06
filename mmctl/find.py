"""From what a person types to a run folder."""

from __future__ import annotations

from pathlib import Path

from mmctl import project
from mmctl.errors import RunNotFound
from mmctl.store import Store


def folder_of_run(ref: str) -> Path:
    """The folder of a run named by path, id or its beginning, name, number or @last."""
    path = Path(ref)
    if (path / "run.json").is_file():
        return path
    runs = project.runs_dir()
    if not runs.is_dir():
        raise RunNotFound(f'no run "{ref}": {runs} does not exist. Start one: mmctl run recipes/digits.toml')
    with Store(runs) as store:
        store.sync()
        return runs / str(store.run(ref)["uid"])  # type: ignore[attr-defined]
