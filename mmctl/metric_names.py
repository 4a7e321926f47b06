"""The names of the metrics that evaluations compute, and the check of such a name in a recipe."""

from __future__ import annotations

import re

PROBABILITIES = ("nll", "ece")
"""Metrics of probabilities, which the centroid predictor does not give."""
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", *PROBABILITIES, "largest_class")
"""What `training/evaluate.py` computes for each split, network and predictor."""

_FORM = re.compile(r"[a-z][a-z0-9_]*(/(ema|raw)/(?P<predictor>head|centroid))?/(?P<metric>[a-z][a-z0-9_]*)")


def checked_metric(name: str) -> str:
    """The name, if an evaluation can have this metric; else ValueError with what the name must be."""
    if not (form := _FORM.fullmatch(name)):
        raise ValueError("must be SPLIT/METRIC or SPLIT/ema|raw/head|centroid/METRIC")
    computed = [m for m in METRICS if form["predictor"] != "centroid" or m not in PROBABILITIES]
    if form["metric"] not in computed:
        predictor = " of the centroid predictor" if form["predictor"] == "centroid" else ""
        # In quotes, so that the message about the value suggests the closest one.
        raise ValueError(f"must end with a metric{predictor}: " + ", ".join(f'"{name}"' for name in computed))
    return name
