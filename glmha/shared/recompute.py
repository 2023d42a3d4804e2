"""Recomputation: blocks keep their input alone for the backward pass and compute their activations again there."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputable(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate the `forward` of a block, whose attribute `recompute` then chooses between recomputing and keeping.

    Gradients are the same, also where the block draws random numbers. A training step takes one forward pass more.
    """

    @functools.wraps(forward)
    def either(block: Any, *args: Any) -> Tensor:
        if block.recompute and torch.is_grad_enabled():
            return checkpoint(forward, block, *args, use_reentrant=False)
        return forward(block, *args)

    return either


def set_recompute(net: nn.Module, recompute: bool) -> None:
    """Make all blocks of a network that can recompute their activations, or keep them.

    Args:
        net: one of the hosts.
        recompute: True: recompute; False: keep all activations, as after construction.

    Raises:
        ValueError: if `recompute` is true and no block can.
    """
    blocks = [module for module in net.modules() if hasattr(module, "recompute")]
    if recompute and not blocks:
        raise ValueError(
            f"checkpoint_activations ({recompute}) must be false for {type(net).__name__}: it has no blocks that can "
            "recompute; Restormer, MST, MST++, SwinIR, Uformer, DehazeFormer and RVRT have"
        )
    for block in blocks:
        block.recompute = recompute  # type: ignore[assignment]  # no parameter or module, as mypy takes it for
