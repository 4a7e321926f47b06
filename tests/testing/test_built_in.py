"""Every component of mmctl keeps the promises that its own contract asks of a stranger's."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from mmctl.registry.index import Index
from mmctl.registry.sources import Entry
from mmctl.testing.check import CONTRACTS, contract_of

INDEX = Index(sources="off")
QUICK = {"small", "digits", "mixmatch", "fixmatch"}
"""Of the kinds whose contract takes seconds, what the default tier tries."""
PUBLISHED = ("pictures", "cifar10", "cifar100", "eurosat", "fer2013", "ferplus", "rafdb", "stl10", "svhn")
ELSEWHERE = {
    **dict.fromkeys(PUBLISHED, "needs files: tests/datasets"), "ctaugment_probe": "needs a policy: tests/augments",
    "manual": "starts nothing: tests/launchers",
    "slurm": "needs a cluster: tests/launchers/test_slurm_cluster.py",
}  # fmt: skip
PARAMS: dict[str, tuple[dict[str, Any], ...]] = {
    "fuzzy": (
        {},
        {"temperature": 1.0},
        {"sharpening": "printed"},
        {"prior": "running"},
        {"align": "uniform", "window": 3},
    ),
    "threshold": ({"tau": 0.4}, {"tau": 0.4, "target": "soft", "align": "train_prior"}),
    "flex": ({"tau": 0.4}, {"tau": 0.4, "warmup": False}),
    "soft": ({}, {"align": "none"}),
    "timm": ({"model": "resnet10t"},),
    "torchvision": ({"model": "resnet18"},),
    "torchvision augment": tuple(
        {"policy": name, "args": args}
        for name, args in {
            "RandAugment": {},
            "AutoAugment": {"policy": "svhn"},
            "RandomCrop": {"padding": 2},
            "RandomErasing": {"p": 1.0},
        }.items()
    ),
    "marginmix": ({}, {"guesser": "ema"}, {"bn_groups": "joint", "bn_update": "all", "lambda_per": "batch"}),
    "vat": ({"iterations": 2},),
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "remixmatch": {
        "augment.strong": {"name": "ctaugment"},
        "augment.probe": {"name": "ctaugment_probe", "after": "weak"},
    },
}


def checked(entry: Entry) -> Any:
    """The contract of a component, with parameters worth trying."""
    made: Any = contract_of(entry, INDEX, {})
    made.params = PARAMS.get(f"{entry.name} {entry.kind}") or PARAMS.get(entry.name, ({},))
    if entry.kind == "method":
        made.settings = SETTINGS.get(entry.name, {})
    return made()


def slow(entry: Entry) -> bool:
    return entry.kind in ("backbone", "dataset", "method", "launcher") and entry.name not in QUICK


CASES = [
    pytest.param(entry, name, id=f"{entry.kind}-{entry.name}-{name[5:]}", marks=[pytest.mark.exhaustive] * slow(entry))
    for entry in INDEX.entries
    if entry.name not in ELSEWHERE
    for name, _ in inspect.getmembers(CONTRACTS[entry.kind], inspect.isfunction)
    if name.startswith("test_")
]


@pytest.mark.sampled(12)
@pytest.mark.filterwarnings("ignore::mmctl.testing.ContractNote")
@pytest.mark.parametrize(("entry", "name"), CASES)
def test_promise(entry: Entry, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    getattr(checked(entry), name)()


def test_every_kind_has_a_contract() -> None:
    assert set(CONTRACTS) == {entry.kind for entry in INDEX.entries}
    for contract in CONTRACTS.values():
        for name, function in inspect.getmembers(contract, inspect.isfunction):
            if name.startswith("test_"):
                assert (inspect.getdoc(function) or "").splitlines()[0].endswith((".", ").")), (contract, name)
