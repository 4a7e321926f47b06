"""Backbones: wide residual networks (WRN), in the published variants.

Two variants have the same name but give different results (their logits differ by .08 at equal weights):

    residual = "activated"  Google's TensorFlow code (MixMatch, ReMixMatch, FixMatch): the first convolution of
                            every block gets the block's input after batch norm and leaky ReLU
    residual = "raw"        its PyTorch re-implementations (MixMatch-pytorch, FixMatch-pytorch, TorchSSL, USB):
                            after the first stage, in a block that changes the width, it gets the input unchanged

bn_momentum = .001 and bn_eps = 1e-3 are TensorFlow's (decay .999; the default epsilon of its layers). The PyTorch
codes use .001 too, but their eps is 1e-5 (USB: 1e-5 in the blocks and 1e-3 in the last norm). The convolutions have no
biases, unlike in TensorFlow: each path ends in a batch norm, which removes a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from mmctl.plugin import backbone


def he_normal(net: nn.Module) -> None:
    """Initialise convolutions from a normal distribution of variance 2 / (k * k * channels out), as all references."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Block(nn.Module):
    """A residual block: two 3 x 3 convolutions, each after batch norm and leaky ReLU, plus a shortcut."""

    def __init__(
        self, width_in: int, width: int, stride: int, first: bool, raw: bool, eps: float, momentum: float, slope: float
    ) -> None:
        super().__init__()
        widens = width_in != width
        # The first block of the network applies bn1 and act1 before shortcut and residual separate; the raw variant
        # only if the shortcut is a convolution. Later raw blocks with such a shortcut do not use bn1 (other programs
        # compute it without using it).
        self.activate_both = first and (widens or not raw)
        self.bn1 = nn.Identity() if raw and widens and not first else nn.BatchNorm2d(width_in, eps, momentum)
        # In place: nothing else uses its input, the output of the norm. This saves a third of the training memory.
        self.act1 = nn.Identity() if isinstance(self.bn1, nn.Identity) else nn.LeakyReLU(slope, inplace=True)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps, momentum)
        self.act2 = nn.LeakyReLU(slope, inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if widens else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shortcut plus residual."""
        inner = self.act1(self.bn1(x_BCHW))
        around = self.shortcut(inner if self.activate_both else x_BCHW)
        return around + self.conv2(self.act2(self.bn2(self.conv1(inner))))  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """Wide residual network; subclasses set depth, width and number of stages.

    Args:
        bn_momentum: Momentum of batch norm: share of each batch in the running statistics; .001 needs thousands of
            steps.
        bn_eps: Epsilon of batch norm: 1e-3 in the TensorFlow code, 1e-5 in most PyTorch code.
        slope: Slope of the leaky ReLU below zero.
        residual: "activated" as in the papers' TensorFlow code, "raw" as in its PyTorch re-implementations.
        stem_stride: Stride of the first convolution; 2 makes the network about 4 times cheaper.
    """

    depth: ClassVar[int]
    width: ClassVar[int]
    stages: ClassVar[int] = 3

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        bn_momentum: Annotated[float, Field(gt=0, le=1)] = 0.001,
        bn_eps: Annotated[float, Field(gt=0)] = 1e-3,
        slope: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        residual: Literal["activated", "raw"] = "activated",
        stem_stride: Annotated[int, Field(ge=1, le=4)] = 1,
    ) -> None:
        super().__init__()
        blocks = (self.depth - self.stages - 1) // (2 * self.stages)
        self.stem = nn.Conv2d(in_channels, 16, 3, stem_stride, padding=1, bias=False)
        body: list[Block] = []
        width_in = 16
        for stage in range(self.stages):
            width = 16 * self.width << stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                body.append(Block(width_in, width, stride, not body, residual == "raw", bn_eps, bn_momentum, slope))
                width_in = width
        self.blocks = nn.Sequential(*body)
        self.bn = nn.BatchNorm2d(width_in, bn_eps, bn_momentum)
        self.act = nn.LeakyReLU(slope, inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.embed_dim = width_in
        he_normal(self)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """The last feature map, after activation."""
        return self.act(self.bn(self.blocks(self.stem(x_BCHW))))  # type: ignore[no-any-return]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Embedding BD."""
        return self.pool(self.forward_features(x_BCHW)).flatten(1)  # type: ignore[no-any-return]


@backbone("wrn_10_1")
class WRN10x1(WideResNet):
    """WRN-10-1, 64-d embedding, 77 thousand weights: for a CPU."""

    depth, width = 10, 1


@backbone("wrn_10_2")
class WRN10x2(WideResNet):
    """WRN-10-2, 128-d embedding, 0.3 million weights: for a CPU."""

    depth, width = 10, 2


@backbone("wrn_16_1")
class WRN16x1(WideResNet):
    """WRN-16-1, 64-d embedding, 0.2 million weights."""

    depth, width = 16, 1


@backbone("wrn_16_2")
class WRN16x2(WideResNet):
    """WRN-16-2, 128-d embedding, 0.7 million weights."""

    depth, width = 16, 2


@backbone("wrn_28_2")
class WRN28x2(WideResNet):
    """WRN-28-2, 128-d embedding, 1.5 million weights: the usual network for CIFAR-10 and SVHN."""

    depth, width = 28, 2


@backbone("wrn_28_8")
class WRN28x8(WideResNet):
    """WRN-28-8, 512-d embedding, 23 million weights: the usual network for CIFAR-100."""

    depth, width = 28, 8


@backbone("wrn_37_2")
class WRN37x2(WideResNet):
    """WRN-37-2, four stages, 256-d embedding, 5.9 million weights: the usual network for STL-10 at 96 px."""

    depth, width, stages = 37, 2, 4
