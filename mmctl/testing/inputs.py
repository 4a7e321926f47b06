"""Small inputs for contracts: what a network says, a batch, and what mmctl supplies. K classes, D embedding."""

from __future__ import annotations

from typing import Any

import torch

from mmctl.plugin import Batch, Output
from mmctl.recipe.settings import Centroids as CentroidSettings
from mmctl.training.centroids import Centroids

D = 6
U = 12
LABELED = 8
UNLABELED = 24  # at least U: the images of a batch differ


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SHUFFLED = torch.randperm(U, generator=torch.Generator().manual_seed(0))
"""An order of U rows that no mistake such as flip or roll undoes; (7 i + 3) mod 12, for one, commutes with a flip."""


def outputs(
    n: int,
    K: int,
    seed: int,
    scale: float = 2.0,
    gradient: bool = False,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Output:
    """What a network says of n images; scale: size of the logits."""
    if device is not None:  # no values are needed on a device that does not exist
        return Output(torch.empty(n, K, device=device), torch.empty(n, D, device=device))
    logits, emb = (scale * _random(n, K, seed=seed)).to(dtype), _random(n, D, seed=seed + 1000).to(dtype)
    return Output(logits.requires_grad_(gradient), emb.requires_grad_(gradient))


def batch(K: int, step: int = 0, device: torch.device | None = None) -> Batch:
    """A batch without images, for components that see only what the network says of them."""
    y = torch.zeros(LABELED, K, device=device)
    y[:, 0] = 1
    return Batch(
        x=(), u=(), y=y, index_x=torch.arange(LABELED, device=device),
        index_u=(torch.arange(U, device=device) + 7 * step) % UNLABELED,
        step=torch.zeros((), dtype=torch.int64, device=device) + step, draws={}, view_draws={},
    )  # fmt: skip


def known(K: int, device: torch.device | None = None) -> dict[str, Any]:
    """What mmctl supplies to labelers and losses: facts of the data, and centroids that have been seen."""
    centroids = Centroids(K, D, CentroidSettings.model_validate({}), LABELED)
    with torch.no_grad():
        if device is None or device.type == "cpu":
            centroids.mean_KD.copy_(_random(K, D, seed=99))
        centroids.seen_K.fill_(True)
    prior_K = torch.arange(1, K + 1, dtype=torch.float32)
    return {
        "num_classes": K, "embed_dim": D, "num_labeled": LABELED, "num_unlabeled": UNLABELED, "steps": 100,
        "prior_K": (prior_K / prior_K.sum()).to(device or "cpu"), "centroids": centroids.to(device or "cpu"),
    }  # fmt: skip
