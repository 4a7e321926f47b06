"""Augmentation by a transform of torchvision.transforms.v2, without a plugin file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import isclass, signature
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from mmctl.augments._geometry import sides
from mmctl.plugin import PluginError, augment

BATCH = "it mixes the images and the labels of a batch; a method does that: mixup, mixup_ssl, mixmatch"
NESTED = 'its arguments are other transforms; write one policy for each and chain them with `after = "..."`'
OBJECTS = "it needs bounding boxes, masks or key points"
FUNCTION = "its argument is a function or a tensor, which a recipe cannot hold; write a plugin file"
REFUSED = {
    "MixUp": BATCH,
    "CutMix": BATCH,
    **dict.fromkeys(("Compose", "RandomApply", "RandomChoice", "RandomOrder"), NESTED),
    **dict.fromkeys(("Lambda", "LinearTransformation"), FUNCTION),
    **dict.fromkeys(
        (
            "ClampBoundingBoxes",
            "ClampKeyPoints",
            "ConvertBoundingBoxFormat",
            "RandomIoUCrop",
            "SanitizeBoundingBoxes",
            "SanitizeKeyPoints",
            "SetClampingMode",
        ),
        OBJECTS,
    ),
    **dict.fromkeys(("RandomResize", "RandomShortestSize", "ScaleJitter", "RandomZoomOut"), "it changes the size"),
    **dict.fromkeys(("FiveCrop", "TenCrop"), "it makes several images of one"),
    **dict.fromkeys(("ToTensor", "ToDtype", "ConvertImageDtype"), "mmctl makes floats after all augmentations"),
    "UniformTemporalSubsample": "it is for videos",
    "Normalize": "mmctl normalises after all augmentations",
}
TRIES = 24
"""Seeds of the trial: transforms that are applied with probability 0.5 fail to show themselves once in 2 ** 24."""


@augment("torchvision")
class TorchVision:
    """A transform of torchvision.transforms.v2, such as RandAugment, with numbers of its own for each image.

    Images are transformed one by one on the CPU, also in training on a GPU. Each image is exactly what torchvision
    gives after `torch.manual_seed(seed)` with the seed that `draw` gives it.

    Args:
        policy: Name of the transform, for example RandAugment, AutoAugment, TrivialAugmentWide or ColorJitter.
        args: Arguments of the transform, for example {num_ops = 2, magnitude = 9}; `size` is the image's own if absent.
    """

    on_cpu = True

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        policy: str,
        args: dict[str, Any] = {},  # noqa: B006  never changed
    ) -> None:
        self.policy = policy
        self.transform = _made(policy, args, sides(image_size))
        height, width = sides(image_size)
        image = torch.arange(in_channels * height * width).mul(37).remainder(256).to(torch.uint8)
        with _own_generator() as generator:
            for seed in range(TRIES):
                generator.manual_seed(seed)
                self._transformed(image.view(in_channels, height, width))

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        """A seed for each image: torchvision draws only from torch's global generator."""
        return {"seed": rng.integers(2**63 - 1, size=n)}

    def apply(self, x_BCHW: Tensor, **draws: Tensor) -> Tensor:
        """Transform each image with the global generator at its seed; the generator is then put back."""
        images = []
        with _own_generator() as generator:
            for image, seed in zip(x_BCHW.cpu(), draws["seed"].tolist(), strict=True):
                generator.manual_seed(seed)
                images.append(self._transformed(image))
        return torch.stack(images).to(x_BCHW.device) if images else x_BCHW.clone()

    def _transformed(self, image: Tensor) -> Tensor:
        try:
            made = self.transform(image)
        except Exception as error:  # each transform has its own errors
            text = " ".join(str(error).split())[:300] or type(error).__name__
            form = " x ".join(map(str, image.shape))
            raise _refused(self.policy, f"torchvision says of a uint8 image of {form}: {text.rstrip('.')}") from error
        if not isinstance(made, Tensor) or made.dtype != torch.uint8:
            kind = str(made.dtype).removeprefix("torch.") if isinstance(made, Tensor) else type(made).__name__
            raise _refused(self.policy, f"it turns a uint8 image into {kind}")
        if made.shape != image.shape:
            raise _refused(self.policy, f"it turns an image of {list(image.shape)} into {list(made.shape)}")
        return made


def _made(policy: str, args: dict[str, Any], size: tuple[int, int]) -> Any:
    from torchvision.transforms import v2

    found = {name: c for name, c in vars(v2).items() if isclass(c) and issubclass(c, v2.Transform)}
    del found["Transform"]
    if policy not in found:
        close = get_close_matches(policy, found, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(close)}?" if close else " Its names are those of torchvision.transforms.v2."
        raise PluginError(f"augment policy: torchvision has no transform {policy!r}.{hint}")
    if policy in REFUSED:
        raise _refused(policy, REFUSED[policy])
    known = signature(found[policy].__init__).parameters
    given = ({"size": size} if "size" in known else {}) | args
    try:
        if isinstance(given.get("interpolation"), str):
            given["interpolation"] = v2.InterpolationMode(given["interpolation"])
        if policy == "AutoAugment" and "policy" in given:
            given["policy"] = v2.AutoAugmentPolicy(given["policy"])
        return found[policy](**given)
    except (TypeError, ValueError) as error:
        takes = ", ".join(name for name in known if name != "self") or "none"
        raise PluginError(
            f"torchvision cannot create the transform {policy} with args {args}: {error}. Its arguments: {takes}."
        ) from error


def _refused(policy: str, why: str) -> PluginError:
    return PluginError(
        f"torchvision's {policy} cannot be an augmentation: {why}. "
        "An augmentation gives each image as uint8 of the same shape."
    )


@contextmanager
def _own_generator() -> Iterator[torch.Generator]:
    """torch's global generator of the CPU, put back afterwards: dropout in the network uses it too."""
    state = torch.default_generator.get_state()
    try:
        yield torch.default_generator
    finally:
        torch.default_generator.set_state(state)
