"""Which part of a run owns which tensor: each is saved once, under the first part that reaches it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def owned(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every persistent tensor once, under the first part that reaches it, by identity."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for owner, part in parts.items():
        for name, tensor in part.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{owner}.{name}"] = tensor
    return found


def own_groups(parts: Mapping[str, nn.Module], params: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Parameters of modules that carry an `optim` dict: their own learning rate, momentum and weight decay."""
    names = {id(p): k for k, p in params.items()}
    return {
        names[id(p)]: module.optim  # type: ignore[misc]
        for part in parts.values()
        for module in part.modules()
        if isinstance(getattr(module, "optim", None), dict)
        for p in module.parameters(recurse=False)
        if id(p) in names
    }
