"""Batch norm over the global batch, for a run that several processes share.

torch.nn.SyncBatchNorm is another layer, and refuses tensors on the CPU. Here the function that all batch norm layers
call is replaced during a forward, so that backbones of any library keep their layers, names and checkpoints.

B batch, C channels, W processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmctl import ops


class GlobalBatchNorm(TorchFunctionMode):
    """In a `with` block, F.batch_norm in training uses the mean and variance over the images of all processes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def batch_norm(
    x_BC: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """F.batch_norm, with the statistics of all processes in training; each holds equally many images."""
    if not training:
        return F.batch_norm(x_BC, running_mean, running_var, weight, bias, training, momentum, eps)
    own_BC = x_BC.float() if x_BC.dtype in (torch.bfloat16, torch.float16) else x_BC
    var_C, mean_C = torch.var_mean(own_BC, [0, *range(2, x_BC.dim())], correction=0)
    # Each process computes its variance around its own mean, so that no digits cancel; both are joined exactly.
    mean_WC, var_WC = ops.gather(torch.stack([mean_C, var_C])[None]).unbind(1)
    mean_C = mean_WC.mean(0)
    var_C = var_WC.mean(0) + (mean_WC - mean_C).square().mean(0)
    if running_mean is not None and running_var is not None:
        n = x_BC.numel() // x_BC.shape[1] * ops.world_size()
        ops.ema_update_(running_mean, mean_C, 1 - momentum)
        ops.ema_update_(running_var, var_C * (n / (n - 1)), 1 - momentum)
    scale_C = (var_C + eps).rsqrt()
    scale_C = scale_C if weight is None else scale_C * weight
    shift_C = -mean_C * scale_C
    shift_C = shift_C if bias is None else shift_C + bias
    shape = (1, -1, *[1] * (x_BC.dim() - 2))
    return torch.addcmul(shift_C.view(shape), own_BC, scale_C.view(shape)).to(x_BC.dtype)
