"""A recipe is read, extended, changed, checked whole, and written so that it loads again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.recipe_parts import BASE, PARTS, write
from mmctl.errors import PluginError, RecipeError
from mmctl.identity import config_id_of
from mmctl.recipe import recipe
from mmctl.recipe.layers import read_layers
from mmctl.recipe.settings import ORDER


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Path:
    """A project with a plugin and a base recipe; no component of it needs torch."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "parts.py").write_text(PARTS)
    (tmp_path / "recipes").mkdir()
    write("base", BASE)
    return tmp_path


def problems(text: str = "", sets: tuple[str, ...] = (), base: bool = True, fast: bool = False) -> list[str]:
    """What is wrong with a recipe that extends the base, without the file's name."""
    file = write("a", ('extends = "base"\n' if base else "\n") + text)
    try:
        recipe.check_recipe(file, sets, fast=fast)
    except RecipeError as error:
        return [p.removeprefix("recipes/a.toml:").removeprefix("recipes/a.toml: ") for p in error.problems]
    return []


def test_resolved() -> None:
    write("a", 'extends = "base"\nseed = 3\n[loss.unlabeled]\nweight = 7\n[train]\nbatch = 8\n')
    made = recipe.load("a")
    assert [made.name, made.seed, made.path.name] == ["a", 3, "a.toml"]
    assert made.data["labeler"] == {"name": "plugins:sure", "m": 3.0}
    assert (made.settings.train.steps, made.settings.train.batch, made.settings.train.unlabeled_batch) == (100, 8, 64)
    assert made.slots["unlabeled"] == ("plugins:one", 7.0, 0.4, "sigmoid")
    assert made.slots["fair"] == (None, 0.5, 0, "linear")
    assert made.policies == ("weak", "strong")
    assert made.after == {"strong": "weak", "weak": None}
    assert (made.method_name, made.labeler_name) == ("fake", "sure")
    assert made.published is None
    assert list(made.data) == [key for key in ORDER if key in made.data]
    assert made.source.startswith("extends")


def test_resolve_is_idempotent_and_needs_no_other_file(tmp_path: Path) -> None:
    write(
        "a", 'extends = "base"\nnote = "a \\"b\\" \\u00e9"\n[published]\nvalue = 93\nselection = "last"\nsource = "x"\n'
    )
    made = recipe.load("a", ["backbone.args={a = [1, 2.5], b = {c = true}}", "optimizer.clip=1", "dataset.root=~/x"])
    alone = tmp_path / "elsewhere" / "r.toml"
    alone.parent.mkdir()
    alone.write_text(made.text())
    (tmp_path / "recipes" / "base.toml").unlink()
    again = recipe.load(alone)
    assert again.data == made.data
    assert again.text() == made.text()  # 1 and 1.0 are equal in Python and are not in a hash
    assert again.config_id == made.config_id
    assert again.name == "a"
    assert again.dataset_root == "~/x"


def test_build_passes_what_is_asked_for_and_the_parameters() -> None:
    made = recipe.load("base", ["backbone.width=3", "backbone.args={a=[1]}"])
    first, second = (made.build("backbone", known={"in_channels": 1, "image_size": 8}) for _ in range(2))
    assert (first.in_channels, first.width, first.span) == (1, 3, (0.0, 1.0))
    assert first.args is not second.args
    assert made.build("dataset", known={"root": Path("x")}) == (Path("x"), 8)
    assert made.build("loss", "fair") is None
    with pytest.raises(PluginError, match="13 is not for building"):
        made.with_sets(["backbone.width=13"]).build("backbone", known={"in_channels": 1})


def test_a_method_without_labeler() -> None:
    write("b", BASE.replace('"fake"', '"alone"').replace("[labeler]\nm = 3\n", ""))
    made = recipe.load("b")
    assert made.labeler_name is None
    assert made.build("labeler") is None
    assert "labeler" not in made.data
    write("c", BASE.replace('"fake"', '"alone"'))
    with pytest.raises(RecipeError, match=r"c.toml:7: labeler: method alone uses no labeler"):
        recipe.load("c")


def test_components() -> None:
    rows = {(row["kind"], row["slot"]): row for row in recipe.load("base").components()}
    assert rows["labeler", None]["params"] == {"m": 3.0}
    assert rows["augment", "weak"]["name"] == "plugins:jitter"
    assert len(rows["method", None]["file_hash"]) == 64
    assert ("loss", "fair") not in rows


def test_cell_is_what_is_computed() -> None:
    made = recipe.load("base")
    same = ["name=x", "note=y", "seed=9", "train.device=cpu", "train.keep=5", "eval.batch=3", "dataset.root=/x"]
    assert made.with_sets(same).config_id == made.config_id == config_id_of(made.data, made.components())
    assert made.with_seed(4).config_id == made.config_id
    assert made.with_seed(4).seed == 4
    for other in ("train.batch=3", "labeler.m=4", "backbone.width=9", "split.seed=1", "loss.fair.weight=1"):
        assert made.with_sets([other]).config_id != made.config_id
    assert made.data["name"] == "base"


def test_many_problems_at_once_sorted_by_line() -> None:
    text = """\
epochs = 3
[labeler]
m = 0.9
temperatur = 1
[train]
stps = 3
lr = 1
steps = true
[backbone]
width = 0
form = "c"
[augment.strong]
after = "wek"
[loss.unlabelled]
weight = 1
[loss.fair]
name = "one"
[loss.labeled]
weight = -1
rampup = 1.5
margin = "x"
[split]
val = 2.5
labels = "al"
[centroid]
rate = 1
"""
    assert problems(text) == [
        '2: epochs: unknown key; [train] has "steps"',
        "4: labeler.m: must be greater than 1 (got 0.9)",
        '5: labeler.temperatur: unknown key; did you mean "temperature"?',
        '7: train.stps: unknown key; did you mean "steps"?',
        '8: train.lr: unknown key; [optimizer] has "lr"',
        "9: train.steps: must be an integer (got true)",
        "11: backbone.width: must be at least 1 (got 0)",
        '12: backbone.form: must be one of "a" or "b" (got "c")',
        '14: augment.strong.after: must be the name of another policy in this recipe (got "wek"); did you mean "weak"?',
        '15: loss.unlabelled: method fake has no such loss term. Did you mean "unlabeled" or "labeled"?',
        "18: loss.fair.name: the method computes this loss term itself: only weight, rampup and ramp can be set",
        "20: loss.labeled.weight: must be at least 0 (got -1)",
        "21: loss.labeled.rampup: must be at most 1 (got 1.5)",
        '22: loss.labeled.margin: must be a number (got "x")',
        "24: split.val: must be less than 1 (got 2.5)",
        '25: split.labels: must be an integer or "all" (got "al"); did you mean "all"?',
        '26: centroid: unknown key; did you mean "centroids" or "method"?',
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[labeler]\nname = 'suer'", '3: labeler.name: no labeler "suer". Did you mean "sure"'),
        ("[labeler]\nname = 'one'", '3: labeler.name: "one" is a loss, not a labeler'),
        ("[labeler]\nname = 3", "3: labeler.name: must be a name in quotes (got 3)"),
        ("labeler = 3", "2: labeler: must be a table, [labeler] (got 3)"),
        ("[[loss.fair]]\nweight = 1", "must be a table, [loss.fair]"),
        ("name = 'a b'", "2: name: must be at most 80 letters"),
        ("seed = -1", "2: seed: must be at least 0 (got -1)"),
        ("[dataset]\nroot = 3", "3: dataset.root: must be a folder path in quotes"),
        ("[labeler]\nname = 'other'\nm = 2", "4: labeler.m: unknown key"),
        ("[augment.clean]\nname = 'jitter'", '2: augment.clean: "clean" is the name for no augmentation'),
        (
            "[augment.weak]\nafter = 'strong'",
            "3: augment.weak.after: is circular: weak after strong after weak",
        ),
        ("[augment.new]\nstrength = 1", "augment.new.name: is required: which augment?"),
        ("[split]\nrule = 'file'", "[split] file"),
        ("[split]\nfile = 'x'", '3: split.file: needs rule = "file"; split.rule = "balanced" (default)'),
        (
            "[schedule]\nwarmup = 200",
            "3: schedule.warmup: 200 steps is more than train.steps = 100 (recipes/base.toml:18)",
        ),
        ("[schedule]\nfinal = 1", "3: schedule.final: 1.0 is greater than optimizer.lr = 0.03 (default)"),
        ("[optimizer]\nmomentum = 0", "3: optimizer.momentum: must be greater than 0 with optimizer.nesterov = true"),
        ("[eval]\nprimary = 'val/accuracy'\nsplits = ['test']", '3: eval.primary: "val" is not evaluated'),
        ("[eval]\nprimary = 'x'", "3: eval.primary: must be SPLIT/METRIC"),
        (
            "[average]\nkind = 'none'\n[centroids]\nnetwork = 'ema'",
            '5: centroids.network: "ema" needs averaged weights',
        ),
        ("[average]\nkind = 'none'\n[eval]\nprimary = 'test/ema/head/nll'", "5: eval.primary: needs averaged"),
        (
            "[method]\nname = 'asks'\n[labeler]\nname='sure'\n[average]\nkind = 'none'",
            "7: average.kind: method asks needs",
        ),
        ("[schedule]\nname = 'cyclic'\nstart = 40", 'schedule.cycle: is required with schedule.name = "cyclic"'),
        (
            "[schedule]\nname = 'cyclic'\nstart = 60\nhorizon = 0.5\ncycle = 10",
            "4: schedule.start: must not be after schedule.horizon = 0.5",
        ),
        (
            "[schedule]\nname = 'cyclic'\nstart = 0.2\nhorizon = 0.5\ncycle = 21",
            "6: schedule.cycle: must not be longer than schedule.start = 0.2",
        ),
        ("[schedule]\ncycle = 0", "3: schedule.cycle: must be at least 1"),
        ("[average]\nkind = 'swa'\nstart = 5", 'average.every: is required with average.kind = "swa"'),
        ("[average]\nkind = 'swa'\nstart = 101\nevery = 1", "4: average.start: must not be after train.steps = 100"),
        (
            "[method]\nname = 'asks'\n[labeler]\nname='sure'\n[average]\nkind = 'swa'\nstart = 1\nevery = 1",
            "7: average.kind: method asks trains with an EMA teacher, which SWA cannot replace",
        ),
        ("[method]\nname = 'asks'", "labeler.name: is required"),
        ("[train]\nsteps = 100000001", "3: train.steps: must be at most 100000000"),
        ("[train]\nkeep = 1", "3: train.keep: must be at least 2 (got 1)"),
        ("[requires]\nmmctl = '>=99'\n", "3: requires.mmctl: needs mmctl >=99; version 0.1.0 is installed"),
        (
            "[requires]\nnowhere-dist = '==1.*'\n",
            "3: requires.nowhere-dist: needs nowhere-dist ==1.*, which is not",
        ),
        ("[requires]\nmmctl = 'new'\n", "3: requires.mmctl: must be version specifiers such as"),
        ("[published]\nvalue = 1\n", "published.source: is required"),
        ("[optimizer]\nlr = nan", "3: optimizer.lr: must be finite (got nan)"),
        ("[optimizer]\nlr = 1e999", "3: optimizer.lr: must be finite (got inf)"),
        ("[optimizer]\nbetas = [0.9]", "3: optimizer.betas: has too few values"),
        ("[optimizer]\nbetas = [0.9, 2]", "3: optimizer.betas.1: must be less than 1 (got 2)"),
        ('"a\\u001bb" = 1', '2: "a\\u001bb": unknown key'),
        ("note = 2024-01-01", "2: note: is a date"),
        ("seed = 99999999999999999999", "2: seed: is an integer of more than 64 bits"),
        ("[train\n", "2: is not valid TOML"),
        ("seed = 1\nseed = 2", "is not valid TOML: Cannot overwrite a value"),
        ("note = '''\n", "is not valid TOML"),
    ],
)
def test_one_problem(text: str, part: str) -> None:
    said = problems(text)
    if part == "[split] file":
        part = "split.file: is required with split.rule"
    assert [line for line in said if part in line] != [], said


def test_tables_that_must_be_there() -> None:
    said = problems(base=False)
    for kind in ("dataset", "backbone", "method"):
        assert [line for line in said if f"{kind}.name: is required: which {kind}?" in line] != []


def test_views_need_policies() -> None:
    write("b", BASE.replace("strong", "firm"))
    with pytest.raises(RecipeError) as error:
        recipe.load("b")
    assert error.value.problems == (
        "recipes/b.toml:6: augment.strong: method fake uses this policy: add a table [augment.strong] with a name",
    )
    with pytest.raises(RecipeError, match=r"base.toml:6: augment.probe"):
        recipe.load("base").check_views({"x": ("probe", "clean")})


def test_a_method_that_is_a_recipe() -> None:
    write("methods/flexible", 'extends = "base"')
    said = problems("[method]\nname = 'flexible'")
    assert said == ['3: method.name: "flexible" is a recipe, not a method: use extends = "methods/flexible" instead']


def test_another_name_drops_the_parents_keys() -> None:
    write("a", 'extends = "base"\n[labeler]\nname = "other"\n')
    assert recipe.load("a").data["labeler"] == {"name": "plugins:other", "rate": 0.5}
    write("b", 'extends = "a"\n[labeler]\nname = "plugins:other"\n')
    assert recipe.load("b", ["labeler.rate=1"]).with_sets(["labeler.name=plugins:other"]).data["labeler"]["rate"] == 1.0
    write("c", 'extends = "base"\n[augment.weak]\nname = "plugins:jitter"\n')
    assert recipe.load("c").data["augment"]["weak"]["strength"] == 0.3


def test_what_is_of_the_slot_outlives_another_component(tmp_path: Path) -> None:
    (tmp_path / "plugins" / "more.py").write_text(
        "from mmctl.plugin import augment, dataset, loss\n\n\n"
        '@loss("two")\nclass Two:\n    """Two."""\n\n\n@augment("calm")\nclass Calm:\n    """Calm."""\n\n\n'
        '@dataset("rings")\ndef rings(root):\n    """Rings."""\n'
    )
    term = '[loss.unlabeled]\nname = "one"\nmargin = 3.0\nweight = 7.0\nrampup = 9\nramp = "linear"\n'
    write("p", 'extends = "base"\n' + term + '[augment.late]\nname = "jitter"\nafter = "weak"\n')
    swaps = ("loss.unlabeled.name=two", "augment.late.name=calm", "dataset.root=/x")
    data = recipe.load("p", swaps).data
    assert data["loss"]["unlabeled"] == {"name": "plugins:two", "weight": 7.0, "rampup": 9, "ramp": "linear"}
    assert data["augment"]["late"] == {"name": "plugins:calm", "after": "weak"}
    assert "root" not in recipe.load("p", ["dataset.root=/x"]).with_sets(["dataset.name=rings"]).data["dataset"]
    # Where the parent leaves the name to the method, naming the same component changes nothing.
    write("q", 'extends = "base"\n[loss.unlabeled]\nweight = 7.0\nrampup = 9\n')
    assert recipe.load("q", ["loss.unlabeled.name=one"]).data == recipe.load("q").data


def test_a_plugin_counts_with_its_file(tmp_path: Path) -> None:
    before = recipe.load("base")
    path = next((tmp_path / "plugins").glob("*.py"))
    path.write_text(path.read_text() + "\n# another formula\n")
    after = recipe.load("base")
    assert before.data == after.data
    assert before.config_id != after.config_id


def test_a_published_figure_is_of_what_it_was_published_of() -> None:
    figure = '[published]\nvalue = 95.0\nselection = "last"\nsource = "a paper"\n'
    write("paper", 'extends = "base"\n' + figure)
    assert recipe.load("paper").published is not None
    for word in ("seed=4", "name=x", "train.keep=5"):
        assert recipe.load("paper", [word]).published is not None, word
    assert recipe.load("paper", ["train.steps=3"]).published is None
    write("child", 'extends = "paper"\n[train]\nsteps = 3\n')
    assert recipe.load("child").published is None
    write("same", 'extends = "paper"\nname = "another-name"\n')
    assert recipe.load("same").published is not None
    write("kept", recipe.load("paper", ["train.steps=3"]).text())
    assert recipe.load("kept").published is None


def test_set() -> None:
    made = recipe.load("base", ["labeler.m=4", "labeler.name=sure", "note=a=b", "train={steps = 7, batch = 2}"])
    assert made.data["labeler"]["m"] == 4.0
    assert made.settings.top.note == "a=b"
    assert (made.settings.train.steps, made.settings.train.batch) == (7, 2)
    assert made.origin(("labeler", "m")) == "--set"
    assert made.origin(("train", "keep")) == "default"
    assert made.origin(("dataset", "name")) == "recipes/base.toml:2"
    assert made.sets[0] == "labeler.m=4"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("steps", "--set: steps: must be KEY=VALUE, such as train.steps=2000"),
        ("train..steps=3", "--set: train..steps=3: must be KEY=VALUE"),
        ("extends=x", "--set: extends: can be set in a file only"),
        ("train.stepz=3", '--set: train.stepz: unknown key; did you mean "steps"?'),
        ("train.steps=1O", '--set: train.steps: must be an integer (got "1O")'),
        ("train.steps=1\nseed=2", "--set: train.steps: must be an integer"),
        ("train=3", "--set: train: must be a table"),
        ("seed=[[[[[[[[[[1]]]]]]]]]]", "--set: seed: is nested more than 8 levels deep"),
        ("seed=" + "[" * 900, "--set: seed: must be an integer"),
    ],
)
def test_a_wrong_set(word: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe.load("base", [word])
    assert said in str(error.value)


def test_extends() -> None:
    write("deep/child", 'extends = "../base.toml"\n')
    write("deep/by-name", 'extends = "base"\n')
    assert (
        recipe.load("deep/child").settings.train.steps
        == recipe.load("recipes/deep/by-name.toml").settings.train.steps
        == 100
    )
    write("x", 'extends = "y"\n')
    write("y", '\nextends = "x"\n')
    with pytest.raises(RecipeError, match=r"y.toml:2: extends: is circular: recipes/x.toml -> recipes/y.toml"):
        recipe.load("x")
    write("gone", 'extends = "bas"\n')
    with pytest.raises(RecipeError, match=r'gone.toml:1: extends: no recipe "bas": .* Did you mean "base"'):
        recipe.load("gone")
    for n in range(11):
        write(f"n{n}", f'extends = "n{n + 1}"\n')
    with pytest.raises(RecipeError, match="nested more than 8 deep"):
        recipe.load("n0")


def test_extends_several_recipes() -> None:
    """Later ones win over earlier ones, the file over all; a parent counts with all that it extends."""
    write("long", "[train]\nsteps = 900\nbatch = 9\n[optimizer]\nlr = 0.5\n")
    write("fast", 'extends = "long"\n[optimizer]\nlr = 0.9\n')
    write("both", 'extends = ["base", "fast", "long"]\n\n[train]\nbatch = 3\n')
    made = recipe.load("both")
    assert (made.settings.train.steps, made.settings.train.batch, made.settings.optimizer.lr) == (900, 3, 0.5)
    assert [made.origin(path) for path in (("train", "steps"), ("train", "batch"), ("optimizer", "lr"))] == [
        "recipes/long.toml:2", "recipes/both.toml:4", "recipes/long.toml:5",
    ]  # fmt: skip
    write("other", 'extends = ["base", "long", "fast"]\n')
    assert recipe.load("other").settings.optimizer.lr == 0.9
    assert recipe.load("other").origin(("optimizer", "lr")) == "recipes/fast.toml:3"
    write("one", 'extends = ["base"]\n')
    assert recipe.load("one").config_id == recipe.load("base").config_id


def test_a_later_parent_that_names_another_component_drops_the_parameters_of_the_first() -> None:
    """As a file does with the one that it extends; what belongs to the slot stays."""
    write("first", '[labeler]\nname = "other"\nrate = 0.1\n[loss.fair]\nname = "x"\nmargin = 2\nweight = 7.0\n')
    write("second", '[labeler]\nname = "sure"\nm = 4.0\n[loss.fair]\nname = "y"\n')
    write("a", 'extends = ["second", "first"]\n')
    assert read_layers(Path("recipes/a.toml")).data["labeler"] == {"name": "other", "rate": 0.1}
    write("b", 'extends = ["first", "second"]\n')
    found = read_layers(Path("recipes/b.toml")).data
    assert found == {"labeler": {"name": "sure", "m": 4.0}, "loss": {"fair": {"name": "y", "weight": 7.0}}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("3", "must be a recipe name in quotes or a list of names, .* \\(got 3\\)"),
        ('""', "must be a recipe name in quotes"),
        ('["base", 3]', "must be a recipe name in quotes or a list of names"),
        ("[]", "is an empty list: name a recipe, or remove the line"),
        ('["base", "bas"]', 'no recipe "bas": .* Did you mean "base"'),
        ('["base", "x\\u0000"]', "no recipe"),
        (str(["base"] * 9), "has 9 recipes; at most 8 are allowed"),
        ('["base", "round"]', "is circular: recipes/wrong.toml -> recipes/round.toml -> recipes/wrong.toml"),
    ],
)
def test_a_wrong_extends(given: str, said: str) -> None:
    write("round", '\n\nextends = ["base", "wrong"]\n')
    write("wrong", f"\nextends = {given}\n")
    with pytest.raises(RecipeError) as error:
        recipe.load("wrong")
    (problem,) = error.value.problems
    where = "round.toml:3" if "round" in given else "wrong.toml:2"
    assert re.match(rf"recipes/{where}: extends: {said}", problem)


def test_published_figures_of_some_settings() -> None:
    """Each is of the file with its own --set words, and of nothing else."""
    head = '[published]\nselection = "last"\nsource = "a paper"\n'
    figures = "".join(
        f'[[published.figures]]\nset = ["{words}"]\nvalue = {value}\n'
        for words, value in (("train.steps=3", 60.0), ("labeler.name=sure", 70.0))
    )
    write("paper", 'extends = "base"\n' + head + figures)
    assert recipe.load("paper").published is None
    made = recipe.load("paper", ["train.steps=3", "seed=4"])
    assert made.published == {
        "value": 60.0, "unit": "accuracy %", "metric": "test/accuracy", "selection": "last", "source": "a paper",
    }  # fmt: skip
    assert made.origin(("published", "value")) == "recipes/paper.toml:5"
    assert (recipe.load("paper", ["labeler.name=sure"]).published or {})["value"] == 70.0
    assert recipe.load("paper", ["train.steps=3", "train.batch=7"]).published is None
    write("kept", made.text())
    assert recipe.load("kept").data == made.data
    write("paper", 'extends = "base"\n' + head)
    with pytest.raises(RecipeError, match=r"published.value: is required"):
        recipe.load("paper")
    write("paper", 'extends = "base"\n' + head + figures.replace("train.steps=3", "steps"))
    with pytest.raises(RecipeError, match=r"published.figures.0.set: steps: must be KEY=VALUE"):
        recipe.load("paper")


def test_a_project_recipe_may_extend_the_shipped_one_of_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "mine.toml").write_text(BASE)
    monkeypatch.setattr("mmctl.recipe.find.recipe_folders", lambda: (tmp_path / "recipes", shipped))
    write("mine", 'extends = "mine"\nseed = 5\n')
    assert recipe.load("mine").seed == 5


def test_a_recipe_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match=r'no recipe "bass".*Did you mean "base"'):
        recipe.load("bass")
    with pytest.raises(RecipeError, match="recipes: is a folder, not a recipe"):
        recipe.load("recipes")
    with pytest.raises(RecipeError, match="no recipe"):
        recipe.load("x" * 5000)


LINES = tuple((BASE + "[split]\nlabels = 5\nval = 0.1\n[loss.unlabeled]\nweight = 2\nrampup = 5\n").splitlines())


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_text_brings_more_than_a_message(data: st.DataObject) -> None:
    """A recipe with a few lines spoilt loads, or is refused in words."""
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key = lines[at].partition("=")[0]
        new = st.sampled_from(
            [key + "= []", key + "= {}", key + "= 'x'", key + "= -1", key + "= 1e400", key + "= true"]
        )
        lines[at] = data.draw(new | st.sampled_from(LINES) | st.text(max_size=20))
    Path("spoilt.toml").write_text("\n".join(lines), "utf-8")
    try:
        recipe.load("spoilt.toml")
    except RecipeError as error:
        told = error.problems
    else:
        told = ("fine",)
    assert all(told)


def test_fast_imports_nothing(project: Path) -> None:
    (project / "plugins" / "parts.py").write_text(PARTS + "\nraise RuntimeError\n")
    assert problems("[labeler]\nm = 'x'", fast=True) == []
    assert "no labeler" in problems("[labeler]\nname = 'nil'", fast=True)[0]
    assert problems("[train]\nsteps = 0", fast=True) == ["3: train.steps: must be at least 1 (got 0)"]
    assert "RuntimeError" in "".join(problems())


WHAT_IS_MISSING = """extends = "methods/mixmatch"
[split]
labels = 20
[backbone]
name = "small"
[dataset]
name = "digits"
"""


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        ('[dataset]\nname = "digits"\n', "", ["own.toml:1: dataset.name: is required: which dataset?"]),
        ("[backbone]", "[backbon]", ['own.toml:4: backbon: unknown key; did you mean "backbone"?']),
        ("[dataset]", "[datset]", ['own.toml:6: datset: unknown key; did you mean "dataset"?']),
    ],
)
def test_a_missing_table_is_one_problem_of_the_own_file(
    tmp_path: Path, old: str, new: str, problems: list[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(WHAT_IS_MISSING.replace(old, new))
    with pytest.raises(RecipeError) as refused:
        recipe.load(path)
    said = refused.value.problems
    problems = ["own.toml:1: augment.weak: method mixmatch uses this policy: add a table", *problems]
    assert [line.startswith(problem) for line, problem in zip(said, problems, strict=True)] == [True, True], said


def test_a_missing_key_is_a_problem_of_the_file_that_asks_for_it(tmp_path: Path) -> None:
    write("parent", 'extends = "base"\n[schedule]\nwarmup = 1\n')
    write("child", 'extends = "parent"\n[schedule]\nname = "cyclic"\n')
    for name, sets, where in (
        ("child", [], "recipes/child.toml:2"),
        ("parent", ["schedule.name=cyclic"], "--set"),
    ):
        with pytest.raises(RecipeError) as refused:
            recipe.load(name, sets)
        assert [line.partition(": ")[0] for line in refused.value.problems] == [where] * 3, refused.value.problems


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder", "folder: is a folder, not a recipe"),
        ("notes.txt", "Is this a recipe?"),
        ("fifo.toml", "fifo.toml: is not a regular file"),
        ("/dev/null", "/dev/null: is not a regular file"),
        ("loop.toml", "loop.toml: cannot be read: Too many levels of symbolic links"),
        ("own.toml/below.toml", 'no recipe "own.toml/below.toml"'),
        ("x" * 5000, "neither a file nor a known name"),
        ("x\0y", "neither a file nor a known name"),
        ("x\udcffy", "neither a file nor a known name"),
    ],
)
def test_what_is_no_recipe_says_what_it_is(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "own.toml").write_text(WHAT_IS_MISSING)
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    os.mkfifo(tmp_path / "fifo.toml")
    with pytest.raises(RecipeError) as refused:
        recipe.load(name)
    assert says in str(refused.value)
    (tmp_path / "child.toml").write_text(f"extends = {json.dumps(name)}\n", errors="surrogateescape")
    with pytest.raises(RecipeError) as refused:
        recipe.load(tmp_path / "child.toml")


@pytest.mark.parametrize("where", ["given", "by name", "extends"])
def test_a_recipe_that_cannot_be_read_is_not_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "recipes").mkdir(exist_ok=True)
    secret = tmp_path / "recipes" / "secret.toml"
    secret.write_text(WHAT_IS_MISSING)
    (tmp_path / "child.toml").write_text('extends = "secret"\n')
    stat, opened = os.stat, Path.open

    def no_stat(path: Any, **more: Any) -> Any:
        if str(path).endswith("secret.toml"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **more)

    def no_open(path: Path, *more: Any, **keys: Any) -> Any:
        if path.name == "secret.toml":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *more, **keys)

    for owner, name, instead in ((os, "stat", no_stat), (Path, "open", no_open)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, instead)
            with pytest.raises(RecipeError, match=r"secret\.toml: cannot be read: Permission denied"):
                recipe.load({"given": secret, "by name": "secret", "extends": "child.toml"}[where])
