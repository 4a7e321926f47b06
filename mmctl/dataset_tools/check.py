"""What is in a data set, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mmctl.data.images import class_of
from mmctl.dataset_tools.counts import evenly_spread, uneven
from mmctl.dataset_tools.duplicates import Place, look_at_pixels
from mmctl.dataset_tools.flips import unsafe_flip
from mmctl.image_files.files import ImageFile
from mmctl.image_files.found import Found
from mmctl.image_files.pixels import BadImage, facts
from mmctl.image_files.words import images as images_said
from mmctl.plugin import Images

Level = Literal["error", "warning", "note"]
ALLOW = ("damaged", "leakage", "conflicts")
"""Errors that a user may allow."""
NAMES = 3
"""Images that a finding names; --json has all."""
LOOKED = 5000
"""So many files, evenly spread, are looked at for formats and sizes."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or worth knowing, and what to do about it."""

    level: Level
    kind: str
    text: str
    remedy: str = ""
    examples: tuple[str, ...] = ()


@dataclass
class Checked:
    """What `mmctl data check` found."""

    name: str
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]  # part -> images, labelled, unlabelled
    per_class: dict[str, list[int]]  # part -> labelled images of each class
    shape: tuple[int, ...]  # channels, height, width after decoding
    layout: str = ""  # of own images
    files: dict[str, object] = field(default_factory=dict)  # formats, modes, sizes, of own images
    seconds: float = 0.0  # that reading took
    findings: list[Finding] = field(default_factory=list)

    def errors(self) -> list[Finding]:
        """The findings that must be mended or allowed."""
        return [one for one in self.findings if one.level == "error"]


def check_data(
    name: str, images: Mapping[str, Images], *, allow: Collection[str] = (), flips: bool | None = None
) -> Checked:
    """Check a data set that was read. allow: kinds of errors that are warnings; flips: whether the recipe mirrors."""
    first = images["train"]
    made = Checked(
        name, first.classes,
        {part: _count(one) for part, one in images.items()},
        {part: np.bincount(known, minlength=len(one.classes)).tolist()
         for part, one in images.items() for known in [_known(one)]},
        tuple(int(n) for n in first.pixels.shape[1:]),
    )  # fmt: skip
    made.findings += _damaged(images, allow)
    seen = look_at_pixels(images)
    made.findings += _equal(seen.equal, "val" in images, first.classes, allow)
    made.findings += _balance(first.classes, made.per_class)
    for part, flat in seen.constant.items():
        if flat:
            text = f"{images_said(len(flat))} of {part} {'has' if len(flat) == 1 else 'have'} one colour only"
            made.findings.append(Finding("warning", "constant", text, "Look at them, and remove them.", tuple(flat)))
    if seen.grey:
        text = "all images are grey"
        remedy = "Set dataset.channels = 1: it needs a third of the memory. A pretrained network needs 3."
        made.findings.append(Finding("note", "grey", text, remedy))
    if flips is not False and (why := unsafe_flip(first.classes)):
        level: Level = "warning" if flips else "note"
        text = f"horizontal flips look unsafe: {why}"
        made.findings.append(Finding(level, "flips", text, "Set flip = 0.0 in [augment.weak], or name the classes."))
    notes = dict.fromkeys(line for part in images.values() for line in part.notes)
    made.findings += [Finding("note", "images", line) for line in notes]
    _sort(made)
    return made


def _sort(made: Checked) -> None:
    order = {"error": 0, "warning": 1, "note": 2}
    made.findings.sort(key=lambda one: order[one.level])


def add_files(made: Checked, found: Found, resize: str = "crop") -> None:
    """What the files of own images say: layout, formats, sizes, groups that are torn apart.

    resize: as in the recipe; "fit" enlarges images that are smaller in both directions, the others in one.
    """
    made.layout = found.kind
    looked = [found.files[row] for row in evenly_spread(len(found.files), LOOKED)]
    formats, modes, sizes = Counter[str](), Counter[str](), []
    for file in looked:
        try:
            one = facts(file.source.read())
        except (BadImage, OSError):
            continue  # named as damaged
        formats[one.format] += 1
        modes[one.mode] += 1
        sizes.append((one.width, one.height))
    if sizes:
        widths, heights = np.array(sizes).T
        made.files = {
            "looked_at": len(looked), "formats": dict(formats.most_common()), "modes": dict(modes.most_common()),
            "smallest": [int(widths.min()), int(heights.min())], "largest": [int(widths.max()), int(heights.max())],
            "median": [int(np.median(widths)), int(np.median(heights))],
        }  # fmt: skip
        height, width = made.shape[1:]
        both = np.logical_and if resize == "fit" else np.logical_or
        if (small := int(both(widths < width, heights < height).sum())) * 2 > len(sizes):
            text = f"{small} of {len(sizes)} images are smaller than {width} x {height} px and are enlarged"
            made.findings.append(Finding("note", "enlarged", text, "Lower dataset.size: training is faster."))
    made.findings += _groups(found.files)
    _sort(made)


def _known(part: Images) -> np.ndarray:
    label_N = class_of(part)
    return label_N[label_N >= 0]


def _count(part: Images) -> dict[str, int]:
    labelled = len(_known(part))
    return {"images": len(part.ids), "labelled": labelled, "unlabelled": len(part.ids) - labelled}


def _damaged(images: Mapping[str, Images], allow: Collection[str]) -> list[Finding]:
    lines = tuple(f"{name}: {why}" for part in images.values() for name, why in part.skipped.items())
    if not lines:
        return []
    remedy = 'Restore or remove them, or set dataset.on_bad = "skip".'
    text = f"{images_said(len(lines))} cannot be decoded"
    return [Finding(_level("damaged", allow), "damaged", text, remedy, lines)]


def _equal(
    groups: Iterable[Sequence[Place]], has_val: bool, classes: Sequence[str], allow: Collection[str]
) -> list[Finding]:
    leaks: dict[tuple[str, str], list[str]] = {}
    twice: dict[str, list[str]] = {}
    conflicts: list[str] = []
    for group in groups:
        parts = list(dict.fromkeys(_part_of(place) for place in group))
        for held_out in (part for part in parts if part in ("val", "test")):
            for part in parts:
                if part != held_out and (part, held_out) != ("test", "val"):
                    leaks.setdefault((part, held_out), []).append(_shown(group))
        for part, n in Counter(_part_of(place) for place in group).items():
            if n > 1:
                twice.setdefault(part, []).append(_shown([place for place in group if _part_of(place) == part]))
        labels = sorted({place.label for place in group} - {-1})
        if len(labels) > 1:
            conflicts.append(f"{_shown(group)} ({' or '.join(classes[k] for k in labels)})")
    made = []
    for (part, held_out), found in leaks.items():
        words = "unlabelled training" if part == "unlabeled" else "training" if part == "train" else part
        verb = "is" if len(found) == 1 else "are"
        text = f"leakage: {images_said(len(found))} of {held_out} {verb} among the {words} images too"
        remedy = f"Remove them from one side: figures on {held_out} would be too good."
        made.append(Finding(_level("leakage", allow), "leakage", text, remedy, tuple(found)))
    if conflicts:
        several = (
            "1 group of equal images has" if len(conflicts) == 1 else f"{len(conflicts)} groups of equal images have"
        )
        text = f"{several} different labels"
        remedy = "Correct the labels, or remove these images."
        made.append(Finding(_level("conflicts", allow), "conflicts", text, remedy, tuple(conflicts)))
    for part, found in twice.items():
        text = f"{images_said(len(found))} of {part} {'is' if len(found) == 1 else 'are'} there more than once"
        remedy = "Keep one of each, unless they are meant to count more."
        if part == "train" and not has_val:
            remedy = "Keep one of each: images that split.val holds out would have copies in training."
        made.append(Finding("warning", "duplicates", text, remedy, tuple(found)))
    return made


def _balance(classes: Sequence[str], per_class: Mapping[str, Sequence[int]]) -> list[Finding]:
    made = []
    counts = per_class["train"]
    if missing := [name for name, n in zip(classes, counts, strict=True) if not n]:
        text = f"{len(missing)} of {len(classes)} classes have no labelled training image: {_some(missing)}"
        made.append(Finding("warning", "missing", text, "Label some, or leave these classes out."))
    if uneven(counts):
        most, fewest = max(counts), min(n for n in counts if n)
        large, small = classes[counts.index(most)], classes[counts.index(fewest)]
        text = f"classes are uneven: {most} labelled images of {large}, {fewest} of {small}"
        remedy = 'Set train.sampling = "balanced", and compare balanced accuracy.'
        made.append(Finding("warning", "imbalance", text, remedy))
    for part, held in per_class.items():
        if (
            part != "train"
            and (missing := [name for name, n in zip(classes, held, strict=True) if not n])
            and any(held)
        ):
            text = f"{part} has no image of {len(missing)} of {len(classes)} classes: {_some(missing)}"
            made.append(Finding("warning", "missing", text, "Its figures say nothing about these classes."))
    return made


def _groups(files: Iterable[ImageFile]) -> list[Finding]:
    parts: dict[str, set[str]] = {}
    for file in files:
        if file.group:
            parts.setdefault(file.group, set()).add("train" if file.part == "unlabeled" else file.part)
    torn = [group for group, found in parts.items() if len(found) > 1]
    if not torn:
        return []
    text = f"{len(torn)} of {len(parts)} groups have images in more than one part"
    remedy = "Make a split by groups: mmctl data split make."
    return [Finding("warning", "groups", text, remedy, tuple(torn))]


def _level(kind: str, allow: Collection[str]) -> Level:
    return "warning" if kind in allow else "error"


def _part_of(place: Place) -> str:
    return "unlabeled" if place.part == "train" and place.label < 0 else place.part


def _shown(group: Sequence[Place]) -> str:
    return " = ".join(place.id for place in group[:NAMES]) + (" = ..." if len(group) > NAMES else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
