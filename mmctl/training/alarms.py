"""Alarms: signs that a run has gone wrong although no number is NaN or infinite.

The thresholds come from trials of MarginMix variants on real data. There they separated the runs that collapsed or
diverged from all others; they are not proven in general.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST = 0.9  # one class gets more than this share of all predictions ...
IN_A_ROW = 3  # ... at this many evaluations in a row
RATIO = 1.5  # L_M2 / L_M1: the unlabelled margin is this much better satisfied than the labelled one ...
AFTER = 1 / 3  # ... after this share of the run
COSINE = 0.99  # mean cosine between class centroids: they nearly coincide
LOSS = 100.0  # a loss term is normally a few units


@dataclass
class Alarms:
    """Checks each point of the training curve and each evaluation, and gives each kind of alarm once per run.

    Its counters are saved in the checkpoint.
    """

    total: int
    primary: str  # the metric "SPLIT/WEIGHTS/head/largest_class" that is checked
    weights: Mapping[str, float]  # of the loss terms
    in_a_row: int = 0
    reported: list[str] = field(default_factory=list)

    def point(self, step: int, values: Mapping[str, float]) -> list[tuple[str, str, bool]]:
        """(kind, message, whether the run has collapsed) for a point of the training curve."""
        found = []
        ratio, margin = values.get("train/margin_ratio"), values.get("train/margin", 0.0)
        if step > AFTER * self.total and ratio is not None and margin < 0 and ratio >= RATIO:
            found.append((
                "runaway",
                f"L_M2 / L_M1 is {ratio:.2f} (alarm at {RATIO}): the unlabelled margin is better satisfied than the "
                "labelled one, so the network clusters its own wrong labels. Lower or ramp up loss.margin_unlabeled.",
                False,
            ))  # fmt: skip
        if values.get("train/centroid_cosine", 0.0) > COSINE:
            found.append(("centroids", f"the class centroids nearly coincide (mean cosine above {COSINE}).", True))
        for term, weight in self.weights.items():
            value = values.get(f"train/{term}", 0.0)
            if abs(value) * min(1.0, weight) > LOSS:  # a large weight is the recipe's choice, and no sign
                found.append(("loss", f"the loss term {term} is {value:.3g}: it grows without bound.", True))
                break
        return self._new(found)

    def evaluated(self, values: Mapping[str, float]) -> list[tuple[str, str, bool]]:
        """The same for an evaluation."""
        share = values.get(self.primary)
        if share is None:
            return []
        self.in_a_row = self.in_a_row + 1 if share > LARGEST else 0
        if self.in_a_row < IN_A_ROW:
            return []
        text = f"one class gets {100 * share:.0f} % of all predictions, at {self.in_a_row} evaluations in a row."
        return self._new([("collapse", text, True)])

    def _new(self, found: list[tuple[str, str, bool]]) -> list[tuple[str, str, bool]]:
        new = [f for f in found if f[0] not in self.reported]
        self.reported += [f[0] for f in new]
        return new
