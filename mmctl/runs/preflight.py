"""Checks recipes before run folders are created."""

from __future__ import annotations

from collections.abc import Callable

from mmctl.data.split import make_split
from mmctl.errors import MmctlError, PluginError
from mmctl.image_files.progress import no_progress
from mmctl.recipe.recipe import Recipe
from mmctl.runs.build import Data, Shared, read_data, try_one_step
from mmctl.runs.check import check_before_start, notes_of
from mmctl.runs.hardware import device_of
from mmctl.runs.progress import doing, tell
from mmctl.runs.recorder import out_of_memory, plugin_line


def preflight(
    recipes: list[Recipe], quiet: bool = False, shared: Shared | None = None
) -> Callable[[Recipe], tuple[str, str]]:
    """Read the data, build all components and run one step, so that a mistake leaves no run folder behind.

    quiet: do not show on the terminal what it does; shared: gets the data sets, for a run in this process.
    Returns a function: recipe (one of these, with any seed) -> hash of its data set, hash of its split.
    Raises PluginError if a plugin fails, and the errors of read_data and try_one_step.
    """
    read: dict[str, Data] = {}
    shared = {} if shared is None else shared
    lines: dict[str, None] = {}
    for recipe in recipes:
        device_of(recipe.settings.train.device)
        with no_progress(quiet), doing(f"reading {recipe.dataset_name} ...", quiet):
            data = read[recipe.config_id] = read_data(recipe, shared=shared)
        lines |= dict.fromkeys(f"warning: {line}" for line in check_before_start(recipe, data))
        if not quiet:
            lines |= dict.fromkeys(f"note: {line}" for line in notes_of(data.images))
        try:
            with doing(f"checking {recipe.name} with one step ...", quiet):
                try_one_step(recipe, data)
        except MmctlError:
            raise
        except Exception as error:
            if full := out_of_memory(error, "in a test step on a few images"):
                raise full from error
            components = recipe.components()
            plugins = [f"{c['kind']} {c['name']}" for c in components if c["origin"] != "mmctl"]
            if not plugins:
                raise
            place = plugin_line(error, components) or f"one of {', '.join(plugins)} does not work here"
            raise PluginError(f"{place}: {type(error).__name__}: {error} (in a test step on a few images).") from error

    for line in lines:
        tell(line)

    def hashes(recipe: Recipe) -> tuple[str, str]:
        data = read[recipe.config_id]
        return data.digest, make_split(data.images["train"], recipe.settings.split, recipe.seed).sha256

    return hashes
