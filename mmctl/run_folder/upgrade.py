"""Run folders of older versions of mmctl: their records and recipes with today's names, made while reading.

Nothing is written back: the folder stays as its own mmctl left it.
"""

from __future__ import annotations

from typing import Any

from mmctl.identity import config_id_of

Config = dict[str, Any]
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


def _value(table: str, key: str, value: Any) -> Any:
    # "unit" or "raw" is now true or false.
    return value == "unit" if table == "centroids" and key in KEYS_1["centroids"] else value


def upgrade_record(record: Config) -> Config:
    """A run.json of any older format as one of today's."""
    if record.get("format") != 1:
        return record
    made = record | {"format": FORMAT}
    cell = made.pop("cell", None)
    config, components = record.get("config"), record.get("components")
    if isinstance(config, dict):
        made["config"] = upgrade_recipe(config)
    if isinstance(components, list):
        made["components"] = [_component(one) for one in components]
    try:  # so that old and new runs of one configuration are compared as one
        made["config_id"] = config_id_of(made["config"], made["components"])
    except (KeyError, TypeError, AttributeError):
        made["config_id"] = cell
    return made


def _component(one: Any) -> Any:
    if not isinstance(one, dict) or one.get("kind") != "method" or not isinstance(one.get("params"), dict):
        return one
    named = upgrade_recipe({"method": {"name": one.get("name"), **one["params"]}})["method"]
    return one | {"params": {key: value for key, value in named.items() if key != "name"}}
