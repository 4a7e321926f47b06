"""Finds state that no checkpoint saves: plain attributes of components that change in training.

A counter in a Python attribute, a list that grows, a generator of random numbers, a tensor that is no buffer: after a
resume they would start again. Closures, and globals of a plugin's module, are not looked at.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import deque
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SAMPLE = 2**20
"""Of a larger array, about so many elements are compared."""
DEPTH = 5
SKIPPED = frozenset(vars(nn.Module())) | {"track_running_stats"}
"""What torch keeps in a module: parameters, buffers, hooks; and what each forward of mmctl.training.model sets."""


def snapshot(components: Mapping[str, Any]) -> dict[str, str]:
    """Every plain attribute of the components and their submodules, by name, as a text that changes with its value.

    A class may list attributes that are no state, such as a cache, in `not_state`.
    """
    parts = [
        (f"{owner}.{name}" if name else owner, inner)
        for owner, component in components.items()
        for name, inner in (component.named_modules() if isinstance(component, nn.Module) else [("", component)])
    ]
    # What has a name of its own, and tensors that share their memory with those that a checkpoint saves.
    known = {id(inner) for _, inner in parts}
    for component in components.values():
        if isinstance(component, nn.Module):
            known |= {_memory(t) for t in component.state_dict(keep_vars=True).values() if isinstance(t, Tensor)}
    found: dict[str, str] = {}
    for path, inner in parts:
        for key, value in _attributes(inner):
            with suppress(Exception):  # foreign objects may refuse to be looked at
                found[f"{path}.{key}"] = _text(value, known, DEPTH)
    return found


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of attributes that differ, or are in one of the two only."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _attributes(component: Any) -> Iterator[tuple[str, Any]]:
    skipped = {*getattr(type(component), "not_state", ())}
    if isinstance(component, nn.Module):
        skipped |= SKIPPED
        for key in sorted(component._non_persistent_buffers_set):
            yield key, component._buffers[key]
    yield from ((key, value) for key, value in getattr(component, "__dict__", {}).items() if key not in skipped)


def _text(value: Any, known: Set[int], depth: int) -> str:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if id(value) in known or depth == 0 or isinstance(value, type):
        return ""
    if isinstance(value, Tensor):
        if _memory(value) in known:
            return ""
        flat = value.detach().flatten()
        sample = flat[:: 1 + flat.numel() // SAMPLE].cpu().contiguous()
        return _digest(value.dtype, value.shape, sample.view(torch.uint8).numpy())
    if isinstance(value, np.ndarray) and value.dtype != object:
        flat_N = value.reshape(-1)
        return _digest(value.dtype, value.shape, flat_N[:: 1 + flat_N.size // SAMPLE])
    if isinstance(value, (np.random.Generator, np.random.RandomState)):
        return repr(value.bit_generator.state if isinstance(value, np.random.Generator) else value.get_state())
    if isinstance(value, random.Random):
        return repr(value.getstate())
    if isinstance(value, torch.Generator):
        return _text(value.get_state(), known, depth)
    if isinstance(value, Mapping):
        return repr([(str(k), _text(v, known, depth - 1)) for k, v in value.items()])
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        texts = [_text(v, known, depth - 1) for v in value]
        return repr(sorted(texts) if isinstance(value, (set, frozenset)) else texts)
    if callable(value) and not isinstance(value, nn.Module):
        return ""
    if hasattr(value, "__dict__"):
        return type(value).__name__ + repr([(k, _text(v, known, depth - 1)) for k, v in vars(value).items()])
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # itertools.count, and whatever shows its state


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _digest(dtype: object, shape: object, data: np.ndarray) -> str:
    return f"{dtype} {shape} " + hashlib.blake2b(np.ascontiguousarray(data).tobytes(), digest_size=16).hexdigest()
