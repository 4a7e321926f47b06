"""Augmentation: images per CPU second, from uint8 in memory to a batch of normalised float32.

mmctl is timed with its loader, including row order and random draws; the others without a loader, in their favour.
Each image has its own random numbers. Last line: one JSON object:
weak_numpy, weak_pil and strong_pil = our speed over that of MixMatch-pytorch's numpy transforms, of torchvision on PIL
images, and of USB's RandAugment on PIL images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from statistics import median

import numpy as np
import product
import reference
import torch
from common import arguments, cpu_timed, finish, machine, ratio, rounds, spread, table, tell
from PIL import Image
from torch import Tensor

BATCH, PICTURES = 192, 4096
ROUNDS, QUICK = 15, 3
TURN = 0.15
"""About this many CPU seconds per variant and round: a fast variant makes more batches."""


def ours(parts: dict[str, product.Images], strong: bool) -> Callable[[], object]:
    """Makes a batch with mmctl's loader: FixMatch's strong view of unlabelled images, or the weak view."""
    recipe, sets = ("fixmatch", product.STRONG) if strong else ("supervised", ())
    run = product.training(parts, product.shipped(recipe), "fp32", torch.device("cpu"), BATCH, *sets)
    loader = run.loader
    branch, view = ("u", "strong") if strong else ("x", "weak")
    loader.views = {"x": (), "u": (), branch: (view,)}
    loader.sizes = {"x": 0, "u": 0, branch: BATCH}
    steps = iter(range(10**9))
    return lambda: loader.batch(run.transfer(loader.plan(next(steps))))


def one_by_one(make: Callable[[int], Tensor], rng: np.random.Generator) -> Callable[[], Tensor]:
    """Makes a batch whose images are augmented one at a time."""
    return lambda: torch.stack([make(int(row)) for row in rng.integers(0, PICTURES, BATCH)])


def peers(pixels: np.ndarray) -> dict[str, Callable[[], object]]:
    """The transforms of other programs, if they are installed."""
    from torchvision.transforms import v2

    rng = np.random.default_rng(0)
    floats = reference.normalised(pixels)
    weak, tensor, strong = reference.pil_weak(), reference.pil_tensor(), reference.PilRandAugment()
    tensors = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    def second(*middle: object) -> Callable[[Tensor], Tensor]:
        crop = v2.RandomCrop(32, padding=4, padding_mode="reflect")
        last = v2.ToDtype(torch.float32, scale=True), v2.Normalize(*reference.IMAGENET)
        made: Callable[[Tensor], Tensor] = v2.Compose([crop, v2.RandomHorizontalFlip(), *middle, *last])
        return made

    v2_weak, v2_strong = second(), second(v2.RandAugment(3), v2.RandomErasing(p=1.0))
    found: dict[str, Callable[[int], Tensor]] = {
        "weak, MixMatch-pytorch numpy": lambda row: reference.numpy_weak(floats[row]),
        "weak, torchvision on PIL": lambda row: tensor(weak(Image.fromarray(pixels[row]))),
        "weak, torchvision v2 on tensors": lambda row: v2_weak(tensors[row]),
        "strong, USB on PIL": lambda row: tensor(strong(weak(Image.fromarray(pixels[row])))),
        "strong, torchvision v2 on tensors": lambda row: v2_strong(tensors[row]),
    }
    made: dict[str, Callable[[], object]] = {name: one_by_one(make, rng) for name, make in found.items()}
    if find_spec("kornia"):
        import kornia.augmentation as K

        crop = K.RandomCrop((32, 32), padding=4, padding_mode="reflect", cropping_mode="slice")
        mean, std = map(torch.tensor, reference.IMAGENET)
        chain = K.AugmentationSequential(crop, K.RandomHorizontalFlip(), K.Normalize(mean, std))
        made["weak, kornia"] = lambda: chain(tensors[rng.integers(0, PICTURES, BATCH)].float() / 255)
    else:
        tell("kornia is not installed: its row is left out")
    return made


def turns(batch: Callable[[], object]) -> int:
    """How many batches take TURN seconds, measured on the second batch."""
    batch()
    return max(1, round(TURN / cpu_timed(batch)))


def per_batch(batch: Callable[[], object], count: int) -> float:
    """CPU seconds per batch, over `count` batches."""

    def all_of_them() -> None:
        for _ in range(count):
            batch()

    return cpu_timed(all_of_them) / count


def main() -> None:
    """Time all variants in turn and print a table."""
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    pixels, targets = product.pictures(PICTURES, 1)
    parts = {
        "train": product.images(pixels, targets, "train"),
        "test": product.images(*product.pictures(500, 2), "test"),
    }
    batches = {"weak, ours": ours(parts, strong=False)}
    if product.fixmatch():
        batches["strong, ours"] = ours(parts, strong=True)
    batches |= peers(pixels)
    variants = {name: partial(per_batch, batch, turns(batch)) for name, batch in batches.items()}
    times = rounds(variants, args.rounds or (QUICK if args.quick else ROUNDS))
    print(f"{machine()}; {len(times['weak, ours'])} rounds, batches of {BATCH}")
    rows = []
    for name, seconds in times.items():
        gain = ratio(times, name, f"{name.split(',')[0]}, ours")
        speed = f"{BATCH / median(seconds):,.0f}"
        rows.append((name, speed, spread(seconds), "" if gain is None else f"{gain:.2f}"))
    table("Augmentation, medians", ("policy", "images per CPU s", "+- %", "ours is x faster"), rows)
    finish({
        "weak_numpy": ratio(times, "weak, MixMatch-pytorch numpy", "weak, ours"),
        "weak_pil": ratio(times, "weak, torchvision on PIL", "weak, ours"),
        "strong_pil": ratio(times, "strong, USB on PIL", "strong, ours"),
    })  # fmt: skip


if __name__ == "__main__":
    main()
