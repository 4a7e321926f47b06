"""What a recipe does not inherit from its parents, and how it takes away what it does inherit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.paths import REPO
from helpers.recipe_parts import BASE, PARTS, write
from mmctl.recipe.json_schema import recipe_schema
from mmctl.recipe.layers import read_layers
from mmctl.recipe.recipe import load
from mmctl.recipe.settings import TABLES, LossTable, Top
from mmctl.registry.index import Index
from mmctl.registry.optional import optional

SHIPPED = sorted(path for path in (REPO / "recipes").rglob("*.toml") if path.parent.name != "tables")
GIVEN = {
    "seed": 5, "file": '"split.json"', "clip": 0.5, "fold": 1, "keep_best": '"test/accuracy"',
    "horizon": 0.9, "start": 2, "cycle": 1, "every": 3, "threads": 1,
    "nc_as": '"chance"', "note": '"a note"', "value": 90.0, "std": 0.5,
}  # fmt: skip
"""A value for each optional setting."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Path:
    """A project with a plugin and a base recipe."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "parts.py").write_text(PARTS)
    write("base", BASE)
    return tmp_path


def test_name_and_note_are_not_inherited() -> None:
    write("parent", 'extends = "base"\nname = "theirs"\nnote = "theirs"\nseed = 4\n')
    assert (load("parent").name, load("parent").settings.top.note) == ("theirs", "theirs")
    write("child", 'extends = "parent"\n')
    write("grandchild", 'extends = ["base", "child"]\nnote = "ours"\n')
    child, grandchild = load("child"), load("grandchild")
    assert (child.name, child.settings.top.note, child.seed) == ("child", None, 4)
    assert (grandchild.name, grandchild.settings.top.note, grandchild.seed) == ("grandchild", "ours", 4)
    assert child.config_id == load("parent").config_id
    assert "name" not in {path[0] for path in child.layers.origins if path}


def test_no_shipped_recipe_gives_its_name_or_note_to_a_child(tmp_path: Path) -> None:
    assert len(SHIPPED) > 50
    for path in SHIPPED:
        (tmp_path / "mine.toml").write_text(f"extends = {json.dumps(str(path))}")
        assert not {"name", "note"} & read_layers(tmp_path / "mine.toml").data.keys(), path


OPTIONAL = [(table, key) for table, model in TABLES.items() for key in sorted(optional(model))]


def test_the_optional_settings_are_known() -> None:
    assert optional(Top) == {"note"}
    assert optional(LossTable) == set()
    assert {key for _, key in OPTIONAL} <= GIVEN.keys()
    assert len(OPTIONAL) >= 10


@pytest.mark.parametrize(("table", "key"), [*OPTIONAL, ("", "note")])
@pytest.mark.parametrize("how", ["--set", "file"])
def test_an_inherited_value_is_taken_away(table: str, key: str, how: str) -> None:
    needed = {"file": 'rule = "file"', "value": 'figures = [{ set = ["seed=9"], value = 3 }]'}.get(key, "value = 1")
    others = f'{needed}\nselection = "last"\nsource = "x"' if table == "published" else needed * (key == "file")
    head = f"[{table}]\n" if table else ""
    write("parent", f'extends = "base"\n{head}{key} = {GIVEN[key]}\n{others}\n')
    parent = read_layers(Path("recipes/parent.toml")).data
    assert key in (parent[table] if table else parent)
    back = 'rule = "balanced"\n' if key == "file" else ""
    if how == "file":
        child = load(write("child", f'extends = "parent"\n{head}{key} = "none"\n{back}'))
    else:
        child = load(
            "parent", [f"{table}.{key}=none" if table else f"{key}=none", *(["split.rule=balanced"] * bool(back))]
        )
    assert key not in (child.data.get(table, {}) if table else child.data)
    assert load(write(child.name, child.text())).data == child.data


def test_whole_tables_and_keys_of_mmctl_are_taken_away() -> None:
    more = """
[dataset]
root = "x"
[augment.extra]
name = "jitter"
after = "weak"
[loss.unlabeled]
weight = 9
[requires]
numpy = ">=1"
[published]
value = 1
selection = "last"
source = "x"
"""
    write("parent", 'extends = "base"\n' + more)
    parent = load("parent")
    assert {"extra", "weak", "strong"} == parent.data["augment"].keys()
    tables = ("augment.extra", "loss.unlabeled", "labeler", "requires.numpy", "published")
    child, base = load("parent", [f"{name}=none" for name in (*tables, "dataset.root")]), load("base")
    assert child.data["labeler"] == {"name": "plugins:sure", "m": 2.0}  # the method's default one
    assert {**child.data, "name": "base", "labeler": base.data["labeler"]} == base.data
    assert load("parent", ["augment.extra.after=none"]).after["extra"] is None


def test_words_that_are_values_stay_values() -> None:
    assert load("base", ["average.kind=none"]).settings.average.kind == "none"


def test_the_schema_of_editors_knows_the_word() -> None:
    made, _ = recipe_schema(Index(sources="off"))
    optimizer, _ = made["properties"]["optimizer"]["anyOf"]
    assert {"const": "none"} in optimizer["properties"]["clip"]["anyOf"]
    assert {"const": "none"} in made["properties"]["published"]["anyOf"]
    assert "const" not in json.dumps(optimizer["properties"]["lr"])
