"""The contract of labelers. U unlabelled batch, K classes, D embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmctl.plugin import Batch, Output, PseudoLabels
from mmctl.runs.promises import check_pseudo_labels, has_methods
from mmctl.testing.contract import Broken, Contract, equal, fake_gpu, keyed
from mmctl.testing.inputs import LABELED, SHUFFLED, U, batch, known, outputs
from mmctl.testing.ranks import on_ranks


class LabelerContract(Contract):
    """Pseudo-labels are distributions without gradient, and the labeler's state lies in buffers."""

    kind = "labeler"

    def labeler(self, table: Any, K: int = 3, device: str | torch.device = "cpu") -> Any:
        """The labeler of a table, with known centroids."""
        made = self.build(table, **known(K, torch.device(device)))
        has_methods(self.who, "labeler", made)
        return made.to(device)

    def each(self) -> Iterator[tuple[int, Callable[[], Any]]]:
        """Every table of parameters with what makes a labeler of it, for 2, 3 and 10 classes."""
        for table in self.params:
            for K in (2, 3, 10):
                yield K, partial(self.labeler, table, K)

    def label(self, part: Any, views: tuple[Output, ...], labeled: Output, at: Batch) -> PseudoLabels:
        """One call as a method makes it."""
        with torch.no_grad():
            return part(*views, batch=at, labeled=labeled)  # type: ignore[no-any-return]

    def check(self, part: Any, K: int, views: tuple[Output, ...], labeled: Output) -> PseudoLabels:
        """One call whose result is checked; what the network said is not changed by it."""
        kept = [t.clone() for out in (*views, labeled) for t in out]
        given = part(*views, batch=batch(K), labeled=labeled)
        check_pseudo_labels(self.who, part, given, U, K)
        if not equal(tuple(kept), tuple(t for out in (*views, labeled) for t in out)):
            raise self.broken("changes the logits or embeddings that it is given", "Work on a copy.")
        return given  # type: ignore[no-any-return]

    def test_distributions(self) -> None:
        """Targets are distributions, weights lie in 0 .. 1, and neither has a gradient."""
        for K, make in self.each():
            part = make()
            for step in range(3):
                for count in (1, 2):
                    views = tuple(outputs(U, K, seed=10 * step + v, gradient=True) for v in range(count))
                    self.check(part, K, views, outputs(LABELED, K, seed=step + 77, gradient=True))

    def test_extreme_logits(self) -> None:
        """Very large, very small and equal logits give no NaN."""
        for K, make in self.each():
            for scale in (0.0, 1e-8, 1e4, 1e30):
                views = (outputs(U, K, seed=1, scale=scale), outputs(U, K, seed=2, scale=scale))
                self.check(make(), K, views, outputs(LABELED, K, seed=3, scale=scale))

    def test_state_is_saved(self) -> None:
        """A copy made from a checkpoint gives the same labels, bit for bit."""
        for K, make in self.each():
            part, fresh = make(), make()
            for step in range(3):
                with keyed(step):
                    self.label(part, (outputs(U, K, seed=step),), outputs(LABELED, K, seed=step), batch(K, step))
            self.same_state(part, fresh)
            for step in (3, 4):
                found = []
                for one in (part, fresh):
                    with keyed(step):
                        x = outputs(LABELED, K, seed=step)
                        found.append(self.label(one, (outputs(U, K, seed=step),), x, batch(K, step)))
                if not equal(*found):
                    raise self.broken(
                        "has state that a checkpoint does not keep",
                        "Keep counters and averages in register_buffer, not in Python numbers or plain attributes.",
                    )

    def test_deterministic(self) -> None:
        """The same inputs give the same labels."""
        for K, make in self.each():
            x, views = outputs(LABELED, K, seed=5), (outputs(U, K, seed=6),)
            found = []
            for seed in (1, 1, 2):
                with keyed(seed):
                    found.append(self.label(make(), views, x, batch(K)))
            if not equal(found[0], found[1]):
                raise self.broken("gives other labels at each call", "Use no time, no hash() and no own generator.")
            if not equal(found[0], found[2]):
                self.note("draws from global generators: exact on one device, but other numbers over several processes")

    def test_order_of_the_batch(self) -> None:
        """The label of an image does not depend on its place in the batch."""
        for K, make in self.each():
            views, x, order = (outputs(U, K, seed=8),), outputs(LABELED, K, seed=9), SHUFFLED
            turned = tuple(Output(v.logits[order], v.emb[order]) for v in views)
            at = batch(K)
            with keyed(1):
                one = self.label(make(), views, x, at)
            at.index_u = at.index_u[order]
            with keyed(1):
                other = self.label(make(), turned, x, at)
            if not all(torch.allclose(a[order], b, atol=1e-5) for a, b in zip(one, other, strict=True)):
                raise self.broken(
                    "mixes up the rows of the batch", "Row i of the result belongs to row i of the views."
                )

    def test_stays_on_the_device(self) -> None:
        """Every operation stays on the GPU and waits for nothing, so that a CUDA graph can hold the step."""
        for table in self.params:
            with fake_gpu(self.who) as device:
                part = self.labeler(table, 3, device)
                views = (outputs(U, 3, seed=1, device=device), outputs(U, 3, seed=2, device=device))
                given = part(*views, batch=batch(3, device=device), labeled=outputs(LABELED, 3, 3, device=device))
                if any(t.device.type != "cuda" for t in given):
                    raise Broken(f"{self.who} returns tensors on the CPU. Make them with device=logits.device.")

    def test_several_processes(self) -> None:
        """Over two processes, labels and state are those of one process."""
        for table in self.params:
            alone = self._trace(table, lambda t: t)
            ranks = on_ranks(2, partial(self._trace, table))
            for step, one in enumerate(alone):
                for n in range(2):
                    joined = torch.stack([r[step][n] for r in ranks], 1).flatten(0, 1)
                    if not torch.allclose(joined, one[n], atol=1e-5):
                        raise self.broken(
                            "gives other labels over two processes than on one",
                            "Means over the batch need mmctl.ops.global_mean or all_reduce_sum, memories ops.remember.",
                        )

    def _trace(self, table: Any, deal: Callable[[Tensor], Tensor]) -> list[PseudoLabels]:
        """Labels of a few steps, of the rows that `deal` gives."""
        part, found = self.labeler(table), []
        for step in range(3):
            out, x, at = outputs(U, 3, seed=step), outputs(LABELED, 3, seed=step + 50), batch(3, step)
            at.index_u, at.index_x, at.y = deal(at.index_u), deal(at.index_x), deal(at.y)
            with torch.no_grad():
                views = Output(deal(out.logits), deal(out.emb))
                found.append(part(views, batch=at, labeled=Output(deal(x.logits), deal(x.emb))))
        return found
