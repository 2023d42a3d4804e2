"""Channel attentions, one a file: exact attention, and those that low-rank attention is compared with."""

from glmha.attention.base import ChannelAttention
from glmha.attention.factories import AttentionFactory, build, per_level
from glmha.attention.linformer import LinformerChannelAttention
from glmha.attention.performer import PerformerChannelAttention
from glmha.attention.recorded import RecordedAttention, decode_options
from glmha.attention.reformer import ReformerChannelAttention

__all__ = [
    "AttentionFactory",
    "ChannelAttention",
    "LinformerChannelAttention",
    "PerformerChannelAttention",
    "RecordedAttention",
    "ReformerChannelAttention",
    "build",
    "decode_options",
    "per_level",
]
