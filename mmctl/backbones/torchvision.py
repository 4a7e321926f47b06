"""Backbone from torchvision: any of its classification models, without the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn
from torchvision import models

from mmctl.backbones._foreign import channel_values, one_line, try_forward
from mmctl.plugin import PluginError, backbone

REFUSED = {
    "num_classes": "mmctl adds its own linear head",
    "weights": "set backbone.weights",
    "pretrained": "set backbone.weights",
    "progress": "it does not change the network",
    "aux_logits": "mmctl trains one head; the auxiliary classifiers are left out",
    "init_weights": "mmctl sets it",
    "dropout": "it would be applied to the embedding, from which centroids and margins are computed",
}


@backbone("torchvision")
class TorchVision(nn.Module):
    """Any classification model of torchvision by name, for example resnet18; the embedding is the classifier's input.

    Dropout right before the classifier and auxiliary classifiers (googlenet, inception_v3) are left out.

    Args:
        model: Name of the model, as in `torchvision.models.list_models()`.
        weights: Name of a set of pretrained weights to download, such as IMAGENET1K_V1; "" = random weights.
        args: Further arguments of the model, for example {stochastic_depth_prob = 0.1}.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        model: str,
        weights: str = "",
        args: dict[str, Any] = {},  # noqa: B006  never changed
    ) -> None:
        super().__init__()
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        chosen = _check(model, weights, args)
        more = dict(args)
        if model in ("googlenet", "inception_v3"):  # said, because torchvision warns if they are not
            more |= {"aux_logits": False, "init_weights": False}
        if model.startswith("vit_") and chosen is None:
            more.setdefault("image_size", height)
        self.net: nn.Module
        try:
            self.net = models.get_model(model, weights=chosen, **more)
        except Exception as error:  # the models, and the download, may raise anything
            raise PluginError(
                f"torchvision cannot create {model!r}"
                + (f" with args {args}" if args else "")
                + (f" and weights {weights}" if chosen else "")
                + f": {one_line(error)}. Check backbone.args, the size of the images ({height} x {width})"
                + (' and the network connection, or set backbone.weights = "".' if chosen else ".")
            ) from error
        self.embed_dim = _remove_head(self.net, model)
        _take_channels(self.net, in_channels)
        hint = "It is made for about 3 x 224 x 224; use another model or other images."
        try_forward(self.net, self.embed_dim, (in_channels, height, width), f"torchvision's {model!r}", hint)
        if chosen is not None:
            made = chosen.transforms()
            self.mean, self.std = (channel_values(values, in_channels) for values in (made.mean, made.std))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Embedding BD."""
        return self.net(x_BCHW)  # type: ignore[no-any-return]


def _check(model: str, weights: str, args: dict[str, Any]) -> Any:
    """The chosen weights of a model that exists, None = random ones."""
    known = models.list_models(module=models)
    if model not in known:
        if model in models.list_models():
            raise PluginError(f"backbone.model: torchvision's {model!r} is not a network that classifies images.")
        close = get_close_matches(model, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(close)}?" if close else " `torchvision.models.list_models()` lists them."
        raise PluginError(f"backbone.model: torchvision has no model {model!r}.{hint}")
    for name in args:
        if name in REFUSED:
            raise PluginError(f"backbone.args.{name} cannot be set: {REFUSED[name]}.")
    if not weights:
        return None
    choice = models.get_model_weights(model)
    if weights not in choice.__members__:
        raise PluginError(
            f"backbone.weights: torchvision has no weights {weights!r} of {model}; "
            f"it has {', '.join(choice.__members__)}."
        )
    return choice[weights]


def _remove_head(net: nn.Module, model: str) -> int:
    """Take the classifier away, and the dropout right before it; returns the size of the embedding."""
    if isinstance(net, models.SqueezeNet):  # its classifier is a convolution, and its forward flattens
        size = next(m.in_channels for m in net.classifier if isinstance(m, nn.Conv2d))
        net.classifier = nn.AdaptiveAvgPool2d(1)
        return int(size)
    name, head = list(net.named_modules())[-1]
    if not isinstance(head, nn.Linear):
        raise PluginError(f"torchvision's {model!r} does not end in a linear classifier. Use another model.")
    parent = net.get_submodule(name.rpartition(".")[0])
    before = [key for key, _ in parent.named_children()]
    setattr(parent, before[-1], nn.Identity())
    if len(before) > 1 and isinstance(getattr(parent, before[-2]), nn.Dropout):
        setattr(parent, before[-2], nn.Identity())
    return int(head.in_features)


def _take_channels(net: nn.Module, channels: int) -> None:
    """Change the first convolution; its filters are summed for one channel, else repeated and scaled, as timm does."""
    old = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    if channels == old.in_channels:
        return
    weight = old.weight.detach()
    if channels == 1:
        weight = weight.sum(1, keepdim=True)
    else:
        weight = weight.repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)
    old.in_channels, old.weight = channels, nn.Parameter(weight)
    if hasattr(net, "transform_input"):
        net.transform_input = False  # type: ignore[assignment]  # it shifts three colours
