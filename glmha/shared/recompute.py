"""Blocks that keep their input alone for the backward pass, and make again then what they made of it."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputable(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate the `forward` of a block, whose attribute `recompute` then says whether it keeps what it makes.

    Gradients are the same, also where the block draws random numbers; a training step takes a forward pass more.
    """

    @functools.wraps(forward)
    def either(block: Any, *args: Any) -> Tensor:
        if block.recompute and torch.is_grad_enabled():
            return checkpoint(forward, block, *args, use_reentrant=False)
        return forward(block, *args)

    return either


def set_recompute(net: nn.Module, recompute: bool) -> None:
    """Tell all blocks of a network that can whether to recompute.

    Args:
        net: one of the hosts.
        recompute: False: they keep everything, as they do at first.

    Raises:
        ValueError: if no block can and one should.
    """
    blocks = [module for module in net.modules() if hasattr(module, "recompute")]
    if recompute and not blocks:
        raise ValueError(
            f"checkpoint_activations ({recompute}) must be false for {type(net).__name__}: it has no blocks that can "
            "recompute; Restormer, MST, MST++, SwinIR, Uformer and DehazeFormer have"
        )
    for block in blocks:
        block.recompute = recompute  # type: ignore[assignment]  # an attribute of theirs, no parameter
