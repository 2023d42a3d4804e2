"""Exact channel attention (CSA), the base class of all channel attentions.

All have one way to be called: `attention(x, mask=None)` maps an image (B, C, H, W) to the same shape, without the
residual; `mask` is for hosts whose convention is mask-guided. Every class takes `(channels, heads, ...)`. Hosts accept
any callable `(channels, heads) -> nn.Module` and move this package's classes to their convention with `in_convention`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from glmha import functional
from glmha.conventions.base import Convention
from glmha.conventions.restormer import RestormerConvention
from glmha.layers import MaskGuidance


class ChannelAttention(nn.Module):
    """Channel self-attention: CSA, "MDTA" in Restormer, "S-MSA" in MST (GLMHA, Eqs. 1-2).

    softmax(Q Kᵀ/β) V between the channels of an image: Q, K and V are (C, H·W), the matrix is d×d in each head.

    Args:
        channels: C.
        heads: h; divides C.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels`.

    Examples:
        >>> import torch
        >>> from glmha import ChannelAttention
        >>> attention = ChannelAttention(48, heads=2)
        >>> attention(torch.rand(1, 48, 16, 16)).shape
        torch.Size([1, 48, 16, 16])
        >>> matrix, values = attention.attention(torch.rand(1, 48, 16, 16))
        >>> matrix.shape, values.shape
        (torch.Size([1, 2, 24, 24]), torch.Size([1, 256, 48]))
    """

    # Parameters and layers that conventions register; a module has those of its convention.
    temperature: nn.Parameter
    qkv: nn.Conv2d
    qkv_dwconv: nn.Conv2d
    project_out: nn.Conv2d
    rescale: nn.Parameter
    to_q: nn.Linear
    to_k: nn.Linear
    to_v: nn.Linear
    proj: nn.Linear
    pos_emb: nn.Sequential
    mm: MaskGuidance

    def __init__(self, channels: int, heads: int, *, convention: Convention = RestormerConvention()) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(
                f"heads ({heads}) must divide channels ({channels}): choose one of "
                f"{[n for n in range(1, channels + 1) if channels % n == 0]}"
            )
        self.channels = channels
        self.heads = heads
        self.convention = convention
        convention.build(self)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond (channels, heads, convention) that make another attention of the same kind."""
        return {}

    @property
    def key_channels(self) -> int:
        """C', the channels of keys and values."""
        return self.channels

    def in_convention(self, convention: Convention) -> Self:
        """Make an attention with the same options in a host's convention.

        Returns:
            A new module with fresh parameters, or the module itself if it is in that convention.
        """
        if convention == self.convention:
            return self
        return type(self)(self.channels, self.heads, convention=convention, **self.options)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend between the channels of an image.

        Args:
            x: shape (B, C, H, W).
            mask: mask features where the convention is mask-guided, else None.

        Returns:
            Shape (B, C, H, W), dtype of `x`, channels-last memory, residual not added.

        Raises:
            ValueError: if `mask` does not suit the convention.
        """
        attention, value = self.attention(x)
        return self.convention.output(self, attention, value, x, mask)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute attention matrix (B, h, d, d'), float32 at least, and values (B, H·W, C') of an image."""
        cosines, value = self.convention.similarity(self, x, self.calibrate)
        return self.normalise(cosines), value

    @property
    def calibrate(self) -> Callable[[Tensor], Tensor] | None:
        """Re-weighting of the input as a function of the queries, Eq. (5); None for attentions without one."""
        return None

    def normalise(self, cosines: Tensor) -> Tensor:
        """Turn cosines (B, h, d, d') into softmax(cosines/β) over the keys, in float32 at least."""
        return (cosines * functional.at_least_float32(self.convention.temperature(self))).softmax(-1)

    def product_macs(self, pixels: int) -> int:
        """Count the multiply-adds of Q Kᵀ and A V, as published, for an image of so many pixels."""
        return 2 * self.channels * (self.key_channels // self.heads) * pixels

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        shown = {"channels": self.channels, "heads": self.heads, **self.options, "convention": self.convention}
        return ", ".join(f"{name}={value}" for name, value in shown.items())
