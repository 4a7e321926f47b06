"""Augmentations, each against a slow reference that takes one image at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers.recorded_step import record
from mmctl import ops
from mmctl.augments import _pil_ops
from mmctl.augments.affine import Affine
from mmctl.augments.ctaugment import CTAugment, CTAugmentProbe
from mmctl.augments.cutout import Cutout
from mmctl.augments.faces import Faces
from mmctl.augments.flip_crop import FlipCrop
from mmctl.augments.randaugment import FixMatchRandAugment, USBRandAugment
from mmctl.augments.torchvision import TorchVision
from mmctl.plugin import DataError
from mmctl.registry.index import Index

SHAPES = [(7, 3, 12, 9), (5, 1, 8, 8)]
STILL = {"rotate": 0.0, "zoom": 0.0, "shift": 0.0, "shear": 0.0, "flip": 0.0, "noise": 0.0}


def pictures(*shape: int) -> Tensor:
    return torch.from_numpy(default_rng(1).integers(0, 256, shape, np.uint8))


def draws(policy: Any, n: int, seed: int = 0, **given: float) -> dict[str, Tensor]:
    drawn = policy.draw(default_rng(seed), n)
    for name, value in given.items():
        drawn[name] = np.full(n, value, drawn[name].dtype)
    return {name: torch.from_numpy(array) for name, array in drawn.items()}


EVERY = [
    "flip_crop", "affine", "faces", "fixmatch_ra", "usb_ra", "cutout", "ctaugment", "ctaugment_probe", "torchvision",
]  # fmt: skip
ON_DEVICE = [name for name in EVERY if name != "torchvision"]  # it says on_cpu = True


def policy_named(name: str, channels: int, *size: int) -> Any:
    learning = CTAugment(channels, size, depth=1)
    return {
        "flip_crop": lambda: FlipCrop(size),
        "affine": lambda: Affine(flip=0.5, noise=0.05),
        "faces": lambda: Faces(size),
        "fixmatch_ra": lambda: FixMatchRandAugment(channels, size),
        "usb_ra": lambda: USBRandAugment(channels, size),
        "cutout": lambda: Cutout(channels, size),
        "ctaugment": lambda: learning,
        "ctaugment_probe": lambda: CTAugmentProbe({"strong": learning}),
        "torchvision": lambda: TorchVision(channels, size, policy="RandAugment"),
    }[name]()


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_crop_is_pad_crop_flip(shape: tuple[int, ...]) -> None:
    x, policy = pictures(*shape), FlipCrop(min(shape[2:]), pad=4)
    drawn = draws(policy, len(x))
    out = policy.apply(x, **drawn)
    for i, picture in enumerate(x.numpy()):
        padded = np.pad(picture, ((0, 0), (4, 4), (4, 4)), mode="reflect")
        top, left = 4 + int(drawn["down"][i]), 4 + int(drawn["right"][i])
        crop = padded[:, top : top + shape[2], left : left + shape[3]]
        assert (out[i].numpy() == (crop[:, :, ::-1] if drawn["flip"][i] else crop)).all()
    assert len({tuple(int(drawn[name][i]) for name in drawn) for i in range(len(x))}) > 1


def test_flip_crop_draws_all_shifts_and_flips_alike() -> None:
    drawn = FlipCrop(32, pad=2).draw(default_rng(0), 5000)
    assert set(drawn["down"]) == set(drawn["right"]) == {-2, -1, 0, 1, 2}
    assert 0.45 < drawn["flip"].mean() < 0.55
    assert abs(np.bincount(drawn["down"] + 2) - 1000).max() < 120
    assert not FlipCrop(32, flip=0).draw(default_rng(0), 100)["flip"].any()
    assert FlipCrop(32, flip=1).draw(default_rng(0), 100)["flip"].all()


def test_flip_crop_needs_images_larger_than_its_pad() -> None:
    with pytest.raises(DataError, match="pad = 8 needs images larger than 8 px"):
        FlipCrop((32, 8), pad=8)
    FlipCrop(8, pad=7).apply(pictures(2, 1, 8, 8), **draws(FlipCrop(8, pad=7), 2, down=7, right=-7))


def sample(picture: np.ndarray, y: float, x: float, padding: str) -> float:
    """Bilinear value at (y, x), pixel centres at whole numbers."""
    height, width = picture.shape
    if padding == "border":
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(np.floor(y)), int(np.floor(x))
    value = 0.0
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            value += float(picture[i, j]) * (1 - abs(y - i)) * (1 - abs(x - j))
    return value


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("shape", SHAPES)
def test_affine_is_one_bilinear_warp(shape: tuple[int, ...], padding: Any) -> None:
    x = pictures(*shape)
    policy = Affine(rotate=25, zoom=0.2, shift=2, shear=0.2, flip=0.5, noise=0, padding=padding)
    drawn = draws(policy, len(x))
    out = policy.apply(x, **drawn)
    middle = (np.array(shape[2:]) - 1) / 2  # down, right
    for b in range(len(x)):
        d = {name: float(value[b]) for name, value in drawn.items()}
        cos, sin = np.cos(d["turn"]), np.sin(d["turn"])
        turn = np.array([[cos, sin], [-sin, cos]])  # of (down, right): a point at the right moves up for turn < 0
        zoom = np.diag(np.exp([d["zoom_down"], d["zoom_right"]]))
        shear = np.array([[1, 0], [d["shear"], 1]])
        flip = np.diag([1, -1]) if d["flip"] else np.eye(2)
        there = np.linalg.inv(turn @ zoom @ shear @ flip)
        for i in range(shape[2]):
            for j in range(shape[3]):
                y, z = there @ (np.array([i, j]) - middle - [d["down"], d["right"]]) + middle
                for c in range(shape[1]):
                    want = sample(x[b, c].numpy(), y, z, padding)
                    assert abs(float(out[b, c, i, j]) - want) < 0.51


@pytest.mark.parametrize("padding", ["border", "zeros", "reflection"])
def test_affine_in_simple_cases(padding: Any) -> None:
    x = pictures(4, 3, 9, 9)
    still = Affine(**STILL, padding=padding)

    def moved(**given: float) -> Tensor:
        return still.apply(x, **draws(still, 4, **given))

    assert (moved() == x).all()
    assert (moved(flip=1) == x.flip(3)).all()
    assert (moved(turn=np.pi / 2) == torch.rot90(x, -1, (2, 3))).all()
    assert (moved(turn=np.pi) == x.flip(2, 3)).all()
    assert (moved(right=2)[..., 2:] == x[..., :-2]).all()
    assert (moved(down=-3)[:, :, :-3] == x[:, :, 3:]).all()
    assert (moved(zoom_down=np.log(3))[:, :, 1::3] == x[:, :, 3:6]).all()
    assert (moved(zoom_right=np.log(3))[..., 1::3] == x[..., 3:6]).all()
    sheared = moved(shear=1)
    for row in range(9):  # a pixel down is a pixel to the right
        by = row - 4
        there, here = (slice(max(by, 0), 9 + min(by, 0)), slice(max(-by, 0), 9 - max(by, 0)))
        assert (sheared[:, :, row, there] == x[:, :, row, here]).all()


def test_affine_draws_within_its_bounds() -> None:
    drawn = Affine(rotate=10, zoom=0.1, shift=1.5, shear=0.2, flip=0.25).draw(default_rng(0), 4000)
    for name, most in (("turn", np.deg2rad(10)), ("zoom_down", 0.1), ("right", 1.5), ("down", 1.5), ("shear", 0.2)):
        assert drawn[name].dtype == np.float32
        assert 0.98 * most < abs(drawn[name]).max() <= most * (1 + 1e-6)
        assert abs(drawn[name].mean()) < 0.04 * most
    assert 0.22 < drawn["flip"].mean() < 0.28
    assert len(set(drawn["noise"].tolist())) == 4000


def test_affine_noise_is_the_hashed_normal_of_each_sample() -> None:
    x = torch.full((6, 1, 20, 20), 128, dtype=torch.uint8)
    policy = Affine(**{**STILL, "noise": 0.05})
    drawn = draws(policy, 6)
    out = policy.apply(x, **drawn)
    want = (128 + 255 * 0.05 * ops.hashed_normal(drawn["noise"], (1, 20, 20))).round().clamp(0, 255)
    assert (out == want).all()
    assert 0.9 < (out.float() - 128).std() / (255 * 0.05) < 1.1
    bright = policy.apply(torch.full_like(x, 255), **drawn)  # clipped, not wrapped around
    assert int(bright.min()) > 150


def test_faces_is_affine_with_a_shift_in_shares_of_the_side() -> None:
    small, large = Faces(24), Faces((48, 60))
    assert small.shift == pytest.approx(2)
    assert large.shift == pytest.approx(4)
    still = Faces(24, flip=0, shift=0, rotate=0, noise=0)
    x = pictures(3, 1, 24, 24)
    assert (still.apply(x, **draws(still, 3)) == x).all()
    plain = Affine(rotate=10, zoom=0, shift=2, shear=0, flip=0.5, noise=0.02, padding="reflection")
    assert (small.apply(x, **draws(small, 3)) == plain.apply(x, **draws(plain, 3))).all()


def test_every_policy_is_tested() -> None:
    assert sorted(EVERY) == sorted(e.name for e in Index(sources="off").entries if e.kind == "augment")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", SHAPES)
def test_contract(name: str, shape: tuple[int, ...]) -> None:
    x, policy = pictures(*shape), policy_named(name, *shape[1:])
    before, drawn = x.clone(), draws(policy, len(x))
    out = policy.apply(x, **drawn)
    assert (out.shape, out.dtype) == (x.shape, torch.uint8)
    assert (x == before).all()
    assert (out != x).any()
    assert (policy.apply(x, **draws(policy, len(x))) == out).all()  # draws of a seed decide everything
    for value in drawn.values():
        assert len(value) == len(x)
        assert value.dtype in (torch.float32, torch.int64)
    rows = torch.tensor([4, 0])  # each image by its own draws, whatever stands beside it
    assert (policy.apply(x[rows], **{name: value[rows] for name, value in drawn.items()}) == out[rows]).all()
    assert all(len(value) == 0 for value in policy.draw(default_rng(0), 0).values())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ON_DEVICE)
def test_shapes_do_not_depend_on_values(name: str) -> None:
    policy = policy_named(name, 3, 12, 9)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # a policy that learns has tensors of its own
        fake = {name: mode.from_tensor(value) for name, value in draws(policy, 4).items()}
        out = policy.apply(mode.from_tensor(pictures(4, 3, 12, 9)), **fake)
    assert out.shape == (4, 3, 12, 9)


@pytest.mark.parametrize("name", ON_DEVICE)
def test_can_be_captured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a CUDA graph: done again on other images and numbers in the same memory, without any of its Python."""
    monkeypatch.setattr(_pil_ops, "readable", lambda t: False)  # as on a device
    policy = policy_named(name, 3, 12, 9)
    x, drawn, score = pictures(16, 3, 12, 9), draws(policy, 16), torch.rand(16)
    out = torch.empty_like(x)

    def step() -> None:
        out.copy_(policy.apply(x, **drawn))
        if hasattr(policy, "update"):
            policy.update(score, **drawn)

    tape = record(step)
    assert tape.read == []
    first = out.clone()
    x.copy_(x.flip(0) ^ 85)
    for key, value in draws(policy, 16, seed=1).items():
        drawn[key].copy_(value)
    want = policy.apply(x, **drawn)
    tape.replay()
    assert torch.equal(out, want)
    assert not torch.equal(out, first)
