"""A backbone with a linear head, and its moving average: logits and embedding from one pass.

B batch, C channels, H height, W width, D embedding, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmctl import ops
from mmctl.errors import PluginError, UserError
from mmctl.plugin import Output

BatchNormMode = Literal["update", "batch", "running"]
"""What a forward does with batch norm: batch statistics and update the running ones; batch statistics and
leave the running ones alone; use the running ones (eval mode)."""


class Model(nn.Module):
    """Normalised images in, Output out; autocast is opened here and nowhere else."""

    def __init__(self, backbone: nn.Module, num_classes: int, precision: torch.dtype | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        if not isinstance(getattr(backbone, "embed_dim", None), int):
            raise PluginError(
                f"backbone {type(backbone).__name__} has no embed_dim: an int, the width of what it gives."
            )
        self.embed_dim: int = backbone.embed_dim  # type: ignore[assignment]
        self.head = nn.Linear(self.embed_dim, num_classes)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.precision = precision  # autocast's dtype; None = float32 throughout
        self.calls: list[
            tuple[int, BatchNormMode, bool]
        ] = []  # (images, bn, with gradient) since the list was last cleared
        self._norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]

    def forward(self, x_BCHW: Tensor, *, bn: BatchNormMode) -> Output:
        """One pass; `bn` has no default, since which forward updates batch norm is part of each method."""
        self.calls.append((len(x_BCHW), bn, torch.is_grad_enabled()))
        if self.training != (bn != "running"):
            self.train(bn != "running")
        for norm in self._norms:
            norm.track_running_stats = bn != "batch"
        with torch.autocast(x_BCHW.device.type, self.precision, enabled=self.precision is not None):
            emb = self.backbone(x_BCHW)
            if emb.shape != (len(x_BCHW), self.embed_dim):
                raise PluginError(
                    f"backbone {type(self.backbone).__name__} gives {list(emb.shape)} for {len(x_BCHW)} images; its "
                    f"embed_dim says [{len(x_BCHW)}, {self.embed_dim}]."
                )
            logits = self.head(emb)
        if bn == "batch":
            for norm in self._norms:
                norm.track_running_stats = True
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits, emb = logits.float(), emb.float()
        return Output(logits, emb)

    def branches(
        self,
        *xs: Tensor,
        bn: BatchNormMode | Literal["first", "last"],
        group: Literal["each", "joint", "interleave"] = "each",
    ) -> tuple[Output, ...]:
        """Several batches: a forward `each`, one `joint` forward, or `interleave`d (MixMatch's slice swap, then each).

        bn = "first" or "last": only that forward updates the running statistics; a joint forward then updates them.
        """
        if group == "joint" or len(xs) == 1:
            out = self(torch.cat(xs), bn="update" if bn in ("first", "last") else bn)
            sizes = [len(x) for x in xs]
            return tuple(map(Output, out.logits.split(sizes), out.emb.split(sizes)))
        chosen = {"first": 0, "last": len(xs) - 1}.get(bn)
        modes = [bn if chosen is None else ("update" if i == chosen else "batch") for i in range(len(xs))]
        if group == "interleave":
            xs = interleave(xs)
        outs = [self(x, bn=mode) for x, mode in zip(xs, modes, strict=True)]
        if group == "interleave":
            logits, embs = interleave([o.logits for o in outs]), interleave([o.emb for o in outs])
            return tuple(map(Output, logits, embs))
        return tuple(outs)

    @contextmanager
    def fp32(self) -> Iterator[None]:
        """Without autocast: for arithmetic that half precision ruins, such as VAT's power step."""
        kept, self.precision = self.precision, None
        try:
            yield
        finally:
            self.precision = kept


def interleave(xs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Swap slice i of branch 0 with slice i of branch i, so that each batch-norm group holds every source.

    Its own inverse. Slice boundaries are those of the global batch, so that ranks swap what one process would.
    """
    n, parts = len(xs[0]) * ops.world_size(), len(xs)
    if any(len(x) != len(xs[0]) for x in xs):
        raise UserError(
            'method.bn_groups = "interleave" swaps slices between branches of one size: set train.unlabeled_batch to '
            'train.batch, or method.bn_groups = "joint".'
        )
    # n // parts each; the last slices take one more where it does not divide (as the reference does).
    short = parts - n % parts
    bounds = [0]
    for i in range(parts):
        bounds.append(bounds[-1] + n // parts + (i >= short))
    local = [max(0, -(-(b - ops.rank()) // ops.world_size())) for b in bounds]
    cut = [[x[a:b] for a, b in zip(local, local[1:], strict=False)] for x in xs]
    for i in range(1, parts):
        cut[0][i], cut[i][i] = cut[i][i], cut[0][i]
    return tuple(torch.cat(slices) for slices in cut)


class Average(Model):
    """A moving average of a model: share 1 - decay of the live weights at each step."""

    def __init__(self, model: Model, buffers: Literal["copy", "average", "recompute"] = "copy") -> None:
        # "recompute" is for evaluation alone (see evaluate.recompute_bn): what training sees of them is the live ones.
        nn.Module.__init__(self)
        self.backbone, self.head = copy.deepcopy(model.backbone), copy.deepcopy(model.head)
        self.embed_dim, self.precision, self.calls = model.embed_dim, model.precision, []
        self._norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]
        self.requires_grad_(False)
        averaged: dict[str, Tensor] = dict(self.named_parameters())
        live: dict[str, Tensor] = dict(model.named_parameters())
        names = list(averaged)
        if buffers == "average":
            averaged |= {k: b for k, b in self.named_buffers() if b.is_floating_point()}
            live |= {k: b for k, b in model.named_buffers() if b.is_floating_point()}
            names = list(averaged)
        self._averaged = [averaged[k] for k in names]
        self._live = [live[k].detach() for k in names]
        copied = {k: b for k, b in self.named_buffers() if k not in averaged}
        self._copied = list(copied.values())
        self._sources = [dict(model.named_buffers())[k] for k in copied]

    @torch.no_grad()
    def follow(self, share: float | Tensor) -> None:
        """average <- average + share * (live - average); buffers that are not averaged are copied."""
        if isinstance(share, Tensor):  # 0-d on the device; lerp over lists knows no such weight
            apart = torch._foreach_sub(self._live, self._averaged)
            torch._foreach_mul_(apart, share)
            torch._foreach_add_(self._averaged, apart)
        else:
            torch._foreach_lerp_(self._averaged, self._live, share)
        if self._copied:
            torch._foreach_copy_(self._copied, self._sources)
