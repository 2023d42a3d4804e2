"""Conversion of a whole trained host to low-rank attention, block after block, without training."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from glmha.attention.base import ChannelAttention
from glmha.attention.factories import AttentionFactory, build
from glmha.low_rank.glmha import GLMHA
from glmha.pretrained import FAMILIES

Net = TypeVar("Net", bound=nn.Module)
# The arguments of a host's call: an image, or an image and a mask.
Input = Tensor | tuple[Tensor, ...]


class _Reached(Exception):
    """End of a forward pass at the module whose input is wanted."""


def convert(net: Net, images: Sequence[Input], attention: AttentionFactory | Sequence[AttentionFactory] = GLMHA) -> Net:
    """Replace the exact attentions of a trained host by low-rank ones, started in closed form from their weights.

    Blocks are replaced in the order in which they run. Each is calibrated on the features that reach it in the net as
    converted so far. Its target is the dense module's output for the same features, so errors of earlier blocks are not
    undone. A mask is not part of the fit. Beside the fit, the cost is one forward pass per block and image, which ends
    at the block.

    Args:
        net: the host; left as it is.
        images: inputs of `net`, each (B, C, H, W) or a tuple of arguments, on the net's device; a few of the
            sizes and kinds that will be restored.
        attention: factory (channels, heads) → GLMHA, or one per level of a host of this package, from the finest to the
            bottleneck; where it returns an exact `ChannelAttention`, the block stays.

    Returns:
        A copy of `net` in the same mode, on the same device and of the same dtype.

    Raises:
        ValueError: if there are no images or `net` runs no exact channel attention.
        TypeError: if `attention` returns anything but GLMHA or `ChannelAttention`, or `images` is one tensor.

    Examples:
        >>> from functools import partial
        >>> import torch
        >>> from glmha import GLMHA, Restormer, convert
        >>> net = Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, heads=(1, 1, 2, 4))
        >>> converted = convert(net, [torch.rand(1, 3, 32, 32)], attention=partial(GLMHA, reduction=0.75))
        >>> type(net.latent[0].attn).__name__, type(converted.latent[0].attn).__name__
        ('ChannelAttention', 'GLMHA')
        >>> converted.latent[0].attn.key_channels
        16
    """
    if isinstance(images, Tensor):
        raise TypeError(f"images must be a sequence of inputs, got one tensor {tuple(images.shape)}: give [images]")
    if not images:
        raise ValueError("images must hold at least one input of the net, got none")
    calls = [image if isinstance(image, tuple) else (image,) for image in images]
    converted = copy.deepcopy(net).eval()
    low_rank_of = _maker(net, attention)
    names = _order(converted, calls[0])
    if not names:
        raise ValueError(f"net ({type(net).__name__}) must run exact ChannelAttention modules, found none to replace")
    for name in names:
        dense = converted.get_submodule(name)
        if not isinstance(dense, ChannelAttention):
            continue
        low_rank = low_rank_of(name, dense)
        if type(low_rank) is ChannelAttention:
            continue
        if not isinstance(low_rank, GLMHA):
            raise TypeError(
                f"attention must make GLMHA modules, got {type(low_rank).__name__}: only it has a warm start"
            )
        features = [_input_of(converted, dense, call) for call in calls]
        low_rank.to(dense.convention.temperature(dense))
        low_rank.requires_grad_(dense.convention.temperature(dense).requires_grad)
        low_rank.start_from(dense, features)
        parent, _, child = name.rpartition(".")
        setattr(converted.get_submodule(parent), child, low_rank)
    modes = {name: module.training for name, module in net.named_modules()}
    for name, module in converted.named_modules():
        module.training = modes.get(name, net.training)
    return converted


def _maker(
    net: nn.Module, attention: AttentionFactory | Sequence[AttentionFactory]
) -> Callable[[str, ChannelAttention], nn.Module]:
    """Make the function that gives the replacement of a dense module, by its name."""
    if callable(attention):
        return lambda _, dense: build(attention, dense.channels, dense.heads, dense.convention)
    # Only the host's constructor knows which level a block is of.
    host, arguments = FAMILIES.infer(net.state_dict(), "net")
    with torch.device("meta"):
        template = host(**{**arguments, "attention": attention})

    def make(name: str, dense: ChannelAttention) -> nn.Module:
        module: Any = template.get_submodule(name)
        if not isinstance(module, ChannelAttention):
            return module
        return type(module)(dense.channels, dense.heads, convention=dense.convention, **module.options)

    return make


def _order(net: nn.Module, call: tuple[Tensor, ...]) -> list[str]:
    """List the names of the exact attentions in the order in which they first run."""
    names: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda _module, _args, name=name: names.setdefault(name))
        for name, module in net.named_modules()
        if type(module) is ChannelAttention
    ]
    try:
        with torch.no_grad():
            net(*call)
    finally:
        for handle in handles:
            handle.remove()
    return list(names)


def _input_of(net: nn.Module, module: nn.Module, call: tuple[Tensor, ...]) -> Tensor:
    """Return the image that reaches a module; nothing after it is computed."""
    with _caught(module) as inputs, torch.no_grad():
        net(*call)
    return inputs[0]


@contextmanager
def _caught(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a module's first argument and end the forward pass there."""
    inputs: list[Tensor] = []

    def stop(_module: nn.Module, args: tuple[Any, ...]) -> None:
        inputs.append(args[0])
        raise _Reached

    handle = module.register_forward_pre_hook(stop)
    try:
        yield inputs
    except _Reached:
        pass
    finally:
        handle.remove()
