"""Evaluates a network on a set of images: with its head, and by distance to the class centroids.

B batch, K classes, N images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmctl import ops
from mmctl.data.images import Pictures
from mmctl.training.centroids import Centroids
from mmctl.training.model import Average, Model


@dataclass(frozen=True)
class Scores:
    """The metrics of one predictor on one split; shares are in 0..1."""

    metrics: dict[str, float]
    per_class: list[float | None]  # recall; None = the split has no image of the class
    confusion: list[list[int]]  # [true][predicted]
    n: int
    predicted_N: NDArray[np.int64] = field(repr=False, compare=False)
    probability_N: NDArray[np.float64] | None = field(repr=False, compare=False)  # of the predicted class


class EvaluationStopped(Exception):
    """Raised when a signal stops the run during an evaluation."""


@torch.no_grad()
def evaluate(
    net: Model,
    pictures: Pictures,
    centroids: Centroids,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Scores], float]:
    """Scores of the `head` and of the `centroid` predictor, and how often the two agree.

    The centroids are those of this network, as `refit_centroids` gives them. They give no probabilities, only
    distances: a softmax of those would depend on a temperature that nobody fitted, and so would NLL and ECE.
    Raises EvaluationStopped as soon as `stop()` is true.
    """
    logits, distances, targets = [], [], []
    for x_BCHW, target_BK in _watched(pictures.dealt(), stop):
        out = net(x_BCHW, bn="running")
        logits.append(out.logits.cpu())
        distances.append(centroids.squared(out.emb).masked_fill(~centroids.seen_K, torch.inf).cpu())
        targets.append(target_BK.argmax(-1).cpu())
    n = len(pictures)
    target_N = _of_all(targets, n)
    head_NK, near_NK = _of_all(logits, n).log_softmax(-1), -_of_all(distances, n)
    agreement = (head_NK.argmax(-1) == near_NK.argmax(-1)).double().mean().item()
    scores = {"head": score(head_NK, target_N), "centroid": score(near_NK, target_N, probabilities=False)}
    return scores, agreement


@torch.no_grad()
def refit_centroids(
    net: Model, centroids: Centroids, labeled: Pictures, stop: Callable[[], bool] = lambda: False
) -> Centroids:
    """A copy of the centroids, recomputed with `net` in eval mode: those of training come from other weights."""
    own = copy.deepcopy(centroids).requires_grad_(False)
    own.refit(net, _watched(labeled.subset(centroids.images).dealt(), stop))
    return own


@torch.no_grad()
def recompute_bn(net: Model, pictures: Pictures, stop: Callable[[], bool] = lambda: False) -> Model:
    """A copy of the network whose batch norm statistics fit its weights; averaged weights have none of their own.

    The statistics are the plain mean over batches. They depend only on the weights and images, so that a checkpoint
    gives the same figures when it is evaluated later.
    """
    own = Average(net).eval()
    for norm in (m for m in own.modules() if isinstance(m, _BatchNorm)):
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()  # only the batch norms: dropout would make the figures random
    for x_BCHW, _ in _watched(pictures, stop):
        own(x_BCHW, bn="running")
    return own.eval()


def _watched(pictures: Pictures, stop: Callable[[], bool]):  # type: ignore[no-untyped-def]
    for batch in pictures:
        if stop():
            raise EvaluationStopped
        if len(batch[0]):
            yield batch


def _of_all(parts: list[Tensor], n: int) -> Tensor:
    """The rows of all n images in order, from what each process computed for its own."""
    own = torch.cat(parts)
    if len(own) == n:
        return own
    missing = -(-n // ops.world_size()) - len(own)  # at most one row
    return ops.gather(torch.cat([own, own[:missing]]) if missing else own)[:n]


def score(score_NK: Tensor, target_N: Tensor, bins: int = 15, *, probabilities: bool = True) -> Scores:
    """All metrics of a predictor from its scores and the true classes, in float64, as scikit-learn computes them.

    score_NK: log-probabilities; or, with probabilities=False, any numbers of which the largest is the prediction:
    then there is no NLL and no ECE. bins: those of the calibration error (ECE).
    Balanced accuracy is the mean over the classes that have images; macro-F1 counts a class without images too if it is
    predicted, with F1 = 0.
    """
    scores, target = score_NK.double().numpy(), target_N.numpy()
    n, k = scores.shape
    predicted = scores.argmax(1)
    confusion = np.bincount(target * k + predicted, minlength=k * k).reshape(k, k)
    true_K, predicted_K, right_K = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    present = true_K > 0
    recall = right_K / np.maximum(true_K, 1)
    f1 = 2 * right_K / np.maximum(true_K + predicted_K, 1)
    correct = predicted == target
    metrics = {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[true_K + predicted_K > 0].mean()),
    }
    if probabilities:
        metrics |= {
            "nll": float(-scores[np.arange(n), target].mean()),
            "ece": _calibration_error(scores, correct, bins),
        }
    metrics["largest_class"] = float(predicted_K.max() / n)
    per_class = [float(r) if p else None for r, p in zip(recall, present, strict=True)]
    return Scores(
        metrics, per_class, confusion.tolist(), n, predicted, np.exp(scores.max(1)) if probabilities else None
    )


def _calibration_error(logp: NDArray[np.float64], correct: NDArray[np.bool_], bins: int) -> float:
    """Mean gap between confidence and accuracy over bins of equal width; NaN if a probability is NaN."""
    top = np.exp(logp.max(1))
    bin_N = np.minimum((np.nan_to_num(top) * bins).astype(int), bins - 1)
    gaps = [abs(correct[bin_N == b].mean() - top[bin_N == b].mean()) * (bin_N == b).mean() for b in np.unique(bin_N)]
    return float(sum(gaps))
