"""What happens in a run, one event a line of its journal."""

from __future__ import annotations

import json
import math
from typing import Any

from mmctl.run_folder.lease import now


def encode(event: dict[str, Any]) -> bytes:
    """One line of a journal; NaN becomes null, infinity the text "inf" or "-inf"."""
    event = event if "t" in event else {**event, "t": now()}
    try:
        text = json.dumps(event, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError):
        text = json.dumps(json_safe(event), separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def json_safe(value: Any) -> Any:
    """The value as JSON has it: NaN is null, an infinity a text, an array a list."""
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return json_safe(value.tolist())
    return str(value)
