"""Every method on several processes computes what it computes on one: weights, averages, memories, curves."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import mmctl.methods.fixmatch
import mmctl.methods.mixmatch
import mmctl.training.centroids
import mmctl.training.model
from helpers.method_cases import SOFT, every_case
from helpers.shared_runs import Spoil, alone, distance, ranks_agree, shared
from mmctl import ops
from mmctl.training.state import Training

SAME, OTHER = 1e-12, 1e-4


@pytest.mark.sampled(102, 9)
@pytest.mark.parametrize("world", [2, 4])
@every_case
def test_several_processes_train_as_one_does(method: str, sets: tuple[str, ...], world: int) -> None:
    sets = (*SOFT.get(method, ()), *sets)
    one, ranks = alone(method, sets), shared(world, method, sets)
    assert ranks_agree(ranks)
    assert distance(ranks[0], one) < SAME


# What such a program gets wrong, one at a time: a test that finds none of it proves nothing ------------------------


def batch_norm_of_each(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mmctl.training.model, "GlobalBatchNorm", nullcontext)


def draws_of_each(run: Training) -> None:
    run.loader.seed += ops.rank()


def partners_within(patch: pytest.MonkeyPatch) -> None:
    def mixup(xs: tuple[Tensor, ...], ys: tuple[Tensor, ...], draws: dict[str, Tensor]) -> Any:
        n = sum(map(len, xs))
        lam, partner, mixed = draws["lam"][:n], draws["partner"][:n] % n, []
        for parts in (xs, ys):
            own = torch.cat(parts)
            share = lam.to(own.dtype).view(-1, *[1] * (own.dim() - 1))
            mixed.append(torch.lerp(own[partner], own, share).split([len(x) for x in xs]))
        return mixed

    patch.setattr(mmctl.methods.mixmatch, "mixup", mixup)


def own_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mmctl.methods.fixmatch, "global_mean", lambda t: t.mean(0))


def mean_of_class_means(patch: pytest.MonkeyPatch) -> None:
    sums = mmctl.training.centroids._sums

    def wrong(emb_BD: Tensor, target_BK: Tensor) -> tuple[Tensor, Tensor]:
        n_K, sum_KD = sums(emb_BD, target_BK)
        return (n_K > 0).to(n_K.dtype), sum_KD / n_K.clamp_min(1e-12)[:, None]

    patch.setattr(mmctl.training.centroids, "_sums", wrong)


def own_centroids(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mmctl.training.centroids, "ops", SimpleNamespace(**{**vars(ops), "all_reduce_sum": lambda t: t}))


def stale_average(run: Training) -> None:
    if ops.rank() == 1 and run.ema is not None:
        run.ema._copied, run.ema._sources = [], []


MISTAKES: dict[str, tuple[str, tuple[str, ...], Any, Spoil | None]] = {
    "batch norm over the rows of each process": ("mixmatch", (), batch_norm_of_each, None),
    "a random stream for each process": ("mixmatch", (), None, draws_of_each),
    "MixUp partners within a process": ("mixmatch", (), partners_within, None),
    "a masked mean divided by the count of each process": ("uda", ("method.tsa=exp",), own_count, None),
    "the mean over processes of class means": ("marginmix", ("centroids.estimator=ema",), mean_of_class_means, None),
    "centroids of each process": ("marginmix", ("centroids.estimator=ema",), own_centroids, None),
    "buffers of the average not copied on one": ("marginmix", ("method.guesser=ema",), None, stale_average),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, sets, patch, spoil = MISTAKES[name]
    one = alone(method, sets)
    if patch:
        patch(monkeypatch)
    ranks = shared(2, method, sets, *([spoil] if spoil else []))
    assert max(distance(rank, one) for rank in ranks) > OTHER
