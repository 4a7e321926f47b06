"""The paper's equations as plain float64 loops, and the stand-ins for a recipe's tables that tests share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mmctl.plugin import Output
from mmctl.training.centroids import Centroids

Vector = Sequence[float]
Rows = list[list[float]]


def settings(**changed: Any) -> Any:
    """A [centroids] table."""
    table = {
        "estimator": "running", "rate": 0.5, "every": 20, "images": 4096, "network": "model",
        "normalize_embeddings": True, "normalize_centroids": True, "distance": "squared",
    }  # fmt: skip
    return SimpleNamespace(**table | changed)


def centroids(mean_KD: Tensor, seen: Sequence[bool] | None = None, **changed: Any) -> Centroids:
    """Centroids that stand at the given places."""
    made = Centroids(*mean_KD.shape, settings(**changed)).to(mean_KD.dtype)
    with torch.no_grad():
        made.mean_KD.copy_(mean_KD)
        made.seen_K.copy_(torch.tensor(seen if seen is not None else [True] * len(mean_KD)))
    return made


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers, the same in every test."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def output(emb_BD: Tensor, logits_BK: Tensor | None = None, k: int = 3) -> Output:
    """What a network might say."""
    return Output(torch.zeros(len(emb_BD), k, dtype=emb_BD.dtype) if logits_BK is None else logits_BK, emb_BD)


def unit(v: Vector) -> list[float]:
    """v / |v|; a vector that is all but zero stays near zero."""
    length = max(math.sqrt(sum(a * a for a in v)), 1e-6)
    return [a / length for a in v]


def squared(a: Vector, b: Vector) -> float:
    """Squared Euclidean distance."""
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def power(p: Vector, temperature: float) -> list[float]:
    """Eq. 8: p^(1/T), renormalised."""
    raised = [v ** (1 / temperature) for v in p]
    return [v / sum(raised) for v in raised]


def softmax(logits: Vector) -> list[float]:
    """The head's probabilities."""
    top = max(logits)
    return [math.exp(v - top) / sum(math.exp(w - top) for w in logits) for v in logits]


def membership(e: Vector, cs: Sequence[Vector], exponent: float = 2.0) -> list[float]:
    """Eq. 6 as it is printed: 1 / sum_j (|e - c_c| / |e - c_j|)^2."""
    d = [math.sqrt(squared(e, c)) for c in cs]
    return [1 / sum((d[c] / d[j]) ** exponent for j in range(len(cs))) for c in range(len(cs))]


def margin(e: Vector, cs: Sequence[Vector], y: int, plain: bool = False) -> float:
    """Eq. 2 for one image of class y: its own distance less the mean of the others."""
    d = [squared(e, c) ** (0.5 if plain else 1) for c in cs]
    return d[y] - sum(d[j] for j in range(len(cs)) if j != y) / (len(cs) - 1)


def numeric(f: Callable[[list[list[float]]], float], rows: Sequence[Vector], eps: float = 1e-5) -> list[list[float]]:
    """The gradient of f by central differences, one number after the other."""
    made = []
    for i, row in enumerate(rows):
        made.append([])
        for j in range(len(row)):
            moved = [[list(r) for r in rows] for _ in range(2)]
            moved[0][i][j] += eps
            moved[1][i][j] -= eps
            made[-1].append((f(moved[0]) - f(moved[1])) / (2 * eps))
    return made


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def cross_entropy(logits: list[float], y: list[float]) -> float:
    return -sum(t * math.log(p) for t, p in zip(y, softmax(logits), strict=True))


def entropy(logits: Rows, targets: Rows) -> float:
    return mean([cross_entropy(*pair) for pair in zip(logits, targets, strict=True)])


def reference_offsets(batch: int, nu: int) -> list[int]:
    """Slice boundaries of MixMatch's `interleave_offsets`: the last groups take the remainder."""
    groups = [batch // (nu + 1)] * (nu + 1)
    for x in range(batch - sum(groups)):
        groups[-x - 1] += 1
    offsets = [0]
    for g in groups:
        offsets.append(offsets[-1] + g)
    return offsets


def reference_interleave(xs: list[list[str]]) -> list[list[str]]:
    """MixMatch's rule on lists: slice i of batch 0 changes places with slice i of batch i."""
    nu = len(xs) - 1
    at = reference_offsets(len(xs[0]), nu)
    cut = [[v[at[p] : at[p + 1]] for p in range(nu + 1)] for v in xs]
    for i in range(1, nu + 1):
        cut[0][i], cut[i][i] = cut[i][i], cut[0][i]
    return [[item for part in v for item in part] for v in cut]
