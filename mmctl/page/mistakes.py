"""The surest mistakes: images whose wrong class got the largest probability, from the stored predictions of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmctl.page.html import text
from mmctl.report import summaries
from mmctl.run_folder.predictions import Predictions, read_predictions
from mmctl.run_folder.record import best_metric
from mmctl.store.rows import RunRow
from mmctl.store.select import imported
from mmctl.store.store import Store

SHOWN = 10


class Never(str):
    """Why a part of a page is not there, and never will be: making the page again does not help."""


@dataclass(frozen=True)
class Mistake:
    """An image and what the network said of it; probability: of the predicted class."""

    id: str
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Mistakes:
    """The surest mistakes among n images of a split, `wrong` of which are wrong; how: what was evaluated, in words."""

    split: str
    how: str
    images: int
    wrong: int
    surest: Sequence[Mistake]


def step_of(store: Store, run: RunRow, which: str) -> int | str | None:
    """The step of the checkpoint that `which` names, as in `evaluate`; a sentence if there is none.

    None stands for the newest evaluation, which last and last-good mean.
    Never: there will be no network and no predictions of the run, whatever the user does.
    """
    if imported(store, [run]):
        return Never(f"{run['uid']}: it was imported from another program, without checkpoints and predictions.")
    if which in ("last", "last-good"):
        return None
    if which != "best":
        return int(which)
    if not best_metric(store.about(run)["config"]):
        return Never(f"{run['uid']}: its recipe keeps no best checkpoint (train.keep_best).")
    best = summaries.run_details(store, run)["best"]
    return best["step"] if best else f"{run['uid']}: no evaluation has the metric of its best checkpoint yet."


def surest_mistakes(store: Store, run: RunRow, step: int | None) -> Mistakes | str:
    """Of the newest evaluation of the primary split, weights and predictor, at `step` if one is given; or why not.

    Never if its predictor has no probabilities.
    """
    wanted = run["primary_metric"].split("/")[:3]
    why = "its predictions are not stored"
    for one in reversed(store.evaluations(run)):
        if [one["split"], one["weights"], one["predictor"]] != wanted or step not in (None, one["step"]):
            continue
        if one["predictions"] is None:
            continue
        try:
            found = read_predictions(store.runs_dir / run["uid"], one["predictions"], one["predictor"])
        except (OSError, ValueError) as error:
            why = f"{one['predictions']} {getattr(error, 'strerror', None) or error}"
            continue
        if found.probability is None:
            return Never(f"{run['uid']}: the predictor {one['predictor']} gives no probabilities.")
        return _surest(found, one["split"], f"step {one['step']}, {one['weights']} weights")
    words = ["mmctl evaluate", run["uid"], *([f"--checkpoint {step}"] if step is not None else [])]
    return f"{run['uid']}: {why}. `{' '.join(words)}` makes them."


def _surest(found: Predictions, split: str, how: str) -> Mistakes:
    rows = zip(found.ids, found.true, found.predicted, found.probability or (), strict=True)
    wrong = [Mistake(id, found.classes[k], found.classes[said], p) for id, k, said, p in rows if k != said]
    surest = sorted(wrong, key=lambda one: -one.probability if one.probability == one.probability else 1.0)
    return Mistakes(split, how, len(found.ids), len(wrong), surest[:SHOWN])


def mistakes_list(found: Mistakes, images: Sequence[str]) -> str:
    """The mistakes as a list; images: data URIs, none where there are no images to show."""
    items = []
    for n, one in enumerate(found.surest):
        said = f"predicted <strong>{text(one.predicted)}</strong>, {100 * one.probability:.1f} %"
        said += f"<br>true <strong>{text(one.true)}</strong>"
        fine = "" if not images or images[n].startswith("data:image/png") else ' class="fine"'
        shown = f'<img src="{images[n]}" alt="Image {text(one.id)} of class {text(one.true)}"{fine}>' if images else ""
        name = "" if images else f"{text(one.id)}<br>"
        items.append(f"<li><figure>{shown}<figcaption>{name}{said}</figcaption></figure></li>")
    return f'<ul class="mistakes">{"".join(items)}</ul>'
