"""Scores against scikit-learn's, and evaluation leaves no trace on what it evaluates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from helpers.reference_math import randn, squared, unit
from helpers.tiny_project import training
from mmctl.data.images import Normalize, Pictures
from mmctl.training.evaluate import EvaluationStopped, evaluate, recompute_bn, refit_centroids, score
from mmctl.training.loop import Evaluated, device_step, evaluate_all, train
from mmctl.training.model import Model
from mmctl.training.state import Training


def predictions(n: int = 200, k: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities that are right somewhat more often than not, and true classes without class 3."""
    target = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, 4], n, p=[0.5, 0.3, 0.15, 0.05]))
    logits = 1.5 * randn(n, k) + 1.2 * torch.nn.functional.one_hot(target, k)
    return logits.log_softmax(-1), target


def test_figures_are_scikit_learns() -> None:
    from sklearn import metrics

    logp, target = predictions()
    got, said = score(logp, target), logp.argmax(-1)
    assert 0.3 < got.metrics["accuracy"] < 0.9
    assert 3 in said  # a class that no image has is said all the same
    present = [0, 1, 2, 4]
    recalls = metrics.recall_score(target, said, labels=range(5), average=None, zero_division=0)
    expected = {
        "accuracy": metrics.accuracy_score(target, said),
        "balanced_accuracy": recalls[present].mean(),
        "macro_f1": metrics.f1_score(target, said, average="macro"),  # with class 3, which is predicted: F1 = 0
        "nll": metrics.log_loss(target, logp.exp().numpy(), labels=range(5)),
        "largest_class": np.bincount(said).max() / 200,
    }
    assert {k: got.metrics[k] for k in expected} == pytest.approx(expected, rel=1e-9)
    assert got.confusion == metrics.confusion_matrix(target, said, labels=range(5)).tolist()
    assert got.per_class == [pytest.approx(r) if c in present else None for c, r in enumerate(recalls)]
    assert got.n == 200


def test_balanced_accuracy_is_scikit_learns_where_all_classes_occur() -> None:
    from sklearn import metrics

    logp, target = predictions(300, 5)
    target[:20] = 3
    got = score(logp, target)
    assert got.metrics["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(target, logp.argmax(-1)))


def test_a_class_that_neither_occurs_nor_is_predicted_does_not_count_in_macro_f1() -> None:
    from sklearn import metrics

    logp, target = predictions()
    logp[:, 3] = -torch.inf
    got = score(logp, target).metrics["macro_f1"]
    assert got == pytest.approx(metrics.f1_score(target, logp.argmax(-1), average="macro"), rel=1e-9)
    assert got == pytest.approx(metrics.f1_score(target, logp.argmax(-1), labels=[0, 1, 2, 4], average="macro"))


@pytest.mark.filterwarnings("error")
def test_scores_of_outputs_that_are_not_finite() -> None:
    logp, target = predictions(4, 3)
    target = target.clamp_max(2)
    logp[1, target[1]] = -torch.inf
    assert score(logp, target).metrics["nll"] == math.inf
    assert math.isfinite(score(logp, target).metrics["ece"])
    logp[2] = torch.nan
    found = score(logp, target).metrics
    assert math.isnan(found["nll"])
    assert math.isnan(found["ece"])
    assert all(math.isfinite(found[k]) for k in ("accuracy", "balanced_accuracy", "macro_f1", "largest_class"))


def test_distances_are_no_probabilities() -> None:
    """NLL and ECE of the centroid predictor would depend on a temperature that nobody fitted."""
    run = stepped()
    found, _ = evaluate(run.model, run.splits["test"], refit_centroids(run.model, run.centroids, run.labeled))
    assert found["head"].metrics.keys() - found["centroid"].metrics.keys() == {"nll", "ece"}
    assert not found["centroid"].metrics.keys() - found["head"].metrics.keys()
    logp, target = predictions()
    head, distance = score(logp, target).metrics, score(logp, target, probabilities=False).metrics
    assert distance == {k: v for k, v in head.items() if k in distance}


def test_calibration_error_by_hand() -> None:
    p = [[0.91, 0.09], [0.95, 0.05], [0.61, 0.39], [0.29, 0.71], [0.58, 0.42]]
    target = torch.tensor([0, 1, 0, 1, 1])
    got = score(torch.tensor(p).log(), target, bins=10).metrics["ece"]
    # From .9: one right, one wrong; from .7: right; from .6: right; from .5: wrong.
    expected = 2 / 5 * abs(0.5 - 0.93) + 1 / 5 * abs(1 - 0.71) + 1 / 5 * abs(1 - 0.61) + 1 / 5 * abs(0 - 0.58)
    assert got == pytest.approx(expected, abs=1e-6)


def test_calibration_of_the_certain() -> None:
    logp = torch.tensor([[0.0, -100.0], [0.0, -100.0]])
    assert score(logp, torch.tensor([0, 0])).metrics["ece"] == pytest.approx(0, abs=1e-9)
    assert score(logp, torch.tensor([1, 1])).metrics["ece"] == pytest.approx(1)
    assert score(logp, torch.tensor([1, 1])).metrics["nll"] == pytest.approx(100)


def stepped(*sets: str, steps: int = 3) -> Training:
    run = training("marginmix", *sets)
    for step in range(steps):
        device_step(run, run.staged(step))
    run.step = steps
    return run


def test_evaluation_leaves_no_trace() -> None:
    run = stepped()
    before = {k: t.clone() for k, t in run.tensors().items()}
    modes = {k: m.training for k, m in run.parts.items()}
    for net in run.nets.values():
        evaluate(net, run.splits["test"], refit_centroids(net, run.centroids, run.labeled))
    for k, t in run.tensors().items():
        assert torch.equal(t, before[k]), k
    assert modes["model"]
    # The next step is what it would have been.
    other = stepped()
    for r in (run, other):
        device_step(r, r.staged(3))
    for (k, a), b in zip(run.tensors().items(), other.tensors().values(), strict=True):
        assert torch.equal(a, b), k


@pytest.mark.parametrize("estimator", ["running", "memory", "learned", "exact"])
def test_centroids_are_refitted_on_a_copy(estimator: str) -> None:
    run = stepped(f"centroids.estimator={estimator}")
    before = run.centroids.mean_KD.clone()
    own = refit_centroids(run.model, run.centroids, run.labeled)
    assert own is not run.centroids
    assert torch.equal(run.centroids.mean_KD, before)
    assert not torch.allclose(own.mean_KD, before)
    x, y = next(iter(run.labeled))
    emb = run.model(x, bn="running").emb.tolist()
    for c in range(3):
        rows = [unit(e) for e, t in zip(emb, y.argmax(-1).tolist(), strict=True) if t == c]
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        assert own.mean_KD[c].tolist() == pytest.approx(mean, abs=1e-5)


def test_the_centroid_predictor_says_the_nearest() -> None:
    run = stepped(steps=10)
    own = refit_centroids(run.model, run.centroids, run.labeled)
    found, agreement = evaluate(run.model, run.splits["test"], own)
    right = agree = 0
    for x, y in run.splits["test"]:
        out = run.model(x, bn="running")
        for e, logits, target in zip(out.emb.tolist(), out.logits.tolist(), y.argmax(-1).tolist(), strict=True):
            d = [squared(unit(e), unit(c)) for c in own.mean_KD.tolist()]
            right += d.index(min(d)) == target
            agree += d.index(min(d)) == logits.index(max(logits))
    n = len(run.splits["test"])
    assert found["centroid"].metrics["accuracy"] == pytest.approx(right / n)
    assert agreement == pytest.approx(agree / n)
    assert found["head"].n == n == 45


def test_an_average_gets_statistics_of_its_own() -> None:
    run = stepped("average.buffers=recompute", "train.batch=7", "train.unlabeled_batch=7")
    assert run.ema is not None
    assert run.pool is not None
    assert len(run.pool) == 120  # labelled and unlabelled
    before = {k: t.clone() for k, t in run.tensors().items()}
    own = run.ready("ema")
    # The plain mean over batches of what the first convolution gives: its mean, and its unbiased variance.
    conv = run.ema.backbone.layers[0]  # type: ignore[index, union-attr]
    means, variances = [], []
    with torch.no_grad():
        for x, _ in run.pool:
            seen = conv(x).double()
            means.append(seen.mean((0, 2, 3)))
            variances.append(seen.var((0, 2, 3)))
    norm = own.backbone.layers[1]  # type: ignore[index, union-attr]
    assert len(means) == 18
    assert norm.running_mean.tolist() == pytest.approx(torch.stack(means).mean(0).tolist(), abs=1e-5)
    assert norm.running_var.tolist() == pytest.approx(torch.stack(variances).mean(0).tolist(), rel=1e-4)
    assert not own.training
    assert not any(m.training for m in own.modules())
    for (k, p), q in zip(own.named_parameters(), run.ema.parameters(), strict=True):
        assert torch.equal(p, q), k
    for k, t in run.tensors().items():
        assert torch.equal(t, before[k]), k
    again = run.ready("ema")
    assert all(torch.equal(a, b) for a, b in zip(own.buffers(), again.buffers(), strict=True))
    assert run.ready("raw") is run.model


def test_statistics_are_found_anew_for_each_evaluation() -> None:
    def figures(buffers: str) -> list[float]:
        run = stepped(f"average.buffers={buffers}", "average.kind=swa", "average.start=1", "average.every=1", steps=9)
        events = [e for e in evaluate_all(run, lambda: False) if isinstance(e, Evaluated)]
        return [e.scores["head"].metrics["nll"] for e in events]

    (raw, kept), (same, found) = figures("copy"), figures("recompute")
    assert raw == same
    assert found != kept
    run = stepped("average.buffers=recompute")
    list(evaluate_all(run, lambda: True))
    assert run.evaluation_stopped, "a signal is heard meanwhile"
    assert stepped("average.kind=none", "average.buffers=recompute").pool is None


class Noisy(torch.nn.Module):
    """A backbone with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = 4
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def test_dropout_does_not_make_statistics_a_matter_of_chance() -> None:
    net = Model(Noisy(), 3)
    pictures: Any = [(torch.randn(8, 6, generator=torch.Generator().manual_seed(i)), None) for i in range(3)]
    a, b = recompute_bn(net, pictures), recompute_bn(net, pictures)
    seen = torch.cat([net.backbone.layers[0](x) for x, _ in pictures])  # type: ignore[index, union-attr]
    assert torch.allclose(a.backbone.layers[2].running_mean, seen.mean(0), atol=1e-6)  # type: ignore[index, union-attr]
    assert all(torch.equal(p, q) for p, q in zip(a.buffers(), b.buffers(), strict=True))


def test_a_class_without_a_centroid_is_never_said() -> None:
    run = stepped()
    own = refit_centroids(run.model, run.centroids, run.labeled)
    own.seen_K[1] = False
    found, _ = evaluate(run.model, run.splits["test"], own)
    assert [row[1] for row in found["centroid"].confusion] == [0, 0, 0]


def test_batches_of_evaluation_do_not_matter() -> None:
    run = stepped()
    pictures = run.splits["test"]
    small = Pictures.__new__(Pictures)
    small.__dict__.update(pictures.__dict__, batch=7)
    assert isinstance(small.normalize, Normalize)
    whole, _ = evaluate(run.model, pictures, run.centroids)
    parts, _ = evaluate(run.model, small, run.centroids)
    for predictor in ("head", "centroid"):
        assert parts[predictor].metrics == pytest.approx(whole[predictor].metrics, rel=1e-4)


def test_a_signal_cuts_evaluation_short() -> None:
    run = stepped()
    with pytest.raises(EvaluationStopped):
        evaluate(run.model, run.splits["test"], run.centroids, stop=lambda: True)


def test_an_evaluation_that_was_cut_is_made_first_on_resume() -> None:
    def found(run: Training, first: int) -> list[Evaluated]:
        run.step = first
        return [e for e in train(run, lambda: False) if isinstance(e, Evaluated)]

    run = stepped("eval.every=3", "train.steps=5")
    assert [(e.step, e.weights, e.split) for e in found(run, 3)] == [
        (3, "raw", "test"), (3, "ema", "test"), (5, "raw", "test"), (5, "ema", "test"),
    ]  # fmt: skip
    cut = stepped("eval.every=3", "train.steps=5", steps=2)
    events = list(train(cut, lambda: cut.step == 3))
    assert cut.evaluation_stopped
    assert not [e for e in events if isinstance(e, Evaluated)]
    assert [type(e).__name__ for e in events if e] == ["Saved"]
