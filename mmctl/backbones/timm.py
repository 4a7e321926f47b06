"""Backbone from timm: any of its models, without the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import timm
from torch import Tensor, nn

import mmctl.backbones._timm_wrn  # noqa: F401  registers our wrn_* with timm
from mmctl.backbones._foreign import channel_values, one_line, try_forward
from mmctl.plugin import PluginError, backbone

REFUSED = {
    "drop_rate": "it applies dropout to the embedding, from which centroids and margins are computed; "
    "use drop_path_rate or drop_block_rate if the model has one",
    "num_classes": "mmctl adds its own linear head",
    "in_chans": "the data set determines it",
    "features_only": "a backbone must give one embedding, not a list of feature maps",
    "checkpoint_path": "a recipe cannot load a file of weights",
    "cache_dir": "it depends on the machine; set the environment variable HF_HOME or TORCH_HOME instead",
    "device": "set train.device instead",
    "dtype": "set train.precision instead",
    "scriptable": "the network is not exported during training",
    "exportable": "the network is not exported during training",
}


@backbone("timm")
class Timm(nn.Module):
    """Any model of timm by name, for example resnet18 or convnext_atto.d2_in1k; the embedding is its pooled features.

    Args:
        model: Name of the model; if timm has several sets of weights, with a tag after a dot.
        pretrained: Start from timm's pretrained weights (downloaded once) and normalise images as they need.
        args: Further arguments of the timm model, for example {drop_path_rate = 0.1} or {img_size = 48}.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        *,
        model: str,
        pretrained: bool = False,
        args: dict[str, Any] = {},  # noqa: B006  never changed
    ) -> None:
        super().__init__()
        _check(model, pretrained, args)
        self.net: Any
        try:
            self.net = timm.create_model(model, pretrained=pretrained, in_chans=in_channels, num_classes=0, **args)
        except Exception as error:  # timm's 98 modules, and the download, may raise anything
            raise PluginError(
                f"timm cannot create {model!r}"
                + (f" with args {args}" if args else "")
                + (" and its pretrained weights" if pretrained else "")
                + f": {one_line(error)}. Check backbone.model, backbone.args"
                + (" and the network connection, or set backbone.pretrained = false." if pretrained else ".")
            ) from error
        self.embed_dim = int(self.net.head_hidden_size)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        native = " x ".join(map(str, self.net.default_cfg.get("input_size") or ()))
        size = height if height == width else [height, width]
        hint = (
            f"It is made for {native}; some models accept args = {{img_size = {size}}}, otherwise use another model or "
            "other images."
        )
        try_forward(self.net, self.embed_dim, (in_channels, height, width), f"timm's {model!r}", hint)
        if pretrained:
            config = self.net.default_cfg
            self.mean, self.std = (channel_values(config[name], in_channels) for name in ("mean", "std"))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Embedding BD."""
        return self.net(x_BCHW)  # type: ignore[no-any-return]


def _check(model: str, pretrained: bool, args: dict[str, Any]) -> None:
    if ":" in model or not timm.is_model(model):  # hf-hub: and local-dir: would load unknown weights
        close = get_close_matches(model.split(".")[0], timm.list_models(), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(close)}?" if close else " `timm.list_models()` lists the names."
        raise PluginError(f"backbone.model: timm {timm.__version__} has no model {model!r}.{hint}")
    tags = [name for name in timm.list_models(model.split(".")[0], include_tags=True) if "." in name]
    if "." in model and model not in tags:
        known = f"tags are {', '.join(tags)}" if tags else "it has no tags"
        raise PluginError(f"backbone.model: timm has {model.split('.')[0]}, but not {model}; {known}.")
    if pretrained and not timm.models.is_model_pretrained(model):
        raise PluginError(f"timm has no pretrained weights for {model!r}. Set backbone.pretrained = false.")
    for name in args:
        if name in REFUSED or name.startswith("pretrained"):
            reason = REFUSED.get(name, "use backbone.pretrained to load timm's own weights")
            raise PluginError(f"backbone.args.{name} cannot be set: {reason}.")
