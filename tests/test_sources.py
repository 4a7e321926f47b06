"""docs/methods.md lists every difference of a method's recipe from the source that it names: no more, no less."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import REPO
from mmctl.recipe.recipe import load

DOCUMENT = (REPO / "docs" / "methods.md").read_text().partition("## Differences from the sources")[2]
RECIPES = {path.stem for path in (REPO / "recipes" / "methods").glob("*.toml")}

EMA = {
    "average.kind": "ema", "average.decay": 0.999, "average.warmup": False, "average.buffers": "copy",
}  # fmt: skip
BATCH = {"train.batch": 64, "train.unlabeled_batch": 64}
LABELED = {"loss.labeled.weight": 1.0, "loss.labeled.rampup": 0}
UNLABELED = {"loss.unlabeled.weight": 1.0, "loss.unlabeled.rampup": 0}
TF = EMA | BATCH | LABELED | {
    "split.unlabeled": "rest", "optimizer.name": "adamw", "optimizer.lr": 0.002, "optimizer.weight_decay": 0.02,
    "optimizer.betas": [0.9, 0.999], "schedule.name": "constant",
}  # fmt: skip
"""google-research/mixmatch."""
SGD = {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.weight_decay": 1e-4}
FIXMATCH = EMA | LABELED | UNLABELED | SGD | {
    "train.batch": 64, "train.unlabeled_batch": 448, "split.unlabeled": "all", "optimizer.lr": 0.03,
    "optimizer.nesterov": True, "optimizer.weight_decay": 5e-4, "schedule.name": "seven_sixteenths",
    "method.bn_groups": "joint",
}  # fmt: skip
"""google-research/fixmatch; TorchSSL and USB have the same of these."""
ONE_TO_ONE = {"method.bn_groups": "each", "method.consistency_on": "unlabeled", "method.through": "second"}
MIXES = {"method.alpha": 0.75, "method.bn_groups": "interleave"}
RAMP = {"loss.consistency.rampup": 0.4, "loss.consistency.ramp": "linear"}
STEPS = {"loss.unlabeled.rampup": 16_384, "loss.unlabeled.ramp": "linear"}
SOURCES: dict[str, dict[str, Any]] = {
    "pi_model": TF | ONE_TO_ONE | RAMP | {"loss.consistency.weight": 20.0},
    "mean_teacher": TF | {
        "method.bn_groups": "each", "optimizer.weight_decay": 0.2, "loss.consistency.weight": 50.0, **RAMP,
    },
    "vat": TF | {
        "method.eps": 6.0, "method.epsilon_unit": "range", "method.xi": 1e-6, "method.iterations": 1,
        "loss.adversarial.weight": 0.3, "loss.adversarial.rampup": 0.4, "loss.adversarial.ramp": "linear",
        "loss.entropy.weight": 0.06, "loss.entropy.rampup": 0,
    },
    "mixup": TF | {"method.alpha": 0.5, "optimizer.weight_decay": 0.002},
    "mixup_ssl": TF | UNLABELED | {"method.alpha": 0.75},
    "pseudo_label": TF | UNLABELED | {
        "loss.unlabeled.rampup": 0.4, "loss.unlabeled.ramp": "linear", "labeler.tau": 0.95,
        "labeler.target": "hard", "labeler.temperature": 1.0, "labeler.align": "none",
    },
    "mixmatch": TF | MIXES | {
        "method.num_views": 2, "method.lambda_per": "sample", "method.bn_update": "first",
        "labeler.temperature": 0.5, "labeler.align": "none", "loss.unlabeled.weight": 75.0, **STEPS,
    },
    "remixmatch": TF | MIXES | {
        "method.num_strong": 8, "method.labeled_view": "strong", "labeler.temperature": 0.5,
        "labeler.align": "train_prior", "labeler.window": 128, "loss.unlabeled.weight": 1.5, **STEPS,
        "loss.strong.weight": 0.5, "loss.strong.rampup": 16_384, "loss.strong.ramp": "linear",
        "loss.rotation.weight": 0.5, "loss.rotation.rampup": 0, "augment.strong.name": "ctaugment",
        "augment.strong.threshold": 0.8, "augment.strong.cutout": 0,
    },
    "fixmatch": FIXMATCH | {
        "labeler.tau": 0.95, "labeler.target": "hard", "labeler.temperature": 1.0, "labeler.align": "none",
        "augment.strong.name": "fixmatch_ra",
    },
    "uda": {k: v for k, v in FIXMATCH.items() if k != "method.bn_groups"} | {
        "method.tsa": "none", "labeler.tau": 0.8, "labeler.target": "soft", "labeler.temperature": 0.4,
        "labeler.align": "none", "average.decay": 0.9999, "average.buffers": "average", "loss.entropy.weight": 0.0,
        "loss.entropy.rampup": 0, "augment.strong.name": "fixmatch_ra",
    },
    "flexmatch": FIXMATCH | {
        "labeler.tau": 0.95, "labeler.warmup": True, "labeler.align": "none", "augment.strong.name": "usb_ra",
    },
    "freematch": FIXMATCH | {
        "method.momentum": 0.999, "labeler.momentum": 0.999, "labeler.low": 0.0, "labeler.high": 1.0,
        "labeler.align": "none", "loss.fairness.weight": 0.001, "loss.fairness.rampup": 0,
        "augment.strong.name": "usb_ra",
    },
    "softmatch": FIXMATCH | {
        "labeler.sigmas": 2.0, "labeler.momentum": 0.999, "labeler.align": "uniform",
        "labeler.align_momentum": 0.999, "labeler.window": 0, "augment.strong.name": "usb_ra",
    },
    "adamatch": FIXMATCH | {
        "labeler.tau": 0.95, "labeler.align": "labeled", "labeler.align_momentum": 0.999, "labeler.window": 0,
        "augment.strong.name": "usb_ra",
    },
    "adamatch (authors)": FIXMATCH | {
        "average.warmup": True, "split.unlabeled": "rest",  # here as with USB: told in its rows
        "labeler.tau": 0.9, "labeler.align": "labeled", "labeler.align_momentum": 0.999, "labeler.window": 128,
        "train.unlabeled_batch": 192, "optimizer.weight_decay": 0.001,
        "schedule.name": "cos(arccos(.25) t): falls to .25 of the peak", "loss.unlabeled.rampup": 0.5,
        "augment.strong.name": "ctaugment",
    },
    "ict": EMA | LABELED | SGD | {
        "average.warmup": True, "train.batch": 100, "train.unlabeled_batch": 100, "split.unlabeled": "all",
        "optimizer.lr": 0.1, "optimizer.nesterov": False, "schedule.name": "cyclic", "schedule.horizon": 450 / 400,
        "schedule.start": 1.0, "method.alpha": 1.0, "method.bn_update": "all", "loss.consistency.weight": 100.0,
        "loss.consistency.rampup": 0.25, "loss.consistency.ramp": "sigmoid",
    },
    "fast_swa": LABELED | SGD | {
        "average.kind": "swa", "average.start": 0.125, "average.every": 0.0025, "average.buffers": "recompute",
        "train.batch": 50, "train.unlabeled_batch": 50, "split.unlabeled": "rest", "optimizer.lr": 0.1,
        "optimizer.nesterov": True, "schedule.name": "cyclic", "schedule.horizon": 0.175, "schedule.start": 0.15,
        "schedule.cycle": 0.025, "method.through": "second", "method.consistency_on": "all",
        "method.bn_groups": "view", "loss.labeled.weight": 0.5, "loss.consistency.weight": 100.0,
        "loss.consistency.rampup": 0.0042, "loss.consistency.ramp": "sigmoid",
    },
    "temporal_ensembling": LABELED | {
        "average.kind": "none", "train.batch": "100 images of both kinds, labelled ones by chance",
        "train.unlabeled_batch": "100 images of both kinds, labelled ones by chance", "split.unlabeled": "all",
        "optimizer.name": "adam", "optimizer.lr": 0.003, "optimizer.weight_decay": 0.0,
        "optimizer.betas": "the first falls from .9 to .5 over the last 50 epochs",
        "schedule.name": "a Gaussian up over 80 epochs, another down over the last 50 of 300",
        "schedule.warmup": 0.267, "method.momentum": 0.6, "method.bn_groups": "joint",
        "loss.consistency.weight": 30.0, "loss.consistency.rampup": 0.267, "loss.consistency.ramp": "sigmoid",
    },
    "marginmix_provenance": {
        "average.kind": "ema", "average.decay": 0.999, "average.warmup": False, "average.buffers": "average",
        "method.lambda_per": "batch", "method.bn_update": "all", "method.alpha": 0.75, "method.num_views": 2,
        "loss.margin_unlabeled.rampup": 1.0,
    },
}  # fmt: skip
"""The values of the sources in words of a recipe; a text where there is no such word."""
THE_PAPER = {"supervised", "center", "marginmix_paper", "marginmix_printed"}
"""Recipes whose source is a text: marginmix_paper.toml says how it was read."""


def rows() -> Iterator[tuple[list[str], str, str, str]]:
    """Recipes, setting, there and here of each row."""
    for line in DOCUMENT.partition("| recipes |")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 5 and cells[0].startswith("`"):
            recipes = [name.strip().replace("`", "") for name in cells[0].split(",")]
            yield recipes, cells[1], cells[2], cells[3]


def value(cell: str) -> Any:
    """The value in backticks, or the text."""
    code = re.fullmatch(r"`(.*)`", cell)
    return tomllib.loads(f"v = {code[1]}")["v"] if code else cell


def resolved(name: str, folder: Path) -> dict[str, Any]:
    """All values of a method's recipe over some data, as dotted keys."""
    path = REPO / "recipes" / "methods" / f"{name.partition(' ')[0]}.toml"
    (folder / "child.toml").write_text(
        f'extends = {json.dumps(str(path))}\n[dataset]\nname = "digits"\n[backbone]\nname = "small"\n'
        '[augment.weak]\nname = "affine"\n[split]\nlabels = 40\n'
    )

    def flat(table: dict[str, Any], at: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in table.items():
            found |= flat(item, f"{at}{key}.") if isinstance(item, dict) else {at + key: item}
        return found

    found = flat(load(folder / "child.toml").data, "")
    return {k: v.removeprefix("mmctl:") if isinstance(v, str) else v for k, v in found.items()}


def same(a: Any, b: Any) -> bool:
    return bool(a == pytest.approx(b, rel=1e-12)) if isinstance(b, float) else bool(a == b)


@pytest.mark.parametrize("name", SOURCES)
def test_the_table_lists_what_differs_from_the_source_and_nothing_else(name: str, tmp_path: Path) -> None:
    ours, source = resolved(name, tmp_path), SOURCES[name]
    differs = {key: (theirs, ours[key]) for key, theirs in source.items() if not same(ours[key], theirs)}
    listed = {s.strip("`"): (value(a), value(b)) for names, s, a, b in rows() if name in names and s.startswith("`")}
    assert listed == differs


@pytest.mark.parametrize("name", [n for n in SOURCES if n != "marginmix_provenance"])
def test_no_setting_of_a_method_is_left_out(name: str, tmp_path: Path) -> None:
    ours, source = resolved(name, tmp_path), SOURCES[name]
    asked = {"train.batch", "train.unlabeled_batch", "split.unlabeled", "optimizer.name", "optimizer.lr"}
    asked |= {"optimizer.weight_decay", "schedule.name", "average.kind"}
    asked |= {
        k for k in ours if k.startswith(("method.", "labeler.")) or re.fullmatch(r"loss\.\w+\.(weight|rampup)", k)
    }
    asked |= {k[:-2] for k in asked if k.endswith(".rampup") and ours[k]}  # the shape, where there is a ramp
    asked |= {"augment.strong.name"} & {*ours}
    if source["average.kind"] == ours["average.kind"]:
        keys = {"ema": ("decay", "warmup", "buffers"), "swa": ("start", "every", "buffers")}[ours["average.kind"]]
        asked |= {f"average.{key}" for key in keys}
    asked |= {"optimizer.momentum", "optimizer.nesterov"} if ours["optimizer.name"] == "sgd" else {"optimizer.betas"}
    idle = {"method.name", "labeler.name"}
    if ours.get("labeler.align") == "none":
        idle |= {"labeler.align_momentum", "labeler.window"}
    elif source.get("labeler.window"):  # a window takes the place of the EMA
        idle |= {"labeler.align_momentum"} - source.keys()
    assert asked - idle <= source.keys()


def test_rows_name_recipes_and_recipes_have_sources() -> None:
    found = [names for names, *_ in rows()]
    assert len(found) >= 30
    assert {name for names in found for name in names} <= set(SOURCES)
    assert {name.partition(" ")[0] for name in SOURCES} | THE_PAPER | {"marginmix"} == RECIPES
    sources = DOCUMENT.partition("| recipes |")[0]
    for name in {*SOURCES, *RECIPES}:
        assert f"`{name.partition(' ')[0]}`{name.partition(' ')[1]}{name.partition(' ')[2]}" in sources, name


def test_comments_point_at_the_table() -> None:
    for path in (REPO / "recipes" / "methods").glob("*.toml"):
        if path.stem in SOURCES:
            assert "docs/methods.md" in path.read_text(), path
