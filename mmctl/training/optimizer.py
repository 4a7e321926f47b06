"""The optimizer: SGD, Adam or AdamW over named parameters, so that checkpoints save its state by name.

The updates are torch's functions, without the class torch.optim.Optimizer: its first group imports torch._dynamo, which
takes longer than all else at the start of a run, and its state is addressed by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from mmctl.recipe.settings import Optimizer as OptimizerSettings


class Group(NamedTuple):
    """Parameters that share their settings."""

    names: list[str]
    weight_decay: float
    momentum: float  # of SGD
    lr: float | None  # a group that sets its own learning rate keeps it; the others follow the schedule


class Optimizer:
    """Updates the parameters; its state (slots) exists from the start and is addressed by parameter name."""

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        own: Mapping[str, dict[str, float]],
        s: OptimizerSettings,
        fused: bool | None = None,
    ) -> None:
        """own: settings of parameters that have their own group: name -> lr, momentum, weight_decay.

        fused: SGD in one kernel, which reads the learning rate from the device; None = on a GPU only. On a CPU its
        rounding differs from that of the other form.
        """
        self.params, self.settings = dict(params), s
        shared = [k for k in params if k not in own]
        groups = [
            Group([k for k in shared if params[k].dim() > 1], s.weight_decay, s.momentum, None),
            # No weight decay for biases and batch norm scales: it would only shrink the signal.
            Group([k for k in shared if params[k].dim() <= 1], 0.0, s.momentum, None),
            *(
                Group([k], its.get("weight_decay", 0.0), its.get("momentum", s.momentum), its.get("lr"))
                for k, its in own.items()
            ),
        ]
        self.groups = [group for group in groups if group.names]
        self.gpu = all(p.is_cuda for p in params.values())
        self.fused = self.gpu if fused is None else fused
        # Made now and not at the first step, so that a new and a resumed run have the same names.
        self.state = {k: self._slots_of(params[k], group) for group in self.groups for k in group.names}

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """Clip the gradients, update the parameters, clear the gradients; on a GPU `lr` is a 0-d tensor there."""
        if self.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(list(self.params.values()), self.settings.clip, foreach=True)
        for group in self.groups:
            names = [k for k in group.names if self.params[k].grad is not None]
            self._update(group, names, lr if group.lr is None else group.lr)
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Free the gradients; the next backward pass allocates new ones."""
        for p in self.params.values():
            p.grad = None

    def slots(self) -> Iterator[tuple[str, Tensor]]:
        """Every state tensor with its name, PARAMETER.SLOT, in a fixed order."""
        for name in self.params:
            for slot, value in self.state[name].items():
                yield f"{name}.{slot}", value

    def _slots_of(self, p: nn.Parameter, group: Group) -> dict[str, Tensor]:
        if self.settings.name == "sgd":
            return {"momentum_buffer": torch.zeros_like(p)} if group.momentum else {}
        step = torch.zeros((), dtype=torch.float32, device=p.device)
        return {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def _update(self, group: Group, names: list[str], lr: float | Tensor) -> None:
        params: list[Tensor] = [self.params[k] for k in names]
        grads = [p.grad for p in params if p.grad is not None]
        s = self.settings
        if s.name == "sgd":
            sgd(
                params, grads, [self.state[k].get("momentum_buffer") for k in names], foreach=not self.fused,
                fused=self.fused, weight_decay=group.weight_decay, momentum=group.momentum, lr=lr, dampening=0.0,
                nesterov=s.nesterov and group.momentum > 0, maximize=False,
            )  # fmt: skip
            return
        means, squares, steps = ([self.state[k][slot] for k in names] for slot in ("exp_avg", "exp_avg_sq", "step"))
        beta1, beta2 = s.betas
        # capturable: the step can be part of a CUDA graph.
        (adam if s.name == "adam" else adamw)(
            params, grads, means, squares, [], steps, fused=True, capturable=self.gpu, amsgrad=False, beta1=beta1,
            beta2=beta2, lr=lr, weight_decay=group.weight_decay, eps=s.eps, maximize=False,
        )  # fmt: skip
