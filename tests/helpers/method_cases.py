"""The methods of the package, and settings under which each is tested."""

from __future__ import annotations

from typing import Any

import pytest

from mmctl.registry.index import Index

METHODS = [e.name for e in Index(sources="off").entries if e.kind == "method"]
VARIANTS = {
    "fixmatch": [
        ("method.bn_groups=each",),
        ("labeler.name=flex", "labeler.tau=0.4"),
        ("labeler.name=free", "labeler.momentum=0.9"),
        ("labeler.name=soft", "labeler.momentum=0.9"),
        ("labeler.name=relative",),
        ("labeler.name=aligned", "labeler.align=uniform", "labeler.window=3"),
        ("labeler.name=threshold", "labeler.tau=0.4", "labeler.align=train_prior", "average.kind=none"),
    ],
    "freematch": [("method.bn_groups=each", "method.momentum=0.9")],
    "marginmix": [
        ("centroids.estimator=ema",),
        ("centroids.estimator=batch",),
        ("centroids.estimator=memory",),
        ("centroids.estimator=learned",),
        ("centroids.estimator=exact", "centroids.every=3"),
        ("centroids.estimator=exact", "centroids.every=3", "centroids.network=ema", "method.guesser=ema"),
        ("method.bn_groups=joint", "method.bn_update=all", "method.lambda_per=batch"),
        ("method.num_views=3", "method.near=false", "average.buffers=average", "centroids.distance=plain"),
        ("labeler.prior=running", "average.kind=none"),
        ("loss.margin.normalize=both", "loss.margin_unlabeled.weight=24.0", "centroids.normalize_embeddings=false"),
        ("loss.margin.name=center", "loss.margin_unlabeled.name=center", "labeler.name=product"),
        ("loss.unlabeled.name=brier", "loss.unlabeled.weight=1.0", "labeler.name=nearest_centroid"),
    ],
    "mixmatch": [
        ("method.bn_groups=joint", "method.bn_update=all", "method.lambda_per=batch"),
        ("method.bn_groups=each", "method.num_views=1"),
        ("labeler.name=fuzzy",),
        ("labeler.name=aligned", "labeler.window=3"),
    ],
    "pseudo_label": [("labeler.name=soft", "labeler.align=none")],
    "remixmatch": [
        ("method.num_strong=1", "method.bn_groups=joint", "method.labeled_view=weak"),
        ("method.num_strong=2", "method.bn_groups=each", "labeler.name=softmax", "average.kind=none"),
    ],
    "supervised": [("method.alpha=0.5", "optimizer.name=adamw", "optimizer.lr=0.01")],
    "uda": [("method.tsa=log", "labeler.name=threshold", "labeler.target=soft", "loss.entropy.weight=0.1")],
    "pi_model": [
        ("method.through=both", "method.bn_groups=joint"),
        ("method.consistency_on=all", "method.bn_groups=view"),
        ("method.consistency_on=all", "method.bn_groups=each"),
        (
            "schedule.name=cyclic", "schedule.horizon=0.6", "schedule.start=0.5", "schedule.cycle=3",
            "average.kind=swa", "average.start=7", "average.every=0.1", "average.buffers=recompute",
        ),
    ],
    "temporal_ensembling": [("method.momentum=0.0", "method.bn_groups=joint")],
    "mean_teacher": [("method.bn_groups=joint", "average.buffers=average")],
    "ict": [("method.alpha=0.2", "method.bn_update=all")],
    "vat": [("method.iterations=3", "loss.adversarial.name=brier", "method.epsilon_unit=range")],
}  # fmt: skip
CASES = [(m, sets) for m in METHODS for sets in ((), *VARIANTS.get(m, []))]
SEMI = [m for m in METHODS if m != "supervised"]
SOFT = {
    "fixmatch": ("labeler.name=free",),
    "mixmatch": ("loss.unlabeled.weight=5.0", "loss.unlabeled.rampup=0"),
    "pseudo_label": ("labeler.name=free",),
    "uda": ("labeler.name=free",),
}
"""What lets every term act within a test's few steps, where a method's own constants do not."""


def named(value: Any) -> str:
    return "-".join(s.split(".", 1)[-1] for s in value) or "default" if isinstance(value, tuple) else value


every_method = pytest.mark.parametrize("method", METHODS)
every_case = pytest.mark.parametrize(("method", "sets"), CASES, ids=named)
