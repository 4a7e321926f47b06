"""How fast this machine trains a network, for a first guess of how many steps fit into a time."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mmctl.dataset_tools.new_recipe import Machine
from mmctl.dataset_tools.read import PICTURES, bare_recipe

IMAGES = 32
"""Images of a measured step."""
PASSES = 3.5
"""Images of a training step for each image of a batch: labelled, two views without labels, and their pseudo-labels."""
BEST_OF = 3


def this_machine() -> Machine:
    """The GPU if torch sees one, else the cores of the CPU."""
    import torch

    from mmctl.cores import available_cores

    if torch.cuda.is_available():
        return Machine("cuda", f"a GPU ({torch.cuda.get_device_name()})")
    cores = available_cores()
    return Machine("cpu", f"a CPU with {cores} core{'' if cores == 1 else 's'}")


def seconds_of_a_step(backbone: Mapping[str, object], size: int, channels: int, batch: int, device: str) -> float:
    """Measured seconds of a training step of a semi-supervised method with this network; evaluations not included."""
    import torch

    recipe = bare_recipe("measured", {"name": PICTURES}, backbone)
    net = recipe.build("backbone", known={"in_channels": channels, "image_size": size}).to(device)
    x = torch.rand(IMAGES, channels, size, size, device=device).to(memory_format=torch.channels_last)
    times = []
    for _ in range(BEST_OF):
        start = time.perf_counter()
        net(x).square().mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times) / IMAGES * batch * PASSES
