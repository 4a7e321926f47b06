"""Evaluates a checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

from mmctl.data.images import Pictures
from mmctl.errors import ResumeRefused, UserError, suggest
from mmctl.recipe.recipe import load_stored
from mmctl.report.results import EvaluationResult, as_number
from mmctl.run_folder import journal
from mmctl.run_folder.events import Points
from mmctl.run_folder.record import check_own, read_record
from mmctl.run_folder.upgrade import upgrade_recipe
from mmctl.runs.build import Shared
from mmctl.runs.open import OpenRun, open_run
from mmctl.runs.past import Past, accepted_changes, best_so_far, check_nothing_lost, past_of
from mmctl.runs.progress import tell
from mmctl.runs.recorder import evaluation_event, keep_predictions
from mmctl.store.metrics import PEEKED
from mmctl.training import checkpoint as checkpoints
from mmctl.training.evaluate import evaluate, refit_centroids


def evaluate_run(
    folder: Path,
    which: str,
    split: str | None,
    weights: str | None,
    predictor: str,
    accept_changes: bool = False,
) -> EvaluationResult:
    """Evaluate a checkpoint on a split, write the metrics into the run's journal, and add those logged in training.

    which: a step, "last", "last-good" (the newest one that is not damaged), or "best" (of train.keep_best); split and
    weights: those of the run's primary metric if None; accept_changes: although files of the run were edited. Raises
    UserError for an unknown choice, and ResumeRefused if the checkpoint is damaged or the run was edited.
    """
    opened, saved, skipped = open_checkpoint(folder, which, accept_changes)
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
    kept = keep_predictions(opened, saved.step, split, weights, pictures[split], scores)
    journal.append(folder, evaluation_event(saved.step, where, split, weights, predictor, own, kept))
    return {
        "run": opened.about["uid"], "step": saved.step, "checkpoint": where, "split": split, "weights": weights,
        "predictor": predictor, "metrics": own.metrics, "per_class": own.per_class, "confusion": own.confusion,
        "n": own.n, "classes": list(data.images["train"].classes), "agreement": agreement, "exact": opened.exact,
        "logged": logged(folder, saved.step, f"{split}/{weights}/{predictor}"), "skipped": skipped,
        "changes": opened.changes,
    }  # fmt: skip


def open_checkpoint(
    folder: Path,
    which: str,
    accept_changes: bool = False,
    shared: Shared | None = None,
    command: str | None = "evaluate",
) -> tuple[OpenRun, checkpoints.Checkpoint, list[str]]:
    """A run with the weights of a checkpoint, and why newer ones were skipped; raises as in `evaluate_run`.

    shared: data sets that were read already; command: the one that can accept changes, None if none can.
    """
    about = read_record(folder)
    check_own(about, "evaluated")
    past = past_of(folder, about)
    changes = accepted_changes(folder, about, past, command, accept_changes)
    for line in changes:
        tell(f"warning: {folder.name}: {line}")
    saved, skipped = checkpoint_of(folder, which, past)
    check_nothing_lost(folder, about, past, saved.step, accept_changes)
    for line in skipped:
        tell(f"warning: {line} Evaluating the checkpoint before it, of step {saved.step}.")
    # Changed plugins are accepted: the result has `exact` = false then.
    opened = open_run(folder, about, saved, accept_changes=True, shared=shared)
    opened.changes[:0] = changes
    return opened, saved, skipped


def checkpoint_of(folder: Path, which: str, past: Past) -> tuple[checkpoints.Checkpoint, list[str]]:
    """The checkpoint that `which` names, and why newer ones were skipped; raises as in `evaluate_run`."""
    steps = checkpoints.steps(folder)
    if which in ("last", "last-good"):
        found, bad = checkpoints.newest(folder, quarantine=False, identity=past.identity)
        if found is None:
            raise ResumeRefused(f"{folder.name}: no usable checkpoint. " + " ".join(bad))
        if found.step < past.newest and not bad:
            bad = [f"{checkpoints.folder_of(folder, past.newest)}: is missing, but the journal says that it was saved."]
        if bad and which == "last":
            raise ResumeRefused(
                f"{' '.join(bad)} The newest good checkpoint is that of step {found.step}: `-c last-good` evaluates it."
            )
        return found, bad
    by_name = {str(step): step for step in steps}
    have = ", ".join(by_name) or "none"
    if which == "best":
        best = best_so_far(folder, load_stored(folder / "recipe.toml", upgrade_recipe))
        if best.metric is None:
            raise UserError(
                f"--checkpoint best: {folder.name} keeps no best checkpoint, because its recipe has no "
                f"train.keep_best; use {have}, last or last-good."
            )
        if best.step not in steps:
            head = f"--checkpoint best: {folder.name}: "
            if best.step is None:
                raise UserError(f"{head}no evaluation has {best.metric}; use {have}.")
            raise UserError(f"{head}the best one by {best.metric}, of step {best.step}, is gone; use {have}.")
        if best.metric.startswith("test/"):
            tell(f"warning: {folder.name}: the best checkpoint is {PEEKED}.")
        which = str(best.step)
    if which not in by_name:
        raise UserError(f'--checkpoint: {folder.name} has no checkpoint "{which}"; use {have}, last or last-good.')
    return checkpoints.read(checkpoints.folder_of(folder, by_name[which]), past.identity), []


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
