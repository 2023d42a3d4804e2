"""Linformer, Performer and Reformer as channel attention: what GLMHA's paper compares it with."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from glmha import functional
from glmha.attention import RecordedAttention, low_rank
from glmha.conventions import Convention, RestormerConvention


class LinformerChannelAttention(RecordedAttention):
    """Linformer over channels: softmax(Q (E K)ᵀ/β) F V with learned E, F, shared by the heads (Wang et al., Eq. 7).

    Keys and values are made at full size and then projected from d to d' channels. E and F act on channels, so they are
    multiplied into the d×d matrices, never into feature maps.

    Args:
        channels: C.
        heads: h; divides C.
        reduction: fraction of each head's channels that E and F remove, 0 <= reduction < 1.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels` or `reduction` is out of range.
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
        """See base class."""
        return {"reduction": self.reduction}

    def product_macs(self, pixels: int) -> int:
        """See base class; E K and F V are multiplied as the d×d' matrices that they can be."""
        rank, head_channels = self.key_projection.shape
        return super().product_macs(pixels) + 2 * self.channels * rank * head_channels

    def normalise(self, cosines: Tensor) -> Tensor:
        """softmax(q̂ (E k̂)ᵀ/β) F, a d×d matrix for the values of full size."""
        projected = cosines @ self.key_projection.to(cosines.dtype).T
        return super().normalise(projected) @ self.value_projection.to(cosines.dtype)


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


@functools.lru_cache(maxsize=8)
def random_directions(pixels: int, count: int, seed: int, device: torch.device) -> Tensor:
    """Gaussian directions over the pixels, (pixels, count), the same for the same arguments on every device."""
    generator = torch.Generator().manual_seed(seed)
    # Kept for training too, which cannot save what was made in inference mode.
    with torch.inference_mode(False):
        return torch.randn(pixels, count, generator=generator).to(device)
