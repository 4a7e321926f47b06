"""The contract of augmentations. B batch, C channels, H height, W width."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmctl.runs.promises import check_augmented, check_draws, has_methods
from mmctl.testing.contract import Broken, Contract, Size, equal, fake_gpu, generators_untouched


class AugmentContract(Contract):
    """uint8 in and out of the same shape; all randomness comes from `draw`; each image for itself."""

    kind = "augment"
    sizes: tuple[Size, ...] = ((1, 8, 8), (1, 32, 32), (3, 32, 32), (3, 48, 40))
    """C, H, W of the images to try; a size that the component refuses with DataError is skipped."""

    def augment(self, table: Mapping[str, Any], size: Size, device: Any = None) -> Any:
        """The augmentation for images of a size."""
        C, H, W = size
        others = self.others(size)
        for name, part in others.items():
            others[name] = part.to(device) if device and isinstance(part, nn.Module) else part
        made = self.build(table, in_channels=C, image_size=H if H == W else (H, W), augments=others)
        has_methods(self.who, "augment", made)
        return made

    def others(self, size: Size) -> dict[str, Any]:
        """Policies that are built before it, for a component that names `augments`."""
        return {}

    def each(self) -> Iterator[tuple[Size, Mapping[str, Any], Any]]:
        """Every size and table with its augmentation."""
        return self.of_sizes(self.sizes, self.augment)

    def test_images(self) -> None:
        """uint8 of the same shape, and the images that are given stay as they are."""
        for size, _, part in self.each():
            for n in (1, 5):
                for x in (photos(n, size), torch.zeros(n, *size, dtype=torch.uint8), _white(n, size)):
                    drawn = part.draw(rng(3), n)
                    check_draws(self.who, drawn, n)
                    before = x.clone()
                    check_augmented(self.who, before, x, part.apply(x, **on_cpu(drawn)))

    def test_random_numbers_come_from_draw(self) -> None:
        """The same numbers give the same images, and the global generators are not used."""
        for size, _, part in self.each():
            with generators_untouched(self.who, "draw"):
                one, two, other = (part.draw(rng(seed), 6) for seed in (1, 1, 2))
            if not equal(one, two):
                raise self.broken("draws other numbers from the same generator", "Draw only from the given generator.")
            x = photos(6, size)
            with generators_untouched(self.who, "apply"):
                results = [part.apply(x.clone(), **on_cpu(d)) for d in (one, one, other)]
            if not equal(results[0], results[1]):
                raise self.broken("is random in apply", "Draw a number for each image in `draw`; `apply` only uses it.")

    def test_each_image_for_itself(self) -> None:
        """An image does not depend on its neighbours in the batch."""
        for size, _, part in self.each():
            x, drawn, order = photos(6, size), part.draw(rng(5), 6), np.array([4, 2, 5, 0, 3, 1])
            whole = part.apply(x.clone(), **on_cpu(drawn))
            turned = part.apply(x[order].clone(), **on_cpu({k: v[order] for k, v in drawn.items()}))
            alone = part.apply(x[:1].clone(), **on_cpu({k: v[:1] for k, v in drawn.items()}))
            if not equal(whole[order], turned) or not equal(whole[:1], alone):
                raise self.broken(
                    "changes an image depending on its neighbours", "Axis 0 of each drawn array belongs to axis 0 of x."
                )

    def test_state_is_saved(self) -> None:
        """A copy made from a checkpoint draws the same numbers and makes the same images."""
        for size, table, part in self.each():
            fresh = self.augment(table, size)
            x = photos(6, size)
            for step in range(3):
                part.apply(x.clone(), **on_cpu(part.draw(rng(step), 6)))
            self.same_state(part, fresh)
            both = []
            for one in (part, fresh):
                drawn = one.draw(rng(9), 6)
                both.append({**on_cpu(drawn), "images": one.apply(x.clone(), **on_cpu(drawn))})
            if not equal(*both):
                raise self.broken(
                    "has state that a checkpoint does not keep",
                    "Derive it from nn.Module and keep its state in register_buffer.",
                )

    def test_stays_on_the_device(self) -> None:
        """`apply` runs on the GPU and waits for nothing, so that a CUDA graph can hold the step; or it says on_cpu."""
        for size, table, part in self.each():
            if getattr(part, "on_cpu", False):
                self.note("computes on the CPU: on a GPU its steps wait, and are not CUDA graphs")
                return
            drawn = part.draw(rng(3), 4)
            with fake_gpu(self.who) as device:
                here: Any = self.augment(table, size, device)
                if isinstance(here, nn.Module):
                    here = here.to(device)
                x = torch.empty(4, *size, dtype=torch.uint8, device=device)
                after = here.apply(x, **{k: torch.as_tensor(v).to(device) for k, v in drawn.items()})
                if after.device.type != "cuda":
                    raise Broken(f"{self.who} returns images on the CPU. Keep them on the device of x.")
            return  # operations are the same for every size


def rng(seed: int) -> np.random.Generator:
    """A generator as `draw` gets it."""
    return np.random.Generator(np.random.Philox(seed))


def on_cpu(drawn: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Drawn numbers as `apply` gets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an array of a broadcast is not writable; nothing writes
        return {k: torch.as_tensor(np.ascontiguousarray(v)) for k, v in drawn.items()}


def photos(n: int, size: Size) -> Tensor:
    """Random images with all values from 0 to 255."""
    return torch.randint(0, 256, (n, *size), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


def _white(n: int, size: Size) -> Tensor:
    return torch.full((n, *size), 255, dtype=torch.uint8)
