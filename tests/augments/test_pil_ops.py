"""Image operations, byte by byte against PIL, and against torchvision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from helpers.pil_ops import each, from_pil, pictures, to_pil
from mmctl.augments import _geometry, _pil_ops, _resample

SHAPES = [(3, 32, 32), (1, 32, 32), (3, 20, 31), (1, 27, 16)]
FACTORS = [0.0, 0.05, 0.1, 1 / 3, 0.5, 0.95, 1.0, 1.3, 1.72, 1.9, 2.0]
SLOPES = [-0.3, -0.27, -0.09, -1 / 7, 0.0, 0.03, 0.15, 0.3, 1.0]
PIXELS = [-9.6, -9.0, -2.5, -1.0, -0.3, 0.0, 0.3, 0.49, 0.5, 1.0, 4.7, 9.6, 40.0]
SHARES = [1.0, 0.0, 0.02, 0.37, 0.5, 0.77]
VALUES: dict[str, list[float]] = {
    "rotate": [-90, -45, -30, -27.3, -3, -0.01, 0, 0.4, 9, 21.7, 30, 45, 90, 179, 180],
    "shear_x": SLOPES,
    "shear_y": SLOPES,
    "translate_x": PIXELS,
    "translate_y": PIXELS,
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), FACTORS),
    "posterize": list(range(1, 9)),
    "solarize": [0, 1, 25.6, 100, 127.5, 128, 230.4, 255, 255.5, 256],
    "autocontrast": SHARES,
    "equalize": SHARES,
    "identity": [0.0],
    "invert": SHARES,
    "smooth": SHARES,
    "blur": SHARES,
}


def numbers(name: str, value: float, n: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Operation, matrix, alpha and level, as a policy would give them."""
    by, none = np.full(n, float(value)), np.zeros(n)
    made = {
        "rotate": lambda: _geometry.rotation(by, height, width),
        "shear_x": lambda: _geometry.shear(by, none),
        "shear_y": lambda: _geometry.shear(none, by),
        "translate_x": lambda: _geometry.translation(by, none),
        "translate_y": lambda: _geometry.translation(none, by),
    }
    matrix = made.get(name, lambda: _geometry.translation(none, none))()
    whole = name in ("posterize", "solarize", *made, "identity")
    return (
        torch.full((n,), _pil_ops.NAMES.index(name)),
        torch.from_numpy(matrix),
        torch.full((n,), 1.0 if whole else value),
        torch.full((n,), math.ceil(value) if whole else 0),
    )


def done(x: Tensor, op: Tensor, matrix: Tensor, alpha: Tensor, level: Tensor, ops: Any = _pil_ops.NAMES) -> Tensor:
    possible = {_pil_ops.NAMES.index(name) for name in ops}
    y = _pil_ops.warped(x, op, matrix, possible)
    y = _pil_ops.blended(y, op, alpha, possible)
    return _pil_ops.toned(y, op, alpha, level, possible)


def ours(name: str, x: Tensor, value: float, ops: Any = _pil_ops.NAMES) -> Tensor:
    return done(x, *numbers(name, value, len(x), *x.shape[2:]), ops)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device, where a value cannot be read: everything at fixed shapes."""
    monkeypatch.setattr(_pil_ops, "readable", lambda t: False)


def test_every_operation_is_tried() -> None:
    assert set(VALUES) | {"rescale", "cutout"} == set(_pil_ops.NAMES)
    families = [*_pil_ops.WARPS, *_pil_ops.BLENDS, *_pil_ops.TONES]
    assert families == list(range(1, 17))
    assert _pil_ops.NAMES[_pil_ops.SOLARIZE] == "solarize"
    assert (_pil_ops.NAMES[_pil_ops.RESCALE], _pil_ops.NAMES[_pil_ops.CUTOUT]) == ("rescale", "cutout")


@pytest.mark.sampled(6)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", VALUES)
def test_bytes_are_pil_s(name: str, shape: tuple[int, int, int]) -> None:
    x = pictures(*shape)
    before = x.clone()
    changed = False
    for value in VALUES[name]:
        want = each(name, x, value)
        assert torch.equal(ours(name, x, value), want), value
        assert torch.equal(ours(name, x, value, [name]), want), value  # where the policy has no other operation
        changed |= not torch.equal(want, x)
    assert changed == (name != "identity" and not (name == "color" and shape[0] == 1))
    assert torch.equal(x, before)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (4, 3)])
@pytest.mark.parametrize("name", VALUES)
def test_very_small_images(name: str, size: tuple[int, int]) -> None:
    x = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (16, 3, *size), np.uint8))
    for value in VALUES[name]:
        assert torch.equal(ours(name, x, value), each(name, x, value)), value


def mixture(n: int, channels: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Images with an operation and a strength each, in no order."""
    rng = np.random.default_rng(3)
    names = list(VALUES)
    parts = []
    for _ in range(n):
        name = names[rng.integers(len(names))]
        parts.append(numbers(name, VALUES[name][rng.integers(len(VALUES[name]))], 1, height, width))
    return (pictures(channels, height, width, n), *(torch.cat(column) for column in zip(*parts, strict=True)))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_batch_at_once_gives_the_same_bytes(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, *told = mixture(128, channels, 20, 25)
    some = done(x, *told)
    monkeypatch.setattr(_pil_ops, "readable", lambda t: False)
    assert torch.equal(done(x, *told), some)


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("name", VALUES)
def test_the_whole_batch_at_once_is_pil_s_too(name: str) -> None:
    x = pictures(3, 16, 16, 16)
    for value in VALUES[name][:3]:
        assert torch.equal(ours(name, x, value), each(name, x, value)), value


def test_an_image_does_not_know_its_neighbours() -> None:
    x, *told = mixture(96, 3, 16, 16)
    out, order = done(x, *told), torch.from_numpy(np.random.default_rng(0).permutation(96))
    assert torch.equal(done(x[order], *(t[order] for t in told)), out[order])
    for i in range(0, 96, 7):
        assert torch.equal(done(x[i : i + 1], *(t[i : i + 1] for t in told))[0], out[i])


@pytest.mark.parametrize("low", [0, 3, 100])
def test_autocontrast_for_every_range(low: int) -> None:
    """All differences there are: a quotient made by way of a reciprocal (255.0 / tensor) is another in some of them."""
    x = torch.arange(256, dtype=torch.uint8).expand(255 - low, 1, 256).clone()
    x = x.clamp(low).minimum(torch.arange(low + 1, 256, dtype=torch.uint8)[:, None, None]).view(-1, 1, 16, 16)
    assert torch.equal(ours("autocontrast", x, 1.0), each("autocontrast", x, 1.0))


# Torchvision --------------------------------------------------------------------------------------------------------

TORCHVISION = {
    "brightness": F.adjust_brightness,
    "color": F.adjust_saturation,
    "contrast": F.adjust_contrast,
    "sharpness": F.adjust_sharpness,
    "posterize": lambda x, v: F.posterize(x, int(v)),
    "solarize": F.solarize,
    "autocontrast": lambda x, v: F.autocontrast(x),
    "equalize": lambda x, v: F.equalize(x),
    "invert": lambda x, v: F.invert(x),
    "rotate": lambda x, v: F.rotate(x, v),
    "translate_x": lambda x, v: F.affine(x, 0.0, [-int(v), 0], 1.0, [0.0, 0.0]),
    "translate_y": lambda x, v: F.affine(x, 0.0, [0, -int(v)], 1.0, [0.0, 0.0]),
    "shear_x": lambda x, v: F.affine(x, 0.0, [0, 0], 1.0, [math.degrees(math.atan(v)), 0.0], center=[0, 0]),
    "shear_y": lambda x, v: F.affine(x, 0.0, [0, 0], 1.0, [0.0, math.degrees(math.atan(v))], center=[0, 0]),
}
SAME = {
    "autocontrast": [1.0], "equalize": [1.0], "invert": [1.0], "translate_x": [-9, -2, 0, 3, 9],
    "translate_y": [-9, -2, 0, 3, 9], "solarize": [0, 1, 100, 128, 255], "rotate": [-45, -21.5, 0, 7, 30],
    "shear_x": [-0.3, -0.09, 0, 0.13, 0.3], "shear_y": [-0.3, -0.09, 0, 0.13, 0.3],
    "posterize": [1, 3, 4, 8],
    "brightness": FACTORS, "color": FACTORS, "contrast": FACTORS, "sharpness": FACTORS,
}  # fmt: skip
NEAR = {"color": 1, "contrast": 2, "sharpness": 2, "autocontrast": 1, "brightness": 0}
WARPS = ("rotate", "shear_x", "shear_y")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SAME)
def test_torchvision_on_pil_images(name: str, channels: int) -> None:
    x = pictures(channels, 24, 32)
    for value in SAME[name]:
        want = np.stack([from_pil(TORCHVISION[name](to_pil(picture), value)) for picture in x])
        assert torch.equal(ours(name, x, value), torch.from_numpy(want)), value


@pytest.mark.sampled(3)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SAME)
def test_torchvision_on_tensors(name: str, channels: int) -> None:
    """Which rounds where PIL does not: off by a grey level or two, and by a pixel here and there in a warp."""
    x = pictures(channels, 24, 32)
    for value in SAME[name]:
        out = ours(name, x, value).int()
        want = torch.cat([TORCHVISION[name](picture[None], value) for picture in x]).int()
        if name in WARPS:
            assert (out == want).float().mean() > 0.95, value
        else:
            assert (out - want).abs().max() <= NEAR.get(name, 0), value


# Patches and resizing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [(7,), (1, 128, 255)])
def test_erased_is_a_rectangle(fill: tuple[int, ...]) -> None:
    x = pictures(len(fill), 9, 14, 64)
    rng = np.random.default_rng(0)
    box = torch.from_numpy(rng.integers(-3, 17, (64, 4)))
    want = x.clone()
    for i, (top, left, bottom, right) in enumerate(box.tolist()):
        for row in range(max(top, 0), min(bottom, 9)):
            for column in range(max(left, 0), min(right, 14)):
                want[i, :, row, column] = torch.tensor(fill, dtype=torch.uint8)
    assert torch.equal(_pil_ops.erased(x, box, fill), want)
    assert not torch.equal(want, x)


METHODS = [
    Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX,
    Image.Resampling.HAMMING, Image.Resampling.NEAREST,
]  # fmt: skip


@pytest.mark.parametrize("method", range(6))
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 17, 24), (3, 5, 3)], ids=str)
def test_rescaling_is_pil_s_crop_and_resize(shape: tuple[int, int, int], method: int) -> None:
    _, height, width = shape
    tables = [_resample.taps(side, round(side / 4)) for side in (height, width)]
    rows, columns = (tuple(torch.from_numpy(t) for t in table) for table in tables)
    for down in range(round(height / 4) + 1):
        for right in {0, down % (round(width / 4) + 1), round(width / 4)}:
            x = pictures(*shape, n=4, seed=down)
            y = _resample.resampled(x, *(t[right, method].expand(4, *t.shape[2:]) for t in columns), 3)
            y = _resample.resampled(y, *(t[down, method].expand(4, *t.shape[2:]) for t in rows), 2)
            for picture, out in zip(x, y, strict=True):
                inner = to_pil(picture).crop((right, down, width - right, height - down))
                assert (out.numpy() == from_pil(inner.resize((width, height), METHODS[method]))).all()
