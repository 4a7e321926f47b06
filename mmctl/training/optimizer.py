"""The optimizer: torch's SGD, Adam or AdamW over named parameters, so that checkpoints save its state by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmctl.recipe.settings import Optimizer as OptimizerSettings


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
        self.params, self.clip = dict(params), s.clip
        groups: list[dict[str, Any]] = [
            # No weight decay for biases and batch norm scales: it would only shrink the signal.
            {"names": [k for k, p in params.items() if k not in own and p.dim() > 1], "weight_decay": s.weight_decay},
            {"names": [k for k, p in params.items() if k not in own and p.dim() <= 1], "weight_decay": 0.0},
            *({"names": [k], **settings} for k, settings in own.items()),
        ]
        self.scale: list[float | None] = []
        made: list[dict[str, Any]] = []
        for group in groups:
            names = group.pop("names")
            if not names:
                continue
            if s.name != "sgd":
                group.pop("momentum", None)
            elif group.get("momentum") == 0:
                group["nesterov"] = False
            made.append({"params": [params[k] for k in names], **group})
            # A group that sets its own learning rate keeps it; the others follow the schedule.
            self.scale.append(group.get("lr"))
        gpu = all(p.is_cuda for p in params.values())
        fused = gpu if fused is None else fused
        if s.name == "sgd":
            nesterov = s.nesterov and s.momentum > 0
            self.rule: torch.optim.Optimizer = torch.optim.SGD(
                made,
                lr=s.lr,
                weight_decay=0.0,
                momentum=s.momentum,
                nesterov=nesterov,
                foreach=not fused,
                fused=fused or None,
            )
        else:
            rule = torch.optim.Adam if s.name == "adam" else torch.optim.AdamW
            # capturable: the step can be part of a CUDA graph.
            self.rule = rule(made, lr=s.lr, weight_decay=0.0, betas=s.betas, eps=s.eps, fused=True, capturable=gpu)
            # torch warns about capturable steps outside a graph; warm-up and eager mode run them on purpose.
            self.rule._warned_capturable_if_run_uncaptured = True  # type: ignore[attr-defined]
        # torch makes its state at the first step; made now, a new and a resumed run have the same names.
        for own_group, p in ((g, p) for g in self.rule.param_groups for p in g["params"]):
            if s.name != "sgd":
                self.rule.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
            elif own_group["momentum"]:
                self.rule.state[p]["momentum_buffer"] = torch.zeros_like(p)

    def step(self, lr: float | Tensor) -> None:
        """Clip the gradients, update the parameters, clear the gradients; on a GPU `lr` is a 0-d tensor there."""
        for group, own in zip(self.rule.param_groups, self.scale, strict=True):
            group["lr"] = lr if own is None else own
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(list(self.params.values()), self.clip, foreach=True)
        self.rule.step()
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Free the gradients; the next backward pass allocates new ones."""
        self.rule.zero_grad(set_to_none=True)

    def slots(self) -> Iterator[tuple[str, Tensor]]:
        """Every state tensor with its name, PARAMETER.SLOT, in a fixed order."""
        for name, p in self.params.items():
            for slot, value in self.rule.state[p].items():
                if isinstance(value, Tensor):
                    yield f"{name}.{slot}", value
