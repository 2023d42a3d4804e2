"""Learned low-rank channel attention (GLMHA) and the hosts that it goes into."""

from glmha.attention import (
    GLMHA,
    AttentionFactory,
    ChannelAttention,
    LinformerChannelAttention,
    PerformerChannelAttention,
    ReformerChannelAttention,
)
from glmha.restormer import Restormer

__all__ = [
    "GLMHA",
    "AttentionFactory",
    "ChannelAttention",
    "LinformerChannelAttention",
    "PerformerChannelAttention",
    "ReformerChannelAttention",
    "Restormer",
]
