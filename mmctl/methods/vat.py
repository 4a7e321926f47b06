"""Virtual Adversarial Training (Miyato et al., TPAMI 2018). U unlabelled batch, C channels, H height, W width."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from numpy.random import Generator
from pydantic import Field
from torch import Tensor, nn

from mmctl.ops import hashed_normal, local_rows
from mmctl.plugin import Batch, LossTerm, StepOutput, method


def unit(d_UCHW: Tensor) -> Tensor:
    """Scale the vector of each image to length 1; a zero vector stays zero.

    First divide by the largest entry: gradients of a confident network are so small that their squares underflow.
    """
    flat = d_UCHW.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    return F.normalize(flat, dim=1).view_as(d_UCHW)


@method("vat")
class Vat(nn.Module):
    """The prediction should not change under the small perturbation that changes it most (VAT; Miyato et al., 2018).

    d <- unit(grad_d KL(p(u) || p(u + xi d))), r = eps d; L = H(y, p(x)) + w(t) KL(p(u) || p(u + r)) + e H(p(u)).
    Weights and ramps are those of MixMatch's baselines, which include the entropy term in VAT (without a ramp); without
    it set loss.entropy.weight = 0. The order of KL's arguments is that of the paper; MixMatch's program swaps them.

    Args:
        eps: Length of the adversarial perturbation r of an image, in units of `epsilon_unit`; it should grow with the
            square root of the number of pixels.
        epsilon_unit: Unit of eps and xi: "std" = standard deviation of the pixels of each channel, that is normalised
            pixels; "range" = pixels that go from -1 to 1, as in the program of MixMatch's baselines. On CIFAR-10,
            whose pixels deviate by .25 of 0 to 1, a length of 6 in "range" is about 12 in "std".
        xi: Length of the finite-difference step. The paper's 1e-6 is too small for float32 (cosine to the exact
            direction .21; it is .999 at .01).
        iterations: Number of power iterations; one is enough according to the paper.
    """

    views = {"x": ("weak",), "u": ("weak",)}
    slots = {
        "labeled": LossTerm("soft_cross_entropy"),
        "adversarial": LossTerm("kl", 0.3, 0.4),
        "entropy": LossTerm("entropy", 0.06),
    }
    default_labeler = None
    unit_C11: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        losses: SimpleNamespace,
        std_C: Tensor,
        *,
        eps: Annotated[float, Field(gt=0)] = 6.0,
        epsilon_unit: Literal["std", "range"] = "std",
        xi: Annotated[float, Field(gt=0)] = 0.01,
        iterations: Annotated[int, Field(ge=1, le=100)] = 1,
    ) -> None:
        super().__init__()
        self.model, self.losses = model, losses
        self.eps, self.xi, self.iterations = eps, xi, iterations
        # One unit of epsilon_unit in normalised pixels: -1 to 1 is twice as wide as the 0 to 1 of std_C.
        unit_C11 = 1 / (2 * std_C)[:, None, None] if epsilon_unit == "range" else None
        self.register_buffer("unit_C11", unit_C11, persistent=False)

    def draw(self, rng: Generator, x: int, u: int) -> dict[str, Any]:
        """A seed for the noise of each image."""
        return {"seed": rng.integers(0, 2**62, u)}

    def step(self, batch: Batch) -> StepOutput:
        """Cross-entropy of labelled images; KL under the perturbation, and entropy, for unlabelled ones."""
        (images,) = batch.u
        x, u = self.model.branches(*batch.x, images, bn="first")  # type: ignore[operator]
        p = u.probs.detach()
        perturbed = self.model(images + self.perturbation(images, local_rows(batch.draws["seed"])), bn="batch")
        return StepOutput({
            "labeled": self.losses.labeled(x, batch.y),
            "adversarial": self.losses.adversarial(perturbed, p),
            "entropy": self.losses.entropy(u, p),
        })  # fmt: skip

    def perturbation(self, u_UCHW: Tensor, seed_U: Tensor) -> Tensor:
        """r in normalised pixels, by power iteration from noise; only the gradient of the pixels is computed."""
        d = unit(hashed_normal(seed_U, u_UCHW.shape[1:]).to(u_UCHW.dtype))
        with self.model.fp32():  # type: ignore[operator]
            with torch.no_grad():
                # p again, in float32: with p in half precision the divergence is not minimal at d = 0, and its
                # gradient would point back to p instead of the direction of largest change.
                p = self.model(u_UCHW, bn="batch").probs
            for _ in range(self.iterations):
                d = (self.xi * d).requires_grad_()
                divergence = self.losses.adversarial(self.model(u_UCHW + self.normalized(d), bn="batch"), p)
                d = unit(torch.autograd.grad(divergence, d)[0])
        return self.normalized(self.eps * d)

    def normalized(self, d_UCHW: Tensor) -> Tensor:
        """A difference of images in units of `epsilon_unit` as a difference of normalised pixels."""
        return d_UCHW if self.unit_C11 is None else d_UCHW * self.unit_C11.to(d_UCHW.dtype)
