"""Backbone from timm: any of its models, without the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import Tensor, nn

import mmctl.backbones._timm_wrn  # noqa: F401  registers our wrn_* with timm
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
                + f": {_line(error)}. Check backbone.model, backbone.args"
                + (" and the network connection, or set backbone.pretrained = false." if pretrained else ".")
            ) from error
        self.embed_dim = int(self.net.head_hidden_size)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self._try(torch.zeros(2, in_channels, height, width), model)
        if pretrained:
            config = self.net.default_cfg
            self.mean, self.std = (_channels(config[name], in_channels) for name in ("mean", "std"))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Embedding BD."""
        return self.net(x_BCHW)  # type: ignore[no-any-return]

    def _try(self, x_BCHW: Tensor, model: str) -> None:
        """Run one forward now: many models accept only some image sizes, and their own errors come late."""
        _, channels, height, width = x_BCHW.shape
        native = tuple(self.net.default_cfg.get("input_size") or ())
        what = f"timm's {model!r} does not accept {channels} x {height} x {width} images"
        size = height if height == width else [height, width]
        hint = (
            f"It is made for {' x '.join(map(str, native))}; some models accept args = {{img_size = {size}}}, "
            "otherwise use another model or other images."
        )
        self.net.eval()
        try:
            with torch.no_grad():
                emb = self.net(x_BCHW)
        except Exception as error:
            raise PluginError(f"{what}: {_line(error)}. {hint}") from error
        if not isinstance(emb, Tensor) or emb.shape != (len(x_BCHW), self.embed_dim):
            got = list(emb.shape) if isinstance(emb, Tensor) else type(emb).__name__
            raise PluginError(f"{what}: it gives {got} and not [{len(x_BCHW)}, {self.embed_dim}]. {hint}")
        self.net.train()


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


def _channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value per channel. For one channel, timm sums its filters over the colours: use the mean of the values."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")[:300]
