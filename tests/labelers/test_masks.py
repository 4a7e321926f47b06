"""Mask policies and distribution alignment against float64 loops over several steps, and where they have no answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from helpers.command import Result
from helpers.reference_math import centroids, membership, power, randn, softmax, unit
from helpers.tiny_project import recipe, training, written
from mmctl import ops
from mmctl.errors import PluginError, UserError
from mmctl.labelers.centroid import Fuzzy, NearestCentroid, Product
from mmctl.labelers.masks import Flex, Free, Relative, Soft, Threshold
from mmctl.labelers.softmax import Aligned, Softmax
from mmctl.plugin import Output, PseudoLabels

K, U, B, N, STEPS = 4, 6, 5, 15, 8
PRIOR = [0.4, 0.3, 0.2, 0.1]
Rows = list[list[float]]


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def shown(step: int, dtype: torch.dtype = torch.float64) -> tuple[Any, Output, Output]:
    """A batch, the weak view and the labelled one; the network grows surer, and prefers the first classes."""
    logits_UK = (1 + step / 3) * randn(U, K, seed=100 + step) + tensor([0.8, 0.4, 0.0, -0.4])
    labeled_BK = (1 + step / 3) * randn(B, K, seed=200 + step)
    index_U = torch.randperm(N, generator=torch.Generator().manual_seed(step))[:U]
    batch = SimpleNamespace(step=torch.tensor(step), index_u=index_U)
    return batch, output(logits_UK.to(dtype)), output(labeled_BK.to(dtype))


def output(logits_BK: Tensor) -> Output:
    return Output(logits_BK, torch.zeros(len(logits_BK), 2, dtype=logits_BK.dtype))


def probs(out: Output) -> Rows:
    return [softmax(row) for row in out.logits.tolist()]


def mean(rows: Rows) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def top(p: list[float]) -> tuple[float, int]:
    return max(p), p.index(max(p))


def one_hot(c: int) -> list[float]:
    return [float(k == c) for k in range(K)]


def follow(old: list[float], new: list[float], momentum: float) -> list[float]:
    return [momentum * a + (1 - momentum) * b for a, b in zip(old, new, strict=True)]


class Alignment:
    """q = p * wanted / seen, renormalised, with a running mean or a window for `seen`."""

    def __init__(self, align: str, momentum: float = 0.999, window: int = 0) -> None:
        self.align, self.momentum = align, momentum
        self.window = [[1 / K] * K for _ in range(window)]
        self.seen: list[float] = []
        self.wanted = PRIOR if align == "train_prior" else [1 / K] * K

    def __call__(self, rows: Rows, labeled: Rows) -> Rows:
        if self.align == "none":
            return rows
        if self.window:
            self.window = [*self.window[1:], mean(rows)]
            self.seen = mean(self.window)
        else:
            self.seen = follow(self.seen, mean(rows), self.momentum) if self.seen else mean(rows)
        if self.align == "labeled":
            self.wanted = follow(self.wanted, mean(labeled), self.momentum)
        out = []
        for p in rows:
            q = [v * (w + 1e-6) / (s + 1e-6) for v, w, s in zip(p, self.wanted, self.seen, strict=True)]
            out.append([v / sum(q) for v in q])
        return out


ALIGNMENTS = [
    {}, {"align": "train_prior", "align_momentum": 0.8}, {"align": "uniform", "align_momentum": 0.5},
    {"align": "uniform", "window": 3}, {"align": "train_prior", "window": 1},
]  # fmt: skip
every_alignment = pytest.mark.parametrize("sets", ALIGNMENTS, ids=lambda s: "-".join(map(str, s.values())) or "none")


def slow_alignment(sets: dict[str, Any], default: str = "none") -> Alignment:
    return Alignment(sets.get("align", default), sets.get("align_momentum", 0.999), sets.get("window", 0))


def agree(got: PseudoLabels, target: Rows, weight: list[float]) -> None:
    assert got.target.tolist() == [pytest.approx(row, rel=1e-9, abs=1e-12) for row in target]
    assert got.weight.tolist() == pytest.approx(weight, rel=1e-9, abs=1e-12)


# The policies, slowly ------------------------------------------------------------------------------------------


@every_alignment
@pytest.mark.parametrize(("target", "temperature"), [("hard", 1.0), ("soft", 1.0), ("soft", 0.4)])
def test_threshold(target: str, temperature: float, sets: dict[str, Any]) -> None:
    labeler = Threshold(tensor(PRIOR), tau=0.6, target=target, temperature=temperature, **sets)  # type: ignore[arg-type]
    align, kept = slow_alignment(sets), 0.0
    for step in range(STEPS):
        batch, u, x = shown(step)
        rows = align(probs(u), probs(x))
        labels = [power(p, temperature) if target == "soft" else one_hot(top(p)[1]) for p in rows]
        weights = [float(top(p)[0] >= 0.6) for p in rows]
        agree(labeler(u, batch=batch, labeled=x), labels, weights)
        kept += sum(weights)
    assert 0 < kept < STEPS * U


@every_alignment
@pytest.mark.parametrize("warmup", [True, False])
def test_flex(warmup: bool, sets: dict[str, Any]) -> None:
    labeler = Flex(N, tensor(PRIOR), tau=0.7, warmup=warmup, **sets)
    align, last = slow_alignment(sets), [-1] * N
    unused, kept = set(), set()
    for step in range(STEPS):
        batch, u, x = shown(step)
        rows = align(probs(u), probs(x))
        sigma = [last.count(c) for c in range(K)]
        most = max([*sigma, last.count(-1)] if warmup else [*sigma, 1])
        beta = [s / most for s in sigma]
        thresholds = [0.7 * b / (2 - b) for b in beta]
        weights = [float(top(p)[0] >= thresholds[top(p)[1]]) for p in rows]
        agree(labeler(u, batch=batch, labeled=x), [one_hot(top(p)[1]) for p in rows], weights)
        for row, p in zip(batch.index_u.tolist(), rows, strict=True):
            if top(p)[0] >= 0.7:
                last[row] = top(p)[1]
        assert [c if c < K else -1 for c in labeler.last_N.tolist()] == last
        unused.add(last.count(-1) > max(sigma))
        kept |= set(weights)
    assert unused == {True, False}  # the unused were the most, and then were not
    assert kept == {0.0, 1.0}


@every_alignment
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, 0.55)])
def test_free(low: float, high: float, sets: dict[str, Any]) -> None:
    labeler = Free(tensor(PRIOR), momentum=0.7, low=low, high=high, **sets)
    align, tau, running = slow_alignment(sets), 1 / K, [1 / K] * K
    kept = 0.0
    for step in range(STEPS):
        batch, u, x = shown(step)
        rows = align(probs(u), probs(x))
        tau = 0.7 * tau + 0.3 * sum(top(p)[0] for p in rows) / U
        tau = min(max(tau, low), high)
        running = follow(running, mean(rows), 0.7)
        weights = [float(top(p)[0] >= tau * running[top(p)[1]] / max(running)) for p in rows]
        agree(labeler(u, batch=batch, labeled=x), [one_hot(top(p)[1]) for p in rows], weights)
        assert labeler.tau.item() == pytest.approx(tau, rel=1e-12)
        assert labeler.mean_K.tolist() == pytest.approx(running, rel=1e-12)
        kept += sum(weights)
    assert 0 < kept < STEPS * U


@every_alignment
@pytest.mark.parametrize("sigmas", [1.0, 2.0])
def test_soft(sigmas: float, sets: dict[str, Any]) -> None:
    labeler = Soft(tensor(PRIOR), sigmas=sigmas, momentum=0.6, **sets)
    align, mu, var = slow_alignment(sets, "uniform"), 1 / K, 1.0
    for step in range(STEPS):
        batch, u, x = shown(step)
        own = probs(u)
        tops = [top(p)[0] for p in align(own, probs(x))]
        m = sum(tops) / U
        mu = 0.6 * mu + 0.4 * m
        var = 0.6 * var + 0.4 * sum((t - m) ** 2 for t in tops) / (U - 1)
        weights = [2.718281828459045 ** (-(min(t - mu, 0) ** 2) * sigmas**2 / (2 * var)) for t in tops]
        # The label is the head's own, whatever alignment makes of it.
        agree(labeler(u, batch=batch, labeled=x), [one_hot(top(p)[1]) for p in own], weights)
        assert (labeler.mean.item(), labeler.var.item()) == pytest.approx((mu, var), rel=1e-12)
        assert max(weights) == 1.0


@pytest.mark.parametrize(
    "sets", [{"align": "labeled", "align_momentum": 0.9}, {"align": "labeled", "window": 2}, *ALIGNMENTS[1:]]
)
def test_relative(sets: dict[str, Any]) -> None:
    labeler = Relative(tensor(PRIOR), tau=0.9, **sets)
    align, kept = slow_alignment(sets, "labeled"), 0.0
    for step in range(STEPS):
        batch, u, x = shown(step)
        rows, labeled = align(probs(u), probs(x)), probs(x)
        least = 0.9 * sum(top(p)[0] for p in labeled) / B
        weights = [float(top(p)[0] >= least) for p in rows]
        agree(labeler(u, batch=batch, labeled=x), [one_hot(top(p)[1]) for p in rows], weights)
        kept += sum(weights)
    assert 0 < kept < STEPS * U


@every_alignment
@pytest.mark.parametrize("kind", [Softmax, Aligned])
def test_the_head_aligned_then_sharpened(kind: Any, sets: dict[str, Any]) -> None:
    sets = {"window": 0, "align": "none"} | sets
    labeler, align = kind(tensor(PRIOR), temperature=0.5, **sets), slow_alignment(sets)
    for step in range(STEPS):
        (batch, u, x), (_, v, _) = shown(step), shown(step + 50)
        both = [mean([p, q]) for p, q in zip(probs(u), probs(v), strict=True)]
        rows = align(both, probs(x))
        agree(labeler(u, v, batch=batch), [power(p, 0.5) for p in rows], [1.0] * U)


def test_remixmatchs_labels_are_aligned_to_the_labelled_frequencies_over_128_batches() -> None:
    labeler = Aligned(tensor(PRIOR))
    align = Alignment("train_prior", window=128)
    for step in range(3):
        batch, u, x = shown(step)
        agree(labeler(u, batch=batch), [power(p, 0.5) for p in align(probs(u), probs(x))], [1.0] * U)


@every_alignment
@pytest.mark.parametrize("name", ["fuzzy", "product", "nearest_centroid"])
def test_memberships_are_aligned_before_they_are_sharpened(name: str, sets: dict[str, Any]) -> None:
    places = randn(K, 3)
    at, align = centroids(places), slow_alignment(sets)
    made = {"fuzzy": Fuzzy, "product": Product, "nearest_centroid": NearestCentroid}[name](tensor(PRIOR), at, **sets)
    cs = [unit(c) for c in places.tolist()]
    for step in range(STEPS):
        batch, u, x = shown(step)
        u = Output(u.logits, randn(U, 3, seed=300 + step))
        rows = [membership(unit(e), cs) for e in u.emb.tolist()]
        if name == "product":
            rows = [[a * b for a, b in zip(q, p, strict=True)] for q, p in zip(rows, probs(u), strict=True)]
            rows = [[v / sum(q) for v in q] for q in rows]
        rows = align(rows, probs(x))
        temperature = {"fuzzy": 0.25, "product": 0.5}.get(name)
        labels = [power(q, temperature) if temperature else one_hot(top(q)[1]) for q in rows]
        agree(made(u, batch=batch), labels, [1.0] * U)


def test_alignment_reaches_what_it_is_asked_for() -> None:
    # A network that gives every image the same prior: aligned, that prior is gone at once.
    p = tensor([0.7, 0.1, 0.1, 0.1])
    for align, wanted in (("uniform", [1 / K] * K), ("train_prior", PRIOR)):
        labeler = Threshold(tensor(PRIOR), target="soft", align=align)  # type: ignore[arg-type]
        got = labeler(output(p.log().repeat(U, 1)), batch=shown(0)[0]).target
        assert got.tolist() == [pytest.approx(wanted, abs=1e-5)] * U


def test_a_window_forgets_what_is_older() -> None:
    short = Threshold(tensor(PRIOR), target="soft", align="uniform", window=2)
    fresh = Threshold(tensor(PRIOR), target="soft", align="uniform", window=2)
    for step in range(STEPS):
        batch, u, _ = shown(step)
        got = short(u, batch=batch).target
        if step >= STEPS - 2:
            expected = fresh(u, batch=batch).target
    assert torch.equal(got, expected)


# What holds for all of them ------------------------------------------------------------------------------------


def made(name: str, **sets: Any) -> Any:
    """A labeler by name, with a state that moves fast."""
    prior = tensor(PRIOR)
    kinds: dict[str, Callable[[], Any]] = {
        "threshold": lambda: Threshold(prior, **{"tau": 0.6} | sets),
        "flex": lambda: Flex(N, prior, **{"tau": 0.6} | sets),
        "free": lambda: Free(prior, **{"momentum": 0.6} | sets),
        "soft": lambda: Soft(prior, **{"momentum": 0.6, "align_momentum": 0.6} | sets),
        "relative": lambda: Relative(prior, **{"align_momentum": 0.6} | sets),
        "aligned": lambda: Aligned(prior, **{"window": 3} | sets),
    }
    return kinds[name]()


NAMES = ("threshold", "flex", "free", "soft", "relative", "aligned")
each = pytest.mark.parametrize("name", NAMES)
MOVING = {
    "threshold": set(), "flex": {"last_N"}, "free": {"tau", "mean_K"}, "soft": {"mean", "var", "seen_K"},
    "relative": {"wanted_K", "seen_K"}, "aligned": {"window_WK"},
}  # fmt: skip


@each
def test_labels_are_distributions_without_gradient(name: str) -> None:
    batch, u, x = shown(3)
    u = Output(u.logits.requires_grad_(), u.emb)
    got = made(name)(u, batch=batch, labeled=Output(x.logits.requires_grad_(), x.emb))
    assert got.target.sum(-1).tolist() == pytest.approx([1.0] * U)
    assert got.target.min() >= 0
    assert got.weight.shape == (U,)
    assert 0 <= got.weight.min() <= got.weight.max() <= 1
    assert not got.target.requires_grad
    assert not got.weight.requires_grad


@each
def test_the_state_that_a_checkpoint_needs(name: str) -> None:
    first = made(name)
    assert set(first.state_dict()) == MOVING[name]  # constants are not saved
    for step in range(4):
        batch, u, x = shown(step)
        first(u, batch=batch, labeled=x)
    second = made(name)
    second.load_state_dict(first.state_dict())
    for step in range(4, STEPS):
        batch, u, x = shown(step)
        a, b = (labeler(u, batch=batch, labeled=x) for labeler in (first, second))
        assert torch.equal(a.target, b.target)
        assert torch.equal(a.weight, b.weight)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
    if MOVING[name]:
        third = made(name)
        batch, u, x = shown(STEPS)
        third(u, batch=batch, labeled=x), first(u, batch=batch, labeled=x)
        assert any(not torch.equal(v, first.state_dict()[k]) for k, v in third.state_dict().items())


@each
def test_the_order_of_images_does_not_matter(name: str) -> None:
    a, b = made(name), made(name)
    for step in range(STEPS):
        batch, u, x = shown(step)
        order = torch.randperm(U, generator=torch.Generator().manual_seed(step))
        moved = SimpleNamespace(step=batch.step, index_u=batch.index_u[order])
        got = a(u, batch=batch, labeled=x)
        again = b(output(u.logits[order]), batch=moved, labeled=output(x.logits.flip(0)))
        assert torch.allclose(again.target, got.target[order], atol=1e-12)
        assert torch.allclose(again.weight, got.weight[order], atol=1e-12)
        for key, value in a.state_dict().items():
            assert torch.allclose(value, b.state_dict()[key], atol=1e-12), key


@each
def test_the_names_of_classes_do_not_matter(name: str) -> None:
    swap = torch.tensor([2, 0, 3, 1])
    a = made(name)
    global PRIOR
    kept, PRIOR = PRIOR, tensor(PRIOR)[swap].tolist()
    try:
        b = made(name)
    finally:
        PRIOR = kept
    for step in range(STEPS):
        batch, u, x = shown(step)
        got = a(u, batch=batch, labeled=x)
        again = b(output(u.logits[:, swap]), batch=batch, labeled=output(x.logits[:, swap]))
        assert torch.allclose(again.target, got.target[:, swap], atol=1e-12)
        assert torch.allclose(again.weight, got.weight, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each
def test_extreme_outputs_give_finite_labels_and_states(name: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0, 0], [-1e4] * K, [0.0] * K, [80, 79, -200, 0]], dtype=dtype)
    for align in ("none", "uniform", "train_prior"):
        labeler = made(name, align=align, temperature=0.05) if name == "aligned" else made(name, align=align)
        labeler = labeler.to(dtype)
        for step, rows in enumerate([logits, logits[:1].repeat(4, 1), logits, logits[:1]]):
            batch = SimpleNamespace(step=torch.tensor(step), index_u=torch.arange(len(rows)))
            got = labeler(output(rows), batch=batch, labeled=output(logits))
            assert torch.isfinite(got.target).all()
            assert got.target.sum(-1).tolist() == pytest.approx([1.0] * len(rows), abs=1e-5)
            assert torch.isfinite(got.weight).all()
            assert all(torch.isfinite(v).all() for v in labeler.state_dict().values())


@pytest.mark.parametrize("name", ["threshold", "flex", "relative"])
def test_a_threshold_of_zero_keeps_all_and_one_above_one_none(name: str) -> None:
    none, everything = made(name, tau=1.1), made(name, tau=0.0)
    sure = output(torch.tensor([[1e4, 0.0, 0.0, 0.0]] * U, dtype=torch.float64))
    for step in range(STEPS):
        batch, u, x = shown(step)
        assert everything(u, batch=batch, labeled=x).weight.tolist() == [1.0] * U
        if name != "flex":  # whose thresholds start at zero, by design
            assert none(u, batch=batch, labeled=sure).weight.tolist() == [0.0] * U
            assert none(sure, batch=batch, labeled=sure).weight.tolist() == [0.0] * U


def test_a_row_that_comes_twice_is_remembered_by_its_last_label() -> None:
    labeler = made("flex")
    batch = SimpleNamespace(step=torch.tensor(0), index_u=torch.tensor([3, 7, 3]))
    labeler(output(20 * torch.eye(K, dtype=torch.float64)[[0, 1, 2]]), batch=batch)
    assert labeler.last_N[[3, 7]].tolist() == [2, 1]
    unsure = torch.zeros(3, K, dtype=torch.float64)
    labeler(output(unsure), batch=batch)  # below tau: nothing is forgotten
    assert labeler.last_N[[3, 7]].tolist() == [2, 1]
    assert labeler.last_N.tolist().count(K) == N - 2


def test_flex_accepts_everything_before_it_has_seen_anything() -> None:
    batch, u, _ = shown(0)
    assert made("flex", tau=1.0)(u, batch=batch).weight.tolist() == [1.0] * U
    assert made("flex", tau=1.0, warmup=False)(u, batch=batch).weight.tolist() == [1.0] * U


def test_frees_thresholds_start_at_chance_and_follow_confidence() -> None:
    labeler = Free(tensor(PRIOR))
    assert labeler.tau.item() == pytest.approx(1 / K)
    sure = output(20 * torch.eye(K, dtype=torch.float64))
    for step in range(50):
        labeler(sure, batch=shown(step)[0])
    assert labeler.tau.item() == pytest.approx(1 - 0.999**50 * (1 - 1 / K), rel=1e-6)
    assert labeler.mean_K.tolist() == pytest.approx([1 / K] * K)


def test_an_image_in_the_mean_has_full_weight_under_soft() -> None:
    labeler = made("soft", align="none", momentum=0.0)
    batch, u, _ = shown(2)
    weight = labeler(u, batch=batch).weight
    tops = u.probs.amax(-1)
    assert weight[tops >= tops.mean()].tolist() == [1.0] * int((tops >= tops.mean()).sum())
    assert (weight[tops < tops.mean()] < 1).all()


# Wrong words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "sets", "says"),
    [
        ("remixmatch", ("labeler.name=relative",), "labeler relative needs the predictions for labelled images"),
        (
            "marginmix",
            ("labeler.prior=running", "labeler.align=uniform"),
            'prior = "running" and align = "uniform" work against each other',
        ),
        ("fixmatch", ("labeler.name=free", "labeler.low=0.9", "labeler.high=0.5"), "low = 0.9 is above high = 0.5"),
        ("fixmatch", ("labeler.tau=95",), "labeler.tau: must be at most 1.1"),
        ("fixmatch", ("labeler.align=labeled",), "labeler.align"),
        ("fixmatch", ("labeler.window=-1",), "labeler.window"),
    ],
)
def test_what_cannot_be_is_told_before_a_run(
    method: str, sets: tuple[str, ...], says: str, mm: Callable[..., Result], tmp_path: Path
) -> None:
    path = written(method)
    done = mm("run", path, *(word for s in sets for word in ("--set", s)))
    assert done.code == 2, done.err
    assert says in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs").exists()


def test_a_labeler_without_the_labelled_predictions_says_so() -> None:
    batch, u, _ = shown(0)
    with pytest.raises(PluginError, match="relative"):
        made("relative")(u, batch=batch)


def test_alignment_stands_in_every_recipe_with_a_labeler() -> None:
    for method in ("mixmatch", "marginmix", "fixmatch", "pseudo_label"):
        table = recipe(method).data["labeler"]
        assert (table["align"], table["align_momentum"], table["window"]) == ("none", 0.999, 0)


def test_an_aligned_marginmix_differs_from_the_plain_one() -> None:
    plain, aligned = training("marginmix"), training("marginmix", "labeler.align=uniform")
    batch = plain.loader.batch(plain.staged(0))
    a, b = (run.method.step(batch).pseudo_labels.target for run in (plain, aligned))
    assert b.mean(0).std() < a.mean(0).std()


# Two processes -------------------------------------------------------------------------------------------------


def trace(part: Callable[[Tensor], Tensor]) -> dict[str, list[Tensor]]:
    """Labels, weights and states of every labeler over the steps, on this process's rows."""
    found: dict[str, list[Tensor]] = {}
    for name in NAMES:
        labeler = made(name)
        for step in range(4):
            batch, u, x = shown(step)
            x = output(x.logits[:4])  # as many rows on each process
            batch.index_u = part(batch.index_u)
            got = labeler(output(part(u.logits)), batch=batch, labeled=output(part(x.logits)))
            found[f"{name}-{step}"] = [got.target, got.weight, *labeler.state_dict().values()]
    return found


def two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(trace(lambda t: ops.local_rows(t).contiguous()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_two_processes_label_as_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(two, (str(tmp_path),), nprocs=2)
    alone = trace(lambda t: t)
    ranks = [torch.load(tmp_path / f"{r}.pt") for r in range(2)]
    for key, expected in alone.items():
        for n, value in enumerate(expected):
            a, b = (r[key][n] for r in ranks)
            if n < 2:  # labels and weights are dealt, states are shared
                a = b = torch.stack((a, b), 1).flatten(0, 1)
            assert torch.equal(a, b), key
            assert torch.allclose(a.double(), value.double(), rtol=1e-12, atol=1e-14), key


@pytest.mark.parametrize("method", ["mixmatch", "marginmix"])
@pytest.mark.parametrize("name", ["threshold", "flex", "free", "soft"])
def test_a_method_that_mixes_every_label_takes_no_mask(method: str, name: str) -> None:
    with pytest.raises(UserError, match="mixes all pseudo-labels and cannot use a labeler that masks"):
        training(method, f"labeler.name={name}")
