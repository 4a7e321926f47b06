"""The contract of losses. B batch, K classes, D embedding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError, gradcheck

from mmctl.plugin import Output
from mmctl.runs.promises import check_loss
from mmctl.testing.contract import Contract, equal, fake_gpu, keyed
from mmctl.testing.inputs import SHUFFLED, U, known, outputs
from mmctl.testing.ranks import on_ranks


class LossContract(Contract):
    """The mean of loss * weight over the batch, with a finite gradient; it changes nothing that it is given."""

    kind = "loss"

    def loss(self, table: Any, K: int = 3, device: str | torch.device = "cpu") -> Any:
        """The loss of a table, with known centroids."""
        made = self.build(table, **known(K, torch.device(device)))
        if not callable(made):
            raise self.broken("is not callable", "A loss is a callable(out, target_BK, weight_B=None).")
        return made.to(device) if isinstance(made, nn.Module) else made

    def each(self) -> Iterator[tuple[int, Any]]:
        """Every table of parameters with its loss, for 2, 3 and 10 classes."""
        for table in self.params:
            for K in (2, 3, 10):
                yield K, self.loss(table, K)

    def test_scalar(self) -> None:
        """A finite 0-d tensor with gradient; logits and embeddings stay as they are."""
        for K, part in self.each():
            for scale in (0.0, 1.0, 1e4):
                out, y = outputs(U, K, 1, scale, gradient=True), target(U, K)
                kept = tuple(t.detach().clone() for t in (*out, y))
                value = part(out, y)
                check_loss(self.who, value)
                value.backward()
                grads = [t.grad for t in out if t.grad is not None]
                if not all(bool(torch.isfinite(g).all()) for g in grads):
                    raise self.broken(
                        f"has a NaN or infinite gradient at logits of size {scale:g}",
                        "Use log_softmax and not log(softmax), and no square root of 0.",
                    )
                if not equal(kept, tuple(t.detach() for t in (*out, y))):
                    raise self.broken("changes the logits, embeddings or targets that it is given", "Work on a copy.")

    def test_equal_embeddings(self) -> None:
        """Embeddings that lie on a centroid or at zero have a finite gradient."""
        for table in self.params:
            facts = known(3)
            part = self.build(table, **facts)
            for emb in (facts["centroids"].centers()[torch.arange(U) % 3].clone(), torch.zeros(U, 6)):
                out = Output(torch.zeros(U, 3, requires_grad=True), emb.requires_grad_())
                part(out, target(U, 3)).backward()
                if not all(bool(torch.isfinite(t.grad).all()) for t in out if t.grad is not None):
                    raise self.broken(
                        "has a NaN or infinite gradient at distance 0", "torch.linalg.vector_norm has gradient 0 there."
                    )

    def test_weights(self) -> None:
        """A row of weight 0 counts as a zero; weights of 1 change nothing; the value is linear in the weights."""
        for K, part in self.each():
            out, y = outputs(U, K, 3, gradient=True), target(U, K)
            whole, ones = part(out, y), part(out, y, torch.ones(U))
            self.close(whole, ones, "gives another value with weights of 1 than without weights")
            self.close(part(out, y, torch.full((U,), 0.5)), 0.5 * whole, "is not half as large with weights of 0.5")
            weight = (torch.arange(U) % 3 > 0).float()
            value = part(out, y, weight)
            grads = torch.autograd.grad(value, list(out), allow_unused=True)
            if any(bool(g[weight == 0].any()) for g in grads if g is not None):
                raise self.broken("has a gradient for rows of weight 0", "Multiply the loss of each row by its weight.")
            moved = Output(*(torch.where(weight[:, None] == 0, t.detach() + 3, t.detach()) for t in out))
            self.close(part(moved, y, weight), value, "depends on rows of weight 0")
            parts = part(out, y, weight) + part(out, y, 1 - weight)
            self.close(parts, whole, "divides by the sum of the weights and not by the number of rows")

    def close(self, a: Tensor, b: Tensor, found: str) -> None:
        """Broken if two values differ."""
        if not torch.allclose(a, b, rtol=1e-4, atol=1e-6):
            raise self.broken(
                f"{found} ({a.item():.6g}, {b.item():.6g})", "Return mmctl.ops.global_mean(loss_B * weight_B)."
            )

    def test_gradient(self) -> None:
        """The gradient is that of the value (checked in float64)."""
        for K, part in self.each():
            if isinstance(part, nn.Module):
                part.double()
            out = outputs(4, K, 5, gradient=True, dtype=torch.float64)
            y = target(4, K).double()
            try:
                right = gradcheck(lambda a, b, f=part, y=y: f(Output(a, b), y), tuple(out))
            except GradcheckError as error:
                raise self.broken(
                    f"has a wrong gradient ({str(error).splitlines()[0]})", "Is there a detach()?"
                ) from error
            except RuntimeError as error:
                raise self.broken(f"refuses float64 ({error})", "Write .to(out.logits.dtype), not .float().") from error
            assert right

    def test_order_of_the_batch(self) -> None:
        """The order of the rows does not change the value."""
        for K, part in self.each():
            out, y, order = outputs(U, K, 8), target(U, K), SHUFFLED
            weight = torch.linspace(0, 1, U)
            with keyed(1):
                one = part(out, y, weight)
            with keyed(1):
                other = part(Output(out.logits[order], out.emb[order]), y[order], weight[order])
            self.close(one, other, "depends on the order of the batch")

    def test_state_is_saved(self) -> None:
        """A copy made from a checkpoint gives the same value, bit for bit."""
        for table in self.params:
            part, fresh = self.loss(table), self.loss(table)
            for step in range(3):
                with keyed(step):
                    part(outputs(U, 3, step), target(U, 3))
            self.same_state(part, fresh)
            found = []
            for one in (part, fresh):
                with keyed(7):
                    found.append(one(outputs(U, 3, 9), target(U, 3)))
            if not equal(*found):
                raise self.broken(
                    "has state that a checkpoint does not keep, or is random",
                    "Derive it from nn.Module and keep its state in register_buffer.",
                )

    def test_stays_on_the_device(self) -> None:
        """Every operation stays on the GPU and waits for nothing, so that a CUDA graph can hold the step."""
        for table in self.params:
            with fake_gpu(self.who) as device:
                part = self.loss(table, 3, device)
                out, y = outputs(U, 3, 1, device=device), torch.empty(U, 3, device=device)
                part(out, y, torch.empty(U, device=device))

    def test_several_processes(self) -> None:
        """Over two processes, value and gradient are those of one process."""
        for table in self.params:
            alone = self._trace(table, lambda t: t)
            first, second = on_ranks(2, partial(self._trace, table))
            value, gradient = (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
            self.close(first[0], second[0], "has other values on the ranks")
            self.close(value, alone[0], "gives another value over two processes than on one")
            if not torch.allclose(gradient, alone[1], rtol=1e-4, atol=1e-6):
                raise self.broken(
                    "has another gradient over two processes than on one", "Use mmctl.ops.global_mean for the mean."
                )

    def _trace(self, table: Any, deal: Any) -> tuple[Tensor, Tensor]:
        """Value, and gradient of one weight that all rows share."""
        out, y, shared = outputs(U, 3, 4), target(U, 3), torch.ones(1, requires_grad=True)
        value = self.loss(table)(Output(deal(out.logits) * shared, deal(out.emb) * shared), deal(y))
        value.backward()
        assert shared.grad is not None
        return value.detach(), shared.grad


def target(B: int, K: int) -> Tensor:
    """Soft targets BK of every kind: one-hot, mixed and uniform."""
    y = torch.zeros(B, K)
    y[torch.arange(B), torch.arange(B) % K] = 1
    y[1::3] = 0.7 * y[1::3] + 0.3 * y[1::3].roll(1, -1)
    y[2::3] = 1 / K
    return y
