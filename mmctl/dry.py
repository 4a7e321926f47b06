"""`mmctl run --dry-run`: what would happen, with a speed that was measured and not guessed."""

from __future__ import annotations

import time

import torch

from mmctl.assemble import DTYPES, assemble, device_of, precision_of, read_data, threads_of
from mmctl.data.images import Normalization
from mmctl.explain import lines, told
from mmctl.recipe import Recipe
from mmctl.rehearsal import passes
from mmctl.text import duration
from mmctl.training.loop import device_step
from mmctl.training.state import Training

MEASURED = 20
WARM = 3


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
    seconds = measure(run)
    before = ""
    for heading, text in lines(told(recipe, run, data, passes(run))):
        print(f"{heading if heading != before else '':<12}{text}")
        before = heading
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


def _norm(norm: Normalization) -> str:
    return "mean " + ", ".join(f"{m:.3f}" for m in norm.mean) + " std " + ", ".join(f"{s:.3f}" for s in norm.std)
