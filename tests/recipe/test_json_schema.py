"""The JSON schema of recipes: each shipped file alone fits it, and what is wrong does not; also in real editors' tools.

taplo (Even Better TOML) and tombi are the two language servers for TOML; both check a file by its `#:schema` line.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers.distributions import fake_distribution
from helpers.paths import REPO
from mmctl.errors import RecipeError
from mmctl.recipe.json_schema import recipe_schema
from mmctl.recipe.recipe import check_recipe
from mmctl.registry.index import Index

FILES = (*(REPO / "recipes").rglob("*.toml"), *(REPO / "examples").glob("*.toml"))
SHIPPED = sorted(path for path in FILES if path.parent.name != "tables")
WRONG = {
    "unknown table": '[labler]\nname = "fuzzy"',
    "unknown key": "[train]\nstepz = 3",
    "unknown key at the top": 'nam = "x"',
    "text for a number": '[train]\nsteps = "many"',
    "true for a number": "[train]\nbatch = true",
    "fraction": "[train]\nsteps = 1.5",
    "bound": "[train]\nsteps = 0",
    "not one of the words": '[train]\nprecision = "fp16"',
    "unknown component": '[labeler]\nname = "fuzy"',
    "component of another kind": '[labeler]\nname = "small"',
    "unknown parameter": '[labeler]\nname = "fuzzy"\ntemprature = 2',
    "parameter of another component": '[labeler]\nname = "fuzzy"\ntau = 0.95',
    "type of a parameter": '[labeler]\nname = "softmax"\ntemperature = "hot"',
    "bound of a parameter": '[labeler]\nname = "softmax"\ntemperature = -1',
    "parameter that no labeler has": "[labeler]\ntemprature = 2",
    "type of an inherited parameter": '[labeler]\nm = "high"',
    "unknown loss": '[loss.labeled]\nname = "brierr"',
    "weight below 0": "[loss.labeled]\nweight = -1",
    "unknown ramp": '[loss.labeled]\nramp = "cosine"',
    "loss that is no table": "[loss]\nlabeled = 3",
    "after a number": '[augment.weak]\nname = "affine"\nafter = 3',
    "parameter of an augmentation": '[augment.weak]\nname = "affine"\nrotat = 3',
    "number for a table": "train = 3",
    "name for a table": 'backbone = "small"',
    "number for a name": "[backbone]\nname = 3",
    "number for versions": "[requires]\nmmctl = 1",
    "number for parents": "extends = 3",
    "no parents": "extends = []",
    "number among parents": 'extends = ["digits", 3]',
    "seed below 0": "seed = -1",
    "recipe name with a space": 'name = "a b"',
    "number for a folder": '[dataset]\nname = "digits"\nroot = 3',
    "text for a result": '[published]\nvalue = "a"',
    "name of a split": '[eval]\nsplits = ["Val 1"]',
    "no splits": "[eval]\nsplits = []",
    "none for a number that must be there": '[train]\nbatch = "none"',
    "method taken away": 'method = "none"',
    "slots": '[launcher]\nslots = "four"',
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    made, broken = recipe_schema(Index(REPO / "plugins", "local"))
    assert broken == []
    return made


def faults(schema: dict[str, Any], text: str) -> list[str]:
    """What a JSON-schema validator says of a recipe."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'")
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(tomllib.loads(text))]


def test_it_is_a_schema_without_references_to_elsewhere(schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert all(ref.startswith("#/$defs/") for ref in _values(schema, "$ref"))


def _values(data: Any, key: str) -> list[str]:
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else []
    own = [data[key]] if isinstance(data, dict) and isinstance(data.get(key), str) else []
    return own + [value for one in inner for value in _values(one, key)]


def test_each_shipped_recipe_fits(schema: dict[str, Any]) -> None:
    assert len(SHIPPED) >= 70
    assert {str(path): found for path in SHIPPED if (found := faults(schema, path.read_text()))} == {}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_recipes_do_not_fit_and_mmctl_agrees(name: str, schema: dict[str, Any]) -> None:
    text = WRONG[name] + "\n" if "extends" in WRONG[name] else f'extends = "digits"\n{WRONG[name]}\n'
    assert faults(schema, text)
    Path("r.toml").write_text(text)
    with pytest.raises(RecipeError):
        check_recipe("r.toml", index=Index(sources="off"))


def test_an_installed_package_is_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: dict[str, Any]
) -> None:
    package = REPO / "examples" / "mmctl-gce"
    recipe = (package / "recipes" / "gce.toml").read_text()
    assert faults(schema, recipe)
    fake_distribution(tmp_path / "site", "mmctl-gce", "0.1.0", "[mmctl.losses]\ngce = mmctl_gce.gce:Gce\n")
    for folder in (tmp_path / "site", package / "src"):
        monkeypatch.syspath_prepend(str(folder))
    made, broken = recipe_schema(Index(sources="all"))
    assert (broken, faults(made, recipe)) == ([], [])
    assert faults(made, recipe.replace("q = 0.7", "q = 7"))


TOOLS = {
    "taplo": ("lint", "--no-auto-config"),
    "tombi": ("lint", "--offline", "--error-on-warnings"),
}


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_language_servers_accept_the_shipped_recipes_and_no_wrong_one(
    tool: str, tmp_path: Path, schema: dict[str, Any]
) -> None:
    beside = Path(sys.executable).parent / tool
    program = str(beside) if beside.exists() else shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed: pip install {tool}")

    def lint(name: str, text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_text(f"#:schema recipe.schema.json\n{text}\n")
        return subprocess.run([program, *TOOLS[tool], name], cwd=tmp_path, capture_output=True, text=True, check=False)

    (tmp_path / "recipe.schema.json").write_text(json.dumps(schema))
    bad = {path.name: done.stderr for path in SHIPPED if (done := lint(path.name, path.read_text())).returncode}
    assert bad == {}
    assert [name for name, text in WRONG.items() if lint("wrong.toml", text).returncode == 0] == []
    done = lint("wrong.toml", WRONG["parameter that no labeler has"])
    assert "temprature" in done.stdout + done.stderr
