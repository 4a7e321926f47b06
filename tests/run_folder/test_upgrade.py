"""Run folders of older versions of mmctl: listed, compared, resumed and evaluated with today's names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny_project
from helpers.command import Result
from helpers.fake_runs import make_run
from helpers.run_helpers import After, assert_same, never
from mmctl.errors import UserError
from mmctl.recipe.recipe import load_stored
from mmctl.run_folder.record import read_record
from mmctl.run_folder.upgrade import KEYS_1, upgrade_recipe, upgrade_record
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute

SETS = ("train.steps=6", "eval.every=3", "train.save_every=3")


def older(value: Any, key: str) -> Any:
    """A value as format 1 wrote it."""
    return {True: "unit", False: "raw"}[value] if key in KEYS_1["centroids"] else value


def as_format_1(folder: Path) -> None:
    """Write a run folder's record and recipe back as mmctl wrote them before keys were renamed."""
    import tomli_w

    record = json.loads((folder / "run.json").read_text())
    config = record["config"]
    for table, keys in KEYS_1.items():
        now = {new: old for old, new in keys.items()}
        config[table] = {now.get(key, key): older(value, now.get(key, key)) for key, value in config[table].items()}
    record |= {"format": 1, "cell": "0123456789ab", "config": config}
    del record["config_id"]
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "recipe.toml").write_text(tomli_w.dumps(config))


@pytest.mark.slow
def test_an_old_run_is_listed_compared_resumed_and_evaluated(mm: Callable[..., Result], tmp_path: Path) -> None:
    recipe = tiny_project.recipe("marginmix", *SETS, "centroids.normalize_centroids=false")
    whole, old = (create_run(recipe, tmp_path / "runs") for _ in range(2))
    execute(whole, never)
    execute(old, After(3))
    as_format_1(old)
    assert '"group"' in (old / "run.json").read_text()
    assert "norm = " in (old / "recipe.toml").read_text()
    rows = json.loads(mm("ls", "--json").out)["runs"]
    assert {row["config_id"] for row in rows} == {recipe.config_id}
    done = mm("resume", old.name, "--quiet")
    assert done.code == 0, done.err
    assert_same(old, whole)
    found = json.loads(mm("evaluate", old.name, "--json").out)
    assert found["metrics"] == found["logged"]
    (panel,) = json.loads(mm("compare", "--json").out)["panels"]
    assert [len(row["runs"]) for row in panel["configurations"]] == [2]


def test_a_record_that_format_1_wrote() -> None:
    config = {
        "method": {
            "name": "mmctl:mixmatch",
            "group": "joint",
            "guess_group": "each",
            "update": "first",
            "per": "batch",
        },
        "centroids": {"estimator": "ema", "member": "unit", "norm": "raw"},
        "split": {"labels": 40, "short": "cap"},
    }
    params = {"group": "joint", "per": "batch", "alpha": 0.75}
    components = [
        {"kind": "method", "name": "mmctl:mixmatch", "params": params, "sha256": "5e"},
        {"kind": "loss", "name": "mmctl:brier", "params": {"per": 1}, "sha256": "6f"},
    ]
    record = {"format": 1, "uid": "r1", "cell": "0123456789ab", "config": config, "components": components}
    now = upgrade_record(record)
    assert now["config"] == {
        "method": {
            "name": "mmctl:mixmatch", "bn_groups": "joint", "guess_bn_groups": "each", "bn_update": "first",
            "lambda_per": "batch",
        },
        "centroids": {"estimator": "ema", "normalize_embeddings": True, "normalize_centroids": False},
        "split": {"labels": 40, "on_shortage": "cap"},
    }  # fmt: skip
    renamed = {"bn_groups": "joint", "lambda_per": "batch", "alpha": 0.75}
    assert now["components"] == [components[0] | {"params": renamed}, components[1]]
    assert (now["format"], now["uid"], "cell" in now) == (2, "r1", False)


def test_a_method_of_a_plugin_keeps_its_keys() -> None:
    method = {"name": "plugins:mine", "group": "joint", "per": 3}
    assert upgrade_recipe({"method": method, "split": {"short": "cap"}}) == {
        "method": method,
        "split": {"on_shortage": "cap"},
    }


@pytest.mark.parametrize("record", [{"format": 1}, {"format": 1, "config": 3, "components": [3, {"kind": "method"}]}])
def test_a_record_of_any_shape_survives(record: dict[str, Any]) -> None:
    assert upgrade_record(record | {"cell": "x"})["config_id"] == "x"


def test_a_record_of_a_newer_mmctl_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="made by a newer mmctl"):
        read_record(tmp_path)


def test_a_stored_recipe_of_today_stays_as_it_is(tmp_path: Path) -> None:
    recipe = tiny_project.recipe("mixmatch", *SETS)
    (tmp_path / "recipe.toml").write_text(recipe.text())
    assert load_stored(tmp_path / "recipe.toml", upgrade_recipe).data == recipe.data


DEEP = '{"format": 1, "config": ' + '{"a":' * 900 + "1" + "}" * 901


@pytest.mark.parametrize("text", ['{"format": "x"}', "[]", "{}", "", '{"format": 1, "config": []}', DEEP])
def test_a_record_that_cannot_be_used_is_one_message(tmp_path: Path, text: str) -> None:
    folder = make_run(tmp_path, "r1")
    (folder / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"r1.*run\.json"):
        read_record(folder)
