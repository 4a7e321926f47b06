"""The contract of methods: a few steps on a small data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

from mmctl.plugin import Batch, Images
from mmctl.recipe.recipe import Recipe, from_data
from mmctl.runs.build import build_training, data_of, try_one_step
from mmctl.runs.promises import check_step
from mmctl.testing.contract import Contract, equal, keyed
from mmctl.training.loop import device_step
from mmctl.training.state import Training

CLASSES = ("rows", "columns", "checks")


class MethodContract(Contract):
    """Losses with gradient for its slots; a resumed run is exact; all randomness comes from `draw`."""

    kind = "method"
    settings: Mapping[str, Mapping[str, Any]] = {}
    """More tables of the recipe, for example {"labeler": {"name": "fuzzy"}, "augment.strong": {"name": "affine"}}."""

    def recipe(self, table: Mapping[str, Any]) -> Recipe:
        """A small recipe with the method, 20 steps; it names a data set because it must, see `training`."""
        name = self.component if isinstance(self.component, str) else self.loaded()[0].__mmctl__[1]
        data: dict[str, Any] = {
            "dataset": {"name": "digits"}, "split": {"labels": 30}, "backbone": {"name": "small"},
            "method": {"name": name, **table}, "average": {"decay": 0.9},
            "augment": {"weak": {"name": "flip_crop", "pad": 1}, "strong": {"name": "affine", "after": "weak"}},
            "optimizer": {"lr": 0.05, "weight_decay": 0.0}, "schedule": {"name": "constant"},
            "train": {"steps": 20, "batch": 12, "unlabeled_batch": 12, "device": "cpu", "precision": "fp32"},
        }  # fmt: skip
        for where, more in self.settings.items():
            at = data
            *parents, last = where.split(".")
            for key in parents:
                at = at.setdefault(key, {})
            at[last] = {**at.get(last, {}), **more}
        return from_data(data, "contract", self.index)

    def training(self, table: Mapping[str, Any]) -> Training:
        """The run of the recipe, on `tiny_images` in place of its data set."""
        recipe = self.recipe(table)
        return build_training(recipe, data_of(recipe, tiny_images()), torch.device("cpu"), None)

    def test_one_step(self) -> None:
        """A step gives a finite loss for each slot, metrics as 0-d tensors, and gradients."""
        for table in self.params:
            recipe = self.recipe(table)
            try_one_step(recipe, data_of(recipe, tiny_images()))

    def test_trains(self) -> None:
        """Twenty steps change the network and leave everything finite."""
        for table in self.params:
            run = self.training(table)
            before = {k: t.detach().clone() for k, t in run.model.named_parameters()}
            self.steps(run, 0, 20)
            if all(torch.equal(before[k], t) for k, t in run.model.named_parameters()):
                raise self.broken("does not change the network in 20 steps", "Return losses that depend on its output.")
            bad = [k for k, t in run.tensors().items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
            if bad:
                raise self.broken(f"makes {bad[0]} NaN or infinite in 20 steps", "Look at the loss of each term.")

    def steps(self, run: Training, first: int, stop: int) -> None:
        """Steps as the training loop takes them; each result is checked."""
        for step in range(first, stop):
            with keyed(step):
                run.refit()
                device_step(run, run.staged(step))
            run.step = step + 1

    def test_resumes(self) -> None:
        """Stopped after ten steps and continued from its state, a run ends as one that was never stopped."""
        for table in self.params:
            whole, first, second = (self.training(table) for _ in range(3))
            self.steps(whole, 0, 20)
            self.steps(first, 0, 10)
            saved = {k: t.detach().clone() for k, t in first.tensors().items()}
            target = second.restore(10, first.facts())
            with torch.no_grad():
                for name, tensor in target.items():
                    tensor.copy_(saved[name])
            self.steps(second, 10, 20)
            a, b = whole.tensors(), second.tensors()
            different = [k for k in a if not equal(a[k].detach(), b[k].detach())]
            if different:
                raise self.broken(
                    f"does not continue as it was: after stop and resume {len(different)} tensors differ, such as "
                    f"{different[0]}",
                    "Keep state in register_buffer; draw random numbers in `draw`, from the given generator.",
                )

    def test_draws(self) -> None:
        """`draw` gives the same numbers for the same generator; `step` uses no global random numbers."""
        for table in self.params:
            one, two = self.training(table), self.training(table)
            found: list[dict[str, Tensor]] = []
            for run, seed in ((one, 1), (two, 2)):
                staged = run.staged(0)
                with keyed(seed):
                    run.refit()
                    output = run.method.step(run.loader.batch(staged))
                check_step(self.who, output, run.slots)
                found.append({k: v.detach() for k, v in output.losses.items()})
            if not equal(*found):
                self.note(
                    "uses global random numbers in step: exact on one device, but other numbers over several "
                    "processes; better draw them in `draw(rng, x, u)`"
                )

    def test_does_not_wait(self) -> None:
        """A step reads no value of a tensor on the CPU, so that a CUDA graph can hold it."""
        for table in self.params:
            run = self.training(table)
            run.refit()
            try:
                step_without_values(run)
            except Exception as error:
                if "DataDependent" not in type(error).__name__ and "DynamicOutput" not in type(error).__name__:
                    raise
                raise self.broken(
                    f"reads a value of a tensor on the CPU in step ({error})",
                    "Use torch.where, masks and sums in place of .item(), if, nonzero or boolean indexing.",
                ) from error


def step_without_values(run: Training) -> Mapping[str, Tensor]:
    """The losses of a step, after its backward pass, on tensors without values.

    What reads a value, or has a shape that depends on one, is refused.
    """
    batch = run.loader.batch(run.staged(0))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = tree_map(lambda t: mode.from_tensor(t) if type(t) is Tensor else t, vars(batch))
        losses: dict[str, Tensor] = run.method.step(Batch(**fake)).losses
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
    return losses


def tiny_images(n: int = 120, seed: int = 0) -> dict[str, Images]:
    """Striped and checked squares under noise, 8 x 8 px in three classes: learned within seconds on a CPU."""
    return {"train": _part(n, seed + 1), "test": _part(45, seed + 2)}


def _part(n: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    row, column = np.indices((8, 8)) // 2 % 2
    patterns = np.stack([row, column, row ^ column])
    targets = np.arange(n) % 3
    pixels = 64 + 96 * patterns[targets] + rng.normal(0, 40, (n, 8, 8))
    return Images.of(
        pixels.clip(0, 255).astype(np.uint8)[:, None],
        targets.astype(np.int64),
        CLASSES,
        [f"{seed}-{i}" for i in range(n)],
    )
