"""Reformer's hashing between channels: attention within buckets of similar directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glmha import functional
from glmha.attention.recorded import RecordedAttention
from glmha.conventions.base import Convention
from glmha.conventions.restormer import RestormerConvention
from glmha.functional import random_directions


class ReformerChannelAttention(RecordedAttention):
    """Reformer over channels: a query attends to keys that share its hash bucket.

    Eqs. (2)-(4) of "Reformer: The efficient transformer" (Kitaev et al., arXiv 2001.04451), one of the attentions that
    GLMHA's paper compares with. Normalised channels are hashed by random rotations of the pixels (angular LSH). Buckets
    are joined over `rounds` hashings, and a query always attends to the key of its channel. All d×d cosines are formed
    and masked: at a few dozen channels a head, sorting and gathering feature maps would cost more than it saves.

    Args:
        channels: C.
        heads: h; divides C.
        buckets: number of hash buckets, even, >= 2.
        rounds: number of hashings, >= 1.
        seed: seed of the rotations.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels`, `buckets` is odd or below 2, or `rounds` below 1.

    Examples:
        >>> import torch
        >>> from glmha import ReformerChannelAttention
        >>> attention = ReformerChannelAttention(48, heads=2, buckets=4, rounds=1)
        >>> matrix, _ = attention.attention(torch.rand(1, 48, 16, 16))
        >>> bool((matrix.diagonal(dim1=2, dim2=3) > 0).all())
        True
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        buckets: int = 4,
        rounds: int = 2,
        seed: int = 0,
        convention: Convention = RestormerConvention(),
    ) -> None:
        if buckets < 2 or buckets % 2:
            raise ValueError(f"buckets ({buckets}) must be even and at least 2: half of them are the negated rotations")
        if rounds < 1:
            raise ValueError(f"rounds ({rounds}) must be at least 1")
        super().__init__(channels, heads, convention=convention)
        self.buckets = buckets
        self.rounds = rounds
        self.seed = seed

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond (channels, heads, convention) that make another attention of the same kind."""
        return {"buckets": self.buckets, "rounds": self.rounds, "seed": self.seed}

    def product_macs(self, pixels: int) -> int:
        """Count Q Kᵀ, A V, and the hashes of Q and K."""
        return super().product_macs(pixels) + self.channels * self.rounds * self.buckets * pixels

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the masked attention matrix (B, h, d, d), float32 at least, and values (B, H·W, C)."""
        query, key, value = self.convention.tokens(self, x, None)
        rotations = random_directions(query.shape[1], self.rounds * self.buckets // 2, self.seed, query.device)

        def hashes(tokens: Tensor) -> Tensor:
            rotated = (tokens.transpose(1, 2) @ rotations.to(tokens.dtype)).unflatten(2, (self.rounds, -1))
            return torch.cat([rotated, -rotated], -1).argmax(-1).unflatten(1, (self.heads, -1))

        with torch.no_grad():
            shared = (hashes(query).unsqueeze(3) == hashes(key).unsqueeze(2)).any(-1)
            # Not an identity of booleans, which ONNX Runtime lacks.
            channel = torch.arange(shared.shape[-1], device=x.device)
            visible = shared | (channel.unsqueeze(1) == channel)
        cosines = functional.similarity(query, key, self.heads)
        # Masked after scaling: a temperature times minus infinity has no gradient.
        scaled = cosines * functional.at_least_float32(self.convention.temperature(self))
        return scaled.masked_fill(~visible, -torch.inf).softmax(-1), value
