"""Registers mmctl's wide residual networks with timm, with the interface that timm models have."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from mmctl.backbones import wrn

NETS = {
    name: net
    for net in vars(wrn).values()
    if isinstance(net, type) and issubclass(net, wrn.WideResNet)
    for kind, name in (getattr(net, "__mmctl__", ("", "")),)
    if kind == "backbone"
}

# register_model reads this, so it must come before the registration.
default_cfgs = generate_default_cfgs(
    {
        name: {
            "url": "",
            "num_classes": 10,
            "input_size": (3, 32, 32),
            "pool_size": (8, 8),
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.4914, 0.4822, 0.4465),
            "std": (0.2470, 0.2435, 0.2616),
            "first_conv": "stem",
            "classifier": "fc",
        }
        for name in NETS
    }
)


class _Classifier:
    """The attributes and methods that timm needs, as a mix-in for the networks of wrn.py."""

    def __init__(self, in_chans: int = 3, num_classes: int = 10, global_pool: str = "avg", **variant: Any) -> None:
        super().__init__(in_chans, 32, **variant)  # type: ignore[call-arg]
        self.num_features = self.head_hidden_size = self.embed_dim  # type: ignore[attr-defined]
        self.feature_info = [{"num_chs": self.num_features, "reduction": 4, "module": "act"}]
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self, name_only: bool = False) -> str | nn.Module:
        """The last layer, or its name."""
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Replace the last layer; 0 classes = no last layer."""
        if global_pool != "avg":
            raise ValueError(f"global_pool {global_pool!r}: these networks support average pooling only")
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_head(self, x_BDHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of a feature map, or its embedding."""
        emb_BD = self.pool(x_BDHW).flatten(1)  # type: ignore[attr-defined]
        return emb_BD if pre_logits else self.fc(emb_BD)  # type: ignore[no-any-return]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, or the embedding if the number of classes is 0."""
        return self.forward_head(self.forward_features(x_BCHW))  # type: ignore[attr-defined]


def _register(name: str, net: type[wrn.WideResNet]) -> None:
    classifier = type(net.__name__, (_Classifier, net), {"__doc__": net.__doc__})

    def make(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build_model_with_cfg(classifier, name, pretrained, **kwargs)  # type: ignore[no-any-return]

    make.__name__, make.__doc__ = name, net.__doc__
    globals()[name] = register_model(make)


for _name, _net in NETS.items():
    _register(_name, _net)
