"""`mmctl run --dry-run`: what would happen, with a speed that was measured and not guessed."""

from __future__ import annotations

import time
from collections import Counter

import torch

from mmctl.assemble import DTYPES, assemble, device_of, precision_of, read_data, threads_of
from mmctl.optimizer import steps_of
from mmctl.pictures import Norm
from mmctl.progress import duration
from mmctl.recipe import Recipe
from mmctl.train import Training, device_step

MEASURED = 20
WARM = 3
BN = {"update": "updates batch norm", "batch": "batch statistics, no update", "running": "eval mode"}


def plan(recipe: Recipe) -> None:
    """Print the plan of a recipe; trains a few steps on the side and writes nothing."""
    device = device_of(recipe.train.device)
    precision = precision_of(recipe.train.precision, device)
    threads = threads_of(recipe.train.threads)
    torch.set_num_threads(threads)
    data = read_data(recipe)
    run = assemble(recipe, data, device, DTYPES[precision])
    images, split = data.images["train"], data.split
    shape = "x".join(str(n) for n in images.pixels.shape[1:])
    print(f"{recipe.name}  seed {recipe.seed}  cell {recipe.cell}")
    print(f"method      {recipe.method_name}" + (f", labels from {recipe.labeler_name}" if recipe.labeler_name else ""))
    print(
        f"data        {recipe.dataset_name}, {len(images.classes)} classes, {shape} uint8, "
        f"normalised by {_norm(run.loader.norm)}"
    )
    both = len(set(split.labeled.tolist()) & set(split.unlabeled.tolist()))
    print(
        f"pools       {len(images.ids)} train: {len(split.labeled)} labelled, {len(split.unlabeled)} unlabelled "
        f"({both} in both); evaluated on " + ", ".join(f"{k} ({len(p)})" for k, p in run.splits.items())
    )
    print("labels      " + ", ".join(f"{c} {n}" for c, n in zip(images.classes, split.counts, strict=True)))
    if len(split.val) > len(split.labeled):
        print("            note: more validation pictures than labels; choosing on them is unrealistic")
    weights = sum(p.numel() for p in run.params)
    print(f"network     {recipe.data['backbone']['name']}, {weights:,} weights, embedding {run.model.embed_dim}")
    print("views       " + "; ".join(f"{k}: {', '.join(v)}" for k, v in run.loader.views.items() if v))
    for slot, term in recipe.slots.items():
        ramp = steps_of(term.rampup, run.steps)
        text = f", {term.ramp} ramp over {ramp} steps" if ramp else ""
        print(f"loss        {slot}: {term.loss or 'of the method'}, weight {term.weight:g}{text}")
    seconds = measure(run)
    calls = Counter((len_, bn, grad) for net in run.nets.values() for len_, bn, grad in net.calls)
    for (n, bn, grad), times in calls.items():
        print(f"forward     {times} x {n} images, {BN[bn]}, {'with' if grad else 'no'} gradient")
    s = recipe.schedule
    print(
        f"schedule    {run.steps:,} steps, {recipe.optimizer.name} {recipe.optimizer.lr:g} {s.name}"
        + (f", warm-up {steps_of(s.warmup, run.steps)} steps" if s.warmup else "")
        + (f", average {recipe.average.decay:g}" if run.ema is not None else ", no average")
    )
    for epoch, pool, batch in (
        ("labelled", split.labeled, recipe.train.batch),
        ("unlabelled", split.unlabeled, run.loader.sizes["u"]),
    ):
        if batch:
            seen = run.steps * batch / max(1, len(pool))
            print(f"            {batch} {epoch} a step: each of them seen {seen:,.1f} times")
    print(
        f"speed       {seconds * 1000:.1f} ms a step on {device}, {precision}, {threads} thread{'s' * (threads > 1)} "
        f"(median of {MEASURED}): ETA {duration(seconds * run.steps)} without evaluations"
    )


def measure(run: Training) -> float:
    """Median seconds of a step, over some real ones after a short warm-up."""
    times = []
    for step in range(WARM + MEASURED):
        run.refit()
        if run.device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        device_step(run, run.staged(step % run.steps))
        if run.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        run.step += 1
    return sorted(times[WARM:])[MEASURED // 2]


def _norm(norm: Norm) -> str:
    return "mean " + ", ".join(f"{m:.3f}" for m in norm.mean) + " std " + ", ".join(f"{s:.3f}" for s in norm.std)
