"""What every method must do, over all methods of the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from helpers.command import Result
from helpers.method_cases import METHODS, SEMI, SOFT, VARIANTS, every_case, every_method
from helpers.method_checks import assert_resumed_is_unbroken, pretend
from helpers.method_steps import doubles, steps_of, terms_of
from helpers.tiny_project import recipe, training, written
from mmctl.data.transfer import Plan
from mmctl.plugin import Batch, PseudoLabels
from mmctl.training.loop import Point, device_step, train

ALONE = ("pi_model", "temporal_ensembling", "mean_teacher", "vat", "pseudo_label")
"""Methods whose labelled branch is that of `supervised`: without their other terms they are it, to the last bit."""
U, B, G = (12, "update", True), (12, "batch", True), (12, "batch", False)
FORWARDS = {
    "supervised": [U],
    "mixmatch": [G, G, U, B, B],
    "marginmix": [G, G, G, U, B, B],
    "mixup_ssl": [G, U, B],
    "pi_model": [U, B, B],
    "temporal_ensembling": [U, B],
    "mean_teacher": [U, B],
    "ict": [U, B],
    "vat": [U, B, G, B, B],
    "pseudo_label": [U, B],
    "fixmatch": [(36, "update", True)],
    "freematch": [(36, "update", True)],
    "uda": [(36, "update", True)],
    "remixmatch": [G, *[B] * 9, U, B, B],  # the anchor; labelled, anchor and 8 strong mixed; strong and rotated alone
}
"""Forwards of a step, in order: images, batch norm, gradient. A method that is not here is held to the rest alone."""


def test_there_are_methods() -> None:
    assert {"supervised", "mixmatch", "marginmix"} <= set(METHODS)
    assert set(VARIANTS) | set(SOFT) | set(ALONE) | set(FORWARDS) <= set(METHODS)


@pytest.mark.sampled(6, 2)
@every_method
def test_the_labelled_loss_falls(method: str) -> None:
    run = training(method, "train.steps=40", *SOFT.get(method, ()))
    points = [e.values for e in train(run, lambda: False) if isinstance(e, Point)]
    assert len(points) == 10
    first, last = (sum(p["train/labeled"] for p in part) / 2 for part in (points[:2], points[-2:]))
    assert last < first - 0.1


@pytest.mark.sampled(12, 3)
@every_case
def test_every_slot_is_a_finite_number(method: str, sets: tuple[str, ...]) -> None:
    run = training(method, *sets)
    for step in range(3):
        terms = terms_of(run, step)
        assert set(terms.losses) == set(run.slots)
        for name, value in (*terms.losses.items(), *terms.metrics.items()):
            assert value.dim() == 0, name
            assert torch.isfinite(value), name
        assert all(v.requires_grad for v in terms.losses.values())
        if terms.pseudo_labels is not None:
            target, weight = terms.pseudo_labels
            assert target.shape == (12, 3)
            assert target.sum(-1).tolist() == pytest.approx([1.0] * 12, abs=1e-5)
            assert weight.min() >= 0
            assert weight.max() <= 1
            assert not target.requires_grad


@pytest.mark.sampled(6, 2)
@every_method
def test_each_term_pulls_at_the_student_and_not_at_its_average(method: str) -> None:
    run = training(method, *SOFT.get(method, ()))
    steps_of(run, 0, 20)
    terms = terms_of(run, 20)
    weights = list(run.model.backbone.parameters())
    for name, value in terms.losses.items():
        # The margin is won by then; all other losses of the package have their least value at 0.
        loss = run.slots[name].loss
        assert value.item() < 0 if loss == "mmctl:large_margin" else value.item() > 0 or not loss, name
        gradients = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 1e-6, name
    torch.stack(list(terms.losses.values())).sum().backward()
    assert run.ema is not None
    assert all(p.grad is None for p in run.ema.parameters())


@pytest.mark.sampled(12, 3)
@every_case
def test_batch_norm_changes_on_the_declared_forwards_alone(method: str, sets: tuple[str, ...]) -> None:
    run = training(method, *sets)
    steps_of(run, 0, 2)
    ema = None if run.ema is None else {k: b.clone() for k, b in run.ema.named_buffers()}
    before = {k: b.clone() for k, b in run.model.named_buffers()}
    run.model.calls.clear()
    terms_of(run, 2)
    calls = run.model.calls
    updates = sum(bn == "update" for _, bn, _ in calls)
    assert updates == len(calls) if "method.bn_update=all" in sets else updates >= 1
    if not sets and method in FORWARDS:
        assert calls == FORWARDS[method]
    for k, b in run.model.named_buffers():
        if k.endswith("num_batches_tracked"):
            assert int(b - before[k]) == updates
    guesses = [c for c in calls if not c[2]]
    if "method.bn_update=all" not in sets:
        assert all(bn != "update" for _, bn, _ in guesses)  # guessing leaves the statistics alone
    if ema is not None and run.ema is not None:
        assert all(torch.equal(b, ema[k]) for k, b in run.ema.named_buffers())


class Reading(nn.Module):
    """A labeler that waits for the device, which none may."""

    def forward(self, *views: Any, batch: Batch, labeled: Any = None) -> PseudoLabels:
        target = views[0].probs.detach()
        return PseudoLabels(target, torch.full((len(target),), target.amax().item()))


@pytest.mark.sampled(12, 3)
@every_case
def test_a_step_never_waits_for_the_device(method: str, sets: tuple[str, ...]) -> None:
    pretend(training(method, *sets))


def test_waiting_for_the_device_is_seen() -> None:
    run = training("mixmatch")
    run.method.labeler = Reading()
    with pytest.raises(DataDependentOutputException):
        pretend(run)


@pytest.mark.sampled(12)
@every_case
def test_a_resumed_run_is_the_unbroken_one(method: str, sets: tuple[str, ...], tmp_path: Path) -> None:
    assert_resumed_is_unbroken(method, sets, tmp_path)


@pytest.mark.sampled(6, 2)
@every_method
def test_a_term_of_weight_zero_adds_no_gradient(method: str) -> None:
    run = training(method)
    for off in [s for s in run.slots if s != "labeled"]:
        others = [s for s in run.slots if s != off]
        sets = [f"loss.{off}.weight=0", *(f"loss.{s}.rampup=0" for s in others)]
        shut = training(method, *sets)
        steps_of(shut, 0, 3)
        expected = training(method, *sets)
        for step in range(3):
            plan = expected.staged(step)
            batch = expected.loader.batch(plan)
            terms = expected.method.step(batch)
            # The sum without the term at all.
            torch.stack([plan.weight[s] * terms.losses[s] for s in others if plan.weight[s]]).sum().backward()
            expected.optimizer.step(plan.lr)
            assert expected.ema is not None
            expected.ema.update_average(plan.share)
        for k, p in shut.owned.items():
            assert torch.allclose(p.double(), expected.owned[k].double(), rtol=1e-4, atol=1e-6), (off, k)


@pytest.mark.parametrize("method", ALONE)
def test_without_its_other_terms_it_is_supervised_to_the_last_bit(method: str) -> None:
    off = [f"loss.{s}.weight=0" for s in training(method).slots if s != "labeled"]
    assert off
    run, plain = training(method, *off), training("supervised")
    steps_of(run, 0, 6)
    steps_of(plain, 0, 6)
    ours, theirs = run.tensors(), plain.tensors()
    names = [k for k in theirs if k.startswith(("model.", "ema.", "optimizer."))]
    assert len(names) > 30
    assert [k for k in names if not torch.equal(ours[k], theirs[k])] == []


@pytest.mark.sampled(6, 2)
@pytest.mark.parametrize("method", SEMI)
def test_unlabelled_images_teach_something(method: str) -> None:
    """A consistency loss that compares a thing with itself is 0 for ever, and every run still looks well."""
    run = training(method, *SOFT.get(method, ()))
    steps_of(run, 0, 20)
    plan = run.plan(20)
    terms = run.method.step(run.loader.batch(run.transfer(plan)))
    others = {k: v for k, v in terms.losses.items() if k != "labeled" and plan.weight[k]}
    assert max(abs(v.item()) for v in others.values()) > 1e-4
    total = torch.stack([plan.weight[k] * v for k, v in others.items()]).sum()
    gradients = torch.autograd.grad(total, list(run.model.backbone.parameters()))
    assert sum(float(g.abs().sum()) for g in gradients) > 1e-4


class Order:
    """The rows of a batch of 12 labelled and 10 unlabelled images in another order, the step's draws with them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.x, self.u = torch.from_numpy(rng.permutation(12)), torch.from_numpy(rng.permutation(10))

    def __call__(self, batch: Batch) -> Batch:
        x, u = self.x, self.u if batch.u else self.u[:0]
        return Batch(
            x=tuple(v[x] for v in batch.x), u=tuple(v[u] for v in batch.u), y=batch.y[x], step=batch.step,
            index_x=batch.index_x[x], index_u=batch.index_u[u], draws=self.drawn(batch.draws),
            view_draws={k: self.drawn(v) for k, v in batch.view_draws.items()},
        )  # fmt: skip

    def rows(self, n: int) -> Tensor:
        """Those of a draw for the labelled batch, for k unlabelled ones, or for the labelled and k unlabelled ones."""
        first = (n - 12) % 10 == 0
        whole = [self.x] if first else []
        for start in range(12 * first, n, 10):
            whole.append(self.u + start)
        found = torch.cat(whole)
        assert sorted(found.tolist()) == list(range(n))
        return found

    def drawn(self, draws: Any) -> Any:
        if isinstance(draws, Tensor):
            return draws[self.rows(len(draws))] if draws.dim() else draws
        if not isinstance(draws, dict):
            return draws
        moved = {k: self.drawn(v) for k, v in draws.items()}
        if "partner" in draws:  # it names places, which have moved as well
            moved["partner"] = self.rows(len(draws["partner"])).argsort()[moved["partner"]]
        return moved


@pytest.mark.sampled(12, 3)
@every_case
def test_the_order_of_a_batch_does_not_matter(method: str, sets: tuple[str, ...]) -> None:
    sets = (*sets, "train.unlabeled_batch=10")
    if recipe(method, *sets).data["method"].get("bn_groups") == "interleave":
        sets = (*sets, "method.bn_groups=joint")  # whose batch-norm groups are made by place
    found = []
    for order in (lambda batch: batch, Order()):
        run = training(method, *sets)
        steps_of(run, 0, 5)
        run.refit()
        terms = run.method.step(order(doubles(run, 5)))
        for value in terms.losses.values():
            value.backward(retain_graph=True)
        grads = [p.grad for p in run.model.backbone.parameters() if p.grad is not None]
        found.append(({k: v.item() for k, v in terms.losses.items()}, torch.cat([g.flatten() for g in grads])))
    (losses, grad), (moved, moved_grad) = found
    assert moved == pytest.approx(losses, rel=1e-7)
    assert torch.allclose(moved_grad, grad, rtol=1e-5, atol=1e-9)


@pytest.mark.sampled(12, 3)
@every_case
def test_extreme_logits_are_finite(method: str, sets: tuple[str, ...]) -> None:
    run = training(method, *sets)
    steps_of(run, 0, 3)
    with torch.no_grad():
        for net in run.nets.values():
            net.head.weight.mul_(1e6)
    batch = run.loader.batch(run.staged(3))
    assert run.model(batch.x[0], bn="batch").logits.abs().max() > 1e4
    terms = run.method.step(batch)
    for name, value in (*terms.losses.items(), *terms.metrics.items()):
        assert torch.isfinite(value), name
    torch.stack(list(terms.losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in run.params if p.grad is not None)


@pytest.mark.sampled(12, 3)
@every_case
def test_half_precision_is_near(method: str, sets: tuple[str, ...]) -> None:
    whole, half = training(method, *sets), training(method, *sets, precision=torch.bfloat16)
    expected = {k: v.item() for k, v in terms_of(whole, 0).losses.items()}
    assert {k: v.item() for k, v in terms_of(half, 0).losses.items()} == pytest.approx(expected, rel=0.1, abs=0.02)
    steps_of(half, 0, 3)
    assert half.model.precision is torch.bfloat16
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in half.params)


def test_weights_multiply_their_terms() -> None:
    run = training("marginmix", "loss.margin.weight=0.3", "loss.margin_unlabeled.rampup=4", "loss.unlabeled.weight=2")
    plan: Plan = run.plan(1)
    assert plan.weight == pytest.approx({"labeled": 1.0, "margin": 0.3, "margin_unlabeled": 0.1, "unlabeled": 2.0})
    terms = terms_of(training("marginmix"), 1)
    device_step(run, run.transfer(plan))
    read = run.metrics.read()
    assert read["loss"] == pytest.approx(sum(plan.weight[k] * terms.losses[k].item() for k in terms.losses), rel=1e-4)


# The equations, slowly ------------------------------------------------------------------------------------------


def test_calls_are_those_of_the_last_step(tmp_path: Path) -> None:
    run = training("marginmix", "method.guesser=ema", "train.steps=12", "eval.every=3")
    list(train(run, lambda: False))
    steps_of(run, 0, 1)
    assert [len(net.calls) for net in run.nets.values()] == [3, 2 + run.centroids.per_step]


WRONG = {
    "no width": ("self.embed_dim = 6", "self.width = 6", "has embed_dim = None"),
    "another width": ("self.embed_dim = 6", "self.embed_dim = 7", "By its embed_dim it must give float [4, 7]"),
    "a table": ("return self.layers(x_BCHW)", "return self.layers(x_BCHW)[:2]", "gives float32 [2, 6] for 4 images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_backbone_that_breaks_its_word_is_told_before_a_run(
    name: str, mm: Callable[..., Result], tmp_path: Path
) -> None:
    written("supervised")
    old, new, says = WRONG[name]
    path = tmp_path / "plugins" / "tiny.py"
    path.write_text(path.read_text().replace(old, new))
    done = mm("run", "tiny.toml", "--set", "train.steps=2")
    assert done.code == 2, done.err
    assert says in done.err
    assert not (tmp_path / "runs").exists()


def test_a_method_that_misnames_a_loss_is_told_before_a_run(mm: Callable[..., Result], tmp_path: Path) -> None:
    written("supervised")
    (tmp_path / "plugins" / "odd.py").write_text(
        "from torch import nn\nfrom mmctl.plugin import LossTerm, StepOutput, method\n\n\n"
        '@method("odd")\nclass Odd(nn.Module):\n    """Says labelled for labeled."""\n\n'
        '    views = {"x": ("weak",)}\n    slots = {"labeled": LossTerm("soft_cross_entropy")}\n'
        "    default_labeler = None\n\n"
        "    def __init__(self, model, losses):\n        super().__init__()\n"
        "        self.model, self.losses = model, losses\n\n"
        "    def step(self, batch):\n"
        '        return StepOutput({"labelled": self.losses.labeled(self.model(batch.x[0], bn="update"), batch.y)})\n'
    )
    done = mm("run", "tiny.toml", "--set", "method.name=odd")
    assert done.code == 2, done.err
    assert "returns the losses ['labelled'] from step, but its slots are ['labeled']" in done.err
    assert not (tmp_path / "runs").exists()
