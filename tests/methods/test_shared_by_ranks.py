"""Every method on several processes computes what it computes on one: weights, averages, memories, curves."""

from __future__ import annotations

import pytest

from helpers.method_cases import CASES, SOFT, every_case
from helpers.shared_runs import alone, distance, ranks_agree, shared

SAME = 1e-12


@pytest.mark.sampled(40, 8)
@pytest.mark.parametrize("world", [2, 4])
@every_case
def test_several_processes_train_as_one_does(method: str, sets: tuple[str, ...], world: int) -> None:
    sets = (*SOFT.get(method, ()), *sets)
    one, ranks = alone(method, sets), shared(world, method, sets)
    assert ranks_agree(ranks)
    assert distance(ranks[0], one) < SAME
