"""Factories of attention modules, as hosts take them: one for all levels or one a level."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from glmha.attention.base import ChannelAttention
from glmha.conventions.base import Convention

AttentionFactory = Callable[[int, int], nn.Module]
"""Makes an attention of (channels, heads)."""


def build(factory: AttentionFactory, channels: int, heads: int, convention: Convention) -> nn.Module:
    """Make a host's attention: `ChannelAttention` in the host's convention, any other module as it comes."""
    module = factory(channels, heads)
    return module.in_convention(convention) if isinstance(module, ChannelAttention) else module


def per_level(attention: AttentionFactory | Sequence[AttentionFactory], levels: int) -> list[AttentionFactory]:
    """Give every level of a host its factory, finest level first (Table 9 of GLMHA).

    Raises:
        ValueError: if a sequence has another length than the host has levels.
    """
    if callable(attention):
        return [attention] * levels
    if len(attention) != levels:
        raise ValueError(
            f"attention must be one factory or {levels}, one per level from the finest to the bottleneck, "
            f"got {len(attention)}"
        )
    return list(attention)
