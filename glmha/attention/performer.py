"""Performer's random features between channels: a softmax whose matrix is a product of features."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from glmha import functional
from glmha.attention.recorded import RecordedAttention
from glmha.conventions.base import Convention
from glmha.conventions.restormer import RestormerConvention
from glmha.functional import random_directions


class PerformerChannelAttention(RecordedAttention):
    """Performer over channels: softmax approximated by positive random features (FAVOR+).

    Eq. (5) of "Rethinking attention with performers" (Choromanski et al., arXiv 2009.14794), one of the attentions that
    GLMHA's paper compares with. The sequence is the channels, so a random direction spans the pixels. Directions are no
    parameters: they are drawn from `seed` for every image size, the same ones each time.

    Args:
        channels: C.
        heads: h; divides C.
        features: number of random features M, >= 1.
        seed: seed of the random directions.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels` or `features` is below 1.

    Examples:
        >>> import torch
        >>> from glmha import PerformerChannelAttention
        >>> attention = PerformerChannelAttention(48, heads=2, features=32)
        >>> matrix, _ = attention.attention(torch.rand(1, 48, 16, 16))
        >>> matrix.shape, torch.allclose(matrix.sum(-1), torch.ones(1, 2, 24))
        (torch.Size([1, 2, 24, 24]), True)
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
        """Keyword arguments beyond (channels, heads, convention) that make another attention of the same kind."""
        return {"features": self.features, "seed": self.seed}

    def product_macs(self, pixels: int) -> int:
        """Count the features of Q and K, their products to d×d matrices, and A V."""
        head_channels = self.channels // self.heads
        return self.channels * (2 * self.features * pixels + head_channels * self.features + head_channels * pixels)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the approximate attention matrix (B, h, d, d), float32 at least, and values (B, H·W, C)."""
        query, key, value = self.convention.tokens(self, x, None)
        directions = random_directions(query.shape[1], self.features, self.seed, query.device)
        temperature = self.convention.temperature(self)
        return functional.favor_attention(query, key, temperature, directions, self.heads), value
