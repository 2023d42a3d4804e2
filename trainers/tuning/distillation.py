"""Losses against a teacher: its image and the outputs of its attentions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glmha.attention.base import ChannelAttention
from nystra.sites.site import ADOPTED, AttendedMap


def attentions(net: nn.Module) -> dict[str, nn.Module]:
    """The modules whose outputs are those of a net's attentions, by name.

    Outputs are maps (B, H, W, C) or (B, C, H, W), and whatever an adopted module of another library gives.
    """
    return {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, AttendedMap | ChannelAttention) or ADOPTED in vars(module)
    }


@contextmanager
def outputs(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of modules while a net runs, by the modules' names."""
    kept: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _module, _inputs, result, name=name: kept.__setitem__(name, _first(result)))
        for name, module in modules.items()
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _first(result: Any) -> Tensor:
    """A module's output, the first of several: some give their weights, too."""
    output: Tensor = result[0] if isinstance(result, tuple | list) else result
    return output


def relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of ‖S - T‖²/‖T‖² over the images of two maps (B, H, W, C) or (B, C, H, W), where both are.

    Windows may pad one of them further. Image by image, so that it does not matter how a step's images are shared out.
    """
    sides = [min(pair) for pair in zip(student.shape, teacher.shape, strict=True)]
    first, second = (tensor[tuple(slice(side) for side in sides)].float() for tensor in (student, teacher))
    error, norm = ((first - second).square().flatten(1).sum(1), second.square().flatten(1).sum(1))
    return (error / norm.clamp_min(torch.finfo(torch.float32).tiny)).mean()
