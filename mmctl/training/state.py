"""The state of a run: its parts, and every tensor that a checkpoint holds.

Each tensor is saved once, under the first part that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmctl.data.images import Pictures
from mmctl.data.loader import Loader
from mmctl.data.transfer import DevicePlan, Plan, Transfer
from mmctl.plugin import LossTerm
from mmctl.recipe.settings import Settings
from mmctl.training.alarms import Alarms
from mmctl.training.centroids import Centroids
from mmctl.training.evaluate import recompute_bn
from mmctl.training.model import Average, Model
from mmctl.training.optimizer import Optimizer
from mmctl.training.running_metrics import RunningMetrics
from mmctl.training.schedules import average_share, learning_rate, length_of, ramp


@dataclass
class Training:
    """All that a run is made of. Everything that changes from step to step is reached by `tensors`."""

    parts: dict[str, nn.Module]  # owners, in order: model, ema, centroids, labeler, loss.SLOT, augment.NAME, method
    loader: Loader
    settings: Settings
    slots: Mapping[str, LossTerm]
    seed: int
    device: torch.device
    labeled: Pictures
    splits: dict[str, Pictures]
    pool: Pictures | None = None  # what the average's batch-norm statistics are found on anew, if they are
    step: int = 0
    cut: bool = False  # the last evaluation was cut short by a signal
    judged: int = -1  # the step of the last evaluation that the alarms have seen
    collapsed: str = ""  # the alarm that said so

    def __post_init__(self) -> None:
        self.steps: int = self.settings.train.steps
        self.model: Model = self.parts["model"]  # type: ignore[assignment]
        self.ema: Average | None = self.parts.get("ema")  # type: ignore[assignment]
        self.centroids: Centroids = self.parts["centroids"]  # type: ignore[assignment]
        self.method: Any = self.parts["method"]
        self.owned = owned_tensors(self.parts)
        params = {k: t for k, t in self.owned.items() if isinstance(t, nn.Parameter) and t.requires_grad}
        self.params = list(params.values())
        self.optimizer = Optimizer(params, own_groups(self.parts, params), self.settings.optimizer)
        self.transfer = Transfer(self.device)
        self.metrics = RunningMetrics(self.centroids.num_classes, self.device)
        weights = "raw" if self.ema is None else "ema"
        split = next((s for s in ("val", "test") if s in self.splits), next(iter(self.splits), ""))
        self.alarms = Alarms(self.steps, f"{split}/{weights}/head/largest_class")

    @property
    def nets(self) -> dict[str, Model]:
        """The networks that are evaluated."""
        return {"raw": self.model} if self.ema is None else {"raw": self.model, "ema": self.ema}

    def ready(self, weights: str, stop: Callable[[], bool] = lambda: False) -> Model:
        """One of the networks as it is to be used: an average with batch-norm statistics of its own, if it has any."""
        net = self.nets[weights]
        return net if self.pool is None or weights == "raw" else recompute_bn(net, self.pool, stop)

    def plan(self, step: int) -> Plan:
        """The loader's plan with what the schedules add."""
        plan, s = self.loader.plan(step), self.settings
        lr, mean, n = s.schedule, s.average, self.steps
        cycles = lr.horizon, lr.start, lr.cycle
        plan.lr = learning_rate(step, n, s.optimizer.lr, lr.name, lr.warmup, lr.final, cycles)
        counted = length_of(mean.start, n), length_of(mean.every, n)
        plan.share = average_share(step, mean.kind, mean.decay, mean.warmup, *counted)
        plan.weight = {k: ramp(step, self.steps, t.weight, t.rampup, t.ramp) for k, t in self.slots.items()}
        return plan

    def staged(self, step: int) -> DevicePlan:
        """All that step `step` is made of, on the device."""
        return self.transfer(self.plan(step))

    def due(self, what: str) -> bool:
        """Whether `log`, `eval` or `save` falls on the steps done so far: every n steps, and at the end."""
        s = self.settings
        every = {"log": s.train.log_every, "eval": s.eval.every, "save": s.train.save_every}[what]
        return self.step == self.steps or self.step % every == 0

    def refit(self) -> None:
        """Find exact centroids again, where the next step is to have new ones."""
        c = self.centroids
        if c.estimator == "exact" and self.step % c.every == 0:
            net = self.ema if c.network == "ema" and self.ema is not None else self.model
            c.refit(net, self.labeled.subset(c.images))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that a checkpoint holds, by its owner's name."""
        return {
            **self.owned,
            **{f"optimizer.{k}": t for k, t in self.optimizer.slots()},
            **{f"tally.{k}": t for k, t in self.metrics.tensors().items()},
        }

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds beside its tensors."""
        alarms = {"in_a_row": self.alarms.in_a_row, "told": list(self.alarms.told)}
        return {"tally": list(self.metrics.names), "judged": self.judged, "collapsed": self.collapsed, **alarms}

    def restore(self, step: int, facts: Mapping[str, Any]) -> dict[str, Tensor]:
        """Take the facts of a checkpoint; gives the tensors that its own are to be copied into."""
        self.step, self.judged, self.collapsed = step, facts["judged"], facts["collapsed"]
        self.metrics.open(list(facts["tally"]))
        self.alarms.in_a_row, self.alarms.told = facts["in_a_row"], list(facts["told"])
        return self.tensors()


def owned_tensors(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every persistent tensor once, under the first part that reaches it, by identity."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for owner, part in parts.items():
        for name, tensor in part.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{owner}.{name}"] = tensor
    return found


def own_groups(parts: Mapping[str, nn.Module], params: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Parameters of modules that carry an `optim` dict: their own learning rate, momentum and weight decay."""
    names = {id(p): k for k, p in params.items()}
    return {
        names[id(p)]: module.optim  # type: ignore[misc]
        for part in parts.values()
        for module in part.modules()
        if isinstance(getattr(module, "optim", None), dict)
        for p in module.parameters(recurse=False)
        if id(p) in names
    }
