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
    """Reformer over channels: a query attends to keys that share its hash bucket (Kitaev et al., Eqs. 2-4).

    Normalised channels are hashed by random rotations of the pixels (angular LSH); buckets are joined over `rounds`
    hashings, and a channel's own key is always seen. At a few dozen channels a head, forming all d×d cosines and
    masking them costs less than sorting and gathering feature maps would save, so that is what is done.

    Args:
        channels: C.
        heads: h; divides C.
        buckets: number of hash buckets, even, >= 2.
        rounds: number of hashings, >= 1.
        seed: seed of the rotations.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels`, `buckets` is odd or below 2, or `rounds` below 1.
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
        """See base class."""
        return {"buckets": self.buckets, "rounds": self.rounds, "seed": self.seed}

    def product_macs(self, pixels: int) -> int:
        """See base class; with the hashes of Q and K."""
        return super().product_macs(pixels) + self.channels * self.rounds * self.buckets * pixels

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See base class."""
        query, key, value = self.convention.tokens(self, x, None)
        rotations = random_directions(query.shape[1], self.rounds * self.buckets // 2, self.seed, query.device)

        def hashes(tokens: Tensor) -> Tensor:
            rotated = (tokens.transpose(1, 2) @ rotations.to(tokens.dtype)).unflatten(2, (self.rounds, -1))
            return torch.cat([rotated, -rotated], -1).argmax(-1).unflatten(1, (self.heads, -1))

        with torch.no_grad():
            shared = (hashes(query).unsqueeze(3) == hashes(key).unsqueeze(2)).any(-1)
            visible = shared | torch.eye(shared.shape[-1], dtype=torch.bool, device=x.device)
        cosines = functional.similarity(query, key, self.heads)
        # Masked after scaling: a temperature times minus infinity has no gradient.
        scaled = cosines * functional.at_least_float32(self.convention.temperature(self))
        return scaled.masked_fill(~visible, -torch.inf).softmax(-1), value
