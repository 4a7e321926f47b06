"""`mmctl recipe`: faults to stderr with exit code 2, and output that is itself a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.recipe_parts import BASE, PARTS, write
from mmctl.recipe import recipe


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "parts.py").write_text(PARTS)
    write("base", BASE)
    write("bad", 'extends = "base"\n[train]\nstepz = 3\n[labeler]\nm = 0\n')


def test_validate(mm: Any) -> None:
    done = mm("recipe", "validate", "recipes/base.toml", "base")
    assert (done.code, done.out, done.err) == (0, "recipes/base.toml: ok\nbase: ok\n", "")


def test_validate_tells_everything_of_every_file(mm: Any) -> None:
    done = mm("recipe", "validate", "bad", "recipes/base.toml", "gone")
    assert done.code == 2
    assert done.out == "recipes/base.toml: ok\n"
    assert done.err.splitlines()[:2] == [
        'recipes/bad.toml:3: train.stepz: unknown key; did you mean "steps"?',
        "recipes/bad.toml:5: labeler.m: must be greater than 1 (got 0)",
    ]
    assert 'no recipe "gone"' in done.err
    assert "Traceback" not in done.err


def test_validate_json_and_fast(mm: Any) -> None:
    done = mm("recipe", "validate", "bad", "--json", "--fast")
    assert done.code == 2
    assert done.err == ""
    (row,) = json.loads(done.out)["recipes"]
    assert (row["ok"], len(row["problems"])) == (False, 1)  # parameters are not looked at


def test_show_is_a_recipe_with_origins(mm: Any) -> None:
    done = mm("recipe", "show", "base", "--set", "labeler.m=4", "--set", "backbone.args={a = 1}")
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "m = 4.0 # --set" in lines
    assert "strength = 0.3 # recipes/base.toml:14" in lines
    assert "args = { a = 1 } # --set" in lines
    assert "keep = 2 # default" in lines
    headers = [line.strip("[]") for line in lines if line.startswith("[")]
    assert headers == [
        "dataset", "split", "backbone", "method", "labeler", "centroids", "loss.labeled", "loss.unlabeled", "loss.fair",
        "augment.strong", "augment.weak", "optimizer", "schedule", "average", "train", "eval", "launcher",
    ]  # fmt: skip
    Path("again.toml").write_text(done.out)
    made = recipe.load("base", ["labeler.m=4", "backbone.args={a = 1}"])
    assert recipe.load("again.toml").text() == made.text()
    told = json.loads(mm("recipe", "show", "base", "--json").out)
    assert told["origins"]["train.steps"] == "recipes/base.toml:18"
    assert told["recipe"]["train"]["steps"] == 100
    assert told["config_id"] == recipe.load("base").config_id


def test_show_of_a_bad_recipe(mm: Any) -> None:
    done = mm("recipe", "show", "bad")
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 2


def test_schema(mm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plugins/broken.py").write_text(
        "from mmctl.plugin import loss\nraise OSError('x')\n@loss('bad')\nclass B: ...\n"
    )
    done = mm("recipe", "schema")
    assert done.code == 0
    assert "left out: loss plugins:bad" in done.err
    made = json.loads(done.out)
    assert list(made["properties"])[:3] == ["extends", "name", "seed"]
    train, labeler = (made["properties"][name]["anyOf"][0] for name in ("train", "labeler"))
    assert train["properties"]["steps"]["minimum"] == 1
    assert "plugins:sure" in labeler["properties"]["name"]["enum"]
    (choice,) = (c for c in labeler["oneOf"] if c["title"] == "plugins:sure")
    assert choice["properties"]["m"]["exclusiveMinimum"] == 1
    done = mm("recipe", "schema", "--out", "recipes/s.json")
    assert json.loads(Path("recipes/s.json").read_text()) == made
