"""Explains a recipe: the calls of one training step, which is run for this, and the schedules in steps.

`mmctl recipe show` runs the step with a small backbone and, where the data set needs files, on random images: forward
passes, batch norm and gradients depend on the method alone.
"""

from __future__ import annotations

import inspect
import math
import shutil
import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch

from mmctl.errors import MmctlError
from mmctl.preview.trace_step import CLASSES, SIDE, TracedCall, noise_data, trace_step
from mmctl.recipe.recipe import Recipe
from mmctl.recipe.resolved import Part, policy_chain
from mmctl.recipe.settings import Centroids
from mmctl.registry.parameters import defaults
from mmctl.runs.build import Data, build_training, read_data
from mmctl.store.metrics import ENOUGH
from mmctl.text import literal, printable
from mmctl.training.schedules import length_of, steps_of
from mmctl.training.state import Training

Facts = dict[str, Any]
BN = {
    "update": "batch statistics, running statistics updated",
    "batch": "batch statistics, running statistics not updated",
    "running": "running statistics",
}
BUFFERS = {
    "copy": "copied from the network",
    "average": "averaged like the weights",
    "recompute": "recomputed on training images before each evaluation",
}


def explain(recipe: Recipe) -> Facts:
    """The explanation of a recipe as plain data; `failed` says why no step could be run."""
    try:
        small = recipe.with_sets(["backbone.name=mmctl:small", "train.compile=false"])
        data = _read_data(small) if _needs_no_files(recipe) else None
        run = build_training(small, data or noise_data(recipe), torch.device("cpu"), None)
        explanation = describe(recipe, run, data, trace_step(run))
    except Exception as error:
        # A recipe must be shown even if its step fails: the error is part of the explanation.
        text = str(error) if isinstance(error, MmctlError) else f"{type(error).__name__}: {error}"
        return describe(recipe, None, None, []) | {"failed": text.splitlines()[0] if text else type(error).__name__}
    backbone, small_backbone = recipe.data["backbone"]["name"], small.data["backbone"]["name"]
    images = "images of the data set" if data else f"random images of 3 x {SIDE} x {SIDE} in {CLASSES} classes"
    instead = f", with backbone {small_backbone} instead of {backbone}" if backbone != small_backbone else ""
    return explanation | {"traced_on": f"one training step on {images}{instead}"}


def _needs_no_files(recipe: Recipe) -> bool:
    """Whether the data set is part of mmctl or of a library, so that it can be read without a folder."""
    root = inspect.signature(recipe.resolved.parts["dataset", None].component).parameters.get("root")
    return root is None or root.default is not inspect.Parameter.empty


def _read_data(recipe: Recipe) -> Data | None:
    try:
        return read_data(recipe)
    except MmctlError:
        return None


def describe(recipe: Recipe, run: Training | None, data: Data | None, calls: list[TracedCall]) -> Facts:
    """Views, calls, loss terms, schedule and average of a recipe as plain data; data: None if it was not read."""
    total = recipe.settings.train.steps
    pools: dict[str, int | None] = {
        "labeled": len(data.split.labeled) if data else _as_count(recipe.settings.split.labels),
        "unlabeled": len(data.split.unlabeled) if data else None,
    }
    sizes = {"labeled": recipe.settings.train.batch, "unlabeled": recipe.settings.train.unlabeled_batch}
    plans = {at: run.plan(at) for at in sorted({0, total // 2, total - 1})} if run else {}
    entries = {key: part.entry for key, part in recipe.resolved.parts.items()}
    labeler, options = entries.get(("labeler", None)), {k: _changed(p) for k, p in recipe.resolved.parts.items()}
    supplied = [part.shape.supplied for part in recipe.resolved.parts.values()]
    losses = {}
    for slot, term in recipe.slots.items():
        length = steps_of(term.rampup, total)
        losses[slot] = {
            "loss": term.loss, "options": options.get(("loss", slot), {}), "weight": term.weight,
            "ramp": term.ramp if length else None, "ramp_steps": length,
            "ramp_share": length / total, "ramp_epochs": _epochs(length, sizes["unlabeled"], pools["unlabeled"]),
            "weights": {at: plan.weight[slot] for at, plan in plans.items()},
        }  # fmt: skip
    average = recipe.settings.average
    return {
        "method": recipe.method_name, "summary": entries["method", None].summary,
        "labeler": labeler.name if labeler else None, "labeler_summary": labeler.summary if labeler else None,
        "labeler_options": options.get(("labeler", None), {}),
        "views": _views(recipe, run),
        "centroids": recipe.data["centroids"] if any("centroids" in names for names in supplied) else None,
        "calls": [call._asdict() for call in calls],
        "losses": losses,
        "optimizer": recipe.data["optimizer"], "schedule": recipe.data["schedule"],
        "lr": {at: plan.lr for at, plan in plans.items()},
        "average": recipe.data["average"], "ema_horizon": 1 / (1 - average.decay) if average.kind == "ema" else None,
        "ema_warmup_steps": _ema_warmup_steps(average.decay) if average.kind == "ema" and average.warmup else 0,
        "steps": total, "batches": sizes, "sampling": recipe.settings.train.sampling, "pools": pools,
        "epochs": {key: _epochs(total, sizes[key], pool) for key, pool in pools.items()},
        "evaluations": math.ceil(total / recipe.settings.eval.every), "every": recipe.settings.eval.every,
        "traced_on": None, "failed": None,
    }  # fmt: skip


def _changed(part: Part) -> Facts:
    """The parameters of a component that differ from their defaults."""
    own = defaults(part.shape.model)
    return {key: value for key, value in part.params.items() if value != own.get(key)}


def _in_brackets(options: Facts) -> str:
    return f" ({', '.join(f'{key} = {literal(value)}' for key, value in options.items())})" if options else ""


def _as_count(labels: int | str) -> int | None:
    return labels if isinstance(labels, int) else None


def _epochs(steps: int, batch: int, pool: int | None) -> float | None:
    return steps * batch / pool if pool else None


def _ema_warmup_steps(decay: float) -> int:
    """The first step t at which (1 + t) / (10 + t) is not below `decay`."""
    return max(0, math.ceil((10 * decay - 1) / (1 - decay) - 1e-6))


def _views(recipe: Recipe, run: Training | None) -> dict[str, list[list[str]]]:
    """The augmentation policies of each view of a branch, in the order in which they are applied."""
    method = recipe.resolved.parts["method", None].component
    views_of = run.loader.views if run else getattr(method, "views", {})
    return {
        branch: [list(policy_chain(view, recipe.after)) for view in views]
        for branch, views in views_of.items()
        if views
    }


def explanation_lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """The explanation for people, as (heading, text); lines of one heading follow each other."""
    yield "method", f"{facts['method']}: {facts['summary']}"
    if facts["labeler"]:
        yield "labeler", f"{facts['labeler']}{_in_brackets(facts['labeler_options'])}: {facts['labeler_summary']}"
    yield from _view_lines(facts)
    yield from _step_lines(facts)
    if facts["centroids"]:
        yield "centroids", _centroids(facts["centroids"])
    for slot, term in facts["losses"].items():
        yield "loss", f"{slot}: {_loss_term(facts, term)}"
    yield "optimizer", _optimizer(facts)
    yield "average", _average(facts)
    for key, name in (("labeled", "labelled"), ("unlabeled", "unlabelled")):
        batch, pool, epochs = facts["batches"][key], facts["pools"][key], facts["epochs"][key]
        if key == "labeled" or "u" in facts["views"]:
            balanced = (
                " (the same number of each class)" if key == "labeled" and facts["sampling"] == "balanced" else ""
            )
            total = f"; {epochs:,.1f} epochs over {pool:,} images" if epochs else ""
            yield "images", f"{batch} {name} per step{balanced}{total}"
    reported = f"the median of the last {ENOUGH}" if facts["evaluations"] >= ENOUGH else "the last one"
    yield "evaluation", f"every {facts['every']:,} steps, {facts['evaluations']:,} in total; reported: {reported}"


def _view_lines(facts: Facts) -> Iterator[tuple[str, str]]:
    names = {"x": "labelled", "u": "unlabelled"}
    for branch, views in facts["views"].items():
        policies = groupby(" then ".join(chain) or "clean (no augmentation)" for chain in views)
        counted = [f"{n} x {policy}" if (n := len(list(same))) > 1 else policy for policy, same in policies]
        yield "views", f"{len(views)} of each {names.get(branch, branch)} image: {', '.join(counted)}"


def _step_lines(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts["failed"]:
        yield "step", f"could not be run: {facts['failed']}"
        return
    nets = {"network": "the network", "average": f"the {facts['average']['kind'].upper()} network"}
    last = nets["network"]
    for number, (call, same) in enumerate(groupby(facts["calls"]), 1):
        times = len(list(same))
        if call["net"] == "labeler":
            yield "step", f"{number}. {facts['labeler']} makes pseudo-labels from the outputs of {last}"
            continue
        last = nets[call["net"]]
        images = f"{f'{times} x ' if times > 1 else ''}{call['images']} images"
        views = f" ({call['views']})" if call["views"] else ""
        gradient = "with gradient" if call["gradient"] else "no gradient"
        yield "step", f"{number}. forward pass of {last} on {images}{views}, {gradient}; batch norm: {BN[call['bn']]}"
    if facts["traced_on"]:
        yield "traced on", facts["traced_on"]


def _centroids(table: Facts) -> str:
    usual = defaults(Centroids)
    geometry = ("normalize_embeddings", "normalize_centroids", "distance")
    return _estimator(table) + _in_brackets({key: table[key] for key in geometry if table[key] != usual[key]})


def _estimator(table: Facts) -> str:
    if table["estimator"] == "exact":
        every = f"every {table['every']:,} steps" if table["every"] > 1 else "before each step"
        net = "EMA network" if table["network"] == "ema" else "network"
        return f"exact: recomputed {every} from at most {table['images']:,} labelled images with the {net}"
    rate = f", rate {table['rate']:g}" if table["estimator"] in ("running", "ema", "learned") else ""
    return f"{table['estimator']}{rate}, updated in each step"


def _loss_term(facts: Facts, term: Facts) -> str:
    name = (term["loss"] or "computed by the method").removeprefix("mmctl:") + _in_brackets(term["options"])
    if not term["weight"]:
        return f"{name}, weight 0: reported, not part of the loss"
    text = f"{name}, weight {term['weight']:g}"
    if not term["ramp_steps"]:
        return text
    text += f", {term['ramp']} ramp over {term['ramp_steps']:,} steps ({_share(term['ramp_share'])}"
    text += f", {term['ramp_epochs']:,.1f} epochs of the unlabelled images" if term["ramp_epochs"] else ""
    ends = list(term["weights"].values())[-1:] if term["ramp_share"] > 1 else []
    return text + "".join(f"; weight at the end {end:.3g}" for end in ends) + ")"


def _share(share: float) -> str:
    return f"{100 * share:.3g} % of the run" if share <= 1 else f"{share:.3g} times the run"


def _optimizer(facts: Facts) -> str:
    optimizer, schedule = facts["optimizer"], facts["schedule"]
    text = f"{optimizer['name']}, learning rate {optimizer['lr']:g}, {schedule['name']} over {facts['steps']:,} steps"
    if schedule["name"] == "cyclic":
        horizon, start, cycle = (length_of(schedule[key], facts["steps"]) for key in ("horizon", "start", "cycle"))
        text += (
            f": a cosine that would reach 0 at step {horizon:,}; from step {start:,} its last {cycle:,} steps repeat"
        )
    if warm := steps_of(schedule["warmup"], facts["steps"]):
        text += f", after a linear warm-up of {warm:,} steps"
    if len(set(facts["lr"].values())) > 1:
        text += " (" + ", ".join(f"{lr:.3g} at step {at:,}" for at, lr in facts["lr"].items()) + ")"
    decay = optimizer["weight_decay"]
    if optimizer["name"] == "adamw" and decay:
        factor = decay * optimizer["lr"]
        return f"{text}; decoupled weight decay {decay:g} (each step multiplies weights by 1 - {factor:.2g})"
    return text + (f"; L2 weight decay {decay:g}" if decay else "; no weight decay")


def _average(facts: Facts) -> str:
    average = facts["average"]
    if average["kind"] == "none":
        return "none: the network itself is evaluated"
    buffers = f"batch-norm statistics: {BUFFERS[average['buffers']]}"
    if average["kind"] == "swa":
        start, every = (length_of(average[key], facts["steps"]) for key in ("start", "every"))
        return (
            f"SWA: mean of the networks after steps {start:,}, {start + every:,}, {start + 2 * every:,} ...; {buffers}"
        )
    warm, horizon = facts["ema_warmup_steps"], facts["ema_horizon"]
    text = f"EMA, decay {average['decay']:g}: averages about the last {horizon:,.0f} steps"
    text += f" ({_share(horizon / facts['steps'])}"
    text += f"; the decay is lower before step {warm:,}" if warm else ""
    text += ", which this run does not reach)" if warm >= facts["steps"] else ")"
    return f"{text}; {buffers}"


def comment(facts: Facts) -> str:
    """The explanation as TOML comment lines, no wider than the terminal."""
    width = max(40, min(100, shutil.get_terminal_size((100, 24)).columns))
    comments: list[str] = []
    previous = ""
    for heading, text in explanation_lines(facts):
        first = f"# {heading if heading != previous else '':<11}"
        previous = heading
        comments += textwrap.wrap(
            printable(text), width, initial_indent=first, subsequent_indent="#" + " " * 14,
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip
    return "\n".join(comments)
