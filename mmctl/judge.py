"""Evaluation of a stored checkpoint, and how it is shown. K classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmctl import checkpoint as checkpoints
from mmctl import journal
from mmctl.assemble import evaluated
from mmctl.errors import ResumeRefused, UserError, suggest
from mmctl.evaluate import evaluate
from mmctl.loader import Pictures
from mmctl.run import evaluation_event, open_run


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
    scores, agreement = evaluate(run.nets[weights], pictures[split], run.centroids, run.labeled)
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
    for attempt in journal.attempts(folder):
        for event, _ in journal.read_events(journal.path_of(folder, attempt)):
            if event["e"] == "points" and event["step"] == step:
                found = {k.removeprefix(f"{prefix}/"): v for k, v in event["v"].items() if k.startswith(f"{prefix}/")}
                values |= found
    return values


def shown(found: dict[str, Any]) -> None:
    """Print it for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    m, known = found["metrics"], found["logged"]
    who = f"{found['weights']} weights, by {found['predictor']}"
    head = f"{found['run']}  step {found['step']}  {found['split']}  {who}  ({found['n']} pictures)"
    console.print(Text(head), soft_wrap=True)
    table = Table("figure", "now", "logged", box=None, pad_edge=False)
    for name, value in m.items():
        percent = name not in ("nll",)
        cells = [f"{v:.2%}" if percent else f"{v:.4f}" for v in (value, known.get(name)) if v is not None]
        same = "" if name not in known else ("  =" if known[name] == value else "  differs")
        table.add_row(name.replace("_", " "), cells[0], (cells[1] if len(cells) > 1 else "-") + same)
    console.print(table)
    classes, confusion = found["classes"], found["confusion"]
    width = max(map(len, classes))
    cut = [c if len(c) <= 7 else c[:7] for c in classes] if len(classes) <= 20 else []
    headers = ["true class", "n", "recall", *(["", *cut] if cut else [])]
    table = Table(*headers, box=None, pad_edge=False)
    for name, recall, row in zip(classes, found["per_class"], confusion, strict=True):
        row_cells: list[Text | str] = [
            Text(name.ljust(width)),
            str(sum(row)),
            "-" if recall is None else f"{recall:.1%}",
        ]
        table.add_row(*row_cells, *(["|", *map(str, row)] if cut else []))
    console.print(table)
    if not found["exact"]:
        print("note: this machine or torch is not the one that trained; the last digits may differ.")


def _one_of(option: str, given: str, known: list[str]) -> None:
    if given not in known:
        raise UserError(f'{option}: "{given}" is not among {", ".join(known)}.{suggest(given, known)}')
