"""Public: tensor operations for methods and other plugins; they give the same result on one process and on several.

B batch, D embedding, K classes, U unlabelled batch, N size of a memory. The "global" batch is the batch over all
ranks; rank r of W has its rows r, r+W, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from mmctl.plugin import Output

__all__ = [
    "Distance",
    "GeneralizedDistance",
    "all_reduce_sum",
    "argmax_one_hot",
    "concat_views",
    "distance_to_means",
    "draw_mixup",
    "ema_update_",
    "gather",
    "global_mean",
    "hashed_normal",
    "local_rows",
    "membership",
    "mixup",
    "pairwise_distance",
    "rank",
    "remember",
    "sharpen",
    "world_size",
]


def rank() -> int:
    """The number of this process; 0 if it is the only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that share the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local_rows(t: Any) -> Any:
    """The rows of a global array that belong to this rank."""
    return t[rank() :: world_size()] if world_size() > 1 else t


class _Gather(torch.autograd.Function):
    """All ranks' rows in global order; the backward pass sums the ranks' gradients of each row."""

    @staticmethod
    def forward(ctx: Any, t_B: Tensor) -> Tensor:
        parts = [torch.empty_like(t_B) for _ in range(world_size())]
        dist.all_gather(parts, t_B.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> Tensor:
        return local_rows(all_reduce_sum(grad_B))  # type: ignore[no-any-return]


class _Total(torch.autograd.Function):
    """Sum over ranks; the backward pass sums the ranks' gradients too."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        t = t.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(t)
        return t

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return all_reduce_sum(grad)  # itself differentiable, for gradients of gradients


def gather(t_B: Tensor) -> Tensor:
    """The global batch from the local rows of all ranks, in global order; differentiable."""
    return _Gather.apply(t_B) if world_size() > 1 else t_B  # type: ignore[no-any-return, no-untyped-call]


def all_reduce_sum(t: Tensor) -> Tensor:
    """The sum of a tensor over all ranks; differentiable."""
    return _Total.apply(t) if world_size() > 1 else t  # type: ignore[no-any-return, no-untyped-call]


def global_mean(t_B: Tensor) -> Tensor:
    """Mean over axis 0 of the global batch, the same value on every rank."""
    return all_reduce_sum(t_B.sum(0)) / (len(t_B) * world_size()) if world_size() > 1 else t_B.mean(0)


def sharpen(p_BK: Tensor, temperature: float) -> Tensor:
    """p^(1/T), renormalised (T = 1 changes nothing); computed from logarithms, so that nothing underflows to 0/0."""
    if temperature == 1:
        return p_BK
    tiny = torch.finfo(p_BK.dtype).tiny
    return (p_BK.clamp_min(tiny).log() / temperature).softmax(-1)


def argmax_one_hot(p_BK: Tensor) -> Tensor:
    """One-hot vector of the most probable class (the first one if several are equal)."""
    # Not torch's one_hot: it waits for the device to check its argument.
    return torch.zeros_like(p_BK).scatter_(-1, p_BK.argmax(-1, keepdim=True), 1.0)


def ema_update_(buffer: Tensor, value: Tensor, momentum: float) -> None:
    """buffer <- momentum * buffer + (1 - momentum) * value, in place."""
    buffer.lerp_(value.detach().to(buffer.dtype), 1 - momentum)


def concat_views(outputs: Sequence[Output], targets: Sequence[Tensor]) -> tuple[Output, Tensor]:
    """Join the outputs and targets of several views into one batch."""
    if len(outputs) == 1:
        return outputs[0], targets[0]
    out = Output(torch.cat([o.logits for o in outputs]), torch.cat([o.emb for o in outputs]))
    return out, torch.cat(list(targets))


def draw_mixup(
    rng: Generator,
    sizes: Sequence[int],
    alpha: float,
    lambda_per: Literal["sample", "batch"] = "sample",
    near: bool = True,
) -> dict[str, np.ndarray]:
    """MixUp's random numbers for batches of these global sizes: `lam`, and `partner`, a permutation over all of them.

    near: lambda <- max(lambda, 1 - lambda), so that each mixed image stays nearer to the original one (MixMatch).
    """
    n = sum(sizes)
    lam = rng.beta(alpha, alpha, n if lambda_per == "sample" else 1)
    lam = np.broadcast_to(np.maximum(lam, 1 - lam) if near else lam, (n,))
    return {"lam": lam.astype(np.float32), "partner": rng.permutation(n)}


def mixup(
    xs: Sequence[Tensor], ys: Sequence[Tensor], draws: dict[str, Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """MixUp (eq. 9): lambda * own + (1 - lambda) * partner for images and targets of each batch."""
    lam, partner = draws["lam"], draws["partner"]
    all_x, all_y = torch.cat([gather(x) for x in xs]), torch.cat([gather(y) for y in ys])
    if world_size() == 1:  # the same, but for all batches at once
        sizes = [len(x) for x in xs]
        x, y = (torch.lerp(t[partner], t, lam.to(t.dtype).view(-1, *[1] * (t.dim() - 1))) for t in (all_x, all_y))
        return torch.split(x, sizes), torch.split(y, sizes)
    mixed_x: list[Tensor] = []
    mixed_y: list[Tensor] = []
    start = 0
    for x, y in zip(xs, ys, strict=True):
        stop = start + len(x) * world_size()
        own, other = local_rows(lam[start:stop]), local_rows(partner[start:stop])
        own_x = own.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        own_y = own.to(y.dtype).view(-1, *[1] * (y.dim() - 1))
        mixed_x.append(torch.lerp(all_x[other], x, own_x))
        mixed_y.append(torch.lerp(all_y[other], y, own_y))
        start = stop
    return tuple(mixed_x), tuple(mixed_y)


_MIX = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)


def _hash32(t: Tensor) -> Tensor:
    """A 32-bit integer hash (the finaliser of MurmurHash3), in int64 arithmetic masked to 32 bits."""
    mask = 0xFFFFFFFF
    t = t & mask
    t = ((t ^ (t >> 16)) * _MIX[1]) & mask
    t = ((t ^ (t >> 13)) * _MIX[2]) & mask
    return t ^ (t >> 16)


def hashed_normal(seed_U: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers, U x shape, hashed from one integer per sample: no generator, equal on all devices.

    Box-Muller transform of two hashed 24-bit uniform numbers.
    """
    n = int(np.prod(shape))
    low = _hash32(seed_U & 0xFFFFFFFF)
    high = _hash32((seed_U >> 32) ^ 0x5BD1E995)
    key = _hash32(low ^ (high * _MIX[0]))[:, None]
    at = torch.arange(n, device=seed_U.device, dtype=torch.int64)[None]
    first = _hash32(key + at * _MIX[0])
    second = _hash32(first ^ (key * _MIX[1]) ^ 0x68E31DA4)
    u1 = ((first >> 8).to(torch.float32) + 0.5) * 2**-24
    u2 = (second >> 8).to(torch.float32) * 2**-24
    z = (-2 * u1.log()).sqrt() * (2 * torch.pi * u2).cos()
    return z.view(len(seed_U), *shape)


def remember(memory_N: Tensor, index_U: Tensor, value_U: Tensor) -> None:
    """memory[index] <- value, with the rows of all ranks; if an index occurs twice, its last value is stored."""
    index, value = gather(index_U), gather(value_U)
    same = index[:, None] == index[None, :]
    last = (same * torch.arange(1, len(index) + 1, device=index.device)).argmax(1)
    memory_N.index_copy_(0, index, value[last].to(memory_N.dtype))


Distance = Literal["euclidean", "manhattan", "cosine", "gaussian"]
"""Squared distance of two embeddings x and y: ||x - y||^2, sum |x - y|, 2 - 2 cos(x, y), or that of kernel k-means
with a Gaussian kernel, 2 - 2 exp(-||x - y||^2 / (2 bandwidth^2)). Each is the square of a Euclidean distance in some
space, so no distance to a mean is negative.
"""


def pairwise_distance(x_BD: Tensor, y_ND: Tensor, distance: Distance, bandwidth: float = 1.0) -> Tensor:
    """The squared distances BN of all pairs."""
    if distance == "manhattan":
        return torch.cdist(x_BD, y_ND, p=1.0)
    if distance == "cosine":
        return 2 - 2 * F.normalize(x_BD, dim=-1, eps=1e-6) @ F.normalize(y_ND, dim=-1, eps=1e-6).T
    squared_BN = x_BD.square().sum(-1, keepdim=True) + y_ND.square().sum(-1) - 2 * x_BD @ y_ND.T
    return squared_BN if distance == "euclidean" else 2 - 2 * (squared_BN / (-2 * bandwidth**2)).exp()


def distance_to_means(cross_BN: Tensor, within_NN: Tensor, member_NK: Tensor) -> Tensor:
    """Squared distances BK of points to class means, from squared distances of points alone (MarginMix, eq. 4, 5).

    cross: from each point to the N remembered ones; within: among these; member: their memberships mu, at least 0.
    With s_c = mu_c / sum(mu_c) and w = s_c - b_i, where the basis vector b_i is the point itself, eq. 4 says
    D_ic = -w^T A w / 2, which is (A s_c)_i - s_c^T A s_c / 2, because a_ii = 0. If A is Euclidean, D_ic is the squared
    distance to the mean sum_j s_jc e_j; else the mean is never computed (kernel k-means). A class without members
    gets 0.
    """
    share_NK = member_NK / member_NK.sum(0).clamp_min(1e-12)
    spread_K = (share_NK * (within_NN @ share_NK)).sum(0)
    return cross_BN @ share_NK - spread_K / 2


def membership(squared_BK: Tensor, seen_K: Tensor) -> Tensor:
    """Eq. 6 from squared distances: 1 / sum_j (d_c / d_j)^2 = softmax_c(-log d_c^2), BK; never 0/0.

    It is 0 for a class not seen yet; before any class is seen, all memberships are equal.
    """
    any_seen = seen_K.any()
    log = squared_BK.clamp_min(1e-12).log()
    return torch.softmax((-log * any_seen).masked_fill(~seen_K & any_seen, -torch.inf), -1)


class GeneralizedDistance:
    """Distances to the classes by any `Distance`, in place of those of `centroids`.

    With centroids.estimator = "memory" a class is its labelled images, of which the memory has the last embeddings;
    the mean is never computed. With any other estimator it is one point, its centroid.
    """

    def __init__(self, centroids: Any, distance: Distance, bandwidth: float = 1.0) -> None:
        self.centroids, self.kind, self.bandwidth = centroids, distance, bandwidth

    @property
    def seen_K(self) -> Tensor:  # noqa: N802  the shape suffix of all tensors
        """Which classes have a centroid."""
        return self.centroids.seen_K  # type: ignore[no-any-return]

    def distance(self, emb_BD: Tensor) -> Tensor:
        """Squared distances BK of the embeddings to the classes; differentiable."""
        emb_BD = self.centroids.normalized(emb_BD)
        if self.centroids.estimator != "memory":
            return self._pairs(emb_BD, self.centroids.centers().to(emb_BD.dtype))
        memory_ND, member_NK = (t.to(emb_BD.dtype) for t in (self.centroids.memory_ND, self.centroids.target_NK))
        return distance_to_means(self._pairs(emb_BD, memory_ND), self._pairs(memory_ND, memory_ND), member_NK)

    def _pairs(self, x_BD: Tensor, y_ND: Tensor) -> Tensor:
        return pairwise_distance(x_BD, y_ND, self.kind, self.bandwidth)

    def membership(self, emb_BD: Tensor) -> Tensor:
        """Eq. 6 with these distances, BK."""
        return membership(self.distance(emb_BD), self.seen_K)
