"""The programs that mmctl is compared with: training loops of two published PyTorch programs, re-implemented.

MixMatch-pytorch (github.com/YU1ut/MixMatch-pytorch) and USB's FixMatch (github.com/microsoft/Semi-supervised-learning),
with their own augmentation, loader, network variant, optimizer and average: each step does the same work as there.
Progress bars and TensorBoard are left out, in their favour.

B batch, C channels, H height, W width, K classes, N images.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 10


class Block(nn.Module):
    """Pre-activation block in the raw form: where the width changes after the first stage, norm and activation of
    the input are computed and not used."""

    def __init__(self, width_in: int, width: int, stride: int, first_stage: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width_in, momentum=0.001), nn.BatchNorm2d(width, momentum=0.001)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.same = width_in == width
        self.first_stage = first_stage
        self.shortcut = None if self.same else nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shortcut plus residual."""
        active = self.act(self.norm1(x_BCHW))
        if self.shortcut is not None and self.first_stage:
            x_BCHW = active
        inner = self.conv1(active if self.same else x_BCHW)
        inner = self.conv2(self.act(self.norm2(inner)))
        return torch.add(x_BCHW if self.shortcut is None else self.shortcut(x_BCHW), inner)


class WRN28x2(nn.Module):
    """WRN-28-2 as both programs build it; `usb` for the details in which USB differs."""

    def __init__(self, usb: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=usb)
        blocks, width_in = [], 16
        for stage, width in enumerate((32, 64, 128)):
            for n in range(4):
                blocks.append(Block(width_in, width, 2 if stage and not n else 1, stage == 0))
                width_in = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(128, eps=1e-3 if usb else 1e-5, momentum=0.001)
        self.act = nn.LeakyReLU(0.1, inplace=not usb)
        self.head = nn.Linear(128, CLASSES)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, std=math.sqrt(2 / (m.kernel_size[0] * m.kernel_size[1] * m.out_channels)))
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits BK."""
        out = self.act(self.norm(self.blocks(self.stem(x_BCHW))))
        return self.head(F.avg_pool2d(out, 8).view(-1, 128))


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Repeat the loader forever."""
    while True:
        yield from loader


# MixMatch-pytorch: images as normalised float32 CHW in memory, augmented one by one in numpy.


def normalised(pixels_NHWC: np.ndarray) -> np.ndarray:
    """The whole set as float32, N x C x H x W by a view."""
    x, mean, std = (np.array(a, np.float32) for a in (pixels_NHWC, MEAN, STD))
    x -= mean * 255
    x *= 1.0 / (255 * std)
    return x.transpose(0, 3, 1, 2)


def pad_and_crop(x_CHW: np.ndarray) -> np.ndarray:
    """A 32 x 32 crop of the image with 4 pixels of reflection around it."""
    x_CHW = np.pad(x_CHW, [(0, 0), (4, 4), (4, 4)], mode="reflect")
    top, left = np.random.randint(0, 8), np.random.randint(0, 8)
    return x_CHW[:, top : top + 32, left : left + 32]


def flip(x_CHW: np.ndarray) -> np.ndarray:
    """Random horizontal flip."""
    return (x_CHW[:, :, ::-1] if np.random.rand() < 0.5 else x_CHW).copy()


def numpy_weak(x_CHW: np.ndarray) -> Tensor:
    """The training transform of MixMatch-pytorch."""
    return torch.from_numpy(flip(pad_and_crop(x_CHW)))


class NumpySet(Dataset[Any]):
    """Some images of the data set, kept as float32; `views` augmented versions of each."""

    def __init__(self, pixels_NHWC: np.ndarray, targets: np.ndarray, rows: np.ndarray, views: int) -> None:
        self.data, self.targets, self.views = normalised(pixels_NHWC[rows]), targets[rows], views

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        shown = tuple(numpy_weak(self.data[row]) for _ in range(self.views))
        return shown[0] if self.views == 1 else shown, self.targets[row]


def interleaved(parts: list[Tensor], batch: int) -> list[Tensor]:
    """Swap slice i of the first part with slice i of part i."""
    n = len(parts)
    sizes = [batch // n] * n
    for i in range(batch - sum(sizes)):
        sizes[-i - 1] += 1
    cut = [list(part.split(sizes)) for part in parts]
    for i in range(1, n):
        cut[0][i], cut[i][i] = cut[i][i], cut[0][i]
    return [torch.cat(slices) for slices in cut]


class MixMatchPytorch:
    """MixMatch-pytorch: `step` is one iteration of its train()."""

    def __init__(
        self, pixels_NHWC: np.ndarray, targets: np.ndarray, labeled: np.ndarray, unlabeled: np.ndarray,
        batch: int, device: torch.device,
    ) -> None:  # fmt: skip
        self.batch, self.device, self.at = batch, device, 0
        self.model, self.ema, spare = (WRN28x2(usb=False).to(device) for _ in range(3))
        self.spare = spare  # its WeightEMA keeps a third network for the end of an epoch
        for p, q in zip(self.model.parameters(), self.ema.parameters(), strict=True):
            q.detach_().copy_(p.data)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.002)
        sets = NumpySet(pixels_NHWC, targets, labeled, 1), NumpySet(pixels_NHWC, targets, unlabeled, 2)
        loaders = [DataLoader(s, batch_size=batch, shuffle=True, num_workers=0, drop_last=True) for s in sets]
        self.labeled, self.unlabeled = map(endless, loaders)
        self.model.train()

    def step(self) -> None:
        """Pseudo-labels, MixUp, interleave, three forwards, Adam, EMA with its weight decay."""
        x, y = next(self.labeled)
        (u1, u2), _ = next(self.unlabeled)
        batch = len(x)
        y_BK = torch.zeros(batch, CLASSES).scatter_(1, y.view(-1, 1), 1)
        x, y_BK, u1, u2 = (t.to(self.device) for t in (x, y_BK, u1, u2))
        with torch.no_grad():
            p = (torch.softmax(self.model(u1), dim=1) + torch.softmax(self.model(u2), dim=1)) / 2
            sharp = p ** (1 / 0.5)
            q = (sharp / sharp.sum(dim=1, keepdim=True)).detach()
        inputs, targets = torch.cat([x, u1, u2]), torch.cat([y_BK, q, q])
        lam = np.random.beta(0.75, 0.75)
        lam = max(lam, 1 - lam)
        order = torch.randperm(len(inputs))
        mixed = lam * inputs + (1 - lam) * inputs[order]
        target = lam * targets + (1 - lam) * targets[order]
        logits = interleaved([self.model(part) for part in interleaved(list(mixed.split(batch)), batch)], batch)
        rest = torch.cat(logits[1:])
        loss_x = -torch.mean(torch.sum(F.log_softmax(logits[0], dim=1) * target[:batch], dim=1))
        loss_u = torch.mean((torch.softmax(rest, dim=1) - target[batch:]) ** 2)
        loss = loss_x + 75 * min(1.0, self.at / 2**20) * loss_u
        loss.item(), loss_x.item(), loss_u.item()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for p, q in zip(self.model.parameters(), self.ema.parameters(), strict=True):
            q.data.mul_(0.999)
            q.data.add_(p.data.detach() * (1 - 0.999))
            p.data.mul_(1 - 0.02 * 0.002)
        self.at += 1


# USB's FixMatch: images as uint8, augmented one by one by PIL.


def pil_weak() -> Callable[[Any], Any]:
    """USB's weak transform, as an image: crop, flip."""
    from torchvision import transforms as tv

    return tv.Compose([tv.Resize(32), tv.RandomCrop(32, padding=4, padding_mode="reflect"), tv.RandomHorizontalFlip()])


def pil_tensor() -> Callable[[Any], Tensor]:
    """An image as a normalised tensor."""
    from torchvision import transforms as tv

    return tv.Compose([tv.ToTensor(), tv.Normalize(*IMAGENET)])


def affine(image: Any, *numbers: float) -> Any:
    """An affine warp with the nearest pixel; outside is black."""
    from PIL import Image

    return image.transform(image.size, Image.Transform.AFFINE, numbers)


class PilRandAugment:
    """RandAugment(3) of USB: three of 14 operations at a random strength each, then a grey square."""

    def __init__(self, ops: int = 3) -> None:
        from PIL import Image, ImageDraw, ImageEnhance, ImageOps

        def enhance(kind: Any) -> Callable[[Any, float], Any]:
            return lambda image, v: kind(image).enhance(v)

        self.count, self.draw = ops, ImageDraw.Draw
        self.ops: list[tuple[Callable[[Image.Image, float], Image.Image], float, float]] = [
            (lambda image, v: ImageOps.autocontrast(image), 0, 1),
            (enhance(ImageEnhance.Brightness), 0.05, 0.95),
            (enhance(ImageEnhance.Color), 0.05, 0.95),
            (enhance(ImageEnhance.Contrast), 0.05, 0.95),
            (lambda image, v: ImageOps.equalize(image), 0, 1),
            (lambda image, v: image, 0, 1),
            (lambda image, v: ImageOps.posterize(image, max(1, int(v))), 4, 8),
            (lambda image, v: image.rotate(v), -30, 30),
            (enhance(ImageEnhance.Sharpness), 0.05, 0.95),
            (lambda image, v: affine(image, 1, v, 0, 0, 1, 0), -0.3, 0.3),
            (lambda image, v: affine(image, 1, 0, 0, v, 1, 0), -0.3, 0.3),
            (lambda image, v: ImageOps.solarize(image, v), 0, 256),
            (lambda image, v: affine(image, 1, 0, v * image.size[0], 0, 1, 0), -0.3, 0.3),
            (lambda image, v: affine(image, 1, 0, 0, 0, 1, v * image.size[1]), -0.3, 0.3),
        ]

    def __call__(self, image: Any) -> Any:
        for op, low, high in random.choices(self.ops, k=self.count):
            image = op(image, low + (high - low) * random.random())
        side = random.random() * 0.5 * image.size[0]
        width, height = image.size
        left = int(max(0, np.random.uniform(width) - side / 2))
        top = int(max(0, np.random.uniform(height) - side / 2))
        image = image.copy()
        self.draw(image).rectangle((left, top, min(width, left + side), min(height, top + side)), (125, 123, 114))
        return image


class PilSet(Dataset[Any]):
    """Images augmented by PIL: a weak view, and with `strong` also a strong view."""

    def __init__(self, pixels_NHWC: np.ndarray, targets: np.ndarray, rows: np.ndarray, strong: bool) -> None:
        self.data, self.targets, self.strong = pixels_NHWC[rows], targets[rows], strong
        self.weak, self.rand_augment, self.tensor = pil_weak(), PilRandAugment(), pil_tensor()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> dict[str, Any]:
        from PIL import Image

        image = Image.fromarray(self.data[row])
        weak = self.tensor(self.weak(image))
        if not self.strong:
            return {"idx": row, "x": weak, "y": self.targets[row]}
        return {"idx": row, "weak": weak, "strong": self.tensor(self.rand_augment(self.weak(image)))}


class UsbFixMatch:
    """USB's FixMatch with its defaults but uratio 1: one forward over everything, gradient through every branch."""

    def __init__(
        self, pixels_NHWC: np.ndarray, targets: np.ndarray, labeled: np.ndarray, unlabeled: np.ndarray,
        batch: int, unlabeled_batch: int, device: torch.device, steps: int = 2**20,
    ) -> None:  # fmt: skip
        self.device = device
        self.model, self.ema = WRN28x2(usb=True).to(device), WRN28x2(usb=True).to(device)
        self.ema.load_state_dict(self.model.state_dict())
        decay = [p for p in self.model.parameters() if p.dim() > 1]
        plain = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": plain, "weight_decay": 0.0}, {"params": decay, "weight_decay": 5e-4}]
        self.optimizer = torch.optim.SGD(groups, lr=0.03, momentum=0.9, weight_decay=5e-4, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda at: max(0.0, math.cos(math.pi * 7 / 16 * at / steps))
        )
        self.shadow = {k: p.data.clone() for k, p in self.model.named_parameters()}
        loaders = []
        for rows, size, strong in ((labeled, batch, False), (unlabeled, unlabeled_batch, True)):
            data = PilSet(pixels_NHWC, targets, rows, strong)
            sampler = RandomSampler(data, replacement=True, num_samples=2**20)
            loaders.append(DataLoader(data, batch_size=size, sampler=sampler, num_workers=0, drop_last=True))
        self.labeled, self.unlabeled = map(endless, loaders)
        self.model.train()

    def step(self) -> None:
        """One forward, thresholded hard labels, SGD with Nesterov momentum, average by dictionaries."""
        shown, hidden = next(self.labeled), next(self.unlabeled)
        x, y, weak, strong = (t.to(self.device) for t in (shown["x"], shown["y"], hidden["weak"], hidden["strong"]))
        logits = self.model(torch.cat((x, weak, strong)))
        logits_x = logits[: len(y)]
        logits_w, logits_s = logits[len(y) :].chunk(2)
        loss_x = F.nll_loss(F.log_softmax(logits_x, dim=-1), y)
        p = torch.softmax(logits_w.detach(), dim=-1)
        top, guess = torch.max(p, dim=-1)
        mask = top.ge(0.95).to(top.dtype)
        loss_u = (F.nll_loss(F.log_softmax(logits_s, dim=-1), guess, reduction="none") * mask).mean()
        loss = loss_x + loss_u
        loss_x.item(), loss_u.item(), loss.item(), mask.float().mean().item()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.model.zero_grad()
        for name, p in self.model.named_parameters():
            self.shadow[name] = ((1 - 0.999) * p.data + 0.999 * self.shadow[name]).clone()
        for name, buffer in self.model.named_buffers():
            self.shadow[name] = buffer.clone()
        self.ema.load_state_dict(self.model.state_dict())
        self.ema.load_state_dict(self.shadow, strict=False)
