"""Checks what components give against the interface of their kind in mmctl.plugin, before a run folder exists.

`watched` wraps a component so that everything it gives in one test step is checked; training itself uses components
without it. Each message says which component, which promise, what was found and what to write instead.

B batch, C channels, H height, W width, D embedding, K classes, U unlabelled batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmctl.errors import PluginError
from mmctl.plugin import LossTerm, Output, PseudoLabels, StepOutput
from mmctl.registry.parameters import check_declarations

ROWS = 1e-3  # largest difference of a row's sum from 1; float32 over 1,000 classes is below it
NEEDED = {
    "backbone": ("forward",),
    "augment": ("draw", "apply"),
    "labeler": ("forward",),
    "method": ("step",),
}
"""Methods that a component of each kind must have; a loss may be a plain function."""


def broken(who: str, found: str, fix: str) -> PluginError:
    """The error for a promise that a component breaks."""
    return PluginError(f"{who} {found}. {fix}")


def say(value: Any) -> str:
    """A value for messages: `float32 [4, 3]` of a tensor or an array, else its type."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def has_methods(who: str, kind: str, part: Any) -> None:
    """Every method that the interface of the kind needs; what has state in checkpoints is an nn.Module."""
    if kind in ("backbone", "labeler", "method") and not isinstance(part, nn.Module):
        raise broken(
            who, f"is {say(part)}, not an nn.Module", "Derive it from torch.nn.Module and call super().__init__()."
        )
    for name in NEEDED.get(kind, ()):
        if not callable(getattr(part, name, None)):
            raise broken(who, f"has no method {name}", f"Write it as {kind.capitalize()}.{name} in mmctl.plugin says.")


def check_pseudo_labels(who: str, labeler: Any, value: Any, U: int, K: int) -> None:
    """PseudoLabels(target UK, weight U): finite, rows that sum to 1, weights from 0 to 1, no gradient.

    The labeler may say otherwise of its rows (`unnormalized`) and weights (`masks`).
    """
    if not isinstance(value, PseudoLabels):
        raise broken(who, f"returns {say(value)}", "Return mmctl.plugin.PseudoLabels(target_UK, weight_U).")
    for name, tensor, shape in (("target", value.target, (U, K)), ("weight", value.weight, (U,))):
        if not isinstance(tensor, Tensor) or tensor.shape != shape or not tensor.is_floating_point():
            raise broken(who, f"returns the {name} {say(tensor)}", f"It must be a float tensor of shape {list(shape)}.")
        if tensor.requires_grad:
            raise broken(
                who, f"returns a {name} with gradient", "Put @torch.no_grad() above forward, or return x.detach()."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise broken(who, f"returns a {name} with NaN or infinite values", "Compute with softmax and clamp_min.")
    if U == 0:
        return
    low, high = value.target.amin().item(), value.target.amax().item()
    least, most = (f(value.target.sum(-1)).item() for f in (torch.amin, torch.amax))
    if low < -ROWS or (not getattr(labeler, "unnormalized", False) and (least < 1 - ROWS or most > 1 + ROWS)):
        found = f"returns targets with values from {low:.3g} to {high:.3g} and row sums from {least:.3g} to {most:.3g}"
        raise broken(who, found, "Each row is a distribution: divide it by its sum.")
    low, high = value.weight.amin().item(), value.weight.amax().item()
    if low < -ROWS or high > 1 + ROWS:
        raise broken(who, f"returns weights from {low:.3g} to {high:.3g}", "They must lie in 0 .. 1: clamp them.")
    if low < 1 - ROWS and not getattr(labeler, "masks", False):
        raise broken(
            who,
            f"returns weights from {low:.3g} to {high:.3g}",
            "Set the class attribute masks = True, or return ones.",
        )


def check_loss(who: str, value: Any, gradient: bool = True) -> None:
    """A 0-d floating tensor, finite; gradient: it must come from the network's output."""
    if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
        raise broken(who, f"returns {say(value)}", "A loss is a 0-d float tensor: use mmctl.ops.global_mean(loss_B).")
    if not bool(torch.isfinite(value)):
        raise broken(who, f"returns {value.item()}", "It must be finite: use log_softmax, clamp_min.")
    if gradient and not value.requires_grad:
        raise broken(who, "returns a value without gradient", "Do not use detach(), .item() or no_grad on its way.")


def check_metrics(who: str, metrics: Any) -> None:
    """Name -> 0-d tensor."""
    if not isinstance(metrics, Mapping):
        raise broken(who, f"returns metrics as {say(metrics)}", "Return a dict of 0-d tensors.")
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or value.dim():
            raise broken(
                who, f"returns the metric {name} as {say(value)}", "Return a 0-d tensor, such as mask_U.mean()."
            )


def check_step(who: str, output: Any, slots: Mapping[str, LossTerm]) -> None:
    """StepOutput with a loss for each slot; terms that are trained have a gradient."""
    if not isinstance(output, StepOutput):
        raise broken(who, f"returns {say(output)} from step", "Return mmctl.plugin.StepOutput(losses, metrics).")
    if not isinstance(output.losses, Mapping) or output.losses.keys() != slots.keys():
        found = sorted(output.losses) if isinstance(output.losses, Mapping) else say(output.losses)
        raise broken(
            who, f"returns the losses {found} from step, but its slots are {sorted(slots)}", "The two must be equal."
        )
    for name, value in output.losses.items():
        check_loss(f"{who}, loss {name},", value, gradient=False)
    if not any(value.requires_grad for name, value in output.losses.items() if slots[name].weight):
        raise broken(
            who, "returns only losses without gradient", "At least one must depend on the model's output for images."
        )
    check_metrics(who, output.metrics)
    if output.pseudo_labels is not None and not isinstance(output.pseudo_labels, PseudoLabels):
        raise broken(who, f"returns pseudo_labels as {say(output.pseudo_labels)}", "Return what the labeler gave.")


def check_draws(who: str, drawn: Any, n: int) -> None:
    """Name -> numeric array with one row per image."""
    if not isinstance(drawn, Mapping):
        raise broken(who, f"returns {say(drawn)} from draw", "Return a dict: name -> numpy array, axis 0 is the image.")
    for name, value in drawn.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf" or value.shape[:1] != (n,):
            raise broken(
                who,
                f"draws {name} as {say(value)} for {n} images",
                f"Return a numeric numpy array of shape [{n}, ...].",
            )


def check_augmented(who: str, before_BCHW: Tensor, given_BCHW: Tensor, after: Any) -> None:
    """uint8 of the same shape; the images that were given are not changed. before: a copy made before the call."""
    if not isinstance(after, Tensor) or after.dtype != torch.uint8 or after.shape != before_BCHW.shape:
        raise broken(
            who,
            f"makes {say(after)} from {say(before_BCHW)}",
            "Return uint8 images of the same shape: x.round().clamp(0, 255).to(torch.uint8).",
        )
    if not torch.equal(before_BCHW, given_BCHW):
        raise broken(who, "changes the images that it is given", "Work on a copy: other views use the same images.")
    if before_BCHW.amax() > 4 and 0 < after.amax() <= 1:
        raise broken(who, "returns images with values 0 and 1", "Pixels go from 0 to 255.")


def check_embed_dim(who: str, D: Any) -> None:
    """A positive int."""
    if not isinstance(D, int) or isinstance(D, bool) or D < 1:
        raise broken(who, f"has embed_dim = {D!r}", "Set it in __init__ to the size of its embedding, an int.")


def check_embedding(who: str, emb: Any, B: int, D: Any, gradient: bool) -> None:
    """The embedding of B images: float B x D, finite, with gradient in training."""
    check_embed_dim(who, D)
    if not isinstance(emb, Tensor) or not emb.is_floating_point() or emb.shape != (B, D):
        raise broken(who, f"gives {say(emb)} for {B} images", f"By its embed_dim it must give float [{B}, {D}].")
    if not bool(torch.isfinite(emb).all()):
        raise broken(who, "gives NaN or infinite embeddings", "Look at its initial weights and its normalisation.")
    if gradient and not emb.requires_grad:
        raise broken(who, "gives embeddings without gradient", "Do not use no_grad, detach or numpy in forward.")


def check_method(who: str, method: Any) -> None:
    """`views` and `slots` of a method that is built: its class may be right and its instance not."""
    try:
        check_declarations(method)
    except PluginError as error:
        raise PluginError(f"{who} {error}") from error


def watched(who: str, kind: str, part: Any, num_classes: int) -> Any:
    """The component, with every result checked; a part of its state or of its interface does not change."""
    if kind == "loss":
        if not callable(part):
            raise broken(who, f"is {say(part)}", "A loss is a callable(out, target_BK, weight_B=None).")
        return _replaced(part, "forward", lambda inner: _loss(who, inner))
    has_methods(who, kind, part)
    if kind == "labeler":
        return _replaced(part, "forward", lambda inner: _labeler(who, part, inner, num_classes))
    if kind == "augment":
        part = _replaced(part, "draw", lambda inner: _draw(who, inner))
        return _replaced(part, "apply", lambda inner: _apply(who, inner))
    if kind == "backbone":
        check_embed_dim(who, getattr(part, "embed_dim", None))  # then a hook, because the average copies the backbone
        part.register_forward_hook(
            lambda net, args, emb: check_embedding(
                who, emb, len(args[0]), getattr(net, "embed_dim", None), torch.is_grad_enabled() and net.training
            )
        )
    elif kind == "method":
        check_method(who, part)
    return part


def _replaced(part: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
    """The part with one of its methods wrapped; a plain function is wrapped itself."""
    inner = getattr(part, name, None)
    if inner is None:
        return wrap(part)
    if isinstance(part, nn.Module):
        part.__dict__[name] = wrap(inner)  # nn.Module looks there first, and so it is no submodule
    else:
        setattr(part, name, wrap(inner))
    return part


def _copies(outputs: Any) -> list[tuple[Tensor, Tensor]]:
    return [(t, t.detach().clone()) for out in outputs if isinstance(out, Output) for t in out]


def _unchanged(who: str, copies: list[tuple[Tensor, Tensor]]) -> None:
    if not all(torch.equal(now, then) for now, then in copies):
        raise broken(who, "changes the logits or embeddings that it is given", "Work on a copy: others use them too.")


def _labeler(who: str, part: Any, inner: Callable[..., Any], K: int) -> Callable[..., Any]:
    def forward(*views: Output, **more: Any) -> Any:
        before = _copies((*views, more.get("labeled")))
        given = inner(*views, **more)
        check_pseudo_labels(who, part, given, len(views[0].logits), K)
        _unchanged(who, before)
        return given

    return forward


def _loss(who: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    def forward(out: Output, *more: Any, **named: Any) -> Any:
        before = _copies((out,))
        value = inner(out, *more, **named)
        check_loss(who, value, gradient=torch.is_grad_enabled() and out.logits.requires_grad)
        _unchanged(who, before)
        return value

    return forward


def _draw(who: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    def draw(rng: np.random.Generator, n: int) -> Any:
        drawn = inner(rng, n)
        check_draws(who, drawn, n)
        return drawn

    return draw


def _apply(who: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    def apply(x_BCHW: Tensor, **draws: Tensor) -> Any:
        before = x_BCHW.clone()
        after = inner(x_BCHW, **draws)
        check_augmented(who, before, x_BCHW, after)
        return after

    return apply
