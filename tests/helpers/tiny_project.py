"""The smallest run there is: 8 x 8 pictures in three classes, and a network of 300 weights, as a plugin file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmctl import project
from mmctl.recipe.recipe import Recipe, load
from mmctl.registry.index import Index
from mmctl.runs.build import build_training, read_data
from mmctl.runs.create import create_run
from mmctl.runs.execute import execute
from mmctl.training.state import Training

# The first backward pass of a process counts the devices. After a FakeTensorMode it would count one that is not there,
# start a thread for it, and a forked child (kill -9 at every write) could then take no step.
torch.ones((), requires_grad=True).backward()  # type: ignore[no-untyped-call]

PLUGIN = '''
import numpy as np
import torch
from torch import nn

from mmctl.plugin import Images, backbone, dataset

CLASSES = ("rows", "columns", "checks")


@dataset("tiny")
def tiny(root=None, *, train: int = 120, test: int = 45):
    """Striped and checked squares under noise."""
    return {"train": _part(train, 1), "test": _part(test, 2)}


def _part(n, seed):
    rng = np.random.default_rng(seed)
    row, column = np.indices((8, 8)) // 2 % 2
    patterns = np.stack([row, column, row ^ column])
    targets = np.arange(n) % 3
    pixels = 64 + 96 * patterns[targets] + rng.normal(0, 40, (n, 8, 8))
    pixels = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)[:, None])
    return Images(pixels, targets, CLASSES, [f"{seed}-{i}" for i in range(n)], f"tiny-{n}-{seed}")


@backbone("tiny")
class Tiny(nn.Module):
    """Two convolutions of 6 channels."""

    def __init__(self, in_channels):
        super().__init__()
        self.embed_dim = 6
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(0.1),
            nn.Conv2d(6, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )

    def forward(self, x_BCHW):
        return self.layers(x_BCHW)
'''

RECIPE = """
[dataset]
name = "tiny"

[split]
labels = 30

[backbone]
name = "tiny"

[method]
name = "{method}"

[augment.weak]
name = "flip_crop"
pad = 1

[augment.strong]
name = "affine"
after = "weak"

[optimizer]
lr = 0.1

[schedule]
name = "constant"

[average]
decay = 0.9

[train]
steps = 20
batch = 12
unlabeled_batch = 12
log_every = 4
save_every = 10

[eval]
every = 20
"""


def written(method: str) -> Path:
    """The files of such a run in the project of the test, before anything reads them: tiny.toml and its plugin."""
    plugins = project.plugins_dir()
    plugins.mkdir(exist_ok=True)
    (plugins / "tiny.py").write_text(PLUGIN)
    path = Path("tiny.toml")
    path.write_text(RECIPE.format(method=method))
    return path


def recipe(method: str, *sets: str) -> Recipe:
    """A checked recipe of that method, in the project of the test."""
    return load(written(method), sets=sets, index=Index(sources="local"))


def training(method: str, *sets: str, precision: torch.dtype | None = None) -> Training:
    """The objects of such a run, on the CPU."""
    torch.set_num_threads(1)
    made = recipe(method, *sets)
    return build_training(made, read_data(made), torch.device("cpu"), precision)


def trained(method: str, sets: tuple[str, ...], project: Path) -> Path:
    """The folder of a run that was trained to its end in a project of its own; each test copies it into its project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("MMCTL_PLUGINS_DIR", str(project / "plugins"))
        folder = create_run(recipe(method, *sets), project / "runs")
        assert execute(folder, lambda: False).state == "completed"
    return folder
