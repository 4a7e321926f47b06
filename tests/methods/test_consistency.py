"""Methods that ask for one prediction under two conditions, each against its equations in float64 loops.

A reference computes the losses of a step anew at whatever the weights are, with the targets that the step had; its
difference quotients are the gradients that the step must have.
"""

from __future__ import annotations

import json
import tomllib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.method_steps import agree, doubles, forwards, probs, steps_of
from helpers.paths import REPO
from helpers.reference_math import Rows, entropy, mean, softmax, squared
from helpers.tiny_project import training
from mmctl.methods.temporal_ensembling import TemporalEnsembling
from mmctl.plugin import Batch, Output
from mmctl.training.state import Training


def brier(said: Rows, targets: Rows) -> float:
    return mean([squared(p, q) / len(p) for p, q in zip(said, targets, strict=True)])


def mixed(values: Any, draws: dict[str, Tensor]) -> Any:
    """lambda v_i + (1 - lambda) v_j, row by row."""
    lam, partner = draws["lam"].double().tolist(), draws["partner"].tolist()
    if isinstance(values, Tensor):
        return torch.stack(
            [a * values[i] + (1 - a) * values[j] for i, (a, j) in enumerate(zip(lam, partner, strict=True))]
        )
    pairs = [(a, values[i], values[j]) for i, (a, j) in enumerate(zip(lam, partner, strict=True))]
    return [[a * p + (1 - a) * q for p, q in zip(own, other, strict=True)] for a, own, other in pairs]


def trained(method: str, *sets: str) -> tuple[Training, Batch]:
    """A run after some steps, in float64, and its next batch."""
    run = training(method, *sets)
    steps_of(run, 0, 5)
    return run, doubles(run, 5)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("group", ["each", "view", "joint"])
@pytest.mark.parametrize("through", ["second", "both"])
@pytest.mark.parametrize("images", ["unlabeled", "all"])
def test_pi_model_is_its_equation(group: str, through: str, images: str) -> None:
    run, batch = trained(
        "pi_model", "seed=1", f"method.bn_groups={group}", f"method.through={through}",
        f"method.consistency_on={images}",
    )  # fmt: skip
    x, *other = batch.x
    assert len(other) == (images == "all")
    u, v = batch.u

    def views() -> tuple[Rows, Rows]:
        """Logits of the targets' images, and of the images that learn: labelled ones first."""
        with torch.no_grad():
            if group == "view":
                return tuple(forwards(run, part, "joint")[0] for part in ([*other, u], [x, v]))  # type: ignore[return-value]
            logits, n = forwards(run, [x, *other, u, v], group)[0], 12 * len(batch.x)
            return logits[12 : n + 12], logits[:12] + logits[n + 12 :]

    fixed = [softmax(r) for r in views()[0]]

    def slow() -> dict[str, float]:
        targets, said = views()
        first = [softmax(r) for r in targets] if through == "both" else fixed
        second = [softmax(r) for r in said[-len(first) :]]
        return {"labeled": entropy(said[:12], batch.y.tolist()), "consistency": brier(second, first)}

    agree(run, run.method.step(batch), slow)


def test_fast_swa_weighs_as_its_program() -> None:
    """Its program: (sum of cross-entropies + 100 * ramp * sum of squared differences / classes) / all images."""
    path = "schedule.name=cyclic", "schedule.horizon=0.175", "schedule.start=0.15", "schedule.cycle=0.025"
    recipe = tomllib.loads((REPO / "recipes" / "methods" / "fast_swa.toml").read_text())
    sets = [f"{t}.{k}={json.dumps(v)}" for t in ("method", "optimizer") for k, v in recipe[t].items()]
    sets += [f"loss.{slot}.{k}={json.dumps(v)}" for slot, table in recipe["loss"].items() for k, v in table.items()]
    run, batch = trained("pi_model", *sets, *path)
    losses = run.method.step(batch).losses
    total = sum(run.plan(19).weight[k] * v.item() for k, v in losses.items())  # past the ramp
    x, other = batch.x
    u, v = batch.u
    with torch.no_grad():
        target, said = (forwards(run, part, "joint")[0] for part in ([other, u], [x, v]))
    squares = sum(squared(softmax(a), softmax(b)) / 3 for a, b in zip(said, target, strict=True))
    crosses = 12 * entropy(said[:12], batch.y.tolist())
    assert total == pytest.approx((crosses + 100 * squares) / 24, rel=1e-9)


@pytest.mark.parametrize("group", ["each", "joint"])
def test_mean_teacher_is_its_equation(group: str) -> None:
    run, batch = trained("mean_teacher", f"method.bn_groups={group}")
    first, second = batch.u
    beside = [batch.x[0]] if group == "joint" else []
    taught = probs(run.ema, *beside, first)[-12:]

    def slow() -> dict[str, float]:
        with torch.no_grad():
            logits, _ = forwards(run, [batch.x[0], second], group)
        said = [softmax(r) for r in logits[12:]]
        return {"labeled": entropy(logits[:12], batch.y.tolist()), "consistency": brier(said, taught)}

    terms = run.method.step(batch)
    agree(run, terms, slow)
    assert terms.losses["consistency"].item() > 1e-4


def test_the_teacher_teaches_and_does_not_learn() -> None:
    """The bug of a well-known library: the student's predictions were the teacher's own, and the loss 0 for ever."""
    run, batch = trained("mean_teacher")
    assert run.ema is not None
    apart = [(p - q).abs().max().item() for p, q in zip(run.model.parameters(), run.ema.parameters(), strict=True)]
    assert min(apart) > 1e-4
    run.ema.requires_grad_(True)  # were it asked for a gradient, it would have none to give
    run.ema.calls.clear()
    loss = run.method.step(batch).losses["consistency"]
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for k, p in run.model.named_parameters() if p.grad is not None)
    assert sum(p.grad is not None for p in run.model.parameters()) == len(apart)
    assert all(p.grad is None for p in run.ema.parameters())
    assert [c[1:] for c in run.ema.calls] == [("batch", False)]  # training mode, as in both references
    # A teacher that is the student and sees the same view has nothing to teach.
    for p, q in zip(run.ema.parameters(), run.model.parameters(), strict=True):
        p.data.copy_(q.data)
    batch.u = (batch.u[0], batch.u[0])
    assert run.method.step(batch).losses["consistency"].item() == 0


@pytest.mark.parametrize("method", ["ict", "mixup_ssl"])
def test_mixing_methods_are_their_equations(method: str) -> None:
    run, batch = trained(method, "seed=1")  # with seed 0 a rectifier stands within 1e-7 of its kink
    teacher, name, loss = (run.ema, "consistency", "brier") if method == "ict" else (run.model, "unlabeled", "entropy")
    x, y = mixed(batch.x[0], batch.draws["x"]), mixed(batch.y.tolist(), batch.draws["x"])
    u, q = mixed(batch.u[0], batch.draws["u"]), mixed(probs(teacher, batch.u[0]), batch.draws["u"])

    def slow() -> dict[str, float]:
        with torch.no_grad():
            logits, _ = forwards(run, [x, u], "each")
        other = entropy(logits[12:], q) if loss == "entropy" else brier([softmax(r) for r in logits[12:]], q)
        return {"labeled": entropy(logits[:12], y), name: other}

    agree(run, run.method.step(batch), slow)


def test_ict_draws_one_lambda_a_batch_on_both_sides_of_a_half() -> None:
    run = training("ict")
    lam = {branch: [] for branch in "xu"}  # type: ignore[var-annotated]
    for step in range(400):
        draws = run.plan(step).draws
        for branch in "xu":
            assert len(set(draws[branch]["lam"].tolist())) == 1
            assert sorted(draws[branch]["partner"].tolist()) == list(range(12))
            lam[branch].append(float(draws[branch]["lam"][0]))
    for found in lam.values():  # Beta(1, 1) is uniform
        assert np.mean(found) == pytest.approx(0.5, abs=0.05)
        assert np.mean(np.array(found) < 0.25) == pytest.approx(0.25, abs=0.07)
    assert np.corrcoef(lam["x"], lam["u"])[0, 1] == pytest.approx(0, abs=0.15)


def test_mixup_ssl_draws_a_lambda_a_sample_above_a_half() -> None:
    draws = training("mixup_ssl").plan(3).draws
    for branch in "xu":
        assert len(set(draws[branch]["lam"].tolist())) == 12
        assert draws[branch]["lam"].min() >= 0.5
        assert sorted(draws[branch]["partner"].tolist()) == list(range(12))  # among its own kind


@pytest.mark.parametrize("group", ["each", "joint"])
@pytest.mark.parametrize("momentum", [0.6, 0.0])
def test_temporal_ensembling_remembers_as_its_algorithm(group: str, momentum: float) -> None:
    run = training("temporal_ensembling", f"method.bn_groups={group}", f"method.momentum={momentum}", "train.batch=6")
    run.method.double()
    mean_NK: dict[int, list[float]] = {}
    visits: dict[int, int] = {}
    generator = torch.Generator().manual_seed(3)
    for step in range(18):  # 90 images in batches of 12: two epochs and some
        batch = doubles(run, step)
        rows = batch.index_u.tolist()
        targets = [
            [z / (1 - momentum ** visits[r]) for z in mean_NK[r]] if r in visits else [0.0, 0.0, 0.0] for r in rows
        ]  # fmt: skip
        seen = [float(r in visits) for r in rows]

        def slow(batch: Batch = batch, targets: Rows = targets, seen: list[float] = seen) -> dict[str, float]:
            with torch.no_grad():
                logits, _ = forwards(run, [batch.x[0], batch.u[0]], group)
            said = [softmax(r) for r in logits[6:]]
            each = [w * squared(p, q) / 3 for w, p, q in zip(seen, said, targets, strict=True)]
            return {"labeled": entropy(logits[:6], batch.y.tolist()), "consistency": mean(each)}

        with torch.no_grad():
            said = [softmax(r) for r in forwards(run, [batch.x[0], batch.u[0]], group)[0][6:]]
        terms = run.method.step(batch)
        if step == 15:
            agree(run, terms, slow)
        assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx(slow(), rel=1e-9), step
        assert (terms.losses["consistency"].item() > 0) == (step >= 7)  # an epoch long there is nothing to agree with
        for r, p in zip(rows, said, strict=True):
            old = mean_NK.get(r, [0.0, 0.0, 0.0])
            mean_NK[r] = [momentum * z + (1 - momentum) * v for z, v in zip(old, p, strict=True)]
            visits[r] = visits.get(r, 0) + 1
        with torch.no_grad():  # other weights at each visit
            for p in run.model.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    memory = run.method.mean_NK
    assert all(memory[r].tolist() == pytest.approx(z, rel=1e-9) for r, z in mean_NK.items())
    assert run.method.visits_N.tolist() == [visits.get(r, 0) for r in range(90)]
    assert set(visits.values()) >= {2, 3}


class Constant(nn.Module):
    """A network that always says the same."""

    def branches(self, *xs: Tensor, **_: Any) -> list[Output]:
        return [Output(torch.tensor([[2.0, 0.0, -1.0]]).double().expand(len(x), 3), x) for x in xs]


def test_the_start_up_bias_is_taken_out() -> None:
    found: list[tuple[Rows, list[float]]] = []

    def watched(out: Output, target: Tensor, weight: Tensor) -> Tensor:
        found.append((target.tolist(), weight.tolist()))
        return target.sum()

    losses = SimpleNamespace(labeled=lambda out, y: y.sum(), consistency=watched)
    method = TemporalEnsembling(Constant(), losses, 3, 4, momentum=0.9).double()
    for _ in range(3):
        x = torch.zeros(2, 1, dtype=torch.float64)
        method.step(Batch((x,), (x,), x, torch.arange(2), torch.tensor([1, 3]), torch.tensor(0), {}, {}))
    said = softmax([2.0, 0.0, -1.0])
    assert [weight for _, weight in found] == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    for targets, _ in found[1:]:  # Z alone is a tenth of it after the first visit
        assert targets == [pytest.approx(said)] * 2
    assert method.mean_NK[1].tolist() == pytest.approx([(1 - 0.9**3) * p for p in said])
    assert method.visits_N.tolist() == [0, 3, 0, 3]
