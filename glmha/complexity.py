"""Parameters and multiply-adds: the papers' figures and what the networks here really do.

Two conventions of the literature are kept apart: every product counted (convolutions and matrix products), and
convolutions alone, as the 140.99 G published for Restormer are. G is 1e9; MST++ divides by 1024³ instead.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward pass.

    Attributes:
        parameters: number of parameters.
        macs: multiply-adds of convolutions and matrix products; element-wise work, norms and softmax are not counted.
        convolution_macs: those of convolutions alone.
    """

    parameters: int
    macs: float
    convolution_macs: float


def count(net: nn.Module, *shapes: tuple[int, ...]) -> Complexity:
    """Count a network's parameters and multiply-adds without computing anything.

    Args:
        net: the network; a copy without data is run.
        *shapes: shapes of its inputs.

    Returns:
        The counts for one forward pass.
    """
    phantom = copy.deepcopy(net).to("meta")
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    with FlopCounterMode(display=False) as counter:
        phantom(*inputs)
    by_operator = counter.get_flop_counts()["Global"]
    convolutions = sum(flops for operator, flops in by_operator.items() if "convolution" in str(operator))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Complexity(parameters, counter.get_total_flops() / 2, convolutions / 2)


def parameter_reduction(channels: int, heads: int, ratio: float, kernel_size: int = 3) -> float:
    """Share of the parameters of Q, K and V that GLMHA saves, Eq. (8).

    ((2n² - n²/h² - n·k²)·r - 2n²) / (3n²·r) with n channels and r = C/C'.

    Args:
        channels: n, at least 1.
        heads: h, divides n.
        ratio: r, at least 1: channels of full keys over channels of low-rank ones.
        kernel_size: k of the calibration network.

    Returns:
        The share; below zero where the calibration network costs more than the smaller keys and values save.

    Raises:
        ValueError: if `heads` does not divide `channels` or `ratio` is below 1.
    """
    if heads < 1 or channels % heads:
        raise ValueError(f"heads ({heads}) must divide channels ({channels})")
    if ratio < 1:
        raise ValueError(f"ratio ({ratio}) must be at least 1: channels of full keys over channels of low-rank ones")
    full = channels**2
    saved = (2 * full - full / heads**2 - channels * kernel_size**2) * ratio - 2 * full
    return saved / (3 * full * ratio)
