"""Class centroids in the embedding space: labelers, margin losses and the centroid predictor share them.

The recipe's [centroids] table decides whether embeddings and centroids are scaled to length 1, and whether distances
are squared; a loss may scale otherwise (large_margin's `normalize`).

B batch, D embedding, K classes, N labelled images.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmctl import ops
from mmctl.errors import UserError
from mmctl.recipe.settings import Centroids as CentroidSettings
from mmctl.training.model import Model

EPS = 1e-6  # a shorter embedding has no direction; torch's default of 1e-12 gives gradients of 1e12 there


class Centroids(nn.Module):
    """Class centroids (eq. 1), with the estimators and geometries that the paper leaves open.

    running: Wen et al.'s damped mean, c += rate * n / (1 + n) * (m - c). ema: c += rate * (m - c).
    batch: the mean over the last batch that had the class. memory: the mean of the last embedding of each labelled
    image. learned: a parameter with its own learning rate `rate`. exact: recomputed by `refit` between steps.
    """

    mean_KD: Tensor
    seen_K: Tensor

    def __init__(self, num_classes: int, embed_dim: int, settings: CentroidSettings, num_labeled: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.estimator, self.rate = settings.estimator, settings.rate
        self.every, self.images, self.network = settings.every, settings.images, settings.network
        self.normalize_embeddings, self.normalize_centroids = (
            settings.normalize_embeddings,
            settings.normalize_centroids,
        )
        self.squared_loss = settings.distance == "squared"
        if self.estimator == "learned":
            if not self.normalize_centroids:
                raise UserError(
                    'centroids.estimator = "learned" needs centroids.normalize_centroids = true: without it the '
                    "margin loss pushes learned centroids away without bound (length 1e6 within 100 steps)."
                )
            self.mean_KD = nn.Parameter(torch.randn(num_classes, embed_dim))
            self.optim = {"lr": self.rate, "momentum": 0.0, "weight_decay": 0.0}
        else:
            self.register_buffer("mean_KD", torch.zeros(num_classes, embed_dim))
        self.register_buffer("seen_K", torch.full((num_classes,), self.estimator == "learned"))
        if self.estimator == "memory":
            self.register_buffer("memory_ND", torch.zeros(num_labeled, embed_dim))
            self.register_buffer("target_NK", torch.zeros(num_labeled, num_classes))

    @property
    def per_step(self) -> bool:
        """Whether the method must call `update` with labelled embeddings in each training step."""
        return self.estimator in ("running", "ema", "batch", "memory")

    def normalized(self, emb_BD: Tensor, unit: bool | None = None) -> Tensor:
        """The embedding that distances are computed from: scaled to length 1, or not; `unit` overrides the recipe."""
        unit = self.normalize_embeddings if unit is None else unit
        return F.normalize(emb_BD, dim=-1, eps=EPS) if unit else emb_BD

    def centers(self, unit: bool | None = None) -> Tensor:
        """The centroids that distances are computed from, KD; without gradient (eq. 11) unless they are learned.

        unit: scale them to length 1; None = as [centroids] says.
        """
        mean = self.mean_KD if self.estimator == "learned" else self.mean_KD.detach()
        unit = self.normalize_centroids if unit is None else unit
        return F.normalize(mean, dim=-1, eps=EPS) if unit else mean

    def squared(self, emb_BD: Tensor, unit_e: bool | None = None, unit_c: bool | None = None) -> Tensor:
        """Squared distances BK of the embeddings to all centroids (meaningless for classes not seen yet).

        unit_e, unit_c: scale embeddings and centroids to length 1; None = as [centroids] says.
        """
        e, c = self.normalized(emb_BD, unit_e), self.centers(unit_c).to(emb_BD.dtype)
        return ops.pairwise_distance(e, c, "euclidean")

    def distance(self, emb_BD: Tensor, unit_e: bool | None = None, unit_c: bool | None = None) -> Tensor:
        """Distances BK for losses, squared or not; finite, and with a finite gradient, even at zero."""
        if self.squared_loss:
            return self.squared(emb_BD, unit_e, unit_c)
        # The square root of `squared` has no gradient at zero; the norm of the difference has gradient 0 there.
        difference = self.normalized(emb_BD, unit_e)[:, None] - self.centers(unit_c).to(emb_BD.dtype)
        return torch.linalg.vector_norm(difference, dim=-1)  # type: ignore[no-any-return]

    def membership(self, emb_BD: Tensor) -> Tensor:
        """Eq. 6, BK: never 0/0, and 0 for classes not seen yet."""
        return ops.membership(self.squared(emb_BD), self.seen_K)

    @torch.no_grad()
    def update(self, emb_BD: Tensor, target_BK: Tensor, index_B: Tensor | None = None) -> None:
        """Eq. 1 for one batch of labelled embeddings; classes that are not in the batch keep their centroid."""
        if not self.per_step:
            return
        if self.estimator == "memory":
            assert index_B is not None
            ops.remember(self.memory_ND, index_B, self.normalized(emb_BD))  # type: ignore[arg-type]
            ops.remember(self.target_NK, index_B, target_BK)  # type: ignore[arg-type]
            n_K, sum_KD = self.target_NK.sum(0), self.target_NK.T @ self.memory_ND  # type: ignore[operator]
        else:
            n_K, sum_KD = map(ops.all_reduce_sum, _sums(self.normalized(emb_BD), target_BK))
        mean_KD = sum_KD / n_K.clamp_min(1e-12)[:, None]
        if self.estimator == "running":
            rate_K = self.rate * n_K / (1 + n_K)
        elif self.estimator == "ema":
            rate_K = torch.full_like(n_K, self.rate)
        else:
            rate_K = torch.ones_like(n_K)
        rate_K = torch.where(self.seen_K, rate_K, 1.0) * (n_K > 0)
        self.mean_KD.lerp_(mean_KD, rate_K[:, None])
        self.seen_K.logical_or_(n_K > 0)

    @torch.no_grad()
    def refit(self, net: Model, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Recompute the centroids in place: exact means of the embeddings by `net` in eval mode.

        batches: normalised images BCHW and targets BK; on several processes, those of each.
        """
        n_K = torch.zeros_like(self.seen_K, dtype=self.mean_KD.dtype)
        sum_KD = torch.zeros_like(self.mean_KD)
        for x_BCHW, target_BK in batches:
            n, s = _sums(self.normalized(net(x_BCHW, bn="running").emb), target_BK)
            n_K, sum_KD = n_K + n, sum_KD + s
        n_K, sum_KD = ops.all_reduce_sum(n_K), ops.all_reduce_sum(sum_KD)
        self.mean_KD.copy_(torch.where((n_K > 0)[:, None], sum_KD / n_K.clamp_min(1e-12)[:, None], self.mean_KD))
        self.seen_K.logical_or_(n_K > 0)

    def signals(self) -> dict[str, Tensor]:
        """Early signs of collapse: mean pairwise cosine (1 = all centroids coincide), lengths, unseen classes."""
        mean = self.mean_KD.detach()
        unit, length, seen = F.normalize(mean, dim=-1, eps=EPS), mean.norm(dim=-1), self.seen_K.to(mean.dtype)
        pairs = seen.sum() * (seen.sum() - 1)
        both = seen[:, None] * seen
        cosine = ((unit @ unit.T) * both).sum() - seen.sum()
        return {
            "centroid_cosine": cosine / pairs.clamp_min(1),
            "centroid_length_min": length.masked_fill(~self.seen_K, torch.inf).amin(),
            "centroid_length_max": (length * seen).amax(),
            "centroids_unseen": (1 - seen).mean(),
        }


def _sums(emb_BD: Tensor, target_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Number of images and sum of embeddings per class: summed over all ranks, they give all ranks the same means."""
    target_BK = target_BK.to(emb_BD.dtype)
    return target_BK.sum(0), target_BK.T @ emb_BD
