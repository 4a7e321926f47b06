"""Backbones: sizes, published weight counts, published variants, and timm's models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmctl.backbones import wrn
from mmctl.backbones.small import Small
from mmctl.plugin import PluginError

FAMILY = [wrn.WRN10x1, wrn.WRN10x2, wrn.WRN16x1, wrn.WRN16x2, wrn.WRN28x2, wrn.WRN28x8, wrn.WRN37x2]


def weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def with_head(net: Any, classes: int) -> int:
    return weights(net) + net.embed_dim * classes + classes


@pytest.mark.parametrize(
    ("net", "classes", "count"),
    [
        (wrn.WRN28x2, 10, 1_467_610),
        (wrn.WRN28x2, 8, 1_467_352),
        (wrn.WRN28x8, 100, 23_401_012),
        (wrn.WRN37x2, 10, 5_929_434),
        (wrn.WRN10x1, 10, 77_850),
        (wrn.WRN16x2, 10, 691_674),
    ],
)
def test_weights_as_published(net: type[wrn.WideResNet], classes: int, count: int) -> None:
    with torch.device("meta"):
        assert with_head(net(3, 32), classes) == count


def test_raw_form_has_no_dead_norms() -> None:
    """The peers keep two norms whose results they throw away: 2 x (32 + 64) weights."""
    assert weights(wrn.WRN28x2(3, 32)) - weights(wrn.WRN28x2(3, 32, residual="raw")) == 192
    net = wrn.WRN10x1(3, 32, residual="raw")
    net(torch.randn(2, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def reference(net: wrn.WideResNet, x: Tensor, raw: bool) -> Tensor:
    """The published code, in plain calls, with the weights of `net`."""
    slope, eps = 0.1, 1e-3

    def active(x: Tensor, bn: Any) -> Tensor:
        return F.leaky_relu(F.batch_norm(x, None, None, bn.weight, bn.bias, training=True, eps=eps), slope)

    y = F.conv2d(x, net.stem.weight, stride=net.stem.stride, padding=1)
    for number, block in enumerate(net.blocks):
        same = block.conv1.in_channels == block.conv1.out_channels
        stride = block.conv1.stride
        if raw:  # MixMatch-pytorch: BasicBlock.forward
            if not same and number == 0:
                y = inner = active(y, block.bn1)
            else:
                inner = active(y, block.bn1) if same else y
        else:  # Google's MixMatch: residual(x0, filters, stride, activate_before_residual)
            inner = active(y, block.bn1)
            y = inner if number == 0 else y
        residual = F.conv2d(inner, block.conv1.weight, stride=stride, padding=1)
        residual = F.conv2d(active(residual, block.bn2), block.conv2.weight, padding=1)
        y = (y if same else F.conv2d(y, block.shortcut.weight, stride=stride)) + residual
    return active(y, net.bn).mean((2, 3))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("residual", ["activated", "raw"])
@pytest.mark.parametrize("net", [wrn.WRN10x1, wrn.WRN16x2, wrn.WRN37x2])
def test_forms_equal_the_published_code(net: type[wrn.WideResNet], residual: Any) -> None:
    torch.manual_seed(0)
    ours = net(3, 16, residual=residual).double()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    want = reference(ours, x, residual == "raw")
    torch.testing.assert_close(ours(x), want)
    if net is not wrn.WRN10x1:  # same weights in the other form are another network
        other = net(3, 16, residual="activated").double()
        other.load_state_dict(ours.state_dict(), strict=False)
        assert (torch.allclose(other(x), want)) == (residual == "activated")


@pytest.mark.parametrize("size", [(48, 48), (96, 96), (100, 100), (17, 24), (8, 8)])
@pytest.mark.parametrize("net", [Small, wrn.WRN10x2])
def test_any_image_size(net: Callable[..., Any], size: tuple[int, int]) -> None:
    made = net(1, size)
    assert made(torch.randn(2, 1, *size)).shape == (2, made.embed_dim)


@pytest.mark.parametrize("net", FAMILY)
def test_stages_halve_and_widen(net: type[wrn.WideResNet]) -> None:
    with torch.device("meta"):
        made = net(3, 32, stem_stride=2)
        features = made.forward_features(torch.empty(2, 3, 64, 64))
    assert len(made.blocks) == (net.depth - net.stages - 1) / 2
    assert features.shape == (2, made.embed_dim, 32 >> (net.stages - 1), 32 >> (net.stages - 1))
    assert made.embed_dim == 16 * net.width << (net.stages - 1)


@pytest.mark.parametrize("net", [Small, wrn.WRN10x1])
def test_parameters_reach_every_layer(net: Callable[..., Any]) -> None:
    more = {} if net is Small else {"bn_eps": 1e-5}
    made = net(1, 8, bn_momentum=0.25, slope=0.2, **more)
    norms = [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {(m.momentum, m.eps) for m in norms} == {(0.25, 1e-5)}
    assert {m.negative_slope for m in made.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}


def test_defaults_are_the_published_ones() -> None:
    assert {(m.momentum, m.eps) for m in wrn.WRN28x2(3, 32).modules() if isinstance(m, nn.BatchNorm2d)} == {
        (0.001, 1e-3)
    }
    assert {m.momentum for m in Small(1, 8).modules() if isinstance(m, nn.BatchNorm2d)} == {0.05}


def test_convolutions_start_he_normal_by_channels_out() -> None:
    torch.manual_seed(0)
    for module in wrn.WRN28x2(3, 32).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            want = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(want, rel=0.03)


def test_small_has_93_thousand_weights() -> None:
    assert with_head(Small(1, 8), 10) == 94_186
    assert Small(1, 8).layers[:-2](torch.randn(1, 1, 8, 8)).shape == (1, 128, 2, 2)


@pytest.mark.slow
def test_wrn_needs_no_timm() -> None:
    code = "import sys, mmctl.backbones.wrn, mmctl.backbones.small; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.fixture(scope="module")
def timm_net() -> Callable[..., Any]:
    """mmctl's timm backbone; imported late, for timm takes seconds."""
    from mmctl.backbones.timm import Timm

    return Timm


@pytest.mark.parametrize(
    ("model", "channels", "size", "dim", "args"),
    [
        ("resnet10t", 1, 48, 512, {}),
        ("mobilenetv3_small_050", 3, 48, 1024, {}),  # head_hidden_size, where num_features is 288
        ("vit_tiny_patch16_224", 3, (48, 64), 192, {"img_size": [48, 64]}),
        ("wrn_28_2", 1, 48, 128, {"residual": "raw", "bn_eps": 1e-5}),
    ],
)
def test_timm_models(timm_net: Any, model: str, channels: int, size: Any, dim: int, args: dict[str, Any]) -> None:
    net = timm_net(channels, size, model=model, args=args)
    height, width = (size, size) if isinstance(size, int) else size
    assert net.embed_dim == dim
    assert net.training
    assert net(torch.randn(2, channels, height, width)).shape == (2, dim)
    assert not hasattr(net, "mean")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "resnet19"}, r"no model 'resnet19'\. Did you mean resnet18"),
        ({"model": "resnet18.foo"}, r"not resnet18\.foo; tags are resnet18\.a1_in1k"),
        ({"model": "hf-hub:some/one"}, r"no model 'hf-hub:some/one'"),
        ({"model": "local-dir:/tmp"}, r"no model"),
        ({"model": "resnet10t", "args": {"drop_rate": 0.1}}, r"args\.drop_rate cannot be set: it applies dropout"),
        ({"model": "resnet10t", "args": {"num_classes": 3}}, r"args\.num_classes cannot be set"),
        ({"model": "resnet10t", "args": {"checkpoint_path": "x.pth"}}, r"args\.checkpoint_path cannot be set"),
        ({"model": "resnet10t", "args": {"pretrained_cfg_overlay": {}}}, r"args\.pretrained_cfg_overlay cannot be set"),
        ({"model": "resnet10t", "args": {"colour": 1}}, r"cannot create 'resnet10t' with args .*colour"),
        ({"model": "wrn_28_2", "args": {"residul": "raw"}}, r"residul"),
        ({"model": "vit_tiny_patch16_224"}, r"does not accept 3 x 48 x 48 images.*3 x 224 x 224.*img_size = 48"),
        ({"model": "wrn_28_2", "pretrained": True}, r"no pretrained weights for 'wrn_28_2'"),
    ],
)
def test_timm_refusals(timm_net: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        timm_net(3, 48, **given)


def test_pretrained_weights_say_how_images_are_normalised(timm_net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model
    asked = []

    def offline(model: str, pretrained: bool, **given: Any) -> nn.Module:
        asked.append(pretrained)
        return create(model, **given)

    monkeypatch.setattr("mmctl.backbones.timm.timm.create_model", offline)
    colour, grey = (timm_net(channels, 48, model="resnet10t", pretrained=True) for channels in (3, 1))
    assert asked == [True, True]
    assert colour.mean == (0.485, 0.456, 0.406)
    assert grey.mean == pytest.approx((0.449,))
    assert grey.std == pytest.approx((0.226,))


def test_failed_download_says_so(timm_net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("mmctl.backbones.timm.timm.create_model", no_network)
    with pytest.raises(PluginError, match=r"no route to host\. .* set backbone.pretrained = false"):
        timm_net(3, 48, model="resnet10t", pretrained=True)


def test_our_family_is_in_timms_registry(timm_net: Any) -> None:
    import timm

    assert timm.list_models("wrn_*") == [
        "wrn_10_1",
        "wrn_10_2",
        "wrn_16_1",
        "wrn_16_2",
        "wrn_28_2",
        "wrn_28_8",
        "wrn_37_2",
    ]
    net = timm.create_model("wrn_28_2", num_classes=8)
    assert weights(net) == 1_467_352
    x = torch.randn(2, 3, 32, 32)
    net.eval()
    features = net.forward_features(x)
    emb = net.forward_head(features, pre_logits=True)
    assert emb.shape == (2, net.head_hidden_size)
    torch.testing.assert_close(net(x), net.get_classifier()(emb))
    assert net.get_classifier(name_only=True) == "fc"
    net.reset_classifier(3)
    assert net(x).shape == (2, 3)
    with pytest.raises(ValueError, match="average pooling only"):
        net.reset_classifier(3, "max")
    ours = wrn.WRN28x2(3, 32).eval()
    ours.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("fc.")})
    torch.testing.assert_close(ours(x), emb)
