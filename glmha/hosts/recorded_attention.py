"""The attention that a checkpoint names for a level of its host."""

import functools
from collections.abc import Callable

from torch import nn

from glmha.attention.base import ChannelAttention
from glmha.attention.factories import AttentionFactory
from glmha.attention.linformer import LinformerChannelAttention
from glmha.attention.performer import PerformerChannelAttention
from glmha.attention.recorded import decode_options
from glmha.attention.reformer import ReformerChannelAttention
from glmha.low_rank.glmha import GLMHA
from glmha.shared.state_dicts import StateDict

# Attentions whose state dicts name them.
RECORDED: dict[str, Callable[..., nn.Module]] = {
    attention.__name__: attention
    for attention in (GLMHA, LinformerChannelAttention, PerformerChannelAttention, ReformerChannelAttention)
}


def recorded_attention(weights: StateDict, prefix: str) -> AttentionFactory:
    """Make the factory of the attention that a checkpoint of this package names; released checkpoints are exact.

    Args:
        weights: bare state dict of a host.
        prefix: of the keys of one attention of the level, with a dot at its end.

    Raises:
        ValueError: if the entry is damaged or names an attention that this package does not have.
    """
    recorded = weights.get(f"{prefix}_extra_state")
    if recorded is None:
        return ChannelAttention
    try:
        options = decode_options(recorded)
        attention = RECORDED[options.pop("class")]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{prefix}_extra_state must record one of {', '.join(RECORDED)}, got {error!r}") from None
    return functools.partial(attention, **options)
