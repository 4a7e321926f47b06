"""A plugin with one component of each kind, and a recipe of them."""

from __future__ import annotations

from pathlib import Path

PARTS = '''
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mmctl.plugin import LossTerm, augment, backbone, dataset, labeler, launcher, loss, method

Width = Annotated[int, Field(ge=1)]


@dataset("dots")
def dots(root, *, size: int = 8):
    """Dots."""
    return root, size


@backbone("flat")
class Flat:
    """Flat."""

    def __init__(
        self,
        in_channels,
        *,
        width: Width = 8,
        form: Literal["a", "b"] = "a",
        span: tuple[float, float] = (0, 1),
        args: dict = {},
    ):
        if width == 13:
            raise ValueError("13 is not for building")
        self.in_channels, self.width, self.span, self.args = in_channels, width, span, args


@augment("jitter")
class Jitter:
    """Jitter."""

    def __init__(self, augments, *, strength: float = 0.1): ...


@launcher("here")
class Here:
    """Here."""


@labeler("sure")
class Sure:
    """Sure."""

    def __init__(self, num_classes, *, m: Annotated[float, Field(gt=1)] = 2, temperature: float | None = None): ...


@labeler("other")
class Other:
    """Other."""

    def __init__(self, *, rate: float = 0.5): ...


@loss("one")
class One:
    """One."""

    def __init__(self, *, margin: float = 1): ...


@method("fake")
class Fake:
    """Fake."""

    views = {"x": ("weak", "clean"), "u": ("weak", "strong")}
    slots = {"labeled": LossTerm("one"), "unlabeled": LossTerm("one", 2.0, 0.4, "sigmoid"), "fair": LossTerm(None, 0.5)}
    default_labeler = "sure"

    def __init__(self, model, labeler, losses, *, alpha: float = 0.75): ...


@method("alone")
class Alone:
    """Alone."""

    views = {"x": ("weak",)}
    slots = {"labeled": LossTerm("one")}
    default_labeler = None

    def __init__(self, model, losses): ...


@method("asks")
class Asks(Alone):
    """Asks for what nobody gives by default."""

    def __init__(self, model, ema, labeler): ...
'''
BASE = """\
[dataset]
name = "dots"
[backbone]
name = "flat"
[method]
name = "fake"
[labeler]
m = 3
[augment.strong]
name = "jitter"
after = "weak"
[augment.weak]
name = "jitter"
strength = 0.3
[launcher]
name = "here"
[train]
steps = 100
"""


def write(name: str, text: str) -> str:
    file = Path("recipes") / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)
