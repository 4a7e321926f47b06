"""The published figure that a recipe is meant to reproduce: its [published] table, in mmctl's unit."""

from __future__ import annotations

from collections.abc import Mapping

from mmctl.report.results import Published
from mmctl.run_folder.upgrade import Setting
from mmctl.store.metrics import series_name


def published_value(published: Mapping[str, Setting] | None, metric: str, primary: str) -> Published | None:
    """The published figure as a fraction, if it is one of this metric."""
    if not isinstance(published, Mapping) or not isinstance(value := published.get("value"), (int, float)):
        return None
    if series_name(str(published.get("metric", "test/accuracy")), primary) != series_name(metric, primary):
        return None
    unit = str(published.get("unit", "accuracy %"))
    scale = 0.01 if "%" in unit else 1.0
    std, selection, source = (published.get(key) for key in ("std", "selection", "source"))
    return {
        "value": 1 - value * scale if unit.startswith("error") else value * scale,
        "std": std * scale if isinstance(std, (int, float)) else None,
        "selection": None if selection is None else str(selection),
        "source": None if source is None else str(source),
    }
