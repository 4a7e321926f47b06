"""Evaluation of a stored checkpoint, and how it is shown. K classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmctl.assemble import evaluated
from mmctl.data.images import Pictures
from mmctl.errors import ResumeRefused, UserError, suggest
from mmctl.opened import open_run
from mmctl.run import evaluation_event
from mmctl.run_folder import journal
from mmctl.training import checkpoint as checkpoints
from mmctl.training.evaluate import evaluate


def judge(folder: Path, which: str, split: str | None, weights: str | None, predictor: str) -> dict[str, Any]:
    """All figures of a run's checkpoint on a split; kept in the run's journal, and compared with what was logged."""
    found = checkpoint_of(folder, which)
    # A component that changed since cannot matter for the figures without showing in them.
    opened = open_run(folder, found, accept=True)
    run, data = opened.training, opened.data
    first, kind, *_ = opened.about["primary"].split("/")
    split, weights = split or first, weights or kind
    pictures = dict(evaluated(opened.recipe, data, run.loader.norm, run.device))
    for name, part in data.images.items():
        if name not in pictures:
            pictures[name] = Pictures(part, run.loader.norm, run.device, batch=opened.recipe.eval.batch)
    _one_of("--split", split, list(pictures))
    _one_of("--weights", weights, list(run.nets))
    _one_of("--predictor", predictor, ["head", "centroid"])
    scores, agreement = evaluate(run.ready(weights), pictures[split], run.centroids, run.labeled)
    where = f"checkpoints/{found.folder.name}"
    event = evaluation_event(found.step, where, split, weights, predictor, scores[predictor])
    journal.append(folder, event)
    return {
        "schema_version": 1, "run": opened.about["uid"], **{k: v for k, v in event.items() if k != "e"},
        "classes": list(data.images["train"].classes), "agreement": agreement, "exact": opened.exact,
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
    for event in journal.events(folder, "points"):
        if event["step"] == step:
            values |= {k.removeprefix(f"{prefix}/"): v for k, v in event["v"].items() if k.startswith(f"{prefix}/")}
    return values


def shown(found: dict[str, Any]) -> None:
    """Print it for people."""
    from mmctl.terminal import GAP, Column, console, line, show
    from mmctl.text import printable

    out = console()
    known, classes = found["logged"], [printable(name) for name in found["classes"]]

    def value(name: str, figure: float | None) -> str:
        return "-" if figure is None else f"{figure:.4f}" if name == "nll" else f"{figure:.2%}"

    who = f"{found['weights']} weights, by {found['predictor']}"
    line(out, f"{found['run']}  step {found['step']}  {found['split']}  {who}  ({found['n']} pictures)")
    names, now = list(found["metrics"]), found["metrics"]
    same = ["" if n not in known else "=" if known[n] == now[n] else "differs" for n in names]
    show(
        [
            Column("figure", cells=[n.replace("_", " ") for n in names]),
            Column("now", right=True, cells=[value(n, now[n]) for n in names]),
            Column("logged", right=True, cells=[value(n, known.get(n)) for n in names]),
            Column("", cells=same),
        ],
        out,
    )
    confusion = found["confusion"]
    columns = [
        Column("true class", cells=classes),
        Column("n", right=True, cells=[str(sum(row)) for row in confusion]),
        Column("recall", right=True, cells=["-" if r is None else f"{r:.1%}" for r in found["per_class"]]),
    ]
    matrix = [Column(name[:7], right=True, cells=[str(row[k]) for row in confusion]) for k, name in enumerate(classes)]
    # All of the matrix or none: with columns missing its rows would no longer add up.
    fits = sum(c.width() + GAP for c in columns + matrix) - GAP <= out.width
    show(columns + matrix if fits else columns, out)
    if not fits:
        line(out, "(no room for the confusion matrix; it is in --json)", "dim")
    if not found["exact"]:
        line(out, "note: this machine or torch is not the one that trained; the last digits may differ.")


def _one_of(option: str, given: str, known: list[str]) -> None:
    if given not in known:
        raise UserError(f'{option}: "{given}" is not among {", ".join(known)}.{suggest(given, known)}')
