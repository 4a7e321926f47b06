"""mmctl as users run it, for the benchmarks: a recipe, the objects built from it, and a step of the train loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import REPO, tell

from mmctl.data.draws import rekey_global_generators
from mmctl.data.loader import prefetch
from mmctl.data.split import make_split
from mmctl.plugin import Images, Split
from mmctl.recipe.recipe import load
from mmctl.recipe.settings import Split as SplitTable
from mmctl.registry.index import Index
from mmctl.runs.build import Data, build_training
from mmctl.runs.hardware import DTYPES
from mmctl.training.cuda_graph import StepRunner
from mmctl.training.loop import device_step
from mmctl.training.state import Training

CLASSES = tuple("0123456789")
TRAIN, TEST, LABELS = 50_000, 10_000, 250  # CIFAR-10's sizes and the usual number of labels
STEPS = 1_048_576


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n random images of CIFAR-10's size, 32 x 32 x 3 bytes (smooth patches with noise), and their classes."""
    rng = np.random.Generator(np.random.Philox(seed))
    pixels_NHWC = np.empty((n, 32, 32, 3), np.uint8)
    for start in range(0, n, 5000):  # in parts, so that little extra memory is used
        part = pixels_NHWC[start : start + 5000]
        coarse = rng.integers(0, 192, (len(part), 8, 8, 3), dtype=np.uint8)
        part[:] = coarse.repeat(4, 1).repeat(4, 2)
        part += rng.integers(0, 64, part.shape, dtype=np.uint8)
    return pixels_NHWC, np.arange(n) % len(CLASSES)


def images(pixels_NHWC: np.ndarray, targets: np.ndarray, name: str) -> Images:
    """The same images as mmctl's Images."""
    pixels = torch.from_numpy(np.ascontiguousarray(pixels_NHWC.transpose(0, 3, 1, 2)))
    return Images(pixels, targets, CLASSES, range(len(targets)), f"benchmark-{name}-{len(targets)}")


STRONG = ("augment.strong.name=usb_ra", "augment.strong.after=weak")
"""FixMatch's strong augmentation: RandAugment and a grey square after the weak augmentation."""


def fixmatch() -> bool:
    """Whether this mmctl has FixMatch and its strong augmentation; prints a message if not."""
    index = Index(sources="off")
    if "fixmatch" in index.names("method") and "usb_ra" in index.names("augment"):
        return True
    tell("FixMatch is omitted: this mmctl has no method fixmatch or no augmentation usb_ra")
    return False


def shipped(name: str) -> Path:
    """The path of a method's recipe."""
    return REPO / "recipes" / "methods" / f"{name}.toml"


def split(train: Images) -> Split:
    """The label split of all runs of the benchmarks."""
    return make_split(train, SplitTable(labels=LABELS), 0)


def training(
    parts: dict[str, Images], recipe: Path, precision: str, device: torch.device, batch: int, *sets: str
) -> Training:
    """Build a run: a method's recipe on WRN-28-2, 32 px, flip and crop, equal labelled and unlabelled batches."""
    words = [
        "dataset.name=digits",  # only the name is used: the images are given below
        f"split.labels={LABELS}",
        "backbone.name=wrn_28_2",
        "augment.weak.name=flip_crop",
        f"train.batch={batch}",
        f"train.unlabeled_batch={batch}",
        f"train.steps={STEPS}",
        *sets,
    ]
    made = load(recipe, sets=words, index=Index(sources="off"))
    data = Data(parts, make_split(parts["train"], made.settings.split, made.seed), "benchmark")
    return build_training(made, data, device, DTYPES[precision])


def stepper(run: Training) -> Callable[[], None]:
    """A function that runs one step of the train loop: plan, centroids, step; no evaluation, no checkpoint."""
    plans = prefetch(run.plan, 0, STEPS, 2 if run.device.type == "cuda" else 0)
    advance = StepRunner(run, device_step)

    def step() -> None:
        plan = next(plans)
        rekey_global_generators(run.seed, run.step)
        run.refit()
        advance(plan)
        run.step += 1

    return step
