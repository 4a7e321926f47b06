"""`mmctl recipe list` and shell completion of recipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import Result
from helpers.paths import REPO
from mmctl.recipe.find import complete_recipe, known_recipes, purpose

Mm = Callable[..., Result]


def listed(mm: Mm) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in json.loads(mm("recipe", "list", "--json").out)["recipes"]}


def test_a_project_with_recipes_of_its_own(mm: Mm, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    (folder / "faces").mkdir(parents=True)
    (folder / "faces" / "few.toml").write_text(
        '#:schema recipe.schema.json\n# Few faces.\nextends = "ferplus-small"\n[split]\nlabels = 80\n'
    )
    (folder / "digits.toml").write_text('# Mine.\nextends = "digits"\n[train]\nsteps = 7\n')
    (folder / "spoilt.toml").write_text(  # a character that turns the direction of writing
        '# Not \u202e whole.\nextends = ["digits", "digts"]\n'
    )
    (folder / "typo.toml").write_text('extends = "digits"\n[labeler]\nname = "fuzy"\n')
    (folder / "part.toml").write_text("[train]\nsteps = 9\n")
    found = listed(mm)
    assert list(found) == list(known_recipes())
    assert found["faces/few"] == {
        "name": "faces/few", "folder": "faces", "shipped": False, "purpose": "Few faces.", "lacks": [], "labels": 80,
        "steps": 1500, "data_missing": "data/ferplus", "problem": None,
    }  # fmt: skip
    mine = found["digits"]
    assert (mine["shipped"], mine["purpose"], mine["steps"], mine["data_missing"]) == (False, "Mine.", 7, None)
    assert (found["digits/vat"]["shipped"], found["methods/vat"]["lacks"]) == (True, ["dataset", "backbone"])
    assert str(found["spoilt"]["problem"]).startswith('recipes/spoilt.toml:2: extends: no recipe "digts"')
    assert str(found["typo"]["problem"]).startswith("recipes/typo.toml:3: labeler.name:")
    assert (found["part"]["lacks"], found["part"]["purpose"]) == (["dataset", "backbone", "method"], "")
    (tmp_path / "data" / "ferplus").mkdir(parents=True)
    assert listed(mm)["faces/few"]["data_missing"] is None
    out = mm("recipe", "list").out
    heads = [line for line in out.splitlines() if line.startswith("recipes")]
    assert heads[:3] == ["recipes", "recipes/faces", "recipes (shipped with mmctl)"]
    assert heads[-1] == "recipes/svhn (shipped with mmctl): parts for `extends`"
    assert "broken: recipes/spoilt.toml:2" in out
    assert "\u202e" not in out
    assert found["spoilt"]["purpose"] == "Not  whole."


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(mm: Mm, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = mm("recipe", "list").out
    assert max(map(len, out.splitlines())) <= width
    assert {
        name for name in known_recipes() if not any(line.startswith(f"{name} ") for line in out.splitlines())
    } == set()


@pytest.mark.parametrize("width", [24, 44])
def test_a_narrow_terminal_shows_what_each_recipe_is_for(mm: Mm, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = mm("recipe", "list").out
    assert {"MarginMix", "Supervised", "baseline"} <= set(out.split())
    assert max(map(len, out.splitlines())) <= width


def test_each_name_of_the_list_can_be_typed(mm: Mm) -> None:
    whole = [name for name, one in listed(mm).items() if not one["lacks"]]
    assert len(whole) > 20
    done = mm("recipe", "validate", "--fast", *whole)
    assert done.code == 0, done.err


def test_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("digits/vat", purpose(REPO / "recipes" / "digits" / "vat.toml")) in complete_recipe("digits/v")
    assert complete_recipe("nothing-like-it") == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "mine" / "b.txt").touch()
    assert complete_recipe("mi") == [("mine/", "")]
    assert complete_recipe("mine/") == [("mine/a.toml", "")]
    assert complete_recipe("nowhere/x") == []
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert complete_recipe("d") == []


@pytest.mark.parametrize("words", ["run digits/v", "recipe show digits/v", "recipe validate digits/v"])
def test_a_shell_is_offered_names_without_a_heavy_import(words: str) -> None:
    code = (
        "import sys, atexit\n"
        "heavy = {'torch', 'numpy', 'sqlite3', 'mmctl.recipe.settings', 'mmctl.registry'}\n"
        "atexit.register(lambda: print('heavy:', heavy & set(sys.modules)))\n"
        "from mmctl.cli import app\n"
        "app(prog_name='mmctl')\n"
    )
    told = {"_MMCTL_COMPLETE": "complete_bash", "COMP_WORDS": f"mmctl {words}", "COMP_CWORD": str(len(words.split()))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **told}, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.split("\n"), done.stderr) == (["digits/vat", "heavy: set()", ""], "")
