"""Runs the contract of a component without a test file: `mmctl plugins check`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mmctl import project
from mmctl.errors import MmctlError
from mmctl.registry.index import Index
from mmctl.registry.sources import Entry
from mmctl.testing.augment import AugmentContract
from mmctl.testing.backbone import BackboneContract
from mmctl.testing.contract import Broken, Contract, ContractNote
from mmctl.testing.dataset import DatasetContract
from mmctl.testing.labeler import LabelerContract
from mmctl.testing.launcher import LauncherContract
from mmctl.testing.loss import LossContract
from mmctl.testing.method import MethodContract

CONTRACTS: Mapping[str, type[Contract]] = {
    made.kind: made
    for made in (
        AugmentContract, BackboneContract, DatasetContract, LabelerContract, LauncherContract, LossContract,
        MethodContract,
    )
}  # fmt: skip


class Promise(NamedTuple):
    """One promise of a contract and how a component keeps it."""

    sentence: str
    broken: str | None  # what is wrong and how to mend it; None = kept
    notes: tuple[str, ...]  # allowed, but worth knowing


def contract_of(entry: Entry, index: Index, table: Mapping[str, Any]) -> type[Contract]:
    """The contract of a component in the index; table: parameters to try, and `root` of a data set."""
    given: dict[str, Any] = {"component": entry.qualified, "index": index}
    own = dict(table)
    if entry.kind == "dataset":  # as a run finds it: the folder that is given, else data/NAME
        root = own.pop("root", None)
        given["root"] = project.data_root(None if root is None else str(root), entry.name)
    return type("Checked", (CONTRACTS[entry.kind],), given | ({"params": (own,)} if own else {}))


def promises_of(entry: Entry, index: Index, table: Mapping[str, Any]) -> Iterator[Promise]:
    """The promises of an entry of the index; table: as for `contract_of`."""
    if entry in index.missed:
        yield Promise("It is found without importing its file.", f"{entry.place}: {entry.broken}.", ())
    else:
        yield from promises(contract_of(entry, index, table))


def promises(contract: type[Contract]) -> Iterator[Promise]:
    """Run every promise of a contract, one after the other; without a right signature nothing else is tried."""
    made = contract()
    tests = [vars(owner).items() for owner in reversed(contract.__mro__)]
    for name, function in {name: value for own in tests for name, value in own if name.startswith("test_")}.items():
        sentence = (inspect.getdoc(function) or name).splitlines()[0]
        found: str | None = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                function(made)
            except (Broken, MmctlError) as error:
                found = str(error)
            except Exception as error:
                found = f"{made.who} raises {type(error).__name__}: {error}"
        notes = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, ContractNote))
        yield Promise(sentence, found, tuple(notes))
        if found and name == "test_signature":
            return
