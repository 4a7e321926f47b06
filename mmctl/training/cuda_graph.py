"""Runs a training step as one CUDA graph where possible, otherwise operation by operation ("eager").

Both modes run the same `device_step` on the same numbers. Random draws, learning rate and loss weights are not part of
the graph: it reads them from memory that `Transfer` fills before each replay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmctl import ops
from mmctl.data.transfer import DevicePlan, Plan
from mmctl.training.state import Training

WARM = 3
"""Warm-up steps before capture: cuDNN chooses its kernels and memory is allocated, which must not be captured."""

DeviceStep = Callable[[Training, DevicePlan], None]


class StepRunner:
    """Runs steps in the fastest mode that works; `why` says why there is no CUDA graph, None = there is or may be."""

    def __init__(self, run: Training, device_step: DeviceStep) -> None:
        self.run, self.device_step = run, device_step
        self.graph: CapturedStep | None = None
        self.why = why_not_captured(run)
        self._announced = run.device.type != "cuda"  # on a CPU nobody expects a graph

    @property
    def mode(self) -> str:
        """graph or eager."""
        return "eager" if self.graph is None else "graph"

    def newly_eager(self) -> bool:
        """True once, if steps run in eager mode on a GPU: time for a notice."""
        new = self.why is not None and not self._announced
        self._announced = self._announced or new
        return new

    def __call__(self, plan: Plan) -> None:
        """Run one step."""
        staged = self.run.transfer(plan)
        if self.graph is not None and self.graph.form != self.run.transfer.form:
            self.graph, self.why = None, "the shapes of the random draws changed between steps"
        if self.graph is None and self.why is None:
            try:
                self.graph = CapturedStep(self.run, self.device_step, staged)
            except Exception as error:
                self.why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        if self.graph is not None:
            self.graph.replay()
        else:
            self.device_step(self.run, staged)


class CapturedStep:
    """A training step, captured as a CUDA graph."""

    def __init__(self, run: Training, device_step: DeviceStep, staged: DevicePlan) -> None:
        """Warm up, restore all tensors, capture: so every step of the run is a replay, also the first one."""
        self.form = run.transfer.form
        opened = bool(run.metrics.names)
        before = Snapshot(run)
        main, sync_mode = torch.cuda.current_stream(), torch.cuda.get_sync_debug_mode()
        try:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(main)
            with torch.cuda.stream(side):
                for n in range(WARM):
                    # Find a step that waits for the device now: a failed capture can break the random generators.
                    torch.cuda.set_sync_debug_mode("error" if n == WARM - 1 else sync_mode)
                    device_step(run, staged)
            torch.cuda.set_sync_debug_mode(sync_mode)
            main.wait_stream(side)
            before.restore()
            if not opened:
                run.metrics.open(run.metrics.names)
            self.graph = torch.cuda.CUDAGraph()
            # thread_local: meanwhile the checkpoint thread may wait for a CUDA event.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                device_step(run, staged)
        except BaseException:
            # A failed capture leaves its own stream as the current one, and the warm-up may still be running.
            torch.cuda.set_sync_debug_mode(sync_mode)
            torch.cuda.set_stream(main)
            torch.cuda.synchronize()
            before.restore()
            if not opened:
                run.metrics.open([])
            run.optimizer.clear_gradients()
            raise

    def replay(self) -> None:
        """Run one step."""
        self.graph.replay()


class Snapshot:
    """A copy of every tensor of a run, whether checkpoints contain it or not."""

    def __init__(self, run: Training) -> None:
        buffers = {id(b): b for part in run.parts.values() for b in part.buffers()}
        self.live: list[Tensor] = list(({id(t): t for t in run.tensors().values()} | buffers).values())
        self.saved = [t.detach().clone() for t in self.live]

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the saved values back."""
        for live, saved in zip(self.live, self.saved, strict=True):
            live.copy_(saved)


def why_not_captured(run: Training) -> str | None:
    """Why a step of this run cannot be a CUDA graph; None = it can be tried."""
    if run.device.type != "cuda":
        return "the device is not a CUDA GPU"
    if run.settings.train.capture == "off":
        return 'train.capture = "off"'
    if ops.world_size() > 1:
        return "several processes share the run"
    return changes_images_on_cpu(run.loader.augments) or uses_device_rng(run.parts)


def changes_images_on_cpu(augments: Mapping[str, Any]) -> str | None:
    """Names an augmentation that says `on_cpu = True`, if there is one."""
    for name, policy in augments.items():
        if getattr(policy, "on_cpu", False):
            return f"augment.{name} changes the images on the CPU"
    return None


def uses_device_rng(parts: dict[str, nn.Module]) -> str | None:
    """Names a module that draws random numbers on the device (dropout, drop path), if there is one."""
    for owner, part in parts.items():
        for module in part.modules():
            name = type(module).__name__
            rate: Any = getattr(module, "p", getattr(module, "drop_prob", 0.0))
            if ("dropout" in name.lower() or name in ("DropPath", "StochasticDepth")) and rate:
                return f"{name} in {owner} draws random numbers on the device"
    return None
