"""The state of a run: its parts, the step number, and every tensor that a checkpoint saves.

A tensor that several parts share is saved once, under the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmctl.data.images import Pictures
from mmctl.data.loader import Loader
from mmctl.data.transfer import DevicePlan, Plan, Transfer
from mmctl.plugin import LossTerm
from mmctl.recipe.settings import Settings
from mmctl.training import unsaved
from mmctl.training.alarms import Alarms
from mmctl.training.best import Best
from mmctl.training.centroids import Centroids
from mmctl.training.evaluate import recompute_bn
from mmctl.training.model import Average, Model
from mmctl.training.optimizer import Optimizer
from mmctl.training.running_metrics import RunningMetrics
from mmctl.training.schedules import average_share, learning_rate, length_of, ramp


@dataclass
class Training:
    """A run in training: its parts and its state. `tensors` and `facts` give everything that changes during steps."""

    parts: dict[str, nn.Module]  # owners, in order: model, ema, centroids, labeler, loss.SLOT, augment.NAME, method
    loader: Loader
    settings: Settings
    slots: Mapping[str, LossTerm]
    seed: int
    device: torch.device
    labeled: Pictures
    splits: dict[str, Pictures]
    pool: Pictures | None = None  # images for recomputing the average's batch norm statistics
    step: int = 0
    evaluation_stopped: bool = False  # a signal stopped the last evaluation
    last_evaluated_step: int = -1  # of the last evaluation that the alarms have checked
    collapsed: str = ""  # the text of the alarm that reported a collapse
    best: Best = field(default_factory=Best)  # from the journal, not from the checkpoint
    other_components: Mapping[str, Any] = field(default_factory=dict)  # those that are no modules, by owner
    seconds_aside: float = 0.0  # spent on evaluation and saving, not on steps, since this object was made

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
        terms = {name: term.weight for name, term in self.slots.items()}
        self.alarms = Alarms(self.steps, f"{split}/{weights}/head/largest_class", terms)
        self._attributes = unsaved.snapshot({**self.parts, **self.other_components})

    @property
    def nets(self) -> dict[str, Model]:
        """The networks that are evaluated."""
        return {"raw": self.model} if self.ema is None else {"raw": self.model, "ema": self.ema}

    def ready(self, weights: str, stop: Callable[[], bool] = lambda: False) -> Model:
        """A network prepared for evaluation: an average gets recomputed batch norm statistics if the recipe says so."""
        net = self.nets[weights]
        return net if self.pool is None or weights == "raw" else recompute_bn(net, self.pool, stop)

    def plan(self, step: int) -> Plan:
        """The loader's plan, with learning rate, averaging share and loss weights of this step."""
        plan, s = self.loader.plan(step), self.settings
        lr, average, n = s.schedule, s.average, self.steps
        cycles = lr.horizon, lr.start, lr.cycle
        plan.lr = learning_rate(step, n, s.optimizer.lr, lr.name, lr.warmup, lr.final, cycles)
        start, every = length_of(average.start, n), length_of(average.every, n)
        plan.share = average_share(step, average.kind, average.decay, average.warmup, start, every)
        plan.weight = {k: ramp(step, self.steps, t.weight, t.rampup, t.ramp) for k, t in self.slots.items()}
        return plan

    def staged(self, step: int) -> DevicePlan:
        """The plan of step `step`, on the device."""
        return self.transfer(self.plan(step))

    def due(self, what: str) -> bool:
        """Whether it is time for `log`, `eval` or `save`: every n steps, and after the last step."""
        s = self.settings
        every = {"log": s.train.log_every, "eval": s.eval.every, "save": s.train.save_every}[what]
        return self.step == self.steps or self.step % every == 0

    def refit(self) -> None:
        """Recompute exact centroids before the next step, if it is time for them."""
        c = self.centroids
        if c.estimator == "exact" and self.step % c.every == 0:
            net = self.ema if c.network == "ema" and self.ema is not None else self.model
            c.refit(net, self.labeled.subset(c.images).dealt())

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that a checkpoint saves, by the name of its part."""
        return {
            **self.owned,
            **{f"optimizer.{k}": t for k, t in self.optimizer.slots()},
            **{f"tally.{k}": t for k, t in self.metrics.tensors().items()},
        }

    def facts(self) -> dict[str, Any]:
        """The plain values that a checkpoint saves. The keys are part of the checkpoint format: do not rename them."""
        return {
            "tally": list(self.metrics.names),
            "judged": self.last_evaluated_step,
            "collapsed": self.collapsed,
            "in_a_row": self.alarms.in_a_row,
            "told": list(self.alarms.reported),
            "unsaved": self.unsaved(),
        }

    def unsaved(self) -> list[str]:
        """Names of plain attributes of components that training has changed: state that no checkpoint has."""
        return unsaved.changed(self._attributes, unsaved.snapshot({**self.parts, **self.other_components}))

    def restore(self, step: int, facts: Mapping[str, Any]) -> dict[str, Tensor]:
        """Set the step and the plain values from a checkpoint; gives the tensors to copy its tensors into."""
        self.step, self.last_evaluated_step, self.collapsed = step, facts["judged"], facts["collapsed"]
        self.metrics.open(list(facts["tally"]))
        self.alarms.in_a_row, self.alarms.reported = facts["in_a_row"], list(facts["told"])
        return self.tensors()


def owned_tensors(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every persistent tensor of the parts, once, named after the first part that has it."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for owner, part in parts.items():
        for name, tensor in part.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{owner}.{name}"] = tensor
    return found


def own_groups(parts: Mapping[str, nn.Module], params: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Settings of parameters whose module has an `optim` dict: their own learning rate, momentum and weight decay."""
    names = {id(p): k for k, p in params.items()}
    return {
        names[id(p)]: module.optim  # type: ignore[misc]
        for part in parts.values()
        for module in part.modules()
        if isinstance(getattr(module, "optim", None), dict)
        for p in module.parameters(recurse=False)
        if id(p) in names
    }
