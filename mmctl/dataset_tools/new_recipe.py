"""A recipe for a folder of images: chosen by what the folder holds and by what this machine can do.

Written are a fragment with data, network and training, and two recipes that differ in their method alone: one that
uses the unlabelled images, and its supervised baseline.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeAlias

from mmctl import project
from mmctl.dataset_tools.counts import evenly_spread, uneven
from mmctl.dataset_tools.flips import unsafe_flip
from mmctl.errors import UserError
from mmctl.image_files.found import Found

SMALL = 48
"""Images up to this size are used as they are; larger ones are made smaller."""
SIZES = (8, 96)
"""Smallest and largest side of the images in a recipe."""
SOME = 25
"""Labels a class: with fewer, the thresholds of pseudo-labels adapt to the classes; with more, they are fixed."""
STEPS = {"cpu": (300, 4_000), "cuda": (2_000, 200_000)}
"""Fewest and most steps."""

SecondsOfStep: TypeAlias = Callable[[Mapping[str, object], int, int, int, str], float]
"""Backbone, size, channels, batch size and device -> seconds of a training step."""


@dataclass(frozen=True)
class Folder:
    """What a folder holds, of the classes of the training part."""

    root: Path
    kind: str  # the layout
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # labelled training images of each class
    train: int  # training images, with and without a label
    val: int
    test: int
    sizes: tuple[tuple[int, int], ...]  # width and height of some images
    grey: bool
    ms: float  # to decode an image, measured


@dataclass(frozen=True)
class Machine:
    """Where it will be trained."""

    device: str  # cpu or cuda
    words: str


@dataclass(frozen=True)
class Plan:
    """The choices, each with its reason in the recipe."""

    folder: Folder
    machine: Machine
    name: str
    size: int
    channels: int
    method: str
    backbone: dict[str, object]
    flip: float
    why_flip: str
    batch: int
    steps: int
    minutes: float  # expected
    val: int
    balanced: bool
    primary: str


def labels_a_class(counts: Sequence[int]) -> int:
    """The middle of the numbers of labels of the classes that have any."""
    return int(median([n for n in counts if n] or [0]))


def choose_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The side in pixels: that of the images if they are small, else a multiple of 8 up to 96."""
    side = int(median(min(one) for one in sizes))
    if side <= SMALL:
        return max(SIZES[0], side // 4 * 4)
    return min(SIZES[1], side // 8 * 8)


def choose_method(counts: Sequence[int], device: str) -> str:
    """MixMatch for the short runs of a CPU; on a GPU by the number of labels a class."""
    if device == "cpu":
        return "mixmatch"
    return "freematch" if labels_a_class(counts) < SOME else "fixmatch"


def choose_backbone(size: int, device: str) -> dict[str, object]:
    """A wide ResNet that is fast enough; a stride in its first layer makes large images cheaper."""
    if size <= 16:
        return {"name": "small"}
    if device == "cpu":
        return {"name": "wrn_10_1", "stem_stride": 1 if size <= 32 else 2, "bn_momentum": 0.05}
    return {"name": "wrn_28_2", "stem_stride": 1 if size <= SMALL else 2}


def choose_steps(seconds: float, minutes: float, device: str) -> int:
    """As many steps as fit into the time, between the limits of the device, rounded to hundreds."""
    low, high = STEPS[device]
    return int(min(high, max(low, minutes * 60 / max(seconds, 1e-6) // 100 * 100)))


def make_plan(
    folder: Folder, machine: Machine, name: str, minutes: float, seconds_of: SecondsOfStep, mirror: bool
) -> Plan:
    """All choices. mirror: False = never flip. UserError if there are too few labels to hold some out."""
    size = choose_size(folder.sizes)
    channels = 1 if folder.grey else 3
    why = unsafe_flip(folder.classes) or ("" if mirror else "you said that mirrored images are of another class")
    labelled = sum(folder.counts)
    used = [n for n in folder.counts if n]
    has_test = bool(folder.test)
    val = 0
    if not folder.val and not has_test:  # with a test part, labels are dearer
        if labelled < 3 * len(used):
            raise UserError(
                f"{folder.root}: {labelled} labels of {len(used)} classes are too few to train and to judge. "
                "Label 3 images of each class or more, or name test images (a folder test, or a column split)."
            )
        val = min(max(len(used), round(0.2 * labelled)), labelled // 3)
    skewed = uneven(used)
    metric = "balanced_accuracy" if skewed else "accuracy"
    batch = max(8, min(64, (folder.train - val) * 7 // 8) // 8 * 8)  # an eighth may be damaged and left out
    backbone = choose_backbone(size, machine.device)
    seconds = seconds_of(backbone, size, channels, batch, machine.device)
    steps = choose_steps(seconds, minutes, machine.device)
    return Plan(
        folder, machine, name, size, channels, choose_method(folder.counts, machine.device), backbone,
        0.0 if why else 0.5, why, batch, steps, steps * seconds / 60, val, skewed,
        f"{'test' if has_test else 'val'}/{metric}",
    )  # fmt: skip


def fragment(plan: Plan) -> str:
    """The file recipes/base/NAME.toml."""
    f = plan.folder
    labelled, each = sum(f.counts), [n for n in f.counts if n]
    spread = f"{min(each)} of each class" if min(each) == max(each) else f"{min(each)} to {max(each)} of a class"
    widths, heights = zip(*f.sizes, strict=True)
    low, high = f"{min(widths)} x {min(heights)}", f"{max(widths)} x {max(heights)}"
    ranged = f"all images are {low}" if low == high else f"the images have {low} to {high}"
    lines = [
        f"# Fragment: {f.train:,} training images of {len(f.classes)} classes, {labelled:,} with a label ({spread}).",
        f"# Made by `mmctl recipe new --from` for {plan.machine.words}: change what you know better.",
        "[dataset]",
        'name = "pictures"',
        f"root = {toml(project.path_in_recipe(f.root))}",
        _line(f"size = {plan.size}", f"px; {ranged}"),
        _line('resize = "crop"', '"fit" shows the whole image with borders, "stretch" distorts it'),
        _line(f"channels = {plan.channels}", "all images are grey" if plan.channels == 1 else "colour"),
        _line('on_bad = "skip"', "damaged images are left out and listed; \"stop\" names them"),
        "",
        "[split]",
        _line('labels = "all"', f"every label that is there, {labelled:,}; a number uses fewer"),
        _line('rule = "natural"', "classes keep their proportions"),
        _line('unlabeled = "all"', "the labelled images serve a second time, without their labels"),
    ]  # fmt: skip
    if plan.val:
        lines.append(_line(f"val = {plan.val}", "labelled images that are held out, class-proportional, to judge by"))
    lines += ["", "[backbone]"]
    lines += [f"{key} = {toml(value)}" for key, value in plan.backbone.items()]
    if plan.size > SMALL and plan.channels == 3:
        lines += [
            "# Photos are learnt from fewer labels with pretrained weights, which timm downloads once; on a GPU:",
            '# name = "timm"',
            '# model = "resnet18"',
            "# pretrained = true          # and a lower learning rate, such as optimizer.lr = 2e-4",
        ]
    lines += [
        "",
        "[augment.weak]",
        'name = "flip_crop"',
        _line(f"flip = {plan.flip}", plan.why_flip or "0.0 if a mirrored image is of another class"),
        f"pad = {max(1, plan.size // 8)}",
        "",
        "[optimizer]",
        'name = "adamw"',
        "lr = 0.002",
        "weight_decay = 0.02",
        "",
        "[schedule]",
        'name = "cosine"',
        "warmup = 0",
        "final = 0.0",
        "",
        "[average]",
        _line(f"decay = {1 - 15 / plan.steps:.4g}", "1 - 15 / steps"),
        'buffers = "average"',
        "",
        "[train]",
        _line(f"steps = {plan.steps}", f"about {max(1, round(plan.minutes))} minutes a run, measured on this machine"),
        f"batch = {plan.batch}",
        f"unlabeled_batch = {plan.batch}",
        *([_line('sampling = "balanced"', "classes are uneven: each is drawn equally often")] if plan.balanced else []),
        f"save_every = {max(50, plan.steps // 5)}",
        "",
        "[eval]",
        f"every = {max(25, plan.steps // 10)}",
        _line(f"primary = {toml(plan.primary)}", "what runs are ranked by"),
    ]
    return "\n".join(lines) + "\n"


def recipes(plan: Plan) -> dict[str, str]:
    """File below recipes/ -> its text."""
    words = {"mixmatch": "MixMatch", "freematch": "FreeMatch", "fixmatch": "FixMatch"}[plan.method]
    each = labels_a_class(plan.folder.counts)
    where = "a CPU" if plan.machine.device == "cpu" else "a GPU"
    strong = "" if plan.method == "mixmatch" else '\n[augment.strong]\nafter = "weak"\n'
    return {
        f"base/{plan.name}.toml": fragment(plan),
        f"{plan.name}.toml": (
            f"# {words} on base/{plan.name}: a choice for about {each} labels a class on {where}.\n"
            "# Others to try: methods/marginmix, methods/fixmatch, methods/vat ... (`mmctl recipe list`).\n"
            f'extends = ["methods/{plan.method}", "base/{plan.name}"]\nname = {toml(plan.name)}\n{strong}'
        ),
        f"{plan.name}-supervised.toml": (
            f"# Supervised baseline of {plan.name}: the labelled images alone.\n"
            f'extends = ["methods/supervised", "base/{plan.name}"]\nname = {toml(plan.name + "-supervised")}\n'
        ),
    }


def files(name: str) -> tuple[str, ...]:
    """The files below recipes/ that `recipes` writes."""
    return (f"base/{name}.toml", f"{name}.toml", f"{name}-supervised.toml")


def summary(folder: Folder) -> str:
    """What a folder holds, in two lines."""
    widths, heights = zip(*folder.sizes, strict=True)
    parts = "".join(f", {n:,} {part}" for part, n in (("val", folder.val), ("test", folder.test)) if n)
    low, high = min(folder.counts), max(folder.counts)
    return (
        f"{folder.kind}: {folder.train:,} training images{parts}; {min(widths)} x {min(heights)} to {max(widths)} x "
        f"{max(heights)} px, {'grey' if folder.grey else 'colour'}; {folder.ms:.2g} ms to decode one\n"
        f"{len(folder.classes)} classes, {sum(folder.counts):,} labels, {low if low == high else f'{low} to {high}'} "
        "of each class"
    )


def recipe_name(text: str) -> str:
    """A name for a recipe from that of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "pictures"


def look_at(found: Found, root: Path) -> Folder:
    """What a folder holds; looks into 64 of its images. UserError if none of them can be read."""
    import time

    from mmctl.image_files.pixels import BadImage, Decoding, decode, facts

    parts = Counter(file.part for file in found.files)
    labels = Counter(file.label for file in found.files if file.part == "train" and file.label is not None)
    rows = evenly_spread(len(found.files), 64)
    sizes: list[tuple[int, int]] = []
    grey, times = True, []
    for row in rows:
        try:
            data = found.files[row].source.read()
            one = facts(data)
            start = time.perf_counter()
            pixels = decode(data, Decoding((64, 64), "crop", "bicubic", (255, 255, 255), 3, None)).pixels
            times.append(time.perf_counter() - start)
        except (BadImage, OSError):
            continue
        sizes.append((one.width, one.height))
        grey = grey and bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
    if not sizes:
        raise UserError(f"{root}: none of {len(rows)} images could be read. `mmctl data check {root}` says why.")
    return Folder(
        root, found.kind, found.classes, tuple(labels[name] for name in found.classes),
        parts["train"] + parts["unlabeled"], parts["val"], parts["test"], tuple(sizes), grey,
        1000 * median(times),
    )  # fmt: skip


def toml(value: object) -> str:
    """A plain value as TOML: for strings, numbers and booleans JSON is TOML."""
    return json.dumps(value, ensure_ascii=False)


def _line(setting: str, why: str) -> str:
    return f"{setting:<32} # {why}"
