"""The network: a backbone with a linear head, which gives logits and embedding in one pass; and its moving average.

B batch, C channels, H height, W width, D embedding, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmctl import ops
from mmctl.errors import PluginError, UserError
from mmctl.plugin import Output
from mmctl.training.global_batch_norm import GlobalBatchNorm

BatchNormMode = Literal["update", "batch", "running"]
"""Which batch norm statistics a forward uses: "update" = those of the batch, and update the running statistics;
"batch" = those of the batch, running statistics not updated; "running" = the running statistics (eval mode)."""

BN_MODES = get_args(BatchNormMode)


class Model(nn.Module):
    """Normalised images in, logits and embedding out. Autocast is used here and nowhere else."""

    not_state = ("calls",)  # of each step anew; see training/unsaved.py

    def __init__(self, backbone: nn.Module, num_classes: int, precision: torch.dtype | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        if not isinstance(getattr(backbone, "embed_dim", None), int):
            raise PluginError(
                f"backbone {type(backbone).__name__} has no attribute embed_dim: set it to the size of its embedding."
            )
        self.embed_dim: int = backbone.embed_dim  # type: ignore[assignment]
        self.head = nn.Linear(self.embed_dim, num_classes)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.precision = precision  # autocast's dtype; None = float32 throughout
        self.calls: list[
            tuple[int, BatchNormMode, bool]
        ] = []  # (number of images, bn, with gradient) of each forward since the list was last cleared
        self._norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]

    def forward(self, x_BCHW: Tensor, *, bn: BatchNormMode) -> Output:
        """One forward pass; `bn` has no default, because each method must decide which forward updates batch norm."""
        if bn not in BN_MODES:
            raise PluginError(f"bn = {bn!r}: a forward takes {', '.join(BN_MODES)}; branches takes first and last too.")
        self.calls.append((len(x_BCHW), bn, torch.is_grad_enabled()))
        if self.training != (bn != "running"):
            self.train(bn != "running")
        for norm in self._norms:
            norm.track_running_stats = bn != "batch"
        across = GlobalBatchNorm() if bn != "running" and ops.world_size() > 1 else nullcontext()
        with torch.autocast(x_BCHW.device.type, self.precision, enabled=self.precision is not None), across:
            emb = self.backbone(x_BCHW)
            if emb.shape != (len(x_BCHW), self.embed_dim):
                raise PluginError(
                    f"backbone {type(self.backbone).__name__} gives {list(emb.shape)} for {len(x_BCHW)} images; by its "
                    f"embed_dim it must give [{len(x_BCHW)}, {self.embed_dim}]."
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
        bn_groups: Literal["each", "joint", "interleave"] = "each",
    ) -> tuple[Output, ...]:
        """Outputs of several batches.

        bn_groups: "each" = a forward per batch; "joint" = one forward of all; "interleave" = swap slices as MixMatch
        does, then a forward per batch. bn = "first" or "last": only that forward updates the running statistics.
        """
        if bn_groups not in ("each", "joint", "interleave"):
            raise PluginError(f"bn_groups = {bn_groups!r}: branches takes each, joint or interleave.")
        if bn_groups == "joint" or len(xs) == 1:
            out = self(torch.cat(xs), bn="update" if bn in ("first", "last") else bn)
            sizes = [len(x) for x in xs]
            return tuple(map(Output, out.logits.split(sizes), out.emb.split(sizes)))
        chosen = {"first": 0, "last": len(xs) - 1}.get(bn)
        modes = [bn if chosen is None else ("update" if i == chosen else "batch") for i in range(len(xs))]
        if bn_groups == "interleave":
            xs = interleave(xs)
        outs = [self(x, bn=mode) for x, mode in zip(xs, modes, strict=True)]
        if bn_groups == "interleave":
            logits, embs = interleave([o.logits for o in outs]), interleave([o.emb for o in outs])
            return tuple(map(Output, logits, embs))
        return tuple(outs)

    @contextmanager
    def fp32(self) -> Iterator[None]:
        """Switch autocast off: for arithmetic that is too inexact in half precision, such as VAT's power iteration."""
        saved, self.precision = self.precision, None
        try:
            yield
        finally:
            self.precision = saved


def interleave(xs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Swap slice i of branch 0 with slice i of branch i, so that each batch norm group has images of every branch.

    Applied twice, it gives the input again. Slices are those of the global batch: ranks swap as one process would.
    """
    n, parts = len(xs[0]) * ops.world_size(), len(xs)
    if any(len(x) != len(xs[0]) for x in xs):
        raise UserError(
            'method.bn_groups = "interleave" needs batches of equal size: set train.unlabeled_batch to the value of '
            'train.batch, or method.bn_groups = "joint".'
        )
    # Slices of n // parts; if that leaves a remainder, the last slices have one more (as in the reference).
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
    """A moving average of a model's weights (EMA or SWA)."""

    def __init__(self, model: Model, buffers: Literal["copy", "average", "recompute"] = "copy") -> None:
        # "recompute" concerns evaluation only (evaluate.recompute_bn); in training it is the same as "copy".
        nn.Module.__init__(self)
        self.backbone, self.head = copy.deepcopy(model.backbone), copy.deepcopy(model.head)
        self.embed_dim, self.precision, self.calls = model.embed_dim, model.precision, []
        self._norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]
        self.requires_grad_(False)
        averaged: dict[str, Tensor] = dict(self.named_parameters())
        if buffers == "average":
            averaged |= {k: b for k, b in self.named_buffers() if b.is_floating_point()}
        copied = {k: b for k, b in self.named_buffers() if k not in averaged}
        live: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._averaged, self._live = list(averaged.values()), [live[k].detach() for k in averaged]
        self._copied, self._sources = list(copied.values()), [live[k] for k in copied]

    @torch.no_grad()
    def update_average(self, share: float | Tensor) -> None:
        """average <- average + share * (live - average); buffers that are not averaged are copied."""
        if isinstance(share, Tensor):  # 0-d on the device; _foreach_lerp_ does not accept it
            difference = torch._foreach_sub(self._live, self._averaged)
            torch._foreach_mul_(difference, share)
            torch._foreach_add_(self._averaged, difference)
        else:
            torch._foreach_lerp_(self._averaged, self._live, share)
        if self._copied:
            torch._foreach_copy_(self._copied, self._sources)
