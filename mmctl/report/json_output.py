"""Results for programs."""

from __future__ import annotations

import json
from typing import Any

from mmctl.run_folder.events import json_safe


def print_json(value: dict[str, Any]) -> None:
    """One object for programs, pure ASCII; NaN and infinity as in the journal."""
    print(json.dumps({"schema_version": 1, **json_safe(value)}, indent=2, allow_nan=False))
