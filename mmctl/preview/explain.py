"""What a recipe's method does in a step, told from one step that really ran; what its schedules come to, in steps.

`mmctl recipe show` rehearses on a small network and, where the data lie in files, on made-up pictures: which networks
are asked, with how many pictures, which batch norm and which gradient, is the method's and hangs on neither.
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
from mmctl.preview.trace_step import CLASSES, SIDE, Pass, noise_data, trace_step
from mmctl.recipe.recipe import Recipe
from mmctl.recipe.resolved import policy_chain
from mmctl.runs.build import Data, build_training, read_data
from mmctl.store.metrics import ENOUGH
from mmctl.text import printable
from mmctl.training.schedules import length_of, steps_of
from mmctl.training.state import Training

Value = dict[str, Any]
BN = {
    "update": "by the batch and updated",
    "batch": "by the batch, not updated",
    "running": "by its running statistics",
}
BUFFERS = {
    "copy": "copied from the network",
    "average": "averaged too",
    "recompute": "found anew on training pictures for each evaluation",
}


def explain(recipe: Recipe) -> Value:
    """Everything that is told of a recipe, after a rehearsal."""
    try:
        small = recipe.with_(["backbone.name=mmctl:small", "train.compile=false"])
        data = _own_data(small) if _embedded(recipe) else None
        run = build_training(small, data or noise_data(recipe), torch.device("cpu"), None)
        found = describe(recipe, run, data, trace_step(run))
    except Exception as error:
        # Showing a recipe needs no step of it: what keeps one from being made is part of what is shown.
        text = str(error) if isinstance(error, MmctlError) else f"{type(error).__name__}: {error}"
        return describe(recipe, None, None, []) | {"failed": text.splitlines()[0] if text else type(error).__name__}
    mine, backbone = recipe.data["backbone"]["name"], small.data["backbone"]["name"]
    on = "the data set's own pictures" if data else f"made-up pictures of 3 x {SIDE} x {SIDE} in {CLASSES} classes"
    with_ = f", with the network {backbone} in place of {mine}" if mine != backbone else ""
    return found | {"rehearsed": f"on {on}{with_}: forwards, batch norm and gradients are the method's own"}


def _embedded(recipe: Recipe) -> bool:
    """Whether the data set can be read without any file."""
    root = inspect.signature(recipe.resolved.parts["dataset", None].component).parameters.get("root")
    return root is None or root.default is not inspect.Parameter.empty


def _own_data(recipe: Recipe) -> Data | None:
    try:
        return read_data(recipe)
    except MmctlError:
        return None


def describe(recipe: Recipe, run: Training | None, data: Data | None, steps: list[Pass]) -> Value:
    """One object with views, passes, loss terms, schedule and average; data: the recipe's own, if they are known."""
    total = recipe.settings.train.steps
    pools: dict[str, int | None] = {
        "labeled": len(data.split.labeled) if data else _whole(recipe.settings.split.labels),
        "unlabeled": len(data.split.unlabeled) if data else None,
    }
    sizes = {"labeled": recipe.settings.train.batch, "unlabeled": recipe.settings.train.unlabeled_batch}
    plans = {at: run.plan(at) for at in sorted({0, total // 2, total - 1})} if run else {}
    entries = {key: part.entry for key, part in recipe.resolved.parts.items()}
    labeler = entries.get(("labeler", None))
    asked = [part.shape.supplied for part in recipe.resolved.parts.values()]
    losses = {}
    for slot, term in recipe.slots.items():
        length = steps_of(term.rampup, total)
        losses[slot] = {
            "loss": term.loss, "weight": term.weight, "ramp": term.ramp if length else None, "ramp_steps": length,
            "ramp_share": length / total, "ramp_epochs": _epochs(length, sizes["unlabeled"], pools["unlabeled"]),
            "weights": {at: plan.weight[slot] for at, plan in plans.items()},
        }  # fmt: skip
    average = recipe.settings.average
    horizon = 1 / (1 - average.decay) if average.kind == "ema" else None
    return {
        "method": recipe.method_name, "summary": entries["method", None].summary,
        "labeler": labeler.name if labeler else None, "labeler_summary": labeler.summary if labeler else None,
        "views": _views(recipe, run),
        "centroids": recipe.data["centroids"] if any("centroids" in shape for shape in asked) else None,
        "passes": [one._asdict() for one in steps],
        "losses": losses,
        "optimizer": recipe.data["optimizer"], "schedule": recipe.data["schedule"],
        "lr": {at: plan.lr for at, plan in plans.items()},
        "average": recipe.data["average"], "horizon": horizon,
        "settles": _settles(average.decay) if average.kind == "ema" and average.warmup else 0,
        "steps": total, "batches": sizes, "sampling": recipe.settings.train.sampling, "pools": pools,
        "seen": {key: _epochs(total, sizes[key], pool) for key, pool in pools.items()},
        "evaluations": math.ceil(total / recipe.settings.eval.every), "every": recipe.settings.eval.every,
        "rehearsed": None, "failed": None,
    }  # fmt: skip


def _whole(labels: int | str) -> int | None:
    return labels if isinstance(labels, int) else None


def _epochs(steps: int, batch: int, pool: int | None) -> float | None:
    return steps * batch / pool if pool else None


def _settles(decay: float) -> int:
    """The step from which (1 + t) / (10 + t) no longer holds the average's decay below its value."""
    return max(0, math.ceil((10 * decay - 1) / (1 - decay) - 1e-6))


def _views(recipe: Recipe, run: Training | None) -> dict[str, list[list[str]]]:
    """The policies of each view of a branch, in the order in which they are applied."""
    method = recipe.resolved.parts["method", None].component
    shown = run.loader.views if run else getattr(method, "views", {})

    return {
        branch: [list(policy_chain(view, recipe.after)) for view in views] for branch, views in shown.items() if views
    }


def lines(found: Value) -> Iterator[tuple[str, str]]:
    """The explanation for people, as (heading, text); a heading is empty where it is the one before."""
    yield "method", f"{found['method']}: {found['summary']}"
    if found["labeler"]:
        yield "labeler", f"{found['labeler']}: {found['labeler_summary']}"
    yield from _shown(found)
    yield from _one_step(found)
    if found["centroids"]:
        yield "centroids", _centroids(found["centroids"])
    for slot, term in found["losses"].items():
        yield "loss", f"{slot}: {_term(found, term)}"
    yield "optimizer", _optimizer(found)
    yield "average", _average(found)
    for key, name in (("labeled", "labelled"), ("unlabeled", "unlabelled")):
        batch, seen = found["batches"][key], found["seen"][key]
        if key == "labeled" or "u" in found["views"]:
            often = f": each of {found['pools'][key]:,} seen {seen:,.1f} times" if seen else ""
            even = " (as many of each class)" if key == "labeled" and found["sampling"] == "balanced" else ""
            yield "pictures", f"{batch} {name} a step{even}{often}"
    rule = f"the median of the last {ENOUGH}" if found["evaluations"] >= ENOUGH else "the last one"
    yield "evaluation", f"every {found['every']:,} steps, {found['evaluations']:,} in all; the headline is {rule}"


def _shown(found: Value) -> Iterator[tuple[str, str]]:
    names = {"x": "labelled", "u": "unlabelled"}
    for branch, views in found["views"].items():
        policies = groupby(" then ".join(chain) or "clean (as it is)" for chain in views)
        many = [f"{n} x {one}" if (n := len(list(same))) > 1 else one for one, same in policies]
        yield "views", f"{len(views)} of each {names.get(branch, branch)} picture: {', '.join(many)}"


def _one_step(found: Value) -> Iterator[tuple[str, str]]:
    if found["failed"]:
        yield "step", f"could not be rehearsed: {found['failed']}"
        return
    last = "network"
    for number, (one, same) in enumerate(groupby(found["passes"]), 1):
        times = len(list(same))
        if one["net"] == "labeler":
            yield "step", f"{number}. {found['labeler']} labels the unlabelled pictures by what the {last} said"
            continue
        last = one["net"]
        many = f"{times} x {one['images']}" if times > 1 else str(one["images"])
        what = f"pictures ({one['shown']})" if one["shown"] else "pictures"
        gradient = "with gradient" if one["gradient"] else "no gradient"
        yield "step", f"{number}. {many} {what} through the {last}, {gradient}; batch norm {BN[one['bn']]}"
    if found["rehearsed"]:
        yield "rehearsed", found["rehearsed"]


def _centroids(table: Value) -> str:
    if table["estimator"] == "exact":
        every = f"every {table['every']:,} steps" if table["every"] > 1 else "before each step"
        text = f"exact, found again {every} from at most {table['images']:,} labelled pictures"
        return f"{text} by the {'average' if table['network'] == 'ema' else 'network'}"
    rate = f", rate {table['rate']:g}" if table["estimator"] in ("running", "ema", "learned") else ""
    return f"{table['estimator']}{rate}, in every step"


def _term(found: Value, term: Value) -> str:
    name = (term["loss"] or "computed by the method").removeprefix("mmctl:")
    if not term["weight"]:
        return f"{name}, weight 0: reported, not trained"
    text = f"{name}, weight {term['weight']:g}"
    if not term["ramp_steps"]:
        return text
    text += f", {term['ramp']} ramp over {term['ramp_steps']:,} steps ({_share(term['ramp_share'])}"
    text += f", {term['ramp_epochs']:,.1f} times the unlabelled pictures" if term["ramp_epochs"] else ""
    ends = list(term["weights"].values())[-1:] if term["ramp_share"] > 1 else []
    return text + "".join(f"; ends at {end:.3g}" for end in ends) + ")"


def _share(share: float) -> str:
    return f"{100 * share:.3g} % of the run" if share <= 1 else f"{share:.3g} times the run"


def _optimizer(found: Value) -> str:
    optimizer, schedule = found["optimizer"], found["schedule"]
    text = f"{optimizer['name']}, learning rate {optimizer['lr']:g}, {schedule['name']} over {found['steps']:,} steps"
    if schedule["name"] == "cyclic":
        horizon, start, cycle = (length_of(schedule[key], found["steps"]) for key in ("horizon", "start", "cycle"))
        text += f", a cosine towards 0 at {horizon:,}, left at {start:,} to repeat its last {cycle:,} steps"
    if warm := steps_of(schedule["warmup"], found["steps"]):
        text += f" after {warm:,} of warm-up"
    if len(set(found["lr"].values())) > 1:
        text += " (" + ", ".join(f"{lr:.3g} at step {at:,}" for at, lr in found["lr"].items()) + ")"
    decay = optimizer["weight_decay"]
    if optimizer["name"] == "adamw" and decay:
        return (
            text + f"; weights shrink by {decay * optimizer['lr']:.2g} of themselves a step (decoupled decay {decay:g})"
        )
    return text + (f"; weight decay {decay:g} in the gradient (L2)" if decay else "; no weight decay")


def _average(found: Value) -> str:
    average = found["average"]
    if average["kind"] == "none":
        return "none: the network itself is evaluated"
    buffers = BUFFERS[average["buffers"]]
    if average["kind"] == "swa":
        start, every = (length_of(average[key], found["steps"]) for key in ("start", "every"))
        text = f"equal mean of the networks after steps {start:,}, {start + every:,}, {start + 2 * every:,} ... (SWA)"
        return f"{text}; batch-norm statistics {buffers}"
    text = f"decay {average['decay']:g}: over the last {found['horizon']:,.0f} steps or so"
    text += f" ({_share(found['horizon'] / found['steps'])}"
    text += f"; fewer before step {found['settles']:,}" if found["settles"] else ""
    text += ", which this run does not reach)" if found["settles"] >= found["steps"] else ")"
    return text + f"; batch-norm statistics {buffers}"


def comment(found: Value) -> str:
    """The explanation as comment lines above a recipe, no wider than the terminal."""
    width = max(40, min(100, shutil.get_terminal_size((100, 24)).columns))
    made: list[str] = []
    before = ""
    for heading, text in lines(found):
        first = f"# {heading if heading != before else '':<11}"
        before = heading
        made += textwrap.wrap(
            printable(text), width, initial_indent=first, subsequent_indent="#" + " " * 14,
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip
    return "\n".join(made)
