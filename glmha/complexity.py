"""Parameters and multiply-adds of networks, counted as papers count them and as they are computed here.

The literature counts in two ways, and the networks here do less than either. The three counts are kept apart:

- layers alone: convolutions and linear maps of the published module structure (Restormer: 140.99 G);
- every product: the layers, and Q Kᵀ and A V of every attention (Restormer: 154.88 G);
- as computed: every product that runs here, after output absorption and by the Gram route.

G is 1e9. Element-wise work, norms and softmax are counted nowhere.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glmha.attention.base import ChannelAttention


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward pass, as `count` gives it.

    Attributes:
        parameters: number of parameters.
        macs: multiply-adds of every product as computed here.
        published_macs: of every product of the published module structure, where nothing is absorbed or shared.
        layer_macs: of that structure's convolutions and linear maps alone.

    Examples:
        >>> from glmha import ChannelAttention
        >>> from glmha.complexity import count
        >>> cost = count(ChannelAttention(48, heads=1), (1, 48, 64, 64))
        >>> cost.layer_macs < cost.published_macs, cost.macs < cost.published_macs
        (True, True)
    """

    parameters: int
    macs: int
    published_macs: int
    layer_macs: int


def count(net: nn.Module, *shapes: tuple[int, ...]) -> Complexity:
    """Count a network's parameters and multiply-adds without computing anything.

    Outside the attentions of this package a network is taken to run as published: its batched products are counted as
    products of two activations, not as layers.

    Args:
        net: the network; a copy without data is run.
        *shapes: shapes of its inputs.

    Returns:
        The counts for one forward pass.

    Examples:
        >>> from glmha import MSTPlusPlus
        >>> from glmha.complexity import count
        >>> cost = count(MSTPlusPlus(), (1, 3, 256, 256))
        >>> cost.parameters, round(cost.published_macs / 1e9, 2), round(cost.layer_macs / 1e9, 2)
        (1619625, 22.19, 20.96)
    """
    phantom = copy.deepcopy(net).to("meta")
    sites = {name: module for name, module in phantom.named_modules() if isinstance(module, ChannelAttention)}
    pixels = dict.fromkeys(sites, 0)
    products = dict.fromkeys(sites, 0)

    def watch(name: str, site: ChannelAttention) -> None:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            batch, _channels, height, width = inputs[0].shape
            pixels[name] += batch * height * width
            products[name] += batch * site.product_macs(height * width)

        site.register_forward_pre_hook(record)

    for name, site in sites.items():
        watch(name, site)
    with FlopCounterMode(display=False) as counter:
        phantom(*(torch.empty(shape, device="meta") for shape in shapes))
    counts = counter.get_flop_counts()

    def computed(*names: str) -> tuple[int, int]:
        """Count the multiply-adds of a submodule, all and unbatched ones."""
        return _macs(counts.get(".".join([type(phantom).__name__, *filter(None, names)]), {}))

    total, layers = _macs(counts["Global"])
    published = total
    for name, site in sites.items():
        # Calibration and mask guidance run on other sizes than the image's, as published.
        beside = sum(computed(name, child)[0] for child in ("calibration", "mm"))
        site_layers = beside + pixels[name] * sum(weight.numel() for weight in _pixel_weights(site))
        site_total, site_unbatched = computed(name)
        layers += site_layers - site_unbatched
        published += site_layers + products[name] - site_total
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Complexity(parameters, total, published, layers)


def _macs(flops: Mapping[Any, int]) -> tuple[int, int]:
    """Sum floating-point operations of operators to multiply-adds: of all, and of those that are not batched."""
    batched = sum(value for operator, value in flops.items() if operator == torch.ops.aten.bmm)
    total = sum(flops.values())
    return total // 2, (total - batched) // 2


def _pixel_weights(site: ChannelAttention) -> list[Tensor]:
    """List the weights of an attention's layers that act on every pixel."""
    return [
        module.weight
        for name, module in site.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and name.split(".")[0] not in ("calibration", "mm")
    ]


def parameter_reduction(channels: int, heads: int, ratio: float, kernel_size: int = 3) -> float:
    """Compute the share of the parameters of Q, K and V that GLMHA saves, Eq. (8).

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

    Examples:
        >>> from glmha.complexity import parameter_reduction
        >>> round(parameter_reduction(channels=384, heads=8, ratio=2), 3)
        0.32
    """
    if heads < 1 or channels % heads:
        raise ValueError(f"heads ({heads}) must divide channels ({channels})")
    if ratio < 1:
        raise ValueError(f"ratio ({ratio}) must be at least 1: channels of full keys over channels of low-rank ones")
    full = channels**2
    saved = (2 * full - full / heads**2 - channels * kernel_size**2) * ratio - 2 * full
    return saved / (3 * full * ratio)
