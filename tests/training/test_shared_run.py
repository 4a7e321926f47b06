"""Parts of training on several processes: batch norm, evaluation, stopping and going on with another number of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.shared_runs import STEPS, Trained, alone, distance, made, steps_of
from helpers.tiny_project import training
from mmctl import ops
from mmctl.testing.ranks import on_ranks
from mmctl.training.evaluate import Scores, evaluate
from mmctl.training.global_batch_norm import GlobalBatchNorm
from mmctl.training.state import Training


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (8, 3, 2, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_that_of_the_global_batch(shape: tuple[int, ...], affine: bool) -> None:
    """Values, running statistics, and gradients of images and weights; far from zero, where digits cancel."""
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    x = 1e3 + torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def computed(x: Tensor, slope: Tensor) -> list[Tensor]:
        layer = norm(3, affine=affine, dtype=torch.float64)
        x = x.clone().requires_grad_()
        if ops.world_size() == 1:
            y = layer(x)
        else:
            with GlobalBatchNorm():
                y = layer(x)
        (y * slope).sum().backward()
        assert x.grad is not None
        return [y.detach(), x.grad, *layer.buffers(), *(ops.all_reduce_sum(p.grad) for p in layer.parameters())]

    (y, grad, *others) = computed(x, slope)
    ranks = on_ranks(2, lambda part: computed(part(x), part(slope)))
    assert torch.allclose(torch.stack([r[0] for r in ranks], 1).flatten(0, 1), y, atol=1e-9)
    assert torch.allclose(torch.stack([r[1] for r in ranks], 1).flatten(0, 1), grad, atol=1e-9)
    for n, other in enumerate(others):
        assert torch.equal(ranks[0][n + 2], ranks[1][n + 2])
        assert torch.allclose(ranks[0][n + 2], other, atol=1e-9)


def test_batch_norm_in_half_precision_keeps_its_type() -> None:
    x = torch.randn(8, 3, 4, 4).to(torch.bfloat16)

    def computed(part: Tensor) -> Tensor:
        with GlobalBatchNorm():
            return nn.BatchNorm2d(3)(part)

    ranks = on_ranks(2, lambda part: computed(part(x)))
    assert ranks[0].dtype == torch.bfloat16
    whole = F.batch_norm(x.float(), None, None, training=True)
    assert torch.allclose(torch.stack(ranks, 1).flatten(0, 1).float(), whole, atol=0.02)


def scores(run: Training) -> Scores:
    return evaluate(run.model, run.splits["test"], run.centroids)[0]["head"]


@pytest.mark.parametrize(("images", "world"), [(101, 2), (3, 2), (3, 4)])
def test_evaluation_is_the_same_image_by_image(images: int, world: int) -> None:
    sets = (f"dataset.test={images}", "eval.batch=25")
    one = scores(training("supervised", *sets))
    runs = [training("supervised", *sets) for _ in range(world)]
    for other in on_ranks(world, lambda _: scores(runs[ops.rank()])):
        assert other.predicted_N.tolist() == one.predicted_N.tolist()
        assert other.probability_N == pytest.approx(one.probability_N, rel=1e-5)
        assert other.metrics == pytest.approx(one.metrics, rel=1e-5)
        assert other.confusion == one.confusion


def part_of_it(world: int, until: int, before: Trained | None, facts: dict[str, object]) -> Trained:
    """MarginMix on so many processes, from where `before` ended."""
    runs = [made("marginmix", ()) for _ in range(world)]

    def work(_: object) -> Trained:
        run = runs[ops.rank()]
        if before is not None:
            with torch.no_grad():
                for name, live in run.restore(STEPS // 2, facts).items():
                    live.copy_(before.tensors[name])
        done = steps_of(run, until)
        facts.update(run.facts())
        return done

    return on_ranks(world, work)[0] if world > 1 else work(None)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (2, 4)])
def test_a_run_goes_on_with_another_number_of_processes(first: int, second: int) -> None:
    one, facts = alone("marginmix"), dict[str, object]()
    half = part_of_it(first, STEPS // 2, None, facts)
    rest = part_of_it(second, STEPS, half, facts)
    assert distance(Trained(rest.tensors, half.points + rest.points), one) < 1e-12
