"""A backbone: the network that turns images into embeddings. mmctl adds the linear classifier.

B batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mmctl.plugin import backbone


@backbone("my_component")
class MyComponent(nn.Module):
    """Two 3 x 3 convolutions, then the mean over the image.

    Args:
        width: Channels of the first convolution; the second one, and with it the embedding, has twice as many.
    """

    # Arguments before the * are supplied by mmctl: a backbone may ask for in_channels and image_size.
    # Arguments after the * are parameters of the recipe; mmctl checks their types and bounds.
    def __init__(self, in_channels: int, *, width: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__()
        self.embed_dim = 2 * width  # D; mmctl sizes the classifier by it
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, self.embed_dim, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(self.embed_dim),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),  # any image size gives one vector
            nn.Flatten(),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The embedding BD of normalised float images."""
        emb_BD: Tensor = self.layers(x_BCHW)
        return emb_BD
