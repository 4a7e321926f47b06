"""Plans on the device: loose or through one buffer, the same numbers arrive; and one buffer is one buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.tiny_project import training
from mmctl.data.transfer import SLOTS, DevicePlan, Plan, Transfer

CPU = torch.device("cpu")


def plan(step: int = 3, n: int = 5) -> Plan:
    """One with every number type, an empty array, and things that are no arrays."""
    rng = np.random.default_rng(step)
    view = {"weak": {"flip": rng.integers(0, 2, n), "by": rng.random(n).astype(np.float32), "on": rng.random(n) < 0.5}}
    draws = {"mix": {"lam": rng.random(n).astype(np.float32), "all": rng.random((n, 2, 3))}, "mode": "near", "k": 2}
    return Plan(
        step, rng.permutation(n), np.zeros(0, np.int64), {"x0": view}, draws,
        pixels={"x": rng.integers(0, 256, (n, 1, 3, 3), dtype=np.uint8)}, lr=0.1 + step, share=0.01, weight={"a": 0.3},
    )  # fmt: skip


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for key, inner in tree.items() for k, v in flat(inner, f"{name}/{key}").items()}
    return {name: tree}


@pytest.mark.parametrize("packed", [False, True])
def test_every_array_arrives_with_its_type_and_shape(packed: bool) -> None:
    stage = Transfer(CPU, packed)
    for step in (3, 4, 9, 10, 11, 12):
        there, here = flat(vars(stage(plan(step)))), flat(vars(plan(step)))
        assert there.keys() == here.keys()
        for name, value in here.items():
            got = there[name]
            if isinstance(value, np.ndarray):
                assert isinstance(got, Tensor), name
                assert torch.equal(got, torch.from_numpy(value)), name
                assert got.dtype == torch.from_numpy(value).dtype, name
            elif isinstance(value, str):
                assert got == value
            else:
                assert float(got) == pytest.approx(value), name
        assert there["/step"].dtype == torch.int64


def test_a_packed_plan_is_always_in_the_same_place() -> None:
    stage = Transfer(CPU, packed=True)
    where = [[t.data_ptr() for t in flat(vars(stage(plan(s)))).values() if isinstance(t, Tensor)] for s in range(5)]
    assert all(w == where[0] for w in where)
    first = stage(plan(0))
    kept = first.draws["mix"]["lam"].clone()
    stage(plan(1))
    assert not torch.equal(first.draws["mix"]["lam"], kept), "a captured graph reads what the last plan left there"
    assert isinstance(first.lr, Tensor)
    assert first.lr.dim() == 0


def test_another_form_is_seen() -> None:
    stage = Transfer(CPU, packed=True)
    stage(plan(0))
    form = stage.form
    stage(plan(7))
    assert stage.form == form, "steps differ in numbers alone"
    stage(plan(0, n=6))
    assert stage.form != form
    stage(plan(0))
    other = plan(0)
    other.draws["k"] = 3
    stage(other)
    assert stage.form != form, "what is no array would be frozen in a graph"


def test_host_buffers_take_turns() -> None:
    stage = Transfer(CPU, packed=True)
    stage(plan(0))
    assert len({b.data_ptr() for b in stage._host}) == SLOTS >= 3


@pytest.mark.parametrize("method", ["supervised", "marginmix"])
def test_a_batch_is_the_same_either_way(method: str) -> None:
    run = training(method)
    packed = Transfer(CPU, packed=True)
    for step in range(3):
        a, b = run.loader.batch(run.staged(step)), run.loader.batch(packed(run.plan(step)))
        assert isinstance(run.staged(step), DevicePlan)
        for name, value in flat(vars(a)).items():
            other = flat(vars(b))[name]
            for one, two in zip(value, other, strict=True) if isinstance(value, tuple) else [(value, other)]:
                assert torch.equal(one, two), name
