"""`mmctl run --dry-run`: prints data, network, training step and measured speed of a recipe."""

from __future__ import annotations

import time

import torch

from mmctl.data.images import Normalization
from mmctl.preview.explain import describe, explanation_lines
from mmctl.preview.trace_step import trace_step
from mmctl.recipe.recipe import Recipe
from mmctl.runs.build import build_training, read_data
from mmctl.runs.check import check_before_start
from mmctl.runs.hardware import use_hardware
from mmctl.text import duration, hardware_line
from mmctl.training.loop import device_step
from mmctl.training.state import Training

MEASURED = 20
WARM = 3


def print_plan(recipe: Recipe) -> None:
    """Print what a run of the recipe would do; times a few real training steps and writes no file."""
    hardware = use_hardware(recipe.settings.train)
    data = read_data(recipe)
    warnings = check_before_start(recipe, data)
    run = build_training(recipe, data, hardware.device, hardware.dtype)
    images, split = data.images["train"], data.split
    shape = "x".join(str(n) for n in images.pixels.shape[1:])
    print(f"{recipe.name}  seed {recipe.seed}  configuration {recipe.config_id}")
    print(
        f"data        {recipe.dataset_name}, {len(images.classes)} classes, {shape} uint8, "
        f"normalised with {_mean_std(run.loader.norm)}"
    )
    both = len(set(split.labeled.tolist()) & set(split.unlabeled.tolist()))
    print(
        f"training    {len(images.ids)} images: {len(split.labeled)} labelled, {len(split.unlabeled)} unlabelled "
        f"({both} in both); evaluated on " + ", ".join(f"{k} ({len(p)})" for k, p in run.splits.items())
    )
    print("labels      " + ", ".join(f"{c}: {n}" for c, n in zip(images.classes, split.counts, strict=True)))
    if len(split.val) > len(split.labeled):
        print("            note: more validation images than labels; model selection on them is unrealistic")
    for line in warnings:
        print(f"            warning: {line}")
    parameters = sum(p.numel() for p in run.params)
    backbone, size = recipe.data["backbone"]["name"], run.model.embed_dim
    print(f"network     {backbone}, {parameters:,} parameters, embedding size {size}")
    seconds = seconds_per_step(run)
    previous = ""
    for heading, text in explanation_lines(describe(recipe, run, data, trace_step(run))):
        print(f"{heading if heading != previous else '':<12}{text}")
        previous = heading
    print(
        f"speed       {seconds * 1000:.1f} ms per step on {hardware_line(hardware.facts())} "
        f"(median of {MEASURED}): ETA {duration(seconds * run.steps)} without evaluations"
    )


def seconds_per_step(run: Training) -> float:
    """Median time of one training step in seconds, after a short warm-up."""
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


def _mean_std(norm: Normalization) -> str:
    return "mean " + ", ".join(f"{m:.3f}" for m in norm.mean) + " std " + ", ".join(f"{s:.3f}" for s in norm.std)
