"""What tells that a run has gone wrong although every number is finite.

Thresholds come from trials of MarginMix's readings on real data: they separated the runs that collapsed or ran away
from all others there, and are no law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST = 0.9  # one class gets more than this share of all predictions ...
IN_A_ROW = 3  # ... at this many evaluations in a row
RATIO = 1.5  # the unlabelled margin is that much better satisfied than the labelled one ...
AFTER = 1 / 3  # ... after this share of the run
COSINE = 0.99  # the class centroids all but coincide
LOSS = 100.0  # mean-reduced losses are a few units


@dataclass
class Alarms:
    """Watches points and evaluations; says each alarm once. Its counters travel in the checkpoint."""

    total: int
    primary: str  # the series "SPLIT/WEIGHTS/head/largest_class" that stands for the run
    in_a_row: int = 0
    told: list[str] = field(default_factory=list)

    def point(self, step: int, values: Mapping[str, float]) -> list[tuple[str, str, bool]]:
        """(kind, message, whether the run has collapsed) for a point of the training curve."""
        found = []
        ratio, pulled = values.get("train/margin_ratio"), values.get("train/margin", 0.0)
        if step > AFTER * self.total and ratio is not None and pulled < 0 and ratio >= RATIO:
            found.append((
                "runaway",
                f"L_M2 / L_M1 is {ratio:.2f} (alarm at {RATIO}): the unlabelled margin is better satisfied than the "
                "labelled one, so the network clusters its own wrong labels. Lower or ramp up loss.margin_unlabeled.",
                False,
            ))  # fmt: skip
        if values.get("train/centroid_cosine", 0.0) > COSINE:
            found.append(("centroids", "the class centroids all but coincide (mean cosine above 0.99).", True))
        if abs(values.get("train/loss", 0.0)) > LOSS:
            found.append(("loss", f"the loss is {values['train/loss']:.3g}: a term grows without bound.", True))
        return self._new(found)

    def evaluated(self, values: Mapping[str, float]) -> list[tuple[str, str, bool]]:
        """The same for an evaluation."""
        share = values.get(self.primary)
        if share is None:
            return []
        self.in_a_row = self.in_a_row + 1 if share > LARGEST else 0
        if self.in_a_row < IN_A_ROW:
            return []
        text = f"{share:.0%} of all predictions are one class, at {self.in_a_row} evaluations in a row."
        return self._new([("collapse", text, True)])

    def _new(self, found: list[tuple[str, str, bool]]) -> list[tuple[str, str, bool]]:
        fresh = [f for f in found if f[0] not in self.told]
        self.told += [f[0] for f in fresh]
        return fresh
