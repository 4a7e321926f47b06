"""Means of losses and metrics over several steps, kept on the device, and a check for NaN and infinite values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmctl import ops
from mmctl.errors import Diverged
from mmctl.plugin import PseudoLabels, StepOutput


class RunningMetrics:
    """Sums over the steps since the last point of the training curve; saved in checkpoints, so that resume is exact."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes, self.device = num_classes, device
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64, device=device)
        self.bad = torch.zeros(0, dtype=torch.int64, device=device)  # first step with NaN or infinity, -1 = none
        self.labels_K = torch.zeros(num_classes, dtype=torch.float64, device=device)  # pseudo-labels by class
        self.count = torch.zeros((), dtype=torch.int64, device=device)

    def open(self, names: list[str]) -> None:
        """Set the names of the metrics, in order, and reset the sums."""
        self.names = names
        self.sums = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        self.bad = torch.full((len(names),), -1, dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def add(self, step: int | Tensor, output: StepOutput, loss: Tensor, hidden_U: Tensor) -> None:
        """Add one step's losses, the method's metrics, and its pseudo-labels compared with the true labels."""
        values = {"loss": loss, **output.losses, **output.metrics}
        if output.pseudo_labels is not None:
            values |= score_pseudo_labels(output.pseudo_labels, hidden_U)
            labels_K = (output.pseudo_labels.target * output.pseudo_labels.weight[:, None]).sum(0)
            self.labels_K += ops.all_reduce_sum(labels_K)
        if not self.names:
            self.open(list(values))
        now = torch.stack([v.detach() for v in values.values()]).double()
        if ops.world_size() > 1:  # each has equally many images: the mean over processes is that over the global batch
            now = ops.global_mean(now[None])
        not_finite = now - now != 0  # NaN - NaN and inf - inf are NaN; isfinite takes four operations on a GPU
        self.bad.copy_(torch.where((self.bad < 0) & not_finite, step, self.bad))
        self.sums += now
        self.count += 1

    def check(self) -> None:
        """Raise Diverged if a loss or metric was NaN or infinite: with the first one and its step."""
        bad = self.bad.tolist()
        found = [(step, i) for i, step in enumerate(bad) if step >= 0 and not self.names[i].startswith("guess")]
        if found:
            # The total loss follows from its terms: if a term failed at the same step, name the term.
            step, i = min(found, key=lambda f: (f[0], self.names[f[1]] == "loss"))
            raise Diverged(f'the loss term "{self.names[i]}"' if i else "the loss", step)

    def read(self) -> dict[str, float]:
        """Means since the last point, and reset the sums; training waits for the device only here."""
        self.check()
        n = int(self.count)
        if not n:
            return {}
        means = dict(zip(self.names, (self.sums / n).tolist(), strict=True))
        if "guess_known" in means:
            known, kept = means.pop("guess_known"), means["guess_kept"]
            right = means.pop("guess_right")
            if known > 0:
                means["guess_accuracy"] = right / known
            share = (self.labels_K / self.labels_K.sum().clamp_min(1e-12)).tolist()
            means["guess_entropy"] = -sum(p * math.log(p) for p in share if p > 0) / math.log(max(2, len(share)))
            means["guess_largest"] = max(share) if kept else 0.0
        if means.get("margin") and "margin_unlabeled" in means:
            means["margin_ratio"] = means["margin_unlabeled"] / means["margin"]
        self.sums.zero_(), self.labels_K.zero_(), self.count.zero_()
        return means

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint saves."""
        return {"sums": self.sums, "bad": self.bad, "labels_K": self.labels_K, "count": self.count}


def score_pseudo_labels(guess: PseudoLabels, hidden_U: Tensor) -> dict[str, Tensor]:
    """Quality of pseudo-labels: share of images kept, mean confidence, mean |margin weight|, share of right labels.

    guess_margin is mean |(K q_c - 1) / (K - 1)|: 0 = uniform labels, for which the margin loss is 0.
    """
    q, w = guess
    k = q.shape[-1]
    known = w * (hidden_U >= 0)
    right = known * (q.argmax(-1) == hidden_U)
    return {
        "guess_kept": w.mean(),
        "guess_top": q.amax(-1).mean(),
        "guess_margin": ((k * q - 1) / (k - 1)).abs().mean() if k > 1 else w.mean(),
        "guess_known": known.mean(),
        "guess_right": right.mean(),
    }
