"""What is checked before a run folder exists, so that a mistake leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mmctl.data.split import make_split
from mmctl.errors import MmctlError, PluginError
from mmctl.recipe.recipe import Recipe
from mmctl.runs.build import Data, Shared, build_training, read_data, try_one_step
from mmctl.runs.hardware import DTYPES, device_of
from mmctl.runs.recorder import plugin_line


def preflight(recipes: list[Recipe]) -> Callable[[Recipe], tuple[str, str]]:
    """Read the data, build every part and rehearse a step before a run folder exists: a mistake leaves nothing.

    Gives what finds the hashes of the data and of the split of these recipes, whatever their seed.
    """
    read: dict[str, Data] = {}
    shared: Shared = {}
    for recipe in recipes:
        device_of(recipe.settings.train.device)
        data = read[recipe.config_id] = read_data(recipe, shared=shared)
        build_training(recipe, data, torch.device("cpu"), DTYPES["fp32"])
        try:
            try_one_step(recipe, data)
        except MmctlError:
            raise
        except Exception as error:
            components = recipe.components()
            foreign = [f"{c['kind']} {c['name']}" for c in components if c["origin"] != "mmctl"]
            if not foreign:
                raise
            place = plugin_line(error, components) or f"one of {', '.join(foreign)} does not fit"
            raise PluginError(
                f"{place}: {type(error).__name__}: {error} (in a first step on a few pictures)."
            ) from error

    def hashes(recipe: Recipe) -> tuple[str, str]:
        data = read[recipe.config_id]
        return data.digest, make_split(data.images["train"], recipe.settings.split, recipe.seed).sha256

    return hashes
