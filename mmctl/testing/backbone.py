"""The contract of backbones. B batch, C channels, H height, W width, D embedding."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mmctl.errors import DataError
from mmctl.runs.promises import check_embedding, has_methods
from mmctl.testing.contract import Broken, Contract, Size, equal, fake_gpu, keyed


class BackboneContract(Contract):
    """Images in, an embedding of size embed_dim out; every weight learns; a checkpoint keeps everything."""

    kind = "backbone"
    sizes: tuple[Size, ...] = ((1, 32, 32), (3, 32, 32))
    """C, H, W of the images to try; a size that the component refuses with DataError is skipped."""

    def backbone(self, table: Mapping[str, Any], size: Size) -> Any:
        """The backbone for images of a size, always with the same initial weights."""
        C, H, W = size
        with keyed(0):
            made = self.build(table, in_channels=C, image_size=H if H == W else (H, W))
        has_methods(self.who, "backbone", made)
        return made

    def each(self) -> Iterator[tuple[Size, Mapping[str, Any], Any]]:
        """Every size and table with its backbone."""
        return self.of_sizes(self.sizes, self.backbone)

    def test_embedding(self) -> None:
        """A float embedding B x embed_dim, finite, in training and in evaluation; mean and std fit the channels."""
        for size, _, part in self.each():
            D = getattr(part, "embed_dim", None)
            for B in (2, 4):
                check_embedding(self.who, part.train()(images(B, size)), B, D, gradient=True)
            with torch.no_grad():
                check_embedding(self.who, part.eval()(images(1, size)), 1, D, gradient=False)
            for name in ("mean", "std"):
                value = getattr(part, name, None)
                if value is not None and len(tuple(value)) != size[0]:
                    raise self.broken(f"has {name} = {value} for {size[0]} channels", "Give one per channel.")

    def test_every_weight_learns(self) -> None:
        """Every parameter gets a finite gradient."""
        for size, _, part in self.each():
            part.train()(images(4, size)).square().sum().backward()
            for name, p in part.named_parameters():
                if p.requires_grad and (p.grad is None or not bool(torch.isfinite(p.grad).all())):
                    raise self.broken(
                        f"gives the parameter {name} {'no' if p.grad is None else 'a NaN or infinite'} gradient",
                        "Use it in forward, or set requires_grad_(False).",
                    )

    def test_evaluation(self) -> None:
        """In eval mode, an image has the same embedding each time, whatever the order of the batch."""
        for size, _, part in self.each():
            x, order = images(5, size), torch.tensor([3, 0, 4, 1, 2])
            part.train()(x)
            part.eval()
            with torch.no_grad():
                one, two, turned, few = part(x), part(x), part(x[order]), part(x[:2])
            if not equal(one, two):
                raise self.broken("is random in eval mode", "Use nn.Dropout, or ask self.training.")
            if not all(torch.allclose(*pair, rtol=1e-3, atol=1e-4) for pair in ((one[order], turned), (one[:2], few))):
                raise self.broken("mixes the images of a batch in eval mode", "Row i belongs to image i.")

    def test_state_is_saved(self) -> None:
        """A copy and a copy made from a checkpoint give the same embedding, bit for bit."""
        for size, table, part in self.each():
            for step in range(3):
                with keyed(step):
                    part.train()(images(4, size))
            twin, fresh = copy.deepcopy(part), self.backbone(table, size)
            self.same_state(part, fresh)
            found = []
            for one in (part, twin, fresh):
                with keyed(9), torch.no_grad():
                    found.append((one.train()(images(4, size)), one.eval()(images(4, size))))
            if not equal(found[0], found[1]) or not equal(found[0], found[2]):
                raise self.broken(
                    "has state that a checkpoint does not keep", "Keep it in parameters and in register_buffer."
                )

    def test_initial_weights(self) -> None:
        """The same seed gives the same initial weights."""
        for size, table, part in self.each():
            other = self.backbone(table, size)
            if not equal(dict(part.state_dict()), dict(other.state_dict())):
                raise self.broken(
                    "has other initial weights with the same seed", "Draw them from torch's global generator."
                )

    def test_half_precision(self) -> None:
        """It works with bf16 autocast."""
        for size, _, part in self.each():
            with torch.autocast("cpu", torch.bfloat16):
                emb = part.train()(images(4, size))
            check_embedding(self.who, emb, 4, part.embed_dim, gradient=True)

    def test_stays_on_the_device(self) -> None:
        """A forward runs on the GPU and waits for nothing, so that a CUDA graph can hold the step."""
        for table in self.params:
            for size in self.sizes:
                with fake_gpu(self.who) as device:
                    try:
                        with device:  # torch cannot move a module to a device that is not there
                            part = self.build(table, in_channels=size[0], image_size=size[1])
                    except DataError:
                        continue
                    for module in part.modules():
                        loose = [name for name, value in vars(module).items() if isinstance(value, Tensor)]
                        if loose:
                            raise Broken(
                                f"{self.who} keeps a tensor in {loose[0]}. Use register_buffer: it must move too."
                            )
                    emb = part.train()(torch.empty(4, *size, device=device))
                    if emb.device.type != "cuda":
                        raise Broken(f"{self.who} gives its embedding on the CPU. Keep it on the device of x.")
                break


def images(B: int, size: Size) -> Tensor:
    """Normalised images as a network gets them: float32, channels last."""
    made = torch.randn(B, *size, generator=torch.Generator().manual_seed(B))
    return made.to(memory_format=torch.channels_last)
