"""Ours as users run it: a recipe, assembled, and the step of the train loop; on images made here."""

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
    """n images like CIFAR-10's in all that costs time: 32 x 32 x 3 bytes, smooth patches under noise; and classes."""
    rng = np.random.Generator(np.random.Philox(seed))
    pixels_NHWC = np.empty((n, 32, 32, 3), np.uint8)
    for start in range(0, n, 5000):  # in parts, so that making them takes no memory that would count
        part = pixels_NHWC[start : start + 5000]
        coarse = rng.integers(0, 192, (len(part), 8, 8, 3), dtype=np.uint8)
        part[:] = coarse.repeat(4, 1).repeat(4, 2)
        part += rng.integers(0, 64, part.shape, dtype=np.uint8)
    return pixels_NHWC, np.arange(n) % len(CLASSES)


def images(pixels_NHWC: np.ndarray, targets: np.ndarray, name: str) -> Images:
    """The same as a data set of mmctl holds them."""
    pixels = torch.from_numpy(np.ascontiguousarray(pixels_NHWC.transpose(0, 3, 1, 2)))
    return Images(pixels, targets, CLASSES, range(len(targets)), f"benchmark-{name}-{len(targets)}")


STRONG = ("augment.strong.name=usb_ra", "augment.strong.after=weak")
"""FixMatch's strong view: RandAugment and a grey square on top of the weak one."""


def fixmatch() -> bool:
    """Whether this mmctl has FixMatch and its strong augmentation; says so if not."""
    index = Index(sources="off")
    if "fixmatch" in index.names("method") and "usb_ra" in index.names("augment"):
        return True
    tell("FixMatch is left out: this mmctl has no method fixmatch or no augmentation usb_ra")
    return False


def shipped(name: str) -> Path:
    """A recipe of a method, as shipped."""
    return REPO / "recipes" / "methods" / f"{name}.toml"


def split(train: Images) -> Split:
    """The labels that every run here has, ours and theirs."""
    return make_split(train, SplitTable(labels=LABELS), 0)


def training(
    parts: dict[str, Images], recipe: Path, precision: str, device: torch.device, batch: int, *sets: str
) -> Training:
    """The objects of a run: a method's recipe on WRN-28-2, 32 px, flip and crop, a batch of each kind."""
    words = [
        "dataset.name=digits",  # only its name is needed: the images are given
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
    """One turn of the train loop a call: plan, centroids, step; no evaluation, no checkpoint."""
    plans = prefetch(run.plan, 0, STEPS, 2 if run.device.type == "cuda" else 0)
    advance = StepRunner(run, device_step)

    def step() -> None:
        plan = next(plans)
        rekey_global_generators(run.seed, run.step)
        run.refit()
        advance(plan)
        run.step += 1

    return step
