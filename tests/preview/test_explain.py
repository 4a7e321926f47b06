"""What `mmctl recipe show` explains is what a step does, and what the schedules come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_project
from helpers.paths import REPO
from mmctl.preview.explain import explain, explanation_lines
from mmctl.preview.trace_step import TracedCall, trace_step, views_of
from mmctl.recipe.recipe import load
from mmctl.training.schedules import average_share, learning_rate, ramp

Mm = Callable[..., Any]
LABELER = TracedCall("labeler")
WEAK = "unlabelled, weak"


def test_the_passes_of_a_step_in_their_order() -> None:
    assert trace_step(tiny_project.training("supervised")) == [
        TracedCall("network", "labelled, weak", 12, "update", True)
    ]
    assert trace_step(tiny_project.training("mixmatch", "method.num_views=3")) == [
        *[TracedCall("network", WEAK, 12, "batch", False)] * 3,
        LABELER,
        TracedCall("network", "", 12, "update", True),
        *[TracedCall("network", "", 12, "batch", True)] * 3,
    ]
    running = trace_step(tiny_project.training("marginmix", "method.bn_groups=joint", "method.bn_update=all"))
    assert running == [
        TracedCall("network", "labelled, clean", 12, "update", False),
        TracedCall("network", f"2 x {WEAK}", 24, "update", False),
        LABELER,
        TracedCall("network", "", 36, "update", True),
    ]
    exact = trace_step(
        tiny_project.training("marginmix", "method.guesser=ema", "method.bn_groups=joint", "centroids.estimator=exact")
    )
    assert exact == [
        TracedCall("average", f"2 x {WEAK}", 24, "running", False),
        LABELER,
        TracedCall("network", "", 36, "update", True),
    ]


def test_views_are_named_and_mixed_images_are_not() -> None:
    a, b = torch.zeros(2, 1, 3, 3), torch.ones(4, 1, 3, 3)
    views = [("labelled, weak", a), ("unlabelled, weak", b)]
    assert views_of(a.clone(), views) == "labelled, weak"
    assert views_of(torch.cat((a, b, a)), views) == "labelled, weak; unlabelled, weak; labelled, weak"
    assert views_of(torch.cat((a, b, b)), views) == "labelled, weak; 2 x unlabelled, weak"
    assert views_of(torch.cat((a, b))[:5], views) == ""
    assert views_of(0.5 * b, views) == ""


def test_tracing_leaves_no_hooks_behind() -> None:
    run = tiny_project.training("marginmix", "method.guesser=ema")
    calls = {name: net.calls for name, net in run.nets.items()}
    trace_step(run)
    assert all(net.calls is calls[name] and not net._forward_pre_hooks for name, net in run.nets.items())
    assert not run.parts["labeler"]._forward_hooks
    run.loader.augments["weak"].apply = lambda x, **draws: 1 / 0
    run.method.step = lambda batch: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trace_step(run)
    assert all(type(net.calls) is list for net in run.nets.values())


def test_numbers_are_those_of_the_run() -> None:
    sets = ["loss.unlabeled.rampup=2000", "loss.margin_unlabeled.rampup=0.1", "train.sampling=balanced"]
    recipe = load(REPO / "recipes" / "digits.toml", sets)
    found = explain(recipe)
    assert found["failed"] is None
    assert found["pools"] == {"labeled": 40, "unlabeled": 1297}
    assert found["epochs"]["labeled"] == 500 * 64 / 40
    unlabeled = found["losses"]["unlabeled"]
    assert (unlabeled["ramp_steps"], unlabeled["ramp_share"]) == (2000, 4.0)
    assert unlabeled["weights"] == {at: ramp(at, 500, 10.0, 2000, "linear") for at in (0, 250, 499)}
    assert found["losses"]["margin_unlabeled"]["ramp_steps"] == 50
    assert found["losses"]["margin_unlabeled"]["ramp_epochs"] == 50 * 64 / 1297
    assert found["losses"]["labeled"]["ramp"] is None
    assert found["lr"] == {at: learning_rate(at, 500, 0.05, "cosine", 0, 0.0) for at in (0, 250, 499)}
    assert found["ema_horizon"] == pytest.approx(1 / 0.03)
    assert (found["evaluations"], found["every"]) == (10, 50)
    text = dict(explanation_lines(found))
    assert "last over" not in text["loss"]
    assert (
        "over 2,000 steps (4 times the run, 98.7 epochs of the unlabelled images; weight at the end 2.5)"
        in text["loss"]
    )
    assert (
        "images",
        "64 labelled per step (the same number of each class); 800.0 epochs over 40 images",
    ) in explanation_lines(found)
    assert text["evaluation"] == "every 50 steps, 10 in total; reported: the last one"


def test_options_that_differ_from_their_defaults_are_named() -> None:
    sets = ["loss.margin.normalize=both", "loss.margin_unlabeled.normalize=embeddings", "labeler.sharpening=printed"]
    sets += ["centroids.distance=plain", "centroids.normalize_embeddings=false"]
    lines = [*explanation_lines(explain(load(REPO / "recipes" / "digits.toml", sets)))]
    text = "\n".join(line for _, line in lines)
    assert 'margin: large_margin (normalize = "both"), weight 1' in text
    assert 'margin_unlabeled: large_margin (normalize = "embeddings"), weight 1' in text
    assert 'fuzzy (sharpening = "printed"): ' in text
    assert '(normalize_embeddings = false, distance = "plain")' in text
    assert "unlabeled: brier, weight 10" in text


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.97, 0.995, 0.999])
def test_when_an_average_has_its_whole_horizon(decay: float) -> None:
    found = explain(load(REPO / "recipes" / "digits-supervised.toml", [f"average.decay={decay}"]))
    first = next(t for t in range(10_000) if average_share(t, "ema", decay, True) <= 1 - decay + 1e-12)
    assert found["ema_warmup_steps"] == first


@pytest.mark.parametrize(
    "name", ["digits", "digits-mixmatch", "digits-supervised", "ferplus-small", "ferplus-2000", "ferplus/mixmatch"]
)
def test_shipped_recipes_are_explained_without_their_data(name: str) -> None:
    recipe = load(REPO / "recipes" / f"{name}.toml")
    found = explain(recipe)
    assert found["failed"] is None
    assert ("random images" in found["traced_on"]) == ("ferplus" in name)
    assert ("instead of" in found["traced_on"]) == ("ferplus" in name)
    assert set(found["losses"]) == set(recipe.slots)
    trained = [one for one in found["calls"] if one["gradient"]]
    assert trained
    assert all(one["net"] == "network" for one in trained)
    assert json.loads(json.dumps(found))


def test_show_is_still_a_recipe(mm: Mm) -> None:
    done = mm("recipe", "show", "digits", "--set", "train.steps=100")
    assert done.code == 0, done.err
    assert done.out.startswith("# method     marginmix: Labels by distance")
    for words in (
        "# step       1. forward pass of the network on 2 x 64 images (unlabelled, weak), no gradient; batch\n",
        "#              norm: batch statistics, running statistics not updated\n",
        "2. fuzzy makes pseudo-labels from the outputs of the network\n",
        "3. forward pass of the network on 192 images, with gradient; batch norm: batch\n",
        "# traced on  one training step on images of the data set\n",
        "# centroids  exact: recomputed before each step from at most 400 labelled images with the network\n",
    ):
        assert words in done.out, words
    assert max(len(line) for line in done.out.splitlines() if line.startswith("#")) <= 100
    Path("again.toml").write_text(done.out)
    assert load("again.toml").data == load("digits", ["train.steps=100"]).data
    plain = mm("recipe", "show", "digits", "--set", "train.steps=100", "--plain").out
    assert done.out.endswith("\n\n" + plain)
    assert not plain.startswith("#")


def test_show_as_json(mm: Mm) -> None:
    told = json.loads(mm("recipe", "show", "digits-mixmatch", "--json").out)
    assert told["schema_version"] == 1
    assert told["explained"]["calls"][0] == {
        "net": "network", "views": "unlabelled, weak", "images": 64, "bn": "batch", "gradient": False,
    }  # fmt: skip
    assert told["explained"]["losses"]["unlabeled"]["ramp_steps"] == 200
    assert "explained" not in json.loads(mm("recipe", "show", "digits-mixmatch", "--json", "--plain").out)


def test_a_dry_run_tells_the_same_step(mm: Mm) -> None:
    path = tiny_project.written("marginmix")
    shown = mm("recipe", "show", path).out
    planned = mm("run", path, "--dry-run", "--set", "train.threads=1")
    assert planned.code == 0, planned.err
    torch.set_num_threads(1)

    def said(text: str, heading: str) -> list[str]:
        found, here = [], False
        for line in (line.removeprefix("# ").removeprefix("#") for line in text.split("\n\n")[0].splitlines()):
            here = line.startswith(heading) or (here and line.startswith("   "))
            found += line.removeprefix(heading).split() if here else []
        return found

    for heading in ("method", "labeler", "views", "step", "centroids", "loss", "optimizer", "average", "evaluation"):
        assert said(planned.out, heading) == said(shown, heading) != [], heading


BROKEN = """
from torch import nn
from mmctl.plugin import method, LossTerm

@method("broken")
class Broken(nn.Module):
    '''Stumbles.\u0007'''
    views = {"x": ("weak",)}
    slots = {"labeled": LossTerm("soft_cross_entropy", 2.0)}
    default_labeler = None
    def __init__(self, model, losses):
        super().__init__()
    def step(self, batch):
        raise KeyError("what it wants")
"""


def test_a_step_that_cannot_be_made_hides_no_recipe(mm: Mm) -> None:
    path = tiny_project.written("broken")
    Path("plugins/broken.py").write_text(BROKEN)
    done = mm("recipe", "show", path)
    assert done.code == 0, done.err
    assert "# step       could not be run: KeyError: 'what it wants'\n" in done.out
    assert "# loss       labeled: soft_cross_entropy, weight 2\n" in done.out
    assert "\x07" not in done.out
    Path("again.toml").write_text(done.out)
    assert load("again.toml").method_name == "broken"
