"""torchvision's classification models as backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mmctl.plugin import PluginError
from mmctl.training.model import Model


@pytest.fixture(scope="module")
def make() -> Any:
    """The backbone; imported late, for torchvision takes a second."""
    from mmctl.backbones.torchvision import TorchVision

    return TorchVision


FAMILIES = [
    ("resnet18", 512, 1, 16),
    ("shufflenet_v2_x0_5", 1024, 4, 32),
    ("squeezenet1_1", 512, 1, 32),
]
LARGE = [
    ("mobilenet_v3_small", 1024, 3, 32),
    ("efficientnet_b0", 1280, 3, 32),
    ("convnext_tiny", 768, 3, 32),
    ("vit_b_32", 768, 1, 64),
    ("densenet121", 1024, 2, 32),
    ("swin_t", 768, 3, 32),
    ("regnet_y_400mf", 440, 3, 32),
    ("googlenet", 1024, 3, 32),
    ("inception_v3", 2048, 3, 80),
    ("mnasnet0_5", 1280, 3, 32),
    ("vgg11_bn", 4096, 3, 32),
]


@pytest.mark.parametrize(
    ("model", "size", "channels", "side"), FAMILIES + [pytest.param(*c, marks=pytest.mark.slow) for c in LARGE]
)
def test_embedding_of_every_family(make: Any, model: str, size: int, channels: int, side: int) -> None:
    net = make(channels, side, model=model)
    emb = net.eval()(torch.randn(2, channels, side, side))
    assert emb.shape == (2, net.embed_dim) == (2, size)
    emb.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.slow
def test_embedding_is_what_the_classifier_gets(make: Any) -> None:
    from torchvision import models

    torch.manual_seed(0)
    whole = models.mobilenet_v3_small(weights=None).eval()
    torch.manual_seed(0)
    net = make(3, 32, model="mobilenet_v3_small").eval()
    x, seen = torch.randn(2, 3, 32, 32), []
    whole.classifier[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    whole(x)
    assert torch.equal(net(x), seen[0])
    assert not [m for m in net.modules() if isinstance(m, nn.Dropout)]  # it would zero parts of the embedding


def test_one_channel_is_the_sum_of_the_colours(make: Any) -> None:
    torch.manual_seed(0)
    three = make(3, 16, model="resnet18").eval()
    torch.manual_seed(0)
    one = make(1, 16, model="resnet18").eval()
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(one(x), three(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_batch_norm_words(make: Any) -> None:
    net = Model(make(1, 16, model="resnet18"), 3)
    x = torch.randn(4, 1, 16, 16)
    before = net.backbone.net.bn1.running_mean.clone()  # type: ignore[union-attr, operator]
    net(x, bn="batch")
    net(x, bn="running")
    assert torch.equal(net.backbone.net.bn1.running_mean, before)  # type: ignore[union-attr, arg-type]
    net(x, bn="update")
    assert not torch.equal(net.backbone.net.bn1.running_mean, before)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "resnet19"}, "Did you mean resnet"),
        ({"model": "fcn_resnet50"}, "not a network that classifies"),
        ({"model": "resnet18", "weights": "V9"}, "it has IMAGENET1K_V1, DEFAULT"),
        ({"model": "resnet18", "args": {"num_classes": 3}}, "its own linear head"),
        ({"model": "resnet18", "args": {"colour": 3}}, "cannot create 'resnet18'"),
        ({"model": "alexnet"}, "does not accept 1 x 8 x 8 images"),
        ({"model": "vit_b_32"}, "cannot create 'vit_b_32'"),
    ],
)
def test_refused_in_one_line(make: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        make(1, 8, **given)
    assert "\n" not in str(caught.value)
