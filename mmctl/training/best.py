"""The best evaluation of a run so far, whose checkpoint is kept (`train.keep_best`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class Best:
    """Step and value of the best evaluation by one metric; without a metric, none is the best."""

    metric: str | None = None  # its full name, such as val/ema/head/accuracy
    lower: bool = False  # smaller values are better
    step: int | None = None
    value: float = math.nan

    def offer(self, step: int, values: Mapping[str, float]) -> None:
        """Take this evaluation if it is better than all before; a tie keeps the earlier one, and NaN never is best."""
        value = values.get(self.metric or "", math.nan)
        if math.isnan(value):
            return
        if self.step is None or (value < self.value if self.lower else value > self.value):
            self.step, self.value = step, value
