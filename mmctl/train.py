"""The training loop, read top to bottom: the state of a run, one step, and the loop around it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmctl import ops
from mmctl.alarms import Alarms
from mmctl.capture import Ladder
from mmctl.centroids import Centroids
from mmctl.errors import Diverged
from mmctl.evaluate import Cut, Scores, evaluate, fitted, renormed
from mmctl.loader import Loader, generator, key, prefetch
from mmctl.model import Average, Model, average_share
from mmctl.optimizer import Optimizer, learning_rate, length_of, ramp
from mmctl.owners import own_groups, owned
from mmctl.pictures import Pictures
from mmctl.plugin import Slot
from mmctl.stage import Plan, Stage, Staged
from mmctl.tally import Tally


class Point(NamedTuple):
    """Means of the training figures since the last point."""

    step: int
    values: dict[str, float]


class Evaluated(NamedTuple):
    """One network on one split."""

    step: int
    split: str
    weights: str  # raw or ema
    scores: dict[str, Scores]  # by predictor: head, centroid
    agreement: float  # of the two


class Alarm(NamedTuple):
    """Something that a person should look at; `collapsed` ends the run where the recipe says so."""

    step: int
    kind: str
    text: str
    collapsed: bool


class Saved(NamedTuple):
    """The state after `step` steps, to be copied before training goes on."""

    step: int
    reason: str  # periodic, last or interrupt


Event = Point | Evaluated | Alarm | Saved | None


@dataclass
class Training:
    """All that a run is made of. Everything that changes from step to step is reached by `tensors`."""

    parts: dict[str, nn.Module]  # owners, in order: model, ema, centroids, labeler, loss.SLOT, augment.NAME, method
    loader: Loader
    settings: Any  # the recipe's train, eval, optimizer, schedule and average tables
    slots: Mapping[str, Slot]
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
        self.owned = owned(self.parts)
        params = {k: t for k, t in self.owned.items() if isinstance(t, nn.Parameter) and t.requires_grad}
        self.params = list(params.values())
        self.optimizer = Optimizer(params, own_groups(self.parts, params), self.settings.optimizer)
        self.stage = Stage(self.device)
        self.tally = Tally(self.centroids.num_classes, self.device)
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
        return net if self.pool is None or weights == "raw" else renormed(net, self.pool, stop)

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

    def staged(self, step: int) -> Staged:
        """All that step `step` is made of, on the device."""
        return self.stage(self.plan(step))

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
            c.refit(net, self.labeled.few(c.images))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that a checkpoint holds, by its owner's name."""
        return {
            **self.owned,
            **{f"optimizer.{k}": t for k, t in self.optimizer.slots()},
            **{f"tally.{k}": t for k, t in self.tally.tensors().items()},
        }

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds beside its tensors."""
        alarms = {"in_a_row": self.alarms.in_a_row, "told": list(self.alarms.told)}
        return {"tally": list(self.tally.names), "judged": self.judged, "collapsed": self.collapsed, **alarms}

    def restore(self, step: int, facts: Mapping[str, Any]) -> dict[str, Tensor]:
        """Take the facts of a checkpoint; gives the tensors that its own are to be copied into."""
        self.step, self.judged, self.collapsed = step, facts["judged"], facts["collapsed"]
        self.tally.open(list(facts["tally"]))
        self.alarms.in_a_row, self.alarms.told = facts["in_a_row"], list(facts["told"])
        return self.tensors()


def train(run: Training, stop: Callable[[], bool], ahead: int | None = None) -> Iterator[Event]:
    """From run.step to run.steps; yields what happened to whoever keeps the books, and None after every step."""
    if run.step and run.due("eval"):
        yield from scores(run, stop)  # a signal may have cut it short; it is pure, so its rows are the same
    ends = run.settings.train.on_collapse == "stop"
    if run.cut or (run.collapsed and ends):
        return  # a step further, and the evaluation would never be made good
    if ahead is None:
        ahead = 2 if run.device.type == "cuda" else 0  # on a CPU the thread would only take the step's own time
    advance = Ladder(run, device_step)
    for plan in prefetch(run.plan, run.step, run.steps, ahead):
        rekey_global_generators(run.seed, run.step)  # for foreign code alone: dropout, drop path, plugins
        run.refit()
        advance(plan)
        run.step += 1
        if advance.told():
            yield Alarm(run.step, "rung", f"steps are taken one operation at a time: {advance.why}", False)
        if run.due("log"):
            point = Point(run.step, {"lr": plan.lr, **{f"train/{k}": v for k, v in run.tally.read().items()}})
            point.values.update({f"train/{k}": v.item() for k, v in _centroid_signals(run).items()})
            yield point
            yield from said(run, run.alarms.point(run.step, point.values))
        if run.due("eval"):
            yield from scores(run, stop)
        halt = stop() or bool(run.collapsed and ends)
        if halt or run.due("save"):
            run.tally.check()  # a state that is not finite is never saved
            check_weights(run)
            yield Saved(run.step, "last" if run.step == run.steps else "interrupt" if halt else "periodic")
        if halt:
            return
        yield None


def device_step(run: Training, staged: Staged) -> None:
    """One step without a read from the device: exactly what a CUDA graph holds."""
    for net in run.nets.values():
        net.calls.clear()
    batch = run.loader.batch(staged)
    terms = run.method.step(batch)
    weighted = [staged.weight[k] * v for k, v in terms.losses.items() if run.slots[k].weight]
    loss = torch.stack(weighted).sum() if len(weighted) > 1 else weighted[0]
    loss.backward()
    average_gradients(run.params)
    run.optimizer.step(staged.lr)
    if run.ema is not None:
        run.ema.follow(staged.share)
    run.tally.add(staged.step + 1, terms, loss, run.loader.hidden[batch.index_u])


def scores(run: Training, stop: Callable[[], bool]) -> Iterator[Event]:
    """Every network on every split, by head and by centroid; nothing of it if stopped on the way."""
    found: list[Evaluated] = []
    try:
        for weights in run.nets:
            net = run.ready(weights, stop)
            centroids = fitted(net, run.centroids, run.labeled, stop)
            for split, pictures in run.splits.items():
                found.append(Evaluated(run.step, split, weights, *evaluate(net, pictures, centroids, stop=stop)))
    except Cut:
        run.cut = True
        return
    run.cut = False
    yield from found
    if run.judged == run.step:
        return  # before the checkpoint that this attempt goes on from
    run.judged = run.step
    values = {
        f"{e.split}/{e.weights}/{p}/{m}": v for e in found for p, s in e.scores.items() for m, v in s.metrics.items()
    }
    yield from said(run, run.alarms.evaluated(values))


def said(run: Training, alarms: list[tuple[str, str, bool]]) -> Iterator[Alarm]:
    """The alarms as events; the first that tells a collapse is remembered."""
    for kind, text, collapsed in alarms:
        run.collapsed = run.collapsed or (text if collapsed else "")
        yield Alarm(run.step, kind, text, collapsed)


def _centroid_signals(run: Training) -> dict[str, Tensor]:
    return run.centroids.signals() if bool(run.centroids.seen_K.any()) else {}


def average_gradients(params: list[nn.Parameter]) -> None:
    """Mean over ranks, in one message; nothing alone. No DistributedDataParallel: a step has several forwards."""
    if ops.world() == 1:
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in params]
    flat = torch.cat([g.flatten() for g in grads]) / ops.world()
    dist.all_reduce(flat)
    for p, part in zip(params, torch.split(flat, [g.numel() for g in grads]), strict=True):
        p.grad = part.view_as(p)


def check_weights(run: Training) -> None:
    """A loss can be finite and its gradient not: never save such weights."""
    with torch.no_grad():
        # A sum is not finite where one of its terms is not, and costs a tenth of looking at each.
        sums = torch.stack([p.sum() for p in run.params])
    if not bool(torch.isfinite(sums).all()):
        raise Diverged("a weight of the network", run.step)


def rekey_global_generators(seed: int, step: int) -> None:
    """Seed the global generators from (seed, step): no state of theirs survives a step, so none has to be saved."""
    number = int(generator(seed, "global", step).integers(2**32))
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def seed_initialisation(seed: int) -> None:
    """The same start on every device: parts are made on the CPU after this, then moved."""
    torch.manual_seed(key(seed, "init") % 2**63)
    np.random.seed(key(seed, "init") % 2**32)
    random.seed(key(seed, "init"))
