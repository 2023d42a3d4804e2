"""Linformer, Performer and Reformer as channel attention: what GLMHA's paper compares it with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from glmha import functional
from glmha.attention.recorded import RecordedAttention
from glmha.conventions.base import Convention
from glmha.conventions.restormer import RestormerConvention
from glmha.functional import random_directions


class PerformerChannelAttention(RecordedAttention):
    """Performer over channels: softmax replaced by positive random features (FAVOR+, Choromanski et al.).

    The sequence is the channels, so a random direction spans the pixels; directions are drawn afresh for every image
    size from `seed`, the same ones each time, and are no parameters.

    Args:
        channels: C.
        heads: h; divides C.
        features: number of random features M, >= 1.
        seed: seed of the random directions.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels` or `features` is below 1.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        features: int = 64,
        seed: int = 0,
        convention: Convention = RestormerConvention(),
    ) -> None:
        if features < 1:
            raise ValueError(f"features ({features}) must be at least 1")
        super().__init__(channels, heads, convention=convention)
        self.features = features
        self.seed = seed

    @property
    def options(self) -> dict[str, Any]:
        """See base class."""
        return {"features": self.features, "seed": self.seed}

    def product_macs(self, pixels: int) -> int:
        """See base class; features of Q and K, their d×d products, A V."""
        head_channels = self.channels // self.heads
        return self.channels * (2 * self.features * pixels + head_channels * self.features + head_channels * pixels)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See base class."""
        query, key, value = self.convention.tokens(self, x, None)
        directions = random_directions(query.shape[1], self.features, self.seed, query.device)
        temperature = self.convention.temperature(self)
        return functional.favor_attention(query, key, temperature, directions, self.heads), value
