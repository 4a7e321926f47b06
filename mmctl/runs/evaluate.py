"""Evaluation of a stored checkpoint, and how it is shown. K classes."""

from __future__ import annotations

from pathlib import Path

from mmctl.data.images import Pictures
from mmctl.errors import ResumeRefused, UserError, suggest
from mmctl.report.results import EvaluationResult, as_number
from mmctl.run_folder import journal
from mmctl.run_folder.events import Points
from mmctl.runs.build import evaluation_splits
from mmctl.runs.open import open_run
from mmctl.runs.recorder import evaluation_event
from mmctl.training import checkpoint as checkpoints
from mmctl.training.evaluate import evaluate


def evaluate_run(folder: Path, which: str, split: str | None, weights: str | None, predictor: str) -> EvaluationResult:
    """All figures of a run's checkpoint on a split; kept in the run's journal, and compared with what was logged."""
    found = checkpoint_of(folder, which)
    # A component that changed since cannot matter for the figures without showing in them.
    opened = open_run(folder, found, accept=True)
    run, data = opened.training, opened.data
    first, kind, *_ = opened.about["primary"].split("/")
    split, weights = split or first, weights or kind
    pictures = dict(evaluation_splits(opened.recipe, data, run.loader.norm, run.device))
    for name, part in data.images.items():
        if name not in pictures:
            pictures[name] = Pictures(part, run.loader.norm, run.device, batch=opened.recipe.settings.eval.batch)
    _one_of("--split", split, list(pictures))
    _one_of("--weights", weights, list(run.nets))
    _one_of("--predictor", predictor, ["head", "centroid"])
    scores, agreement = evaluate(run.ready(weights), pictures[split], run.centroids, run.labeled)
    where = f"checkpoints/{found.folder.name}"
    journal.append(folder, evaluation_event(found.step, where, split, weights, predictor, scores[predictor]))
    own = scores[predictor]
    return {
        "run": opened.about["uid"], "step": found.step, "checkpoint": where, "split": split, "weights": weights,
        "predictor": predictor, "metrics": own.metrics, "per_class": own.per_class, "confusion": own.confusion,
        "n": own.n, "classes": list(data.images["train"].classes), "agreement": agreement, "exact": opened.exact,
        "logged": logged(folder, found.step, f"{split}/{weights}/{predictor}"),
    }  # fmt: skip


def checkpoint_of(folder: Path, which: str) -> checkpoints.Checkpoint:
    """The checkpoint that a step or `last` names."""
    steps = checkpoints.steps(folder)
    if which == "last":
        found, bad = checkpoints.newest(folder, quarantine=False)
        if found is None:
            raise ResumeRefused(f"{folder.name}: no usable checkpoint. " + " ".join(bad))
        return found
    if not which.isdecimal() or int(which) not in steps:
        have = ", ".join(map(str, steps)) or "none"
        raise UserError(f'--checkpoint: {folder.name} has no checkpoint "{which}"; it has steps {have}, or say last.')
    return checkpoints.read(checkpoints.folder_of(folder, int(which)))


def logged(folder: Path, step: int, prefix: str) -> dict[str, float]:
    """What training wrote down for this step, network and split; empty if it did not evaluate there."""
    values: dict[str, float] = {}
    for event in journal.read_events(folder, Points):
        if event.step == step:
            named = {k.removeprefix(f"{prefix}/"): v for k, v in event.values.items() if k.startswith(f"{prefix}/")}
            values |= {k: as_number(v) for k, v in named.items()}
    return values


def _one_of(option: str, given: str, known: list[str]) -> None:
    if given not in known:
        raise UserError(f'{option}: "{given}" is not among {", ".join(known)}.{suggest(given, known)}')
