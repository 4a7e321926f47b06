"""ReMixMatch's step against float64 loops, gradients and batch norm included; turns, anchors and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.method_checks import assert_replayed_is_taken, assert_resumed_is_unbroken, pretend
from helpers.method_steps import doubles, mixed, steps_of
from helpers.reference_math import Rows, cross_entropy, mean, numeric, power, reference_interleave, softmax
from helpers.tiny_project import recipe, training
from mmctl.augments import _pil_ops
from mmctl.errors import PluginError
from mmctl.methods.remixmatch import ReMixMatch, rotated
from mmctl.plugin import Images
from mmctl.runs.build import build_training, read_data
from mmctl.training.state import Training

K, N = 3, 12
LEARNED = ("augment.strong.name=ctaugment", "augment.probe.name=ctaugment_probe", "augment.probe.after=weak")
WEIGHT = {"labeled": 1.0, "unlabeled": 1.5, "strong": 0.4, "rotation": 0.6}


def entropies(logits: Rows, ys: Rows) -> float:
    return mean([cross_entropy(a, y) for a, y in zip(logits, ys, strict=True)])


def grouped(sizes: list[int], group: str) -> list[list[int]]:
    """Rows of each batch-norm group."""
    rows = [str(i) for i in range(sum(sizes))]
    order = [rows[sum(sizes[:p]) : sum(sizes[: p + 1])] for p in range(len(sizes))]
    groups = {"interleave": reference_interleave, "joint": lambda _: [rows], "each": lambda o: o}[group](order)
    return [[int(r) for r in g] for g in groups]


def forward(run: Training, xs: list[Tensor], group: str) -> Tensor:
    """Logits of all images in order."""
    flat = torch.cat(xs)
    found: dict[int, Tensor] = {}
    for rows in grouped([len(x) for x in xs], group):
        found |= dict(zip(rows, run.model(flat[rows], bn="batch").logits, strict=True))
    return torch.stack([found[i] for i in range(len(flat))])


def quarter_turns(image: list[Any], k: int) -> list[Any]:
    """An image (rows of pixels) turned to the left k times."""
    for _ in range(k):
        image = [[row[j] for row in image] for j in reversed(range(len(image[0])))]
    return image


@pytest.mark.sampled(2)
@pytest.mark.parametrize("view", ["strong", "weak"])
@pytest.mark.parametrize("group", ["interleave", "joint", "each"])
def test_remixmatch_is_its_equations(group: str, view: str) -> None:
    sets = ("method.num_strong=2", f"method.bn_groups={group}", f"method.labeled_view={view}", "labeler.window=4")
    run = training("remixmatch", *sets)
    steps_of(run, 0, 5)
    batch = doubles(run, 5)
    assert run.method.views == {"x": (view,), "u": ("weak", "strong", "strong")}
    # The anchor's label: aligned by the last four batches, this one included, then sharpened.
    anchor = [softmax(a) for a in run.model(batch.u[0], bn="batch").logits.tolist()]
    ring = run.method.labeler.window_WK.tolist()
    ring[5 % 4] = [mean(list(c)) for c in zip(*anchor, strict=True)]
    seen = [mean(list(c)) for c in zip(*ring, strict=True)]
    prior = [mean(list(c)) for c in zip(*run.loader.target_NK.tolist(), strict=True)]
    labels = []
    for p in anchor:
        q = [a * (w + 1e-6) / (s + 1e-6) for a, w, s in zip(p, prior, seen, strict=True)]
        labels.append(power([v / sum(q) for v in q], 0.5))
    xs, ys = mixed(batch, batch.y.tolist() + labels * 3)
    turn = [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    turned = [quarter_turns(image[0].tolist(), k) for image, k in zip(batch.u[1], turn, strict=True)]
    outs = [
        forward(run, xs, group),
        run.model(batch.u[1], bn="batch").logits,
        run.method.rotate(run.model(torch.tensor(turned, dtype=torch.float64)[:, None], bn="batch").emb),
    ]

    def slow(all_: Rows, plain: Rows, rotation: Rows) -> dict[str, float]:
        return {
            "labeled": entropies(all_[:N], ys[:N]),
            "unlabeled": entropies(all_[N:], ys[N:]),
            "strong": entropies(plain, labels),
            "rotation": entropies(rotation, [[float(k == c) for c in range(4)] for k in turn]),
        }

    def total(*lists: Rows) -> float:
        return sum(WEIGHT[k] * v for k, v in slow(*lists).items())

    lists = [out.tolist() for out in outs]
    slopes = [
        numeric(lambda rows, n=n: total(*lists[:n], rows, *lists[n + 1 :]), lists[n])  # type: ignore[misc]
        for n in range(3)
    ]
    params = [*run.model.parameters(), *run.method.rotate.parameters()]
    slowly = torch.autograd.grad(outs, params, [torch.tensor(g, dtype=torch.float64) for g in slopes])
    terms = run.method.step(batch)
    assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx(slow(*lists), rel=1e-8)
    assert terms.pseudo_labels.target.tolist() == [pytest.approx(q, rel=1e-8) for q in labels]
    torch.stack([WEIGHT[k] * v for k, v in terms.losses.items()]).sum().backward()
    for p, g in zip(params, slowly, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("group", ["interleave", "joint", "each"])
def test_running_statistics_are_those_of_the_last_group(group: str) -> None:
    run = training("remixmatch", "method.num_strong=2", f"method.bn_groups={group}")
    steps_of(run, 0, 3)
    batch = run.loader.batch(run.staged(3))
    net = copy.deepcopy(run.model)
    net._norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    labels = copy.deepcopy(run.method.labeler)(net(batch.u[0], bn="batch"), batch=batch).target
    everything = torch.cat([batch.x[0], *batch.u])
    lam, partner = batch.draws["mix"]["lam"], batch.draws["mix"]["partner"]
    images = torch.lerp(everything[partner], everything, lam[:, None, None, None])
    net(images[grouped([N] * 4, group)[-1]], bn="update")
    guess = run.method.step(batch).pseudo_labels
    assert torch.allclose(guess.target, labels)
    for (name, a), b in zip(run.model.named_buffers(), net.buffers(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-5), name


@pytest.mark.parametrize("size", [1, 2, 5])
def test_images_are_turned_one_by_one(size: int) -> None:
    x = torch.randn(9, 2, size, size, generator=torch.Generator().manual_seed(0))
    turn = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 2])
    got = rotated(x, turn)
    for image, original, k in zip(got, x, turn.tolist(), strict=True):
        for plane, before in zip(image.tolist(), original.tolist(), strict=True):
            assert plane == quarter_turns(before, k)


@pytest.mark.parametrize("u", [4, 12, 64, 70])
def test_each_turn_has_a_quarter_of_the_images(u: int) -> None:
    method = training("remixmatch").method
    turn = method.draw(np.random.default_rng(0), 12, u)["turn"]
    counts = np.bincount(turn, minlength=4)
    assert turn.shape == (u,)
    assert counts.max() - counts.min() <= 1
    if u % 8 == 0:  # every second row of them too: two ranks see all turns alike
        assert np.bincount(turn[::2]).tolist() == [u // 8] * 4


def test_the_rotation_head_is_trained_and_saved_and_not_averaged() -> None:
    run = training("remixmatch")
    before = run.method.rotate.weight.detach().clone()
    steps_of(run, 0, 2)
    assert not torch.equal(run.method.rotate.weight, before)
    names = run.tensors()
    assert {"method.rotate.weight", "optimizer.method.rotate.weight.momentum_buffer"} <= set(names)
    assert not any(name.startswith("ema") and "rotate" in name for name in names)


def test_the_side_tasks_can_be_learned() -> None:
    run = training("remixmatch", "method.num_strong=1", "train.steps=40")
    first = run.method.step(run.loader.batch(run.staged(0))).losses["rotation"].item()
    steps_of(run, 0, 40)
    last = run.method.step(run.loader.batch(run.staged(40))).losses["rotation"].item()
    assert first > 1.2  # about log 4
    assert last < first - 0.1


def test_many_strong_views_are_the_papers() -> None:
    assert training("remixmatch").method.views["u"] == ("weak", *["strong"] * 8)


def test_a_strong_view_has_numbers_of_its_own() -> None:
    run = training("remixmatch", "method.num_strong=2")
    batch = run.loader.batch(run.staged(0))
    assert not torch.equal(batch.u[1], batch.u[2])


def test_unequal_batches_need_a_joint_group() -> None:
    sizes = ("train.batch=6", "train.unlabeled_batch=12")
    run = training("remixmatch", *sizes, "method.bn_groups=joint", "method.num_strong=1")
    steps_of(run, 0, 2)
    with pytest.raises(Exception, match="interleave"):
        steps_of(training("remixmatch", *sizes), 0, 1)


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        ReMixMatch(*[torch.nn.Identity()] * 2, SimpleNamespace(), {}, 6, (8, 12))
    made = recipe("remixmatch")
    data = read_data(made)
    for name, part in data.images.items():
        pixels = torch.cat([part.pixels, part.pixels], 3)
        data.images[name] = Images(pixels, part.targets, part.classes, part.ids, part.fingerprint)
    with pytest.raises(PluginError, match="square, not"):
        build_training(made, data, torch.device("cpu"), None)


def test_a_probe_is_one_more_labelled_view_and_teaches_the_strong_policy() -> None:
    run = training("remixmatch", "method.num_strong=1", *LEARNED)
    assert run.method.views["x"] == ("strong", "probe")
    rate: Any = run.parts["augment.strong"].rate_OPV
    assert torch.equal(rate, torch.ones_like(rate))
    steps_of(run, 0, 3)
    moved = rate[rate != 1]
    assert len(moved) > 12
    assert 0 < moved.min() < moved.max() < 1  # an untrained network recognises little, and each bin as it comes
    assert list(run.tensors()).count("augment.strong.rate_OPV") == 1


@pytest.mark.parametrize("name", ["fixmatch", "remixmatch"])
def test_a_strong_policy_without_a_probe_keeps_its_rates(name: str) -> None:
    run = training(name, LEARNED[0])
    steps_of(run, 0, 2)
    rate: Any = run.parts["augment.strong"].rate_OPV
    assert torch.equal(rate, torch.ones_like(rate))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fixmatch", "remixmatch"])
def test_what_a_strong_policy_has_learned_is_part_of_a_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (*LEARNED, *(["method.num_strong=1"] if name == "remixmatch" else []))
    assert_resumed_is_unbroken(name, sets, tmp_path)
    pretend(training(name, *sets))
    monkeypatch.setattr(_pil_ops, "readable", lambda t: False)  # as on a GPU, where no shortcut looks at the draws
    assert_replayed_is_taken(name, sets)
