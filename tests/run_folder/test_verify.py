"""Edits of a run folder are found, whichever of its files was edited, and folders that nobody edited have none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_runs, tiny_project
from helpers.run_helpers import After
from mmctl.data.split import load_split
from mmctl.run_folder import verify
from mmctl.run_folder.record import read_record
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute

SETS = ("train.steps=4", "eval.every=4", "train.threads=1", "average.kind=none")


@pytest.fixture
def queued(tmp_path: Path) -> Path:
    return create_run(tiny_project.recipe("mixmatch", *SETS), tmp_path / "runs")


@pytest.fixture
def trained(queued: Path) -> Path:
    execute(queued, After(3))
    return queued


def found(folder: Path) -> list[str]:
    return verify.alterations(folder, read_record(folder))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "run.json").read_text())
    change(record)
    (folder / "run.json").write_text(json.dumps(record))


def swap(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def forget_hashes(folder: Path) -> None:
    """As older versions of mmctl wrote a run folder."""
    edit(folder, lambda record: (record.pop("identity"), record.pop("recipe_hash")))
    for file in folder.glob("journal.*"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({k: v for k, v in one.items() if k != "identity"}) + "\n" for one in lines))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", ["supervised", "marginmix", "mixmatch", "fixmatch", "temporal_ensembling"])
def test_a_run_that_nobody_edited_has_no_alterations(tmp_path: Path, method: str) -> None:
    for sets in (SETS, SETS[:-1], ("eval.primary=test/raw/centroid/macro_f1",)):
        folder = create_run(tiny_project.recipe(method, *sets), tmp_path / "runs")
        assert found(folder) == []
        forget_hashes(folder)
        assert found(folder) == []
    folder = create_run(tiny_project.recipe(method, *SETS), tmp_path / "runs")
    execute(folder, After(2))
    assert (folder / "split.json").exists()
    assert found(folder) == []
    assert found(fake_runs.finished_run(tmp_path, "fake")) == []


def test_the_hash_of_the_split_is_that_of_its_file(trained: Path) -> None:
    split = load_split(trained / "split.json")
    rows = [part.tolist() for part in (split.labeled, split.unlabeled, split.val)]
    assert verify.split_hash(split.rule, split.seed, rows) == split.sha256


EDITS: list[tuple[str, Callable[[Path], object], str]] = [
    ("lr in recipe.toml", lambda f: swap(f / "recipe.toml", "lr = 0.1", "lr = 0.2"),
     "recipe.toml: optimizer.lr is 0.2, but run.json says 0.1"),
    ("a key less in recipe.toml", lambda f: swap(f / "recipe.toml", "lr = 0.1", ""),
     "recipe.toml: optimizer.lr is absent, but run.json says 0.1"),
    ("a key more in recipe.toml", lambda f: swap(f / "recipe.toml", "lr = 0.1", "lr = 0.1\nnew = 3"),
     "recipe.toml: optimizer.new is 3, but run.json says absent"),
    ("seed in recipe.toml", lambda f: swap(f / "recipe.toml", "seed = 0", "seed = 7"),
     "recipe.toml: seed is 7, but run.json says 0"),
    ("recipe.toml cut short", lambda f: (f / "recipe.toml").write_text((f / "recipe.toml").read_text()[:-3] + "= ="),
     "recipe.toml: is not TOML"),
    ("lr in run.json", lambda f: edit(f, lambda r: r["config"]["optimizer"].update(lr=0.2)),
     "recipe.toml: optimizer.lr is 0.1, but run.json says 0.2"),
    ("config_id in run.json", lambda f: edit(f, lambda r: r.update(config_id="0123456789ab")),
     "run.json: config_id 0123456789ab is not that of its config"),
    ("seed in run.json", lambda f: edit(f, lambda r: r.update(seed=7)),
     "run.json: seed is 7, but seed of its config gives 0"),
    ("steps in run.json", lambda f: edit(f, lambda r: r.update(total_steps=3)),
     "run.json: total_steps is 3, but train.steps of its config gives 4"),
    ("metric in run.json", lambda f: edit(f, lambda r: r.update(primary="test/ema/head/accuracy")),
     'run.json: primary is "test/ema/head/accuracy", but eval.primary of its config gives "test/raw/head/accuracy"'),
    ("method in run.json", lambda f: edit(f, lambda r: r.update(method="fixmatch")),
     'run.json: method is "fixmatch", but method.name of its config gives "mixmatch"'),
    ("labeler in run.json", lambda f: edit(f, lambda r: r.update(labeler=None)),
     'run.json: labeler is absent, but labeler.name of its config gives "softmax"'),
]  # fmt: skip


@pytest.mark.parametrize("age", ["today", "older"])
@pytest.mark.parametrize(("change", "sentence"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_an_edit_is_found(queued: Path, age: str, change: Callable[[Path], object], sentence: str) -> None:
    if age == "older":
        forget_hashes(queued)
    change(queued)
    assert any(one.startswith(sentence) for one in found(queued)), found(queued)


def both(folder: Path) -> None:
    """The same edit in all that names it, so that recipe.toml and run.json agree."""
    swap(folder / "recipe.toml", "lr = 0.1", "lr = 0.2")
    edit(folder, lambda r: r["config"]["optimizer"].update(lr=0.2))


def test_an_edit_of_recipe_and_record_together_is_found(queued: Path) -> None:
    both(queued)
    assert found(queued)[0] == (
        "run.json: config, seed, components or total_steps have changed since the run was created"
    )


def test_an_edit_of_recipe_and_record_with_new_hashes_is_found_by_the_journal(trained: Path) -> None:
    both(trained)
    record = read_record(trained)
    from mmctl.identity import config_id_of

    made = {
        "config_id": config_id_of(record["config"], record["components"]),  # type: ignore[arg-type]
        "identity": verify.identity_hash(record),
        "recipe_hash": verify.recipe_hash((trained / "recipe.toml").read_bytes()),
    }
    edit(trained, lambda r: r.update(made))
    assert found(trained) == [
        "run.json: config, seed, components or total_steps have changed since training with it began, as the journal "
        "says"
    ]


def test_an_edit_of_recipe_and_record_of_an_older_run_is_found_by_its_config_id(trained: Path) -> None:
    forget_hashes(trained)
    both(trained)
    assert [one for one in found(trained) if "is not that of its config" in one]


def test_an_edit_of_the_split_is_found(trained: Path) -> None:
    file = trained / "split.json"
    body = json.loads(file.read_text())
    body["labeled"][0] += 1
    file.write_text(json.dumps(body))
    assert found(trained) == ["split.json: its SHA-256 is not that of its rows"]
    rows = [body[name] for name in ("labeled", "unlabeled", "val")]
    file.write_text(json.dumps(body | {"sha256": verify.split_hash(body["rule"], body["seed"], rows)}))
    assert found(trained) == [
        "split.json: is not the split that the run was trained with (its hash in the journal differs)"
    ]
    for text in ("", "[]", "[" * 100_000, '{"labeled": 3}', json.dumps(body | {"val": [2**70]})):
        file.write_text(text)
        assert found(trained)[0].startswith("split.json: cannot be read"), text


def test_what_changes_no_result_may_be_edited(trained: Path) -> None:
    swap(trained / "recipe.toml", "threads = 1", "threads = 2")
    swap(trained / "recipe.toml", "[dataset]", '[dataset]\nroot = "/elsewhere"')
    assert found(trained) == []
    edit(trained, lambda r: r.update(name="new", note="mine", tags=["good"]))
    assert found(trained) == []
    for file in ("recipe.toml", "split.json"):  # what is not there contradicts nothing
        (trained / file).unlink()
    assert found(trained) == []
