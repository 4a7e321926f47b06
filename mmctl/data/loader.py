"""Step -> Plan -> Batch: everything random or scheduled in a step is a pure function of (seed, step).

B labelled batch, U unlabelled batch, C channels, H height, W width, K classes, N images.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from mmctl import ops
from mmctl.data.draws import generator, rekey_global_generators
from mmctl.data.gather import gather
from mmctl.data.images import Normalization, class_of, one_hot
from mmctl.data.transfer import DevicePlan, Plan
from mmctl.plugin import Batch, Images, Split
from mmctl.recipe.resolved import policy_chain


class Order:
    """Chooses the rows of each step from an endless sequence of permutations of n rows."""

    def __init__(self, n: int, batch: int, seed: int, stream: str, straddle: bool) -> None:
        # Without `straddle` the incomplete last batch of an epoch is dropped, so that no row is twice in a batch.
        self.n, self.batch, self.seed, self.stream = n, batch, seed, stream
        self.straddle = straddle or n < batch
        self._epochs: dict[int, np.ndarray] = {}

    def _epoch(self, e: int) -> np.ndarray:
        if e not in self._epochs:
            self._epochs = {k: v for k, v in self._epochs.items() if k >= e - 1}
            self._epochs[e] = generator(self.seed, self.stream, e).permutation(self.n)
        return self._epochs[e]

    def rows(self, step: int) -> np.ndarray:
        """The global batch of this step."""
        if not self.straddle:
            e, r = divmod(step, self.n // self.batch)
            return self._epoch(e)[r * self.batch : (r + 1) * self.batch]
        first = step * self.batch
        parts, at = [], first
        while at < first + self.batch:
            e, r = divmod(at, self.n)
            stop = min(self.n, r + first + self.batch - at)
            parts.append(self._epoch(e)[r:stop])
            at += stop - r
        return np.concatenate(parts)


class Balanced:
    """Chooses rows so that classes are equally frequent; each class has its own endless sequence of permutations.

    Position j = step * batch + i takes row number j div K of the sequence of class j mod K.
    """

    def __init__(self, class_N: np.ndarray, batch: int, seed: int, stream: str) -> None:
        groups = {int(k): np.flatnonzero(class_N == k) for k in np.unique(class_N)}  # classes with rows only
        self.batch = batch
        self.rows_of = list(groups.values())
        # One Order of batch size 1 per class: its step n gives the n-th row of that class's sequence.
        self.orders = [Order(len(rows), 1, seed, f"{stream}/{k}", straddle=True) for k, rows in groups.items()]

    def rows(self, step: int) -> np.ndarray:
        """The global batch of this step."""
        position = step * self.batch + np.arange(self.batch)
        k, number = position % len(self.orders), position // len(self.orders)
        return np.array(
            [self.rows_of[c][self.orders[c].rows(n)[0]] for c, n in zip(k.tolist(), number.tolist(), strict=True)]
        )


class Loader:
    """Makes the plan and the batch of each step of a run."""

    def __init__(
        self,
        images: Images,
        split: Split,
        views: Mapping[str, Sequence[str]],
        augments: Mapping[str, Any],
        after: Mapping[str, str | None],
        *,
        norm: Normalization,
        batch: int,
        unlabeled_batch: int,
        sampling: str = "uniform",
        seed: int,
        device: torch.device,
        draw: Callable[[Generator, int, int], dict[str, Any]] | None = None,
    ) -> None:
        self.norm, self.normalize = norm, norm.on(device)
        self.seed, self.device, self._draw = seed, device, draw
        self.views = {branch: tuple(views.get(branch, ())) for branch in ("x", "u")}
        self.sizes = {"x": batch, "u": unlabeled_batch if self.views["u"] else 0}
        self.augments = augments
        self.chains = {name: policy_chain(name, after) for name in {v for vs in self.views.values() for v in vs}}
        self.table = {"x": split.labeled, "u": split.unlabeled}  # rows of the training images
        self.rows = {b: torch.as_tensor(r, device=device) for b, r in self.table.items()}
        class_N = class_of(images)
        labeled: Order | Balanced = Order(len(split.labeled), batch, seed, "labeled", straddle=True)
        if sampling == "balanced":
            labeled = Balanced(class_N[split.labeled], batch, seed, "labeled")
        # Draws of foreign code may use the global generators; those of mmctl use only the one that they are given.
        self.foreign = any(map(_is_foreign, [*augments.values(), *([draw] if draw else [])]))
        self.order = {
            "x": labeled,
            "u": Order(len(split.unlabeled), unlabeled_batch, seed, "unlabeled", straddle=False),
        }
        self.resident = not isinstance(images.pixels, np.memmap)
        self.pixels = on_device(images, device) if self.resident else images.pixels
        self.target_NK = torch.from_numpy(one_hot(images, split.labeled)).to(device)  # N labelled images
        # True labels of the unlabelled images, used only to score pseudo-labels; -1 = unknown.
        self.hidden = torch.as_tensor(class_N[split.unlabeled], device=device)

    def plan(self, step: int) -> Plan:
        """Everything about step `step` that is decided on the CPU: rows, random draws, pixels if not on the device."""
        if self.foreign:
            rekey_global_generators(self.seed, step, "draws")
        index = {b: self.order[b].rows(step) if self.sizes[b] else np.zeros(0, np.int64) for b in ("x", "u")}
        view_draws: dict[str, dict[str, dict[str, np.ndarray]]] = {}
        for branch, views in self.views.items():
            for i, view in enumerate(views):
                view_draws[f"{branch}{i}"] = {
                    policy: self.augments[policy].draw(
                        generator(self.seed, f"view/{branch}{i}/{policy}", step), self.sizes[branch]
                    )
                    for policy in self.chains[view]
                }
        draws = self._draw(generator(self.seed, "method", step), *self.sizes.values()) if self._draw else {}
        plan = Plan(step, ops.local_rows(index["x"]), ops.local_rows(index["u"]), view_draws, draws)
        if not self.resident:
            for branch, at in (("x", plan.index_x), ("u", plan.index_u)):
                plan.pixels[branch] = gather(self.pixels, self.table[branch][at])
        return plan

    def batch(self, staged: DevicePlan) -> Batch:
        """Gather, augment and normalise on the device."""
        index = {"x": staged.index_x, "u": staged.index_u}
        raw: dict[str, Tensor] = {}
        by_chain: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for branch, views in self.views.items():
            if views and self.resident:
                # index_select copies whole rows; indexing copies byte by byte, twenty times slower on a CPU.
                raw[branch] = self.pixels.index_select(0, self.rows[branch][index[branch]])
            elif views:
                raw[branch] = staged.pixels[branch]
            for i, view in enumerate(views):
                by_chain.setdefault(self.chains[view], []).append((branch, i))
        augmented: dict[tuple[str, int], Tensor] = {}
        for policies, views_of_chain in by_chain.items():
            # Views with the same chain of policies are one batch: fewer operations, the same numbers per image.
            x = _concatenate([raw[branch] for branch, _ in views_of_chain])
            for policy in policies:
                drawn = [staged.view_draws[f"{branch}{i}"][policy] for branch, i in views_of_chain]
                x = self.augments[policy].apply(
                    x, **{k: _concatenate([ops.local_rows(d[k]) for d in drawn]) for k in drawn[0]}
                )
            parts = torch.split(self.normalize(x), [len(raw[branch]) for branch, _ in views_of_chain])
            augmented.update(zip(views_of_chain, parts, strict=True))
        return Batch(
            x=tuple(augmented["x", i] for i in range(len(self.views["x"]))),
            u=tuple(augmented["u", i] for i in range(len(self.views["u"]))),
            y=self.target_NK[index["x"]],
            index_x=index["x"],
            index_u=index["u"],
            step=staged.step,
            draws=staged.draws,
            view_draws=staged.view_draws,
        )


def _is_foreign(component: Any) -> bool:
    made_in = getattr(component, "__module__", None) or type(component).__module__
    return not made_in.startswith("mmctl.") or made_in.startswith("mmctl.local.")


def _concatenate(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


_uploaded: WeakValueDictionary[tuple[str, tuple[int, ...], str], Tensor] = WeakValueDictionary()


def on_device(images: Images, device: torch.device) -> Tensor:
    """All pixels on the device; the runs of one process share one copy."""
    if device.type == "cpu":
        return torch.as_tensor(images.pixels)
    name = (images.fingerprint, tuple(images.pixels.shape), str(device))
    found = _uploaded.get(name)
    if found is None:
        found = _uploaded[name] = torch.as_tensor(images.pixels).to(device)
        torch.cuda.synchronize(device)  # other runs read it from other CUDA streams
    return found


def prefetch(plan: Callable[[int], Plan], first: int, stop: int, ahead: int = 2) -> Iterator[Plan]:
    """Yield plan(first), ..., plan(stop - 1), computed by a thread up to `ahead` steps early; 0 = no thread."""
    if not ahead:
        yield from map(plan, range(first, stop))
        return
    made: queue.Queue[Plan | BaseException] = queue.Queue(ahead)
    ended = threading.Event()

    def put(item: Plan | BaseException) -> bool:
        while not ended.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for step in range(first, stop):
                if not put(plan(step)):
                    return
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="mmctl-plan", daemon=True)
    thread.start()
    try:
        for _ in range(first, stop):
            item = made.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
        thread.join()
