"""Virtual Adversarial Training (Miyato et al., TPAMI 2018). U unlabelled batch, C channels, H height, W width."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from numpy.random import Generator
from pydantic import Field
from torch import Tensor, nn

from mmctl.ops import hashed_normal, local_rows
from mmctl.plugin import Batch, LossTerm, StepOutput, method


def unit(d_UCHW: Tensor) -> Tensor:
    """Each image's direction at length 1; a zero stays zero.

    The largest entry first: a confident network's gradients are so small that their squares would underflow.
    """
    flat = d_UCHW.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    return F.normalize(flat, dim=1).view_as(d_UCHW)


@method("vat")
class Vat(nn.Module):
    """The prediction is to stay where a small step would change it most (VAT; Miyato et al., 2018), and to be sure.

    d <- unit(grad_d KL(p(u) || p(u + xi d))), r = eps d; L = H(y, p(x)) + w(t) KL(p(u) || p(u + r)) + e(t) H(p(u)).
    Weights and ramps are those of MixMatch's baselines, which call it VAT with the entropy term; without it set
    loss.entropy.weight = 0. Their program has the arguments of KL the other way round, the paper as here.

    Args:
        eps: Length of the adversarial step r in normalised pixels; it should grow with the root of their number.
        xi: Length of the probing step. The paper's 1e-6 is lost in the rounding of float32 (cosine .21 with the exact
            direction, .999 at .01).
        iterations: Power iterations; the paper finds that one is enough.
    """

    views = {"x": ("weak",), "u": ("weak",)}
    slots = {
        "labeled": LossTerm("soft_cross_entropy"),
        "adversarial": LossTerm("kl", 0.3, 0.4),
        "entropy": LossTerm("entropy", 0.06, 0.4),
    }
    default_labeler = None

    def __init__(
        self,
        model: nn.Module,
        losses: SimpleNamespace,
        *,
        eps: Annotated[float, Field(gt=0)] = 6.0,
        xi: Annotated[float, Field(gt=0)] = 0.01,
        iterations: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__()
        self.model, self.losses = model, losses
        self.eps, self.xi, self.iterations = eps, xi, iterations

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """A seed for the noise of each image."""
        return {"seed": rng.integers(0, 2**62, u)}

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy on the labelled images; divergence under the adversarial step, and entropy, on the others."""
        (shown,) = batch.u
        x, u = self.model.branches(*batch.x, shown, bn="first")  # type: ignore[operator]
        p = u.probs.detach()
        away = self.model(shown + self.adversary(shown, local_rows(batch.draws["seed"])), bn="batch")
        return StepOutput({
            "labeled": self.losses.labeled(x, batch.y),
            "adversarial": self.losses.adversarial(away, p),
            "entropy": self.losses.entropy(u, p),
        })  # fmt: skip

    def adversary(self, u_UCHW: Tensor, seed_U: Tensor) -> Tensor:
        """r: power iteration from noise, the gradient taken with respect to the pixels alone."""
        d = unit(hashed_normal(seed_U, u_UCHW.shape[1:]).to(u_UCHW.dtype))
        with self.model.fp32():  # type: ignore[operator]
            with torch.no_grad():
                # Predicted anew: beside a half-precision p the divergence would not be least at d = 0, and its
                # gradient would show the way back to p instead of the way that it bends most.
                p = self.model(u_UCHW, bn="batch").probs
            for _ in range(self.iterations):
                d = (self.xi * d).requires_grad_()
                divergence = self.losses.adversarial(self.model(u_UCHW + d, bn="batch"), p)
                d = unit(torch.autograd.grad(divergence, d)[0])
        return self.eps * d
