"""An edited run folder is a configuration of its own, and order never comes from clocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.fake_runs import T0, attempt, data, evaluation, finished_run, points, state, write
from helpers.run_helpers import never
from mmctl.run_folder.journal import append
from mmctl.run_folder.verify import split_hash
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.store.check import database_problems
from mmctl.store.store import Store

Mm = Callable[..., Result]
UID = "20261125-081501-digits-s0-0001"
SETS = ("train.steps=2", "eval.every=2", "train.threads=1", "train.log_every=1")


def swap(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def split(folder: Path) -> None:
    body = json.loads((folder / "split.json").read_text())
    body["labeled"][0] += 1
    (folder / "split.json").write_text(json.dumps(body))


EDITS: dict[str, Callable[[Path], object]] = {
    "recipe.toml": lambda f: swap(f / "recipe.toml", "lr = 0.1", "lr = 0.3"),
    "run.json": lambda f: swap(f / "run.json", '"lr": 0.1', '"lr": 0.3'),
    "run.json: seed": lambda f: swap(f / "run.json", '"seed": 0', '"seed": 5'),
    "run.json: total_steps": lambda f: swap(f / "run.json", '"total_steps": 2', '"total_steps": 1'),
    "split.json": split,
}


@pytest.mark.slow
def test_an_edited_run_stands_alone_and_says_why(mm: Mm, tmp_path: Path) -> None:
    recipe = tiny_project.recipe("supervised", *SETS)
    honest, edited = (create_run(recipe, tmp_path / "runs") for _ in range(2))
    for folder in (honest, edited):
        execute(folder, never)
    whole = {file: file.read_bytes() for file in edited.iterdir() if file.is_file()}

    def twins() -> set[str]:
        with Store(tmp_path / "runs") as store:
            store.sync()
            run = next(run for run in store.runs() if run["uid"] == honest.name)
            code = store.about(run)["code"]  # type: ignore[typeddict-item]
            hashes: Any = (run["data_hash"], run["split_hash"], code)
            return {twin["uid"] for twin in store.twins(recipe.config_id, 0, hashes)}

    assert twins() == {honest.name, edited.name}
    for name, edit in EDITS.items():
        edit(edited)
        rows = {row["uid"]: row for row in json.loads(mm("ls", "--json").out)["runs"]}
        assert rows[honest.name]["altered"] == [], name
        assert rows[edited.name]["altered"][0].startswith(name.partition(":")[0]) or name == "run.json", name
        assert rows[edited.name]["config_id"] == edited.name
        assert "completed, altered" in mm("ls").out
        assert "altered" in mm("show", edited.name).out
        (panel,) = json.loads(mm("compare", "--json").out)["panels"]
        assert [(row["values"][0]["n"], row["altered"]) for row in panel["configurations"]].count((1, True)) == 1
        assert "(altered)" in mm("compare").out
        differ = json.loads(mm("diff", honest.name, edited.name, "--json").out)
        assert list(differ["altered"]) == [edited.name], name
        assert "was altered: " in mm("diff", honest.name, edited.name).out
        assert twins() == {honest.name}, name
        checked = mm("db", "check")
        assert checked.code == 4
        assert f"{edited}: altered: " in checked.err
        for file, text in whole.items():
            file.write_bytes(text)
        assert twins() == {honest.name, edited.name}, name
    assert mm("db", "check").code == 0


def test_a_start_at_step_0_takes_the_split_that_is_there_then(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "runs", UID)

    def draw(seed: int) -> str:
        rows: list[list[int]] = [[0], [1, 2], []]
        sha256 = split_hash("balanced", seed, rows)
        body = {"rule": "balanced", "seed": seed, **dict(zip(("labeled", "unlabeled", "val"), rows, strict=True))}
        (folder / "split.json").write_text(json.dumps(body | {"sha256": sha256}))
        return sha256

    def altered() -> tuple[list[str], bool]:
        with Store(tmp_path / "runs") as store:
            store.sync()
            assert database_problems(store) == []
            (run,) = store.runs()
            return run["altered"], run["config_id"] == UID

    write(folder, 2, attempt(2, 0), replace(data(), split_hash=draw(1)))
    assert altered() == ([], False)
    now = draw(2)
    assert altered()[1], "it was trained with another one"
    write(folder, 3, attempt(3, 500), replace(data(), split_hash=now))
    assert altered()[1], "some of its steps were"
    write(folder, 4, attempt(4, 0), replace(data(), split_hash=now))
    assert altered() == ([], False)


HOUR = 3_600_000


@pytest.mark.parametrize("clock", [-24 * HOUR, -HOUR, 0, HOUR, 24 * HOUR])
def test_an_evaluation_counts_by_its_attempt_whatever_the_clock_says(tmp_path: Path, clock: int) -> None:
    runs = tmp_path / "runs"
    folder = finished_run(runs, UID)
    write(folder, 2, attempt(2, 500), state("completed", 1000), t=T0 + HOUR)

    def steps() -> list[tuple[int, int]]:
        with Store(runs) as store:
            store.sync()
            assert database_problems(store) == []
            return [(one["step"], one["attempt"]) for one in store.evaluations(store.runs()[0])]

    append(folder, replace(evaluation(1000, 0.5), t=T0 + clock))
    assert steps()[-1] == (1000, 0), "made after attempt 2"
    append(folder, replace(state("nc", 1000, "by hand"), t=T0 + clock))
    with Store(runs) as store:
        store.sync()
        assert store.runs()[0]["state"] == "nc"
        assert store.events(store.runs()[0], "state")[-1]["body"]["s"] == "nc"
    write(folder, 3, attempt(3, 700), points(800, train__loss=1.0), state("completed", 1000), t=T0 - 2 * clock)
    assert all(step <= 700 for step, _ in steps()), "superseded by attempt 3"
    with Store(runs) as store:
        assert store.runs()[0]["state"] == "completed"
    append(folder, replace(evaluation(1000, 0.6), t=T0 - clock))
    append(folder, replace(evaluation(1000, 0.7), t=T0 + clock))
    assert steps()[-2:] == [(1000, 0), (1000, 0)]
    with Store(runs) as store:
        assert store.evaluations(store.runs()[0])[-1]["metrics"]["accuracy"] == 0.7, "the last one written"
