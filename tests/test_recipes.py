"""Every shipped recipe, walked recursively: it resolves, and it resolves again to the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import REPO
from mmctl.recipe.recipe import Recipe, load
from mmctl.runs.preflight import preflight
from mmctl.tables.spec import read_table
from mmctl.training.schedules import length_of

ALL = sorted(p for p in (REPO / "recipes").rglob("*.toml") if p.parent.name != "tables")  # those are in tests/tables
FRAGMENTS = {"methods", "base", "optimizers", "svhn"}
WHOLE = [p for p in ALL if p.parent.name not in FRAGMENTS]
PARENTS = [p for p in ALL if p.parent.name == "methods"]
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


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(REPO / "recipes")))
def test_its_first_line_says_what_it_is_for(path: Path) -> None:
    first = path.read_text("ascii").splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")
    assert len(first) <= 106
    assert first.startswith("# Fragment: ") == (path.parent.name in ("base", "optimizers", "svhn"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path", WHOLE, ids=lambda p: str(p.relative_to(REPO / "recipes")))
def test_resolves_and_resolves_again(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    again = tmp_path / "again.toml"
    again.write_text(recipe.text())
    assert load(again).data == recipe.data
    assert load(again).config_id == recipe.config_id


def child(path: Path, folder: Path, *more: str) -> Recipe:
    """A whole recipe over a method's, and over more of the shipped ones."""
    written = folder / "child.toml"
    written.write_text(
        f'extends = {json.dumps([str(path), *more])}\n[dataset]\nname = "digits"\n[backbone]\nname = "small"\n'
        '[augment.weak]\nname = "affine"\n[split]\nlabels = 40\n'
    )
    return load(written)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path", PARENTS, ids=lambda p: "-".join(p.parts[-2:]))
def test_a_method_recipe_serves_as_parent(path: Path, tmp_path: Path) -> None:
    own = path
    while "name" not in (table := tomllib.loads(own.read_text())).get("method", {}):
        own = (own.parent / f"{table['extends']}.toml").resolve()
    made = child(path, tmp_path)
    assert made.method_name == table["method"]["name"]
    preflight([made], quiet=True)  # as `mmctl run` does: one step, with every result checked


@pytest.mark.parametrize("method", ["marginmix", "mixmatch", "mean_teacher", "supervised"])
@pytest.mark.parametrize("labels", ["320", "400", "2000", "4000", "10000", "all"])
def test_the_full_size_recipes_are_the_papers(method: str, labels: str) -> None:
    sets = [f"split.labels={labels}", f"split.unlabeled={'all' if labels == 'all' else 'rest'}"]
    recipe = load(f"ferplus-{labels}") if method == "marginmix" else load(f"ferplus/{method}", sets)
    assert recipe.method_name == method
    assert recipe.settings.split.unlabeled == sets[1].partition("=")[2]
    assert str(recipe.settings.split.labels) == labels
    assert recipe.settings.train.steps == 1024 * 1024
    assert recipe.data["backbone"]["name"] == "mmctl:wrn_28_2"
    assert (recipe.settings.train.batch, recipe.settings.train.unlabeled_batch) == (64, 64)
    published = recipe.published
    assert (published or {}).get("value") == TABLE_3.get((method, labels))
    if method == "marginmix":
        assert recipe.slots["margin"].weight == 1.0
        assert recipe.slots["margin_unlabeled"].weight == 0.4
        assert recipe.slots["unlabeled"].weight == 0.0
        assert recipe.data["labeler"] == {
            "name": "mmctl:fuzzy", "temperature": 0.25, "sharpening": "power", "prior": "none", "momentum": 0.99,
            "align": "none", "align_momentum": 0.999, "window": 0,
        }  # fmt: skip
        assert (
            recipe.settings.optimizer.lr,
            recipe.settings.schedule.final,
            recipe.settings.optimizer.weight_decay,
        ) == (0.1, 1e-4, 5e-4)


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
        ("average", "decay"): 0.999, ("method", "bn_groups"): "joint",
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
}  # fmt: skip
"""What papers and their own programs say of methods with pseudo-labels on CIFAR-10."""


@pytest.mark.parametrize("name", CONSTANTS)
def test_pseudo_labelling_methods_have_their_own_constants(name: str, tmp_path: Path) -> None:
    recipe = child(REPO / "recipes" / f"{name}.toml", tmp_path)
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


def test_the_readme_names_every_method() -> None:
    text = (REPO / "README.md").read_text()
    table = text[text.index("| baselines |") : text.index("You can combine methods")]
    assert set(re.findall(r"`(\w+)`", table)) == {path.stem for path in PARENTS}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path", [p for p in PARENTS if p.stem != "fast_swa"], ids=lambda p: p.stem)
def test_the_optimizer_of_fixmatch_fits_every_method_and_changes_nothing_else(path: Path, tmp_path: Path) -> None:
    fair, own = child(path, tmp_path, "optimizers/fixmatch"), child(path, tmp_path)
    differs = {table for table in fair.data if fair.data[table] != own.data[table]}
    assert differs <= {"optimizer", "schedule"}
    assert {keys: fair.data[keys[0]][keys[1]] for keys in FIXMATCH} == FIXMATCH
    assert (fair.settings.schedule.warmup, fair.settings.schedule.final) == (0, 0.0)


CONSISTENCY = {
    "pi_model": ({"consistency": ("brier", 20.0, 0.4, "linear")}, ("adamw", 0.002, 0.02)),
    "temporal_ensembling": ({"consistency": ("brier", 30.0, 0.267, "sigmoid")}, ("adam", 0.003, 0.0)),
    "mean_teacher": ({"consistency": ("brier", 50.0, 0.4, "linear")}, ("adamw", 0.002, 0.2)),
    "vat": (
        {"adversarial": ("kl", 0.3, 0.4, "linear"), "entropy": ("entropy", 0.06, 0, "linear")},
        ("adamw", 0.002, 0.02),
    ),
    "ict": ({"consistency": ("brier", 100.0, 0.25, "sigmoid")}, ("sgd", 0.1, 1e-4)),
    "mixup_ssl": ({"unlabeled": ("soft_cross_entropy", 1.0, 0, "linear")}, ("adamw", 0.002, 0.02)),
    "center": (
        {
            "margin": ("center", 1.0, 0, "linear"), "margin_unlabeled": ("center", 0.4, 0, "linear"),
            "unlabeled": ("soft_cross_entropy", 0.0, 0, "linear"),
        },
        ("sgd", 0.1, 5e-4),
    ),
    "fast_swa": ({"consistency": ("brier", 100.0, 0.0042, "sigmoid")}, ("sgd", 0.1, 1e-4)),
}  # fmt: skip
"""Loss terms and optimizer of methods with two conditions and one prediction, as papers or programs have them."""


@pytest.mark.parametrize("name", CONSISTENCY)
def test_consistency_methods_have_their_own_constants(name: str, tmp_path: Path) -> None:
    recipe, (slots, optimizer) = child(REPO / "recipes" / "methods" / f"{name}.toml", tmp_path), CONSISTENCY[name]
    terms = {k: (str(s.loss), s.weight, s.rampup, s.ramp) for k, s in recipe.slots.items()}
    # Fast-SWA divides cross-entropy by all images, of which half is labelled.
    assert terms.pop("labeled") == ("mmctl:soft_cross_entropy", 0.5 if name == "fast_swa" else 1.0, 0, "linear")
    assert terms == {k: (f"mmctl:{loss}", *rest) for k, (loss, *rest) in slots.items()}
    assert (
        recipe.settings.optimizer.name,
        recipe.settings.optimizer.lr,
        recipe.settings.optimizer.weight_decay,
    ) == optimizer
    given = recipe.data["method"]
    if name == "vat":
        assert given == {"name": "mmctl:vat", "eps": 6.0, "epsilon_unit": "std", "xi": 0.01, "iterations": 1}
    assert given.get("alpha") == {"ict": 1.0, "mixup_ssl": 0.75, "center": 0.75}.get(name)


def test_center_loss_lives_on_raw_embeddings(tmp_path: Path) -> None:
    c = child(REPO / "recipes" / "methods" / "center.toml", tmp_path).settings.centroids
    assert (c.estimator, c.rate, c.distance) == ("running", 0.5, "squared")
    assert not c.normalize_embeddings
    assert not c.normalize_centroids


def test_fast_swa_is_its_programs_epochs(tmp_path: Path) -> None:
    """180 epochs of a cosine over 210, then cycles of 30; every third epoch from 150 on counts; 1,200 in all."""
    recipe = child(REPO / "recipes" / "methods" / "fast_swa.toml", tmp_path).with_sets(["train.steps=120000"])
    lengths = (recipe.settings.schedule.horizon, recipe.settings.schedule.start, recipe.settings.schedule.cycle)
    assert recipe.settings.schedule.name == "cyclic"
    assert [length_of(n, 1200) for n in lengths] == [210, 180, 30]
    assert (length_of(recipe.settings.average.start, 1200), length_of(recipe.settings.average.every, 1200)) == (150, 3)
    assert (recipe.settings.average.kind, recipe.settings.average.buffers) == ("swa", "recompute")
    assert length_of(recipe.slots["consistency"].rampup, 1200) == 5


SVHN = {
    "pi_model": {("loss", "consistency", "weight"): 5.0, ("optimizer", "weight_decay"): 0.2},
    "mean_teacher": {("loss", "consistency", "weight"): 150.0, ("optimizer", "weight_decay"): 0.02},
    "mixup_ssl": {("method", "alpha"): 0.25},
    "pseudo_label": {("loss", "unlabeled", "weight"): 2.0},
    "mixmatch": {("loss", "unlabeled", "weight"): 250.0},
    "ict": {("method", "alpha"): 0.1},
}
"""google-research/mixmatch, runs/table6.sh, and ICT's README: what changes on SVHN; VAT has nothing that does."""


def leaves(table: dict[str, Any], *at: str) -> dict[tuple[str, ...], Any]:
    """Every value of nested tables, by its keys."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in table.items():
        found |= leaves(value, *at, key) if isinstance(value, dict) else {(*at, key): value}
    return found


def test_every_recipe_with_svhn_constants_is_known() -> None:
    assert {path.stem for path in (REPO / "recipes" / "svhn").glob("*.toml")} == set(SVHN)
    for path in PARENTS:  # what changes is a recipe and not a hint in a comment
        text = path.read_text().replace(f"svhn/{path.stem}", "")
        assert not re.search(r"SVHN(:| has) [^e]", text), path


@pytest.mark.parametrize("name", SVHN)
def test_svhn_changes_these_constants_and_nothing_else(name: str, tmp_path: Path) -> None:
    made, usual = (leaves(child(REPO / "recipes" / f / f"{name}.toml", tmp_path).data) for f in ("svhn", "methods"))
    assert {key: made[key] for key in made if made[key] != usual[key]} == SVHN[name]


def test_table_2_has_the_svhn_constants_in_its_svhn_columns() -> None:
    read, found = read_table("table2"), 0
    for cell in read.cells():
        column = read.columns[cell.column]
        if column.dataset == "svhn" and cell.row in SVHN and cell.figure.value is not None:
            sets = (*read.head.set, *column.set, *read.rows[cell.row].set)
            common = ["dataset.name=digits", f"split.labels={column.labels}", *sets]
            expected = load(f"svhn/{cell.row}", common).data | {"name": cell.row}
            assert load(cell.given, [*common, *cell.figure.set]).data == expected, (cell.row, cell.column)
            found += 1
    assert found == 7


@pytest.mark.parametrize("name", CONSISTENCY)
def test_a_recipe_on_digits_is_its_method_on_the_data_of_digits(name: str, tmp_path: Path) -> None:
    path = REPO / "recipes" / "digits" / f"{name}.toml"
    recipe, method = load(path), child(REPO / "recipes" / "methods" / path.name, tmp_path)
    first = load(REPO / "recipes" / "digits.toml")
    own = {"fast_swa": ("schedule", "average")}.get(path.stem, ())
    for table in ("dataset", "split", "backbone", "augment", "optimizer", "schedule", "average", "train", "eval"):
        assert table in own or recipe.data[table] == first.data[table], table
    assert recipe.name == f"digits-{path.stem}"
    assert recipe.method_name == method.method_name
    assert recipe.labeler_name == method.labeler_name
    assert {k: s.loss for k, s in recipe.slots.items()} == {k: s.loss for k, s in method.slots.items()}
    # What a preset has that is not in the method's signature is here as well, but for what is said here.
    said = tomllib.loads(path.read_text()).get("method", {})
    for key, value in method.data["method"].items():
        own_program = ("bn_groups", "bn_update", "consistency_on")  # digits has those of the method's default
        assert key in (*said, *own_program) or recipe.data["method"][key] == value, key
    assert recipe.data["centroids"] == method.data["centroids"]
