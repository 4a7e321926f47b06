"""Components read from their source text are those that an import finds."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import REPO
from helpers.processes import child, finish
from mmctl.errors import RecipeError
from mmctl.plugin import LossTerm
from mmctl.recipe.recipe import load
from mmctl.registry import sources
from mmctl.registry.index import Index
from mmctl.registry.parameters import check_table, defaults, schema, shape
from mmctl.registry.static_index import DECLARED, StaticIndex, outline

BUILT_IN = [entry for entry in Index(sources="off").entries if not entry.broken]
FOLDER = REPO / "recipes"
LIGHT = {"slurm"}
"""Whose types hold functions, so that their text does not say it all: they are imported, which must cost nothing."""
PARTS = {"methods", "base", "optimizers", "svhn", "tables"}
RECIPES = sorted(p for p in FOLDER.rglob("*.toml") if not PARTS & set(p.relative_to(FOLDER).parts))


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda e: f"{e.kind}-{e.name}")
def test_each_component_of_mmctl_is_read_as_it_is_imported(entry: Any) -> None:
    real, read = Index(sources="off"), StaticIndex(sources="off")
    if entry.name in LIGHT:
        code = f"import sys, {entry.module}; assert not {{'torch', 'submitit'}} & sys.modules.keys()"
        assert finish(child(code)) == (0, "", "")
        return
    assert outline(entry) is not None, "its text does not say it all: defaults that are no literals, a base elsewhere"
    ours, theirs = read.shape(entry), real.shape(entry)
    assert ours.supplied == theirs.supplied
    assert defaults(ours.model) == defaults(theirs.model)
    one, other = schema(ours.model), schema(theirs.model)
    for about in other["properties"].values():
        about.pop("description", None)
    assert one == other, "types and bounds"
    if entry.kind == "method":
        for name in DECLARED:
            assert getattr(read.load(entry), name, None) == getattr(real.load(entry), name, None), name


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(REPO / "recipes")))
def test_each_shipped_recipe_resolves_to_the_same(path: Path) -> None:
    ours, theirs = load(path, index=StaticIndex()), load(path)
    assert ours.data == theirs.data
    assert ours.published == theirs.published
    assert ours.slots == theirs.slots
    assert ours.config_id == theirs.config_id


def test_faults_of_the_text_are_found_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text((REPO / "recipes" / "digits.toml").read_text())
    sets = ["labeler.temperatur=1", "labeler.temperature=0", "loss.margins.weight=2", "method.lambda_per='step'"]
    told = []
    for index in (StaticIndex(), Index()):
        with pytest.raises(RecipeError) as caught:
            load(file, sets, index)
        told.append(caught.value.problems)
    assert told[0] == told[1]
    assert len(told[0]) == 4
    assert (
        load(file, ["labeler.temperature=1"], StaticIndex()).config_id
        == load(file, ["labeler.temperature=1.0"]).config_id
    )


SOURCE = """
from typing import Annotated, Any, Literal
from pydantic import Field
from elsewhere import Base, CONSTANT
from mmctl.augments.affine import NotNegative
from mmctl.plugin import LossTerm
LONG: int = 2 * 8_192
Share = Annotated[float, Field(gt=0, lt=1)]
@method("a")
class A(nn.Module):
    slots = {"labeled": LossTerm("ce", 1.0, LONG)}
    def __init__(self, model: nn.Module, *, n: int = LONG, share: Share = 1 / 4, name: str | None = None): ...
@method("b")
class B(A):
    slots = {**A.slots, "fair": LossTerm(None)}
    default_labeler: str = "x"
@method("c")
class C(Base):
    def __init__(self, model): ...
@augment("d")
class D(Base):
    def __init__(self, image_size, *, pad: NotNegative = 4, way: Literal["a", "b"] = "a"): ...
@augment("e")
class E(Base): ...
@augment("f")
class F:
    def __init__(self, *, n: int = CONSTANT): ...
@labeler("g")
class G(nn.Module): ...
@dataset("h")
def h(root=None, *, test: int = 5): ...
@method("i")
class I(A):
    slots = {"labeled": LossTerm("ce", CONSTANT)}
    def __init__(self, model): ...
@augment("j")
class J:
    def __init__(self, *, n: Base = 3): ...
"""


def test_what_a_text_says_and_does_not_say(tmp_path: Path) -> None:
    file = tmp_path / "text.py"
    file.write_text(SOURCE)
    found: dict[str, Any] = {e.name: outline(replace(e, file=file, module="m")) for e in sources.marks(SOURCE)}
    assert sorted(name for name, one in found.items() if one is None) == ["c", "e", "f", "i", "j"]
    parameters = inspect.signature(found["a"]).parameters
    assert {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY} == {
        "n": 16384, "share": 0.25, "name": None,
    }  # fmt: skip
    assert parameters["model"].annotation is inspect.Parameter.empty
    assert found["a"].slots == {"labeled": LossTerm("ce", 1.0, 16384)}
    assert (found["b"].default_labeler, list(found["b"].slots)) == ("x", ["labeled", "fair"])
    assert list(inspect.signature(found["b"]).parameters) == list(parameters)
    assert check_table(shape(found["d"], "augment").model, {"pad": -1, "way": "c"})[1] == [
        (("pad",), "must be at least 0 (got -1)"), (("way",), 'must be one of "a" or "b" (got "c")'),
    ]  # fmt: skip
    assert list(inspect.signature(found["g"]).parameters) == []
    assert list(inspect.signature(found["h"]).parameters) == ["root", "test"]
