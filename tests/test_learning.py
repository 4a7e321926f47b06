"""The methods learn: on real digits with 40 labels, unlabelled images are worth several points, over seeds."""

from __future__ import annotations

from statistics import mean

import pytest
import torch

from helpers.paths import REPO
from mmctl.recipe.recipe import load
from mmctl.runs.build import build_training, read_data
from mmctl.training.loop import Evaluated, train

SEEDS = (20, 21, 22)


def accuracy(recipe: str, seed: int, *sets: str) -> float:
    made = load(REPO / "recipes" / recipe, sets=[f"seed={seed}", "eval.every=500", *sets])
    run = build_training(made, read_data(made), torch.device("cpu"), None)
    ends = [e for e in train(run, lambda: False) if isinstance(e, Evaluated) and e.weights == "ema"]
    return ends[-1].scores["head"].metrics["accuracy"]


@pytest.fixture(scope="module")
def baseline() -> list[float]:
    torch.set_num_threads(1)
    return [accuracy("digits-supervised.toml", seed) for seed in SEEDS]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("digits.toml", marks=pytest.mark.slow),
        pytest.param("digits-mixmatch.toml", marks=pytest.mark.slow),
        pytest.param("digits/vat.toml", marks=pytest.mark.exhaustive),
    ],
)
def test_unlabelled_digits_help(method: str, baseline: list[float]) -> None:
    torch.set_num_threads(1)
    gains = [accuracy(method, seed) - b for seed, b in zip(SEEDS, baseline, strict=True)]
    # The trials over ten seeds had +4.2 and +4.3 points for the first two, the lowest seed +1.2; VAT had +5.3 over six
    # seeds, the lowest +3.4. Other consistency methods gain less over a baseline that mixes its images.
    assert mean(gains) > 0.02, (baseline, gains)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("pseudo_label", marks=pytest.mark.slow),
        pytest.param("flexmatch", marks=pytest.mark.exhaustive),
        pytest.param("remixmatch", marks=pytest.mark.exhaustive),
    ],
)
def test_pseudo_labels_on_digits_help(method: str) -> None:
    torch.set_num_threads(1)
    # Without MixUp, which the first two have not; with it the baseline is 5 points better.
    sets = () if method == "remixmatch" else ("method.alpha=0",)
    gains = [accuracy(f"digits/{method}.toml", s) - accuracy("digits-supervised.toml", s, *sets) for s in SEEDS]
    # Seeds 0 to 2 had +6.6, +7.9 and +5.1 points.
    assert mean(gains) > 0.025, gains
