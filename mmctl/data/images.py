"""Images as networks see them: normalised on the device, with targets as distributions.

B batch, C channels, H height, W width, K classes, N images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmctl import ops
from mmctl.data.gather import gather
from mmctl.errors import DataError, EnvironmentFault
from mmctl.filesystem import write_atomic
from mmctl.image_files.packs import cache_folder
from mmctl.plugin import Images


def check_images(images: Mapping[str, Images], name: str) -> None:
    """Raise DataError if a data set breaks its contract: otherwise wrong labels would only lower the accuracy."""
    if not isinstance(images, Mapping) or not isinstance(images.get("train"), Images):
        found = f"{sorted(map(str, images))}" if isinstance(images, Mapping) else f"a {type(images).__name__}"
        raise DataError(
            f'dataset "{name}" returns {found}: it must return a dict with mmctl.plugin.Images for train, and for '
            "test or val."
        )
    first = images["train"]
    for split, part in images.items():
        where = f'dataset "{name}", {split}'
        if not isinstance(part, Images):
            raise DataError(f"{where}: is a {type(part).__name__}; it must be mmctl.plugin.Images.")
        if not isinstance(part.pixels, torch.Tensor | np.ndarray):
            raise DataError(f"{where}: pixels are a {type(part.pixels).__name__}; use a uint8 tensor or numpy array.")
        if not isinstance(part.targets, np.ndarray) or part.targets.dtype.kind not in "iuf":
            what = str(part.targets.dtype) if isinstance(part.targets, np.ndarray) else type(part.targets).__name__
            raise DataError(f"{where}: targets are {what}; use a numpy array of int64 N (-1 = no label) or float32 NK.")
        _check_names(part, where)
        n, classes = len(part.ids), len(part.classes)
        shape, kind = tuple(part.pixels.shape), str(part.pixels.dtype).removeprefix("torch.")
        if len(shape) != 4 or kind != "uint8":
            raise DataError(f"{where}: pixels are {kind} {list(shape)}; they must be uint8, N x C x H x W.")
        if shape[1] > 4 and shape[3] <= 4:
            raise DataError(f"{where}: pixels are {list(shape)}, which looks like N x H x W x C: use N x C x H x W.")
        if part.classes != first.classes:
            raise DataError(f"{where}: its classes {list(part.classes)} differ from train's, {list(first.classes)}.")
        if shape[1:] != tuple(first.pixels.shape[1:]):
            raise DataError(
                f"{where}: its images are {list(shape[1:])}, but train's are {list(first.pixels.shape[1:])}."
            )
        if shape[0] != n or part.targets.shape not in ((n,), (n, classes)):
            raise DataError(
                f"{where}: {n} ids, pixels {list(shape)} and targets {list(part.targets.shape)} do not match: "
                "there must be one of each per image."
            )
        if part.targets.ndim == 1 and n and not -1 <= part.targets.min() <= part.targets.max() < classes:
            low, high = part.targets.min(), part.targets.max()
            raise DataError(f"{where}: labels go from {low} to {high}; they must lie in -1 .. {classes - 1}.")
        if part.targets.ndim == 2 and n:
            sums = part.targets.sum(1)
            wrong = (np.abs(sums - 1) > 1e-3) & (sums != 0)
            if not np.isfinite(part.targets).all() or part.targets.min() < 0 or wrong.any():
                raise DataError(
                    f"{where}: the target of {part.ids[int(wrong.argmax())]} is no distribution: values must be finite "
                    "and not negative, and a row must sum to 1, or to 0 for an image without a label."
                )
        _check_official(part, where)


def _check_official(part: Images, where: str) -> None:
    """Published choices of labelled images are rows that have a label."""
    for number, rows in enumerate(part.official):
        if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iu" or len(np.unique(rows)) < len(rows):
            raise DataError(f"{where}: official choice {number} must be an array of different row numbers.")
        if len(rows) and not 0 <= rows.min() <= rows.max() < (n := len(part.targets)):
            raise DataError(f"{where}: official choice {number} has a row that is not from 0 to {n - 1}.")
        if not one_hot(part, rows).any(1).all():
            raise DataError(f"{where}: official choice {number} has an image without a label.")


def _check_names(part: Images, where: str) -> None:
    """Class names, ids and fingerprint: a split file names images by their ids, and the fingerprint tells a change."""
    if isinstance(part.classes, str) or not part.classes or not all(isinstance(c, str) for c in part.classes):
        raise DataError(f"{where}: classes are {part.classes!r}; they must be a tuple of names.")
    for what, names in (("class name", part.classes), ("id", part.ids)):
        if len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise DataError(f"{where}: the {what} {twice!r} is there twice; each must be unique.")
    if not isinstance(part.fingerprint, str) or not part.fingerprint:
        raise DataError(
            f"{where}: has no fingerprint; use a hash of pixels, labels, ids and class names, so that a change is seen."
        )


def class_of(images: Images) -> np.ndarray:
    """Class of each image, the most probable one where the target is a distribution; -1 = no label."""
    targets = images.targets
    if targets.ndim == 1:
        return targets.astype(np.int64)
    return np.where(targets.any(1), targets.argmax(1), -1).astype(np.int64)


def one_hot(images: Images, rows: np.ndarray | None = None) -> np.ndarray:
    """Targets of some rows as distributions, float32 NK; a row of zeros has no label. None = of all rows."""
    targets = images.targets if rows is None else images.targets[rows]
    if targets.ndim == 2:
        return targets.astype(np.float32)
    out = np.zeros((len(targets), len(images.classes)), np.float32)
    known = targets >= 0
    out[known, targets[known]] = 1
    return out


COUNTED = 2**20
"""Pixels that are counted at once for the normalisation; counting takes eight bytes for each, and more would not fit
into the caches of a processor."""
KEPT = 1000
"""Memory maps whose normalisation is remembered on the disk; a line of 200 bytes each."""


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation (0..1 scale) that images are normalised with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(images: Images, backbone: Any) -> Normalization:
        """The mean and std that the backbone's pretrained weights expect; without them, those of the train pixels."""
        if getattr(backbone, "mean", None) is not None:
            return Normalization(tuple(map(float, backbone.mean)), tuple(map(float, backbone.std)))
        if isinstance(images.pixels, np.memmap):
            return _remembered(images)
        return Normalization.counted(images.pixels)

    @staticmethod
    def counted(pixels: Any) -> Normalization:
        """The mean and std of these pixels, uint8 NCHW: an array, tensor or memory map."""
        n, channels = pixels.shape[:2]
        counts = np.zeros((channels, 256))
        step = max(1, COUNTED // max(1, math.prod(pixels.shape[1:])))
        for start in range(0, n, step):
            chunk = np.asarray(pixels[start : start + step])
            for c in range(channels):
                counts[c] += np.bincount(chunk[:, c].ravel(), minlength=256)
        share = counts / counts.sum(1, keepdims=True)
        mean = share @ np.arange(256)
        std = np.sqrt(np.maximum(share @ np.arange(256) ** 2 - mean**2, 1e-6))
        return Normalization(tuple((mean / 255).tolist()), tuple((std / 255).tolist()))

    def on(self, device: torch.device) -> Normalize:
        """This normalisation as an operation on a device. Make it once: making it copies numbers to the device."""
        scale = [1 / (255 * s) for s in self.std]
        shift = [-m / s for m, s in zip(self.mean, self.std, strict=True)]
        return Normalize(torch.tensor([scale, shift], device=device)[..., None, None])


_known: dict[str, Normalization] = {}
"""Of memory maps, in this process: it may build several runs on one."""


def _remembered(images: Images) -> Normalization:
    """The normalisation of a memory map: counting reads all of it, and each resume and evaluation would do so again.

    It is kept in the cache of the user, by fingerprint, shape and file: not every plugin's fingerprint keeps its word.
    """
    facts: list[object] = [images.fingerprint, images.pixels.shape]
    try:
        file = Path(images.pixels.filename)
        facts += [str(file), file.stat().st_size, file.stat().st_mtime_ns]
        path = cache_folder() / "normalization.json"
    except (TypeError, OSError, EnvironmentFault):  # it has no file any more, or there is no home folder
        return Normalization.counted(images.pixels)
    name = sha256(json.dumps(facts).encode()).hexdigest()
    if name in _known:
        return _known[name]
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError, RecursionError):  # none yet, or damaged
        found = json.loads(path.read_bytes())
        kept = found if isinstance(found, dict) else {}
    try:
        mean, std = (tuple(map(float, numbers)) for numbers in kept[name])
        good = len(mean) == len(std) == images.pixels.shape[1] and all(map(math.isfinite, mean + std)) and min(std) > 0
    except (KeyError, TypeError, ValueError):
        good = False
    if good:
        norm = Normalization(mean, std)
    else:
        norm = Normalization.counted(images.pixels)
        entries = [*kept.items(), (name, [norm.mean, norm.std])]
        with suppress(OSError):  # it is counted again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(dict(entries[-KEPT:])).encode())
    _known[name] = norm
    return norm


class Normalize(NamedTuple):
    """uint8 -> normalised float32, channels last."""

    scale_and_shift_2C11: Tensor

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.device.type != "cpu":
            scale, shift = self.scale_and_shift_2C11.unbind()
            return torch.addcmul(shift, x_BCHW.to(dtype=torch.float32, memory_format=torch.channels_last), scale)
        # One copy per channel casts and changes the layout at once, and the constants have the size of the image:
        # changing the layout of all channels together, or broadcasting constants, takes twice as long on a CPU.
        out = torch.empty_like(x_BCHW, dtype=torch.float32, memory_format=torch.channels_last)
        for to, channel in zip(out.unbind(1), x_BCHW.unbind(1), strict=True):
            to.copy_(channel)
        size = (2, *x_BCHW.shape[1:])
        scale, shift = self.scale_and_shift_2C11.expand(size).contiguous(memory_format=torch.channels_last).unbind()
        return torch.addcmul(shift, out, scale, out=out)


class Pictures:
    """Normalised images of some rows, a batch at a time, for evaluation and for centroids."""

    def __init__(
        self,
        images: Images,
        norm: Normalization,
        device: torch.device,
        *,
        batch: int,
        rows: np.ndarray | None = None,
        unlabeled: bool = False,
    ) -> None:
        """unlabeled: include images without a label, with a target of zeros."""
        self.normalize, self.device, self.batch = norm.on(device), device, batch
        self.rows = np.arange(len(images.targets)) if rows is None else rows
        if not unlabeled:
            known = images.targets >= 0 if images.targets.ndim == 1 else images.targets.sum(-1) > 0
            self.rows = self.rows[known[self.rows]]
        self.images, self.longest = images, len(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def names(self) -> list[str]:
        """The id of each image."""
        return [self.images.ids[row] for row in self.rows.tolist()]

    def labels(self) -> list[int]:
        """The most probable class of each image."""
        labels: list[int] = class_of(self.images)[self.rows].tolist()
        return labels

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self._batches():
            x = torch.as_tensor(gather(self.images.pixels, rows)).to(self.device)
            yield self.normalize(x), torch.from_numpy(one_hot(self.images, rows)).to(self.device)

    def _batches(self) -> Iterator[np.ndarray]:
        for start in range(0, self.longest, self.batch):
            yield self.rows[start : start + self.batch]

    def subset(self, most: int) -> Pictures:
        """At most `most` of the images, evenly spread over the rows."""
        if len(self) <= most:
            return self
        return self._select(np.linspace(0, len(self) - 1, most).round().astype(int))

    def dealt(self) -> Pictures:
        """The images of this process: every W-th, in as many batches as all others have; the last may be empty.

        Of fewer images than there are processes, each has all.
        """
        if ops.world_size() == 1 or len(self) < ops.world_size():
            return self
        mine = self._select(np.arange(ops.rank(), len(self), ops.world_size()))
        mine.longest = -(-len(self) // ops.world_size())
        return mine

    def interleaved(self) -> Pictures:
        """The same images in n batches of nearly equal size; batch i has rows i, i + n, i + 2n, ...

        Rows are often sorted by class, and a batch of one class has other batch norm statistics than all classes.
        """
        n = -(-len(self) // self.batch)
        reordered = self._select(np.concatenate([np.arange(i, len(self), n) for i in range(n)]))
        reordered.batch = -(-len(self) // n)
        return reordered

    def _select(self, chosen: np.ndarray) -> Pictures:
        selected = object.__new__(Pictures)
        selected.__dict__.update(self.__dict__, rows=self.rows[chosen], longest=len(chosen))
        return selected
