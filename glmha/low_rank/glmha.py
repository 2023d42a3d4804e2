"""GLMHA: low-rank keys and values from an input that the queries re-weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha.attention.base import ChannelAttention
from glmha.attention.recorded import RecordedAttention
from glmha.conventions.base import Convention
from glmha.conventions.restormer import RestormerConvention
from glmha.functional import low_rank
from glmha.layers import adaptive_max_pool
from glmha.low_rank import closed_form


class Calibration(nn.Module):
    """Calibration network φ of Eq. (4): one weight in (-1, 1) for every channel, from the queries of the image.

    Adaptive max-pool to k×k, depth-wise k×k convolution without padding, GELU, one linear map shared by the heads,
    tanh. Costs n·k² + n²/h² parameters for n channels, as Eq. (8) counts.

    Args:
        channels: C.
        heads: h.
        kernel_size: k.
    """

    def __init__(self, channels: int, heads: int, kernel_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.kernel_size = kernel_size
        self.pool = nn.Conv2d(channels, channels, kernel_size, groups=channels, bias=False)
        self.mix = nn.Linear(channels // heads, channels // heads, bias=False)

    def forward(self, query: Tensor) -> Tensor:
        """Map queries (B, C, H, W) to calibration weights (B, C)."""
        pooled = self.pool(adaptive_max_pool(query, self.kernel_size))
        per_head = F.gelu(pooled.flatten(1)).unflatten(1, (self.heads, -1))
        return torch.tanh(self.mix(per_head)).flatten(1)


class GLMHA(RecordedAttention):
    """Guided low-rank multi-head attention between channels, Eqs. (3)-(7).

    From "GLMHA: A Guided Low-rank Multi-Head Self-Attention for Efficient Image Restoration and Spectral
    Reconstruction" (Ilyas, Akhtar, Suter, Gilani; https://arxiv.org/abs/2410.00380). Queries keep C channels. Keys and
    values are made with C' = h·max(1, round((1 - reduction)·C/h)) channels, from the input re-weighted by 1 + α·φ(Q).
    With N pixels, d = C/h and d' = C'/h::

        CSA     x (C, N) ─┬─ W_Q ── Q (C, N) ─┐
                          ├─ W_K ── K (C, N) ─┴─ A = softmax(Q Kᵀ/β) (h, d, d) ─┐
                          └─ W_V ── V (C, N) ───────────────────────────────────┴─ W_out (A V) (C, N)

        GLMHA   x (C, N) ─┬─ W_Q ── Q (C, N) ─┬──────────────────────┐
                          │        a = φ(Q) (C)                      │
                          └──── x ⊙ (1 + α·a) ─┬─ W_K ── K (C', N) ──┴─ A = softmax(Q Kᵀ/β) (h, d, d') ─┐
                                               └─ W_V ── V (C', N) ─────────────────────────────────────┴─ W_out (A V)

    Keys and values have as many channels, because the columns of Q Kᵀ meet the rows of V. With α = 0 and no reduction
    GLMHA is `ChannelAttention`.

    Args:
        channels: C.
        heads: h; divides C.
        reduction: fraction of K's and V's channels removed, 0 <= reduction < 1.
        alpha: α of Eq. (5); 0 leaves the calibration network out.
        kernel_size: k of the calibration network's depth-wise convolution, >= 1.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels`, or `reduction`, `alpha` or `kernel_size` is out of range.

    Examples:
        >>> import torch
        >>> from glmha import GLMHA
        >>> attention = GLMHA(48, heads=2, reduction=0.5)
        >>> x = torch.rand(1, 48, 16, 16)
        >>> matrix, values = attention.attention(x)
        >>> matrix.shape, values.shape, attention(x).shape
        (torch.Size([1, 2, 24, 12]), torch.Size([1, 256, 24]), torch.Size([1, 48, 16, 16]))

        In a host, a factory chooses the attention of every level:

        >>> from functools import partial
        >>> from glmha import Restormer
        >>> net = Restormer(dim=8, num_blocks=(1, 1, 1, 1), attention=partial(GLMHA, reduction=0.75))
        >>> net.latent[0].attn.key_channels, net.latent[0].attn.channels
        (16, 64)
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        reduction: float = 0.5,
        alpha: float = 0.6,
        kernel_size: int = 3,
        convention: Convention = RestormerConvention(),
    ) -> None:
        if not 0 <= reduction < 1:
            raise ValueError(f"reduction ({reduction}) must be at least 0 and below 1: it is the fraction removed")
        if not alpha >= 0:
            raise ValueError(f"alpha ({alpha}) must be at least 0: the paper uses 0.3 to 0.7, 0 turns calibration off")
        if kernel_size < 1:
            raise ValueError(f"kernel_size ({kernel_size}) must be at least 1: the paper uses 3")
        self.reduction = reduction
        self.alpha = alpha
        self.kernel_size = kernel_size
        super().__init__(channels, heads, convention=convention)
        self.calibration = Calibration(channels, heads, kernel_size) if alpha else None

    @classmethod
    def from_dense(
        cls,
        csa: ChannelAttention,
        features: Sequence[Tensor],
        *,
        reduction: float = 0.5,
        alpha: float = 0.6,
        kernel_size: int = 3,
    ) -> Self:
        """Start from a trained exact attention, in closed form, on some of its inputs (`glmha.low_rank.closed_form`).

        Args:
            csa: the trained module; left as it is.
            features: inputs of `csa`, each (B, C, H, W); sizes may differ.
            reduction: fraction of K's and V's channels removed, 0 <= reduction < 1.
            alpha: α of Eq. (5); the calibration starts neutral.
            kernel_size: k of the calibration network's depth-wise convolution, >= 1.

        Returns:
            A module in the convention, on the device and of the dtype of `csa`.

        Raises:
            TypeError: if `csa` is not exact channel attention.
            ValueError: if `features` is empty or has other channels than `csa`, or an option is out of range.

        Examples:
            >>> import torch
            >>> from glmha import GLMHA, ChannelAttention
            >>> _ = torch.manual_seed(0)
            >>> dense, x = ChannelAttention(16, heads=2), torch.rand(1, 16, 24, 24)
            >>> started, fresh = GLMHA.from_dense(dense, [x]), GLMHA(16, heads=2)
            >>> bool((started(x) - dense(x)).norm() < (fresh(x) - dense(x)).norm())
            True
        """
        if type(csa) is not ChannelAttention:
            raise TypeError(f"csa must be a ChannelAttention, whose weights are dense, got {type(csa).__name__}")
        module = cls(
            csa.channels,
            csa.heads,
            reduction=reduction,
            alpha=alpha,
            kernel_size=kernel_size,
            convention=csa.convention,
        ).to(csa.convention.temperature(csa))
        module.start_from(csa, features)
        return module

    def start_from(self, csa: ChannelAttention, features: Sequence[Tensor]) -> None:
        """Set all parameters from a trained exact attention, in closed form, on some of its inputs.

        The calibration starts neutral, φ = 0: an exact attention has nothing for it.

        Args:
            csa: the trained module, of the same channels, heads and convention; left as it is.
            features: inputs of `csa`, each (B, C, H, W); sizes may differ.

        Raises:
            TypeError: if the convention is neither Restormer's nor MST's.
            ValueError: if `features` is empty or has other channels than `csa`.
        """
        closed_form.fit(self, csa, features)
        if self.calibration is not None:
            nn.init.zeros_(self.calibration.mix.weight)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond (channels, heads, convention) that make another attention of the same kind."""
        return {"reduction": self.reduction, "alpha": self.alpha, "kernel_size": self.kernel_size}

    @property
    def key_channels(self) -> int:
        """C', the channels of keys and values: a multiple of h."""
        return self.heads * low_rank(self.channels // self.heads, self.reduction)

    @property
    def calibrate(self) -> Callable[[Tensor], Tensor] | None:
        """Re-weighting 1 + αa of Eq. (5) as a function of the queries; None if α is 0."""
        calibration = self.calibration
        return None if calibration is None else lambda query: 1 + self.alpha * calibration(query)
