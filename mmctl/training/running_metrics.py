"""Sums of a step's figures between two points, kept on the device, and the first step at which one was not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmctl.errors import Diverged
from mmctl.plugin import PseudoLabels, StepOutput


class RunningMetrics:
    """A window of training figures; part of the checkpoint, so that windows do not depend on when a save fell."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes, self.device = num_classes, device
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64, device=device)
        self.bad = torch.zeros(0, dtype=torch.int64, device=device)  # first step with a non-finite value, -1 = none
        self.labels_K = torch.zeros(num_classes, dtype=torch.float64, device=device)  # guessed labels by class
        self.count = torch.zeros((), dtype=torch.int64, device=device)

    def open(self, names: list[str]) -> None:
        """Fix the figures of this run, in order."""
        self.names = names
        self.sums = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        self.bad = torch.full((len(names),), -1, dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def add(self, step: int | Tensor, terms: StepOutput, loss: Tensor, hidden_U: Tensor) -> None:
        """One step's losses, the method's metrics, and its guessed labels against the hidden ones; all in place."""
        values = {"loss": loss, **terms.losses, **terms.metrics}
        if terms.pseudo_labels is not None:
            values |= score_pseudo_labels(terms.pseudo_labels, hidden_U)
            self.labels_K += (terms.pseudo_labels.target * terms.pseudo_labels.weight[:, None]).sum(0)
        if not self.names:
            self.open(list(values))
        now = torch.stack([v.detach() for v in values.values()]).double()
        broken = now - now != 0  # NaN where a value is not finite; isfinite is four operations on a GPU
        self.bad.copy_(torch.where((self.bad < 0) & broken, step, self.bad))
        self.sums += now
        self.count += 1

    def check(self) -> None:
        """Raise Diverged with the first term that was not finite, and its step."""
        bad = self.bad.tolist()
        found = [(step, i) for i, step in enumerate(bad) if step >= 0 and not self.names[i].startswith("guess")]
        if found:
            # The total follows from its terms: name a term where one is as early.
            step, i = min(found, key=lambda f: (f[0], self.names[f[1]] == "loss"))
            raise Diverged(f'the loss term "{self.names[i]}"' if i else "the loss", step)

    def read(self) -> dict[str, float]:
        """Means over the window, which is closed; the only wait for the device between two points."""
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
        """What a checkpoint keeps of the open window."""
        return {"sums": self.sums, "bad": self.bad, "labels_K": self.labels_K, "count": self.count}


def score_pseudo_labels(guess: PseudoLabels, hidden_U: Tensor) -> dict[str, Tensor]:
    """Share of images kept, mean confidence, mean |margin weight|, and how many kept labels are right.

    guess_margin is mean |(K q_c - 1) / (K - 1)|: 0 = uniform labels, so that the margin loss ignores the images.
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
