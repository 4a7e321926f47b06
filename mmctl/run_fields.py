"""The fields of a run that a condition on the command line may name, such as state:failed."""

from __future__ import annotations

FIELDS = {
    "state": "state", "tag": "tags", "sweep": "sweeps", "name": "name", "recipe": "recipe", "method": "method",
    "labeler": "labeler", "seed": "seed", "labels": "labeled", "config": "config_id", "host": "host", "uid": "uid",
    "attempt": "attempt", "step": "step", "star": "starred", "archived": "archived",
    "device": "device", "precision": "precision", "threads": "threads",
}  # fmt: skip
"""Field -> its key in a row of the index. A module of its own, since TAB must not wait for the store's imports."""
