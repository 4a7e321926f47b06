"""`mmctl plugins new --from`: every built-in component can be copied, and the copy computes the same bits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.paths import REPO
from mmctl.plugin import KINDS
from mmctl.recipe.recipe import Recipe, load
from mmctl.registry.index import Index
from mmctl.registry.parameters import defaults
from mmctl.registry.sources import FOLDERS
from mmctl.runs.build import build_training, read_data
from mmctl.scaffold.copy_source import copy_component

BUILT_IN = [(e.kind, e.name) for e in Index(sources="off").entries]
NAME = "copied"


def copied(mm: Any, kind: str, name: str, *words: str) -> Recipe:
    done = mm("plugins", "new", NAME, "--kind", kind, "--from", name, *words)
    assert done.code == 0, done.err
    return load("recipes/copied.toml")


def test_the_list_is_whole() -> None:
    assert {kind for kind, _ in BUILT_IN} == set(KINDS)
    assert len(BUILT_IN) > 50


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_each_copy_can_be_imported_and_has_the_same_parameters(mm: Any, tmp_path: Path, kind: str, name: str) -> None:
    recipe = copied(mm, kind, name)
    index = Index(sources="local")
    ours, theirs = index.find(kind, f"plugins:{NAME}"), index.find(kind, f"mmctl:{name}")
    assert index.load(ours) is not index.load(theirs)
    assert index.shape(ours).supplied == index.shape(theirs).supplied
    assert defaults(index.shape(ours).model) == defaults(index.shape(theirs).model)
    assert ours.summary == theirs.summary
    assert f"plugins:{NAME}" in {part.entry.qualified for part in recipe.resolved.parts.values()}
    compile((tmp_path / "tests" / "test_copied.py").read_text(), "test", "exec")
    for file in (tmp_path / "plugins").glob("*.py"):
        text = file.read_text(encoding="ascii")
        folders = "|".join(FOLDERS.values())
        private = set(re.findall(rf"mmctl\.(?:{folders})[.\w]*", text))
        # timm's copy registers the networks of mmctl by importing them, not a second time.
        assert private <= ({"mmctl.backbones._timm_wrn"} if name == "timm" else set()), file


@pytest.mark.parametrize(
    "package", [pytest.param(False, marks=pytest.mark.slow), pytest.param(True, marks=pytest.mark.exhaustive)]
)
def test_all_copies_are_clean(tmp_path: Path, package: bool) -> None:
    import subprocess
    import sys

    for entry in Index(sources="off").entries:
        copy = copy_component(entry, f"my_{entry.name}", "_" if package else "_my_")
        folder = tmp_path / "copies" / entry.kind / entry.name
        folder.mkdir(parents=True)
        for stem, text in copy.files.items():
            (folder / f"{stem or entry.name}.py").write_text(text)
    for part in (["check"], ["format", "--check"]):
        words = [sys.executable, "-m", "ruff", *part, "--no-cache", "--config", REPO / "pyproject.toml", "copies"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


SAME = [
    ("backbone", "small"), ("backbone", "wrn_10_1"), ("dataset", "digits"),
    ("augment", "affine"), ("augment", "ctaugment"), ("augment", "ctaugment_probe"), ("augment", "fixmatch_ra"),
    ("augment", "faces"), ("augment", "flip_crop"),
    ("labeler", "fuzzy"), ("labeler", "threshold"), ("labeler", "flex"), ("labeler", "relative"),
    ("labeler", "softmax"),
    ("loss", "large_margin"), ("loss", "brier"), ("loss", "kl"), ("loss", "soft_cross_entropy"),
    ("method", "mixmatch"), ("method", "marginmix"), ("method", "freematch"), ("method", "remixmatch"),
    ("method", "vat"), ("method", "supervised"),
]  # fmt: skip


def steps(recipe: Recipe) -> list[torch.Tensor]:
    """Losses, and gradients of the network, of the first two steps."""
    torch.set_num_threads(1)
    sets = ["train.batch=6", "train.unlabeled_batch=6", "train.device=cpu"]
    recipe = recipe.with_sets(sets)
    run = build_training(recipe, read_data(recipe), torch.device("cpu"), None)
    run.refit()
    found: list[torch.Tensor] = []
    for step in range(2):
        losses = run.method.step(run.loader.batch(run.staged(step))).losses
        run.model.zero_grad()
        sum(value for value in losses.values() if value.requires_grad).backward()
        found += [value.detach() for _, value in sorted(losses.items())]
        found += [p.grad.clone() for p in run.model.parameters() if p.grad is not None]
    return found


@pytest.mark.sampled(8, 2)
@pytest.mark.parametrize(("kind", "name"), SAME)
def test_a_copy_gives_the_same_bits(mm: Any, tmp_path: Path, kind: str, name: str) -> None:
    recipe = copied(mm, kind, name)
    written = tomllib.loads((tmp_path / "recipes" / "copied.toml").read_text())
    sets = []
    for (of, slot), part in recipe.resolved.parts.items():
        if part.entry.origin == "plugins":  # the same recipe, with the original in its place
            table = f"{of}.{slot}" if slot else of
            old = name if part.entry.name == NAME else part.entry.name.removeprefix(f"{NAME}_")
            kept = (written[of][slot] if slot else written[of]) | {"name": old}
            sets += [f"{table}.{key}={value!r}".replace("True", "true") for key, value in kept.items()]
    assert sets
    original = load("recipes/copied.toml", sets=sets)
    assert all(part.entry.origin == "mmctl" for part in original.resolved.parts.values())
    ours, theirs = steps(recipe), steps(original)
    assert len(ours) == len(theirs) > 2
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_copied_launcher_has_the_same_limits(mm: Any) -> None:
    recipe = copied(mm, "launcher", "local")
    assert recipe.build("launcher").limits() == load("digits").build("launcher").limits()


@pytest.mark.parametrize("name", ["ctaugment", "ctaugment_probe"])
def test_a_policy_and_its_probe_are_copied_together(mm: Any, name: str) -> None:
    """The probe looks for its policy by class: a copy of one alone would not fit the other."""
    recipe = copied(mm, "augment", name)
    names = {part.entry.name for part in recipe.resolved.parts.values() if part.entry.origin == "plugins"}
    assert names == {NAME, NAME + ("_ctaugment" if name == "ctaugment_probe" else "_ctaugment_probe")}
