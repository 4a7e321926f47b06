"""Mistakes that authors make: each ends in one line that names the component and the promise.

Those that one step can show end before a run folder exists; the rest is found by `mmctl plugins check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_project
from mmctl import project
from mmctl.errors import DataError, PluginError, UserError
from mmctl.plugin import JobState
from mmctl.recipe.recipe import load
from mmctl.registry.index import Index
from mmctl.runs.build import read_data, try_one_step
from mmctl.sweep.launch import choose_launcher
from mmctl.testing.check import contract_of, promises
from mmctl.testing.contract import Broken

HEAD = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from mmctl import ops
from mmctl.plugin import *

CALLS = []
"""

LABELER = (
    HEAD
    + '''
@labeler("mine")
class Mine(nn.Module):
    """Mine."""

    {attributes}
    def __init__(self, num_classes):
        super().__init__()
        {init}

    {above}
    def forward(self, *views, batch, labeled=None):
        p = views[0].probs
        {body}
'''
)
GOOD = "return PseudoLabels(p, torch.ones_like(p[:, 0]))"

LABELERS = [
    ("sum", "return PseudoLabels(2 * p, torch.ones_like(p[:, 0]))", "row sums from 2 to 2", True),
    ("negative", "return PseudoLabels(1.5 * p - 0.5 / p.shape[1], torch.ones_like(p[:, 0]))", "values from -", None),
    ("logits", "return PseudoLabels(views[0].logits, torch.ones_like(p[:, 0]))", "returns", True),
    ("weights 2", "return PseudoLabels(p, 2 * torch.ones_like(p[:, 0]))", "weights from 2 to 2", True),
    ("weights -1", "return PseudoLabels(p, -torch.ones_like(p[:, 0]))", "weights from -1", True),
    ("no masks", "return PseudoLabels(p, torch.zeros_like(p[:, 0]))", "masks = True", True),
    ("column", "return PseudoLabels(p, torch.ones_like(p[:, :1]))", "returns the weight float32", True),
    ("bool weights", "return PseudoLabels(p, p.amax(-1) > 2)", "returns the weight bool", True),
    ("list", "return PseudoLabels(p.tolist(), torch.ones_like(p[:, 0]))", "returns the target a list", True),
    ("classes", "return PseudoLabels(p.argmax(-1), torch.ones_like(p[:, 0]))", "returns the target int64", True),
    ("tensor", "return p", "returns float32", True),
    ("tuple", "return p, torch.ones_like(p[:, 0])", "returns a tuple", True),
    ("none", "pass", "returns None", True),
    ("too few", "return PseudoLabels(p[1:], torch.ones_like(p[1:, 0]))", "returns the target float32", True),
    ("nan", "return PseudoLabels(p * torch.nan, torch.ones_like(p[:, 0]))", "NaN or infinite", True),
    ("zero division", "return PseudoLabels(p / (p - p).sum(-1, keepdim=True), torch.ones_like(p[:, 0]))", "NaN", True),
    ("in place", "views[0].logits.data.mul_(2); " + GOOD, "changes the logits", True),
    ("item", "p.max().item(); " + GOOD, "reads a value of a tensor on the CPU", False),
    ("if", "p = p if p.max() > 0 else p * 1; " + GOOD, "reads a value of a tensor on the CPU", False),
    ("numpy", "p = torch.from_numpy(p.numpy()); " + GOOD, "raises", False),
    ("nonzero", "p.nonzero(); " + GOOD, "whose shape depends on values", False),
    ("device", "p = p * torch.ones(p.shape[1]); " + GOOD, "wrong device", False),
    ("shuffled", "p = p.flip(0); " + GOOD, "mixes up the rows", False),
    ("batch mean", "p = p / p.mean(0); p = p / p.sum(-1, keepdim=True); " + GOOD, "over two processes", False),
    ("global", "CALLS.append(1); p = p.roll(len(CALLS) % 2, -1); " + GOOD, "other labels at each call", False),
    ("log", "p = p.log(); p = p / p.sum(-1, keepdim=True); " + GOOD, "NaN or infinite", None),
]

LOSS = (
    HEAD
    + '''
@loss("mine")
class Mine(nn.Module):
    """Mine."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, out, target_BK, weight_B=None):
        loss_B = -(target_BK * out.logits.log_softmax(-1)).sum(-1)
        weight_B = torch.ones_like(loss_B) if weight_B is None else weight_B
        {body}
'''
)
LOSSES = [
    ("vector", "return loss_B * weight_B", "returns float32 [", True),
    ("float", "return (loss_B * weight_B).mean().item()", "returns a float", True),
    ("none", "pass", "returns None", True),
    ("detached", "return (loss_B * weight_B).mean().detach()", "without gradient", True),
    ("nan", "return (loss_B * weight_B).mean() * torch.nan", "returns nan", True),
    ("no weight", "return ops.global_mean(loss_B)", "with weights of 0.5", False),
    ("divides", "return (loss_B * weight_B).sum() / weight_B.sum()", "weights of 0.5", False),
    (
        "log of softmax",
        "return ops.global_mean(-(target_BK * out.probs.log()).sum(-1) * weight_B)",
        "returns nan",
        False,
    ),
    ("in place", "out.logits.data.mul_(2); return ops.global_mean(loss_B * weight_B)", "changes the logits", True),
    (
        "counter",
        "self.calls += 1; return ops.global_mean(loss_B * weight_B) * self.calls",
        "a checkpoint does not keep",
        False,
    ),
    ("order", "return ops.global_mean(loss_B * weight_B * torch.arange(len(loss_B)))", "order of the batch", False),
    (
        "item",
        "return ops.global_mean(loss_B * weight_B) * max(1.0, loss_B.detach().max().item() * 0 + 1)",
        "reads a value",
        False,
    ),
    ("part detached", "return ops.global_mean((loss_B * loss_B.detach()) * weight_B)", "wrong gradient", False),
    ("own mean", "return (loss_B * weight_B).mean()", "ranks", False),
    (
        "root of 0",
        "return ops.global_mean((loss_B + out.emb.square().sum(-1).sqrt()) * weight_B)",
        "gradient at distance 0",
        False,
    ),
]

AUGMENT = (
    HEAD
    + '''
@augment("mine")
class Mine:
    """Mine."""

    def __init__(self):
        self.calls = 0

    def draw(self, rng, n):
        {draw}

    def apply(self, x, **draws):
        {apply}
'''
)
FLIP = "return {'flip': rng.random(n) < 0.5}"
AUGMENTS = [
    ("shape", FLIP, "return x[..., 1:]", "makes uint8", True),
    ("float", FLIP, "return x / 255", "makes float32", True),
    ("range", FLIP, "return (x / 255).to(torch.uint8)", "values 0 and 1", True),
    ("none", FLIP, "pass", "makes None", True),
    ("in place", FLIP, "return x.fill_(7)", "changes the images that it is given", True),
    ("random", FLIP, "return (x * torch.rand(())).to(torch.uint8)", "global random numbers in apply", False),
    ("numpy random", "return {'a': np.random.rand(n)}", "return x.clone()", "global random numbers in draw", False),
    ("not a dict", "return rng.random(n)", "return x.clone()", "from draw", True),
    ("length", "return {'a': rng.random(n + 1)}", "return x.clone()", "draws a as float64", True),
    ("scalar", "return {'a': 3}", "return x.clone()", "draws a as a int", True),
    ("counter in apply", FLIP, "self.calls += 1; return x + self.calls", "a checkpoint does not keep", False),
    ("neighbours", FLIP, "return x.flip(0)", "depending on its neighbours", False),
    (
        "counter",
        "self.calls += 1; return {'a': np.full(n, self.calls)}",
        "return x + draws['a'].view(-1, 1, 1, 1).to(torch.uint8)",
        "other numbers from the same generator",
        False,
    ),
    (
        "item",
        FLIP,
        "return x.flip(-1) if draws['flip'].float().mean().item() > 2 else x.clone()",
        "reads a value",
        False,
    ),
]

BACKBONE = (
    HEAD
    + '''
@backbone("mine")
class Mine(nn.Module):
    """Mine."""

    def __init__(self, in_channels):
        super().__init__()
        self.embed_dim = 4
        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)
        {init}

    def forward(self, x):
        y = self.conv(x).mean((2, 3))
        {body}
'''
)
BACKBONES = [
    ("shape", "", "return y[:, :3]", "must give float [", True),
    ("tuple", "", "return y, y", "gives a tuple", True),
    ("no embed_dim", "del self.embed_dim", "return y", "embed_dim", True),
    ("float embed_dim", "self.embed_dim = 4.0", "return y", "embed_dim", True),
    ("detached", "", "return y.detach()", "without gradient", True),
    ("nan", "", "return y * torch.nan", "NaN", True),
    ("unused", "self.other = nn.Linear(2, 2)", "return y", "gives the parameter other.weight no gradient", False),
    ("random", "", "return y + torch.randn_like(y)", "random in eval mode", False),
    ("mixes", "", "return y - y.mean(0)", "mixes the images", False),
    ("counter", "self.n = 0", "self.n += 1; return y * self.n", "a checkpoint does not keep", False),
    ("weights", "CALLS.append(1); self.conv.weight.data *= len(CALLS)", "return y", "other initial weights", False),
    (
        "float32",
        "",
        "return y.index_add(0, torch.arange(len(y)), torch.zeros(len(y), 4))",
        "raises RuntimeError",
        False,
    ),
    ("plain tensor", "self.scale = torch.ones(4)", "return y * self.scale", "register_buffer", False),
    ("item", "", "return y * (1 if y.sum().item() > 0 else 2)", "reads a value", False),
    ("mean", "self.mean = self.std = (0.5, 0.5, 0.5)", "return y", "for 1 channels", False),
]

DATASET = (
    HEAD
    + '''
@dataset("mine")
def mine(root=None):
    """Mine."""
    x = np.arange(30 * 64, dtype=np.uint8).reshape(30, 1, 8, 8)
    y, ids, classes = np.arange(30) % 3, [f"i{{n}}" for n in range(30)], ("a", "b", "c")
    test = Images.of(x[:9].copy(), y[:9], classes, ids[:9])
    {body}
'''
)
DATASETS = [
    ("list", "return [Images.of(x, y, classes, ids), test]", "returns a list"),
    ("tuple in place of Images", "return {'train': (x, y), 'test': test}", "mmctl.plugin.Images"),
    ("no train", "return {'training': Images.of(x, y, classes, ids), 'test': test}", "for train"),
    ("no test", "return {'train': Images.of(x, y, classes, ids)}", "test or val"),
    (
        "strings",
        "return {'train': Images(x, np.array(['a'] * 30), classes, ids, 'f'), 'test': test}",
        "targets are <U1",
    ),
    ("list of targets", "return {'train': Images(x, y.tolist(), classes, ids, 'f'), 'test': test}", "targets are list"),
    ("list of pixels", "return {'train': Images(x.tolist(), y, classes, ids, 'f'), 'test': test}", "pixels are a list"),
    ("float pixels", "return {'train': Images(x / 255, y, classes, ids, 'f'), 'test': test}", "must be uint8"),
    ("NHWC", "return {'train': Images(x.reshape(30, 8, 8, 1), y, classes, ids, 'f'), 'test': test}", "N x H x W x C"),
    ("no channel", "return {'train': Images(x[:, 0], y, classes, ids, 'f'), 'test': test}", "N x C x H x W"),
    ("twice", "ids[3] = ids[4]; return {'train': Images.of(x, y, classes, ids), 'test': test}", "is there twice"),
    ("class twice", "return {'train': Images.of(x, y, ('a', 'b', 'a'), ids), 'test': test}", "class name 'a'"),
    ("no fingerprint", "return {'train': Images(x, y, classes, ids, ''), 'test': test}", "no fingerprint"),
    ("label range", "return {'train': Images.of(x, y + 1, classes, ids), 'test': test}", "labels go from"),
    ("other classes", "return {'train': Images.of(x, y, ('a', 'b', 'd'), ids), 'test': test}", "differ from train's"),
    ("fewer targets", "return {'train': Images.of(x, y[1:], classes, ids), 'test': test}", "do not match"),
    (
        "rows",
        "return {'train': Images.of(x, np.ones((30, 3), np.float32), classes, ids), 'test': test}",
        "no distribution",
    ),
]
MISLEADING = [
    ("order", "CALLS.append(1); x = np.roll(x, len(CALLS), 0)", "gives other images or another order of train"),
    (
        "fingerprint",
        "return {'train': Images(x, y, classes, ids, 'f'), 'test': Images(x[:9], y[:9], classes, ids[:9], 'f')}",
        "one fingerprint for different images",
    ),
    ("class", "y = np.minimum(y, 1)", "has no training image of c"),
    ("0 and 1", "x = x % 2", "values 0 and 1 only"),
]
"""What a run does not refuse."""

METHOD = (
    HEAD
    + '''
@method("mine")
class Mine(nn.Module):
    """Mine."""

    slots = {{"labeled": LossTerm("soft_cross_entropy")}}
    views = {{"x": ("weak",), "u": ("weak",)}}
    default_labeler = None
    {attributes}

    def __init__(self, model, losses):
        super().__init__()
        self.model, self.losses, self.calls = model, losses, 0

    def step(self, batch):
        out = self.model(batch.x[0], bn="update")
        loss = self.losses.labeled(out, batch.y)
        {body}
'''
)
METHODS = [
    ("no views", "views = None", "return StepOutput({'labeled': loss})", "has views = None", True),
    ("views as a list", "views = ['weak']", "return StepOutput({'labeled': loss})", "has views", True),
    ("views as a string", "views = {'x': 'weak'}", "return StepOutput({'labeled': loss})", "has views", True),
    ("no slots", "slots = {}", "return StepOutput({})", "has slots", True),
    ("slots as a list", "slots = ['labeled']", "return StepOutput({'labeled': loss})", "has slots", True),
    ("slots of words", "slots = {'labeled': 'brier'}", "return StepOutput({'labeled': loss})", "has slots", True),
    ("tensor", "", "return loss", "from step", True),
    ("dict", "", "return {'labeled': loss}", "from step", True),
    ("other slot", "", "return StepOutput({'label': loss})", "but its slots are ['labeled']", True),
    ("float metric", "", "return StepOutput({'labeled': loss}, {'m': 1.0})", "the metric m as a float", True),
    ("vector metric", "", "return StepOutput({'labeled': loss}, {'m': batch.y})", "the metric m as float32", True),
    ("vector loss", "", "return StepOutput({'labeled': loss[None]})", "returns float32 [1]", True),
    ("no gradient", "", "return StepOutput({'labeled': loss.detach()})", "only losses without gradient", True),
    ("nan", "", "return StepOutput({'labeled': loss * torch.nan})", "returns nan", True),
    ("pseudo-labels", "", "return StepOutput({'labeled': loss}, pseudo_labels=batch.y)", "pseudo_labels", True),
    ("bn word", "", "self.model(batch.x[0], bn='train'); return StepOutput({'labeled': loss})", "bn = 'train'", True),
    ("bn groups", "", "self.model.branches(*batch.u, bn='update', bn_groups='all')", "bn_groups = 'all'", True),
    ("no effect", "", "return StepOutput({'labeled': loss * 0})", "does not change the network", False),
    ("counter", "", "self.calls += 1; return StepOutput({'labeled': loss * self.calls})", "does not continue", False),
    ("item", "", "return StepOutput({'labeled': loss * (loss.item() * 0 + 1)})", "reads a value", False),
]  # fmt: skip

LAUNCHER = (
    HEAD
    + '''
@launcher("mine")
class Mine:
    """Mine."""

    def start(self, run_dirs, name):
        return [folder.name for folder in run_dirs]

    def states(self, ids):
        return {{one: JobState("gone" if one == "no-such-job" else "completed") for one in ids}}

    def cancel(self, ids): ...

    def limits(self):
        return Limits(1)

    {body}
'''
)
LAUNCHERS = [
    ("no limits", "limits = None", "has no method limits", True),
    ("number", "limits = lambda self: 2", "returns 2 from limits", True),
    (
        "no slots",
        "limits = lambda self: Limits(0)",
        "returns Limits(slots=0, chunk=None, submitted=None) from limits",
        True,
    ),
    ("raises", "limits = lambda self: 1 / 0", "raises ZeroDivisionError in limits", True),
    ("fewer ids", "start = lambda self, run_dirs, name: ['a']", "returns the ids ['a'] for 2 runs", False),
    ("one id", "start = lambda self, run_dirs, name: ['a', 'a']", "returns the ids ['a', 'a'] for 2 runs", False),
    ("unknown state", "states = lambda self, ids: dict.fromkeys(ids, 'PENDING')", "returns the states {", False),
    ("no state", "states = lambda self, ids: {}", "returns the states {}", False),
    ("knows all", "states = lambda self, ids: dict.fromkeys(ids, JobState('queued'))", "for an unknown id", False),
    ("no find", "lasting = True", "has no method find", True),
    ("finds nothing", "lasting = True; find = lambda self, name: []", "finds [] by the name of the runs", False),
    ("finds all", "lasting = True; find = lambda self, name: ['a']", "a name that was never used", False),
    ("starts nothing", "", "has started no run in 1 s", False),
    ("chunk", "limits = lambda self: Limits(1, chunk=0)", "Limits(slots=1, chunk=0", False),
    ("other than the folder", "", "says completed of a run whose folder says", False),
    ("cancelled", "", "says ['completed', 'completed'] of cancelled runs", False),
    (
        "no end",
        "states = lambda self, ids: dict.fromkeys(ids, JobState('running'))",
        "has not ended 2 short runs in 1 s",
        False,
    ),
]

SIGNATURES = [
    ("no docstring", '"""Mine."""', '""', "has no docstring"),
    ("no meaning", "def __init__(self)", "def __init__(self, *, m: float = 1.0)", "does not explain its parameter m"),
    ("no type", "def __init__(self)", "def __init__(self, *, m=1.0)", "parameter m has no type"),
    (
        "supplied",
        "def __init__(self)",
        "def __init__(self, classes)",
        "classes is before the *, but mmctl supplies only",
    ),
    ("draws at import", "CALLS = []", "CALLS = [torch.rand(1)]", "draws random numbers while its file is imported"),
]


def written(text: str) -> Path:
    path = project.plugins_dir() / "mine.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def broken(kind: str) -> list[str]:
    """What `plugins check` says of the component."""
    torch.set_num_threads(1)
    index = Index(sources="local")
    contract: Any = contract_of(index.find(kind, "mine"), index, {})
    if kind in ("augment", "backbone"):
        contract.sizes = ((1, 8, 8),)
    if kind == "launcher":
        contract.seconds = 1
    return [p.broken for p in promises(contract) if p.broken]


def before_a_run(*sets: str, method: str = "fixmatch") -> None:
    """What `mmctl run` does before it makes a run folder."""
    recipe = load(tiny_project.written(method), sets=sets, index=Index(sources="local"))
    try_one_step(recipe, read_data(recipe))


def judged(kind: str, words: str, before: bool | None, *sets: str, method: str = "fixmatch") -> None:
    found = broken(kind)
    assert found, "not found by plugins check"
    assert any(words in line for line in found), found
    assert all(f"{kind} plugins:mine" in line or "bn" in line or "dataset" in line for line in found), found
    assert not [line for line in found if line.count("\n") > 1]
    if before:
        with pytest.raises(UserError) as error:
            before_a_run(*sets, method=method)
        assert words in str(error.value)
        assert "mine" in str(error.value) or "bn" in str(error.value)


def ids(rows: Any) -> list[str]:
    return [row[0] for row in rows]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "body", "words", "before"), LABELERS, ids=ids(LABELERS))
def test_labeler(name: str, body: str, words: str, before: bool | None) -> None:
    written(LABELER.format(attributes="", init="pass", above="@torch.no_grad()", body=body))
    judged("labeler", words, before, "labeler.name=plugins:mine")


def test_labeler_with_gradient() -> None:
    written(LABELER.format(attributes="", init="pass", above="", body=GOOD))
    assert any("with gradient" in line for line in broken("labeler"))


@pytest.mark.parametrize("state", ["self.n = 0", "self.t = torch.zeros(())"])
def test_labeler_with_state_outside_buffers(state: str) -> None:
    name = state[5]
    body = f"self.{name} += 1; p = (p.log() * (1 + self.{name})).softmax(-1); {GOOD}"
    written(LABELER.format(attributes="", init=state, above="@torch.no_grad()", body=body))
    assert any("a checkpoint does not keep" in line for line in broken("labeler"))


def test_a_good_labeler_breaks_nothing() -> None:
    written(LABELER.format(attributes="", init="pass", above="@torch.no_grad()", body=GOOD))
    assert broken("labeler") == []


@pytest.mark.parametrize(("name", "body", "words", "before"), LOSSES, ids=ids(LOSSES))
def test_loss(name: str, body: str, words: str, before: bool) -> None:
    written(LOSS.format(body=body))
    judged("loss", words, before, "loss.labeled.name=plugins:mine")


@pytest.mark.parametrize(("name", "draw", "apply", "words", "before"), AUGMENTS, ids=ids(AUGMENTS))
def test_augment(name: str, draw: str, apply: str, words: str, before: bool) -> None:
    written(AUGMENT.format(draw=draw, apply=apply))
    judged("augment", words, before, "augment.weak.name=plugins:mine")


@pytest.mark.parametrize(("name", "init", "body", "words", "before"), BACKBONES, ids=ids(BACKBONES))
def test_backbone(name: str, init: str, body: str, words: str, before: bool) -> None:
    written(BACKBONE.format(init=init or "pass", body=body))
    judged("backbone", words, before, "backbone.name=plugins:mine")


@pytest.mark.parametrize(("name", "body", "words"), DATASETS, ids=ids(DATASETS))
def test_dataset(name: str, body: str, words: str) -> None:
    written(DATASET.format(body=body))
    found = broken("dataset")
    assert any(words in line for line in found), found
    with pytest.raises(DataError) as error:
        before_a_run("dataset.name=plugins:mine", "split.labels=9", method="supervised")
    assert "mine" in str(error.value)
    assert words in str(error.value)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "attributes", "body", "words", "before"), METHODS, ids=ids(METHODS))
def test_method(name: str, attributes: str, body: str, words: str, before: bool) -> None:
    written(METHOD.format(attributes=attributes, body=body))
    judged("method", words, before, method="plugins:mine")


def test_a_labeler_that_masks_is_refused_by_a_method_that_mixes() -> None:
    written(LABELER.format(attributes="masks = True", init="pass", above="@torch.no_grad()", body=GOOD))
    with pytest.raises(Exception, match="mixes all pseudo-labels and cannot use a labeler that masks"):
        before_a_run("labeler.name=plugins:mine", method="mixmatch")


@pytest.mark.parametrize(("name", "body", "words"), MISLEADING, ids=ids(MISLEADING))
def test_dataset_that_misleads(name: str, body: str, words: str) -> None:
    end = "return {'train': Images.of(x, y, classes, ids), 'test': test}"
    written(DATASET.format(body=body if "return" in body else f"{body}; {end}"))
    found = broken("dataset")
    assert any(words in line for line in found), found
    assert all(line.startswith("dataset plugins:mine ") for line in found)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "body", "words", "before"), LAUNCHERS, ids=ids(LAUNCHERS))
def test_launcher(name: str, body: str, words: str, before: bool) -> None:
    written(LAUNCHER.format(body=body))
    found = broken("launcher")
    assert any(line.startswith("launcher plugins:mine ") and words in line for line in found), found
    if before:
        recipe = tiny_project.recipe("supervised", "launcher.name=plugins:mine")
        with pytest.raises(PluginError) as error:
            choose_launcher([recipe], 0)
        assert words in str(error.value)


@pytest.mark.slow
def test_launcher_that_calls_a_killed_run_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmctl.launchers.local._end", lambda code: JobState("completed"))
    index = Index(sources="off")
    contract: Any = contract_of(index.find("launcher", "local"), index, {})
    with pytest.raises(Broken, match="of a run that was killed"):
        contract().test_kill()


@pytest.mark.parametrize(("name", "old", "new", "words"), SIGNATURES, ids=ids(SIGNATURES))
def test_signature(name: str, old: str, new: str, words: str) -> None:
    text = LOSS.format(body="return ops.global_mean(loss_B * weight_B)")
    assert old in text
    written(text.replace(old, new))
    found = broken("loss")
    assert any(line.startswith("loss plugins:mine ") and words in line for line in found), found
