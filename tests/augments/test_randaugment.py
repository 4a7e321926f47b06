"""RandAugment against its sources: the same random numbers, one image at a time, through PIL."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator, default_rng
from PIL import Image, ImageDraw
from torch import Tensor

from helpers.pil_ops import from_pil, pictures, pil, to_pil
from helpers.tiny_project import training, written
from mmctl import project
from mmctl.augments import _geometry, _pil_ops
from mmctl.augments.cutout import Cutout
from mmctl.augments.randaugment import OPERATIONS as ALL
from mmctl.augments.randaugment import FixMatchRandAugment, RandAugment, USBRandAugment
from mmctl.plugin import DataError
from mmctl.training.loop import device_step

SHAPES = [(3, 32, 32), (1, 48, 48), (3, 20, 33)]


def but(*names: str) -> tuple[str, ...]:
    """All operations but these."""
    return tuple(name for name in ALL if name not in names)


def shown(policy: Any, x: Tensor, seed: int) -> Tensor:
    drawn = {name: torch.from_numpy(value) for name, value in policy.draw(default_rng(seed), len(x)).items()}
    return policy.apply(x, **drawn)  # type: ignore[no-any-return]


# The sources, for one image, given its numbers ---------------------------------------------------------------------


def usb(image: Image.Image, ops: list[str], along: list[float]) -> Image.Image:
    """USB: a strength anywhere in the operation's range, each operation applied."""
    width, height = image.size
    ends = {
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.05, 0.95)),
        "posterize": (4, 8), "rotate": (-30, 30), "shear_x": (-0.3, 0.3), "shear_y": (-0.3, 0.3),
        "solarize": (0, 256), "translate_x": (-0.3, 0.3), "translate_y": (-0.3, 0.3),
    }  # fmt: skip
    for name, t in zip(ops, along, strict=True):
        low, high = ends.get(name, (0, 1))
        value = low + float(high - low) * t
        if name in ("translate_x", "translate_y"):
            value *= width if name == "translate_x" else height
        if name in ("autocontrast", "equalize"):
            value = 1.0
        image = pil(name, image, max(1, int(value)) if name == "posterize" else value)
    return image


def usb_patch(image: Image.Image, share: float, row: float, column: float) -> Image.Image:
    """Its cut-out: a square share of the width, from a corner that is clamped before the other is found."""
    if share <= 0:
        return image
    (width, height), side = image.size, share * image.size[0]
    left, top = int(max(0, column - side / 2)), int(max(0, row - side / 2))
    colour = (125, 123, 114) if image.mode == "RGB" else Image.new("RGB", (1, 1), (125, 123, 114)).convert("L")
    fill = colour if isinstance(colour, tuple) else colour.getpixel((0, 0))
    image = image.copy()
    ImageDraw.Draw(image).rectangle((left, top, min(width, left + side), min(height, top + side)), fill)
    return image


def fixmatch(image: Image.Image, ops: list[tuple[str, int, int]]) -> Image.Image:
    """FixMatch: levels of ten in whole numbers, RGBA all the way, so that what lies outside stays transparent."""
    image = image.convert("RGBA")
    for name, level, direction in ops:
        if name in ("brightness", "color", "contrast", "sharpness"):
            image = pil(name, image, float(level) * 1.8 / 10 + 0.1)
        elif name == "rotate":
            image = pil(name, image, direction * int(level * 30 / 10))
        elif name in ("shear_x", "shear_y"):
            image = pil(name, image, direction * float(level) * 0.3 / 10)
        elif name in ("translate_x", "translate_y"):
            image = pil(name, image, direction * int(level * 10 / 10))
        elif name != "identity":
            value = {"posterize": 4 - int(level * 4 / 10), "solarize": 256 - int(level * 256 / 10)}.get(name, 1.0)
            image = pil(name, image.convert("RGB"), value).convert("RGBA")
    pixels = np.asarray(image).copy()
    pixels[pixels[..., 3] == 0] = 127
    return Image.fromarray(pixels[..., :3])


def port(image: Image.Image, ops: list[tuple[str, int, int]]) -> Image.Image:
    """The paper's ranges, as its PyTorch port has them."""
    width, height = image.size
    for name, level, direction in ops:
        value = 1.0
        if name in ("brightness", "color", "contrast", "sharpness"):
            value = float(level) * 0.9 / 10 + 0.05
        elif name in ("shear_x", "shear_y"):
            value = direction * float(level) * 0.3 / 10
        elif name in ("translate_x", "translate_y"):
            value = int(direction * float(level) * 0.3 / 10 * (width if name == "translate_x" else height))
        elif name in ("rotate", "posterize", "solarize"):
            value = {
                "rotate": direction * int(level * 30 / 10),
                "posterize": int(level * 4 / 10) + 4,
                "solarize": 256 - int(level * 256 / 10),
            }[name]
        image = pil(name, image, value)
    return image


# Against them --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_usb_ra_is_usb_s(shape: tuple[int, int, int]) -> None:
    x, (_, height, width) = pictures(*shape, n=128), shape
    rng = default_rng(7)
    ops, along = rng.integers(14, size=(128, 3)), rng.random((128, 3))
    share, row, column = rng.random(128) * 0.5, rng.uniform(0, height, 128), rng.uniform(0, width, 128)
    out = shown(USBRandAugment(shape[0], shape[1:]), x, 7)
    for i, picture in enumerate(x):
        image = usb(to_pil(picture), [ALL[op] for op in ops[i]], along[i].tolist())
        image = usb_patch(image, share[i], row[i], column[i])
        assert (out[i].numpy() == from_pil(image)).all(), (i, [ALL[op] for op in ops[i]])


def levels(rng: Generator, n: int, slots: int = 2) -> list[list[tuple[str, int, int]]]:
    """Operations, levels and directions as FixMatch draws them, in the order of `draw`."""
    shape = (n, slots)
    ops, used = rng.integers(14, size=shape), rng.random(shape) < 0.5
    level, direction = rng.integers(1, 10, shape), rng.integers(2, size=shape) * 2 - 1
    return [
        [
            (ALL[ops[i, s]] if used[i, s] else "identity", int(level[i, s]), int(direction[i, s]))
            for s in range(slots)
        ]
        for i in range(n)
    ]  # fmt: skip


def patched(array_CHW: np.ndarray, row: int, column: int, side: int, fill: int = 127) -> np.ndarray:
    out, half = array_CHW.copy(), side // 2
    out[:, max(0, row - half) : row + half, max(0, column - half) : column + half] = fill
    return out


@pytest.mark.parametrize("slots", [2, 5])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 20, 33)], ids=str)
def test_fixmatch_ra_is_the_authors_code(shape: tuple[int, int, int], slots: int) -> None:
    x, (_, height, width) = pictures(*shape, n=192), shape
    rng = default_rng(5)
    ops = levels(rng, 192, slots)
    row, column = rng.integers(height, size=192), rng.integers(width, size=192)
    out = shown(FixMatchRandAugment(3, shape[1:], num_ops=slots), x, 5)
    for i, picture in enumerate(x):
        want = from_pil(fixmatch(to_pil(picture), ops[i]))
        assert (out[i].numpy() == patched(want, row[i], column[i], min(height, width) // 2)).all(), (i, ops[i])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fixmatch_ra_with_the_paper_s_ranges_is_its_port(shape: tuple[int, int, int]) -> None:
    x, (_, height, width) = pictures(*shape, n=128), shape
    rng = default_rng(6)
    ops = levels(rng, 128)
    row, column = rng.integers(height, size=128), rng.integers(width, size=128)
    policy = FixMatchRandAugment(
        shape[0], shape[1:], enhance=(0.05, 0.95), posterize=(4, 8), translate=0.3, outside="black", cutout=16, fill=9
    )
    out = shown(policy, x, 6)
    for i, picture in enumerate(x):
        want = from_pil(port(to_pil(picture), ops[i]))
        assert (out[i].numpy() == patched(want, row[i], column[i], 16, 9)).all(), (i, ops[i])


class Chosen(FixMatchRandAugment):
    """One operation at one level, in one direction, on every image."""

    def __init__(self, *args: Any, op: str, level: int, direction: int, **more: Any) -> None:
        super().__init__(*args, num_ops=1, cutout=0, **more)
        self.numbers = _pil_ops.NAMES.index(op), level, direction

    def draw(self, rng: Generator, n: int) -> dict[str, np.ndarray]:
        op, level, direction = (np.full((n, 1), number) for number in self.numbers)
        changes = self.changes(op, level, level * direction, 10, whole=True)
        return {**super().draw(rng, n), **changes}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ALL)
def test_every_level_of_fixmatch_ra(name: str) -> None:
    x = pictures(3, 32, 32, n=8)
    for level in range(11):
        for direction in (-1, 1):
            out = shown(Chosen(3, 32, op=name, level=level, direction=direction), x, 0)
            if name == "posterize" and level == 10:  # no bit would be left, which PIL refuses
                assert torch.equal(out, x & 128)
                continue
            want = [from_pil(fixmatch(to_pil(picture), [(name, level, direction)])) for picture in x]
            assert torch.equal(out, torch.from_numpy(np.stack(want))), (level, direction)


# What is drawn --------------------------------------------------------------------------------------------------------


def share(values: np.ndarray) -> float:
    return float(np.mean(values))


def test_operations_of_usb_ra_are_equally_likely_and_always_applied() -> None:
    drawn = USBRandAugment(3, 32).draw(default_rng(0), 14_000)
    assert drawn["op"].shape == (14_000, 3)
    for slot in range(3):
        count = np.bincount(drawn["op"][:, slot], minlength=16)
        codes = [_pil_ops.NAMES.index(name) for name in ALL]
        assert (abs(count[codes] - 1000) < 130).all()
        assert count.sum() == count[codes].sum()
    first, second, _ = drawn["op"].T
    assert abs(share(first == second) - 1 / 14) < 0.01  # with replacement, independent


def test_operations_of_fixmatch_ra_are_applied_with_probability_one_half() -> None:
    drawn = FixMatchRandAugment(3, 32).draw(default_rng(0), 28_000)
    count = np.bincount(drawn["op"].flatten(), minlength=16) / drawn["op"].size
    assert count[0] == pytest.approx(0.5 + 0.5 / 14, abs=0.01)
    others = [_pil_ops.NAMES.index(name) for name in ALL if name != "identity"]
    assert (abs(count[others] - 0.5 / 14) < 0.004).all()
    none = drawn["op"] == 0
    assert abs(share(none[:, 0] & none[:, 1]) - share(none) ** 2) < 0.01
    assert not FixMatchRandAugment(3, 32, probability=0).draw(default_rng(0), 500)["op"].any()
    always = FixMatchRandAugment(3, 32, probability=1, without=but("rotate", "solarize"))
    always = always.draw(default_rng(0), 500)["op"]
    assert set(always.flatten()) == {_pil_ops.ROTATE, _pil_ops.SOLARIZE}


def test_strengths_of_usb_ra() -> None:
    drawn = USBRandAugment(3, (32, 50)).draw(default_rng(1), 20_000)
    op, factor, level, matrix = (drawn[name].reshape(60_000, -1) for name in ("op", "factor", "level", "matrix"))
    op, factor, level = op[:, 0], factor[:, 0], level[:, 0]
    for code in (_pil_ops.BRIGHTNESS, _pil_ops.COLOR, _pil_ops.CONTRAST, _pil_ops.SHARPNESS):
        mine = factor[op == code]
        assert 0.05 <= mine.min() < 0.06
        assert 0.94 < mine.max() <= 0.95
        assert abs(np.histogram(mine, 9, (0.05, 0.95))[0] / len(mine) - 1 / 9).max() < 0.02
    assert set(factor[(op == _pil_ops.AUTOCONTRAST) | (op == _pil_ops.EQUALIZE)]) == {1.0}
    assert abs(np.bincount(level[op == _pil_ops.POSTERIZE])[4:] / sum(op == _pil_ops.POSTERIZE) - 0.25).max() < 0.03
    threshold = level[op == _pil_ops.SOLARIZE]
    assert (threshold.min(), threshold.max()) == (1, 256)
    turned = matrix[op == _pil_ops.ROTATE]
    degrees = np.rad2deg(np.arctan2(-turned[:, 1], turned[:, 0]))
    assert abs(np.histogram(degrees, 10, (-30, 30))[0] / len(degrees) - 0.1).max() < 0.02
    for code, which in ((_pil_ops.SHEAR_X, 1), (_pil_ops.SHEAR_Y, 3)):
        slope = matrix[op == code][:, which] / 65536
        assert abs(np.histogram(slope, 10, (-0.3, 0.3))[0] / len(slope) - 0.1).max() < 0.02
    for code, which, most in ((_pil_ops.TRANSLATE_X, 2, 15), (_pil_ops.TRANSLATE_Y, 5, 10)):
        by = (matrix[op == code][:, which] - 32768) / 65536
        assert (by.min(), by.max()) == (-most, most)
        assert abs(by.mean()) < 0.3
    still = np.isin(op, (_pil_ops.COLOR, _pil_ops.IDENTITY, _pil_ops.EQUALIZE))
    assert (matrix[still] == [65536, 0, 32768, 0, 65536, 32768]).all()


def test_levels_of_fixmatch_ra() -> None:
    policy = FixMatchRandAugment(3, 32, probability=1)
    drawn = policy.draw(default_rng(1), 20_000)
    op, factor, level, matrix = (drawn[name].reshape(40_000, -1) for name in ("op", "factor", "level", "matrix"))
    op, factor, level = op[:, 0], factor[:, 0], level[:, 0]

    def even(values: np.ndarray, expected: list[float]) -> None:
        found, count = np.unique(values, return_counts=True)
        assert found.tolist() == pytest.approx(sorted(set(expected)), abs=1e-4)
        want = np.array([expected.count(v) for v in sorted(set(expected))]) / len(expected)
        assert abs(count / count.sum() - want).max() < 0.03

    nine = range(1, 10)
    for code in (_pil_ops.BRIGHTNESS, _pil_ops.COLOR, _pil_ops.CONTRAST, _pil_ops.SHARPNESS):
        even(factor[op == code], [0.1 + 0.18 * m for m in nine])
    even(level[op == _pil_ops.POSTERIZE], [4 - m * 4 // 10 for m in nine])
    even(level[op == _pil_ops.SOLARIZE], [256 - m * 256 // 10 for m in nine])
    turned = matrix[op == _pil_ops.ROTATE]
    even(np.rad2deg(np.arctan2(-turned[:, 1], turned[:, 0])).round(2), [s * 3.0 * m for m in nine for s in (-1, 1)])
    even(matrix[op == _pil_ops.SHEAR_Y][:, 3] / 65536, [s * 0.03 * m for m in nine for s in (-1, 1)])
    even((matrix[op == _pil_ops.TRANSLATE_X][:, 2] - 32768) / 65536, [float(s * m) for m in nine for s in (-1, 1)])
    gentle = FixMatchRandAugment(3, 32, magnitude=2, probability=1, without=but("rotate")).draw(default_rng(0), 500)
    assert len(np.unique(gentle["matrix"].reshape(-1, 6), axis=0)) == 2  # level 1, either way


def test_patches() -> None:
    box = FixMatchRandAugment(3, (32, 40)).draw(default_rng(0), 20_000)["box"]
    sides = box[:, 2:] - box[:, :2]
    assert (sides.max(0) == 16).all()
    assert (sides.min(0) == 8).all()
    assert (box[:, :2].min(0) == 0).all()
    assert (box[:, 2:].max(0) == [32, 40]).all()
    middle = (box[:, 0] + box[:, 2]) / 2
    whole = sides[:, 0] == 16
    assert set(middle[whole]) == set(range(8, 25))  # 8 and 24 rows from the edge still fit
    assert abs(np.bincount(middle[whole].astype(int))[8:] / len(box) - 1 / 32).max() < 0.005
    box = USBRandAugment(3, (32, 40)).draw(default_rng(0), 20_000)["box"]
    sides = box[:, 2:] - box[:, :2]
    assert (sides.min(), sides.max()) == (1, 20)
    assert (box >= 0).all()
    assert (box[:, 2:] <= [32, 40]).all()
    for none in (USBRandAugment(3, 32, cutout=0), FixMatchRandAugment(3, 32, cutout=0)):
        box = none.draw(default_rng(0), 99)["box"]
        assert (box[:, 2:] == box[:, :2]).all()


@pytest.mark.parametrize("policy", [FixMatchRandAugment(3, 16), USBRandAugment(3, 16), Cutout(3, 16)])
def test_draws_are_pure_and_their_samples_independent(policy: Any) -> None:
    one, same, other = (policy.draw(default_rng(seed), 50) for seed in (1, 1, 2))
    assert all((one[name] == same[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)
    assert all(len(np.unique(value.reshape(50, -1), axis=0)) > 5 for name, value in one.items() if name != "level")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [FixMatchRandAugment, USBRandAugment])
def test_one_by_one_and_all_at_once_give_the_same_bytes(
    kind: type[RandAugment], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, policy = pictures(channels, 24, 20, n=160), kind(channels, (24, 20))  # type: ignore[call-arg]
    drawn = {name: torch.from_numpy(value) for name, value in policy.draw(default_rng(2), 160).items()}
    out = policy.apply(x, **drawn)
    order = torch.from_numpy(default_rng(0).permutation(160))
    assert torch.equal(policy.apply(x[order], **{name: value[order] for name, value in drawn.items()}), out[order])
    for part in (slice(0, 1), slice(1, None, 2), slice(40, 43)):  # strided: a rank's share of the batch
        assert torch.equal(policy.apply(x[part], **{name: value[part] for name, value in drawn.items()}), out[part])
    monkeypatch.setattr(_pil_ops, "readable", lambda t: False)
    assert torch.equal(policy.apply(x, **drawn), out)


# Parameters -----------------------------------------------------------------------------------------------------------


def test_a_number_of_operations() -> None:
    x = pictures(3, 16, 16)
    assert torch.equal(shown(FixMatchRandAugment(3, 16, num_ops=0, cutout=0), x, 0), x)
    assert torch.equal(shown(USBRandAugment(3, 16, num_ops=0, cutout=0), x, 0), x)
    changed = [(shown(USBRandAugment(3, 16, num_ops=k, cutout=0), x, 0) != x).float().mean() for k in (1, 2, 4)]
    assert all(a < b for a, b in pairwise(changed))


def test_what_lies_outside() -> None:
    x = torch.full((200, 3, 32, 32), 255, dtype=torch.uint8)
    moves = {"without": but("translate_x"), "probability": 1, "cutout": 0}
    assert set(shown(FixMatchRandAugment(3, 32, **moves), x, 0).flatten().tolist()) == {127, 255}
    assert set(shown(FixMatchRandAugment(3, 32, fill=(1, 2, 3), **moves), x, 0)[:, 1].flatten().tolist()) == {2, 255}
    assert set(shown(FixMatchRandAugment(3, 32, outside="black", **moves), x, 0).flatten().tolist()) == {0, 255}
    assert set(shown(USBRandAugment(3, 32, without=but("translate_x"), cutout=0), x, 0).flatten().tolist()) == {0, 255}


def test_colour_changes_nothing_in_grey_images() -> None:
    x = pictures(1, 16, 16)
    assert torch.equal(shown(USBRandAugment(1, 16, without=but("color"), cutout=0), x, 0), x)
    patch = shown(USBRandAugment(1, 16, num_ops=0), torch.zeros_like(x), 0)
    assert set(patch.flatten().tolist()) == {0, 123}


def test_cutout_is_a_square_somewhere() -> None:
    x, rng = pictures(3, 20, 30), default_rng(4)
    row, column = rng.integers(20, size=64), rng.integers(30, size=64)
    for size, side in ((0.5, 10), (7, 6), (60, 60), (0.24, 4), (0, 0)):
        out = shown(Cutout(3, (20, 30), size=size, fill=200), x, 4)
        for i in range(64):
            assert (out[i].numpy() == patched(x[i].numpy(), row[i], column[i], side, 200)).all()
    out = shown(Cutout(3, (20, 30), size=60, fill=(1, 2, 3)), x, 4)
    assert (out == torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]).all()


@pytest.mark.parametrize("kind", [FixMatchRandAugment, USBRandAugment, Cutout])
def test_other_channels_are_refused(kind: Any) -> None:
    with pytest.raises(DataError, match="needs grey or RGB images, but these have 4 channels"):
        kind(4, 32)


@pytest.mark.parametrize("kind", [FixMatchRandAugment, USBRandAugment])
def test_operations_left_out(kind: Any) -> None:
    drawn = kind(3, 32, without=("solarize", "rotate")).draw(default_rng(0), 3000)
    left = {_pil_ops.NAMES.index(name) for name in but("solarize", "rotate")}
    assert set(drawn["op"].flatten()) == left
    with pytest.raises(
        DataError, match='without has the unknown operation "solarise"; its operations are autocontrast, '
    ):
        kind(3, 32, without=("rotate", "solarise"))
    with pytest.raises(DataError, match="without excludes all operations"):
        kind(3, 32, without=ALL)


def test_sizes_and_colours() -> None:
    assert _geometry.pixels(16, 96, 96) == 16
    assert _geometry.pixels(0.5, 96, 33) == 16
    assert _geometry.colour((255, 0, 0), 1, "") == (76,)
    assert _geometry.colour(9, 3, "") == (9, 9, 9)
    assert _geometry.sides(8) == (8, 8)
    assert _geometry.sides((8, 9)) == (8, 9)


# In a recipe ----------------------------------------------------------------------------------------------------------

METHOD = '''
from torch import nn

from mmctl.plugin import LossTerm, StepOutput, method


@method("strongly")
class Strongly(nn.Module):
    """Labelled images, weakly and strongly augmented."""

    views = {"x": ("weak", "strong")}
    slots = {"labeled": LossTerm("soft_cross_entropy")}
    default_labeler = None

    def __init__(self, model, losses):
        super().__init__()
        self.model, self.losses = model, losses

    def step(self, batch):
        return StepOutput({"labeled": self.losses.labeled(self.model(batch.x[1], bn="update"), batch.y)})
'''


@pytest.fixture
def strongly() -> None:
    written("strongly")
    (project.plugins_dir() / "strongly.py").write_text(METHOD)


@pytest.mark.usefixtures("strongly")
@pytest.mark.parametrize("name", ["usb_ra", "fixmatch_ra", "cutout"])
def test_after_weak(name: str) -> None:
    run = training("strongly", f"augment.strong.name={name}", "augment.strong.after=weak")
    plan, policies = run.plan(3), run.loader.augments
    x = run.loader.pixels[run.loader.rows["x"][plan.index_x]]
    for policy in ("weak", "strong"):
        told = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in plan.view_draws["x1"][policy].items()}
        x = policies[policy].apply(x, **told)
    shown = run.loader.batch(run.transfer(plan)).x
    assert torch.equal(shown[1], run.loader.normalize(x))
    assert not torch.equal(shown[0], shown[1])
    device_step(run, run.transfer(plan))
    again = run.plan(3).view_draws["x1"]["strong"]  # a step's draws are a function of the seed and the step
    assert all((again[k] == v).all() for k, v in plan.view_draws["x1"]["strong"].items())
    other = run.plan(4).view_draws["x1"]["strong"]
    assert any((other[k] != v).any() for k, v in plan.view_draws["x1"]["strong"].items())


WRONG = {
    'augment.strong.without=["solarise"]': 'fixmatch_ra: without has the unknown operation "solarise"',
    "augment.strong.cutout=1.5": "augment.strong.cutout",
    "augment.strong.fill=[1, 2]": "augment.strong.fill",
    "augment.strong.magnitude=1": "must be at least 2",
}


@pytest.mark.usefixtures("strongly")
@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_recipe_may_not_say(wrong: str, mm: Any, tmp_path: Path) -> None:
    words = ("augment.strong.name=fixmatch_ra", "augment.strong.after=weak", wrong)
    done = mm("run", "tiny.toml", *(w for word in words for w in ("--set", word)))
    assert done.code == 2
    assert WRONG[wrong] in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs").exists()
