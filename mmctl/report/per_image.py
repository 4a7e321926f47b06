"""`compare --per-example`: two sides on the same images, by what their networks predicted for each.

A test over seeds takes the test images as given and asks what other seeds would do. Here it is the other way round:
the networks are given, and the question is what other images would do. Both matter.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mmctl.errors import UserError
from mmctl.report import stats
from mmctl.report.comparison import ComparedImage, ImageDifference, ImagesAgainst, Panel, PerImage, RunPair
from mmctl.run_folder.predictions import Predictions, read_predictions
from mmctl.store.metrics import Metric, chosen_step, series_name
from mmctl.store.rows import RunRow
from mmctl.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METRICS = ("accuracy", "balanced_accuracy")
"""Metrics that are means over images of right and wrong, so that they can be computed of any choice of images."""
RESAMPLES = 5000
CHUNK = 2**22
"""So many numbers are drawn at once."""
Said: TypeAlias = Mapping[str, int]
"""Image -> predicted class, of one network."""


class Side(NamedTuple):
    """The networks of one configuration: what each predicted, by image, and the seed and split of each."""

    said: Sequence[Said]
    keys: Sequence[tuple[int | None, str | None]]

    def right(self, true: Said) -> list[int]:
        """The number of networks that are right, of each image."""
        return [sum(one[id] == k for one in self.said) for id, k in true.items()]

    def only(self, places: Iterable[int]) -> Side:
        """The networks at these places."""
        chosen = list(places)
        return Side([self.said[n] for n in chosen], [self.keys[n] for n in chosen])


def add_per_image(store: Store, panel: Panel, runs: Sequence[RunRow], metrics: Sequence[Metric], level: float) -> None:
    """Compare every configuration of a panel with its baseline, image by image, as far as predictions are stored."""
    sources: dict[tuple[str, ...], list[Metric]] = {}
    for metric in metrics:
        prefix, _, name = metric.name.rpartition("/")
        if name in METRICS and prefix != "train" and series_name(metric.name, "").count("/") == 3:
            how = metric.text.partition("@")[2] if metric.reducer in ("best", "step") else ""
            how = metric.text if metric.reducer in ("max", "min") else how
            sources.setdefault((prefix, how), []).append(metric)
    if not sources:
        raise UserError(f"--per-example: needs a metric of images, SPLIT/{' or SPLIT/'.join(METRICS)}.")
    if panel["baseline"] is None:
        panel["notes"].append("image by image: --baseline says with which configuration the others are compared")
        return
    counted = {run["uid"] for row in panel["configurations"] for run in row["runs"] if run["counted"]}
    behind = [run for run in runs if run["uid"] in counted and run["state"] == "completed"]
    panel["per_image"] = [_compare(store, panel, behind, own, level) for own in sources.values()]


def _compare(store: Store, panel: Panel, runs: Sequence[RunRow], metrics: Sequence[Metric], level: float) -> PerImage:
    found: dict[str, Predictions] = {}
    missing: list[str] = []
    example: Predictions | None = None
    for run in runs:
        made = _predictions(store, run, metrics[0], example)
        if isinstance(made, Predictions):
            found[run["uid"]] = made
            example = example or made
        else:
            missing.append(made)
    shared = _shared_images(found.values())
    true = {} if example is None else _of(example.ids, example.true, shared)
    sides = {
        row["config_id"]: Side(
            [
                _of(found[run["uid"]].ids, found[run["uid"]].predicted, true)
                for run in row["runs"]
                if run["uid"] in found
            ],
            [(run["seed"], run["split_hash"]) for run in row["runs"] if run["uid"] in found],
        )
        for row in panel["configurations"]
    }
    base = sides[panel["baseline"] or ""]
    rows = [
        _against(id, side, base, true, example.classes, metrics, level)
        for id, side in sides.items()
        if id != panel["baseline"] and side.said and base.said and true and example is not None
    ]
    if len(rows) > 1:
        for one, p in zip(rows, stats.holm([one["p"] for one in rows]), strict=True):
            one["p_holm"] = p
    prefix, reducer = metrics[0].name.rpartition("/")[0], metrics[0].reducer
    words = metrics[0].words(reducer) if reducer in ("best", "step", "max", "min") else "last evaluation"
    return {"what": f"{prefix}, {words}", "images": len(true), "rows": rows, "missing": missing}


def _predictions(store: Store, run: RunRow, metric: Metric, like: Predictions | None) -> Predictions | str:
    """The stored predictions behind a metric of a run, or the command that makes them, with the reason.

    like: those of another run, which must have the same classes.
    """
    step = chosen_step(store, run, metric)
    full = series_name(metric.name, run["primary_metric"])
    if full.count("/") != 3:
        return f"{run['uid']}  # was imported from another program, which stored no predictions"
    split, weights, predictor, _ = full.split("/")
    why = "no predictions are stored"
    for one in reversed(store.evaluations(run)):
        if (one["step"], one["split"], one["weights"], one["predictor"]) == (step, split, weights, predictor):
            if one["predictions"] is None:
                continue
            try:
                found = read_predictions(store.runs_dir / run["uid"], one["predictions"], predictor)
                if like is None or found.classes == like.classes:
                    return found
                why = f"{one['predictions']} has other classes than the first run"
            except (OSError, ValueError) as error:
                why = f"{one['predictions']} {getattr(error, 'strerror', None) or error}"
    first, kind, *_ = [*run["primary_metric"].split("/"), "", ""]
    words = ["mmctl", "evaluate", run["uid"]]
    words += ["--checkpoint", str(step)] if step not in (None, run["step"]) else []
    for option, value, default in (
        ("--split", split, first),
        ("--weights", weights, kind),
        ("--predictor", predictor, "head"),
    ):
        words += [option, value] if value != default else []
    return f"{shlex.join(words)}  # {why}"


def _shared_images(found: Iterable[Predictions]) -> set[str]:
    """The images that all networks were evaluated on, with the same true class."""
    shared: set[tuple[str, str]] | None = None
    for one in found:
        own = {(id, one.classes[true]) for id, true in zip(one.ids, one.true, strict=True)}
        shared = own if shared is None else shared & own
    return {id for id, _ in shared or ()}


def _of(ids: Sequence[str], classes: Sequence[int], images: Container[str]) -> dict[str, int]:
    return {id: k for id, k in zip(ids, classes, strict=True) if id in images}


def _against(
    config_id: str,
    ours: Side,
    theirs: Side,
    true: Said,
    classes: Sequence[str],
    metrics: Sequence[Metric],
    level: float,
) -> ImagesAgainst:
    in_all = len(ours.said) + len(theirs.said)
    ours, theirs, paired = _matched(ours, theirs)
    n = len(ours.said)
    a, b = ours.right(true), theirs.right(true)
    gaps = [(x - y) / n for x, y in zip(a, b, strict=True)]
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    images: list[ComparedImage] = [
        {
            "id": id, "true": classes[k], "ours": x / n, "theirs": y / n,
            "ours_say": _majority(ours, id, classes), "theirs_say": _majority(theirs, id, classes),
        }
        for (id, k), x, y in zip(true.items(), a, b, strict=True)
        if x != y
    ]  # fmt: skip
    images.sort(key=lambda one: -abs(one["ours"] - one["theirs"]))
    return {
        "config_id": config_id, "networks": n, "left_out": in_all - 2 * n, "better": better, "worse": worse,
        "p": stats.mcnemar(better, worse), "p_holm": None, "images": images,
        "pairs": list(_pairs(ours, theirs, true)) if paired else [],
        "differences": bootstrap(list(true.values()), gaps, [metric.text for metric in metrics], level),
    }  # fmt: skip


def _matched(ours: Side, theirs: Side) -> tuple[Side, Side, bool]:
    """The same number of networks of each side: those of the same seed and split, or the first; whether they match."""
    pairs = [(n, theirs.keys.index(key)) for n, key in enumerate(ours.keys) if key in theirs.keys]
    if pairs:
        return ours.only(n for n, _ in pairs), theirs.only(n for _, n in pairs), True
    least = min(len(ours.said), len(theirs.said))
    return ours.only(range(least)), theirs.only(range(least)), False


def _pairs(ours: Side, theirs: Side, true: Said) -> Iterator[RunPair]:
    """McNemar's test of the two networks of each seed."""
    for said, other, (seed, _) in zip(ours.said, theirs.said, ours.keys, strict=True):
        right = [(said[id] == k, other[id] == k) for id, k in true.items()]
        better, worse = right.count((True, False)), right.count((False, True))
        yield {"seed": seed, "better": better, "worse": worse, "p": stats.mcnemar(better, worse)}


def _majority(side: Side, id: str, classes: Sequence[str]) -> str:
    (most, _), *_ = Counter(one[id] for one in side.said).most_common(1)
    return classes[most]


def bootstrap(
    true: Sequence[int], gaps: Sequence[float], metrics: Sequence[str], level: float
) -> list[ImageDifference]:
    """Each metric's difference, with the percentiles of RESAMPLES choices of as many images, drawn with replacement.

    true: the class of each image; gaps: the share of our networks that are right, minus that of theirs.
    Images of the same class and gap are alike, so that their numbers are drawn instead of images.
    """
    import numpy as np  # only here: reading commands start faster without it

    cells = Counter(zip(true, gaps, strict=True))
    count_G = np.array(list(cells.values()))
    gap_G = np.array([gap for _, gap in cells])
    known = sorted(set(true))
    class_GK = np.array([[k == one for one in known] for k, _ in cells], float)

    def differences(count_RG: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        sum_RK, n_RK = count_RG @ (class_GK * gap_G[:, None]), count_RG @ class_GK
        by_class_RK = sum_RK / np.maximum(n_RK, 1)
        balanced_R = by_class_RK.sum(1) / (n_RK > 0).sum(1)
        return {"accuracy": sum_RK.sum(1) / len(true), "balanced_accuracy": balanced_R}

    drawing, size = np.random.default_rng(0), max(1, CHUNK // len(cells))
    seen = differences(count_G[None])
    parts = [
        differences(drawing.multinomial(len(true), count_G / len(true), min(size, RESAMPLES - begin)))
        for begin in range(0, RESAMPLES, size)
    ]
    made: list[ImageDifference] = []
    for text in metrics:
        name = text.partition("@")[0].rpartition("/")[2]
        low, high = np.quantile(np.concatenate([part[name] for part in parts]), [(1 - level) / 2, (1 + level) / 2])
        made.append({"metric": text, "diff": float(seen[name][0]), "low": float(low), "high": float(high)})
    return made
