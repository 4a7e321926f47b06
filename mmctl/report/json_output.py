"""Results as JSON, for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mmctl.run_folder.values import json_safe


def print_json(value: Mapping[str, object]) -> None:
    """One object in pure ASCII; NaN is null and infinity is the text "inf", as in the journal."""
    print(json.dumps(json_safe({"schema_version": 1, **value}), indent=2, allow_nan=False))
