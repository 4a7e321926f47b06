"""What the components of timm and torchvision share: a trial forward, and the channels of pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmctl.plugin import PluginError


def try_forward(net: nn.Module, embed_dim: int, shape_CHW: tuple[int, int, int], who: str, hint: str) -> None:
    """Run one forward now: many models accept only some image sizes, and their own errors come late.

    Raises PluginError if the network does not give an embedding 2 x D; who: what it is called, `timm's 'resnet18'`.
    """
    what = f"{who} does not accept {' x '.join(map(str, shape_CHW))} images"
    net.eval()
    try:
        with torch.no_grad():
            emb = net(torch.zeros(2, *shape_CHW))
    except Exception as error:  # their models may raise anything
        raise PluginError(f"{what}: {one_line(error)}. {hint}") from error
    if not isinstance(emb, Tensor) or emb.shape != (2, embed_dim):
        got = list(emb.shape) if isinstance(emb, Tensor) else type(emb).__name__
        raise PluginError(f"{what}: it gives {got} and not [2, {embed_dim}]. {hint}")
    net.train()


def channel_values(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value per channel. For another number than three, filters were summed or repeated: the mean of the values."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def one_line(error: Exception) -> str:
    """The text of an error of another library, for the middle of a sentence."""
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")[:300]
