"""Builds the objects of a run from a recipe: data set, split, network, losses, labeler, method, loader.

Each component gets the already built objects that its signature names before the `*`. N images, K classes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import NoneType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmctl import project
from mmctl.data.draws import seed_initialization
from mmctl.data.images import Normalization, Pictures, check_images, one_hot
from mmctl.data.loader import Loader
from mmctl.data.split import make_split
from mmctl.errors import DataError, UserError
from mmctl.plugin import Images, Split
from mmctl.recipe.recipe import Recipe
from mmctl.runs import promises
from mmctl.training.centroids import Centroids
from mmctl.training.model import Average, Model
from mmctl.training.state import Training

BN_IMAGES = 4096  # at most so many images recompute batch-norm statistics; the same number as for centroids


@dataclass(frozen=True)
class Data:
    """The images of a run by split, and the choice of labelled and unlabelled training images."""

    images: dict[str, Images]
    split: Split
    digest: str  # SHA-256 over the fingerprints of all splits


Shared = dict[str, dict[str, Images]]
"""Data sets that were read already, by their settings as JSON."""


def read_data(recipe: Recipe, split: Split | None = None, shared: Shared | None = None) -> Data:
    """Read the data set, unless `shared` has it, and make the split by the recipe's rule unless one is given.

    Raises DataError if the data set has no training or no evaluation images, and UserError for a wrong split.val.
    """
    root = project.data_root(recipe.dataset_root, recipe.dataset_name)
    shared = {} if shared is None else shared
    key = json.dumps([recipe.data["dataset"], str(root)], sort_keys=True)
    if key not in shared:
        shared[key] = recipe.build("dataset", known={"root": root})
    return data_of(recipe, shared[key], split)


def data_of(recipe: Recipe, images: dict[str, Images], split: Split | None = None) -> Data:
    """The images of a data set, checked, with the split of the recipe; raises errors as `read_data` does."""
    check_images(images, recipe.dataset_name)
    if not (recipe.settings.split.val or recipe.settings.split.rule == "file" or {"val", "test"} & set(images)):
        raise DataError(
            f'dataset "{recipe.dataset_name}" has only the split train; a run needs test or val too. Set split.val to '
            "hold out training images, for example split.val = 0.2."
        )
    if "val" in images and recipe.settings.split.val:
        raise UserError(
            f"split.val = {recipe.settings.split.val} takes validation images from the training split, but "
            f"{recipe.dataset_name} has its own validation split: set split.val = 0."
        )
    split = split or make_split(images["train"], recipe.settings.split, recipe.seed)
    text = "\n".join(f"{name} {part.fingerprint}" for name, part in sorted(images.items()))
    return Data(images, split, hashlib.sha256(text.encode()).hexdigest())


def build_training(
    recipe: Recipe, data: Data, device: torch.device, precision: torch.dtype | None, *, check: bool = False
) -> Training:
    """Build every object of the run. Initial weights are the same on every device: they are drawn on the CPU.

    check: every result of a component is held against its interface; PluginError says which promise is broken.
    """
    seed_initialization(recipe.seed)
    images, split = data.images["train"], data.split
    known = supplied_facts(recipe, images, split)

    def make(kind: str, slot: str | None = None) -> Any:
        part = recipe.build(kind, slot, known)
        if part is None or not check:
            return part
        return promises.watched(recipe.who(kind, slot), kind, part, len(images.classes))

    known["augments"] = augments = {}
    for name in recipe.policies:
        augments[name] = make("augment", name)
    backbone = make("backbone")
    norm = Normalization.of(images, backbone)
    model = Model(backbone, len(images.classes), precision).to(device).to(memory_format=torch.channels_last)
    ema = None if recipe.settings.average.kind == "none" else Average(model, recipe.settings.average.buffers)
    if recipe.settings.train.compile:
        for net in filter(None, (model, ema)):
            compile_network(net)
    known["model"], known["ema"], known["embed_dim"] = model, ema, model.embed_dim
    centroids = Centroids(len(images.classes), model.embed_dim, recipe.settings.centroids, len(split.labeled)).to(
        device
    )
    known["centroids"] = centroids
    known["prior_K"] = known["prior_K"].to(device)
    known["std_C"] = torch.tensor(norm.std, device=device)
    losses = {slot: _to_device(make("loss", slot), device) for slot, term in recipe.slots.items() if term.loss}
    known["losses"] = SimpleNamespace(**losses)
    labeler = known["labeler"] = _to_device(make("labeler"), device)
    method = _to_device(make("method"), device)
    recipe.check_views(method.views)
    parts: dict[str, Any] = {"model": model, "ema": ema, "centroids": centroids, "labeler": labeler}
    parts |= {f"loss.{slot}": part for slot, part in losses.items()}
    parts |= {f"augment.{name}": _to_device(part, device) for name, part in augments.items()}
    parts["method"] = method
    _check_sizes(recipe, split, method)
    loader = Loader(
        images, split, method.views, augments, recipe.after,
        norm=norm, batch=recipe.settings.train.batch, unlabeled_batch=recipe.settings.train.unlabeled_batch,
        sampling=recipe.settings.train.sampling, seed=recipe.seed, device=device, draw=getattr(method, "draw", None),
    )  # fmt: skip
    labeled = Pictures(images, norm, device, batch=recipe.settings.eval.batch, rows=split.labeled)
    return Training(
        {name: part for name, part in parts.items() if isinstance(part, nn.Module)},
        loader, recipe.settings, recipe.slots, recipe.seed, device, labeled,
        evaluation_splits(recipe, data, norm, device), bn_pictures(recipe, data, norm, device),
        other_components={name: part for name, part in parts.items() if not isinstance(part, (nn.Module, NoneType))},
    )  # fmt: skip


def compile_network(net: Model) -> None:
    """Compile the backbone with torch.compile, in place so that the names in checkpoints stay the same.

    Each batch-norm mode, batch size and gradient mode is compiled separately. These are more than torch's limit of 8,
    beyond which it would run uncompiled.
    """
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    net.backbone.compile(dynamic=False)


def bn_pictures(recipe: Recipe, data: Data, norm: Normalization, device: torch.device) -> Pictures | None:
    """Training images without augmentation for average.buffers = "recompute"; None for every other value.

    Batches have the training size: eval.batch must not change any result.
    """
    if recipe.settings.average.kind == "none" or recipe.settings.average.buffers != "recompute":
        return None
    rows, batch = np.union1d(data.split.labeled, data.split.unlabeled), recipe.settings.train.batch
    return (
        Pictures(data.images["train"], norm, device, batch=batch, rows=rows, unlabeled=True)
        .subset(BN_IMAGES)
        .interleaved()
    )


def part_of(data: Data, split: str) -> tuple[Images | None, NDArray[np.int64] | None]:
    """The images that a split is among, None if the data set lacks it, and their rows, None for all of them.

    val is the data set's own, or held out from train by split.val.
    """
    if split == "val" and len(data.split.val):
        return data.images["train"], data.split.val
    return data.images.get(split), None


def evaluation_splits(recipe: Recipe, data: Data, norm: Normalization, device: torch.device) -> dict[str, Pictures]:
    """The evaluation splits that the data set has.

    Raises DataError for a split without labelled images, and UserError if the data set has none of the splits.
    """
    splits: dict[str, Pictures] = {}
    for name in recipe.settings.eval.splits:
        part, rows = part_of(data, name)
        if part is not None:
            splits[name] = Pictures(part, norm, device, batch=recipe.settings.eval.batch, rows=rows)
            if not len(splits[name]):
                raise DataError(f'split "{name}" has no labelled images: remove it from eval.splits.')
    if not splits:
        wanted, have = recipe.settings.eval.splits, sorted(data.images)
        raise UserError(f"eval.splits = {wanted}: the data set has none of these splits; it has {have}.")
    return splits


def supplied_facts(recipe: Recipe, images: Images, split: Split) -> dict[str, Any]:
    """The supplied arguments that are known before any component is built; prior_K: class shares of the labels."""
    channels, height, width = (int(n) for n in images.pixels.shape[1:])
    target_NK = one_hot(images, split.labeled)
    return {
        "in_channels": channels,
        "image_size": height if height == width else (height, width),
        "num_classes": len(images.classes),
        "num_labeled": len(split.labeled),
        "num_unlabeled": len(split.unlabeled),
        "prior_K": torch.from_numpy((target_NK.sum(0) / max(1.0, float(target_NK.sum()))).astype(np.float32)),
        "steps": recipe.settings.train.steps,
    }


def _to_device(part: Any, device: torch.device) -> Any:
    return part.to(device) if isinstance(part, nn.Module) else part


def _check_sizes(recipe: Recipe, split: Split, method: Any) -> None:
    if not any(slot.weight for slot in recipe.slots.values()):
        raise UserError(
            "every loss term has weight 0, so nothing would be trained: set a weight above 0 in one [loss.*] table."
        )
    if method.views.get("u") and not len(split.unlabeled):
        raise DataError(
            f"method {recipe.method_name} needs unlabelled images, and the split has none: "
            'set split.unlabeled = "all" (labelled images are then used as unlabelled too) or lower split.labels.'
        )
    if method.views.get("u") and len(split.unlabeled) < recipe.settings.train.unlabeled_batch:
        raise DataError(
            f"train.unlabeled_batch = {recipe.settings.train.unlabeled_batch}, but only {len(split.unlabeled)} "
            "images are unlabelled: lower train.unlabeled_batch, or add images."
        )


def try_one_step(recipe: Recipe, data: Data) -> None:
    """Build the run and train one step on a few images on the CPU, to find errors before a run folder exists.

    Raises PluginError if a component gives something else than its interface says (promises.py), the errors of
    `build_training`, and whatever a component raises.
    """
    train = recipe.settings.train
    batch = min(4, train.batch, train.unlabeled_batch)
    # The two batches stay unequal if the recipe's are: a method that needs equal ones must fail here too.
    unlabeled_batch = batch + (train.batch != train.unlabeled_batch)
    # Not compiled: it would take longer than the step, and needs a compiler for the CPU even where there is a GPU.
    sets = [f"train.batch={batch}", f"train.unlabeled_batch={unlabeled_batch}", "train.compile=false"]
    run = build_training(recipe.with_sets(sets), data, torch.device("cpu"), None, check=True)
    _check_sizes(recipe, data.split, run.method)
    run.refit()
    output = run.method.step(run.loader.batch(run.staged(0)))
    promises.check_step(recipe.who("method"), output, recipe.slots)
