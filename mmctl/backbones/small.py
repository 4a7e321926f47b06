"""Backbone for very small images: three convolutions, for demos and tests on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mmctl.backbones.wrn import he_normal
from mmctl.plugin import backbone


@backbone("small")
class Small(nn.Module):
    """Three 3 x 3 convolutions of 32, 64 and 128 channels, for 8 px digits (93 thousand weights).

    Args:
        bn_momentum: Momentum of batch norm: share of each batch in the running statistics; .05 is right for runs of
            some hundred steps.
        slope: Slope of the leaky ReLU below zero.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        bn_momentum: Annotated[float, Field(gt=0, le=1)] = 0.05,
        slope: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.embed_dim = 128
        layers: list[nn.Module] = []
        for width, stride in ((32, 1), (64, 2), (self.embed_dim, 2)):
            layers += [
                nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width, momentum=bn_momentum),
                nn.LeakyReLU(slope),
            ]
            in_channels = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        he_normal(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Embedding BD."""
        return self.layers(x_BCHW)  # type: ignore[no-any-return]
