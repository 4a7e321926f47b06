"""How a training step runs: as one captured CUDA graph where that works, else operation by operation ("eager").

Both run the same `device_step` on the same numbers. Nothing random and nothing of the schedules is in the graph:
it reads them from the memory that `Transfer` fills before each replay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmctl import ops
from mmctl.data.transfer import DevicePlan, Plan
from mmctl.training.state import Training

WARM = 3
"""Steps before capture: cuDNN chooses its kernels and the allocator fills, neither of which a graph may hold."""

DeviceStep = Callable[[Training, DevicePlan], None]


class StepRunner:
    """Runs steps in the fastest mode that works; `why` is the reason why it is not a CUDA graph."""

    def __init__(self, run: Training, device_step: DeviceStep) -> None:
        self.run, self.device_step = run, device_step
        self.graph: CapturedStep | None = None
        self.why = why_not_captured(run)
        self._announced = run.device.type != "cuda"  # nobody expects a graph there

    @property
    def mode(self) -> str:
        """graph or eager."""
        return "eager" if self.graph is None else "graph"

    def newly_eager(self) -> bool:
        """Whether steps run in eager mode on a GPU and nobody has been told so yet; true once."""
        new = self.why is not None and not self._announced
        self._announced = self._announced or new
        return new

    def __call__(self, plan: Plan) -> None:
        """One step."""
        staged = self.run.transfer(plan)
        if self.graph is not None and self.graph.form != self.run.transfer.form:
            self.graph, self.why = None, "the random numbers of a step changed their shapes"
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
    """One step as a CUDA graph, in memory of its own."""

    def __init__(self, run: Training, device_step: DeviceStep, staged: DevicePlan) -> None:
        """Warm up, put everything back, record: every step of the run is a replay, the first one too."""
        self.form = run.transfer.form
        opened = bool(run.metrics.names)
        before = Snapshot(run)
        here, waits = torch.cuda.current_stream(), torch.cuda.get_sync_debug_mode()
        try:
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for n in range(WARM):
                    # A step that waits is found here: a capture that fails may leave the generators spoilt.
                    torch.cuda.set_sync_debug_mode("error" if n == WARM - 1 else waits)
                    device_step(run, staged)
            torch.cuda.set_sync_debug_mode(waits)
            here.wait_stream(aside)
            before.restore()
            if not opened:
                run.metrics.open(run.metrics.names)
            self.graph = torch.cuda.CUDAGraph()
            # thread_local: the thread that writes checkpoints may wait for an event meanwhile.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                device_step(run, staged)
        except BaseException:
            # A capture that breaks off leaves its own stream current, and warm-up may still be under way on another.
            torch.cuda.set_sync_debug_mode(waits)
            torch.cuda.set_stream(here)
            torch.cuda.synchronize()
            before.restore()
            if not opened:
                run.metrics.open([])
            run.optimizer.forget()
            raise

    def replay(self) -> None:
        """One step."""
        self.graph.replay()


class Snapshot:
    """Every tensor of a run as it is now, checkpointed or not."""

    def __init__(self, run: Training) -> None:
        buffers = {id(b): b for part in run.parts.values() for b in part.buffers()}
        held = {id(t): t for t in run.tensors().values()} | buffers
        self.live: list[Tensor] = list(held.values())
        self.kept = [t.detach().clone() for t in self.live]

    @torch.no_grad()
    def restore(self) -> None:
        """Put all of them back."""
        for live, kept in zip(self.live, self.kept, strict=True):
            live.copy_(kept)


def why_not_captured(run: Training) -> str | None:
    """Why a step of this run is not captured; None = it may be tried."""
    if run.device.type != "cuda":
        return "graphs are of CUDA"
    if run.settings.train.capture == "off":
        return 'train.capture = "off"'
    if ops.world_size() > 1:
        return "several ranks share the run"
    return uses_device_rng(run.parts)


def uses_device_rng(parts: dict[str, nn.Module]) -> str | None:
    """Whether a part draws random numbers of its own on the device; nothing of mmctl does, dropout does."""
    for owner, part in parts.items():
        for module in part.modules():
            name = type(module).__name__
            rate: Any = getattr(module, "p", getattr(module, "drop_prob", 0.0))
            if ("dropout" in name.lower() or name in ("DropPath", "StochasticDepth")) and rate:
                return f"{name} in {owner} draws on the device"
    return None
