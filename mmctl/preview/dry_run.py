"""`mmctl run --dry-run`: prints data, network, training step and measured speed of a recipe."""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import NamedTuple

import torch

from mmctl.data.images import Normalization
from mmctl.image_files.progress import no_progress
from mmctl.preview.explain import describe, explanation_lines
from mmctl.preview.trace_step import trace_step
from mmctl.recipe.recipe import Recipe
from mmctl.runs.build import build_training, read_data
from mmctl.runs.check import check_before_start, notes_of
from mmctl.runs.hardware import use_hardware
from mmctl.runs.progress import doing
from mmctl.text import duration, hardware_line
from mmctl.training.loop import device_step
from mmctl.training.state import Training

MEASURED = 20
WARM = 3
LIMIT = 5.0
"""Seconds after which no other step is measured."""


class Measured(NamedTuple):
    """The speed of training steps: median seconds of one, and of how many."""

    seconds: float
    steps: int


def print_plan(recipe: Recipe, quiet: bool = False) -> None:
    """Print what a run of the recipe would do; times a few real training steps and writes no file.

    quiet: do not show on the terminal what it does.
    """
    hardware = use_hardware(recipe.settings.train)
    with no_progress(quiet), doing(f"reading {recipe.dataset_name} ...", quiet):
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
    for line in notes_of(data.images):
        print(f"            note: {line}")
    parameters = sum(p.numel() for p in run.params)
    backbone, size = recipe.data["backbone"]["name"], run.model.embed_dim
    print(f"network     {backbone}, {parameters:,} parameters, embedding size {size}")
    sys.stdout.flush()
    speed = measure_steps(run, quiet)
    with doing("tracing one step ...", quiet):
        trace = trace_step(run)
    previous = ""
    for heading, text in explanation_lines(describe(recipe, run, data, trace)):
        print(f"{heading if heading != previous else '':<12}{text}")
        previous = heading
    print(
        f"speed       {speed.seconds * 1000:.1f} ms per step on {hardware_line(hardware.facts())} "
        f"({_of_steps(speed.steps)}): ETA {duration(speed.seconds * run.steps)} without evaluations"
    )


def measure_steps(run: Training, quiet: bool = False) -> Measured:
    """Median time of one training step after a short warm-up; ends after some seconds, but after one step at least."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < WARM + MEASURED and not (times and time.perf_counter() - began > LIMIT):
        with doing(f"measuring the speed: step {len(times) + 1} of at most {WARM + MEASURED} ...", quiet):
            run.refit()
            _wait(run)
            start = time.perf_counter()
            device_step(run, run.staged(len(times) % run.steps))
            _wait(run)
            times.append(time.perf_counter() - start)
            run.step += 1
    warm = min(WARM, len(times) - 1)  # a single step has to do
    return Measured(median(times[warm:]), len(times) - warm)


def _wait(run: Training) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize()


def _of_steps(n: int) -> str:
    if n == MEASURED:
        return f"median of {n} steps"
    return f"{f'median of {n} steps' if n > 1 else 'one step'}, measured for {LIMIT:.0f} s"


def _mean_std(norm: Normalization) -> str:
    return "mean " + ", ".join(f"{m:.3f}" for m in norm.mean) + " std " + ", ".join(f"{s:.3f}" for s in norm.std)
