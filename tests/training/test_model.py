"""The network's forwards, what they do to batch norm, the interleave, and the moving average."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from helpers.reference_math import reference_interleave
from mmctl.errors import UserError
from mmctl.training.model import Average, Model, interleave
from mmctl.training.schedules import average_share


class Net(nn.Module):
    """A convolution, batch norm, and the mean over places."""

    embed_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu().mean((2, 3))  # type: ignore[no-any-return]


def model(precision: torch.dtype | None = None) -> Model:
    torch.manual_seed(1)
    return Model(Net(), 3, precision)


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(seed)) + seed


def norm(net: Model) -> nn.BatchNorm2d:
    return net.backbone.norm  # type: ignore[return-value]


def test_update_moves_the_statistics() -> None:
    net, x = model(), images(8, 1)
    net(x, bn="update")
    seen = net.backbone.conv(x)  # type: ignore[operator]
    assert int(norm(net).num_batches_tracked) == 1  # type: ignore[arg-type]
    expected = 0.1 * seen.mean((0, 2, 3))
    assert torch.allclose(norm(net).running_mean, expected, atol=1e-6)  # type: ignore[arg-type]


def test_batch_gives_the_same_output_and_leaves_the_buffers() -> None:
    net, x = model(), images(8, 1)
    before = {k: b.clone() for k, b in net.named_buffers()}
    batch = net(x, bn="batch")
    for k, b in net.named_buffers():
        assert torch.equal(b, before[k]), k
    update = net(x, bn="update")
    assert torch.equal(batch.logits, update.logits)
    assert not torch.equal(before["backbone.norm.running_mean"], norm(net).running_mean)  # type: ignore[arg-type]


def test_running_uses_the_statistics_row_by_row() -> None:
    net, x = model(), images(8, 1)
    net(images(8, 2), bn="update")
    before = {k: b.clone() for k, b in net.named_buffers()}
    whole, one = net(x, bn="running"), net(x[2:3], bn="running")
    assert torch.allclose(whole.logits[2], one.logits[0], atol=1e-6)
    assert all(torch.equal(b, before[k]) for k, b in net.named_buffers())
    assert not torch.allclose(whole.logits, net(x, bn="batch").logits)


def test_modes_can_follow_each_other_in_any_order() -> None:
    net, x = model(), images(4)
    for bn, count in (("running", 0), ("update", 1), ("batch", 1), ("running", 1), ("batch", 1), ("update", 2)):
        net(x, bn=bn)  # type: ignore[arg-type]
        assert int(norm(net).num_batches_tracked) == count, bn  # type: ignore[arg-type]
        assert norm(net).track_running_stats, bn  # left as found
    assert [call[:2] for call in net.calls[:3]] == [(4, "running"), (4, "update"), (4, "batch")]


def test_calls_tell_of_gradient() -> None:
    net = model()
    with torch.no_grad():
        net(images(2), bn="batch")
    net(images(3), bn="batch")
    assert net.calls == [(2, "batch", False), (3, "batch", True)]


def test_bn_has_no_default() -> None:
    with pytest.raises(TypeError):
        model()(images(2))


@pytest.mark.parametrize(
    ("group", "bn", "calls"),
    [
        ("each", "update", [(6, "update")] * 3),
        ("each", "first", [(6, "update"), (6, "batch"), (6, "batch")]),
        ("each", "last", [(6, "batch"), (6, "batch"), (6, "update")]),
        ("each", "running", [(6, "running")] * 3),
        ("joint", "first", [(18, "update")]),
        ("joint", "last", [(18, "update")]),
        ("joint", "batch", [(18, "batch")]),
        ("interleave", "first", [(6, "update"), (6, "batch"), (6, "batch")]),
        ("interleave", "last", [(6, "batch"), (6, "batch"), (6, "update")]),
    ],
)
def test_branches_are_forwards_as_declared(group: str, bn: str, calls: list[tuple[int, str]]) -> None:
    net = model()
    outs = net.branches(*(images(6, i) for i in range(3)), bn=bn, bn_groups=group)  # type: ignore[arg-type]
    assert [c[:2] for c in net.calls] == calls
    assert [len(o.logits) for o in outs] == [6, 6, 6]
    assert int(norm(net).num_batches_tracked) == sum(b == "update" for _, b in calls)  # type: ignore[arg-type]


def test_joint_shares_statistics_and_each_does_not() -> None:
    net, xs = model(), [images(5, 0), images(3, 2)]
    joint = net.branches(*xs, bn="batch", bn_groups="joint")
    together = net(torch.cat(xs), bn="batch")
    assert torch.equal(joint[1].emb, together.emb[5:])
    each = net.branches(*xs, bn="batch")
    for x, out in zip(xs, each, strict=True):
        assert torch.equal(out.logits, net(x, bn="batch").logits)
    assert not torch.allclose(each[1].emb, joint[1].emb)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 8, 64])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_interleave_is_the_references_swap(n: int, parts: int) -> None:
    xs = [torch.arange(n) + 1000 * p for p in range(parts)]
    swapped = interleave(xs)
    assert [x.tolist() for x in swapped] == reference_interleave([x.tolist() for x in xs])
    assert all(torch.equal(a, b) for a, b in zip(interleave(swapped), xs, strict=True))
    if n >= parts:
        assert {int(v) // 1000 for v in swapped[0]} == set(range(parts))  # the first group holds every source


def test_interleave_needs_branches_of_one_size() -> None:
    with pytest.raises(UserError, match="unlabeled_batch"):
        interleave([torch.zeros(4), torch.zeros(5)])


def test_interleaved_outputs_return_to_their_images() -> None:
    net, xs = model(), [images(7, i) for i in range(3)]
    outs = net.branches(*xs, bn="batch", bn_groups="interleave")
    mixed = [net(x, bn="batch") for x in interleave(xs)]
    where = interleave([torch.arange(7) + 7 * p for p in range(3)])
    flat = torch.cat([m.logits for m in mixed])
    for place, image in enumerate(torch.cat(where).tolist()):
        assert torch.equal(outs[image // 7].logits[image % 7], flat[place])
    # Where batch norm does not mix the images, neither does the interleave.
    plain = net.branches(*xs, bn="running")
    for a, b in zip(net.branches(*xs, bn="running", bn_groups="interleave"), plain, strict=True):
        assert torch.allclose(a.emb, b.emb, atol=1e-6)


def test_average_follows_its_closed_form() -> None:
    live = model()
    ema = Average(live)
    start = {k: p.detach().clone().double() for k, p in live.named_parameters()}
    expected = dict(start)
    for step in range(4):
        with torch.no_grad():
            for p in live.parameters():
                p.add_(step + 1)
        live(images(4, step), bn="update")
        ema.update_average(0.1)
        expected = {k: 0.9 * v + 0.1 * (start[k] + (step + 1) * (step + 2) / 2) for k, v in expected.items()}
    for k, p in ema.named_parameters():
        assert torch.allclose(p.double(), expected[k], atol=1e-5), k
        assert not p.requires_grad
    for k, b in ema.named_buffers():
        assert torch.equal(b, dict(live.named_buffers())[k]), k


def test_buffers_are_averaged_if_asked() -> None:
    live = model()
    ema = Average(live, "average")
    live(images(4, 3), bn="update")
    ema.update_average(0.25)
    mean, average = norm(live).running_mean, norm(ema).running_mean
    assert mean is not None
    assert average is not None
    assert torch.allclose(average, 0.25 * mean)  # it started at zero
    assert int(norm(ema).num_batches_tracked) == 1  # type: ignore[arg-type]


def test_average_shares_nothing_with_the_live_network() -> None:
    live = model()
    ema = Average(live)
    assert set(live.state_dict()) == set(ema.state_dict())
    own = {t.data_ptr() for t in live.state_dict().values()}
    assert own.isdisjoint(t.data_ptr() for t in ema.state_dict().values())
    ema(images(4), bn="batch")
    assert live.calls == []


def test_average_share() -> None:
    assert average_share(5, "none", 0.999, True) == 1.0
    assert average_share(0, "ema", 0.999, False) == pytest.approx(0.001)
    assert average_share(0, "ema", 0.999, True) == pytest.approx(0.9)
    assert average_share(90, "ema", 0.999, True) == pytest.approx(1 - 91 / 100)
    assert average_share(10**6, "ema", 0.999, True) == pytest.approx(0.001)
    assert average_share(10**6, "ema", 0.0, True) == 1.0


@pytest.mark.parametrize(("start", "every"), [(4, 3), (1, 1), (6, 2)])
def test_swa_is_the_mean_of_those_that_count(start: int, every: int) -> None:
    live = model()
    swa = Average(live)
    counted: list[dict[str, Tensor]] = []
    for step in range(14):
        with torch.no_grad():
            for p in live.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
        swa.update_average(average_share(step, "swa", 0.999, True, start, every))
        done, now = step + 1, {k: p.detach().clone().double() for k, p in live.named_parameters()}
        if done >= start and (done - start) % every == 0:
            counted.append(now)
        mean = {k: sum(c[k] for c in counted) / len(counted) for k in now} if counted else now
        for k, p in swa.named_parameters():
            assert torch.allclose(p.double(), mean[k], atol=1e-5), (step, k)  # type: ignore[arg-type]
    assert len(counted) == 1 + (14 - start) // every


def test_autocast_stays_inside() -> None:
    x = images(8)
    full, half = model()(x, bn="batch"), model(torch.bfloat16)(x, bn="batch")
    assert half.logits.dtype == half.emb.dtype == torch.float32
    assert not torch.equal(full.logits, half.logits)
    assert torch.allclose(full.logits, half.logits, atol=0.05)
    net = model(torch.bfloat16)
    net(x, bn="batch").logits.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
    with net.fp32():
        exact = net(x, bn="batch")
    assert torch.equal(exact.logits, full.logits)
    assert net.precision == torch.bfloat16


def test_memory_format_changes_nothing() -> None:
    x = images(8)
    plain = model()(x, bn="batch")
    last = model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    got = last(x.contiguous(memory_format=torch.channels_last), bn="batch")
    assert torch.allclose(got.logits, plain.logits, atol=1e-6)
    ema = Average(last)
    ema.update_average(0.5)
    conv = ema.backbone.conv.weight  # type: ignore[union-attr]
    assert conv.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator, union-attr, call-arg]


def test_head_starts_small_and_unbiased() -> None:
    net = model()
    assert net.head.bias.abs().sum().item() == 0
    assert net.head.weight.std().item() == pytest.approx(math.sqrt(2 / (4 + 3)), rel=0.5)
    assert net.embed_dim == 4
