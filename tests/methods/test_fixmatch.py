"""The steps of Pseudo-Label, FixMatch, FreeMatch and UDA against float64 loops, gradients and batch norm included."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.method_checks import pretend
from helpers.method_steps import doubles, steps_of, terms_of
from helpers.reference_math import Rows, cross_entropy, mean, numeric, power, softmax
from helpers.tiny_project import training
from mmctl.plugin import Batch
from mmctl.training.state import Training

K, N = 3, 12
Losses = Callable[[Rows, Rows, Rows], dict[str, float]]


def top(logits: list[float]) -> tuple[float, int]:
    p = softmax(logits)
    return max(p), p.index(max(p))


def one_hot(c: int) -> list[float]:
    return [float(k == c) for k in range(K)]


def ready(method: str, *sets: str, step: int = 6) -> tuple[Training, Batch]:
    """A run in float64 some steps after its start, and the batch of the next step."""
    run = training(method, *sets)
    steps_of(run, 0, step)
    return run, doubles(run, step)


def forwards(run: Training, batch: Batch, group: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of labelled, weak and strong images, each batch-norm group as it is declared."""
    net, x, w, s = run.model, batch.x[0], batch.u[0], batch.u[-1]
    if group == "joint":
        out = net(torch.cat([x, w, s]), bn="batch").logits
        return out[:N], out[N : 2 * N], out[2 * N :]
    if group == "pseudo":
        out = net(w, bn="batch").logits
        return net(x, bn="batch").logits, out, out
    with torch.no_grad():
        weak = net(w, bn="batch").logits
    return net(x, bn="batch").logits, weak, net(s, bn="batch").logits


def assert_step(run: Training, batch: Batch, group: str, slow: Losses, weight: dict[str, float]) -> None:
    """Losses to nine digits; the gradient of their weighted sum against central differences, through the network."""
    outs = forwards(run, batch, group)
    x, w, s = (out.tolist() for out in outs)
    expected = slow(x, w, s)

    def total(x: Rows, w: Rows, s: Rows) -> float:
        return sum(weight[k] * v for k, v in slow(x, w, s).items())

    by_logits = [
        numeric(lambda rows: total(rows, w, s), x),
        numeric(lambda rows: total(x, rows, s), w),
        numeric(lambda rows: total(x, w, rows), s),
    ]
    pairs = [(o, torch.tensor(g, dtype=torch.float64)) for o, g in zip(outs, by_logits, strict=True) if o.requires_grad]
    params = list(run.model.parameters())
    slowly = torch.autograd.grad([o for o, _ in pairs], params, [g for _, g in pairs])
    terms = run.method.step(batch)
    assert {k: v.item() for k, v in terms.losses.items()} == pytest.approx(expected, rel=1e-9)
    torch.stack([weight[k] * v for k, v in terms.losses.items()]).sum().backward()
    for p, g in zip(params, slowly, strict=True):
        assert p.grad is not None
        assert torch.allclose(p.grad, g, rtol=1e-6, atol=1e-8)
    assert max(float(g.abs().max()) for g in slowly) > 1e-3


# The equations, slowly ------------------------------------------------------------------------------------------


def masked(logits: Rows, labels: Rows, keep: list[float]) -> float:
    """The mean over all images: one that is left out counts as zero."""
    return mean([k * cross_entropy(a, y) for a, y, k in zip(logits, labels, keep, strict=True)])


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.1])
@pytest.mark.parametrize(("method", "group"), [("fixmatch", "joint"), ("fixmatch", "each"), ("pseudo_label", "pseudo")])
def test_fixmatch_and_pseudo_label_are_their_equations(method: str, group: str, tau: float) -> None:
    sets = [] if group == "pseudo" else [f"method.bn_groups={group}"]
    run, batch = ready(method, f"labeler.tau={tau}", *sets)
    # Labels and mask are constants: they are found once, before any difference is taken.
    weak = forwards(run, batch, group)[1].tolist()
    labels, keep = [one_hot(top(a)[1]) for a in weak], [float(top(a)[0] >= tau) for a in weak]
    assert sum(keep) == {0.0: N, 1.1: 0}.get(tau, sum(keep))
    assert tau != 0.5 or 0 < sum(keep) < N

    def slow(x: Rows, w: Rows, s: Rows) -> dict[str, float]:
        supervised = mean([cross_entropy(a, y) for a, y in zip(x, batch.y.tolist(), strict=True)])
        return {"labeled": supervised, "unlabeled": masked(s, labels, keep)}

    if group == "pseudo":  # one forward gives label and prediction
        slow_once = slow

        def slow(x: Rows, w: Rows, s: Rows) -> dict[str, float]:
            return slow_once(x, w, w)

    assert_step(run, batch, group, slow, {"labeled": 1.0, "unlabeled": 0.7})


@pytest.mark.parametrize("group", ["joint", "each"])
def test_freematch_is_its_equations(group: str) -> None:
    sets = (f"method.bn_groups={group}", "method.momentum=0.8", "labeler.momentum=0.3", "train.steps=40")
    run, batch = ready("freematch", *sets, step=16)
    weak = forwards(run, batch, group)[1].tolist()
    state = run.method.labeler
    tau = 0.3 * state.tau.item() + 0.7 * mean([top(a)[0] for a in weak])
    average = [mean(list(c)) for c in zip(*map(softmax, weak), strict=True)]
    running = [0.3 * a + 0.7 * b for a, b in zip(state.mean_K.tolist(), average, strict=True)]
    labels = [one_hot(top(a)[1]) for a in weak]
    keep = [float(top(a)[0] >= tau * running[top(a)[1]] / max(running)) for a in weak]
    assert 0 < sum(keep) < N
    mean_K = [0.8 * a + 0.2 * b for a, b in zip(run.method.mean_K.tolist(), average, strict=True)]
    counted = [mean(list(c)) for c in zip(*labels, strict=True)]
    hist_K = [0.8 * a + 0.2 * b for a, b in zip(run.method.hist_K.tolist(), counted, strict=True)]

    def summed(p: list[float], h: list[float]) -> list[float]:
        ratio = [a / b if b else 0.0 for a, b in zip(p, h, strict=True)]
        return [r / sum(ratio) for r in ratio]

    def slow(x: Rows, w: Rows, s: Rows) -> dict[str, float]:
        supervised = mean([cross_entropy(a, y) for a, y in zip(x, batch.y.tolist(), strict=True)])
        here = [mean([k * softmax(a)[c] for a, k in zip(s, keep, strict=True)]) for c in range(K)]
        bins = [mean([k * (top(a)[1] == c) for a, k in zip(s, keep, strict=True)]) for c in range(K)]
        a, b = summed(mean_K, hist_K), summed(here, bins)
        fair = sum(p * math.log(q) for p, q in zip(a, b, strict=True) if q)
        return {"labeled": supervised, "unlabeled": masked(s, labels, keep), "fairness": fair}

    strong = forwards(run, batch, group)[2].tolist()
    assert len({top(a)[1] for a, k in zip(strong, keep, strict=True) if k}) == K  # or the term would be log 1
    assert_step(run, batch, group, slow, {"labeled": 1.0, "unlabeled": 1.0, "fairness": 0.5})
    assert run.method.mean_K.tolist() == pytest.approx(mean_K, rel=1e-9)
    assert run.method.hist_K.tolist() == pytest.approx(hist_K, rel=1e-9)


@pytest.mark.parametrize("tsa", ["none", "linear", "log", "exp"])
def test_uda_is_its_equations(tsa: str) -> None:
    sets = ("labeler.target=soft", "labeler.temperature=0.4", "labeler.tau=0.5", f"method.tsa={tsa}")
    run, batch = ready("uda", *sets)
    x, weak, _ = (out.tolist() for out in forwards(run, batch, "joint"))
    labels, keep = [power(softmax(a), 0.4) for a in weak], [float(top(a)[0] >= 0.5) for a in weak]
    t = 6 / 20
    grown = {"none": math.inf, "linear": t, "log": 1 - math.exp(-5 * t), "exp": math.exp(5 * (t - 1))}[tsa]
    limit = 1 / 3 + grown * (1 - 1 / 3)
    own = [softmax(a)[y.index(1.0)] for a, y in zip(x, batch.y.tolist(), strict=True)]
    train = [float(p <= limit) for p in own]
    assert sum(keep) > 0
    assert tsa not in ("linear", "exp") or 0 < sum(train) < N
    assert tsa != "none" or sum(train) == N

    def slow(x: Rows, w: Rows, s: Rows) -> dict[str, float]:
        entropies = [cross_entropy(a, y) for a, y in zip(x, batch.y.tolist(), strict=True)]
        supervised = sum(k * e for k, e in zip(train, entropies, strict=True)) / max(sum(train), 1)
        divergence = mean([
            k * sum(q * math.log(q / p) for q, p in zip(y, softmax(a), strict=True))
            for a, y, k in zip(s, labels, keep, strict=True)
        ])  # fmt: skip
        return {
            "labeled": supervised,
            "unlabeled": divergence,
            "entropy": mean([-sum(p * math.log(p) for p in softmax(a)) for a in w]),
        }

    assert_step(run, batch, "joint", slow, {"labeled": 1.0, "unlabeled": 2.0, "entropy": 0.3})


def test_annealing_holds_back_all_labelled_images_in_time() -> None:
    run, batch = ready("uda", "method.tsa=exp", step=0)
    with torch.no_grad():
        run.model.head.weight *= 0
        run.model.head.bias += torch.tensor([9.0, 0.0, 0.0])
    batch.y = torch.tensor([[1.0, 0.0, 0.0]] * N, dtype=torch.float64)  # every label known by heart
    terms = run.method.step(batch)
    assert terms.losses["labeled"].item() == 0.0  # and not 0 / 0
    terms.losses["labeled"].backward()
    assert all(p.grad is None or not p.grad.any() for p in run.model.parameters())


# What a step leaves alone --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "sets"),
    [("pseudo_label", ()), ("fixmatch", ("method.bn_groups=each",)), ("freematch", ("method.bn_groups=each",))],
)
def test_with_nothing_kept_training_is_supervised_to_the_last_bit(method: str, sets: tuple[str, ...]) -> None:
    none = ("labeler.name=threshold", "labeler.tau=1.1")
    run, alone = training(method, *none, *sets), training("supervised")
    steps_of(run, 0, 12), steps_of(alone, 0, 12)
    for (name, p), q in zip(run.model.named_parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_with_all_kept_it_is_not() -> None:
    run, alone = training("fixmatch", "method.bn_groups=each", "labeler.tau=0"), training("supervised")
    steps_of(run, 0, 2), steps_of(alone, 0, 2)
    assert not torch.equal(run.model.head.weight, alone.model.head.weight)


@pytest.mark.parametrize(
    ("method", "group", "seen"),
    [
        ("pseudo_label", None, ["x"]), ("fixmatch", "joint", ["xws"]), ("uda", None, ["xws"]),
        ("freematch", "joint", ["xws"]), ("fixmatch", "each", ["x", "s"]), ("freematch", "each", ["x", "s"]),
    ],
)  # fmt: skip
def test_running_statistics_are_those_of_the_declared_images(method: str, group: str | None, seen: list[str]) -> None:
    run = training(method, *([f"method.bn_groups={group}"] if group else []))
    steps_of(run, 0, 3)
    batch = run.loader.batch(run.staged(3))
    net = copy.deepcopy(run.model)
    net._norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    parts = {"x": batch.x[0], "w": batch.u[0], "s": batch.u[-1]}
    for images in seen:
        net(torch.cat([parts[c] for c in images]), bn="update")
    run.method.step(batch)
    for (name, a), b in zip(run.model.named_buffers(), net.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_the_weak_view_has_a_gradient_in_a_joint_forward_only() -> None:
    # Through the shared statistics: labels themselves have none, whatever the group.
    for group, expected in (("joint", True), ("each", False)):
        run, batch = ready("fixmatch", f"method.bn_groups={group}", "labeler.tau=0")
        weak = batch.u[0].requires_grad_()
        run.method.step(batch).losses["unlabeled"].backward()
        assert (weak.grad is not None and bool(weak.grad.abs().max() > 1e-6)) == expected


def test_fairness_is_nothing_where_nothing_is_kept() -> None:
    run, batch = ready("freematch", "labeler.name=threshold", "labeler.tau=1.1")
    fairness = run.method.step(batch).losses["fairness"]
    assert fairness.item() == 0.0
    fairness.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in run.model.parameters())


def test_fairness_pulls_at_classes_of_which_images_are_kept() -> None:
    run, batch = ready("freematch")
    with torch.no_grad():
        run.model.head.weight *= 0
        run.model.head.bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    terms = run.method.step(batch)
    # One class holds all: b is that class alone, its logarithm 0, and no gradient comes of it.
    assert terms.losses["fairness"].item() == pytest.approx(0.0, abs=1e-12)
    terms.losses["fairness"].backward()
    assert run.model.head.bias.grad.abs().max() < 1e-9


@pytest.mark.parametrize("method", ["pseudo_label", "fixmatch", "freematch", "uda"])
@pytest.mark.parametrize("scale", [1e3, 0.0])
def test_extreme_logits_give_finite_losses_and_gradients(method: str, scale: float) -> None:
    run = training(method)
    with torch.no_grad():
        run.model.head.weight *= scale
    terms = terms_of(run, 0)
    torch.stack(list(terms.losses.values())).sum().backward()
    assert all(torch.isfinite(v) for v in terms.losses.values())
    assert all(torch.isfinite(p.grad).all() for p in run.model.parameters())


@pytest.mark.parametrize("method", ["pseudo_label", "fixmatch", "freematch", "uda"])
def test_the_order_of_images_in_a_batch_does_not_matter(method: str) -> None:
    a, batch = ready(method, *(["labeler.tau=0.5"] if method != "freematch" else []))
    b, other = ready(method, *(["labeler.tau=0.5"] if method != "freematch" else []))
    order_x, order_u = torch.randperm(N), torch.randperm(N)
    other.x, other.u = tuple(v[order_x] for v in other.x), tuple(v[order_u] for v in other.u)
    other.y, other.index_u = other.y[order_x], other.index_u[order_u]
    one, two = a.method.step(batch), b.method.step(other)
    for k, v in one.losses.items():
        assert two.losses[k].item() == pytest.approx(v.item(), rel=1e-9), k
    assert torch.equal(two.pseudo_labels.weight, one.pseudo_labels.weight[order_u])


# Batches of different sizes, and a policy that learns ----------------------------------------------------------


@pytest.mark.parametrize("method", ["pseudo_label", "fixmatch", "freematch", "uda"])
def test_more_unlabelled_than_labelled_images(method: str) -> None:
    run = training(method, "train.batch=6", "train.unlabeled_batch=42")
    steps_of(run, 0, 2)
    terms = terms_of(run, 2)
    assert terms.pseudo_labels.target.shape == (42, K)
    assert all(torch.isfinite(v) for v in terms.losses.values())


LEARNER = '''
import torch
from torch import nn

from mmctl.plugin import augment


@augment("learner")
class Learner(nn.Module):
    """Darkens by one of two amounts, and learns which is right."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rate", torch.full((2,), 0.5))
        self.told = []

    def draw(self, rng, n):
        return {"choice": rng.integers(0, 2, n)}

    def apply(self, x_BCHW, choice):
        return (x_BCHW.float() * (1 - 0.5 * self.rate[choice])[:, None, None, None]).to(torch.uint8)

    def update(self, score_B, choice):
        self.told.append((score_B, choice))
        for k in range(2):
            mine = (choice == k).to(score_B.dtype)
            self.rate[k] = 0.9 * self.rate[k] + 0.1 * (mine * score_B).sum() / mine.sum().clamp_min(1)
'''
PROBED = ("augment.probe.name=learner", "augment.probe.after=weak")


@pytest.fixture
def learner(tmp_path: Any) -> None:
    (tmp_path / "plugins").mkdir(exist_ok=True)
    (tmp_path / "plugins" / "learner.py").write_text(LEARNER)


@pytest.mark.parametrize("average", ["ema", "none"])
@pytest.mark.parametrize("method", ["fixmatch", "freematch", "uda", "remixmatch"])
def test_a_policy_that_learns_is_told_its_scores(method: str, average: str, learner: None) -> None:
    run = training(method, *PROBED, f"average.kind={average}")
    policy: Any = run.parts["augment.probe"]
    steps_of(run, 0, 3)
    batch = run.loader.batch(run.staged(3))
    assert len(batch.x) == 2
    net = run.ema if average == "ema" else run.model
    expected = []
    for p, y in zip(net(batch.x[1], bn="running").probs.tolist(), batch.y.tolist(), strict=True):
        expected.append(1 - 0.5 * sum(abs(a - b) for a, b in zip(p, y, strict=True)))
    policy.told.clear()
    before = {k: v.clone() for k, v in net.named_buffers()} if average == "ema" else {}
    run.method.step(batch)
    ((score, choice),) = policy.told
    assert score.tolist() == pytest.approx(expected, rel=1e-4)
    assert not score.requires_grad
    assert torch.equal(choice, batch.view_draws["x1"]["probe"]["choice"])
    assert all(torch.equal(v, before[k]) for k, v in net.named_buffers() if k in before)
    assert "augment.probe.rate" in run.tensors()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("method", ["fixmatch", "remixmatch"])
def test_a_probe_does_not_change_what_the_network_learns_from(method: str, learner: None) -> None:
    plain, probed = training(method), training(method, *PROBED)
    a, b = (terms_of(run, 0) for run in (plain, probed))
    for k, v in a.losses.items():
        assert torch.equal(v, b.losses[k]), k
    pretend(training(method, *PROBED))


def test_a_probe_that_cannot_learn_is_refused() -> None:
    with pytest.raises(Exception, match="must be a policy that learns"):
        training("fixmatch", "augment.probe.name=affine")
