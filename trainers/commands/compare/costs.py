"""Multiply-adds of the attention of a comparison's variants."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from nystra.sites.observation import observed
from nystra.sites.site import sites_of
from nystra.windows.geometry import WindowGeometry


def attention_macs(
    variants: Mapping[str, nn.Module], call: Callable[[nn.Module, Tensor], object], image: Tensor
) -> dict[str, float]:
    """Multiply-adds that every variant's attention has for an image, as its kernels' `cost` tells them.

    Padding, tiles and their overlap count. How many tokens each site attends to is found by one call of the first
    variant of each window size.

    Args:
        variants: networks by name; those without a site that is known have no number.
        call: restores the image with one of them.
        image: as `call` takes it.

    Returns:
        Name → multiply-adds of all sites, windows and heads.
    """
    tokens: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    macs = {}
    for name, net in variants.items():
        sites = list(sites_of(net).values())
        if not sites:
            continue
        windows = tuple(site.window_size for site in sites)
        if windows not in tokens:
            tokens[windows] = _attended_tokens(net, call, image)
        macs[name] = float(
            sum(
                count * site.num_heads * site.kernel.cost(site.window_size, site.head_channels).macs
                for count, site in zip(tokens[windows], sites, strict=True)
            )
        )
    return macs


@torch.no_grad()
def _attended_tokens(net: nn.Module, call: Callable[[nn.Module, Tensor], object], image: Tensor) -> list[int]:
    """Tokens of all windows at each site of a net, for an image."""
    sites = sites_of(net)
    counts = dict.fromkeys(sites, 0)

    def count(name: str, query: Tensor, _key: Tensor, _value: Tensor, _geometry: WindowGeometry) -> None:
        counts[name] += query.shape[0] * query.shape[2]

    with observed(sites, count):
        call(net, image)
    return list(counts.values())
