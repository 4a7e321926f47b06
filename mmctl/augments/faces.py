"""Augmentation for aligned faces: they may be mirrored, shifted and rotated a little, but not sheared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from mmctl.augments import _geometry
from mmctl.augments.affine import Affine, NotNegative, Padding
from mmctl.plugin import augment


@augment("faces")
class Faces(Affine):
    """Flip, shift, small rotation and noise, for faces of any resolution.

    Args:
        flip: Probability of a horizontal flip.
        shift: Largest shift as a share of the shorter side: 1/12 is 2 px of 24 and 4 px of 48.
        rotate: Largest rotation in degrees, in both directions.
        noise: Standard deviation of the noise, where black is 0 and white is 1.
        padding: Pixels outside the image: repeat the "border", "reflection", or black "zeros".
    """

    def __init__(
        self,
        image_size: int | Sequence[int],
        *,
        flip: Annotated[float, Field(ge=0, le=1)] = 0.5,
        shift: Annotated[float, Field(ge=0, le=0.5)] = 1 / 12,
        rotate: Annotated[float, Field(ge=0, le=180)] = 10.0,
        noise: NotNegative = 0.02,
        padding: Padding = "reflection",
    ) -> None:
        side = min(_geometry.sides(image_size))
        super().__init__(
            rotate=rotate, zoom=0.0, shift=shift * side, shear=0.0, flip=flip, noise=noise, padding=padding
        )
