"""Evaluates a checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

from mmctl.data.images import Pictures
from mmctl.errors import ResumeRefused, UserError, suggest
from mmctl.report.results import EvaluationResult, as_number
from mmctl.run_folder import journal
from mmctl.run_folder.events import Points
from mmctl.runs.open import open_run
from mmctl.runs.recorder import evaluation_event
from mmctl.training import checkpoint as checkpoints
from mmctl.training.evaluate import evaluate, refit_centroids


def evaluate_run(folder: Path, which: str, split: str | None, weights: str | None, predictor: str) -> EvaluationResult:
    """Evaluate a checkpoint on a split, write the metrics into the run's journal, and add those logged in training.

    which: a step or "last"; split and weights: those of the run's primary metric if None.
    Raises UserError for an unknown choice, and ResumeRefused if there is no usable checkpoint.
    """
    saved = checkpoint_of(folder, which)
    # Changed plugins are accepted: the result has `exact` = false then.
    opened = open_run(folder, saved, accept_changes=True)
    run, data = opened.training, opened.data
    first, kind, *_ = opened.about["primary"].split("/")
    split, weights = split or first, weights or kind
    pictures = dict(run.splits)
    for name, part in data.images.items():
        if name not in pictures:
            pictures[name] = Pictures(part, run.loader.norm, run.device, batch=opened.recipe.settings.eval.batch)
    _one_of("--split", split, list(pictures))
    _one_of("--weights", weights, list(run.nets))
    _one_of("--predictor", predictor, ["head", "centroid"])
    net = run.ready(weights)
    scores, agreement = evaluate(net, pictures[split], refit_centroids(net, run.centroids, run.labeled))
    own, where = scores[predictor], checkpoints.path_of(saved.step)
    journal.append(folder, evaluation_event(saved.step, where, split, weights, predictor, own))
    return {
        "run": opened.about["uid"], "step": saved.step, "checkpoint": where, "split": split, "weights": weights,
        "predictor": predictor, "metrics": own.metrics, "per_class": own.per_class, "confusion": own.confusion,
        "n": own.n, "classes": list(data.images["train"].classes), "agreement": agreement, "exact": opened.exact,
        "logged": logged(folder, saved.step, f"{split}/{weights}/{predictor}"),
    }  # fmt: skip


def checkpoint_of(folder: Path, which: str) -> checkpoints.Checkpoint:
    """The checkpoint of a step, or the newest for "last"; raises as in `evaluate_run`."""
    steps = checkpoints.steps(folder)
    if which == "last":
        newest, damaged = checkpoints.newest(folder, quarantine=False)
        if newest is None:
            raise ResumeRefused(f"{folder.name}: no usable checkpoint. " + " ".join(damaged))
        return newest
    if not which.isdecimal() or int(which) not in steps:
        have = ", ".join(map(str, steps)) or "none"
        raise UserError(f'--checkpoint: {folder.name} has no checkpoint "{which}"; use {have} or last.')
    return checkpoints.read(checkpoints.folder_of(folder, int(which)))


def logged(folder: Path, step: int, prefix: str) -> dict[str, float]:
    """Metrics that training logged at this step, empty if there are none; prefix: SPLIT/WEIGHTS/PREDICTOR."""
    values: dict[str, float] = {}
    for event in journal.read_events(folder, Points):
        if event.step == step:
            named = {k.removeprefix(f"{prefix}/"): v for k, v in event.values.items() if k.startswith(f"{prefix}/")}
            values |= {k: as_number(v) for k, v in named.items()}
    return values


def _one_of(option: str, given: str, known: list[str]) -> None:
    if given not in known:
        raise UserError(f'{option}: "{given}" is not among {", ".join(known)}.{suggest(given, known)}')
