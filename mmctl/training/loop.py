"""The training loop, read top to bottom: events, the loop, one step, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmctl import ops
from mmctl.data.draws import rekey_global_generators
from mmctl.data.loader import prefetch
from mmctl.data.transfer import DevicePlan
from mmctl.errors import Diverged
from mmctl.training.cuda_graph import StepRunner
from mmctl.training.evaluate import EvaluationStopped, Scores, evaluate, refit_centroids
from mmctl.training.state import Training


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


class Notice(NamedTuple):
    """Something worth knowing that is no cause for alarm."""

    step: int
    text: str


class Saved(NamedTuple):
    """The state after `step` steps, to be copied before training goes on."""

    step: int
    reason: str  # periodic, last or interrupt


Event = Point | Evaluated | Alarm | Notice | Saved | None


def train(run: Training, stop: Callable[[], bool], ahead: int | None = None) -> Iterator[Event]:
    """Train from run.step to run.steps; yields each event as it happens, and None after every step."""
    if run.step and run.due("eval"):
        yield from evaluate_all(run, stop)  # a signal may have cut it short; it is pure, so its rows are the same
    ends = run.settings.train.on_collapse == "stop"
    if run.cut or (run.collapsed and ends):
        return  # a step further, and the evaluation would never be made good
    if ahead is None:
        ahead = 2 if run.device.type == "cuda" else 0  # on a CPU the thread would only take the step's own time
    advance = StepRunner(run, device_step)
    for plan in prefetch(run.plan, run.step, run.steps, ahead):
        rekey_global_generators(run.seed, run.step)  # for foreign code alone: dropout, drop path, plugins
        run.refit()
        advance(plan)
        run.step += 1
        if advance.newly_eager():
            yield Notice(run.step, f"no CUDA graph, steps run operation by operation: {advance.why}")
        if run.due("log"):
            point = Point(run.step, {"lr": plan.lr, **{f"train/{k}": v for k, v in run.metrics.read().items()}})
            point.values.update({f"train/{k}": v.item() for k, v in _centroid_signals(run).items()})
            yield point
            yield from alarm_events(run, run.alarms.point(run.step, point.values))
        if run.due("eval"):
            yield from evaluate_all(run, stop)
        halt = stop() or bool(run.collapsed and ends)
        if halt or run.due("save"):
            run.metrics.check()  # a state that is not finite is never saved
            check_weights(run)
            yield Saved(run.step, "last" if run.step == run.steps else "interrupt" if halt else "periodic")
        if halt:
            return
        yield None


def device_step(run: Training, staged: DevicePlan) -> None:
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
    run.metrics.add(staged.step + 1, terms, loss, run.loader.hidden[batch.index_u])


def evaluate_all(run: Training, stop: Callable[[], bool]) -> Iterator[Event]:
    """Every network on every split, by head and by centroid; nothing of it if stopped on the way."""
    found: list[Evaluated] = []
    try:
        for weights in run.nets:
            net = run.ready(weights, stop)
            centroids = refit_centroids(net, run.centroids, run.labeled, stop)
            for split, pictures in run.splits.items():
                found.append(Evaluated(run.step, split, weights, *evaluate(net, pictures, centroids, stop=stop)))
    except EvaluationStopped:
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
    yield from alarm_events(run, run.alarms.evaluated(values))


def alarm_events(run: Training, alarms: list[tuple[str, str, bool]]) -> Iterator[Alarm]:
    """The alarms as events; the first that tells a collapse is remembered."""
    for kind, text, collapsed in alarms:
        run.collapsed = run.collapsed or (text if collapsed else "")
        yield Alarm(run.step, kind, text, collapsed)


def _centroid_signals(run: Training) -> dict[str, Tensor]:
    return run.centroids.signals() if bool(run.centroids.seen_K.any()) else {}


def average_gradients(params: list[nn.Parameter]) -> None:
    """Mean over ranks, in one message; nothing alone. No DistributedDataParallel: a step has several forwards."""
    if ops.world_size() == 1:
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in params]
    flat = torch.cat([g.flatten() for g in grads]) / ops.world_size()
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
