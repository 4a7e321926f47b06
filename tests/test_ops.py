"""The tensor operations against plain loops, alone and on two processes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from mmctl import ops
from mmctl.plugin import Output
from mmctl.training.model import interleave


def rows(n: int, k: int, seed: int = 0) -> torch.Tensor:
    """Distributions over k classes, float64."""
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


@pytest.mark.parametrize("temperature", [0.1, 0.25, 0.5, 2.0])
def test_sharpen_is_the_power_renormalised(temperature: float) -> None:
    p = rows(5, 4)
    got = ops.sharpen(p, temperature)
    for i in range(5):
        power = [float(v) ** (1 / temperature) for v in p[i]]
        assert got[i].tolist() == pytest.approx([v / sum(power) for v in power], rel=1e-12)


def test_sharpen_at_one_is_the_identity() -> None:
    p = torch.tensor([[0.2, 0.3]])  # not even renormalised
    assert ops.sharpen(p, 1) is p


def test_sharpen_does_not_underflow() -> None:
    p = torch.full((1, 1000), 1e-3)
    p[0, 0] = 2e-3  # (2e-3)^100 is 0 in float32
    got = ops.sharpen(p, 0.01)
    assert got[0, 0] == pytest.approx(1.0, abs=1e-6)
    assert got.sum().item() == pytest.approx(1.0, abs=1e-5)
    zeros = ops.sharpen(torch.tensor([[0.0, 1.0, 0.0]]), 0.25)
    assert zeros.tolist() == [[0.0, 1.0, 0.0]]


def test_hard_takes_the_first_of_equals() -> None:
    got = ops.argmax_one_hot(torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], dtype=torch.float64))
    assert got.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert got.dtype == torch.float64


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_mixing_draws(per: str) -> None:
    got = ops.draw_mixup(np.random.default_rng(1), (300, 200, 500), 0.75, per)  # type: ignore[arg-type]
    lam, partner = got["lam"], got["partner"]
    assert lam.shape == (1000,)
    assert lam.dtype == np.float32
    assert lam.min() >= 0.5
    assert lam.max() <= 1
    assert sorted(partner) == list(range(1000))
    assert len(set(lam.tolist())) == (1 if per == "batch" else 1000)


def test_mixing_far_follows_beta() -> None:
    lam = ops.draw_mixup(np.random.default_rng(2), (20_000,), 0.75, near=False)["lam"]
    assert lam.mean() == pytest.approx(0.5, abs=0.01)
    assert lam.var() == pytest.approx(1 / (4 * (2 * 0.75 + 1)), abs=0.005)  # variance of Beta(a, a)
    near = ops.draw_mixup(np.random.default_rng(2), (20_000,), 0.75)["lam"]
    assert np.allclose(near, np.maximum(lam, 1 - lam), atol=1e-6)


def test_mix_is_equation_9() -> None:
    sizes = (3, 4, 4)
    rng = np.random.default_rng(3)
    xs = [torch.from_numpy(rng.normal(size=(n, 2, 3, 3))) for n in sizes]
    ys = [rows(n, 5, seed) for seed, n in enumerate(sizes)]
    draws = {k: torch.from_numpy(v) for k, v in ops.draw_mixup(rng, sizes, 0.75).items()}
    mixed_x, mixed_y = ops.mixup(xs, ys, draws)
    all_x, all_y = [x for b in xs for x in b], [y for b in ys for y in b]
    got_x, got_y = [x for b in mixed_x for x in b], [y for b in mixed_y for y in b]
    assert [len(b) for b in mixed_x] == [len(b) for b in mixed_y] == list(sizes)
    for i in range(sum(sizes)):
        lam, j = float(draws["lam"][i]), int(draws["partner"][i])
        assert torch.allclose(got_x[i], lam * all_x[i] + (1 - lam) * all_x[j], rtol=0, atol=1e-14)
        assert torch.allclose(got_y[i], lam * all_y[i] + (1 - lam) * all_y[j], rtol=0, atol=1e-14)
        assert got_y[i].sum().item() == pytest.approx(1)


def test_mix_keeps_a_branch_of_lambda_one() -> None:
    x, y = torch.randn(4, 1, 2, 2), rows(4, 3)
    draws = {"lam": torch.ones(4), "partner": torch.tensor([1, 0, 3, 2])}
    (same_x,), (same_y,) = ops.mixup((x,), (y,), draws)
    assert torch.equal(same_x, x)
    assert torch.equal(same_y, y)


def test_normal_has_the_moments_of_the_normal_law() -> None:
    z = ops.hashed_normal(torch.arange(200) * 7919 - 500, (1, 16, 16)).double().flatten()
    assert z.mean().item() == pytest.approx(0, abs=0.015)
    assert z.var().item() == pytest.approx(1, abs=0.02)
    assert (z**3).mean().item() == pytest.approx(0, abs=0.05)
    assert (z**4).mean().item() == pytest.approx(3, abs=0.12)
    assert (z.abs() < 1).double().mean().item() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.006)
    assert torch.isfinite(z).all()


def test_normal_rows_and_places_are_unrelated() -> None:
    z = ops.hashed_normal(torch.arange(64), (400,)).double()
    between = torch.corrcoef(z).fill_diagonal_(0)
    assert between.abs().max().item() < 0.25  # 5 sigma of 1 / sqrt(400)
    lag = (z[:, 1:] * z[:, :-1]).mean().item()
    assert abs(lag) < 0.03


def test_normal_belongs_to_the_sample_not_to_the_batch() -> None:
    seeds = torch.tensor([5, -(2**62), 2**63 - 1, 0, 5 + 2**32])
    whole = ops.hashed_normal(seeds, (2, 3))
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(ops.hashed_normal(seeds[order], (2, 3)), whole[order])
    assert torch.equal(ops.hashed_normal(seeds[2:3], (2, 3))[0], whole[2])
    assert len({tuple(row.flatten().tolist()) for row in whole}) == 5  # the upper half of a seed counts too


def test_remember_lets_the_last_of_equal_rows_win() -> None:
    memory = torch.zeros(6, 2)
    index = torch.tensor([4, 1, 4, 0, 1, 4])
    value = torch.arange(12.0, dtype=torch.float64).view(6, 2)
    expected = memory.clone()
    for i, v in zip(index.tolist(), value, strict=True):
        expected[i] = v.float()
    ops.remember(memory, index, value)
    assert torch.equal(memory, expected)


def test_follow_is_a_moving_mean_in_place() -> None:
    buffer = torch.tensor([1.0, -2.0])
    value = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    kept = buffer.data_ptr()
    ops.ema_update_(buffer, value, 0.9)
    assert buffer.tolist() == pytest.approx([0.9 * 1 + 0.1 * 3, 0.9 * -2 + 0.1 * 4])
    assert buffer.data_ptr() == kept
    assert not buffer.requires_grad


def test_alone_the_collectives_change_nothing() -> None:
    t = torch.randn(4, 2)
    assert ops.gather(t) is ops.all_reduce_sum(t) is ops.local_rows(t) is t
    assert torch.equal(ops.global_mean(t), t.mean(0))
    assert (ops.rank(), ops.world_size()) == (0, 1)


def test_join_puts_views_end_to_end() -> None:
    outs = [Output(torch.randn(2, 3), torch.randn(2, 4)) for _ in range(2)]
    out, target = ops.concat_views(outs, [torch.zeros(2, 3), torch.ones(2, 3)])
    assert torch.equal(out.logits, torch.cat([outs[0].logits, outs[1].logits]))
    assert torch.equal(out.emb[2:], outs[1].emb)
    assert target.tolist() == [[0] * 3] * 2 + [[1] * 3] * 2


def globals_of(world: int) -> dict[str, torch.Tensor]:
    """What two processes hold together: the same on each."""
    g = torch.Generator().manual_seed(9)
    draws = ops.draw_mixup(np.random.default_rng(9), (6, 6), 0.75)
    return {
        "x": torch.randn(6, 2, generator=g, dtype=torch.float64),
        "u": torch.randn(6, 2, generator=g, dtype=torch.float64),
        "index": torch.tensor([2, 0, 2, 1, 0, 2]),
        **{k: torch.from_numpy(v) for k, v in draws.items()},
    }


def computed(part: dict[str, torch.Tensor], draws: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every operation on this process's rows; a loss that needs all of them, and its gradients."""
    x, u = (part[k].clone().requires_grad_() for k in ("x", "u"))
    (mx, mu), _ = ops.mixup((x, u), (x, u), draws)
    swapped = interleave([mx, mu])
    memory = torch.zeros(3, 2, dtype=torch.float64)
    ops.remember(memory, part["index"], part["x"])
    mean = ops.global_mean(mu)
    loss = (ops.gather(swapped[0]) * mean).square().sum() + ops.all_reduce_sum(mx.exp().sum(0)).square().sum()
    # Every process has this same loss of all rows; its gradients are summed over processes, then averaged.
    (loss / ops.world_size()).backward()
    return {
        "mixed": mx.detach(),
        "swapped": torch.cat([ops.gather(s) for s in swapped]).detach(),
        "mean": mean.detach(),
        "memory": memory,
        "loss": loss.detach(),
        "grad_x": x.grad,
        "grad_u": u.grad,
    }  # type: ignore[dict-item]


def two(rank: int, folder: str) -> None:
    """One of two processes: its strided rows of the same global batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    whole = globals_of(2)
    part = {k: ops.local_rows(whole[k]).contiguous() for k in ("x", "u", "index")}
    assert torch.equal(ops.gather(part["x"]), whole["x"])
    got = computed(part, {k: whole[k] for k in ("lam", "partner")})
    torch.save(got, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(two, (str(tmp_path),), nprocs=2)
    whole = globals_of(1)
    alone = computed(whole, {k: whole[k] for k in ("lam", "partner")})
    ranks = [torch.load(tmp_path / f"{r}.pt") for r in range(2)]
    for name in ("swapped", "mean", "memory", "loss"):
        assert torch.equal(ranks[0][name], ranks[1][name]), name
    for name in ("mean", "memory", "loss"):
        assert torch.allclose(ranks[0][name], alone[name], rtol=1e-12), name
    # Each branch of the interleave holds the rows that one process puts there.
    assert torch.allclose(ranks[0]["swapped"], alone["swapped"], rtol=1e-12)
    for name in ("mixed", "grad_x", "grad_u"):
        together = torch.stack([r[name] for r in ranks], 1).flatten(0, 1)
        assert torch.allclose(together, alone[name], rtol=1e-12), name
