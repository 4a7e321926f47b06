"""The recipes of the published data sets start, on stand-ins of a few images and a small network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import published_sets as made
from helpers.command import Result
from helpers.paths import REPO
from mmctl.recipe.recipe import load
from mmctl.runs.preflight import preflight
from mmctl.tables.spec import read_table

Mm = Callable[..., Result]
STAND_INS: dict[str, tuple[Callable[[Path], object], int]] = {  # and the labels that they have room for
    "cifar10": (made.cifar_binary, 40),
    "cifar100": (lambda root: made.cifar_binary(root, 100, 2), 100),
    "svhn": (made.svhn, 40),
    "stl10": (made.stl10, 20),
    "rafdb": (made.rafdb, 14),
}
RECIPES = sorted(
    path for path in (REPO / "recipes").glob("*.toml") if path.stem.partition("-")[0] in STAND_INS
)  # fmt: skip
SMALL = (
    "backbone.name=small", "train.batch=4", "train.unlabeled_batch=4", "train.precision=fp32", "train.threads=1",
    "dataset.files=any", "train.steps=2", "train.save_every=2", "eval.every=2", "schedule.warmup=0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def changed(name: str, root: Path, labels: object) -> list[str]:
    made_by, room = STAND_INS[name]
    if not root.exists():
        made_by(root)
    return [*SMALL, f"dataset.root={root}", f"split.labels={labels if labels == 'all' else room}"]


def test_there_is_one_for_each_column_of_the_papers_tables() -> None:
    columns = [column for n in (1, 2, 4) for column in read_table(f"table{n}").columns.values()]
    assert {path.stem for path in RECIPES} == {f"{column.dataset}-{column.labels}" for column in columns}


@pytest.mark.sampled(13, 2)
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_and_evaluates(path: Path, tmp_path: Path, mm: Mm) -> None:
    name, _, labels = path.stem.partition("-")
    sets = changed(name, tmp_path / "data" / name, labels)
    done = mm("run", path, *(word for one in sets for word in ("--set", one)))
    assert done.code == 0, done.err
    assert "completed, 2 steps" in done.out


@pytest.mark.slow
@pytest.mark.parametrize("table", ["table1", "table2", "table4"])
def test_every_cell_takes_a_step(table: str, tmp_path: Path) -> None:
    read, tried = read_table(table), 0
    for cell in read.cells():
        if cell.recipe is not None:
            column = read.columns[cell.column]
            sets = changed(column.dataset, tmp_path / "data" / column.dataset, column.labels)
            preflight([load(cell.recipe.path, [*cell.sets, *sets])], quiet=True)
            tried += 1
    assert tried >= 20
