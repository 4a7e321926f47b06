"""What the manifest of a checkpoint says beside its tensors, for tests that publish one without a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAINING = {"tally": ["loss", *"abcd"], "judged": -1, "collapsed": "", "in_a_row": 2, "told": ["loss"], "unsaved": []}
ENVIRONMENT = {
    "threads": 1, "precision": "fp32", "device": "cpu", "isa": "AVX2", "versions": {"torch": "2"}, "code": "c",
}  # fmt: skip


def facts(training: Mapping[str, Any] = TRAINING) -> dict[str, Any]:
    return {
        "run": "r", "attempt": 1, "reason": "periodic", "mmctl": "0", "data": "a" * 64, "split": "b" * 64,
        "environment": ENVIRONMENT, "training": training,
    }  # fmt: skip
