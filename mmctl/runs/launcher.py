"""Builds a launcher from its table in a recipe, and checks what it promises; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmctl.component_types import JOB_WORDS
from mmctl.errors import MmctlError, PluginError
from mmctl.plugin import JobState, Launcher, Limits
from mmctl.registry.index import Index, failure
from mmctl.registry.parameters import check_table, values
from mmctl.text import dotted

GOING = ("queued", "running", "held")
"""What a launcher says of a run that is not over."""
NEEDED = ("start", "states", "cancel", "limits")
"""Methods that each launcher has; a lasting one also has `find`."""


def launcher_of(table: Mapping[str, Any], index: Index | None = None) -> Launcher:
    """The launcher of a table [launcher]; PluginError if it cannot be built or breaks its interface."""
    index = index or Index()
    own = dict(table)
    entry = index.find("launcher", str(own.pop("name", "local")))
    checked, faults = check_table(index.shape(entry).model, own)
    if checked is None:
        raise PluginError(f"launcher {entry.qualified}: " + "; ".join(f"{dotted(at)}: {text}" for at, text in faults))
    try:
        made = index.load(entry)(**values(checked))
    except MmctlError:
        raise
    except Exception as error:
        raise PluginError(failure(entry, error, "cannot be built")) from error
    check_launcher(f"launcher {entry.qualified}", made)
    return made  # type: ignore[no-any-return]


def check_launcher(who: str, launcher: Any) -> None:
    """PluginError unless it has every method of its interface, and `limits` gives Limits of at least one run."""
    for name in (*NEEDED, "find") if is_lasting(launcher) else NEEDED:
        if not callable(getattr(launcher, name, None)):
            raise PluginError(f"{who} has no method {name}. Write it as Launcher.{name} in mmctl.plugin says.")
    try:
        limits = launcher.limits()
    except MmctlError:
        raise
    except Exception as error:
        raise PluginError(
            f"{who} raises {type(error).__name__} in limits: {error}. It must always give Limits."
        ) from error
    if not isinstance(limits, Limits) or not isinstance(limits.slots, int) or limits.slots < 1:
        raise PluginError(f"{who} returns {limits!r} from limits. Return mmctl.plugin.Limits(slots), slots at least 1.")


def is_lasting(launcher: Launcher) -> bool:
    """Whether its runs outlive mmctl."""
    return bool(getattr(launcher, "lasting", False))


def wrong_state(states: Any, ids: Sequence[str]) -> str | None:
    """The first id that `states` of a launcher gave no state, with its answer, or None."""
    for one in ids:
        said = states.get(one) if isinstance(states, Mapping) else states
        if not isinstance(said, JobState) or said.word not in JOB_WORDS:
            return f"{one}: {said!r}"
    return None
