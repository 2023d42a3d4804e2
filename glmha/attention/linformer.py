"""Linformer's low rank between channels: a learned projection of keys and values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from glmha.attention.recorded import RecordedAttention
from glmha.conventions.base import Convention
from glmha.conventions.restormer import RestormerConvention
from glmha.functional import low_rank


class LinformerChannelAttention(RecordedAttention):
    """Linformer over channels: softmax(Q (E K)ᵀ/β) F V with learned E, F, shared by the heads.

    Eq. (7) of "Linformer: Self-attention with linear complexity" (Wang et al., arXiv 2006.04768), one of the attentions
    that GLMHA's paper compares with. Keys and values are made at full size and then projected from d to d' channels.
    E and F act on channels, so they are multiplied into the d×d matrices, never into feature maps.

    Args:
        channels: C.
        heads: h; divides C.
        reduction: fraction of each head's channels that E and F remove, 0 <= reduction < 1.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels` or `reduction` is out of range.

    Examples:
        >>> import torch
        >>> from glmha import LinformerChannelAttention
        >>> attention = LinformerChannelAttention(48, heads=2, reduction=0.5)
        >>> attention.key_projection.shape
        torch.Size([12, 24])
        >>> attention(torch.rand(1, 48, 16, 16)).shape
        torch.Size([1, 48, 16, 16])
    """

    def __init__(
        self, channels: int, heads: int, *, reduction: float = 0.5, convention: Convention = RestormerConvention()
    ) -> None:
        if not 0 <= reduction < 1:
            raise ValueError(f"reduction ({reduction}) must be at least 0 and below 1: it is the fraction removed")
        super().__init__(channels, heads, convention=convention)
        self.reduction = reduction
        head_channels = channels // heads
        rank = low_rank(head_channels, reduction)
        self.key_projection = nn.Parameter(torch.randn(rank, head_channels) / head_channels**0.5)
        self.value_projection = nn.Parameter(torch.randn(rank, head_channels) / head_channels**0.5)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond (channels, heads, convention) that make another attention of the same kind."""
        return {"reduction": self.reduction}

    def product_macs(self, pixels: int) -> int:
        """Count Q Kᵀ and A V, and the products of d×d matrices with E and F."""
        rank, head_channels = self.key_projection.shape
        return super().product_macs(pixels) + 2 * self.channels * rank * head_channels

    def normalise(self, cosines: Tensor) -> Tensor:
        """Turn cosines into softmax(q̂ (E k̂)ᵀ/β) F, a d×d matrix for the values of full size."""
        projected = cosines @ self.key_projection.to(cosines.dtype).T
        return super().normalise(projected) @ self.value_projection.to(cosines.dtype)
