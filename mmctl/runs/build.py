"""A recipe and its data become the objects of a run, each built from what was built before it (the star rule).

K classes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from mmctl import project
from mmctl.data.draws import seed_initialization
from mmctl.data.images import Normalization, Pictures, check_images, one_hot
from mmctl.data.loader import Loader
from mmctl.data.split import make_split
from mmctl.errors import DataError, PluginError, UserError
from mmctl.plugin import Images, Split
from mmctl.recipe.recipe import Recipe
from mmctl.training.centroids import Centroids
from mmctl.training.model import Average, Model
from mmctl.training.state import Training

RENORM = 4096  # pictures, as many as centroids are refitted from


@dataclass(frozen=True)
class Data:
    """The pictures of a run and the split of their labels."""

    images: dict[str, Images]
    split: Split
    digest: str  # of every split's fingerprint


Shared = dict[str, dict[str, Images]]
"""Data sets that have been read, by their settings."""


def read_data(recipe: Recipe, split: Split | None = None, shared: Shared | None = None) -> Data:
    """The data set, read unless it is in `shared`, and the split: the given one, or made by the recipe's rule."""
    root = project.data_root(recipe.dataset_root, recipe.dataset_name)
    name = json.dumps([recipe.data["dataset"], str(root)], sort_keys=True)
    if shared is not None and name in shared:
        images = shared[name]
    else:
        images = recipe.build("dataset", known={"root": root})
        if shared is not None:
            shared[name] = images
    if "train" not in images or not any(s in images for s in ("val", "test")):
        raise DataError(f'dataset "{recipe.dataset_name}" gives {sorted(images)}; a run needs train, and test or val.')
    check_images(images, recipe.dataset_name)
    if "val" in images and recipe.settings.split.val:
        raise UserError(
            f"split.val = {recipe.settings.split.val} takes validation pictures from train, but {recipe.dataset_name} "
            "has a validation split of its own: set split.val = 0."
        )
    split = split or make_split(images["train"], recipe.settings.split, recipe.seed)
    text = "\n".join(f"{name} {part.fingerprint}" for name, part in sorted(images.items()))
    return Data(images, split, hashlib.sha256(text.encode()).hexdigest())


def build_training(recipe: Recipe, data: Data, device: torch.device, precision: torch.dtype | None) -> Training:
    """Every object of the run; the same numbers on every device, since parts are made on the CPU and then moved."""
    seed_initialization(recipe.seed)
    images, split = data.images["train"], data.split
    known = supplied_facts(recipe, images, split)
    make = partial(recipe.build, known=known)
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
    losses = {slot: _on(make("loss", slot), device) for slot, term in recipe.slots.items() if term.loss}
    known["losses"] = SimpleNamespace(**losses)
    labeler = known["labeler"] = _on(make("labeler"), device)
    method = known["method"] = _on(make("method"), device)
    recipe.check_views(method.views)
    parts: dict[str, Any] = {"model": model, "ema": ema, "centroids": centroids, "labeler": labeler}
    parts |= {f"loss.{slot}": part for slot, part in losses.items()}
    parts |= {f"augment.{name}": _on(part, device) for name, part in augments.items()}
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
    )  # fmt: skip


def compile_network(net: Model) -> None:
    """Let inductor fuse the small operations of the network; convolutions stay those of the library.

    In place, so that names in checkpoints stay. Each use of batch norm, size of batch and gradient mode is a program
    of its own: more than torch's limit of 8, beyond which it would fall back to single operations.
    """
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    net.backbone.compile(dynamic=False)


def bn_pictures(recipe: Recipe, data: Data, norm: Normalization, device: torch.device) -> Pictures | None:
    """The training pictures, as they are, that batch-norm statistics are found on anew; None where they are not.

    In batches of the training size and not of eval.batch, which must not matter for any figure.
    """
    if recipe.settings.average.kind == "none" or recipe.settings.average.buffers != "recompute":
        return None
    rows, batch = np.union1d(data.split.labeled, data.split.unlabeled), recipe.settings.train.batch
    return (
        Pictures(data.images["train"], norm, device, batch=batch, rows=rows, unlabeled=True)
        .subset(RENORM)
        .interleaved()
    )


def evaluation_splits(recipe: Recipe, data: Data, norm: Normalization, device: torch.device) -> dict[str, Pictures]:
    """The splits that the recipe evaluates and the data have; val is the official one, or carved from train."""
    found: dict[str, Pictures] = {}
    for name in recipe.settings.eval.splits:
        rows = data.split.val if name == "val" and len(data.split.val) else None
        part = data.images["train"] if rows is not None else data.images.get(name)
        if part is not None:
            found[name] = Pictures(part, norm, device, batch=recipe.settings.eval.batch, rows=rows)
            if not len(found[name]):
                raise DataError(f'split "{name}" has no picture with a label: leave it out of eval.splits.')
    if not found:
        have = sorted(data.images)
        raise UserError(f"eval.splits = {recipe.settings.eval.splits}: the data have none of these; they have {have}.")
    return found


def supplied_facts(recipe: Recipe, images: Images, split: Split) -> dict[str, Any]:
    """What components may ask for before any of them is built."""
    channels, height, width = (int(n) for n in images.pixels.shape[1:])
    target_NK = one_hot(images)[split.labeled]
    return {
        "in_channels": channels,
        "image_size": height if height == width else (height, width),
        "num_classes": len(images.classes),
        "num_labeled": len(split.labeled),
        "num_unlabeled": len(split.unlabeled),
        "prior_K": torch.from_numpy((target_NK.sum(0) / max(1.0, float(target_NK.sum()))).astype(np.float32)),
        "steps": recipe.settings.train.steps,
    }


def _on(part: Any, device: torch.device) -> Any:
    return part.to(device) if isinstance(part, nn.Module) else part


def _check_sizes(recipe: Recipe, split: Split, method: Any) -> None:
    if not any(slot.weight for slot in recipe.slots.values()):
        raise UserError("every loss term has weight 0, so there is nothing to train: give one of [loss.*] a weight.")
    if method.views.get("u") and not len(split.unlabeled):
        raise DataError(
            f"method {recipe.method_name} needs unlabelled pictures and the split leaves none: "
            'set split.unlabeled = "all" (the labelled ones serve without their labels too) or lower split.labels.'
        )
    if method.views.get("u") and len(split.unlabeled) < recipe.settings.train.unlabeled_batch:
        raise DataError(
            f"train.unlabeled_batch = {recipe.settings.train.unlabeled_batch}, but only {len(split.unlabeled)} "
            "pictures are unlabelled: lower it, or get more pictures."
        )


def try_one_step(recipe: Recipe, data: Data) -> None:
    """One step on a handful of pictures: what does not fit together is found before there is a run folder."""
    train = recipe.settings.train
    few = min(4, train.batch, train.unlabeled_batch)
    # One more where the recipe's two batches differ: a method that needs them equal must see that they are not.
    more = few + (train.batch != train.unlabeled_batch)
    small = recipe.with_([f"train.batch={few}", f"train.unlabeled_batch={more}"])
    run = build_training(small, data, torch.device("cpu"), None)
    run.refit()
    terms = run.method.step(run.loader.batch(run.staged(0)))
    if terms.losses.keys() != recipe.slots.keys():
        raise PluginError(
            f"method {recipe.method_name}: step gives the losses {sorted(terms.losses)}, and its slots are "
            f"{sorted(recipe.slots)}."
        )
