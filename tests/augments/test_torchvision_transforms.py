"""Transforms of torchvision.transforms.v2 as augmentations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmctl.augments.torchvision import TorchVision
from mmctl.plugin import PluginError


@pytest.mark.parametrize(
    ("policy", "args", "same"),
    [
        ("RandAugment", {"num_ops": 3, "interpolation": "bilinear"}, {"num_ops": 3, "interpolation": "bilinear"}),
        ("AutoAugment", {"policy": "cifar10"}, {"policy": "cifar10"}),
        ("TrivialAugmentWide", {}, {}),
        ("AugMix", {}, {}),
        ("ColorJitter", {"brightness": 0.4, "hue": 0.1}, {"brightness": 0.4, "hue": 0.1}),
        ("RandomResizedCrop", {}, {"size": (16, 12)}),
        ("RandomHorizontalFlip", {}, {}),
        ("RandomErasing", {"p": 1.0}, {"p": 1.0}),
        ("ElasticTransform", {"sigma": 1.0}, {"sigma": 1.0}),
        ("GaussianNoise", {}, {}),
    ],
)
def test_equals_torchvision_with_the_same_seed(policy: str, args: dict[str, Any], same: dict[str, Any]) -> None:
    from torchvision.transforms import v2

    if policy == "AutoAugment":
        same = {"policy": v2.AutoAugmentPolicy(same["policy"])}
    if "interpolation" in same:
        same["interpolation"] = v2.InterpolationMode(same["interpolation"])
    ours = TorchVision(3, (16, 12), policy=policy, args=args)
    theirs = getattr(v2, policy)(**same)
    x = torch.randint(0, 256, (8, 3, 16, 12), dtype=torch.uint8)
    drawn = ours.draw(np.random.default_rng(0), 8)
    state = torch.get_rng_state()
    made = ours.apply(x, seed=torch.from_numpy(drawn["seed"]))
    assert torch.equal(torch.get_rng_state(), state)  # dropout goes on as if nothing had been drawn
    assert not torch.equal(made, x)
    for image, result, seed in zip(x, made, drawn["seed"].tolist(), strict=True):
        torch.manual_seed(seed)
        assert torch.equal(theirs(image), result)


@pytest.mark.parametrize(
    ("policy", "args", "message"),
    [
        ("RandAugmentt", {}, "Did you mean RandAugment"),
        ("MixUp", {}, "MixUp cannot be an augmentation: it mixes the images and the labels"),
        ("RandomChoice", {}, "its arguments are other transforms"),
        ("ToPILImage", {}, "it turns a uint8 image into Image"),
        ("ToDtype", {"dtype": "float32"}, "ToDtype cannot be an augmentation"),
        ("ElasticTransform", {}, "torchvision says of a uint8 image of 3 x 16 x 12"),
        ("Pad", {"padding": 2}, r"it turns an image of \[3, 16, 12\] into \[3, 20, 16\]"),
        ("RandomRotation", {"degrees": 30, "expand": True}, "RandomRotation cannot be an augmentation"),
        ("RandomZoomOut", {}, "it changes the size"),
        ("RandAugment", {"strength": 3}, "Its arguments: num_ops, magnitude"),
        ("AutoAugment", {"policy": "mnist"}, "cannot create the transform AutoAugment"),
    ],
)
def test_refused_in_one_line(policy: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        TorchVision(3, (16, 12), policy=policy, args=args)
    assert "\n" not in str(caught.value)
