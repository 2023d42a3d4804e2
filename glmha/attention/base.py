"""Channel attentions: exact (CSA) and GLMHA; those it is compared with are in `glmha.comparisons`.

One call contract: `attention(x, mask=None)` maps an image (B, C, H, W) to the same shape, without the residual; `mask`
only where the host's convention is mask-guided. Every class takes `(channels, heads, ...)`; hosts accept any callable
`(channels, heads) -> nn.Module` and re-lay our own classes in their convention with `in_convention`.
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

    Args:
        channels: C.
        heads: h; divides C.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels`.
    """

    # What the conventions register; which of them exist depends on the convention.
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
        """Keyword arguments beyond (channels, heads, convention) that make another such attention."""
        return {}

    @property
    def key_channels(self) -> int:
        """C', the channels of keys and values."""
        return self.channels

    def in_convention(self, convention: Convention) -> Self:
        """A new attention with the same options in a host's convention; its parameters start afresh."""
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
        """Attention matrix (B, h, d, d'), float32 at least, and values (B, H·W, C') of an image."""
        cosines, value = self.convention.similarity(self, x, self.calibrate)
        return self.normalise(cosines), value

    @property
    def calibrate(self) -> Callable[[Tensor], Tensor] | None:
        """The input's re-weighting as a function of the queries; None where there is none."""
        return None

    def normalise(self, cosines: Tensor) -> Tensor:
        """softmax(cosines/β) over the keys, in float32 at least."""
        return (cosines * functional.at_least_float32(self.convention.temperature(self))).softmax(-1)

    def product_macs(self, pixels: int) -> int:
        """Multiply-adds of the published form's products that are no layers: Q Kᵀ and A V, of an image of N pixels."""
        return 2 * self.channels * (self.key_channels // self.heads) * pixels

    def extra_repr(self) -> str:
        """Show what made it."""
        shown = {"channels": self.channels, "heads": self.heads, **self.options, "convention": self.convention}
        return ", ".join(f"{name}={value}" for name, value in shown.items())
