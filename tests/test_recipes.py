"""Every shipped recipe, walked recursively: it resolves, it resolves again to the same, and none is forgotten."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from conftest import REPO

from mmctl.recipe import load

ALL = sorted(p for p in (REPO / "recipes").rglob("*.toml") if p.parent.name != "tables")  # those are in test_tables
FRAGMENTS = {"methods", "fair", "base"}
WHOLE = [p for p in ALL if p.parent.name not in FRAGMENTS]
FULL = [p for p in WHOLE if "digits" not in p.stem and "small" not in p.stem]
TABLE_3 = {
    ("marginmix", "320"): 50.76, ("marginmix", "400"): 56.75, ("marginmix", "2000"): 60.83,
    ("marginmix", "4000"): 75.18, ("marginmix", "10000"): 81.25, ("marginmix", "all"): 85.36,
    ("mixmatch", "320"): 45.60, ("mixmatch", "400"): 50.25, ("mixmatch", "2000"): 58.35,
    ("mixmatch", "4000"): 70.91, ("mixmatch", "10000"): 71.24,
    ("supervised", "400"): 37.92, ("supervised", "2000"): 50.29, ("supervised", "4000"): 56.78,
    ("supervised", "10000"): 63.56, ("supervised", "all"): 84.88,
    ("mean_teacher", "400"): 45.56, ("mean_teacher", "2000"): 50.84, ("mean_teacher", "4000"): 58.28,
    ("mean_teacher", "10000"): 68.36,
}  # fmt: skip
"""Accuracy in % as the MarginMix paper's table 3 prints it; `nc` and empty cells are absent."""


def test_none_is_forgotten() -> None:
    # three on digits and eight more methods there, six full-size sizes x three methods, five small ones
    assert len(WHOLE) == 3 + 8 + 6 * 3 + 5
    # fourteen methods, two of them with the optimiser of FixMatch's comparison too, and three bases
    assert len(ALL) == len(WHOLE) + 14 + 2 + 3


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: str(p.relative_to(REPO / "recipes")))
def test_resolves_and_resolves_again(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    again = tmp_path / "again.toml"
    again.write_text(recipe.text())
    assert load(again).data == recipe.data
    assert load(again).cell == recipe.cell


PARENTS = [p for p in ALL if p.parent.name in ("methods", "fair")]


def child_of(path: Path, folder: Path) -> Path:
    child = folder / "child.toml"
    child.write_text(
        f'extends = "{path}"\n[dataset]\nname = "digits"\n[backbone]\nname = "small"\n'
        '[augment.weak]\nname = "affine"\n[split]\nlabels = 40\n'
    )
    return child


@pytest.mark.parametrize("path", PARENTS, ids=lambda p: "-".join(p.parts[-2:]))
def test_a_method_recipe_serves_as_parent(path: Path, tmp_path: Path) -> None:
    own = path
    while "method" not in (table := tomllib.loads(own.read_text())):
        own = (own.parent / table["extends"]).resolve()
    assert load(child_of(path, tmp_path)).method_name == table["method"]["name"]


@pytest.mark.parametrize(
    "path", [p for p in WHOLE if "ferplus" in str(p) and "small" not in p.stem], ids=lambda p: p.stem
)
def test_the_full_size_recipes_are_the_papers(path: Path) -> None:
    recipe = load(path)
    method, _, labels = path.stem.rpartition("-")
    method = "marginmix" if method == "ferplus" else method
    assert recipe.method_name == method
    assert str(recipe.split.labels) == labels
    assert recipe.train.steps == 1024 * 1024
    assert recipe.data["backbone"]["name"] == "mmctl:wrn_28_2"
    assert (recipe.train.batch, recipe.train.unlabeled_batch) == (64, 64)
    published = recipe.published
    assert (published or {}).get("value") == TABLE_3.get((method, labels))
    if method == "marginmix":
        assert recipe.slots["margin"].weight == 1.0
        assert recipe.slots["margin_unlabeled"].weight == 0.4
        assert recipe.slots["unlabeled"].weight == 0.0
        assert recipe.data["labeler"] == {
            "name": "mmctl:fuzzy", "temperature": 0.25, "prior": "none", "momentum": 0.99,
            "align": "none", "align_momentum": 0.999, "window": 0,
        }  # fmt: skip
        assert (recipe.optimizer.lr, recipe.schedule.final, recipe.optimizer.weight_decay) == (0.1, 1e-4, 5e-4)


def test_siblings_differ_in_their_method_alone() -> None:
    digits = [load(REPO / "recipes" / f"digits{m}.toml") for m in ("", "-supervised", "-mixmatch")]
    for table in ("dataset", "split", "backbone", "augment", "optimizer", "schedule", "average", "train", "eval"):
        assert digits[0].data[table] == digits[1].data[table] == digits[2].data[table], table
    names = ("ferplus-small.toml", *(f"ferplus/small-{m}.toml" for m in ("supervised", "mixmatch", "fuzzy", "nearest")))
    small = [load(REPO / "recipes" / name) for name in names]
    for table in ("dataset", "split", "backbone", "augment", "optimizer", "schedule", "average", "train", "eval"):
        assert all(s.data[table] == small[0].data[table] for s in small), table


FIXMATCH = {
    ("optimizer", "name"): "sgd", ("optimizer", "lr"): 0.03, ("optimizer", "momentum"): 0.9,
    ("optimizer", "nesterov"): True, ("optimizer", "weight_decay"): 5e-4, ("schedule", "name"): "seven_sixteenths",
}  # fmt: skip
MU_7 = FIXMATCH | {("train", "batch"): 64, ("train", "unlabeled_batch"): 448, ("loss", "unlabeled", "rampup"): 0}
MIXMATCH = {
    ("optimizer", "name"): "adamw", ("optimizer", "lr"): 0.002, ("optimizer", "weight_decay"): 0.02,
    ("schedule", "name"): "constant", ("train", "batch"): 64, ("train", "unlabeled_batch"): 64,
}  # fmt: skip
RANDAUGMENT, USB = {("augment", "strong", "name"): "mmctl:fixmatch_ra"}, {("augment", "strong", "name"): "mmctl:usb_ra"}
CONSTANTS = {
    "methods/pseudo_label": MIXMATCH | {("labeler", "tau"): 0.95, ("loss", "unlabeled", "rampup"): 0.4},
    "methods/fixmatch": MU_7 | RANDAUGMENT | {
        ("labeler", "tau"): 0.95, ("labeler", "target"): "hard", ("labeler", "align"): "none",
        ("average", "decay"): 0.999, ("method", "group"): "joint",
    },
    "methods/uda": MU_7 | RANDAUGMENT | {
        ("labeler", "tau"): 0.8, ("labeler", "target"): "soft", ("labeler", "temperature"): 0.4,
        ("average", "decay"): 0.9999, ("method", "tsa"): "none", ("loss", "entropy", "weight"): 0.0,
    },
    "methods/flexmatch": MU_7 | USB | {("labeler", "tau"): 0.95, ("labeler", "warmup"): True},
    "methods/freematch": MU_7 | USB | {("labeler", "momentum"): 0.999, ("loss", "fairness", "weight"): 0.001},
    "methods/softmatch": MU_7 | USB | {
        ("labeler", "sigmas"): 2.0, ("labeler", "momentum"): 0.999, ("labeler", "align"): "uniform",
    },
    "methods/adamatch": MU_7 | USB | {("labeler", "tau"): 0.95, ("labeler", "align"): "labeled"},
    "methods/remixmatch": MIXMATCH | {
        ("labeler", "temperature"): 0.5, ("labeler", "window"): 128, ("labeler", "align"): "train_prior",
        ("method", "num_strong"): 8, ("method", "alpha"): 0.75, ("loss", "unlabeled", "weight"): 1.5,
        ("loss", "strong", "weight"): 0.5, ("loss", "rotation", "weight"): 0.5, ("loss", "strong", "rampup"): 16_384,
        ("loss", "rotation", "rampup"): 0, ("augment", "strong", "name"): "mmctl:ctaugment",
    },
    "methods/fair/remixmatch": FIXMATCH,
    "methods/fair/pseudo_label": FIXMATCH,
}  # fmt: skip
"""What papers and their own programs say of methods with pseudo-labels on CIFAR-10."""


@pytest.mark.parametrize("name", CONSTANTS)
def test_pseudo_labelling_methods_have_their_own_constants(name: str, tmp_path: Path) -> None:
    recipe = load(child_of(REPO / "recipes" / f"{name}.toml", tmp_path))
    for keys, value in CONSTANTS[name].items():
        found = recipe.data
        for key in keys:
            found = found[key]
        assert found == value, keys


def test_pseudo_labelling_siblings_on_digits_differ_in_their_method_alone() -> None:
    one = load(REPO / "recipes" / "digits.toml")
    for method in (Path(name).name for name in CONSTANTS):
        made = load(REPO / "recipes" / "digits" / f"{method}.toml")
        for table in ("dataset", "split", "backbone", "optimizer", "schedule", "average", "train", "eval"):
            assert made.data[table] == one.data[table], (method, table)
        assert made.data["augment"]["weak"] == one.data["augment"]["weak"]
