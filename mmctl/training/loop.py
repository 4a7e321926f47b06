"""The training loop. Read it from top to bottom: events, the loop, one step, evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmctl import ops
from mmctl.data.draws import rekey_global_generators
from mmctl.data.loader import prefetch
from mmctl.data.transfer import DevicePlan
from mmctl.errors import Diverged
from mmctl.training.cuda_graph import StepRunner
from mmctl.training.evaluate import EvaluationStopped, Scores, evaluate, refit_centroids
from mmctl.training.state import Training


class Started(NamedTuple):
    """An attempt begins, on this hardware."""

    step: int
    hardware: str


class Point(NamedTuple):
    """A point of the training curve: means of the losses and metrics since the last point."""

    step: int
    values: dict[str, float]


class Evaluated(NamedTuple):
    """The evaluation of one network on one split."""

    step: int
    split: str
    weights: str  # raw or ema
    scores: dict[str, Scores]  # by predictor: head, centroid
    agreement: float  # share of images on which both predict the same class


class Alarm(NamedTuple):
    """A sign that training has gone wrong; `collapsed` ends the run if train.on_collapse = "stop"."""

    step: int
    kind: str
    text: str
    collapsed: bool


class Notice(NamedTuple):
    """A message for the user that is not an alarm."""

    step: int
    text: str


class Saved(NamedTuple):
    """A request to save a checkpoint: the receiver must copy the state before training continues."""

    step: int
    reason: str  # periodic, best, last or interrupt


Event = Started | Point | Evaluated | Alarm | Notice | Saved | None


def train(run: Training, stop: Callable[[], bool], ahead: int | None = None) -> Iterator[Event]:
    """Train from run.step to run.steps; yields each event as it happens, and None after every step.

    stop: asked after each step; True ends training with a checkpoint. ahead: plans that a thread prepares early.
    """
    if run.step and run.due("eval"):
        yield from evaluate_all(run, stop)  # a signal may have stopped it before; repeated, it gives the same numbers
    stop_on_collapse = run.settings.train.on_collapse == "stop"
    if run.evaluation_stopped or (run.collapsed and stop_on_collapse):
        return  # after another step, this evaluation could not be done any more
    if ahead is None:
        # On a CPU, a thread would take time from the step; draws of foreign code may share global generators with it.
        ahead = 2 if run.device.type == "cuda" and not run.loader.foreign else 0
    advance = StepRunner(run, device_step)
    for plan in prefetch(run.plan, run.step, run.steps, ahead):
        rekey_global_generators(run.seed, run.step)
        run.refit()
        advance(plan)
        run.step += 1
        if advance.newly_eager():
            yield Notice(run.step, f"no CUDA graph ({advance.why}): steps run operation by operation, which is slower")
        if run.due("log"):
            point = Point(run.step, {"lr": plan.lr, **{f"train/{k}": v for k, v in run.metrics.read().items()}})
            point.values.update({f"train/{k}": v.item() for k, v in _centroid_signals(run).items()})
            yield point
            yield from alarm_events(run, run.alarms.point(run.step, point.values))
        if run.due("eval"):
            yield from evaluate_all(run, stop)
        halt = stop() or bool(run.collapsed and stop_on_collapse)
        best = run.best.step == run.step
        if halt or best or run.due("save"):
            run.metrics.check()  # never save NaN or infinite values
            check_weights(run)
            why = "interrupt" if halt else "best" if best else "periodic"
            yield Saved(run.step, "last" if run.step == run.steps else why)
        if halt:
            return
        yield None


def device_step(run: Training, staged: DevicePlan) -> None:
    """One training step that never waits for the device; a CUDA graph contains exactly this function."""
    for net in run.nets.values():
        net.calls.clear()
    batch = run.loader.batch(staged)
    output = run.method.step(batch)
    weighted = [staged.weight[k] * v for k, v in output.losses.items() if run.slots[k].weight]
    loss = torch.stack(weighted).sum() if len(weighted) > 1 else weighted[0]
    loss.backward()
    average_gradients(run.params)
    run.optimizer.step(staged.lr)
    if run.ema is not None:
        run.ema.update_average(staged.share)
    run.metrics.add(staged.step + 1, output, loss, run.loader.hidden[batch.index_u])


def evaluate_all(run: Training, stop: Callable[[], bool]) -> Iterator[Event]:
    """Evaluate every network on every split, by head and by centroid; if stopped, no result is yielded."""
    results: list[Evaluated] = []
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)  # steps that the device has still to do are no time of the evaluation
    start = time.perf_counter()
    try:
        for weights in run.nets:
            rekey_global_generators(run.seed, run.step, "evaluation")
            net = run.ready(weights, stop)
            centroids = refit_centroids(net, run.centroids, run.labeled, stop)
            for split, pictures in run.splits.items():
                results.append(Evaluated(run.step, split, weights, *evaluate(net, pictures, centroids, stop)))
    except EvaluationStopped:
        run.evaluation_stopped = True
        return
    finally:
        run.seconds_aside += time.perf_counter() - start
    run.evaluation_stopped = False
    yield from results
    values = {
        f"{e.split}/{e.weights}/{p}/{m}": v for e in results for p, s in e.scores.items() for m, v in s.metrics.items()
    }
    run.best.offer(run.step, values)
    if run.last_evaluated_step == run.step:
        return  # the alarms checked it before the checkpoint from which this attempt resumed
    run.last_evaluated_step = run.step
    yield from alarm_events(run, run.alarms.evaluated(values))


def alarm_events(run: Training, alarms: list[tuple[str, str, bool]]) -> Iterator[Alarm]:
    """The alarms as events; run.collapsed keeps the text of the first one that reports a collapse."""
    for kind, text, collapsed in alarms:
        run.collapsed = run.collapsed or (text if collapsed else "")
        yield Alarm(run.step, kind, text, collapsed)


def _centroid_signals(run: Training) -> dict[str, Tensor]:
    return run.centroids.signals() if bool(run.centroids.seen_K.any()) else {}


def average_gradients(params: list[nn.Parameter]) -> None:
    """Average the gradients over all ranks in one all-reduce; on one process there is nothing to do.

    Not DistributedDataParallel, because a step has several forwards.
    """
    if ops.world_size() == 1:
        return
    # A parameter without gradient has none on any rank, and the optimizer leaves it alone, as on one process.
    grads = [p.grad for p in params if p.grad is not None]
    with torch.no_grad():
        flat = ops.all_reduce_sum(torch.cat([g.flatten() for g in grads])) / ops.world_size()
        for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))


def check_weights(run: Training) -> None:
    """Raise Diverged if a weight is NaN or infinite: a loss can be finite while its gradient is not."""
    with torch.no_grad():
        # A sum is NaN or infinite if one of its terms is, and costs a tenth of checking each.
        sums = torch.stack([p.sum() for p in run.params])
    if not bool(torch.isfinite(sums).all()):
        raise Diverged("a weight of the network", run.step)
