"""Components read from their source text are those that an import finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import REPO

from mmctl import registry
from mmctl.errors import RecipeError
from mmctl.outline import DECLARED, Outline, outline
from mmctl.params import defaults
from mmctl.recipe import load
from mmctl.registry import Index

BUILT_IN = [entry for entry in Index(sources="off").entries if not entry.broken]
RECIPES = sorted(p for p in (REPO / "recipes").rglob("*.toml") if p.parent.name not in ("methods", "base", "tables"))


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda e: f"{e.kind}-{e.name}")
def test_each_component_of_mmctl_is_read_as_it_is_imported(entry: Any) -> None:
    real, read = Index(sources="off"), Outline(sources="off")
    assert outline(entry) is not None, "its text does not say it all: defaults that are no literals, a base elsewhere"
    ours, theirs = read.shape(entry), real.shape(entry)
    assert ours.supplied == theirs.supplied
    assert defaults(ours.model) == defaults(theirs.model)
    assert [f.alias for f in ours.model.model_fields.values()] == [f.alias for f in theirs.model.model_fields.values()]
    if entry.kind == "method":
        for name in DECLARED:
            assert getattr(read.load(entry), name, None) == getattr(real.load(entry), name, None), name


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(REPO / "recipes")))
def test_each_shipped_recipe_resolves_to_the_same(path: Path) -> None:
    ours, theirs = load(path, index=Outline()), load(path)
    assert ours.data == theirs.data
    assert ours.published == theirs.published
    assert ours.slots == theirs.slots


def test_faults_of_the_text_are_found_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text((REPO / "recipes" / "digits.toml").read_text().replace("methods/", f"{REPO}/recipes/methods/"))
    with pytest.raises(RecipeError, match=r"labeler.temperatur: unknown key") as caught:
        load(file, ["labeler.temperatur=1", "loss.margins.weight=2"], Outline())
    assert "no such loss term" in str(caught.value)


SOURCE = """
from elsewhere import Base, CONSTANT
LONG = 2 * 8_192
@method("a")
class A(nn.Module):
    slots = {"labeled": Slot("ce", 1.0, LONG)}
    def __init__(self, model, *, n: int = LONG, share: float = 1 / 4, name: str | None = None): ...
@method("b")
class B(A):
    default_labeler: str = "x"
@method("c")
class C(Base):
    def __init__(self, model): ...
@augment("d")
class D(Base):
    def __init__(self, image_size, *, pad: int = 4): ...
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
class I(nn.Module):
    slots = {"labeled": Slot("ce", CONSTANT)}
    def __init__(self, model): ...
"""


def test_what_a_text_says_and_does_not_say(tmp_path: Path) -> None:
    import inspect
    from dataclasses import replace

    file = tmp_path / "text.py"
    file.write_text(SOURCE)
    found = {e.name: outline(replace(e, file=file, origin="mmctl", module="m")) for e in registry.marks(SOURCE)}
    assert sorted(name for name, one in found.items() if one is None) == ["c", "e", "f", "i"]
    a, b = found["a"], found["b"]
    assert a is not None
    assert str(inspect.signature(a)) == "(model, *, n: Any = 16384, share: Any = 0.25, name: Any = None)"
    assert a.slots["labeled"].rampup == 16384  # type: ignore[attr-defined]
    assert b.default_labeler == "x"  # type: ignore[union-attr]
    assert b.slots == a.slots  # type: ignore[union-attr,attr-defined]
    assert str(inspect.signature(found["g"])) == "() -> 'None'"  # type: ignore[arg-type]
    assert list(inspect.signature(found["h"]).parameters) == ["root", "test"]  # type: ignore[arg-type]
