"""Means of training figures, the first that is not finite, and guesses against hidden labels."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.reference_math import randn
from mmctl.errors import Diverged
from mmctl.plugin import PseudoLabels, StepOutput
from mmctl.training.running_metrics import RunningMetrics, score_pseudo_labels

CPU = torch.device("cpu")
NONE = torch.zeros(0, dtype=torch.int64)


def tensor(value: float) -> torch.Tensor:
    return torch.tensor(value)


def add(tally: RunningMetrics, step: int, labeled: float, other: float = 0.0, loss: float | None = None) -> None:
    terms = StepOutput({"labeled": tensor(labeled), "other": tensor(other)}, {"extra": tensor(2.0)})
    tally.add(step, terms, tensor(labeled + other if loss is None else loss), NONE)


def test_means_over_the_window_which_then_closes() -> None:
    tally = RunningMetrics(3, CPU)
    for step, value in enumerate((1.0, 2.0, 6.0)):
        add(tally, step, value, -1.0)
    assert tally.read() == pytest.approx({"loss": 2.0, "labeled": 3.0, "other": -1.0, "extra": 2.0})
    add(tally, 3, 10.0)
    assert tally.read()["labeled"] == 10.0
    assert tally.read() == {}


def test_means_do_not_lose_small_figures() -> None:
    tally = RunningMetrics(3, CPU)
    add(tally, 0, 1e8)
    for step in range(1, 101):
        add(tally, step, 1.0)
    assert tally.read()["labeled"] == pytest.approx((1e8 + 100) / 101, rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_term_that_is_not_finite_is_named(value: float) -> None:
    tally = RunningMetrics(3, CPU)
    add(tally, 40, 1.0)
    add(tally, 41, 1.0, value)
    add(tally, 42, math.nan, value)  # all of it follows
    with pytest.raises(Diverged, match='"other" became NaN or infinite at step 41') as error:
        tally.read()
    assert error.value.step == 41


def test_the_sum_is_named_only_by_itself() -> None:
    tally = RunningMetrics(3, CPU)
    add(tally, 5, 1.0, 1.0, loss=math.nan)
    with pytest.raises(Diverged, match="the loss became NaN or infinite at step 5"):
        tally.check()


def test_scores_of_guesses() -> None:
    target = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3]])
    weight = torch.tensor([1.0, 1.0, 0.5, 0.0])
    hidden = torch.tensor([0, 2, -1, 0])
    got = {k: v.item() for k, v in score_pseudo_labels(PseudoLabels(target, weight), hidden).items()}
    assert got["guess_kept"] == pytest.approx(2.5 / 4)
    assert got["guess_top"] == pytest.approx((0.7 + 0.8 + 0.6 + 1 / 3) / 4)
    assert got["guess_known"] == pytest.approx(2 / 4)  # the third has no hidden label, the fourth is not used
    assert got["guess_right"] == pytest.approx(1 / 4)
    margins = [abs((3 * q - 1) / 2) for row in target.tolist() for q in row]
    assert got["guess_margin"] == pytest.approx(sum(margins) / 12)


def test_guesses_over_a_window() -> None:
    tally, rows = RunningMetrics(2, CPU), []
    for step in range(3):
        target, weight = randn(5, 2, seed=step).softmax(-1).float(), torch.tensor([1.0, 0.5, 0, 1, 1])
        hidden = torch.tensor([0, 1, 0, -1, 1])
        tally.add(
            step, StepOutput({"labeled": tensor(1.0)}, pseudo_labels=PseudoLabels(target, weight)), tensor(1.0), hidden
        )
        rows += list(zip(target.tolist(), weight.tolist(), hidden.tolist(), strict=True))
    got = tally.read()
    known = sum(w for _, w, h in rows if h >= 0)
    right = sum(w for q, w, h in rows if h >= 0 and q.index(max(q)) == h)
    assert got["guess_accuracy"] == pytest.approx(right / known)
    share = [sum(q[c] * w for q, w, _ in rows) for c in range(2)]
    share = [s / sum(share) for s in share]
    assert got["guess_largest"] == pytest.approx(max(share))
    assert got["guess_entropy"] == pytest.approx(-sum(p * math.log2(p) for p in share))
    assert not {"guess_known", "guess_right"} & set(got)
    sure = PseudoLabels(torch.eye(2)[[1, 1]], torch.ones(2))
    tally.add(3, StepOutput({"labeled": tensor(1.0)}, pseudo_labels=sure), tensor(1.0), torch.tensor([1, 0]))
    assert tally.read()["guess_largest"] == 1.0  # of the new window alone


def test_without_hidden_labels_there_is_no_accuracy() -> None:
    tally = RunningMetrics(2, CPU)
    guess = PseudoLabels(torch.full((3, 2), 0.5), torch.ones(3))
    tally.add(0, StepOutput({"labeled": tensor(1.0)}, pseudo_labels=guess), tensor(1.0), torch.tensor([-1, -1, -1]))
    got = tally.read()
    assert "guess_accuracy" not in got
    assert got["guess_entropy"] == pytest.approx(1)
    assert got["guess_margin"] == pytest.approx(0)


def test_margin_ratio() -> None:
    tally = RunningMetrics(2, CPU)
    tally.add(0, StepOutput({"margin": tensor(-0.5), "margin_unlabeled": tensor(-1.0)}), tensor(1.0), NONE)
    assert tally.read()["margin_ratio"] == pytest.approx(2.0)


def test_an_open_window_can_be_carried_over() -> None:
    whole, first, second = (RunningMetrics(2, CPU) for _ in range(3))
    for step in range(4):
        for tally in (whole, first if step < 2 else second):
            if step == 2 and tally is second:
                tally.open(list(first.names))
                for k, t in tally.tensors().items():
                    t.copy_(first.tensors()[k])
            add(tally, step, float(step), math.pi)
    assert second.read() == whole.read()
