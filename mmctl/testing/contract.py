"""What the contracts of all kinds share: finding and building the component, and promises that every kind makes."""

from __future__ import annotations

import importlib.util
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mmctl.errors import DataError, PluginError
from mmctl.registry.index import Index
from mmctl.registry.parameters import Shape, check_table, documentation, parameters, shape, values
from mmctl.registry.sources import Entry, marks
from mmctl.text import dotted

Size = tuple[int, int, int]
"""C, H, W of images."""


class Broken(AssertionError):
    """A component breaks a promise of its kind."""


class ContractNote(UserWarning):
    """Something that a component may do, and that its author should know."""


class Contract:
    """Base of all contracts: subclass the one of your component's kind, and name the component."""

    kind: ClassVar[str]
    component: ClassVar[Any] = None
    params: ClassVar[Sequence[Mapping[str, Any]]] = ({},)

    @cached_property
    def index(self) -> Index:
        """All components of the project and of installed packages."""
        return Index()

    @cached_property
    def entry(self) -> Entry | None:
        """The component in the index; None if the class or function itself was given."""
        return self.index.find(self.kind, self.component) if isinstance(self.component, str) else None

    @property
    def who(self) -> str:
        """The component for messages."""
        if self.entry:
            return f"{self.kind} {self.entry.qualified}"
        return f"{self.kind} {getattr(self.component, '__name__', self.component)}"

    def loaded(self) -> tuple[Any, Shape]:
        """The class or function, and its arguments."""
        if self.component is None:
            raise PluginError(f"{type(self).__name__}: set `component` to the name of your {self.kind}.")
        if self.entry:
            return self.index.load(self.entry), self.index.shape(self.entry)
        mark = vars(self.component).get("__mmctl__")
        if not mark or mark[0] != self.kind:
            raise PluginError(f'{self.who} has no mark: put @{self.kind}("NAME") above it.')
        return self.component, shape(self.component, self.kind)

    def build(self, table: Mapping[str, Any], **known: Any) -> Any:
        """The component built as a run builds it, from a table of parameters and what mmctl supplies."""
        component, arguments = self.loaded()
        checked, faults = check_table(arguments.model, table)
        if checked is None:
            raise PluginError(f"{self.who}: " + "; ".join(f"{dotted(at)}: {text}" for at, text in faults))
        supplied = {name: value for name, value in known.items() if name in arguments.supplied}
        return component(**supplied, **values(checked))

    def of_sizes(
        self, sizes: Sequence[Size], make: Callable[[Mapping[str, Any], Size], Any]
    ) -> Iterator[tuple[Size, Mapping[str, Any], Any]]:
        """Every size and table with what `make` builds of them, without the sizes that it refuses with DataError."""
        found = False
        for size in sizes:
            for table in self.params:
                try:
                    part = make(table, size)
                except DataError:
                    continue
                found = True
                yield size, table, part
        if not found:
            raise self.broken(f"refuses all of the sizes {sizes}", "Set `sizes` to sizes that it takes.")

    def broken(self, found: str, fix: str) -> Broken:
        """The error for a broken promise."""
        return Broken(f"{self.who} {found}. {fix}")

    def note(self, text: str) -> None:
        """Something worth knowing that breaks no promise."""
        warnings.warn(f"{self.who} {text}", ContractNote, stacklevel=2)

    def test_signature(self) -> None:
        """Supplied arguments stand before the *, parameters with types and defaults after it."""
        component, arguments = self.loaded()
        for row in parameters(arguments.model):
            if not row.meaning:
                raise self.broken(
                    f"does not explain its parameter {row.name}",
                    f"Add `{row.name}: ...` under `Args:` in its docstring.",
                )
        if not documentation(component).strip():
            raise self.broken("has no docstring", "Its first line is the summary in `mmctl plugins list`.")
        for table in self.params:
            _, faults = check_table(arguments.model, table)
            if faults:
                each = "; ".join(f"{dotted(at)}: {text}" for at, text in faults)
                raise self.broken(f"does not take the parameters {dict(table)}: {each}", "Correct `params`.")

    def test_found_without_import(self) -> None:
        """The mark can be read from the source: `plugins list` imports nothing."""
        component, _ = self.loaded()
        kind, name = component.__mmctl__
        source = inspect.getsourcefile(component)
        found = [(m.kind, m.name, m.attr) for m in marks(Path(source).read_text("utf-8"))] if source else []
        if (kind, name, component.__qualname__) not in found:
            raise self.broken(
                "is not found by reading its source",
                f'Write the mark as @{kind}("{name}") at the start of a line, above class or def in the same file.',
            )

    def test_import_changes_nothing(self) -> None:
        """Importing the file draws no random numbers and starts no CUDA."""
        component, _ = self.loaded()
        file, name = inspect.getsourcefile(component), f"{component.__module__}__again"
        spec = importlib.util.spec_from_file_location(name, file) if file else None
        if spec is None or spec.loader is None or component.__module__ == "__main__":
            return
        before = _generators()
        started = _cuda_started()
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # timm warns of a name that is registered twice
                spec.loader.exec_module(module)
        finally:
            del sys.modules[name]
        if _generators() != before:
            raise self.broken("draws random numbers while its file is imported", "Draw them in __init__ or in `draw`.")
        if _cuda_started() and not started:
            raise self.broken("starts CUDA while its file is imported", "mmctl moves components to the device itself.")

    def same_state(self, part: Any, fresh: Any) -> None:
        """Give `fresh` the state that a checkpoint keeps of `part`."""
        if isinstance(part, nn.Module):
            fresh.load_state_dict(part.state_dict())


def _cuda_started() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _generators() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    return (torch.get_rng_state().numpy().tobytes(), state[1].tobytes(), state[2], random.getstate())


@contextmanager
def keyed(seed: int) -> Iterator[None]:
    """Seed the global generators as a step does, and give them back their state afterwards."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


@contextmanager
def generators_untouched(who: str, what: str) -> Iterator[None]:
    """Raise Broken if the global generators are used inside."""
    before = _generators()
    yield
    if _generators() != before:
        raise Broken(f"{who} uses global random numbers in {what}. Use a generator of its own with a seed.")


@contextmanager
def fake_gpu(who: str) -> Iterator[torch.device]:
    """Tensors without values on a CUDA device that need not exist; refuses what a CUDA graph could not hold."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    try:
        with FakeTensorMode():
            yield torch.device("cuda")
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise Broken(
            f"{who} reads a value of a tensor on the CPU, or makes a tensor whose shape depends on values ({error}). "
            "Use torch.where, masks and sums in place of .item(), if, nonzero or boolean indexing: the GPU would wait."
        ) from error
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        if "device" not in text:
            raise
        raise Broken(
            f"{who} makes a tensor on the wrong device ({text}). Use device=x.device, new_zeros or register_buffer."
        ) from error


def equal(a: Any, b: Any) -> bool:
    """Whether two results are the same bits: tensors, arrays, and tuples and dicts of them."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
