"""Run folders of older versions of mmctl: their records and recipes with today's names, made while reading.

Nothing is written back: the folder stays as its own mmctl left it.
"""

from __future__ import annotations

from typing import TypeAlias, cast

from mmctl.identity import COUNTED_BEFORE, config_id_of

Setting: TypeAlias = "bool | int | float | str | list[Setting] | dict[str, Setting] | None"
"""A value of a recipe or of run.json."""
Config: TypeAlias = dict[str, Setting]
"""A resolved recipe, or another record of run.json: nested tables of plain values."""

FORMAT = 2
"""Of run.json. 2: recipe keys renamed as in KEYS_1, `cell` is config_id."""

KEYS_1 = {
    "method": {"group": "bn_groups", "guess_group": "guess_bn_groups", "update": "bn_update", "per": "lambda_per"},
    "centroids": {"member": "normalize_embeddings", "norm": "normalize_centroids"},
    "split": {"short": "on_shortage"},
}
"""Recipe keys of format 1 and what they are called now; of methods, those of mmctl's own."""


def upgrade_recipe(data: Config) -> Config:
    """A resolved recipe of format 1 with today's keys; one that has them already stays as it is."""
    made = dict(data)
    for table, keys in KEYS_1.items():
        old = made.get(table)
        if isinstance(old, dict) and (table != "method" or str(old.get("name", "")).startswith("mmctl:")):
            made[table] = {keys.get(key, key): _value(table, key, value) for key, value in old.items()}
    return made


def _value(table: str, key: str, value: Setting) -> Setting:
    # "unit" or "raw" is now true or false.
    return value == "unit" if table == "centroids" and key in KEYS_1["centroids"] else value


def upgrade_record(record: Config) -> Config:
    """A run.json of any older version as one of today's, so that old and new runs of one configuration are one."""
    if record.get("format") != 1:
        return record | _present_id(record)
    made = record | {"format": FORMAT}
    cell = made.pop("cell", None)
    config, components = record.get("config"), record.get("components")
    if isinstance(config, dict):
        made["config"] = config = upgrade_recipe(config)
    if isinstance(components, list):
        made["components"] = components = [_component(one) for one in components]
    try:
        made["config_id"] = config_id_of(cast(Config, config), cast(list[Config], components))
    except (KeyError, TypeError, AttributeError):
        made["config_id"] = cell
    return made


def _present_id(record: Config) -> Config:
    """Today's config_id, if the recorded one is that of an older version; a wrong one stays wrong."""
    config, components = cast(Config, record.get("config")), cast(list[Config], record.get("components"))
    try:
        if record.get("config_id") == config_id_of(config, components, COUNTED_BEFORE):
            return {"config_id": config_id_of(config, components)}
    except (KeyError, TypeError, AttributeError, RecursionError):
        pass
    return {}


def _component(one: Setting) -> Setting:
    params = one.get("params") if isinstance(one, dict) and one.get("kind") == "method" else None
    if not isinstance(one, dict) or not isinstance(params, dict):
        return one
    named = upgrade_recipe({"method": params | {"name": one.get("name")}})["method"]
    return one | {"params": {key: value for key, value in cast(Config, named).items() if key != "name"}}
