"""What the newest runs were computed from: data, split and code."""

from __future__ import annotations

import json
from typing import TypedDict, cast

from mmctl.run_folder.upgrade import Config, Setting
from mmctl.store.store import Store


class OriginRow(TypedDict):
    """What a run was computed from; None = unknown. `git`, `config` and `components` may hold anything."""

    uid: str
    recipe: str
    seed: int | None
    data_hash: str | None
    split_hash: str | None
    code_hash: str | None
    git: Setting
    config: Config
    components: Setting


def origins(store: Store, config_id: str | None, newest: int) -> list[OriginRow]:
    """What the newest runs of a configuration were computed from (None = of the newest runs of all), newest first.

    Without those that failed or are hidden: nobody compares with them.
    """
    among = "SELECT * FROM runs ORDER BY created DESC LIMIT ?2" if config_id is None else "SELECT * FROM runs"
    sql = (
        "SELECT uid, recipe, seed, data_hash, split_hash, code_hash, json_extract(about, '$.git') AS git, config, "
        f"json_extract(about, '$.components') AS components FROM ({among}) "
        f"WHERE {'?1 IS NULL' if config_id is None else 'config_id = ?1'} "
        "AND unreadable IS NULL AND altered = '[]' AND archived = 0 AND state != 'failed' "
        "ORDER BY created DESC LIMIT ?2"
    )
    rows = store._rows(sql, [config_id, newest])
    return [
        cast(OriginRow, row | {key: json.loads(row[key] or "null") for key in ("git", "config", "components")})
        for row in rows
    ]
